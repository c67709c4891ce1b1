"""``python -m playmate_core edit STEP MOTION -o MOTION``: what the motion nodes do, one step at a time."""

from __future__ import annotations

from . import blend, convert, expression, eyes, join, loop, mask, plot, pose, retime, smooth

STEPS = (pose, expression, eyes, blend, mask, join, retime, loop, smooth, convert, plot)


def add_edit_command(commands) -> None:
    """Adds ``edit`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("edit", help="motion files: pose, expression, eyes, blend, join, retime, smooth ...")
    steps = command.add_subparsers(dest="step", required=True, metavar="STEP")
    for step in STEPS:
        step.add(steps)
