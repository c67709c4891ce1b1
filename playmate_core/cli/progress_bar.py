"""A progress callback that draws a line on the terminal."""

from __future__ import annotations

import sys
import time

SETTLED = 3.0
"""Seconds of work from which is told how long the rest takes."""


class ProgressBar:
    """One line on the error stream that fills up and says how long the rest takes; silent when that is no terminal,
    save for its last state.

    What was done before the first call (a film that goes on) counts as done, but not for the pace.
    """

    def __init__(self, label: str, width: int = 30) -> None:
        self.label, self.width, self.shown = label, width, (-1, "")
        self.live = sys.stderr.isatty()
        self.began: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self.began = self.began or (now, done)
        percent = 100 * done // max(total, 1)
        left = self._left(now, done, total)
        if (percent, left) == self.shown or (not self.live and percent < 100):
            return
        self.shown = percent, left
        bar = "#" * (self.width * percent // 100)
        end = "\n" if percent >= 100 else ""
        start = "\r" if self.live else ""
        rest = f"{left:<18}" if self.live else ""
        sys.stderr.write(f"{start}{self.label:<10} [{bar:<{self.width}}] {percent:3d} %{rest}{end}")
        sys.stderr.flush()

    def _left(self, now: float, done: int, total: int) -> str:
        seconds, made = now - self.began[0], done - self.began[1]
        if seconds < SETTLED or made <= 0 or done >= total:
            return ""
        return f"  {length_of(seconds / made * (total - done))} left"


def length_of(seconds: float) -> str:
    """A length of time, as exact as a guess is."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
