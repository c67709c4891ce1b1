"""A progress callback that draws a line on the terminal."""

from __future__ import annotations

import sys


class ProgressBar:
    """One line on the error stream that fills up; silent when that is no terminal, save for its last state."""

    def __init__(self, label: str, width: int = 30) -> None:
        self.label, self.width, self.shown = label, width, -1
        self.live = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent == self.shown or (not self.live and percent < 100):
            return
        self.shown = percent
        bar = "#" * (self.width * percent // 100)
        end = "\n" if percent >= 100 else ""
        start = "\r" if self.live else ""
        sys.stderr.write(f"{start}{self.label:<10} [{bar:<{self.width}}] {percent:3d} %{end}")
        sys.stderr.flush()
