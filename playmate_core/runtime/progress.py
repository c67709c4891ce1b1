"""Progress and cancelling, without a user-interface library.

A progress callback takes ``(done, total)``, both in the same unit (frames, windows, bytes).
It may raise: whatever it raises passes through the library unchanged, which is how a host
cancels a running job. Every loop that can take longer than a fraction of a second calls it.
"""

from __future__ import annotations

from typing import Callable, Optional

Progress = Optional[Callable[[int, int], None]]


def report(progress: Progress, done: int, total: int) -> None:
    """Tell ``progress`` (if there is one) that ``done`` of ``total`` units are finished."""
    if progress is not None:
        progress(done, total)
