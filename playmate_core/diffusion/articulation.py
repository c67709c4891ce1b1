"""A straight line beside the diffusion model: how far lips part, said by a regression on the same speech.

A sampler draws from what it has learned and a ridge regression averages; on speakers that neither has met they err
differently, so their mean follows lips better than either. The regression counts only where the model has the lips
open: closures, silence and everything but the parting of the lips stay the model's. The same step widens lips, whose
width the corpus' labels move too little.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .config import EXPRESSION_DIM

REACH = 3
"""Frames of speech either side that the regression is given."""

AT_ONCE = 1 << 13
"""Frames of speech looked at in one piece, so that memory does not grow with an hour of it."""

OPEN_GAP = 0.03
"""Lip gap (outer-eye distances) of the model's own from which the regression has its full say."""


@dataclass(frozen=True)
class Articulation:
    """Stored in the checkpoint.

    Attributes:
        weight: [7, C] speech features of seven frames to the lip gap.
        bias: [1].
        readout: [63, 2] latents to lip gap and lip width, changes from rest in outer-eye distances.
        direction: [2, 63] the most probable latents that move one of them by one and leave the other, lids and brows.
        share: [1] of the regression where lips are open, 0 to 1.
        width_gain: [1] factor on the lip width's change from rest.
    """

    weight: Tensor
    bias: Tensor
    readout: Tensor
    direction: Tensor
    share: Tensor
    width_gain: Tensor

    def gap(self, features: Tensor) -> Tensor:
        """[T, C] speech features -> [T] lip gap that the regression expects; the recording's ends are held."""
        return torch.cat([self._gap(features, start, min(start + AT_ONCE, len(features)))
                          for start in range(0, max(len(features), 1), AT_ONCE)])

    def _gap(self, features: Tensor, start: int, stop: int) -> Tensor:
        rows = torch.arange(start - REACH, stop + REACH, device=features.device).clamp(0, max(len(features) - 1, 0))
        per_tap = features[rows].to(self.weight) @ self.weight.T  # [n + 6, 7]
        return self.bias + sum(per_tap[i:i + stop - start, i] for i in range(2 * REACH + 1))

    def __call__(self, expression: Tensor, expected: Tensor) -> Tensor:
        """The model's expression with the lips where both together have them.

        Args:
            expression: [W, 63].
            expected: [W] rows of :meth:`gap`.
        """
        gap, width = (expression @ self.readout).unbind(1)
        say = (gap / OPEN_GAP).clamp(0.0, 1.0)
        say = self.share * say * say * (3 - 2 * say)
        change = torch.stack((say * (expected - gap), (self.width_gain - 1.0) * width), 1)
        return expression + change @ self.direction

    def to(self, device) -> Articulation:
        """The same on ``device``."""
        return Articulation(**{k: v.to(device) for k, v in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def shapes(features_dim: int) -> dict[str, tuple[int, ...]]:
        """What a checkpoint must hold."""
        return dict(weight=(2 * REACH + 1, features_dim), bias=(1,), readout=(EXPRESSION_DIM, 2),
                    direction=(2, EXPRESSION_DIM), share=(1,), width_gain=(1,))
