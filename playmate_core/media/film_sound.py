"""Sound for a film that is being written: one or two channels at a rate that AAC has, while it is made."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Callable, Iterator, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from .container import MediaFile
from .mixing import STANDARD, Levels, mixed, weights_of
from .sound_file import BLOCK, SoundFile, open_sound, scaled

log = logging.getLogger(__name__)

SoundSource = Union[MediaFile, SoundFile, Tuple[Tensor, int], None]
"""A file with sound, what ``open_sound`` made of it, ``(waveform [C, N] or [1, C, N], rate)``, or None."""

SOUND_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates that AAC can carry up to 48 kHz."""

Blocks = Iterator[Tuple[Tensor, int]]


@dataclass(frozen=True)
class FilmSound:
    """What a film's sound stream needs.

    Attributes:
        rate: samples a second, one of ``SOUND_RATES``.
        channels: 1 or 2.
        blocks: [channels, n] float32 in -1..1, in order; once.
    """

    rate: int
    channels: int
    blocks: Iterator[np.ndarray]

    @property
    def bit_rate(self) -> int:
        """Bits a second of the encoded sound."""
        return 96_000 * self.channels


def film_sound(source: SoundSource, duration: float) -> FilmSound | None:
    """The first ``duration`` seconds of a sound; None stays None.

    More than two channels become two by ITU weights, as loud as the source and without clipping, which needs one pass
    over the sound before the first block.

    Raises:
        PlaymateError: a file that cannot be read or holds no sound.
    """
    if source is None:
        return None
    if isinstance(source, tuple):
        waveform, rate = source
        waveform = waveform.reshape(-1, waveform.shape[-1]) if waveform.ndim < 3 else waveform[0]
        return _sound(lambda: _slices(waveform, int(rate)), int(rate), len(waveform), STANDARD.get(len(waveform), ()),
                      duration, "The audio")
    if not isinstance(source, SoundFile):
        source = open_sound(source)
    return _sound(source.blocks, source.rate, source.channels, source.layout, duration, source.name)


def seconds_of(source: Any) -> float | None:
    """How long a sound lasts, for notes; None where that is not known without reading it."""
    if source is None:
        return None
    if isinstance(source, tuple):
        return source[0].shape[-1] / float(source[1])
    if not isinstance(source, SoundFile):
        source = open_sound(source)
    return sum(block.shape[1] / rate for block, rate in source.blocks())


def _sound(blocks: Callable[[], Blocks], rate: int, channels: int, layout: Sequence[str], duration: float,
           where: str) -> FilmSound:
    outputs = 1 if channels == 1 else 2
    weights, gain = weights_of(layout, channels, outputs), 1.0
    if channels > 2:
        weights, gain = _levelled(blocks, weights, duration, where)
    target = rate if rate in SOUND_RATES else 48_000

    def stereo() -> Blocks:
        for block, own in _first(blocks(), duration):
            block = torch.nan_to_num(block, posinf=0.0, neginf=0.0)
            if len(block) != channels or channels > 2:
                block = mixed(block, weights) * gain
            yield block.clamp(-1.0, 1.0), own

    return FilmSound(target, outputs, _at_rate(stereo(), target, outputs, round(duration * target)))


def _levelled(blocks: Callable[[], Blocks], weights: Tensor, duration: float, where: str) -> tuple[Tensor, float]:
    """Weights that lose nothing, and the gain that makes the mix as loud as its source."""
    while True:
        levels = Levels(weights)
        for block, _ in _first(blocks(), duration):
            block = torch.nan_to_num(block, posinf=0.0, neginf=0.0).clamp(-1.0, 1.0)
            levels.add(block, mixed(block, weights))
        better = levels.better_weights()
        if better is None or torch.equal(better[0], weights):
            return weights, levels.gain()
        weights = better[0]
        log.info("%s: %s.", where, better[1])


def _slices(waveform: Tensor, rate: int) -> Blocks:
    for part in waveform.split(max(BLOCK // max(len(waveform), 1), 1), dim=1):
        part = part.detach().cpu()
        yield scaled(part, waveform if part.dtype == torch.int64 else None), rate


def _first(blocks: Blocks, seconds: float) -> Blocks:
    left = seconds
    for block, rate in blocks:
        block = block[:, :max(round(left * rate), 0)]
        if not block.shape[1]:
            return
        left -= block.shape[1] / rate
        yield block, rate


def _at_rate(blocks: Blocks, rate: int, channels: int, samples: int) -> Iterator[np.ndarray]:
    """Blocks at ``rate``, ``samples`` of them at most. FFmpeg's resampler where theirs is another."""
    import av

    layout = "mono" if channels == 1 else "stereo"
    resampler, before, left = None, rate, samples

    def converted() -> Iterator[np.ndarray]:
        nonlocal resampler, before
        for block, own in blocks:
            if own != before and resampler is not None:
                yield from _arrays(resampler.resample(None))
                resampler = None
            before = own
            if own == rate:
                yield block.contiguous().numpy()
                continue
            resampler = resampler or av.AudioResampler(format="fltp", layout=layout, rate=rate)
            frame = av.AudioFrame.from_ndarray(block.contiguous().numpy(), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = own, None, Fraction(1, own)
            yield from _arrays(resampler.resample(frame))
        if resampler is not None:
            yield from _arrays(resampler.resample(None))

    for block in converted():
        block = np.ascontiguousarray(np.clip(block[:, :left], -1.0, 1.0))
        left -= block.shape[1]
        if block.shape[1]:
            yield block
        if left <= 0:
            return


def _arrays(frames) -> Iterator[np.ndarray]:
    return (frame.to_ndarray() for frame in frames)
