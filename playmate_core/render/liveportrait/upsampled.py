"""The same convolutions with less arithmetic.

A 3-wide kernel over a picture that was enlarged s times by repetition sees at most two different cells along an axis.
So it can be replaced by 2-wide kernels over the small picture, one for each place within a cell: exact, and with
2 x 2 instead of 3 x 3 products a pixel. For s above 2 the places inside a cell are all alike and are computed once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _taps(scale: int) -> tuple[Tensor, list[int]]:
    """How kernel entries share cells: [places, 2, 3] sums, and for each place whether its pair begins a cell early."""
    places = list(range(scale)) if scale < 3 else [0, 1, scale - 1]
    table = torch.zeros(len(places), 2, 3, dtype=torch.float64)
    late = []
    for row, place in enumerate(places):
        cells = [(place + tap) // scale for tap in (-1, 0, 1)]
        first = 0 if max(cells) == 1 else -1
        late.append(first + 1)
        for tap, cell in enumerate(cells):
            table[row, cell - first, tap] += 1
    return table, late


def _order(scale: int) -> list[int]:
    """Which computed place stands at each of the s places of a cell."""
    return list(range(scale)) if scale < 3 else [0, *[1] * (scale - 2), 2]


class UpsampledConv(nn.Module):
    """``conv(nearest(x, scale))`` for a 3-wide convolution with padding 1; volumes are enlarged in the plane only.

    Args:
        conv: Conv2d or Conv3d, 3 wide, stride 1, padding 1, not grouped.
        scale: 2 or more.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, scale: int) -> None:
        super().__init__()
        table, self.late = _taps(scale)
        self.order = _order(scale)
        self.scale = scale
        self.channels = conv.out_channels
        self.volume = conv.weight.ndim == 5
        weight = torch.einsum("pay,qbx,...yx->pq...ab", table, table, conv.weight.detach().double().cpu())
        weight = weight.flatten(0, 2).to(conv.weight.dtype)
        bias = conv.bias.detach().repeat(len(self.late) ** 2)
        self.weight = nn.Parameter(weight.to(conv.weight.device), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.register_buffer("index", None, persistent=False)
        self.index_of = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, (D,) H, W] -> [B, out, (D,) s H, s W]."""
        height, width = x.shape[-2:]
        places = len(self.late)
        if self.volume:
            y = F.conv3d(x, self.weight, self.bias, padding=(1, 1, 1))
        else:
            y = F.conv2d(x, self.weight, self.bias, padding=1)
            if y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous():
                return self._channels_last(y, height, width)
        y = y.unflatten(1, (places, places, self.channels))
        out = y.new_empty(*y.shape[:1], self.channels, *x.shape[2:-2], height, self.scale, width, self.scale)
        for row, p in enumerate(self.order):
            for column, q in enumerate(self.order):
                top, left = self.late[p], self.late[q]
                out[..., row, :, column] = y[:, p, q, ..., top:top + height, left:left + width]
        return out.flatten(-4, -3).flatten(-2, -1)

    def set_size(self, height: int, width: int) -> None:
        """Makes the table for pictures of this size, where channels come last. Without it the first call does, and
        the network is compiled a second time for the second."""
        if self.index is None or self.index_of != (height, width) or self.index.device != self.weight.device:
            self.index, self.index_of = self._index(height, width).to(self.weight.device), (height, width)

    def _channels_last(self, y: Tensor, height: int, width: int) -> Tensor:
        """The places laid out in one look-up, without taking the channels of a pixel apart."""
        self.set_size(height, width)
        flat = y.permute(0, 2, 3, 1).reshape(len(y), -1, self.channels)
        out = flat.index_select(1, self.index)
        return out.reshape(len(y), height * self.scale, width * self.scale, self.channels).permute(0, 3, 1, 2)

    def _index(self, height: int, width: int) -> Tensor:
        """[s height * s width] where each pixel lies among the computed places of all cells."""
        order, late, places = torch.tensor(self.order), torch.tensor(self.late), len(self.late)
        y, x = (torch.arange(side * self.scale) for side in (height, width))
        p, q = order[y % self.scale], order[x % self.scale]
        row, column = y // self.scale + late[p], x // self.scale + late[q]
        cell = row[:, None] * (width + 1) + column
        return ((cell * places + p[:, None]) * places + q).flatten()


class WideConv3d(nn.Module):
    """A 3D convolution with few outputs as one 2D convolution with many, and a sum over depth.

    Matrix units work on blocks of outputs; the mask's 22 would leave most of a block idle.

    Args:
        conv: Conv3d with an odd kernel and "same" padding.
    """

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.channels, self.reach = conv.out_channels, conv.kernel_size[0] // 2
        self.padding = conv.padding[1:]
        weight = conv.weight.detach().permute(2, 0, 1, 3, 4).flatten(0, 1)
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, D, H, W] -> [B, out, D, H, W]."""
        frames, depth = x.shape[0], x.shape[2]
        slices = F.conv2d(x.transpose(1, 2).flatten(0, 1), self.weight, padding=self.padding)
        slices = slices.reshape(frames, depth, 2 * self.reach + 1, self.channels, *slices.shape[-2:])
        out = self.bias[None, None, :, None, None].expand(frames, depth, -1, *slices.shape[-2:]).clone()
        for tap in range(2 * self.reach + 1):
            offset = tap - self.reach
            first, last = max(0, -offset), min(depth, depth - offset)
            if first < last:
                out[:, first:last] += slices[:, first + offset:last + offset, tap]
        return out.transpose(1, 2)


class NarrowConv2d(nn.Module):
    """A wide kernel over many channels to very few: one product a kernel entry, then a sum of shifted maps.

    Convolution routines work on blocks of outputs and do one output as slowly as sixteen.

    Args:
        conv: Conv2d with stride 1 and "same" padding.
        block: the products are filled up with zeros to a multiple of this.
    """

    def __init__(self, conv: nn.Conv2d, block: int = 1) -> None:
        super().__init__()
        self.kernel, self.padding = conv.kernel_size, conv.padding
        # fold() adds entry k of place i to place i + k: the kernel runs backwards.
        weight = conv.weight.detach().flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)[..., None, None]
        self.products = len(weight)
        weight = torch.cat([weight, weight.new_zeros(-len(weight) % block, *weight.shape[1:])])
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(conv.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out, H, W]; summed in float32."""
        maps = F.conv2d(x, self.weight)[:, :self.products].float().flatten(2)
        add = F.fold if x.device.type in ("cpu", "cuda") else shifted_sum
        summed = add(maps, x.shape[-2:], self.kernel, padding=self.padding)
        return (summed + self.bias[:, None, None].float()).to(x.dtype)


def shifted_sum(maps: Tensor, size: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """``F.fold`` with stride 1 by plain additions, for devices on which some versions of torch lack it (Apple's)."""
    height, width = size
    maps = maps.reshape(len(maps), -1, kernel[0] * kernel[1], height, width)
    out = maps.new_zeros(len(maps), maps.shape[1], height + 2 * padding[0], width + 2 * padding[1])
    for place in range(maps.shape[2]):
        y, x = divmod(place, kernel[1])
        out[..., y:y + height, x:x + width] += maps[:, :, place]
    return out[..., padding[0]:padding[0] + height, padding[1]:padding[1] + width]
