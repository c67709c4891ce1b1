"""``edit loop``: a short motion as a long one (the node Loop Motion)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...runtime.errors import PlaymateError
from .step import add_step, seconds_of_sound

if TYPE_CHECKING:
    from ...motion.types import Motion


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "loop", "repeats a motion up to a length, without a jump where it starts again", change,
                       ("audio",))
    command.add_argument("--seconds", type=float, default=10.0, help="wanted length")
    command.add_argument("--seam", default="crossfade",
                         help="how the end meets the beginning: crossfade, ping-pong (backwards from there) or hard")
    command.add_argument("--crossfade", type=float, default=0.5, help="with that seam: seconds of the fade")
    command.add_argument("--audio", default=None, metavar="FILE", help="a sound whose length is wanted, not --seconds")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The motion, as often as it takes."""
    from ...motion.loop import loop

    seconds = args.seconds if args.audio is None else seconds_of_sound(args.audio)
    frames = round(seconds * motion.fps)
    if frames < 1:
        raise PlaymateError("There is no length to reach; give --seconds above 0, or --audio.")
    return loop(motion, frames, args.seam, round(args.crossfade * motion.fps))
