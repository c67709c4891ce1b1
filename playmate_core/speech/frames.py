"""From the fixed rate of an analysis to motion frames of any rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def frame_count(duration: float, fps: float) -> int:
    """Motion frames of ``duration`` seconds: round(duration * fps)."""
    return int(round(duration * fps))


class FrameMean:
    """Averages rows over motion frames while the rows come block by block.

    Row j stands for the time [j / rate, (j + 1) / rate), frame i for [i / fps, (i + 1) / fps). A frame's value is
    the mean of the rows over the frame's time, rows counting by the part that lies inside; time that no row
    covers counts as zero.

    Args:
        frames: T.
        fps: frames a second.
        rate: rows a second.
        width: C, numbers in a row.
    """

    def __init__(self, frames: int, fps: float, rate: float, width: int, device=None) -> None:
        self.values = torch.zeros(frames, width, device=device)
        self.rows_per_frame = rate / fps

    def rows_needed(self) -> int:
        """Rows that cover all frames."""
        return math.ceil(len(self.values) * self.rows_per_frame - 1e-9)

    def add(self, first: int, rows: Tensor) -> None:
        """Add rows [R, C], the first of which is row ``first``. Rows added twice count twice."""
        step = self.rows_per_frame
        begin = max(0, math.floor(first / step))
        end = min(len(self.values), math.ceil((first + len(rows)) / step))
        if end <= begin:
            return
        # Double precision: at 25 frames a second the weights come out as exact halves even after hours.
        left = torch.arange(begin, end, dtype=torch.float64)[:, None] * step
        row = torch.arange(first, first + len(rows), dtype=torch.float64)[None]
        overlap = (torch.minimum(left + step, row + 1) - torch.maximum(left, row)).clamp_min(0) / step
        self.values[begin:end] += overlap.to(rows) @ rows
