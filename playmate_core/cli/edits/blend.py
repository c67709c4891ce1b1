"""``edit blend``: two motions in one face, part by part (the node Blend Motion)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .step import MOTION_HELP, add_regions, add_step, regions_of

if TYPE_CHECKING:
    from ...motion.types import Motion


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "blend", "takes parts of the face, or the head's pose, from another motion", change,
                       ("other",))
    command.add_argument("other", help=f"the motion that is blended in: {MOTION_HELP}")
    add_regions(command, 0.0, "share of the other motion in the {}, 0 to 1")
    command.set_defaults(pose=1.0)
    command.add_argument("--length", default="mirror",
                         help="if the other motion is shorter: constant holds its last frame, cycle starts it again, "
                              "mirror runs it backwards and forwards, cut ends the result there")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The two motions in one."""
    from ...motion.edits import blend
    from ...motion.files import load_motion

    return blend(motion, load_motion(args.other), regions_of(args), args.length)
