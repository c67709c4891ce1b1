"""W: the warping module, which moves the feature volume by keypoints (SPEC.md section 4).

The coordinate grid has its end points at -1 and 1 (as ``align_corners=True``) while volumes are sampled with
``align_corners=False``: the published weights were trained so, and it is kept (SPEC.md sections 4.1 and 18.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.sampling import sample
from .blocks import ConvBlock, flatten_depth, fold_batch_norm, halve
from .source import WarpSource, coordinates, gaussians
from .stacked_planes import PlanarDenseMotion
from .upsampled import NarrowConv2d, UpsampledConv, WideConv3d


@dataclass(frozen=True)
class DenseMotionConfig:
    """Sizes of the dense motion network; names and defaults as published."""

    block_expansion: int = 32
    max_features: int = 1024
    num_blocks: int = 5
    reshape_depth: int = 16
    compress: int = 4


@dataclass(frozen=True)
class WarpingConfig:
    """Sizes of W; names and defaults as published."""

    num_kp: int = 21
    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    reshape_channel: int = 32
    estimate_occlusion_map: bool = True
    dense_motion_params: DenseMotionConfig = field(default_factory=DenseMotionConfig)

    def __post_init__(self) -> None:
        if isinstance(self.dense_motion_params, dict):
            object.__setattr__(self, "dense_motion_params", DenseMotionConfig(**self.dense_motion_params))

    @staticmethod
    def of(weights: dict[str, Tensor]) -> WarpingConfig:
        """Read off a state dict. Block expansion and the number of down blocks enter only by their product."""
        dense, down = "dense_motion_network.", "dense_motion_network.hourglass.encoder.down_blocks."
        compress, channels = weights[dense + "compress.weight"].shape[:2]
        slots, seen = weights[dense + "mask.weight"].shape[:2]
        blocks = len({key[len(down):].split(".")[0] for key in weights if key.startswith(down)})
        widths = [weights[f"{down}{i}.conv.weight"].shape[0] for i in range(blocks)]
        third = weights["third.conv.weight"].shape
        halvings = 2 if third[0] % 4 == 0 else 0
        return WarpingConfig(
            slots - 1, third[0] >> halvings, third[1], halvings, channels, dense + "occlusion.weight" in weights,
            DenseMotionConfig(seen - slots * (compress + 1), max(widths), blocks, third[1] // channels, compress))


class Hourglass(nn.Module):
    """3D U-Net whose depth axis keeps its length; names of its parts as published."""

    def __init__(self, channels: int, config: DenseMotionConfig) -> None:
        super().__init__()
        def width(i: int) -> int:
            return min(config.max_features, config.block_expansion * 2**i)

        blocks = range(config.num_blocks)
        self.encoder = nn.Module()
        self.encoder.down_blocks = nn.ModuleList(
            ConvBlock(3, width(i) if i else channels, width(i + 1)) for i in blocks)
        self.decoder = nn.Module()
        self.decoder.up_blocks = nn.ModuleList(
            ConvBlock(3, (1 if i == config.num_blocks - 1 else 2) * width(i + 1), width(i)) for i in reversed(blocks))
        self.out_channels = config.block_expansion + channels
        self.decoder.conv = nn.Conv3d(self.out_channels, self.out_channels, 3, padding=1)
        self.decoder.norm = nn.BatchNorm3d(self.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        skips = [x]
        for block in self.encoder.down_blocks:
            skips.append(halve(block(skips[-1])))
        x = skips.pop()
        for block in self.decoder.up_blocks:
            if isinstance(block, UpsampledConv):
                x = F.relu(block(x))
            else:
                x = block(F.interpolate(x, scale_factor=(1, 2, 2)))
            x = torch.cat([x, skips.pop()], dim=1)
        return F.relu(self.decoder.norm(self.decoder.conv(x)))

    def fold(self, enlarge: bool = True) -> None:
        """Folds the batch norms; with ``enlarge`` also puts the upsampling behind the convolutions."""
        for block in [*self.encoder.down_blocks, *self.decoder.up_blocks]:
            block.fold()
        if enlarge:
            for number, block in enumerate(self.decoder.up_blocks):
                self.decoder.up_blocks[number] = UpsampledConv(block.conv, 2)
        self.decoder.conv = fold_batch_norm(self.decoder.conv, self.decoder.norm)
        self.decoder.norm = nn.Identity()


class DenseMotion(nn.Module):
    """Keypoints to a deformation of the volume and a map of what it hides."""

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        dense = config.dense_motion_params
        slots = config.num_kp + 1
        self.compress = nn.Conv3d(config.reshape_channel, dense.compress, 1)
        self.norm = nn.BatchNorm3d(dense.compress)
        self.hourglass = Hourglass(slots * (dense.compress + 1), dense)
        seen = self.hourglass.out_channels
        self.mask = nn.Conv3d(seen, slots, 7, padding=3)
        self.occlusion = None
        if config.estimate_occlusion_map:
            self.occlusion = nn.Conv2d(seen * dense.reshape_depth, 1, 7, padding=3)

    def source(self, volume: Tensor, kp_source: Tensor) -> WarpSource:
        kp_source = kp_source.float()
        heat = gaussians(coordinates(volume.shape[2:], volume.device), kp_source)
        return WarpSource(volume, F.relu(self.norm(self.compress(volume))), kp_source, heat)

    def forward(self, source: WarpSource, kp_driving: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """[B, K, 3] -> mask [B, K + 1, D, H, W] and deformation [B, D, H, W, 3] float32, occlusion [B, 1, H, W]."""
        kp_driving = kp_driving.float()
        frames, count = kp_driving.shape[:2]
        grid = coordinates(source.volume.shape[2:], kp_driving.device)
        size = grid.shape[:3]
        # The candidate grids are the identity moved by one number a keypoint: they are never kept as a whole.
        shift = F.pad(source.keypoints - kp_driving, (0, 0, 1, 0))
        heat = F.pad(gaussians(grid, kp_driving) - source.heat, (0, 0, 0, 0, 0, 0, 1, 0))
        moved = self._deformed(source.compressed, grid, shift)
        seen = torch.cat([heat.to(moved.dtype)[:, :, None], moved], dim=2)
        seen = self.hourglass(seen.reshape(frames, -1, *size))
        mask = self.mask(seen).float().softmax(dim=1)
        # sum_k mask_k (grid + shift_k) with masks that sum to one.
        deformation = torch.einsum("bkn,bkc->bnc", mask.flatten(2), shift).reshape(frames, *size, 3) + grid
        occlusion = None
        if self.occlusion is not None:
            occlusion = self.occlusion(flatten_depth(seen)).sigmoid()
        return mask, deformation, occlusion

    @staticmethod
    def _deformed(compressed: Tensor, grid: Tensor, shift: Tensor) -> Tensor:
        """[B, K + 1, c, D, H, W] the compressed volume under each candidate grid."""
        frames, slots = shift.shape[:2]
        candidates = (grid + shift[:, :, None, None, None]).flatten(0, 1)
        if len(compressed) == 1:
            # One portrait for all: the candidates lie one behind the other along the depth of a single grid.
            depth, height, width, _ = grid.shape
            stacked = candidates.reshape(1, -1, height, width, 3)
            moved = sample(compressed, stacked)[0].reshape(-1, frames, slots, depth, height, width)
            return moved.permute(1, 2, 0, 3, 4, 5)
        repeated = compressed.repeat_interleave(slots, dim=0)
        return sample(repeated, candidates).reshape(frames, slots, *compressed.shape[1:])


class WarpingModule(nn.Module):
    """W: feature volume and keypoints to what the generator draws from."""

    def __init__(self, config: WarpingConfig = WarpingConfig()) -> None:  # noqa: B008
        super().__init__()
        self.config = config
        self.dense_motion_network = DenseMotion(config)
        after = config.block_expansion * 2**config.num_down_blocks
        self.third = ConvBlock(2, config.max_features, after, slope=0.01)
        self.fourth = nn.Conv2d(after, after, 1)

    def source(self, volume: Tensor, kp_source: Tensor) -> WarpSource:
        """What stays the same over a clip: [B, C, D, H, W] and [B, K, 3]; B is 1 for one portrait."""
        return self.dense_motion_network.source(volume, kp_source)

    def forward(self, source: WarpSource, kp_driving: Tensor) -> dict[str, Tensor | None]:
        """One frame a row of ``kp_driving``.

        Args:
            source: of one portrait, or of as many as there are frames.
            kp_driving: [B, K, 3].

        Returns:
            out [B, be * 2^n, H, W], occlusion_map [B, 1, H, W] or None, deformation [B, D, H, W, 3] float32 and mask
            [B, K + 1, D, H, W] float32.
        """
        mask, deformation, occlusion = self.dense_motion_network(source, kp_driving)
        volume = source.volume.expand(len(kp_driving), -1, -1, -1, -1)
        out = self.fourth(self.third(flatten_depth(sample(volume, deformation))))
        if occlusion is not None:
            out = out * occlusion
        return {"out": out, "occlusion_map": occlusion, "deformation": deformation, "mask": mask}

    def set_size(self, height: int, width: int) -> None:
        """Makes the tables that the network laid out in stacked planes needs for features of this size."""
        if isinstance(self.dense_motion_network, PlanarDenseMotion):
            self.dense_motion_network.set_size(height, width)

    def fold(self, stacked_planes: bool = False) -> None:
        """Folds batch norms, and convolves before upsampling instead of after it. Once, after loading.

        Args:
            stacked_planes: lays the network out for graphics cards (see stacked_planes.py).
        """
        dense = self.dense_motion_network
        if not isinstance(dense, DenseMotion) or isinstance(dense.norm, nn.Identity):
            return
        dense.compress, dense.norm = fold_batch_norm(dense.compress, dense.norm), nn.Identity()
        dense.hourglass.fold(enlarge=not stacked_planes)
        self.third.fold()
        if stacked_planes:
            self.dense_motion_network = PlanarDenseMotion(dense, self.config.dense_motion_params.reshape_depth)
            for conv in (self.third, self.fourth):
                conv.to(memory_format=torch.channels_last)
            return
        dense.mask = WideConv3d(dense.mask)
        if dense.occlusion is not None:
            dense.occlusion = NarrowConv2d(dense.occlusion)
