"""A video's frames, one at a time: nothing here holds more than the picture at hand."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Iterator

import torch
from torch import Tensor

from ..errors import PlaymateError

DEFAULT_FPS = 25.0
"""Taken where a file does not tell its rate."""


class VideoFrames:
    """The pictures of a video file, upright, read anew on every iteration.

    Attributes:
        path: the file.
        fps: average frames a second.
        total: frames that the file announces, 0 where it does not tell.
        has_sound: whether there is a sound track.

    Raises:
        PlaymateError: no such file, or no video that can be read.
    """

    def __init__(self, path: str | PathLike) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise PlaymateError(f"There is no video at {self.path}; check the name and the folder.")
        with self._open() as container:
            stream = container.streams.video[0]
            self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
            self.total = int(stream.frames or (container.duration or 0) / 1e6 * self.fps)
            self.has_sound = bool(container.streams.audio)

    def _open(self):
        import av

        try:
            # The prefix keeps FFmpeg from taking a name like "take:2.mp4" for a protocol.
            container = av.open(f"file:{self.path}", metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise PlaymateError(f"{self.path} is no video that can be read, or it is damaged; "
                                "convert it to mp4 (H.264).") from error
        if not container.streams.video:
            container.close()
            raise PlaymateError(f"{self.path} holds no pictures; choose a video file.")
        return container

    def __iter__(self) -> Iterator[Tensor]:
        """Yields [H, W, 3] float32 sRGB 0..1. What cannot be decoded at the end of a damaged file is left out.

        Raises:
            PlaymateError: not a single frame can be decoded.
        """
        import av
        import numpy as np

        count = 0
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    picture = frame.to_ndarray(format="rgb24")
                    # A phone's display matrix says how far to turn the stored picture, anticlockwise.
                    turns = round(getattr(frame, "rotation", 0) / 90) % 4
                    picture = np.ascontiguousarray(np.rot90(picture, turns))
                    yield torch.from_numpy(picture).float() / 255.0
                    count += 1
            except av.error.FFmpegError as error:
                if not count:
                    raise self._nothing() from error
        if not count:
            raise self._nothing()

    def _nothing(self) -> PlaymateError:
        return PlaymateError(f"No frame of {self.path} can be decoded; export it again as mp4 (H.264).")
