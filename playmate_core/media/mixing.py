"""Blocks of raw sound to one clean channel: scaling, holes, downmix, direct current, absurd levels."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .audio import Audio
from .resampling import Resampler

log = logging.getLogger(__name__)

CANCELLED = 0.1
"""Power of the channels' mean, as a part of what unrelated channels would leave, under which they cancel out."""
ABSURD = 16.0
"""Peak of float samples above which they cannot be meant as -1..1."""
LARGEST = 1e30
"""What larger samples are cut to, so that no sum of them overflows."""


class Cancelled(Exception):
    """The channels cancel each other out; mix again with ``channel`` alone."""

    def __init__(self, channel: int) -> None:
        super().__init__(channel)
        self.channel = channel


class Mixer:
    """Collects blocks [C, N] and ends with an ``Audio``.

    Channels are averaged. If the average nearly vanishes (a channel wired the wrong way round), ``finish`` raises
    ``Cancelled`` with the loudest channel and the caller runs again with it, so the sound is never held twice.

    Args:
        where: how messages call the source, e.g. "The audio file a.wav".
        channel: take this channel and no other; None for the mean.
    """

    def __init__(self, where: str, channel: int | None = None) -> None:
        self._where = where
        self._channel = channel
        self._rate = 0
        self._resampler: Resampler | None = None
        self._sound = np.empty(0, np.float32)
        self._stored = 0
        self._seconds = 0.0
        self._holes = self._values = self._count = 0
        self._mixed_power = 0.0
        self._powers: Tensor | None = None

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
        mono = block[self._channel] if self._channel is not None and self._channel < len(block) else block.mean(0)
        if self._channel is None and len(block) > 1:
            powers = block.double().square().sum(1)
            if self._powers is None or len(self._powers) == len(powers):
                self._powers = powers if self._powers is None else self._powers + powers
                self._mixed_power += float(mono.double().square().sum())
        self._count += block.shape[1]
        self._store(self._resampler.push(mono))

    def finish(self) -> Audio:
        """The whole sound.

        Raises:
            Cancelled: see the class.
            PlaymateError: nothing came in, or nothing but NaN and infinity.
        """
        self._flush()
        if not self._values:
            raise PlaymateError(f"{self._where} is empty; give a recording with at least one frame of sound.")
        if self._holes == self._values:
            raise PlaymateError(f"{self._where} holds no numbers, only NaN or infinity; make the recording again.")
        if self._powers is not None and float(self._powers.sum()) > 0:
            unrelated = float(self._powers.sum()) / len(self._powers) ** 2
            if self._mixed_power < CANCELLED * unrelated:
                raise Cancelled(int(self._powers.argmax()))
        if self._holes:
            log.warning("%s: %d samples were NaN or infinite and are silence now.", self._where, self._holes)
        self._sound.resize(self._stored, refcheck=False)
        samples = torch.from_numpy(self._sound)
        # Part by part: a sum in double precision would first copy the whole sound.
        samples -= sum(float(part.double().sum()) for part in samples.split(1 << 20)) / max(len(samples), 1)
        # Not abs().max(): that would hold the sound a second time.
        peak = max(abs(float(end)) for end in samples.aminmax()) if len(samples) else 0.0
        if peak > ABSURD:
            scale = 32768.0 if 1000.0 < peak <= 40000.0 else peak
            log.warning("%s: samples reach %.4g where 1 is full scale; they were divided by %.6g.", self._where, peak,
                        scale)
            samples /= scale
        return Audio(samples.clamp_(-1.0, 1.0), self._seconds)

    def _flush(self) -> None:
        if self._resampler is not None:
            self._store(self._resampler.finish())
            self._seconds += self._count / self._rate
            self._resampler, self._rate, self._count = None, 0, 0

    def _store(self, blocks: list[Tensor]) -> None:
        """Append to the sound so far. numpy's ``resize`` lets the system move pages instead of copying them, so
        a growing hour is never held twice."""
        for block in blocks:
            if self._stored + len(block) > len(self._sound):
                self._sound.resize(max(len(self._sound) * 5 // 4, self._stored + len(block)), refcheck=False)
            self._sound[self._stored:self._stored + len(block)] = block.numpy()
            self._stored += len(block)
