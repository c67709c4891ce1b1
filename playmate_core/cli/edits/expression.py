"""``edit expression``: the face by hand (the node Expression Edit)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...runtime.errors import PlaymateError
from .step import add_step

if TYPE_CHECKING:
    from ...motion.types import Motion

WHAT = {
    "smile": "lifts the corners of the mouth: -0.3 to 1.3",
    "eyebrow": "above 0 raises the brows, below 0 knits them: -10 to 15",
    "blink": "below 0 shuts both eyes (about -12 is shut), above 0 opens them wide: -20 to 5",
    "wink": "shuts the person's right eye: 0 to 25",
    "pupil_x": "turns the eyes, above 0 to the right of the picture: -15 to 15",
    "pupil_y": "turns the eyes, above 0 up: -15 to 15",
    "aaa": "opens the jaw; below 0 presses the lips together: -30 to 120",
    "eee": "widens the mouth, below 0 narrows it: -20 to 15",
    "woo": "rounds the lips, below 0 stretches them: -20 to 15",
}
"""The sliders, ``motion.sliders.SLIDERS``."""


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "expression", "changes the face by sliders or ARKit's blendshapes", change)
    for name, what in WHAT.items():
        command.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0, metavar="AMOUNT", help=what)
    command.add_argument("--blendshapes", default="", metavar="WEIGHTS",
                         help="ARKit's, added to the sliders: 'mouthSmileLeft 0.5, jawOpen 0.2'")
    command.add_argument("--apply", default="whole",
                         help="where the edit counts: the whole motion, the range from --start to --end, or one frame")
    command.add_argument("--start", type=float, default=0.0, help="with --apply range: seconds at which it begins")
    command.add_argument("--end", type=float, default=0.0,
                         help="with --apply range: seconds at which it is over; 0 is the motion's end")
    command.add_argument("--fade", type=float, default=0.2, help="seconds in which it comes and goes; 0 switches hard")
    command.add_argument("--frame", type=int, default=0,
                         help="with --apply frame: which one, counted from 0; -1 is the last")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The motion with its edit."""
    from ...face.arkit import ArkitShapes
    from ...face.blendshape_motion import expression_of
    from ...face.blendshape_names import parse_blendshapes
    from ...motion.sliders import APPLIES, SLIDERS, edit_expression, envelope, frame_envelope

    if args.apply not in APPLIES:
        raise PlaymateError(f"--apply is {args.apply!r}; choose one of: {', '.join(APPLIES)}.")
    amount = 1.0
    if args.apply == "range":
        amount = envelope(len(motion), motion.fps, args.start, args.end or None, args.fade)
    elif args.apply == "frame":
        amount = frame_envelope(len(motion), motion.fps, args.frame, args.fade)
    shapes = parse_blendshapes(args.blendshapes)
    further = expression_of(ArkitShapes.load(), shapes) if shapes else None
    return edit_expression(motion, {name: getattr(args, name) for name in SLIDERS}, amount, further)
