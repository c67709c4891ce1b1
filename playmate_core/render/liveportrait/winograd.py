"""3 x 3 convolutions on the CPU with a quarter of the products (Winograd 1980; Lavin and Gray 2016, F(4x4, 3x3)).

A tile of 4 x 4 outputs needs 6 x 6 inputs. Both are read as values of polynomials at six points an axis, where a
convolution is one product a point: 36 instead of 144. torch's CPU library does not choose this by itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE, REACH = 4, 6
POINTS = (0.0, 1.0, -1.0, 0.5, -0.5)
"""Where polynomials are read, besides infinity; halves keep rounding errors smaller than the customary twos."""
LEAST_CHANNELS = 128
TILES_AT_ONCE = 256
"""Tiles worked on together: enough to keep matrix products busy, few enough to stay in the cache."""


def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """(to points [6, 6] of inputs, [6, 3] of kernels, back [4, 6] to outputs), float64.

    Toom and Cook's way: outputs = back @ ((kernels @ g) * (inputs @ d)) for every g and d. ``back`` and ``kernels``
    are evaluations at the points; ``inputs`` is what makes the identity true.
    """
    powers = torch.tensor([[p**k for k in range(REACH)] for p in POINTS], dtype=torch.float64)
    back = torch.cat([powers[:, :TILE].T, torch.eye(TILE, dtype=torch.float64)[:, -1:]], dim=1)
    kernels = torch.cat([powers[:, :3], torch.eye(3, dtype=torch.float64)[-1:]])
    # sum_q back[i, q] kernels[q, k] inputs[q, j] = 1 where j = i + k, else 0: linear in each column of inputs.
    system = torch.einsum("iq,qk->ikq", back, kernels).reshape(-1, REACH)
    wanted = torch.zeros(TILE, 3, REACH, dtype=torch.float64)
    for i in range(TILE):
        for k in range(3):
            wanted[i, k, i + k] = 1.0
    inputs = torch.linalg.lstsq(system, wanted.reshape(-1, REACH)).solution
    return inputs, kernels, back


class WinogradConv(nn.Module):
    """A 3 x 3 convolution with stride 1 and padding 1, float32 on the CPU; [B, C, H, W] -> [B, K, H, W].

    The transformed weights take four times the room of the plain ones, which are not kept.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        inputs, kernels, back = _transforms()
        weight = torch.einsum("pa,qb,kcab->pqkc", kernels, kernels, conv.weight.detach().double())
        self.out_channels = conv.out_channels
        self.weight = nn.Parameter(weight.flatten(0, 1).float().contiguous(), requires_grad=False)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone(), requires_grad=False)
        self.register_buffer("inputs", torch.kron(inputs, inputs).float(), persistent=False)
        self.register_buffer("back", torch.kron(back, back).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        rows, columns = -(-height // TILE), -(-width // TILE)
        padded = F.pad(x, (1, columns * TILE + 1 - width, 1, rows * TILE + 1 - height))
        out = x.new_empty(frames, self.out_channels, rows, TILE, columns, TILE)
        strip = max(1, TILES_AT_ONCE // columns)
        for frame in range(frames):
            for first in range(0, rows, strip):
                count = min(strip, rows - first)
                part = padded[frame, :, first * TILE:(first + count) * TILE + 2]
                tiles = part.unfold(1, REACH, TILE).unfold(2, REACH, TILE).permute(3, 4, 0, 1, 2)
                values = self.inputs @ tiles.reshape(REACH * REACH, -1)
                values = torch.bmm(self.weight, values.reshape(REACH * REACH, channels, -1))
                values = self.back @ values.reshape(REACH * REACH, -1)
                values = values.reshape(TILE, TILE, self.out_channels, count, columns)
                out[frame, :, first:first + count] = values.permute(2, 3, 0, 4, 1)
        out = out.reshape(frames, self.out_channels, rows * TILE, columns * TILE)[..., :height, :width]
        return out if self.bias is None else out + self.bias[:, None, None]


def is_worth_it(conv: nn.Module) -> bool:
    """Whether a module is a convolution that :class:`WinogradConv` does, and wide enough to gain by it: with 128
    channels or more on both sides it takes half of the time to all of it (one core, two cores; larger pictures gain
    less), with 64 on one the transforms take more than they save."""
    return type(conv) is nn.Conv2d and conv.kernel_size == (3, 3) and conv.stride == (1, 1) \
        and conv.padding == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1 \
        and conv.padding_mode == "zeros" and min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS


def replace_convolutions(module: nn.Module) -> None:
    """Puts :class:`WinogradConv` in place of every convolution within ``module`` that gains by it."""
    for name, child in module.named_children():
        if is_worth_it(child):
            setattr(module, name, WinogradConv(child))
        else:
            replace_convolutions(child)
