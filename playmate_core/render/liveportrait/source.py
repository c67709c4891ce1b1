"""What the warping module knows of a portrait, and the geometry of its grid (SPEC.md section 4.1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

KEYPOINT_VARIANCE = 0.01


@dataclass
class WarpSource:
    """What W needs of a portrait and what never changes with the frame.

    Attributes:
        volume: [1, C, D, H, W] feature volume.
        compressed: [1, c, D, H, W] its few channels that the dense motion network looks at.
        keypoints: [1, K, 3] float32.
        heat: [1, K, D, H, W] float32 their Gaussians.
    """

    volume: Tensor
    compressed: Tensor
    keypoints: Tensor
    heat: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The attributes, in their order."""
        return self.volume, self.compressed, self.keypoints, self.heat

    def to(self, *args, **kwargs) -> WarpSource:
        """Moved, and with the volumes in another dtype if one is named; keypoints stay float32."""
        volume, compressed = self.volume.to(*args, **kwargs), self.compressed.to(*args, **kwargs)
        return dataclasses.replace(self, volume=volume, compressed=compressed,
                                   keypoints=self.keypoints.to(volume.device), heat=self.heat.to(volume.device))


def coordinates(size, device=None) -> Tensor:
    """[D, H, W, 3] coordinates (x, y, z) of a volume's cells, end points at -1 and 1; contiguous."""
    axes = [torch.linspace(-1, 1, n, device=device) if n > 1 else torch.full((1,), -1.0, device=device) for n in size]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([x, y, z], dim=-1).contiguous()


def gaussians(grid: Tensor, keypoints: Tensor) -> Tensor:
    """[D, H, W, 3] and [B, K, 3] -> [B, K, D, H, W] exp(-|grid - keypoint|^2 / (2 * 0.01)), axis by axis."""
    axes = (grid[:, 0, 0, 2], grid[0, :, 0, 1], grid[0, 0, :, 0])
    z, y, x = (torch.exp((axis - keypoints[..., which, None]) ** 2 * (-0.5 / KEYPOINT_VARIANCE))
               for axis, which in zip(axes, (2, 1, 0), strict=True))
    return z[..., :, None, None] * y[..., None, :, None] * x[..., None, None, :]
