"""Portraits from files, as every viewer shows them, and pictures that come in memory."""

from __future__ import annotations

import importlib
import io
import warnings
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .colours import to_srgb
from .signatures import format_of, is_raw

if TYPE_CHECKING:
    from PIL.Image import Image

READERS = {"a HEIC": ("HEIF", "pillow_heif"), "an AVIF": ("AVIF", "pillow_avif"), "a JPEG XL": ("JXL", "pillow_jxl")}
"""Formats that Pillow may learn from another package: Pillow's name, and the module that brings it."""

_SAVE_AS = "save it as PNG, JPEG or WebP"
_ADVICE = {"a HEIC": f"install pillow-heif, or {_SAVE_AS}",
           "an AVIF": f"update Pillow to 11.3 or newer, or {_SAVE_AS}",
           "a JPEG XL": f"install pillow-jxl-plugin, or {_SAVE_AS}",
           "a camera's raw": f"develop it and {_SAVE_AS}",
           "a video": f"take a frame out of it and {_SAVE_AS}",
           "a web page's": "download the picture itself",
           "a ZIP": "unpack it"}


def read_image(path: str | PathLike, number: int = 0) -> Tensor:
    """A picture file as [H, W, 3] float32 sRGB 0..1, or [H, W, 4] with straight alpha where it is transparent.

    EXIF's orientation and the colour profile are applied, any bit depth and colour model is brought to 0..1. The format
    is told from the bytes, never from the name's ending.

    Args:
        number: which picture of an animation or of a file with several pages, counted from 0.

    Raises:
        PlaymateError: the file is missing, is no picture, is of a format that cannot be read here, is damaged, or holds
            fewer pictures.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"The picture {path} does not exist; check the name and the folder.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlaymateError(f"The picture {path} cannot be opened ({error.strerror or error}); "
                            "check who may read it.") from error
    if not data:
        raise PlaymateError(f"The picture {path} is an empty file; copy or save it again.")
    return decode_image(data, path, number)


def decode_image(data: bytes, path: str | PathLike, number: int = 0) -> Tensor:
    """A picture file's bytes as :func:`read_image` gives it; ``path`` is what a sentence calls it.

    Raises:
        PlaymateError: as :func:`read_image`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata and of large pictures
        picture = _open(data, path)
        if picture is None:
            return _float_tiff(data, path)
        count = getattr(picture, "n_frames", 1) if number else 1
        if not 0 <= number < max(count, 1):
            raise PlaymateError(f"The file {path} holds {count} picture{'s' if count > 1 else ''}, so there is no "
                                f"picture {number}; they are counted from 0.")
        try:
            if number:
                picture.seek(number)
            picture.load()
            _turn_upright(picture)
            return to_srgb(picture)
        except MemoryError as error:
            raise PlaymateError(f"The picture {path} of {picture.width} x {picture.height} pixels does not fit into "
                                "memory; make it smaller.") from error
        except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
            raise PlaymateError(f"The picture {path} is damaged or ends too early ({error}); "
                                "copy or save it again.") from error


def _open(data: bytes, path: str | PathLike) -> Image | None:
    """The file's first picture, its pixels not yet read; None for a TIFF of a layout that Pillow has not.

    Raises:
        PlaymateError: no picture, or none that can be read here.
    """
    from PIL import Image, UnidentifiedImageError

    kind = format_of(data)
    _learn(kind)
    try:
        picture = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise PlaymateError(f"The picture {path} has more pixels than can be read ({error}); "
                            "make it smaller.") from error
    except UnidentifiedImageError as error:
        if kind == "a TIFF":
            return None
        if kind in READERS and _known(kind) or kind in ("a PNG", "a JPEG", "a GIF", "a BMP", "a WebP"):
            raise PlaymateError(f"The picture {path} is {kind} file that is damaged; copy or save it again.") from error
        if kind is None:
            raise PlaymateError(f"The file {path} is not a picture that can be read; {_SAVE_AS}.") from error
        raise PlaymateError(f"The file {path} is {kind} file, which cannot be read as a picture here; "
                            f"{_ADVICE.get(kind, _SAVE_AS)}.") from error
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        raise PlaymateError(f"The picture {path} is damaged ({error}); copy or save it again.") from error
    if is_raw(picture):
        raise PlaymateError(f"The picture {path} is a camera's raw file, of which no more than a small preview can be "
                            f"read here; develop it and {_SAVE_AS}.")
    return picture


def _known(kind: str) -> bool:
    from PIL import Image

    Image.init()
    return READERS[kind][0] in Image.OPEN


def _learn(kind: str | None) -> None:
    """Lets Pillow read a format through another package, if that is installed and needed."""
    if kind not in READERS or _known(kind):
        return
    try:
        reader = importlib.import_module(READERS[kind][1])
    except Exception:  # absent, or built for another Pillow
        return
    if hasattr(reader, "register_heif_opener"):
        reader.register_heif_opener()


def _turn_upright(picture: Image) -> None:
    """Applies EXIF's orientation. In place, because a copy would forget what a TIFF says of its numbers."""
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    except Exception:  # damaged EXIF says nothing of the orientation
        return


def _float_tiff(data: bytes, path: str | PathLike) -> Tensor:
    """TIFF with several channels of floats, by OpenCV where it is there: Pillow knows floats in one channel only."""
    import numpy as np

    try:
        import cv2
    except ImportError:
        raise PlaymateError(f"The picture {path} is a TIFF file with several channels of floating-point numbers, which "
                            f"only OpenCV reads, and that is not installed; {_SAVE_AS}.") from None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise PlaymateError(f"The picture {path} is a TIFF file that is damaged or of a layout that cannot be read "
                            f"here; {_SAVE_AS}.")
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    top = float(np.iinfo(pixels.dtype).max) if np.issubdtype(pixels.dtype, np.integer) else 1.0
    image = torch.from_numpy(np.nan_to_num(pixels.astype(np.float32) / top, posinf=1.0, neginf=0.0).clip(0.0, 1.0))
    return image if image.ndim == 3 else image[..., None].expand(-1, -1, 3)


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


def smaller(image: Tensor, height: int, width: int) -> Tensor:
    """A picture [H, W, C] at a smaller size, its pixels averaged; values stay within 0..1."""
    from torch.nn.functional import interpolate

    planes = image.permute(2, 0, 1)[None]
    shrunk = interpolate(planes, (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
    return shrunk.permute(1, 2, 0).clamp(0.0, 1.0).contiguous()
