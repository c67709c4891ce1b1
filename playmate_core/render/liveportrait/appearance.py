"""F: the appearance feature extractor, a picture to a feature volume (SPEC.md section 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock


@dataclass(frozen=True)
class AppearanceConfig:
    """Sizes of F; names and defaults as published."""

    image_channel: int = 3
    block_expansion: int = 64
    num_down_blocks: int = 2
    max_features: int = 512
    reshape_channel: int = 32
    reshape_depth: int = 16
    num_resblocks: int = 6

    @staticmethod
    def of(weights: dict[str, Tensor]) -> AppearanceConfig:
        """Read off a state dict."""
        first, second = weights["first.conv.weight"].shape, weights["second.weight"].shape
        channels = weights["resblocks_3d.3dr0.conv1.weight"].shape[0]
        return AppearanceConfig(
            first[1], first[0], len({key.split(".")[1] for key in weights if key.startswith("down_blocks.")}),
            second[0], channels, second[0] // channels,
            len({key.split(".")[1] for key in weights if key.startswith("resblocks_3d.")}))


class Residual3d(nn.Module):
    """Pre-activation residual block on volumes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm3d(channels)
        self.norm2 = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


class AppearanceExtractor(nn.Module):
    """F. It runs once a portrait, so nothing in it is fused."""

    def __init__(self, config: AppearanceConfig = AppearanceConfig()) -> None:  # noqa: B008
        super().__init__()
        self.config = config
        widths = [min(config.max_features, config.block_expansion * 2**i) for i in range(config.num_down_blocks + 1)]
        self.first = ConvBlock(2, config.image_channel, config.block_expansion)
        self.down_blocks = nn.ModuleList(
            ConvBlock(2, a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.second = nn.Conv2d(widths[-1], config.max_features, 1)
        self.resblocks_3d = nn.Sequential()
        for number in range(config.num_resblocks):
            self.resblocks_3d.add_module(f"3dr{number}", Residual3d(config.reshape_channel))

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] RGB 0..1 -> [B, reshape_channel, reshape_depth, H / 2^n, W / 2^n] (32, 16, 64, 64)."""
        x = self.first(image)
        for block in self.down_blocks:
            x = F.avg_pool2d(block(x), 2)
        x = self.second(x)
        return self.resblocks_3d(x.reshape(len(x), self.config.reshape_channel, -1, *x.shape[2:]))
