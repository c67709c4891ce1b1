"""Small, exact changes of expression latents: shut the lips, close the eyes, raise a brow.

The latent bridge is linear, so a measure of the drawn face such as the lip gap is a dot product with the latents.
Among all latents that reach a wanted measure the most probable one is taken (least Mahalanobis length), which is how
the jaw, cheeks and corners of the mouth come along by themselves.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from playmate_core.face import geometry

GAPS = ("gap", "gap-right", "gap-left")
"""Inner lip distance in the middle and half way to each corner, change from rest, outer-eye distances."""
EYES = ("eye-right", "eye-left")
BROWS = ("brow-right", "brow-left")
GAZE = ("gaze-x", "gaze-y")


class Measures:
    """Linear measures of the face that latents draw, and the least change of latents that moves them.

    Measures, all as change from the face at rest and in outer-eye distances: ``gap``, ``gap-right``, ``gap-left``
    (inner lips apart), ``width`` (corner to corner), ``upper-lip`` (inner edge, down), ``eye-right``, ``eye-left``
    (lids apart), ``lower-lids`` (up), ``brow-right``, ``brow-left`` (up), ``gaze-x`` (right in the picture),
    ``gaze-y`` (down).

    Args:
        bridge: anything with ``displacement([N, 21, 3]) -> [N, 478, 3]`` that is linear.
        covariance: [63, 63] of plausible latents.
    """

    def __init__(self, bridge, covariance: Tensor) -> None:
        basis = bridge.displacement(torch.eye(63).reshape(63, 21, 3)).double()  # [63, 478, 3]
        x, y = basis[..., 0], basis[..., 1]
        lips = zip(GAPS, ((13, 14), (81, 178), (311, 402)), strict=True)
        rows = {name: y[:, low] - y[:, up] for name, (up, low) in lips}
        rows["width"] = x[:, 291] - x[:, 61]
        rows["upper-lip"] = y[:, 13]
        for name, upper, lower in zip(EYES, geometry.EYES_UPPER, geometry.EYES_LOWER, strict=False):
            rows[name] = (y[:, list(lower[3:6])] - y[:, list(upper[3:6])]).mean(1)
        for name, upper, lower in zip(BROWS, geometry.BROWS_UPPER, geometry.BROWS_LOWER, strict=False):
            rows[name] = -y[:, list(upper) + list(lower)].mean(1)
        rows["lower-lids"] = -y[:, [i for ring in geometry.EYES_LOWER for i in ring[3:6]]].mean(1)
        irises = list(geometry.IRIS_CENTRES)
        corners = [eye[i] for eye in geometry.EYES_UPPER for i in (0, -1)]
        rows["gaze-x"] = x[:, irises].mean(1) - x[:, corners].mean(1)
        rows["gaze-y"] = y[:, irises].mean(1) - y[:, corners].mean(1)
        self._rows = rows
        self._covariance = covariance.double()

    def read(self, latents: Tensor, *names: str) -> Tensor:
        """[..., 63] latents -> [..., len(names)] measures."""
        return (latents.double() @ torch.stack([self._rows[name] for name in names], 1)).float()

    def direction(self, names: Sequence[str], hold: Sequence[str] = (), softness: float = 1e-3) -> Tensor:
        """The least latents that move each named measure by one.

        Args:
            names: measures to move; each row moves one of them and leaves the others.
            hold: measures that shall stay.
            softness: noise variance as a share of the mean variance of the measures; above 0 keeps measures that
                nearly say the same (three lip gaps) from fighting.

        Returns:
            [len(names), 63]; ``change [..., n] @ direction`` is the latents to add.
        """
        rows = torch.stack([self._rows[name] for name in (*names, *hold)], 1)
        spread = self._covariance @ rows
        inner = rows.T @ spread
        ridge = softness * inner.diagonal().mean() * torch.eye(len(inner), dtype=inner.dtype)
        gain = torch.linalg.solve(inner + ridge, spread.T)
        return gain[: len(names)].float()

    def move(self, latents: Tensor, change: Tensor, names: Sequence[str], hold: Sequence[str] = ()) -> Tensor:
        """``latents`` [..., 63] with the named measures moved by ``change`` [..., len(names)].

        The first measure is met exactly, the others as far as the softness allows.
        """
        moved = latents + change @ self.direction(names, hold)
        left = change[..., :1] - (self.read(moved, names[0]) - self.read(latents, names[0]))
        return moved + left @ self.direction(names[:1], hold, 1e-6)
