"""What to do with frames that could not be drawn: fewer of them at once, or on the CPU."""

from __future__ import annotations

from enum import Enum
from typing import Callable, TypeVar

import torch

from ...runtime.acceleration import is_out_of_memory
from ...runtime.devices import told_to_leave

NAME = "LivePortrait's renderer"

Made = TypeVar("Made")


class Retry(Enum):
    """What to do with frames that could not be drawn."""

    NO = 0
    SMALLER = 1
    ON_THE_CPU = 2


def attempt(make: Callable[[], Made], device: torch.device, count: int = 1) -> tuple[Made | None, Retry]:
    """What ``make`` gives on ``device`` for ``count`` frames at once, or None and what helps.

    The error is gone when this returns: as long as it is kept, it keeps the tensors that filled the memory.
    """
    try:
        return make(), Retry.NO
    except (RuntimeError, TypeError, MemoryError) as error:
        if is_out_of_memory(error) and count > 1:
            return None, Retry.SMALLER
        if told_to_leave(error, device, NAME):
            return None, Retry.ON_THE_CPU
        raise
