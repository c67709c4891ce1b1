"""``edit plot``: a motion as a chart (the node Preview Motion)."""

from __future__ import annotations

import argparse
from pathlib import Path

from .step import MOTION_HELP

SUFFIXES = (".png",)


def add(steps) -> None:
    """Adds the step."""
    command = steps.add_parser("plot", help="draws lip opening, eye opening and head angles over time",
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("motion", help=MOTION_HELP)
    command.add_argument("-o", "--output", required=True, help="chart to write: .png")
    command.add_argument("--width", type=int, default=1024, help="of the chart, pixels")
    command.add_argument("--height", type=int, default=640, help="of the chart, pixels")
    command.set_defaults(run=run, product="chart")


def run(args: argparse.Namespace) -> Path:
    """Draws the chart; returns its path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from PIL import Image

    from ...evaluation.plot import plot_motion
    from ...face.bridge import LatentBridge
    from ...media.output import check_output
    from ...motion.files import load_motion
    from ..progress_bar import ProgressBar

    output = check_output(args.output, "chart", SUFFIXES, inputs=[args.motion])
    chart = plot_motion(load_motion(args.motion), LatentBridge.load(), args.width, args.height,
                        progress=ProgressBar("plotting"))
    output.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((chart * 255).round().byte().numpy()).save(output)
    return output
