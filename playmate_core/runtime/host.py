"""Large networks on a device: put there once, or kept by a program that manages memory for many models."""

from __future__ import annotations

from typing import Callable, Protocol

import torch
from torch import nn


class Host(Protocol):
    """A program that manages the memory of many models, and takes networks over."""

    def __call__(self, network: nn.Module) -> Callable[[int], None]:
        """Takes ``network`` over.

        Returns:
            What is called before the network is used, with the bytes about to be worked with beside the weights. It
            sees to it that the network is on the device then; between two calls it may be anywhere.
        """
        ...


def place_on_device(network: nn.Module, device: str | torch.device, host: Host | None = None) -> Callable[[int], None]:
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
