"""ARKit's 52 numbers and LivePortrait's latents: each read as the other.

Provisional: the shapes come from the bridge's table of blendshapes, made linear.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .blendshape_names import NAMES
from .bridge import KEYPOINTS, LatentBridge

LARGEST = 1.5
"""Highest weight that is drawn; ARKit itself ends at 1."""

_ROUNDS = 300
_SPARSE = 0.002
"""Cost of a unit of weight against the mean squared displacement of a shape: keeps shapes out that explain nothing."""


class ArkitShapes:
    """What each of ARKit's shapes does to the latents.

    Args:
        latents: [52, 63] latent offsets of a shape at weight 1, in the order of ``names``.
        shapes: [52, 478, 3] the displacement of the landmarks by which faces are compared.
    """

    def __init__(self, latents: Tensor, shapes: Tensor) -> None:
        self.names: tuple[str, ...] = NAMES
        self._latents = latents.float()
        self._shapes = shapes.float().flatten(1)
        self._bridge = LatentBridge.load()

    @staticmethod
    def load() -> ArkitShapes:
        """The bundled shapes.

        Raises:
            PlaymateError: a bundled file is missing or damaged.
        """
        bridge = LatentBridge.load()
        # MediaPipe's list begins with _neutral and has no tongue, which moves no landmark.
        table = bridge.blendshapes[1:] * (1 - bridge.blendshapes_rest[1:, None])
        latents = torch.cat([table, torch.zeros(1, table.shape[1])])
        return ArkitShapes(latents, bridge.displacement(latents))

    def expression(self, weights: Tensor) -> Tensor:
        """[..., 52] weights, 0 to 1 (held at 0 and 1.5) -> [..., 21, 3] latent offsets from rest."""
        held = weights.float().clamp(0.0, LARGEST)
        return (held @ self._latents.to(held.device)).unflatten(-1, (KEYPOINTS, 3))

    def weights(self, expression_offset: Tensor) -> Tensor:
        """[..., 21, 3] latent offsets from rest -> [..., 52] weights, 0 to 1, whose drawn face is nearest.

        Sparse non-negative least squares on the landmarks, by accelerated projected gradients, all frames at once.
        """
        wanted = self._bridge.displacement(expression_offset).flatten(-2)
        shapes = self._shapes.to(wanted.device)
        gram, target = shapes @ shapes.T, wanted @ shapes.T
        size = gram.diagonal().clamp_min(1e-9)
        cost = _SPARSE * torch.where(size > 1e-6, size, size.max())
        step = 1.0 / torch.linalg.matrix_norm(gram, 2)
        found = momentum = torch.zeros_like(target)
        pace = 1.0
        for _ in range(_ROUNDS):
            moved = (momentum - step * (momentum @ gram - target + cost)).clamp(0.0, 1.0)
            faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
            momentum = moved + (pace - 1) / faster * (moved - found)
            found, pace = moved, faster
        return found
