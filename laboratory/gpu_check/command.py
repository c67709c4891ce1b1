"""The command line and the order of the parts."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from playmate_core.runtime.devices import free_memory

from .. import ROOT
from ..benchmarks import machine
from . import drawing, fixtures, limits, motion
from .report import Report
from .setup import Setup
from .toy import write_reference

SECONDS = 435.0
"""Of the whole; eight minutes are lent, and starting and ending take their time."""

PARTS: tuple[tuple[str, Callable[[Setup, Report], None], float, float], ...] = (
    ("peaks", limits.peaks, 30, 10),
    ("fixtures, small", fixtures.small, 60, 10),
    ("bundled pack", drawing.bundled, 120, 15),
    ("speech to motion", motion.minute, 60, 15),
    ("LivePortrait", drawing.liveportrait, 120, 30),
    ("LivePortrait, whole path", drawing.whole_path, 60, 15),
    ("fixtures, published sizes", fixtures.full, 90, 30),
    ("fixtures, JoyVASA", fixtures.motion_generator, 60, 10),
    ("landmark renderer", drawing.landmark, 60, 15),
    ("roofline", limits.roofline, 30, 10),
    ("profiles", limits.profile, 45, 15),
    ("JoyVASA", motion.joyvasa, 30, 5),
    ("LivePortrait, torch.compile", drawing.compiled, 180, 45),
)
"""Name, what it does, the most seconds it is given, and how many must be left for it to begin."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m laboratory.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("output/gpu_check"), help="folder for what is found")
    parser.add_argument("--fixtures", type=Path, help="the folder reference/ with liveportrait/ and joyvasa/ in it; "
                        "otherwise $PLAYMATE_SHARED/reference")
    parser.add_argument("--device", help="cuda unless given; cpu for a rehearsal")
    parser.add_argument("--rehearse", action="store_true", help="every line of it at toy sizes, on any machine")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the whole (default %(default)g)")
    args = parser.parse_args(arguments)
    device = torch.device(args.device or ("cpu" if args.rehearse else "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("There is no NVIDIA card that torch can use; --rehearse runs the check at toy sizes.\n")
        return 2
    found = args.fixtures
    if found is None and os.environ.get("PLAYMATE_SHARED"):
        found = Path(os.environ["PLAYMATE_SHARED"]) / "reference"
    report = Report(args.out, args.seconds)
    setup = Setup(device, found, args.out, args.rehearse)
    if args.rehearse:
        setup.fixtures = write_reference(args.out / "toy_reference", setup, found)
    with _without_waiting_for_a_compiler(args.rehearse):
        report.part("machine", lambda: _machine(setup, report), 30)
        for name, call, most, least in PARTS:
            # A rehearsal may take its time: it says nothing about speed.
            most, least = (args.seconds, 0.0) if args.rehearse else (most, least)
            report.part(name, lambda call=call: call(setup, report), most, least)
            with contextlib.suppress(RuntimeError):  # a card that has failed for good fails here too
                free_memory(device)
    report.finish()
    return 1 if report.failed else 0


def _machine(setup: Setup, report: Report) -> None:
    for line in machine.describe().splitlines():
        what, _, figure = line.partition(":")
        report.row(what, figure, short=True)
    if setup.cuda:
        held = torch.cuda.get_device_properties(setup.device)
        report.row("memory", f"{held.total_memory / 2**30:.1f} GB, {held.multi_processor_count} multiprocessors, "
                   f"compute capability {held.major}.{held.minor}", short=True)
    report.row("checkout", str(ROOT))


@contextlib.contextmanager
def _without_waiting_for_a_compiler(rehearsed: bool) -> Iterator[None]:
    """A rehearsal takes torch.compile's way without its minute of compiling."""
    if not rehearsed:
        yield
        return
    compile, torch.compile = torch.compile, lambda function, **options: function
    try:
        yield
    finally:
        torch.compile = compile
