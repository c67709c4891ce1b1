"""Any of Pillow's colour models, bit depths and profiles to sRGB."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
"""Colour space of an ICC profile -> the mode of pictures that it describes."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # of TIFF


def to_srgb(picture: Image) -> Tensor:
    """A loaded picture of any mode as [H, W, 3] float32 sRGB 0..1, or [H, W, 4] where it has transparency.

    Modes without a profile are taken for sRGB or its greys. A profile that does not fit its picture is left out.
    """
    profile = picture.info.get("icc_profile")
    picture = _unpacked(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = _deep_grey(picture)
        if not profile:
            return torch.from_numpy(grey)[..., None].expand(-1, -1, 3).contiguous()
        from PIL import Image

        picture = Image.fromarray(np.round(grey * 255).astype(np.uint8))
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    if alpha is not None:
        picture = picture.convert(picture.mode[:-1])
    picture = _through_profile(picture, profile)
    if alpha is not None:
        picture.putalpha(alpha)
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255.0)


def lab(image: Tensor) -> Tensor:
    """CIELAB (D65; lightness 0 to 100) of sRGB colours [..., 3] float 0..1, by IEC 61966-2-1 and CIE 15."""
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055).clamp_min(0) ** 2.4)
    to_xyz = linear.new_tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
                                [0.019334, 0.119193, 0.950227]])
    x, y, z = (linear @ to_xyz.T / to_xyz.sum(1)).unbind(-1)

    def curve(share: Tensor) -> Tensor:
        return torch.where(share > 216 / 24389, share.clamp_min(1e-9) ** (1 / 3), (24389 / 27 * share + 16) / 116)

    x, y, z = curve(x), curve(y), curve(z)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def _unpacked(picture: Image) -> Image:
    """Palettes, bits, premultiplied alpha and transparent colours resolved: L, LA, RGB, RGBA, CMYK, LAB, I or F."""
    if picture.mode in ("P", "RGB", "L", "1") and "transparency" in picture.info or picture.mode in ("PA", "RGBa"):
        return picture.convert("RGBA")
    aims = {"La": "LA", "1": "L", "P": "RGB", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
    return picture.convert(aims[picture.mode]) if picture.mode in aims else picture


def _deep_grey(picture: Image) -> np.ndarray:
    """[H, W] float32 0..1 of more than 8 bits in one channel."""
    grey = np.asarray(picture)
    tags = getattr(picture, "tag_v2", None) or {}
    if picture.mode == "F":
        return np.nan_to_num(grey.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    if bits == 32 or int(grey.max(initial=0)) > 0xFFFF or int(grey.min(initial=0)) < 0:
        grey, bits = grey.astype(np.int64) & 0xFFFFFFFF, 32
    share = (grey / float((1 << bits) - 1)).astype(np.float32)
    return 1.0 - share if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else share


def _through_profile(picture: Image, profile: bytes | None) -> Image:
    """L, RGB, CMYK or LAB to RGB."""
    from PIL import ImageCms

    try:
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            mode = _PROFILE_MODES.get(source.profile.xcolor_space)
        elif picture.mode == "LAB":
            source, mode = ImageCms.createProfile("LAB"), "LAB"
        else:
            return picture.convert("RGB")
        if mode == "RGB" and picture.mode == "L":
            picture = picture.convert("RGB")
        if mode == picture.mode:
            return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB",
                                             renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                                             flags=ImageCms.Flags.BLACKPOINTCOMPENSATION)
        reason = f"it describes {source.profile.xcolor_space.strip()} and the picture is {picture.mode}"
    except (OSError, ImageCms.PyCMSError, TypeError, ValueError) as error:
        reason = str(error)
    log.warning("The picture's colour profile is left out: %s.", reason)
    return _through_profile(picture, None) if picture.mode == "LAB" and profile else picture.convert("RGB")
