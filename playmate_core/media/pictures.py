"""Reading portraits from files."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError


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


def check_image(image: Tensor) -> Tensor:
    """A picture of any channel count as [H, W, 3] float32 in 0..1.

    Args:
        image: [H, W], [H, W, C] or [1, H, W, C], C = 1, 3 or 4; float 0..1 or uint8. A transparent
            picture is laid on white, as an artist's viewer shows it.

    Raises:
        PlaymateError: an empty picture, a batch, or a channel count that is no picture's.
    """
    if image.ndim == 4:
        if image.shape[0] != 1:
            raise PlaymateError(f"The portrait holds {image.shape[0]} pictures where one is needed; pick one.")
        image = image[0]
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise PlaymateError(f"The portrait has shape {tuple(image.shape)}; a picture [height, width, 3] is needed.")
    image = image.float() / 255.0 if image.dtype == torch.uint8 else image.float()
    image = torch.nan_to_num(image, nan=0.0, posinf=1.0, neginf=0.0).clamp(0.0, 1.0)
    channels = image.shape[-1]
    if channels in (2, 4):
        image, alpha = image[..., :-1], image[..., -1:]
        image = image * alpha + (1.0 - alpha)
    if image.shape[-1] == 1:
        image = image.expand(-1, -1, 3)
    if image.shape[-1] != 3:
        raise PlaymateError(f"The portrait has {channels} channels; grey, RGB or RGBA is needed.")
    return image.contiguous()
