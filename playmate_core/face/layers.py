"""Small pieces that the face networks share."""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv2dSame(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": where the padding is odd, the extra row and column go last.

    ``nn.Conv2d``'s symmetric padding would shift the feature maps of strided layers by half a pixel.
    """

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for axis in (1, 0):  # F.pad counts from the last
            size, kernel, stride = x.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def pad_channels(x: Tensor, channels: int) -> Tensor:
    """[B, C, H, W] -> [B, channels, H, W], the new channels zero."""
    extra = channels - x.shape[1]
    return F.pad(x, (0, 0, 0, 0, 0, extra)) if extra else x


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Within it torch computes on one CPU thread; afterwards the caller's number is back.

    The layers are so small that handing work to other threads costs more than it saves: on a busy two-core machine
    two spinning OpenMP threads made one mesh pass a hundred times slower. Other devices are left alone.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
