"""ARKit's 52 numbers and LivePortrait's latents: each read as the other.

What an expression does was measured on a 3D head (ICT-FaceKit) and turned into the most probable latents that draw it,
by ``laboratory/fits/arkit.py``. Both ways are linear in the drawn face, so weights mix as ARKit's do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..weights.tensors import bundled_tensors
from . import geometry as geo
from .blendshape_names import NAMES
from .bridge import KEYPOINTS, LatentBridge

LARGEST = 1.5
"""Highest weight that is drawn; ARKit itself ends at 1."""

_ROUNDS = 300
_SPARSE = 0.002
"""Cost of a unit of weight against the mean squared displacement of a shape: keeps shapes out that explain nothing."""


FILE = "arkit.safetensors"

_TRUST = ((geo.EYES + geo.BROWS, 3.0), ((geo.LIPS,), 1.5))
"""Landmarks that count for more when faces are compared, and how much: lids and brows move little and say a lot."""


class ArkitShapes:
    """What each of ARKit's shapes does to the latents.

    Args:
        latents: [52, 63] latent offsets of a shape at weight 1, in the order of ``names``.
        bridge: draws them, to compare faces by.
    """

    def __init__(self, latents: Tensor, bridge: LatentBridge) -> None:
        self.names: tuple[str, ...] = NAMES
        self._latents = latents.float()
        self._bridge = bridge
        self._trust = torch.ones(geo.LANDMARKS, 1)
        for rings, trust in _TRUST:
            self._trust[[i for ring in rings for i in ring]] = trust
        self._shapes = self._seen(self._latents)

    @staticmethod
    def load() -> ArkitShapes:
        """The bundled shapes.

        Raises:
            PlaymateError: a bundled file is missing or damaged.
        """
        latents = bundled_tensors(FILE, "ARKit expressions", {"latents": (len(NAMES), 3 * KEYPOINTS)})["latents"]
        return ArkitShapes(latents, LatentBridge.load())

    def _seen(self, latents: Tensor) -> Tensor:
        """[..., 63] or [..., 21, 3] latents -> [..., 1434] what they draw, weighted as faces are compared."""
        drawn = self._bridge.displacement(latents)
        return (drawn * self._trust.to(drawn.device)).flatten(-2)

    def expression(self, weights: Tensor) -> Tensor:
        """[..., 52] weights, 0 to 1 (held at 0 and 1.5) -> [..., 21, 3] latent offsets from rest."""
        held = weights.float().clamp(0.0, LARGEST)
        return (held @ self._latents.to(held.device)).unflatten(-1, (KEYPOINTS, 3))

    def weights(self, expression_offset: Tensor) -> Tensor:
        """[..., 21, 3] latent offsets from rest -> [..., 52] weights, 0 to 1, whose drawn face is nearest.

        Sparse non-negative least squares on the landmarks, by accelerated projected gradients, all frames at once.
        """
        wanted = self._seen(expression_offset)
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
