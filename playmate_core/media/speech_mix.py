"""Blocks of raw sound to one clean channel at 16 kHz: holes, downmix, direct current, absurd levels."""

from __future__ import annotations

import logging
from typing import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .audio import Audio
from .mixing import Levels, mixed, weights_of
from .resampling import Resampler
from .stored_samples import StoredSamples

log = logging.getLogger(__name__)

ABSURD = 16.0
"""Peak of float samples above which they cannot be meant as -1..1."""
LARGEST = 1e30
"""What larger samples are cut to, so that no sum of them overflows."""

_PART = 1 << 20  # samples looked at together


class MixAgain(Exception):
    """The mix loses what the channels hold; mix again with ``weights``, for the reason in ``why``."""

    def __init__(self, weights: Tensor, why: str) -> None:
        super().__init__(why)
        self.weights, self.why = weights, why


class SpeechMix:
    """Collects blocks [C, N] and ends with an ``Audio``.

    If the mix nearly vanishes (a channel wired the wrong way round), ``finish`` raises ``MixAgain`` and the caller
    runs again with better weights, so the sound is never held twice.

    Args:
        where: how messages call the source, e.g. "The audio file a.wav".
        layout: names of the speakers, where they are known.
        weights: [1, C] of a second run.
        most: samples that are held in memory; a longer sound is laid aside, see ``stored_samples``. None holds all.
    """

    def __init__(self, where: str, layout: Sequence[str] = (), weights: Tensor | None = None,
                 most: int | None = None) -> None:
        self._where, self._layout = where, layout
        self._weights, self._final = weights, weights is not None
        self._levels: Levels | None = None
        self._rate = 0
        self._resampler: Resampler | None = None
        self._sound = np.empty(0, np.float32)
        self._stored = 0
        self._most = most
        self._aside: StoredSamples | None = None
        self._seconds = 0.0
        self._holes = self._values = self._count = 0

    def add(self, block: Tensor, rate: int) -> None:
        """Take [C, N] float samples at ``rate``; the rate may change from block to block."""
        if not block.numel():
            return
        if rate != self._rate:
            self._flush()
            self._rate, self._resampler = rate, Resampler(rate)
        finite = torch.isfinite(block)
        self._values += block.numel()
        if not bool(finite.all()):
            self._holes += int((~finite).sum())
            block = torch.where(finite, block, torch.zeros_like(block))
        block = block.clamp(-LARGEST, LARGEST)
        if self._weights is None:
            self._weights = weights_of(self._layout, len(block), 1)
        if self._levels is None:
            self._levels = Levels(self._weights)
        mono = mixed(block, self._weights) if len(block) > 1 else block
        if len(block) > 1:
            self._levels.add(block, mono)
        self._count += block.shape[1]
        self._store(self._resampler.push(mono[0]))

    def finish(self) -> Audio:
        """The whole sound.

        Raises:
            MixAgain: see the class.
            PlaymateError: nothing came in, or nothing but NaN and infinity.
        """
        self._flush()
        if not self._values:
            raise PlaymateError(f"{self._where} is empty; give a recording with at least one frame of sound.")
        if self._holes == self._values:
            raise PlaymateError(f"{self._where} holds no numbers, only NaN or infinity; make the recording again.")
        if not self._final and (better := self._levels.better_weights()) is not None:
            raise MixAgain(*better)
        if self._holes:
            log.warning("%s: %d samples were NaN or infinite and are silence now.", self._where, self._holes)
        self._sound.resize(self._stored, refcheck=False)
        samples: Tensor | StoredSamples = torch.from_numpy(self._sound) if self._aside is None else self._aside
        # Part by part: a sum in double precision would first copy the whole sound.
        mean = sum(float(part.double().sum()) for part in samples.split(_PART)) / max(len(samples), 1)
        _change(samples, lambda part: part.sub_(mean))
        peak = _peak(samples)
        if peak > ABSURD:
            scale = 32768.0 if 1000.0 < peak <= 40000.0 else peak
            log.warning("%s: samples reach %.4g where 1 is full scale; they were divided by %.6g.", self._where, peak,
                        scale)
            _change(samples, lambda part: part.div_(scale))
        elif peak and (gain := min(self._levels.gain(), max(1.0 / peak, 1.0))) != 1.0:
            _change(samples, lambda part: part.mul_(gain))
        _change(samples, lambda part: part.clamp_(-1.0, 1.0))
        return Audio(samples, self._seconds)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._store(self._resampler.finish())
            self._seconds += self._count / self._rate
            self._resampler, self._rate, self._count = None, 0, 0

    def _store(self, blocks: list[Tensor]) -> None:
        """Append to the sound so far. numpy's ``resize`` lets the system move pages instead of copying them, so
        a growing hour is never held twice."""
        for block in blocks:
            if self._aside is None and self._most is not None and self._stored + len(block) > self._most:
                self._aside = StoredSamples()
                self._aside.append(self._sound[:self._stored])
                self._sound, self._stored = np.empty(0, np.float32), 0
            if self._aside is not None:
                self._aside.append(block.numpy())
                continue
            if self._stored + len(block) > len(self._sound):
                self._sound.resize(max(len(self._sound) * 5 // 4, self._stored + len(block)), refcheck=False)
            self._sound[self._stored:self._stored + len(block)] = block.numpy()
            self._stored += len(block)


def _change(samples: Tensor | StoredSamples, change: Callable[[Tensor], Tensor]) -> None:
    """Every sample through ``change``, in place."""
    if isinstance(samples, StoredSamples):
        samples.change(change)
    else:
        change(samples)


def _peak(samples: Tensor | StoredSamples) -> float:
    """Not ``abs().max()``: that would hold the sound a second time."""
    return max((abs(float(end)) for part in samples.split(_PART) if len(part) for end in part.aminmax()), default=0.0)
