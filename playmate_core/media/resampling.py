"""Any sample rate to 16 kHz, block by block, with the very samples that one pass over the whole sound would give."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from .audio import SAMPLE_RATE

FILTER_WIDTH = 16
"""Zero crossings of the windowed sinc on either side."""
ROLLOFF = 0.95
"""Where the low-pass begins, as a part of the lower of the two Nyquist frequencies."""
_FINEST = 1000
_BLOCK_SECONDS = 10


class Resampler:
    """Takes sound in pieces of any length and gives it back at 16 kHz.

    torchaudio's polyphase filter repeats every ``original`` input and ``target`` output samples. Blocks begin at
    such a period and carry enough periods of their neighbours for the filter, whose outputs are then cut off, so
    blocks join without a seam.

    Args:
        rate: input samples a second. Rates that share hardly a factor with 16000 (44,101 Hz) are replaced by the
            nearest fraction with a denominator up to 1000, less than 4 ms off after an hour, because the exact
            filter would need gigabytes.
    """

    def __init__(self, rate: int) -> None:
        ratio = Fraction(rate, SAMPLE_RATE)
        if ratio.denominator > _FINEST:
            ratio = ratio.limit_denominator(_FINEST)
        self.original, self.target = ratio.numerator, ratio.denominator
        reach = math.ceil(FILTER_WIDTH * self.original / (min(self.original, self.target) * ROLLOFF))
        self._margin = math.ceil(reach / self.original) + 1
        self._periods = max(math.ceil(_BLOCK_SECONDS * rate / self.original), 1)
        self._history = torch.zeros(self._margin * self.original)
        self._waiting: list[Tensor] = []
        self._held = 0
        self._taken = self._given = 0

    def push(self, samples: Tensor) -> list[Tensor]:
        """Take [N] float32 samples; give the 16 kHz blocks that are ready, possibly none."""
        self._waiting.append(samples)
        self._held += len(samples)
        self._taken += len(samples)
        if self._held < (self._periods + self._margin) * self.original:
            return []
        held = torch.cat(self._waiting)
        ready, size = [], self._periods * self.original
        while len(held) >= size + self._margin * self.original:
            ready.append(self._convert(held[:size], held[size:size + self._margin * self.original]))
            held = held[size:]
        self._waiting, self._held = [held.clone()], len(held)
        return ready

    def finish(self) -> list[Tensor]:
        """The rest. In all, ceil(16000 N / rate) samples have then come out."""
        held = torch.cat(self._waiting) if self._waiting else torch.zeros(0)
        self._waiting, self._held = [], 0
        left = math.ceil(self._taken * self.target / self.original) - self._given
        if left <= 0:
            return []
        held = F.pad(held, (0, -len(held) % self.original))
        return [self._convert(held, torch.zeros(self._margin * self.original))[:left]]

    def _convert(self, block: Tensor, future: Tensor) -> Tensor:
        from torchaudio.functional import resample

        around = torch.cat([self._history, block, future])
        self._history = around[len(block):len(block) + len(self._history)].clone()
        if self.original == self.target:
            result = block.clone()
        else:
            result = resample(around, self.original, self.target, FILTER_WIDTH, ROLLOFF)
            skip = self._margin * self.target
            result = result[skip:skip + len(block) // self.original * self.target].clone()
        self._given += len(result)
        return result
