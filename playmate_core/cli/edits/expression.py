"""``edit expression``: the face by hand (the node Expression Edit)."""

from __future__ import annotations

import argparse

from ...motion.sliders import APPLIES, SLIDERS, edit_expression, envelope, frame_envelope
from ...motion.types import Motion
from ...runtime.errors import PlaymateError
from .step import add_step


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "expression", "changes the face by sliders or ARKit's blendshapes", change)
    for name, (low, high) in SLIDERS.items():
        command.add_argument(f"--{name.replace('_', '-')}", type=float, default=0.0, metavar="AMOUNT",
                             help=f"{low:g} to {high:g}, 0 changes nothing")
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
