"""One sound for each of several speakers, and the sum of several sounds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Iterator, Sequence

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from .sound_file import SoundFile

FADE = 0.03
"""Seconds over which a speaker's sound comes and goes: a step would be heard by the encoder as a plosive."""


@dataclass(frozen=True)
class SpeakersSound(SoundFile):
    """One speaker's part of a file's sound, worked out while it is read: an hour is never held.

    Attributes:
        spans: (begin, end) seconds during which it is heard, in order and apart; None is always.
        channel: the one that is heard; None is all.
        whole: seconds of all the sound.
    """

    spans: tuple[tuple[float, float], ...] | None = None
    channel: int | None = None
    whole: float = 0.0

    @staticmethod
    def of(sound: SoundFile, whole: float, spans: Sequence[tuple[float, float]] | None = None,
           channel: int | None = None) -> SpeakersSound:
        """Of a file that may be shared: what is kept of a short one is decoded once for all."""
        given = {each.name: getattr(sound, each.name) for each in fields(sound)}
        if channel is not None:
            given.update(channels=1, layout=())
        return SpeakersSound(**given, spans=None if spans is None else tuple(spans), channel=channel, whole=whole)

    def blocks(self, progress: Progress = None) -> Iterator[tuple[Tensor, int]]:
        """As of ``SoundFile``."""
        begin = 0.0
        for block, rate in super().blocks(progress):
            after = begin + block.shape[1] / rate
            if self.channel is not None:
                block = channel_of(block, self.channel)
            if self.spans is not None:
                block = gated(block, rate, self.spans, begin=begin, whole=self.whole)
            yield block, rate
            begin = after


def gated(waveform: Tensor, rate: int, spans: Sequence[tuple[float, float]], fade: float = FADE, *,
          begin: float = 0.0, whole: float | None = None) -> Tensor:
    """What is heard during ``spans``, silence elsewhere.

    Args:
        waveform: [C, N].
        rate: samples a second.
        spans: (begin, end) seconds, in order and apart.
        fade: seconds of each fade, half of it on either side of a span's end.
        begin, whole: of a piece of a longer sound, the seconds before it and those of all of it.

    Returns:
        [C, N].
    """
    length = waveform.shape[-1]
    whole = length / rate if whole is None else whole
    gain = torch.zeros(length)
    time = (torch.arange(length, dtype=torch.float64) + 0.5) / rate + begin
    for rises, falls in spans:
        # Half a fade more on either side: only samples that a span reaches are worked out.
        first, last = max(0, int((rises - begin - fade) * rate)), min(length, int((falls - begin + fade) * rate) + 1)
        if last <= first:
            continue
        near = time[first:last]
        rise = (near - rises) / fade + 0.5 if rises > 0 else torch.ones_like(near)
        fall = (falls - near) / fade + 0.5 if falls < whole - 1 / rate else torch.ones_like(near)
        gain[first:last] = torch.maximum(gain[first:last], torch.minimum(rise, fall).clamp(0, 1).float())
    return torch.where(gain > 0, waveform * gain, torch.zeros_like(waveform))


def channel_of(waveform: Tensor, number: int) -> Tensor:
    """[1, N] one channel of [C, N]: speakers who were recorded side by side.

    Raises:
        PlaymateError: no such channel.
    """
    if not 0 <= number < len(waveform):
        many = "one channel" if len(waveform) == 1 else f"{len(waveform)} channels"
        raise PlaymateError(f"The sound has {many}, so there is none for speaker {number + 1}; say with turns who "
                            "speaks when, or give each speaker a sound of their own.")
    return waveform[number:number + 1]


def whole(sound: SoundFile) -> tuple[Tensor, int]:
    """(waveform [C, N], rate) of a file's sound, all of it in memory.

    Where its channels or its rate change on the way, the first block's hold.
    """
    blocks, rate = [], 0
    for block, own in sound.blocks():
        rate = rate or own
        block = _at_rate(block, own, rate)
        if blocks and len(block) != len(blocks[0]):
            block = block.mean(0, keepdim=True).expand(len(blocks[0]), -1)
        blocks.append(block)
    if not blocks:
        raise PlaymateError(f"{sound.name} holds no sound; choose a file with speech.")
    return torch.cat(blocks, 1), rate


def added(sounds: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, int]:
    """Sounds that begin together, heard at once.

    Args:
        sounds: (waveform [C, N], samples a second) each, one at least.

    Returns:
        (waveform, rate): at the highest rate, as long as the longest, with two channels if any has more than one. It
        is made quieter as a whole where the sum would clip.
    """
    rate = max(rate for _, rate in sounds)
    stereo = any(len(waveform) > 1 for waveform, _ in sounds)
    parts = [_at_rate(waveform.float(), own, rate) for waveform, own in sounds]
    total = torch.zeros(2 if stereo else 1, max(part.shape[1] for part in parts))
    for part in parts:
        part = part[:2] if len(part) == 2 else part.mean(0, keepdim=True)
        total[:, :part.shape[1]] += part
    peak = float(total.abs().max()) if total.numel() else 0.0
    return (total / peak if peak > 1 else total), rate


def _at_rate(waveform: Tensor, own: int, rate: int) -> Tensor:
    if own == rate:
        return waveform
    from torchaudio.functional import resample

    return resample(waveform, own, rate)
