"""Reading portraits from files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from .errors import PlaymateError


def read_image(path: str | PathLike) -> Tensor:
    """A picture file as [H, W, 3 or 4] float32 sRGB 0..1, turned upright by its EXIF orientation.

    Raises:
        PlaymateError: the file is missing, is no picture, or is damaged.
    """
    import cv2
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"The picture {path} does not exist; check the name and the folder.")
    raw = np.fromfile(path, dtype=np.uint8)
    # imdecode, because OpenCV's own file reading fails on names outside the system's code page.
    picture = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if raw.size else None
    if picture is None:
        raise PlaymateError(f"The file {path} is not a picture that can be read; save it as PNG, JPEG or WebP.")
    if picture.ndim == 3 and picture.shape[2] == 4:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)
    else:
        # Decoded anew without the alpha flag, since only this mode applies the EXIF orientation.
        colour = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        picture = cv2.cvtColor(picture if colour is None else colour, cv2.COLOR_BGR2RGB)
    if np.issubdtype(picture.dtype, np.integer):
        return torch.from_numpy(picture.astype(np.float32) / float(np.iinfo(picture.dtype).max))
    return torch.from_numpy(np.clip(np.nan_to_num(picture.astype(np.float32)), 0.0, 1.0))
