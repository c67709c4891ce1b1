"""Pictures as tensors, and rotated square crops out of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..runtime import sampling
from ..runtime.errors import PlaymateError

BACKDROP = 0.5
"""Grey behind transparent pixels: dark and light hair both stay visible on it, which neither black nor white grants."""


def as_rgb(image: Tensor) -> Tensor:
    """Any ComfyUI-like picture as RGB.

    Args:
        image: [H, W] or [H, W, C] with C 1 (grey), 3 (RGB) or 4 (RGBA), 0 to 1; integers count as 0 to 255.

    Returns:
        [H, W, 3] float32 within 0..1. Transparency is composited over mid grey; NaN becomes mid grey.

    Raises:
        PlaymateError: another shape, or a picture without pixels.
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or image.numel() == 0:
        raise PlaymateError(f"A picture of shape {list(image.shape)} cannot be read; give it as "
                            "[height, width, channels] with 1, 3 or 4 channels and at least one pixel.")
    if not image.is_floating_point():
        image = image.float() / 255
    image = torch.nan_to_num(image.float(), nan=BACKDROP, posinf=1.0, neginf=0.0).clamp(0, 1)
    if image.shape[-1] == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + BACKDROP * (1 - alpha)
    return image.expand(-1, -1, 3)


@dataclass(frozen=True)
class Roi:
    """A rotated square in a picture, pixels (pixel centres at integer + 0.5).

    Attributes:
        x, y: centre.
        size: length of a side.
        angle: by how much the square's own x axis is turned from the picture's, radians, clockwise on the screen.
    """

    x: float
    y: float
    size: float
    angle: float = 0.0

    def matrix(self) -> Tensor:
        """[2, 3] from fractions of the square (0..1, x right and y down along its own axes) to picture pixels."""
        c, s = math.cos(self.angle) * self.size, math.sin(self.angle) * self.size
        return torch.tensor([[c, -s, self.x - (c - s) / 2], [s, c, self.y - (s + c) / 2]])

    def to_picture(self, points: Tensor) -> Tensor:
        """Points [..., 2 or 3] in fractions of the square -> picture pixels; a third coordinate is scaled."""
        matrix = self.matrix()
        flat = points[..., :2] @ matrix[:, :2].T + matrix[:, 2]
        return torch.cat([flat, points[..., 2:] * self.size], -1)

    def usable(self, height: int, width: int) -> bool:
        """Whether the square is finite, at least a pixel large, and touches the picture at all."""
        reach = self.size * 0.75
        return (all(map(math.isfinite, (self.x, self.y, self.size, self.angle))) and 1 <= self.size <= 64 * (
            height + width) and -reach < self.x < width + reach and -reach < self.y < height + reach)


def sample(image: Tensor, roi: Roi, side: int, padding: str) -> Tensor:
    """The square ``roi`` of a picture, resampled.

    Bilinear; where the picture is reduced it is first averaged over whole blocks of pixels, so that fine texture
    does not turn into noise on the landmarks.

    Args:
        image: [H, W, 3].
        roi: the square, in pixels of ``image``.
        side: output size, pixels.
        padding: what lies outside the picture, "zeros" or "border", as in ``grid_sample``.

    Returns:
        [3, side, side].
    """
    height, width = image.shape[:2]
    reach = roi.size * (abs(math.cos(roi.angle)) + abs(math.sin(roi.angle))) / 2
    block = max(1, int(roi.size / side))
    margin = 2 * block
    x0, x1 = (min(max(int(roi.x + side_of * (reach + margin)), 0), width) for side_of in (-1, 1))
    y0, y1 = (min(max(int(roi.y + side_of * (reach + margin)), 0), height) for side_of in (-1, 1))
    x0, y0, x1, y1 = min(x0, width - 1), min(y0, height - 1), max(x1, 1), max(y1, 1)
    part = image[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)].permute(2, 0, 1)[None]
    if block > 1:
        part = F.avg_pool2d(part, block, ceil_mode=True)
    axis = (torch.arange(side, device=image.device) + 0.5) / side
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    matrix = roi.matrix().to(image.device)
    pixels = torch.stack([u, v], -1) @ matrix[:, :2].T + matrix[:, 2]
    local = (pixels - torch.tensor([x0, y0], device=image.device)) / block
    extent = torch.tensor([part.shape[-1], part.shape[-2]], device=image.device)
    return sampling.sample(part, (local * 2 / extent - 1)[None], padding)[0]
