"""A film's pictures to work on: read as often as wanted, from any of them on, at their own size or smaller.

Whoever follows a face through a film, and whoever draws on it, goes through its pictures more than once, and a film
that runs backwards is read in pieces from its end. So besides beginning again, one can begin at a picture; files seek
to the key frame before it. Nothing here holds more than one picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Tuple, Union

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .container import MediaFile, best_stream, open_media
from .pictures import check_image, smaller
from .signatures import format_of
from .video_reader import VideoReader, open_video

_HIGH = 576
"""Rows of a picture from which players take colours that are not named for BT.709's: more than television had."""
_NEAR = 2e-4
"""Seconds by which two stamps of one picture may differ."""
_STILLS = ("image2", "gif", "apng", "webp", "png", "bmp", "ico", "jpegxl", "svg", "tty", "avif")
"""Names of FFmpeg's readers of pictures; their like end in ``_pipe``."""


@dataclass(frozen=True)
class FilmFile(VideoReader):
    """A part of a video file: what ``VideoReader`` yields, but at its own size.

    Attributes:
        longest: longest side, pixels, of what is yielded; larger pictures are reduced, 0 leaves them.
    """

    longest: int = 0
    _stamps: list[float] = field(default_factory=list, repr=False, compare=False)
    _sizes: list[tuple[int, int]] = field(default_factory=list, repr=False, compare=False)

    def __iter__(self) -> Iterator[Tuple[float, Tensor]]:
        stamps = []
        for time, picture in super().__iter__():
            stamps.append(time)
            yield time, picture
        self._stamps[:] = stamps

    def since(self, number: int) -> Iterator[Tensor]:
        """The pictures from ``number`` on, as iterating gives them."""
        if number and self._steps_forward(number):
            yield from self._from_key_frame(number)
            return
        for _, picture in islice(self, number, None):
            yield picture

    def at_size(self, longest: int) -> FilmFile:
        """The same film with another longest side; 0 is its own."""
        return replace(self, longest=longest)

    @property
    def own_size(self) -> tuple[int, int]:
        """(height, width) in the file, turned as it is seen, with square pixels."""
        if not self._sizes:
            frame = next((frame for _, frame in self._decode()), None)
            if frame is None:
                raise PlaymateError("The film holds no picture; give another one.")
            width, height = round(frame.width * self.pixel_shape), frame.height
            self._sizes.append((width, height) if round(getattr(frame, "rotation", 0) / 90) % 2 else (height, width))
        return self._sizes[0]

    def _steps_forward(self, number: int) -> bool:
        """Whether the pictures from ``number`` on can be told by their stamps, which is known once all were read."""
        known = self._stamps[number - 1:]
        return len(known) > 1 and all(after - before > 2 * _NEAR
                                      for before, after in zip(known[:-1], known[1:], strict=True))

    def _from_key_frame(self, number: int) -> Iterator[Tensor]:
        begin, given = self._stamps[number], number
        part = replace(self, start=self.start + max(begin - _NEAR, 0.0))
        shift = part.start - self.start
        try:
            for time, frame in part._decode():
                here = given
                while here < len(self._stamps) and self._stamps[here] < time + shift - _NEAR:
                    here += 1
                # What was not found where it was, repeated by the reader or damaged, is counted instead of sought.
                for _, picture in islice(self, given, here) if here > given else ():
                    yield picture
                given = here
                if given >= len(self._stamps):
                    return
                if abs(self._stamps[given] - time - shift) <= _NEAR:
                    yield self._picture(frame)
                    given += 1
        except PlaymateError:  # nothing to be had from there on
            pass
        if given < len(self._stamps):
            for _, picture in islice(self, given, None):
                yield picture

    def _picture(self, frame) -> Tensor:
        width, height = frame.width * self.pixel_shape, float(frame.height)
        share = min(1.0, self.longest / max(width, height)) if self.longest else 1.0
        width, height = max(round(width * share), 2 if self.longest else 1), max(round(height * share), 2)
        options: dict[str, Any] = {}
        if frame.colorspace == 2 and frame.height > _HIGH:  # not named
            options["src_colorspace"] = "ITU709"
        if (width, height) != (frame.width, frame.height):
            options.update(width=width, height=height)
        picture = torch.from_numpy(frame.reformat(format="rgb24", **options).to_ndarray())
        quarters = round(getattr(frame, "rotation", 0) / 90) % 4  # against the clock
        return torch.rot90(picture, quarters).contiguous() if quarters else picture


@dataclass(frozen=True)
class FilmBatch:
    """Pictures in memory as a film.

    Attributes:
        images: [T, H, W, C], or a list of [H, W, C], C 1, 3 or 4, uint8 or float 0..1.
        fps: frames a second.
        longest: as of ``FilmFile``.
    """

    images: Union[Tensor, list] = field(repr=False)
    fps: float
    longest: int = 0

    def __iter__(self) -> Iterator[Tuple[float, Tensor]]:
        for number, picture in enumerate(self.since(0)):
            yield number / self.fps, picture

    def since(self, number: int) -> Iterator[Tensor]:
        """The pictures from ``number`` on."""
        for index in range(number, len(self.images)):
            picture = self.images[index]
            if picture.ndim != 3 or picture.shape[-1] != 3:
                picture = check_image(picture)
            yield _reduced(picture, self.longest)

    def at_size(self, longest: int) -> FilmBatch:
        """The same film with another longest side; 0 is its own."""
        return replace(self, longest=longest)

    @property
    def own_size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        return self.images[0].shape[0], self.images[0].shape[1]

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return len(self.images)


FilmPictures = Union[FilmFile, FilmBatch]
"""Pictures that can be read from any of them on."""


def open_film(source: MediaFile, start: float = 0.0, seconds: float | None = None, longest: int = 0) -> FilmFile:
    """A film's pictures out of a file; arguments and errors as ``video_reader.open_video``.

    Args:
        longest: longest side of what is read, pixels; 0 is the film's own.
    """
    reader = open_video(source, start, seconds)
    given = {name: getattr(reader, name) for name in reader.__dataclass_fields__ if not name.startswith("_")}
    return FilmFile(**given, longest=longest)


def batch_film(images: Tensor | Iterable[Tensor], fps: float) -> FilmBatch:
    """Pictures [T, H, W, C] in memory as a film.

    Raises:
        PlaymateError: no pictures, pictures of several sizes, or a rate that is not above 0.
    """
    if not 0 < fps < float("inf"):
        raise PlaymateError(f"The film's frame rate is {fps}; give the frames a second that it was filmed at.")
    images = images if isinstance(images, Tensor) else list(images)
    if not len(images):
        raise PlaymateError("The film holds no pictures; give one of at least one frame.")
    sizes = {tuple(picture.shape[:2]) for picture in images}
    if len(sizes) > 1:
        raise PlaymateError("The film's pictures have different sizes; give them one size first.")
    return FilmBatch(images, float(fps))


def is_film(path: str | os.PathLike) -> bool:
    """Whether a file is a film rather than a picture or a sound, by its content. A file that is not there is none, and
    animated pictures are pictures."""
    place = Path(path)
    if not place.is_file():
        return False
    try:
        with place.open("rb") as file:
            kind = format_of(file.read(4096))
    except OSError:
        return False
    if kind not in ("a video", "a sound or video", None):
        return False
    try:
        with open_media(place) as container:
            names = container.format.name.split(",")
            if any(name.endswith("_pipe") or name in _STILLS for name in names):
                return False
            stream = best_stream(container, "video")
            return stream is not None and stream.codec_context is not None
    except PlaymateError:
        return kind == "a video"  # damaged, which is said when it is read


def _reduced(picture: Tensor, longest: int) -> Tensor:
    height, width = picture.shape[:2]
    if not longest or max(height, width) <= longest:
        return picture
    share = longest / max(height, width)
    picture = picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()
    return smaller(picture, max(2, round(height * share)), max(2, round(width * share)))
