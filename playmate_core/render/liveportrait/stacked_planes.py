"""The dense motion network laid out for graphics cards: the same function, volumes as stacks of planes.

Matrix units want channels last in memory, in multiples of eight, and planes rather than volumes: libraries' 2D
convolutions are tuned best. A 3 x 3 x 3 convolution is a 3 x 3 one over three neighbouring planes' channels, so a
volume [B, C, D, H, W] is kept as [B * D, C', H, W] with channels last, C' = C filled up with channels that stay zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...runtime.sampling import sample
from .source import WarpSource, coordinates, gaussians
from .upsampled import NarrowConv2d, UpsampledConv

EIGHT = 8
"""Channels that a matrix unit takes at once in half precision."""


def filled(count: int) -> int:
    """``count`` rounded up to whole blocks of ``EIGHT``."""
    return -(-count // EIGHT) * EIGHT


def channels_last(conv: nn.Conv2d) -> nn.Conv2d:
    return conv.to(memory_format=torch.channels_last)


def _conv2d(weight: Tensor, bias: Tensor | None, padding: int) -> nn.Conv2d:
    """A frozen convolution with the given weights [out, in, k, k]."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=padding, bias=bias is not None,
                     device="meta")
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return channels_last(conv)


def spread(weight: Tensor, dim: int, places: list[int], size: int) -> Tensor:
    """``weight`` with its channels along ``dim`` at ``places`` of ``size``, zeros between."""
    shape = list(weight.shape)
    shape[dim] = size
    return weight.new_zeros(shape).index_copy_(dim, torch.tensor(places, device=weight.device), weight)


class PlaneConv(nn.Module):
    """A 3 x 3 x 3 convolution with "same" padding on planes.

    Args:
        weight: [out, in, 3, 3, 3]; both counts filled up already.
        bias: [out].
        depth: planes of a volume.
        enlarge: 2 where the planes are enlarged by repetition first.
    """

    def __init__(self, weight: Tensor, bias: Tensor, depth: int, enlarge: int = 1) -> None:
        super().__init__()
        self.depth = depth
        flat = _conv2d(weight.permute(0, 2, 1, 3, 4).flatten(1, 2), bias, 1)
        self.conv = flat if enlarge == 1 else UpsampledConv(flat, enlarge).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """[B * D, in, H, W] -> [B * D, out, H, W], both with channels last."""
        planes = x.permute(0, 2, 3, 1).unflatten(0, (-1, self.depth))
        around = F.pad(planes, (0, 0, 0, 0, 0, 0, 1, 1))
        seen = torch.cat([around[:, shift:shift + self.depth] for shift in range(3)], dim=-1)
        return self.conv(seen.flatten(0, 1).permute(0, 3, 1, 2))


class PlanarDenseMotion(nn.Module):
    """Stands in for a ``DenseMotion`` without its batch norms; called like it.

    Args:
        dense: the loaded network, its batch norms folded and its hourglass otherwise as published.
        depth: planes of the feature volume.
    """

    def __init__(self, dense: nn.Module, depth: int) -> None:
        super().__init__()
        self.compress, self.depth = dense.compress, depth
        slots, compressed = dense.mask.out_channels, dense.compress.out_channels
        self.slots = slots
        # What the network sees, in the order in which it is put together here: all heat, then the moved volumes,
        # channel by channel. The published order is heat and volume slot by slot.
        order = [slot * (compressed + 1) + part for part in range(compressed + 1) for slot in range(slots)]
        seen = len(order)
        self.empty = filled(seen) - seen
        places = [order.index(channel) for channel in range(seen)]
        glass = dense.hourglass
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        into, size = places, seen + self.empty
        skips = [(into, size)]
        for block in glass.encoder.down_blocks:
            into, size = self._add(self.down, block.conv, into, size)
            skips.append((into, size))
        skips.pop()
        for block in glass.decoder.up_blocks:
            after, above = self._add(self.up, block.conv, into, size, enlarge=2)
            beside, room = skips.pop()
            into, size = after + [above + place for place in beside], above + room
        self.last = nn.ModuleList()
        into, size = self._add(self.last, glass.decoder.conv, into, size)
        self._mask(dense.mask, into, size)
        self.occlusion = None
        if dense.occlusion is not None:
            # Channel c * D + d of the published layout is channel c of plane d here: planes go first.
            weight = dense.occlusion.weight.detach().unflatten(1, (-1, depth)).transpose(1, 2)
            weight = spread(weight, 2, into, size).flatten(1, 2)
            self.occlusion = NarrowConv2d(_conv2d(weight, dense.occlusion.bias.detach(),
                                                  dense.occlusion.padding[0]), EIGHT)

    def _add(self, blocks: nn.ModuleList, conv: nn.Conv3d, into: list[int], size: int,
             enlarge: int = 1) -> tuple[list[int], int]:
        """Appends ``conv``, whose inputs lie at ``into`` of ``size`` channels; returns the same of its outputs."""
        after = list(range(conv.out_channels))
        weight = spread(spread(conv.weight.detach(), 1, into, size), 0, after, filled(len(after)))
        bias = spread(conv.bias.detach(), 0, after, filled(len(after)))
        blocks.append(PlaneConv(weight, bias, self.depth, enlarge))
        return after, len(bias)

    def _mask(self, mask: nn.Conv3d, into: list[int], size: int) -> None:
        # One 2D convolution to every output of every tap along the depth, as in upsampled.WideConv3d.
        weight = spread(mask.weight.detach(), 1, into, size).permute(2, 0, 1, 3, 4)
        self.taps = weight.shape[0]
        outputs = self.taps * self.slots
        self.mask = _conv2d(spread(weight.flatten(0, 1), 0, list(range(outputs)), filled(outputs)), None,
                            mask.padding[1])
        self.mask_bias = nn.Parameter(mask.bias.detach().clone(), requires_grad=False)

    def set_size(self, height: int, width: int) -> None:
        """See ``WarpingModule.set_size``."""
        for number, block in enumerate(self.up):
            halvings = len(self.up) - number
            block.conv.set_size(height >> halvings, width >> halvings)

    def source(self, volume: Tensor, kp_source: Tensor) -> WarpSource:
        """As ``DenseMotion.source``."""
        kp_source = kp_source.float()
        heat = gaussians(coordinates(volume.shape[2:], volume.device), kp_source)
        return WarpSource(volume, F.relu(self.compress(volume)), kp_source, heat)

    def forward(self, source: WarpSource, kp_driving: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As ``DenseMotion.forward``."""
        kp_driving = kp_driving.float()
        frames = len(kp_driving)
        grid = coordinates(source.volume.shape[2:], kp_driving.device)
        shift = F.pad(source.keypoints - kp_driving, (0, 0, 1, 0))
        x = self._see(source, grid, kp_driving, shift).flatten(0, 1).permute(0, 3, 1, 2)
        skips = [x]
        for block in self.down:
            skips.append(F.avg_pool2d(block(skips[-1]).relu_(), 2))
        x = skips.pop()
        for block in self.up:
            x = torch.cat([block(x).relu_(), skips.pop()], dim=1)
        x = self.last[0](x).relu_()
        weights = self._weights(x)
        # sum_k mask_k (grid + shift_k) with masks that sum to one.
        deformation = torch.bmm(weights.flatten(1, 3), shift).reshape(frames, *grid.shape) + grid
        occlusion = None
        if self.occlusion is not None:
            planes = x.unflatten(0, (frames, self.depth)).permute(0, 3, 4, 1, 2).flatten(3)
            occlusion = self.occlusion(planes.permute(0, 3, 1, 2)).sigmoid()
        return weights.permute(0, 4, 1, 2, 3), deformation, occlusion

    def _see(self, source: WarpSource, grid: Tensor, kp_driving: Tensor, shift: Tensor) -> Tensor:
        """[B, D, H, W, C'] heat and the compressed volume under every candidate grid."""
        frames, (depth, height, width) = len(kp_driving), grid.shape[:3]
        dtype = source.compressed.dtype
        heat = (gaussians(grid, kp_driving) - source.heat).to(dtype).permute(0, 2, 3, 4, 1)
        # The candidates lie one behind the other along the depth of a single grid, one for each portrait.
        candidates = (grid + shift[:, :, None, None, None]).reshape(len(source.compressed), -1, height, width, 3)
        moved = sample(source.compressed, candidates).transpose(0, 1)
        moved = moved.reshape(-1, frames, self.slots, depth, height, width).permute(1, 3, 4, 5, 0, 2).flatten(4)
        rim = heat.new_zeros(()).expand(*heat.shape[:4], 1)
        return torch.cat([rim, heat, moved, rim.expand(*heat.shape[:4], self.empty)], dim=-1)

    def _weights(self, x: Tensor) -> Tensor:
        """[B * D, C', H, W] -> [B, D, H, W, K + 1] float32 masks."""
        slices = self.mask(x).permute(0, 2, 3, 1)[..., :self.taps * self.slots]
        slices = slices.unflatten(0, (-1, self.depth)).unflatten(-1, (self.taps, self.slots))
        out = self.mask_bias.float().expand(*slices.shape[:4], -1).clone()
        for tap in range(self.taps):
            offset = tap - self.taps // 2
            first, last = max(0, -offset), min(self.depth, self.depth - offset)
            if first < last:
                out[:, first:last] += slices[:, first + offset:last + offset, ..., tap, :]
        return out.softmax(dim=-1)

