"""A film as a folder of pictures, read and written one after another."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Iterable, Iterator

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .output import check_output

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class PictureFolder:
    """The pictures of a folder in the order of their names, numbers in these by their value; read as often as wanted.

    Args:
        folder: where they lie.
        fps: frames a second at which they were taken.
        start: seconds to leave out at the beginning.
        seconds: how many to read; None reads to the end.

    Raises:
        PlaymateError: no pictures there or in that part, or a rate that is not above 0.
    """

    def __init__(self, folder: str | os.PathLike, fps: float, start: float = 0.0, seconds: float | None = None) -> None:
        if not 0 < fps < math.inf:
            raise PlaymateError(f"The pictures' frame rate is {fps}; give the frames a second that they were taken at.")
        if not start >= 0 or (seconds is not None and not seconds > 0):
            raise PlaymateError(f"A part of {seconds} seconds from {start} cannot be read; start at 0 or later and "
                                "read more than 0 seconds.")
        files = sorted((file for file in Path(folder).iterdir() if file.suffix.lower() in ENDINGS), key=_order)
        if not files:
            raise PlaymateError(f"The folder {folder} holds no pictures ({', '.join(ENDINGS)}).")
        first = round(start * fps)
        if first >= len(files):
            raise PlaymateError(f"The folder's pictures last {len(files) / fps:.2f} seconds; start before that.")
        self.files = files[first:None if seconds is None else first + max(round(seconds * fps), 1)]
        self.fps, self.total = fps, len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        from .pictures import check_image, read_image

        for file in self.files:
            yield check_image(read_image(file))


def _order(file: Path) -> tuple:
    """Frame 10 comes after frame 9, however many digits were written."""
    parts, digits = [], ""
    for sign in file.stem + " ":
        if sign.isdecimal():
            digits += sign
        else:
            if digits:
                parts.append((0, int(digits), ""))
                digits = ""
            parts.append((1, 0, sign))
    return tuple(parts), file.name


def check_folder(folder: str | os.PathLike) -> Path:
    """``folder``, if pictures can be written there.

    Raises:
        PlaymateError: a file of that name, a place that cannot be written, or one that holds something already.
    """
    path = Path(folder)
    check_output(path / "00000.png", "picture")
    if path.is_dir() and any(path.iterdir()):
        raise PlaymateError(f"The folder {folder} is not empty; give another one for the pictures.")
    return path


def write_pictures(folder: str | os.PathLike, frames: Iterable[Tensor], total: int, progress: Progress = None) -> Path:
    """Writes 00000.png, 00001.png ... as they come; returns the folder.

    Args:
        frames: batches [B, H, W, 3], float 0..1 sRGB.
        total: how many frames will come.

    Raises:
        PlaymateError: as :func:`check_folder`, or a full disk.
    """
    from PIL import Image

    path, done = check_folder(folder), 0
    try:
        path.mkdir(parents=True, exist_ok=True)
        for batch in frames:
            for frame in (batch.clamp(0, 1) * 255).round().to(torch.uint8).cpu():
                Image.fromarray(frame.numpy()).save(path / f"{done:05}.png")
                done += 1
            report(progress, done, total)
    except OSError as error:
        raise PlaymateError(f"Picture {done} could not be written to {folder} ({error.strerror or error}); free some "
                            "space, or choose another folder.") from error
    return path
