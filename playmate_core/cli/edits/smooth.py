"""``edit smooth``: takes tremor out, part by part (the node Smooth Motion)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .step import add_regions, add_step, regions_of

if TYPE_CHECKING:
    from ...motion.types import Motion

LIVEPORTRAIT_VARIANCE = 3e-7
"""Of the Kalman smoother at strength 1, which is LivePortrait's own."""


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "smooth", "takes tremor out of a motion without delaying it", change)
    command.add_argument("--method", default="gaussian",
                         help="gaussian averages over time; kalman is LivePortrait's smoother")
    command.add_argument("--seconds", type=float, default=0.06, help="for gaussian: over how long is averaged")
    command.add_argument("--strength", type=float, default=1.0,
                         help="for kalman: 1 is LivePortrait's own setting, larger is smoother")
    add_regions(command, 1.0, "how much the {} is smoothed, 0 to 1")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The calmer motion."""
    from ...motion.edits import blend, smooth

    calm = smooth(motion, args.seconds, args.method, observation_variance=LIVEPORTRAIT_VARIANCE * args.strength)
    return blend(motion, calm, regions_of(args))
