"""Looking volumes up at given places, and whether this device does it rightly.

Apple's GPUs read a grid that is not contiguous wrongly and in silence, and some versions of torch lack volumes there
altogether. So every device other than the CPU is tried once before it draws; where its own look-up fails, one made
of plain indexing takes its place.
"""

from __future__ import annotations

import logging

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import PlaymateError

log = logging.getLogger(__name__)

TOLERANCE = 2e-3
"""Largest difference from the CPU: graphics cards interpolate in their own way, faults are a hundred times larger."""

_checked: dict[str, bool] = {}
"""Device type -> whether its own look-up of volumes is right."""


def sample(volume: Tensor, grid: Tensor) -> Tensor:
    """Trilinear look-up with zeros outside and ``align_corners=False``; positions are float32 on every device.

    Args:
        volume: [B, C, D, H, W].
        grid: [B, d, h, w, 3] places (x, y, z), -1 to 1.

    Returns:
        [B, C, d, h, w] in the dtype of ``volume``.
    """
    look_up = _own if _checked.get(volume.device.type, True) else by_indexing
    return look_up(volume.float().contiguous(), grid.float().contiguous()).to(volume.dtype)


def _own(volume: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(volume, grid, padding_mode="zeros", align_corners=False)


def by_indexing(volume: Tensor, grid: Tensor) -> Tensor:
    """The same as :func:`sample` in float32, without grid_sample."""
    frames, channels, *size = volume.shape
    flat = volume.flatten(2)
    axes = []
    for axis, length in enumerate(reversed(size)):
        place = ((grid[..., axis] + 1) * length - 1) / 2
        low = place.floor()
        axes.append([(low, 1 - (place - low)), (low + 1, place - low)])
    depth, height, width = size
    out = volume.new_zeros(frames, channels, grid[0, ..., 0].numel())
    for x, share_x in axes[0]:
        for y, share_y in axes[1]:
            for z, share_z in axes[2]:
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (z >= 0) & (z < depth)
                index = ((z.clamp(0, depth - 1) * height + y.clamp(0, height - 1)) * width
                         + x.clamp(0, width - 1)).long().flatten(1)
                share = (share_x * share_y * share_z * inside).flatten(1)
                out += flat.gather(2, index[:, None].expand(-1, channels, -1)) * share[:, None]
    return out.reshape(frames, channels, *grid.shape[1:-1])


def check_device(device: torch.device) -> None:
    """Tries the look-ups on a device once, and settles how volumes are looked up there.

    Raises:
        PlaymateError: the device computes wrongly whichever way.
    """
    if device.type == "cpu" or device.type in _checked:
        return
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(2, 3, 4, 5, 6, generator=generator)
    # As the networks make them: the axes of a permuted tensor, at the border and beyond it.
    grid = (torch.rand(2, 3, 4, 3, 5, generator=generator) * 2.4 - 1.2).permute(0, 1, 2, 4, 3)
    wanted = _own(volume, grid.contiguous())
    volume, grid = volume.to(device), grid.to(device).contiguous()
    for own, look_up in ((True, _own), (False, by_indexing)):
        try:
            found = look_up(volume, grid).cpu()
        except (RuntimeError, NotImplementedError):
            continue
        if float((found - wanted).abs().max()) < TOLERANCE:
            _checked[device.type] = own
            break
    else:
        raise PlaymateError(f"The device {device} samples volumes wrongly; choose the device cpu or update torch.")
    if not own:
        log.warning("The device %s cannot look volumes up itself; a slower way is used.", device)
    flat = F.grid_sample(volume[:, :, 0], grid[:, 0, ..., :2].contiguous(), align_corners=False).cpu()
    plain = F.grid_sample(volume[:, :, 0].cpu(), grid[:, 0, ..., :2].cpu().contiguous(), align_corners=False)
    if not float((flat - plain).abs().max()) < TOLERANCE:
        raise PlaymateError(f"The device {device} samples pictures wrongly; choose the device cpu or update torch.")
