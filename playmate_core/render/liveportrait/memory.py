"""How many frames fit at once."""

from __future__ import annotations

import torch

FRAME_BYTES = 700 * 2**20
"""What W and G keep at once for a frame in float32 with the published sizes, generously."""
MOST_FRAMES = {"cuda": 8, "mps": 2, "cpu": 1}
"""Larger batches gain nothing: these fill the processor already. On the CPU a frame takes seconds, and a run can be
cancelled after every batch."""


def bytes_for(frames: int, dtype: torch.dtype) -> int:
    """Working memory for so many frames at once, without the weights."""
    return frames * FRAME_BYTES * torch.empty((), dtype=dtype).element_size() // 4


def most_frames(device: torch.device) -> int:
    """Frames at once beyond which a device gains nothing."""
    return MOST_FRAMES.get(device.type, 4)


def batch_that_fits(device: torch.device, dtype: torch.dtype, picture: tuple[int, int]) -> int:
    """Frames at once for a device, by what is free on it now; at least 1.

    Args:
        picture: rows and columns of the whole frame, which is put together on the device too.
    """
    most = most_frames(device)
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds and does not use is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    frame = bytes_for(1, dtype) + 4 * 4 * 3 * picture[0] * picture[1]
    return max(1, min(most, int(0.8 * free) // frame))
