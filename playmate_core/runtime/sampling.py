"""Looking pictures and volumes up at given places, rightly on every device.

torch's ``grid_sample`` is not the same everywhere. On Apple's GPUs older versions lack border padding and volumes, and
read a grid that is not contiguous wrongly and in silence. So every device other than the CPU is tried once, and what
it lacks is made of what it has: a border by moving places inside, a volume by plain indexing.
"""

from __future__ import annotations

import logging
from itertools import product
from typing import Any, Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PlaymateError

log = logging.getLogger(__name__)

TOLERANCE = 2e-3
"""Largest difference from the CPU: graphics cards interpolate in their own way, faults are a hundred times larger."""

BELIEVED = ("cpu", "meta")
"""Devices that set the standard, or have no values."""

PADDINGS = ("zeros", "border")

LookUp = Callable[[Tensor, Tensor, str, bool], Tensor]

_ways: dict[str, dict[tuple[int, str], LookUp]] = {}
"""Device type -> (axes, padding) -> how it looks up; only of devices that were tried and found right."""


def sample(values: Tensor, places: Tensor, padding: str = "zeros", align_corners: bool = False) -> Tensor:
    """Bilinear or trilinear look-up as ``torch.nn.functional.grid_sample``; computed in float32 at least.

    Args:
        values: [B, C, H, W] pictures or [B, C, D, H, W] volumes.
        places: [B, h, w, 2] (x, y) or [B, d, h, w, 3] (x, y, z), -1 to 1.
        padding: what lies outside: "zeros", or "border" for the nearest value.
        align_corners: -1 and 1 are the centres of the outermost cells; otherwise their outer edges.

    Returns:
        [B, C, h, w] or [B, C, d, h, w] in the dtype of ``values``.

    Raises:
        PlaymateError: the device computes wrongly whichever way (see :func:`check_device`).
    """
    device = values.device
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    found, places = values.to(dtype), places.to(dtype)
    if values.ndim == 5 or device.type not in ("cpu", "cuda"):
        found, places = found.contiguous(), places.contiguous()
    if device.type in BELIEVED:
        return as_torch_does(found, places, padding, align_corners).to(values.dtype)
    if device.type not in _ways:
        check_device(device)
    return _ways[device.type][values.ndim - 2, padding](found, places, padding, align_corners).to(values.dtype)


def as_torch_does(values: Tensor, places: Tensor, padding: str, align_corners: bool) -> Tensor:
    """The device's own ``grid_sample``."""
    return F.grid_sample(values, places, mode="bilinear", padding_mode=padding, align_corners=align_corners)


def by_moving_inside(values: Tensor, places: Tensor, padding: str, align_corners: bool) -> Tensor:
    """Border padding without it: places beyond the outermost cells' centres are moved onto them."""
    return as_torch_does(values, _inside(values, places, align_corners) if padding == "border" else places, "zeros",
                         align_corners)


def by_indexing(values: Tensor, places: Tensor, padding: str, align_corners: bool) -> Tensor:
    """The same without ``grid_sample``: every corner of a cell by its index, times its share."""
    if padding == "border":
        places = _inside(values, places, align_corners)
    frames, channels, *size = values.shape
    flat = values.flatten(2)
    axes = []
    for axis, length in enumerate(reversed(size)):
        place = (places[..., axis] + 1) / 2 * (length - 1) if align_corners else \
            ((places[..., axis] + 1) * length - 1) / 2
        low = place.floor()
        axes.append([(low, 1 - (place - low)), (low + 1, place - low)])
    out = values.new_zeros(frames, channels, places[0, ..., 0].numel())
    for corner in product(*axes):
        index: Any = 0
        share: Any = 1
        for (cell, part), length in zip(reversed(corner), size, strict=True):
            index = index * length + cell.clamp(0, length - 1)
            share = share * part * ((cell >= 0) & (cell < length))
        index, share = index.long().flatten(1), share.flatten(1)
        out += flat.gather(2, index[:, None].expand(-1, channels, -1)) * share[:, None]
    return out.reshape(frames, channels, *places.shape[1:-1])


def _inside(values: Tensor, places: Tensor, align_corners: bool) -> Tensor:
    if align_corners:
        return places.clamp(-1, 1)
    limits = [1 - 1 / length for length in reversed(values.shape[2:])]
    return torch.stack([axis.clamp(-limit, limit) for axis, limit in zip(places.unbind(-1), limits, strict=True)], -1)


def check_device(device: torch.device) -> None:
    """Tries the look-ups on a device until it was found right once, and settles how it does each.

    Raises:
        PlaymateError: the device computes wrongly whichever way, this time and every time.
    """
    if device.type in BELIEVED or device.type in _ways:
        return
    ways = {}
    for axes, padding in product((2, 3), PADDINGS):
        ways[axes, padding] = _way_of(device, axes, padding)
    if ways[3, "zeros"] is by_indexing:
        log.warning("The device %s cannot look volumes up itself; a slower way is used.", device)
    _ways[device.type] = ways


def _way_of(device: torch.device, axes: int, padding: str) -> LookUp:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, *(4, 5, 6)[-axes:], generator=generator)
    # At the border and beyond it, with both meanings of the corners.
    places = torch.rand(2, *(3, 4, 5)[-axes:], axes, generator=generator) * 2.4 - 1.2
    there, at = values.to(device), places.to(device)
    for way in (as_torch_does, by_moving_inside, by_indexing):
        try:
            right = all(float((way(there, at, padding, corners).cpu()
                               - as_torch_does(values, places, padding, corners)).abs().max()) < TOLERANCE
                        for corners in (False, True))
        except (RuntimeError, NotImplementedError):
            continue
        if right:
            return way
    kind = "volumes" if axes == 3 else "pictures"
    raise PlaymateError(f"The device {device} samples {kind} wrongly; choose the device cpu or update torch.")
