"""Which device computes, what it does when it cannot go on, and how many of the processor's cores torch takes."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from .errors import PlaymateError

log = logging.getLogger(__name__)

Item = TypeVar("Item")

CPU = torch.device("cpu")


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


def is_unsupported(error: BaseException) -> bool:
    """Whether an error says that a device lacks an operation or a number format, and not that the caller erred."""
    if isinstance(error, NotImplementedError):
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, TypeError)) and any(said in text for said in (
        "not implemented", "not currently implemented", "not supported", "unsupported", "doesn't support",
        "does not have support", "no kernel image"))


def told_to_leave(error: BaseException, device: torch.device, what: str) -> bool:
    """Whether ``what`` must go on on the CPU because ``device`` lacks something; a warning says so."""
    if device.type == "cpu" or isinstance(error, PlaymateError) or not is_unsupported(error):
        return False
    lines = str(error).strip().splitlines()
    log.warning("The device %s cannot do everything that %s needs (%s); it goes on on the CPU, which is slower. "
                "A newer torch may help.", device, what, lines[0][:200] if lines else type(error).__name__)
    return True


def runs_on(device: str | torch.device, what: str, use: Callable[[], object]) -> bool:
    """Whether ``use`` gets through on ``device``; where it lacks something, a warning says that ``what`` goes to the
    CPU. CUDA's cards are believed and not tried."""
    device = torch.device(device)
    if device.type in ("cpu", "cuda"):
        return True
    try:
        use()
    except (RuntimeError, TypeError) as error:
        if told_to_leave(error, device, what):
            return False
        raise
    return True


def free_memory(device: torch.device) -> None:
    """Gives back what is no longer used."""
    gc.collect()
    if device.type in ("cuda", "mps"):
        getattr(torch, device.type).empty_cache()


_lock = threading.Lock()
_inside = 0
_whole = 1
_here = threading.local()


@contextlib.contextmanager
def a_core_left_free() -> Iterator[None]:
    """One CPU thread fewer for torch meanwhile: the video encoder runs beside the renderer, and on two cores the
    small networks and warps lose more by waiting for each other than a second thread gains.

    Blocks may lie within each other and beside each other in several threads; torch's number counts for a thread, and
    a new thread begins with the number of the last that was set.
    """
    global _inside, _whole
    if getattr(_here, "deep", False):
        yield
        return
    with _lock:
        if not _inside:
            _whole = torch.get_num_threads()
        _inside += 1
        whole = _whole
        torch.set_num_threads(max(1, whole - 1))
    _here.deep = True
    try:
        yield
    finally:
        _here.deep = False
        with _lock:
            _inside -= 1
            torch.set_num_threads(whole)


def each_with_a_core_left_free(items: Iterator[Item]) -> Iterator[Item]:
    """``items``, each worked out within :func:`a_core_left_free`. Between two of them, and when the rest is never asked
    for, torch has all its threads."""
    try:
        while True:
            with a_core_left_free():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()
