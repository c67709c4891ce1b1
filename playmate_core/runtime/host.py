"""Large networks on a device: put there once, or kept by a program that manages memory for many models."""

from __future__ import annotations

from typing import Callable, Optional

import torch
from torch import nn

Host = Optional[Callable[[nn.Module], Callable[[int], None]]]
"""Takes networks over. The function it returns is called before they are used, with the bytes about to be worked with
beside the weights, and sees to it that they are on the device then; between two calls they may be anywhere."""


def place_on_device(network: nn.Module, device: str | torch.device, host: Host = None) -> Callable[[int], None]:
    """Puts a network on ``device`` for good, or gives it to ``host``.

    Returns:
        What to call, with the bytes of working memory, whenever the network is about to be used.
    """
    if host is not None:
        return host(network)
    network.to(device)
    return _already_there


def _already_there(working_bytes: int) -> None:
    pass
