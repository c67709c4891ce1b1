"""``edit eyes``: blinks, lids and gaze (the node Eyes)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .step import add_step

if TYPE_CHECKING:
    from ...motion.types import Motion


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "eyes", "directs blinks, lids and gaze", change)
    command.add_argument("--blink-mode", default="add",
                         help="add: blinks where the motion has none, up to the rate; replace: in place of its own; "
                              "keep: leaves blinking alone")
    command.add_argument("--blink-rate", type=float, default=15.0, help="blinks a minute, 0 to 60")
    command.add_argument("--seed", type=int, default=0, help="same seed, same blinks and restless movements")
    command.add_argument("--gaze-mode", default="add", help="add: counted from where the motion looks; or replace")
    command.add_argument("--gaze-x", type=float, default=0.0, help="where to look: -1 to 1, above 0 to the right")
    command.add_argument("--gaze-y", type=float, default=0.0, help="where to look: -1 to 1, above 0 up")
    command.add_argument("--gaze", default="", metavar="KEYFRAMES",
                         help='in place of the two numbers: "0 x=0 y=0; 1.5 x=0.5; 3 x=-0.3 y=0.2"')
    command.add_argument("--gaze-style", default="jump", help="how the eyes get to the next keyframe: jump or glide")
    command.add_argument("--saccades", type=float, default=0.0, help="small restless jumps: 0 none, 1 natural, to 3")
    command.add_argument("--keep-gaze", type=float, default=0.0,
                         help="how much of the head's turning the eyes make up for, 0 to 1")
    command.add_argument("--openness", type=float, default=1.0, help="of the lids between blinks, 0 to 1.3")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The motion with its eyes directed."""
    from ...motion.eyes import direct_eyes
    from ...motion.gaze import GazeKeyframes

    gaze = GazeKeyframes.parse(args.gaze) if args.gaze.strip() else GazeKeyframes.constant(args.gaze_x, args.gaze_y)
    return direct_eyes(motion, blink_mode=args.blink_mode, blink_rate=args.blink_rate, seed=args.seed,
                       gaze_mode=args.gaze_mode, gaze=gaze, gaze_style=args.gaze_style, saccades=args.saccades,
                       keep_gaze=args.keep_gaze, openness=args.openness)
