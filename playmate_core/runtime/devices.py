"""Which device computes, and how many of the processor's cores torch takes."""

from __future__ import annotations

import contextlib

import torch

from .errors import PlaymateError


def usable_device(device: str | torch.device) -> torch.device:
    """``device`` as a torch device that works here; ``"auto"`` takes the first accelerator, else the CPU.

    Raises:
        PlaymateError: the name is unknown, or this machine lacks the device.
    """
    if str(device) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PlaymateError(f"Device {str(device)!r} cannot be used here; try --device cpu or auto.") from error
    return found


@contextlib.contextmanager
def a_core_left_free():
    """One CPU thread fewer for torch meanwhile: the video encoder runs beside the renderer, and on two cores the
    small networks and warps lose more by waiting for each other than a second thread gains (``benchmarks``)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
