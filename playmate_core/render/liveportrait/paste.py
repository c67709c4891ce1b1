"""Cuts the crop out of a picture and lays the drawn one back in, on the device (SPEC.md sections 12 and 14)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.sampling import sample

RAMP = 16
"""Pixels over which the paste-back mask of 512 fades towards the border."""


def warp(image: Tensor, matrix: Tensor, size: tuple[int, int], grid: Tensor | None = None) -> Tensor:
    """Bilinear affine warp with black outside; averages whole pixels first where the picture is reduced.

    Args:
        image: [B, C, H, W].
        matrix: [3, 3] pixels of the result -> pixels of ``image``, centres at integers.
        size: rows and columns of the result.
        grid: what :func:`places` gave for the same matrix and sizes.

    Returns:
        [B, C, *size] in the dtype of ``image``.
    """
    block = _block(matrix)
    if block > 1:
        image = F.avg_pool2d(image, block, ceil_mode=True)
    if grid is None:
        grid = places(matrix, size, image.shape[-2:], block, image.device)
    return sample(image, grid.expand(len(image), -1, -1, -1))


def _block(matrix: Tensor) -> int:
    """Pixels of the source in a pixel of the result, along a side."""
    return max(1, int(float(torch.linalg.det(matrix[:2, :2].double())) ** 0.5 + 1e-6))


def places(matrix: Tensor, size: tuple[int, int], source: tuple[int, int], block: int = 1,
           device=None) -> Tensor:
    """[1, rows, columns, 2] grid_sample positions of a warp, contiguous, float32.

    Args:
        matrix: [3, 3] pixels of the result -> pixels of the unreduced source.
        size: rows and columns of the result.
        source: rows and columns of the source after averaging over ``block``.
    """
    y, x = torch.meshgrid(torch.arange(size[0], dtype=torch.float64), torch.arange(size[1], dtype=torch.float64),
                          indexing="ij")
    points = torch.stack([x, y], dim=-1) @ matrix[:2, :2].double().T + matrix[:2, 2].double()
    extent = torch.tensor([source[1], source[0]], dtype=torch.float64)
    return ((points + 0.5) / block / extent * 2 - 1)[None].float().contiguous().to(device)


def paste_mask(side: int, device=None) -> Tensor:
    """[1, 1, side, side] soft mask: 1 inside, linear to 0 over ``RAMP`` / 512 of the side, round at the corners."""
    index = torch.arange(side, dtype=torch.float64) * (512 / side)
    outside = torch.maximum(RAMP - index, index - (512 - RAMP)).clamp_min(0)
    distance = torch.hypot(outside[:, None], outside[None, :])
    return (1 - distance / RAMP).clamp_min(0).float()[None, None].to(device)


@dataclass(frozen=True)
class Placement:
    """Where a crop goes back to, worked out once a portrait.

    Attributes:
        size: rows and columns of the picture.
        box: top, left, bottom, right of the part that the crop touches.
        grid: [1, h, w, 2] places of the part's pixels in the crop.
        mask: [1, 1, h, w] share of the crop in them.
        matrix: [3, 3] pixels of the part -> pixels of the crop.
    """

    size: tuple[int, int]
    box: tuple[int, int, int, int]
    grid: Tensor
    mask: Tensor
    matrix: Tensor

    @staticmethod
    def of(to_crop: Tensor, side: int, size: tuple[int, int], device=None,
           mask: Tensor | None = None, within: tuple[float, float, float, float] | None = None) -> Placement:
        """From M_o2c [3, 3] for a crop of ``side`` pixels and a picture of ``size`` (rows, columns).

        ``within`` is left, top, right and bottom of the part of the crop beyond which the mask is zero, pixels.
        """
        to_crop = to_crop.double().cpu()
        left, top, right, bottom = (-1.0, -1.0, side, side) if within is None else within
        left, top, right, bottom = max(left, -1.0), max(top, -1.0), min(right, side), min(bottom, side)
        corners = torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)
        inverse = torch.linalg.inv(to_crop)
        corners = corners @ inverse[:2, :2].T + inverse[:2, 2]
        left, top = (max(0, int(value)) for value in corners.amin(dim=0).floor().tolist())
        right, bottom = (int(value) + 1 for value in corners.amax(dim=0).ceil().tolist())
        right, bottom = min(right, size[1]), min(bottom, size[0])
        right, bottom = max(right, left), max(bottom, top)
        matrix = to_crop.clone()
        matrix[:2, 2] += matrix[:2, :2] @ torch.tensor([left, top], dtype=torch.float64)
        part = (bottom - top, right - left)
        block = _block(matrix)
        reduced = (-(-side // block), -(-side // block))
        grid = places(matrix, part, reduced, block, device)
        mask = paste_mask(side, device) if mask is None else mask.to(device)
        share = warp(mask, matrix, part, grid)
        if block > 1:
            # Where the crop is reduced, the mask's ramp is so short that the black beyond the crop would show in the
            # rim: its last pixels go on instead. By hand, since not every device offers that way of padding.
            inside = torch.tensor([1 - 1 / reduced[1], 1 - 1 / reduced[0]], device=grid.device)
            grid = torch.minimum(torch.maximum(grid, -inside), inside).contiguous()
        return Placement(size, (top, left, bottom, right), grid, share, matrix)

    def to(self, device) -> Placement:
        """The same on ``device``."""
        return Placement(self.size, self.box, self.grid.to(device), self.mask.to(device), self.matrix)

    def paste(self, crops: Tensor, picture: Tensor) -> Tensor:
        """Crops laid into copies of a picture.

        Args:
            crops: [B, 3, side, side] 0..1.
            picture: [3, H, W] float32.

        Returns:
            [B, H, W, 3] float32; where the mask is zero the picture is kept bit for bit.
        """
        top, left, bottom, right = self.box
        out = picture.permute(1, 2, 0).expand(len(crops), -1, -1, -1).clone()
        if bottom > top and right > left:
            part = warp(crops.float(), self.matrix, (bottom - top, right - left), self.grid)
            behind = picture[None, :, top:bottom, left:right]
            part = torch.lerp(behind.expand_as(part), part.clamp(0, 1), self.mask.expand_as(part))
            out[:, top:bottom, left:right] = part.permute(0, 2, 3, 1)
        return out
