"""Building blocks that F and W share (SPEC.md section 1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU or leaky ReLU, on pictures (``axes`` 2) or volumes (3)."""

    def __init__(self, axes: int, before: int, after: int, slope: float = 0.0) -> None:
        super().__init__()
        self.conv = (nn.Conv2d if axes == 2 else nn.Conv3d)(before, after, 3, padding=1)
        self.norm = (nn.BatchNorm2d if axes == 2 else nn.BatchNorm3d)(after)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)

    def fold(self) -> None:
        """Puts the batch norm into the convolution, for good."""
        self.conv, self.norm = fold_batch_norm(self.conv, self.norm), nn.Identity()


@torch.no_grad()
def fold_batch_norm(conv: nn.Conv2d | nn.Conv3d, norm: nn.Module) -> nn.Conv2d | nn.Conv3d:
    """``conv`` with the batch norm that follows it in evaluation mode multiplied in. Changes ``conv`` in place."""
    if isinstance(norm, nn.Identity):
        return conv
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = conv.weight.double() * gain.reshape(-1, *[1] * (conv.weight.ndim - 1))
    bias = (conv.bias.double() - norm.running_mean.double()) * gain + norm.bias.double()
    conv.weight.copy_(weight)
    conv.bias.copy_(bias)
    return conv


def halve(volume: Tensor) -> Tensor:
    """[B, C, D, H, W] averaged over 2 x 2 cells in the plane; the depth stays."""
    return F.avg_pool2d(volume.flatten(1, 2), 2).unflatten(1, volume.shape[1:3])


def flatten_depth(volume: Tensor) -> Tensor:
    """[B, C, D, H, W] -> [B, C * D, H, W], channel c * D + d."""
    return volume.flatten(1, 2)
