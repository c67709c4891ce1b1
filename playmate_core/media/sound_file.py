"""The sound of a file, block by block, on the file's own clock.

One reader for everybody: the speech encoder, the film that is written, and the nodes hear the same track from the same
moment, with the same repairs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .clock import Clock, clock_of
from .container import Decoding, MediaFile, best_stream, name_of, open_media
from .wholeness import missing_bytes

log = logging.getLogger(__name__)

BLOCK = 1 << 19
"""Samples over all channels that are handed on at once."""
KEPT = 1 << 26
"""Bytes of decoded sound that are kept for a second listener: six minutes in mono, three in stereo."""
_JUMP = 0.04
"""Seconds between two stamps' claim and the samples in between that mean a gap, not jitter."""
_DRIFT, _OVER = 0.012, 25
"""Mean seconds, over about so many frames, by which sound may be off its stamps before it is set right."""
_BACK = 1.0
"""Stamps that fall back by more begin anew (joined or damaged files); nothing is left out then."""
_LONGEST_GAP = 600.0
"""Seconds of silence that are believed of a file that does not say how long it is."""
_FAILURES = 10_000  # damaged packets in a row after which a file has nothing left to give


@dataclass(frozen=True)
class SoundFile:
    """The best sound track of a file; iterate over ``blocks``.

    Attributes:
        source: path, or a binary file object.
        clock: when its picture and sound begin.
        rate: samples a second, as the file's header says; blocks tell their own.
        channels: of the track.
        layout: speakers' names ("FL", "FR", "LFE" ...), empty where the file does not say.
        seconds: how long the track is, as far as the file tells (an estimate); 0 where it does not.
    """

    source: MediaFile
    clock: Clock
    rate: int
    channels: int
    layout: tuple[str, ...]
    seconds: float
    start: float = 0.0
    length: float | None = None
    _told: list[str] = field(default_factory=list, repr=False, compare=False)
    _kept: list[tuple[Tensor, int]] = field(default_factory=list, repr=False, compare=False)

    @property
    def name(self) -> str:
        """How messages call it."""
        return name_of(self.source, "audio")

    def blocks(self, progress: Progress = None) -> Iterator[tuple[Tensor, int]]:
        """Yields ([C, N] float32 with full scale at 1, samples a second) from ``Clock.zero`` on.

        Sound that begins after the picture is preceded by silence, and gaps that the file's stamps tell of are silence
        too. What cannot be decoded is skipped; a warning says so, once for each ``SoundFile``. A sound of up to
        ``KEPT`` bytes is decoded once, whoever asks for it again; a longer one is decoded again, so that memory does
        not grow.

        Args:
            progress: told the tenths of a second read and their number, where the file tells its length.

        Raises:
            PlaymateError: nothing can be decoded.
        """
        if self._kept:
            yield from self._kept
            return
        kept, size = [], 0
        for block, rate in _joined(_part(self._placed(), self.start, self.length), progress, self.seconds):
            size += 4 * block.numel()
            if size <= KEPT:
                kept.append((block, rate))
            else:
                kept.clear()
            yield block, rate
        self._kept.extend(kept)

    def _placed(self) -> Iterator[tuple[Tensor, int]]:
        """Decoded frames, with silence where the clock asks for it."""
        place = _Place(self.clock, self.seconds)
        lead, rate = self.clock.sound_lead, 0
        for samples, rate, time in self._frames():
            if lead > 0:
                yield from _silence(lead, len(samples), rate)
                lead = 0.0
            silence, left_out = place.put(samples.shape[1] / rate, time)
            yield from _silence(silence, len(samples), rate)
            samples = samples[:, min(round(left_out * rate), samples.shape[1]):]
            if samples.shape[1]:
                yield samples, rate
        if not rate:
            raise PlaymateError(f"No sound could be decoded from {self.name}; it is empty or damaged, so export it "
                                "again.")

    def _frames(self) -> Iterator[tuple[Tensor, int, float | None]]:
        seconds = 0.0
        with open_media(self.source, "audio") as container:
            decoding = Decoding(container, best_stream(container, "audio"), _FAILURES)
            for frame in decoding:
                seconds += frame.samples / frame.sample_rate
                yield _samples(frame), frame.sample_rate, frame.time
        short = missing_bytes(self.source)
        if seconds and (decoding.bad or short) and not self._told:
            self._told.append(f"{self.name} is damaged or cut off; the {seconds:.2f} s of sound that can be read are "
                              "used.")
            log.warning(self._told[-1])


def open_sound(source: MediaFile, start: float = 0.0, length: float | None = None) -> SoundFile:
    """Looks into a file's sound.

    Args:
        source: path, or a binary file object.
        start, length: seconds of a part, from ``Clock.zero``.

    Raises:
        PlaymateError: no such file, nothing that can be read, or no sound in it.
    """
    import av

    clock = clock_of(source, "audio")
    with open_media(source, "audio") as container:
        stream = best_stream(container, "audio")
        if stream is None or stream.codec_context is None:
            if container.streams.audio:
                raise PlaymateError(f"{name_of(source, 'audio')} holds sound that cannot be decoded here; convert it "
                                    "to wav or mp3.")
            raise PlaymateError(f"{name_of(source, 'audio')} has no sound track, so it holds no sound; choose a file "
                                "with speech.")
        layout = stream.codec_context.layout
        names = tuple(channel.name for channel in layout.channels)
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else \
            (container.duration or 0) / av.time_base
        return SoundFile(source, clock, stream.codec_context.sample_rate or 48_000, layout.nb_channels or 2, names,
                         seconds, start, length)


def has_sound(source: MediaFile) -> bool:
    """Whether a file has a sound track that can be decoded.

    Raises:
        PlaymateError: no such file, or nothing that can be read.
    """
    with open_media(source) as container:
        stream = best_stream(container, "audio")
        return stream is not None and stream.codec_context is not None


class _Place:
    """Where the next frame belongs: how much silence before it, how much of it is too much.

    Recorders leave pauses out, lose packets, and run on another clock than the camera. Players follow the stamps; so
    does this, but for their jitter.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        # Sound that has no picture to be in step with is played without pauses.
        self._alone = clock.picture is None
        self._skip = max(-clock.sound_lead, 0.0)
        self._next = clock.sound or 0.0
        self._end = self._next + (seconds or _LONGEST_GAP) + 1.0
        self._mean = 0.0

    def put(self, seconds: float, time: float | None) -> tuple[float, float]:
        """(seconds of silence before a frame of so many ``seconds`` stamped ``time``, seconds of it to leave out)."""
        off = 0.0 if self._alone or time is None else self._off(time)
        silence, left_out = max(off, 0.0), min(max(-off, 0.0), seconds)
        self._next += silence + seconds - left_out
        if self._skip > 0:
            cut = min(self._skip, seconds - left_out)
            self._skip, left_out = self._skip - cut, left_out + cut
        return silence, left_out

    def _off(self, time: float) -> float:
        """Seconds by which the sound so far is to be put right: above 0 it is ahead of the stamps."""
        off = time - self._next
        if off < -_BACK or (off > _JUMP and time > self._end):
            self._end += off
            self._next, self._mean = time, 0.0
            return 0.0
        self._mean += (off - self._mean) / _OVER
        if abs(off) > _JUMP:
            self._mean = 0.0
            return off
        if abs(self._mean) > _DRIFT:
            off, self._mean = self._mean, 0.0
            return off
        return 0.0


def _silence(seconds: float, channels: int, rate: int) -> Iterator[tuple[Tensor, int]]:
    left = round(seconds * rate)
    while left > 0:
        size = min(left, max(BLOCK // channels, 1))
        yield torch.zeros(channels, size), rate
        left -= size


def _part(blocks: Iterator[tuple[Tensor, int]], start: float, length: float | None) -> Iterator[tuple[Tensor, int]]:
    """What lies between ``start`` and ``start + length`` seconds."""
    done, end = 0.0, float("inf") if length is None else start + length
    for samples, rate in blocks:
        first, last = round((start - done) * rate), samples.shape[1]
        if end < float("inf"):
            last = min(last, round((end - done) * rate))
        done += samples.shape[1] / rate
        if last > max(first, 0):
            yield samples[:, max(first, 0):last], rate
        if done >= end:
            return


def _joined(blocks: Iterator[tuple[Tensor, int]], progress: Progress, total: float) -> Iterator[tuple[Tensor, int]]:
    waiting: list[Tensor] = []
    held, rate, seconds = 0, 0, 0.0
    for samples, new_rate in blocks:
        if waiting and (new_rate != rate or len(samples) != len(waiting[0]) or held >= BLOCK):
            yield torch.cat(waiting, 1), rate
            waiting, held = [], 0
            if total:
                report(progress, min(int(10 * seconds), int(10 * total)), int(10 * total))
        rate = new_rate
        waiting.append(samples)
        held += samples.numel()
        seconds += samples.shape[1] / rate
    if waiting:
        yield torch.cat(waiting, 1), rate


def _samples(frame: Any) -> Tensor:
    """[C, N] float32 of a decoded frame, planar or packed, full scale at 1."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return scaled(torch.from_numpy(np.ascontiguousarray(array)))


def scaled(block: Tensor, whole: Tensor | None = None) -> Tensor:
    """``block`` as float32 with full scale at 1; ``whole`` tells how many bits 64-bit integers really use."""
    if block.dtype.is_floating_point:
        return block.float()
    if block.dtype == torch.uint8:
        return (block.float() - 128.0) / 128.0
    bits = torch.iinfo(block.dtype).bits
    if bits == 64 and whole is not None:
        peak = max(abs(int(whole.min())), abs(int(whole.max())))
        bits = next(b for b in (16, 32, 64) if peak <= 2 ** (b - 1))
    return (block.double() / 2.0 ** (bits - 1)).float()
