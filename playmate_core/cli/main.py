"""The commands of ``python -m playmate_core``, and how each ends."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from typing import Sequence

from .. import __version__
from ..runtime.errors import PlaymateError
from .animate import add_animate_command
from .blendshapes import add_blendshapes_command
from .demo import add_demo_command
from .edits import add_edit_command
from .evaluate import add_evaluate_command
from .motion import add_motion_command
from .progress_bar import ProgressBar
from .render import add_render_command
from .speak import add_speak_command
from .weights import add_weights_command


def build_parser() -> argparse.ArgumentParser:
    """The parser, with every default shown in the help."""
    parser = argparse.ArgumentParser(
        prog="python -m playmate_core", description="One portrait and one voice become a talking head.")
    parser.add_argument("--version", action="version", version=f"ComfyUI-Playmate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_animate_command(commands)
    add_demo_command(commands)
    add_speak_command(commands)
    add_motion_command(commands, ProgressBar)
    add_edit_command(commands)
    add_render_command(commands)
    add_blendshapes_command(commands)
    add_evaluate_command(commands, ProgressBar)
    add_weights_command(commands, ProgressBar)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 0 when the video is there, 1 with one sentence when it is not, 130 when interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Read when torch loads, which is later: waiting threads that spin slow small networks on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = build_parser().parse_args(argv)
    start = time.monotonic()
    try:
        path = args.run(args)
    except PlaymateError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 1
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"\nstopped; {str(stop) or 'nothing was written'}\n")
        return 130
    if path is not None:
        sys.stdout.write(f"{getattr(args, 'product', 'video')}: {path.resolve()} ({time.monotonic() - start:.1f} s)\n")
    return 0
