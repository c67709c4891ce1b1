"""A straight line beside the diffusion model: how far lips part and spread, said by a regression on the same speech.

A sampler draws from what it has learned and a ridge regression averages; on speakers that neither has met they err
differently, so their mean follows lips better than either. The regression counts only where the model has the lips
open: closures, silence and everything but the lips' opening and width stay the model's. The same step widens lips,
whose width the corpus' labels move too little.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..motion.curves import smoothstep
from .config import EXPRESSION_DIM

REACH = 3
"""Frames of speech either side that the regression is given."""

AT_ONCE = 1 << 13
"""Frames of speech looked at in one piece, so that memory does not grow with an hour of it."""

OPEN_GAP = 0.03
"""Lip gap (outer-eye distances) of the model's own from which the regression has its full say."""

PARTED_GAP = 0.012
"""The same for the lip width, which speech tells as soon as lips part at all."""


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
        width_weight, width_bias, width_share: the same for the lip width, of models that have it: [7, C], [1], [1].
    """

    weight: Tensor
    bias: Tensor
    readout: Tensor
    direction: Tensor
    share: Tensor
    width_gain: Tensor
    width_weight: Tensor | None = None
    width_bias: Tensor | None = None
    width_share: Tensor | None = None

    def expected(self, features: Tensor) -> Tensor:
        """[T, C] speech features -> [T, 1 or 2] lip gap, and lip width of models that have it, that the regression
        expects; the recording's ends are held."""
        said = [self.gap(features)]
        if self.width_weight is not None:
            said.append(_read(features, self.width_weight, self.width_bias))
        return torch.stack(said, 1)

    def gap(self, features: Tensor) -> Tensor:
        """[T, C] speech features -> [T] lip gap that the regression expects; the recording's ends are held."""
        return _read(features, self.weight, self.bias)

    def __call__(self, expression: Tensor, expected: Tensor) -> Tensor:
        """The model's expression with the lips where both together have them.

        Args:
            expression: [W, 63].
            expected: [W, 1 or 2] rows of :meth:`expected`.
        """
        gap, width = (expression @ self.readout).unbind(1)
        wider = width
        if self.width_share is not None:
            wider = width + self.width_share * smoothstep(gap / PARTED_GAP) * (expected[:, 1] - width)
        more = self.share * smoothstep(gap / OPEN_GAP) * (expected[:, 0] - gap)
        return expression + torch.stack((more, self.width_gain * wider - width), 1) @ self.direction

    def to(self, device) -> Articulation:
        """The same on ``device``."""
        return Articulation(**{k: v.to(device) for k, v in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """By name, for the checkpoint."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    @staticmethod
    def shapes(features_dim: int, width: bool) -> dict[str, tuple[int, ...]]:
        """What a checkpoint must hold; ``width``: of a model whose regression knows the lip width too."""
        shapes: dict[str, tuple[int, ...]] = dict(
            weight=(2 * REACH + 1, features_dim), bias=(1,), readout=(EXPRESSION_DIM, 2), direction=(2, EXPRESSION_DIM),
            share=(1,), width_gain=(1,))
        if width:
            shapes |= dict(width_weight=(2 * REACH + 1, features_dim), width_bias=(1,), width_share=(1,))
        return shapes


def _read(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[T] of features [T, C] by a weight [7, C], in pieces; the ends are held."""
    last, read = max(len(features) - 1, 0), []
    for start in range(0, max(len(features), 1), AT_ONCE):
        stop = min(start + AT_ONCE, len(features))
        rows = torch.arange(start - REACH, stop + REACH, device=features.device).clamp(0, last)
        per_tap = features[rows].to(weight) @ weight.T  # [n + 6, 7]
        read.append(bias + sum(per_tap[i:i + stop - start, i] for i in range(2 * REACH + 1)))
    return torch.cat(read)
