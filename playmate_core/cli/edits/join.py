"""``edit join``: motions one after another (the node Concatenate Motion)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...runtime.errors import PlaymateError
from .step import MOTION_HELP, add_step

if TYPE_CHECKING:
    from ...motion.types import Motion


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "join", "joins motions one after another, fading from each into the next", change,
                       ("following",))
    command.add_argument("following", nargs="+", help=f"motions that come after it, in order: {MOTION_HELP}")
    command.add_argument("--crossfade", type=float, default=0.3,
                         help="seconds by which neighbours overlap while one fades into the next; 0 joins hard")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """All of them, in order."""
    from ...motion.edits import concatenate
    from ...motion.files import load_motion

    if not 0 <= args.crossfade <= 10:
        raise PlaymateError(f"--crossfade is {args.crossfade:g} seconds; give a number from 0 to 10.")
    return concatenate([motion, *(load_motion(path) for path in args.following)], round(args.crossfade * motion.fps))
