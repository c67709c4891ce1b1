"""What a device could do at best: operations and bytes counted launch by launch, against measured peaks."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = frozenset((
    "view", "_unsafe_view", "reshape", "_reshape_alias", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze",
    "slice", "select", "split", "split_with_sizes", "unflatten", "alias", "detach", "as_strided", "unfold", "unbind",
    "chunk", "narrow", "empty", "new_empty", "empty_like", "empty_strided", "lift_fresh"))
"""Operations that only look at memory in another way, or claim it."""


@dataclass
class Counter(TorchDispatchMode):
    """Notes (operations, bytes read and written) of every launch within it.

    Convolutions and matrix products count a multiplication and an addition as two operations; everything else counts
    by its bytes alone.
    """

    launches: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._schema.name.split("::")[1] not in FREE:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            count = flop_registry.get(func.overloadpacket)
            operations = 0 if count is None else count(*args, **(kwargs or {}), out_val=out)
            self.launches.append((operations, sum(tensor.numel() * tensor.element_size() for tensor in tensors)))
        return out

    @property
    def operations(self) -> int:
        return sum(operations for operations, _ in self.launches)

    @property
    def bytes(self) -> int:
        return sum(count for _, count in self.launches)

    def seconds_at(self, operations_a_second: float, bytes_a_second: float) -> float:
        """Least time: every launch at whichever of both peaks binds it, one after the other."""
        return sum(max(operations / operations_a_second, count / bytes_a_second)
                   for operations, count in self.launches)


def finish(device: torch.device) -> None:
    """Waits until everything is done that a device was asked for."""
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def timed(call, device: torch.device, runs: int, warm_up: int = 3) -> float:
    """Median seconds of a call that is finished on the device."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(runs):
        finish(device)
        start = time.perf_counter()
        call()
        finish(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_operations(device: torch.device, dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second of a large matrix product of random numbers."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, device, 20)


def peak_bytes(device: torch.device, megabytes: int = 2048) -> float:
    """Bytes read and written a second by a copy that no cache holds."""
    source = torch.empty(megabytes * 2**20, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.numel() / timed(lambda: target.copy_(source), device, 20)
