"""``python -m playmate_core demo``: the sample portrait speaks with the sample voice."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..runtime.errors import PlaymateError
from .animate import run_animate
from .animate_options import add_knobs
from .film_option import FILM_DEFAULTS

SAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "inputs"
"""Portrait and voice, beside the package in a clone."""


def add_demo_command(commands) -> None:
    """Adds ``demo`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("demo", help="animate the sample portrait with the sample voice",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("-o", "--output", default="output/demo.mp4", help="video to write")
    add_knobs(command)
    command.set_defaults(run=run_demo, **FILM_DEFAULTS)


def run_demo(args: argparse.Namespace) -> Path:
    """Animates the sample inputs that lie beside the package.

    Raises:
        PlaymateError: the samples are missing, as in an installation without the repository.
    """
    def sample(stem: str) -> str:
        found = sorted(SAMPLES.glob(f"{stem}.*"))
        if not found:
            raise PlaymateError(f"The demo's {stem} is missing from {SAMPLES}; clone the repository, "
                                "or use animate with your own files.")
        return str(found[0])

    args.portrait, args.audio = sample("portrait"), sample("voice")
    return run_animate(args)
