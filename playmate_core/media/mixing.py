"""Many channels to one or two: how much of each is taken, and how loud the result is."""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch import Tensor

CANCELLED = 0.1
"""Power of a mix, as a part of what unrelated channels would leave, under which its channels cancel out."""
FAR_LOUDER = 4.0
"""Power of a bass channel, as a multiple of the loudest other channel's, from which it is a microphone."""
STANDARD = {6: ("FL", "FR", "FC", "LFE", "BL", "BR"), 8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")}
"""Speakers of sound in memory, by the number of channels, where there is a custom."""

_HALF, _QUARTER = math.sqrt(0.5), 0.5
_MONO = {"FL": _HALF, "FR": _HALF, "FC": 1.0, "FLC": _HALF, "FRC": _HALF, "BL": _QUARTER, "BR": _QUARTER,
         "SL": _QUARTER, "SR": _QUARTER, "BC": _QUARTER, "LFE": 0.0, "LFE2": 0.0, "DL": _HALF, "DR": _HALF}
"""ITU-R BS.775 towards one channel, by FFmpeg's names of speakers; the bass effects are left out."""
_LEFT = {"FL": 1.0, "FC": _HALF, "FLC": 1.0, "BL": _HALF, "SL": _HALF, "BC": _QUARTER, "DL": 1.0, "LFE": 0.0,
         "LFE2": 0.0, "FR": 0.0, "FRC": 0.0, "BR": 0.0, "SR": 0.0, "DR": 0.0}
_MIRROR = {"FL": "FR", "FLC": "FRC", "BL": "BR", "SL": "SR", "DL": "DR"}


def weights_of(layout: Sequence[str], channels: int, outputs: int) -> Tensor:
    """[outputs, channels] of a downmix to one or two channels; rows add up to 1.

    Args:
        layout: names of the speakers; where they are unknown or no common set, every channel counts alike.
    """
    mirror = {**_MIRROR, **{right: left for left, right in _MIRROR.items()}}
    known = len(layout) == channels > 2 and len(set(layout)) == channels and all(name in _MONO for name in layout)
    if outputs == 1:
        rows = [[_MONO[name] for name in layout]] if known else [[1.0] * channels]
    elif channels == 2:
        rows = [[1.0, 0.0], [0.0, 1.0]]
    elif known:
        rows = [[_LEFT[name] for name in layout], [_LEFT[mirror.get(name, name)] for name in layout]]
    else:
        rows = [[1.0] * channels] * 2
    weights = torch.tensor(rows)
    total = weights.sum(1, keepdim=True)
    return torch.where(total > 0, weights / total.clamp_min(1e-9), torch.full_like(weights, 1.0 / channels))


class Levels:
    """What the channels of a sound and their mix hold, gathered block by block."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self._powers: Tensor | None = None
        self._mixed = torch.zeros(len(weights), dtype=torch.float64)
        self.peak = 0.0

    def add(self, block: Tensor, mixed: Tensor) -> None:
        """Take [C, N] and its mix [outputs, N]; blocks of another number of channels than the first are passed over."""
        if not block.shape[1] or len(block) != self.weights.shape[1]:
            return
        powers = block.double().square().sum(1)
        self._powers = powers if self._powers is None else self._powers + powers
        self._mixed += mixed.double().square().sum(1)
        self.peak = max(self.peak, *(abs(float(end)) for end in mixed.aminmax()))

    def better_weights(self) -> tuple[Tensor, str] | None:
        """Weights to mix with instead, and why, where the mix loses what the channels hold; else None."""
        if self._powers is None or float(self._powers.sum()) <= 0:
            return None
        channels, loudest = len(self._powers), int(self._powers.argmax())
        used = self.weights.sum(0) > 0
        if float(self._powers[loudest]) > FAR_LOUDER * float(self._powers[used].max()):
            # A bass channel that is far louder than all others is none: six microphones look like a cinema's speakers.
            return torch.full_like(self.weights, 1.0 / channels), "its channels are no loudspeakers, so all count alike"
        unrelated = self.weights.double().square() @ self._powers
        if float(self._mixed.sum()) < CANCELLED * float(unrelated.sum()):
            alone = torch.zeros_like(self.weights)
            alone[:, loudest] = 1.0
            return alone, f"its channels cancel each other out; channel {loudest + 1} is used alone"
        return None

    def gain(self) -> float:
        """Factor after which the loudest channel of the mix is as loud as the loudest of the source, unclipped."""
        if self._powers is None or float(self._mixed.max()) <= 0:
            return 1.0
        wanted = math.sqrt(float(self._powers.max() / self._mixed.max()))
        if abs(wanted - 1.0) < 1e-3:
            return 1.0
        return min(wanted, max(1.0 / self.peak, 1.0)) if self.peak > 0 else wanted


def mixed(block: Tensor, weights: Tensor) -> Tensor:
    """[outputs, N] of a block [C, N]; a block of another number of channels than usual is averaged."""
    if len(block) == weights.shape[1]:
        return weights @ block
    return block.mean(0, keepdim=True).expand(len(weights), -1)
