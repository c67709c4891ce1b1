"""``edit mask``: some parts of a motion without the others (the node Region Mask)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .step import PARTS, add_step

if TYPE_CHECKING:
    from ...motion.types import Motion


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "mask", "keeps some parts of a motion; the others rest, or come from another one", change,
                       ("background",))
    command.add_argument("--keep", default="pose", metavar="PARTS",
                         help=f"which parts, separated by commas, out of {', '.join(PARTS)}")
    command.add_argument("--amount", type=float, default=1.0, help="how much of the kept parts, 0 to 1")
    command.add_argument("--background", default=None, metavar="MOTION",
                         help="what moves where nothing is kept; at rest if left out")
    command.add_argument("--length", default="mirror",
                         help="if the background is shorter: constant, cycle, mirror or cut, as in blend")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The kept parts over the background."""
    from ...motion.edits import keep_regions
    from ...motion.files import load_motion
    from ...motion.regions import check_regions

    kept = [part.strip() for part in args.keep.split(",") if part.strip()]
    check_regions(kept)
    background = None if args.background is None else load_motion(args.background)
    return keep_regions(motion, dict.fromkeys(kept, args.amount), background, args.length)
