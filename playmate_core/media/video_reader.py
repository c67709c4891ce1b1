"""Pictures out of video files, one after another and the right way up. Nothing here holds more than one of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Iterator, Tuple

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .clock import Clock, clock_of, frame_rate
from .container import Decoding, MediaFile, best_stream, name_of, open_media
from .wholeness import missing_bytes

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1920
"""Pixels; larger pictures are reduced while they are decoded, which landmarks do not notice."""
_FAILURES = 1000  # damaged packets in a row after which a file has nothing left to give


@dataclass(frozen=True)
class VideoReader:
    """A part of a video file, to be iterated over: each time from its beginning.

    Yields ``(seconds, picture)``: the time since the part's first wanted moment, as the file stamps it (frame rates
    may vary), and [H, W, 3] uint8 RGB, turned as the file's rotation says, with square pixels. The file counts from
    ``Clock.zero``, as its sound does. Where the part begins between two pictures, or the sound clearly before the first
    one, the picture that a player shows meanwhile is given repeatedly, at ``fps``, until the next one's time. A picture
    of up to half a frame before the part is the first, at its time below 0.

    Attributes:
        source: path, or a binary file object.
        start: seconds to leave out at the beginning.
        seconds: length of the part; None reads to the end.
        fps: frames a second, the average where they vary.
        total: how many frames there will be, as far as the file tells; for progress only.
        clock: when picture and sound begin.
        pixel_shape: width of a pixel over its height.
    """

    source: MediaFile
    start: float
    seconds: float | None
    fps: float
    total: int
    clock: Clock
    pixel_shape: float = 1.0
    _told: list[str] = field(default_factory=list, repr=False, compare=False)

    def __iter__(self) -> Iterator[Tuple[float, Tensor]]:
        end = float("inf") if self.seconds is None else self.seconds
        margin = 0.5 / self.fps  # times are rounded to the container's clock
        before, given = None, 0
        for time, frame in self._decode():
            if time < -margin:
                before = frame
                continue
            if not given and time > margin + 1e-3:
                # What is on the screen meanwhile, in whole frames: motion and measures count in frames.
                picture = self._picture(frame if before is None else before)
                while (given + 0.5) / self.fps < min(time, end) - 1e-3:
                    yield given / self.fps, picture
                    given += 1
            if time >= end - margin:
                break
            given += 1
            yield time if time < -1e-6 else max(time, 0.0), self._picture(frame)
        if not given and before is not None:
            yield 0.0, self._picture(before)

    def _picture(self, frame) -> Tensor:
        return _picture(frame, self.pixel_shape)

    def steady(self) -> Iterator[Tensor]:
        """Pictures as a player shows them at ``fps``: the latest at each tick, where the file's own rate varies."""
        number, shown = 0, None
        for time, picture in self:
            # A picture is due from half a tick before its time, so that rounded stamps drop and double none.
            while shown is not None and number / self.fps < time - 0.5 / self.fps:
                yield shown
                number += 1
            shown = picture
        if shown is not None:
            yield shown

    def _decode(self) -> Iterator[Tuple[float, Any]]:
        """(seconds since ``start``, frame), from the key frame before ``start`` on."""
        number, time = 0, 0.0
        with open_media(self.source) as container:
            stream = best_stream(container, "video")
            stream.thread_type = "AUTO"
            zero = self.clock.zero
            if self.start > 0:
                container.seek(max(int((zero + self.start) / stream.time_base), 0), stream=stream)
            decoding = Decoding(container, stream, _FAILURES)
            for frame in decoding:
                time = number / self.fps if frame.time is None else frame.time - zero
                number += 1
                yield time - self.start, frame
        if not number:
            raise PlaymateError(f"{name_of(self.source)} cannot be decoded ({decoding.reason or 'no pictures'}); "
                                "convert it to MP4 with H.264 and try again.")
        if (decoding.bad or missing_bytes(self.source)) and not self._told:
            # Nothing failed in a file that only ends too early.
            where = time if decoding.first is None else decoding.first - zero
            self._told.append(f"{name_of(self.source)} is damaged or cut off from about {max(where, 0.0):.2f} s on; "
                              f"the {number} pictures that can be read are used.")
            logger.warning(self._told[-1])


def open_video(source: MediaFile, start: float = 0.0, seconds: float | None = None) -> VideoReader:
    """Looks into a video file without decoding more than its first frames.

    Args:
        source: path, or a binary file object.
        start: seconds to leave out at the beginning, 0 or more.
        seconds: length of the part that is read, above 0; None reads to the end.

    Raises:
        PlaymateError: no such file, no video, or a start beyond its end.
    """
    import av

    if not start >= 0 or (seconds is not None and not seconds > 0):
        raise PlaymateError(f"A part of {seconds} seconds from {start} cannot be read; start at 0 or later and "
                            "read more than 0 seconds.")
    clock = clock_of(source)
    with open_media(source) as container:
        stream = best_stream(container, "video")
        if stream is None or stream.codec_context is None:
            if container.streams.video and stream is not None:
                raise PlaymateError(f"{name_of(source)} holds pictures that cannot be decoded here; convert it to MP4 "
                                    "with H.264.")
            raise PlaymateError(f"{name_of(source)} holds no picture; give a video file.")
        frames, told = stream.frames, 0.0
        if stream.duration:
            told = float(stream.duration * stream.time_base)
        elif container.duration:
            told = max(((container.start_time or 0) + container.duration) / av.time_base - (clock.picture or 0.0), 0.0)
        shape = float(stream.sample_aspect_ratio or 1) or 1.0
        fps = frame_rate(container, stream)
    duration = told + clock.picture_lead if told else 0.0
    if duration and start >= duration:
        raise PlaymateError(f"{name_of(source)} lasts {duration:.2f} seconds; start before that.")
    frames = (frames or round(told * fps)) + round(clock.picture_lead * fps)
    left = max(frames - round(start * fps), 1)
    return VideoReader(source, float(start), seconds, fps, left if seconds is None else min(left, round(seconds * fps)),
                       clock, shape)


def _picture(frame, shape: float) -> Tensor:
    """[H, W, 3] uint8 of a decoded frame; ``shape`` is the width of a pixel over its height."""
    width, height = frame.width * shape, float(frame.height)
    shrink = min(1.0, LONGEST_SIDE / max(width, height))
    width, height = max(round(width * shrink), 1), max(round(height * shrink), 1)
    if (width, height) != (frame.width, frame.height):
        frame = frame.reformat(width=width, height=height, format="rgb24")
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    quarters = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise
    return torch.rot90(picture, quarters).contiguous() if quarters else picture
