"""``edit retime``: cut, slower, faster, to a length, at another rate, in this order (the node Retime Motion)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...runtime.errors import PlaymateError
from .step import add_step, seconds_of_sound

if TYPE_CHECKING:
    from ...motion.types import Motion

STRETCH = "stretch"


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "retime", "cuts a part out, plays it slower or faster, brings it to a length or rate",
                       change, ("audio",))
    command.add_argument("--start", type=float, default=0.0, help="seconds at which the part that is kept begins")
    command.add_argument("--end", type=float, default=0.0, help="seconds at which it ends; 0 is the motion's end")
    command.add_argument("--speed", type=float, default=1.0, help="2 plays twice as fast, 0.5 half as fast")
    command.add_argument("--seconds", type=float, default=0.0, help="wanted length; 0 leaves it as it comes")
    command.add_argument("--fit", default=STRETCH,
                         help="how a wanted length is reached: stretch changes the speed; constant, cycle, mirror and "
                              "cut keep it, as in blend")
    command.add_argument("--fps", type=float, default=0.0, help="frames a second of the result; 0 keeps the motion's")
    command.add_argument("--audio", default=None, metavar="FILE", help="a sound whose length is wanted, not --seconds")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The motion in its new time."""
    from ...motion.edits import LENGTH_POLICIES, fit_length, resample, retime, slice_seconds

    if args.fit not in (STRETCH, *LENGTH_POLICIES):
        raise PlaymateError(f"--fit is {args.fit!r}; choose one of: {', '.join((STRETCH, *LENGTH_POLICIES))}.")
    seconds = args.seconds if args.audio is None else seconds_of_sound(args.audio)
    motion = slice_seconds(motion, args.start, args.end or None)
    motion = retime(motion, args.speed, seconds if seconds and args.fit == STRETCH else None)
    motion = resample(motion, args.fps or motion.fps)
    if not seconds:
        return motion
    return fit_length(motion, round(seconds * motion.fps), "constant" if args.fit == STRETCH else args.fit)
