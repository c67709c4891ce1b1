"""Pictures out of video files, one after another and the right way up. Nothing here holds more than one of them."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import BinaryIO, Iterator, Tuple, Union

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError

logger = logging.getLogger(__name__)

VideoFile = Union[str, "os.PathLike[str]", BinaryIO]

LONGEST_SIDE = 1920
"""Pixels; larger pictures are reduced while they are decoded, which landmarks do not notice."""


@dataclass(frozen=True)
class VideoReader:
    """A part of a video file, to be iterated over: each time from its beginning.

    Yields ``(seconds, picture)``: the time since the part's first wanted moment, as the file stamps it (frame rates
    may vary), and [H, W, 3] uint8 RGB, turned as the file's rotation says, with square pixels.

    Attributes:
        source: path, or a binary file object.
        start: seconds to leave out at the beginning.
        seconds: length of the part; None reads to the end.
        fps: frames a second, the average where they vary.
        total: how many frames there will be, as far as the file tells; for progress only.
    """

    source: VideoFile
    start: float
    seconds: float | None
    fps: float
    total: int

    def __iter__(self) -> Iterator[Tuple[float, Tensor]]:
        import av

        try:
            yield from self._decode()
        except av.error.FFmpegError as error:
            raise PlaymateError(f"{_name(self.source)} cannot be decoded ({error.strerror or error}); "
                                "convert it to MP4 with H.264 and try again.") from error

    def _decode(self) -> Iterator[Tuple[float, Tensor]]:
        import av

        end = float("inf") if self.seconds is None else self.seconds
        margin = 0.5 / self.fps  # times are rounded to the container's clock
        with av.open(_rewound(self.source)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            first = float((stream.start_time or 0) * stream.time_base)
            if self.start > 0:
                # Lands on the key frame before; what lies between is decoded and dropped.
                container.seek(int((first + self.start) / stream.time_base), stream=stream)
            shape = float(stream.sample_aspect_ratio or 1) or 1.0
            number, given = 0, 0
            frames = container.decode(stream)
            while True:
                try:
                    frame = next(frames, None)
                except av.error.FFmpegError as error:
                    if not given:
                        raise
                    logger.warning("%s ends early, after %d frames (%s).", _name(self.source), given,
                                   error.strerror or error)
                    return
                if frame is None:
                    return
                time = (number / self.fps if frame.time is None else frame.time - first) - self.start
                number += 1
                if time < -margin:
                    continue
                if time >= end - margin:
                    return
                given += 1
                yield max(time, 0.0), _picture(frame, shape)


def open_video(source: VideoFile, start: float = 0.0, seconds: float | None = None) -> VideoReader:
    """Looks into a video file without decoding it.

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
    if isinstance(source, (str, os.PathLike)) and not os.path.isfile(source):
        raise PlaymateError(f"The video {os.fspath(source)} does not exist; check the name and the folder.")
    try:
        with av.open(_rewound(source)) as container:
            if not container.streams.video:
                raise PlaymateError(f"{_name(source)} holds no picture; give a video file.")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 25)
            if stream.duration:
                duration = float(stream.duration * stream.time_base)
            else:
                duration = (container.duration or 0) / av.time_base
            frames = stream.frames or round(duration * fps)
    except (OSError, av.error.FFmpegError) as error:
        raise PlaymateError(f"{_name(source)} is not a video that can be read "
                            f"({getattr(error, 'strerror', None) or error}).") from error
    if duration and start >= duration:
        raise PlaymateError(f"{_name(source)} lasts {duration:.2f} seconds; start before that.")
    left = max(frames - round(start * fps), 1)
    return VideoReader(source, float(start), seconds, fps, left if seconds is None else min(left, round(seconds * fps)))


def _rewound(source: VideoFile):
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    source.seek(0)
    return source


def _name(source: VideoFile) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else "The video"


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
