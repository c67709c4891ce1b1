"""What was found, written down as it comes: a crash loses nothing, a failure stops nothing but itself."""

from __future__ import annotations

import _thread
import contextlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

log = logging.getLogger("laboratory.gpu_check")

OK, TOLD, FAILED, SKIPPED = "ok", "told", "failed", "skipped"
GRACE = 10.0
"""Seconds that a call which cannot be interrupted is given before the process ends itself."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what, figure: what was looked at and what came out.
        allowed: the bound that the figure was held to, if any.
        result: "ok" within its bound, "told" without one, "failed", or "skipped".
        short: it belongs to the short table.
    """

    what: str
    figure: str
    allowed: str = ""
    result: str = TOLD
    short: bool = False


@dataclass
class Part:
    name: str
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    traceback: str = ""


class TimeUp(Exception):
    """A part took longer than it may."""


class Report:
    """Rows by part, in a folder.

    Args:
        folder: made if it is missing.
        seconds: of the whole; parts that do not fit any more are skipped.
        say: told each row as it comes.
    """

    def __init__(self, folder: Path, seconds: float, say: Callable[[str], None] = sys.stdout.write) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.say = folder, say
        self.started, self.allowed = time.monotonic(), seconds
        self.parts: list[Part] = []
        self.table = (folder / "table.md").open("w", encoding="utf-8")
        self._put("| part | what | figure | allowed | result |\n|---|---|---|---|---|\n")
        self.handler = logging.FileHandler(folder / "log.txt", "w", encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self.handler)

    @property
    def left(self) -> float:
        """Seconds until everything must have ended."""
        return self.allowed - (time.monotonic() - self.started)

    @property
    def rows(self) -> list[tuple[str, Row]]:
        return [(part.name, row) for part in self.parts for row in part.rows]

    @property
    def failed(self) -> int:
        return sum(row.result == FAILED for _, row in self.rows)

    def row(self, what: str, figure: str, *, allowed: str = "", result: str = TOLD, short: bool = False) -> None:
        """Adds a line to the part that runs."""
        row = Row(*(" ".join(str(text).replace("|", "/").split()) for text in (what, figure, allowed)), result, short)
        self.parts[-1].rows.append(row)
        line = self._line(self.parts[-1].name, row)
        self._put(line)
        if short or result in (FAILED, SKIPPED):
            self.say(line)
            sys.stdout.flush()

    def bounded(self, what: str, value: float, bound: float, unit: str = "", short: bool = False) -> None:
        """Adds a figure that must be below ``bound``; not a number is above."""
        self.row(what, f"{value:.2e}{unit}", allowed=f"{bound:.0e}{unit}", result=OK if value < bound else FAILED,
                 short=short)

    def part(self, name: str, call: Callable[[], None], seconds: float, least: float = 0.0) -> None:
        """Runs a part for at most ``seconds``; skipped with a row where fewer than ``least`` are left."""
        part = Part(name)
        self.parts.append(part)
        start = time.monotonic()
        if self.left < max(least, 1e-3):
            self.row("everything", f"not begun: {max(self.left, 0):.0f} s are left and it may take {least:.0f} s",
                     result=SKIPPED)
        else:
            # Before the whole's end, so that it can be told.
            limit = min(seconds, self.left)
            try:
                with self._watched(limit), self.attempt("everything"):
                    call()
            except TimeUp:
                part.traceback += traceback.format_exc()
                self.row("the rest", f"stopped after {limit:.0f} s", result=SKIPPED)
        part.seconds = time.monotonic() - start
        self._save()

    @contextlib.contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Whatever fails within is a row and a traceback in the log; what comes after goes on."""
        try:
            yield
        except Exception as error:
            log.exception("%s: %s", self.parts[-1].name, what)
            self.parts[-1].traceback += traceback.format_exc()
            said = str(error).strip().splitlines()
            self.row(what, f"failed: {type(error).__name__}: {said[0][:200] if said else ''}", result=FAILED)

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Raises TimeUp in the main thread when the block takes longer; a call of a library that cannot be
        interrupted ends the process after ``GRACE`` more, with everything written down."""
        late = threading.Event()

        def stop() -> None:
            late.set()
            _thread.interrupt_main()

        timers = [threading.Timer(seconds, stop), threading.Timer(seconds + GRACE, self._give_up, [seconds])]
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            try:
                yield
            finally:
                for timer in timers:
                    timer.cancel()
                if late.is_set():
                    time.sleep(0.01)  # the interrupt may still be on its way
        except KeyboardInterrupt:
            if not late.is_set():
                raise
            raise TimeUp(f"{seconds:.0f} s") from None

    def _give_up(self, seconds: float) -> None:
        self.row("everything", f"hung for {seconds + GRACE:.0f} s; the check ends here", result=FAILED)
        self.finish()
        os._exit(1)

    def finish(self) -> None:
        """Prints the short table: what belongs to it, and all that failed or was skipped."""
        self._save()
        lines = [self._line(name, row) for name, row in self.rows if row.short or row.result in (FAILED, SKIPPED)]
        count = {result: sum(row.result == result for _, row in self.rows) for result in (OK, TOLD, FAILED, SKIPPED)}
        seconds = time.monotonic() - self.started
        self.say("\n| part | what | figure | allowed | result |\n|---|---|---|---|---|\n" + "".join(lines)
                 + f"\n{count[OK]} within their bounds, {count[TOLD]} without one, {count[FAILED]} failed, "
                 f"{count[SKIPPED]} skipped, {seconds:.0f} s. Everything is in {self.folder}.\n")
        sys.stdout.flush()
        logging.getLogger().removeHandler(self.handler)
        self.handler.close()

    @staticmethod
    def _line(part: str, row: Row) -> str:
        return f"| {part} | {row.what} | {row.figure} | {row.allowed} | {row.result} |\n"

    def _put(self, text: str) -> None:
        self.table.write(text)
        self.table.flush()

    def _save(self) -> None:
        """As JSON, in the manner of JUnit's reports: a case a row, its part's traceback beside it."""
        held = {"name": "gpu_check", "tests": len(self.rows), "failures": self.failed,
                "skipped": sum(row.result == SKIPPED for _, row in self.rows),
                "time": round(time.monotonic() - self.started, 3),
                "suites": [{"name": part.name, "time": round(part.seconds, 3), "traceback": part.traceback,
                            "cases": [asdict(row) for row in part.rows]} for part in self.parts]}
        path = self.folder / "results.json"
        temporary = path.with_suffix(".json.part")
        temporary.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
