"""How frames are drawn and written, for every command that makes a film."""

from __future__ import annotations

import argparse

from ..runtime.errors import PlaymateError
from .background_option import add_background_options


def add_drawing_options(command: argparse.ArgumentParser) -> None:
    """Adds the film's quality and the frames at once."""
    command.add_argument("--crf", type=int, default=16,
                         help="quality of the H.264 picture, 0 to 51: 16 is very good, lower is larger, 28 is small")
    command.add_argument("--batch-size", type=int, default=0,
                         help="frames drawn at once; 0 lets the renderer choose, fewer need less memory")
    add_background_options(command)


def check_drawing(args: argparse.Namespace) -> None:
    """Raises PlaymateError for numbers that no film has."""
    if not 0 <= args.crf <= 51:
        raise PlaymateError(f"--crf is {args.crf}; give a number from 0 to 51.")
    if args.batch_size < 0:
        raise PlaymateError(f"--batch-size is {args.batch_size}; give 1 or more, or 0 for the renderer's own.")
