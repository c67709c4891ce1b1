"""What every step of ``edit`` has: a motion that is read and one that is written."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable

if TYPE_CHECKING:
    from ...motion.types import Motion

MOTION_HELP = ".safetensors, or LivePortrait's .pkl"
PARTS = ("mouth", "eyes", "brows", "rest", "pose")
"""Of the face, and the head's pose: ``motion.regions.REGIONS``."""
REST = "rest"
"""In place of a motion file: one frame of a face at rest, as Expression Edit makes without a motion."""


def add_step(steps, name: str, what: str, change: Callable[[argparse.Namespace, Motion], Motion],
             others: Iterable[str] = ()) -> argparse.ArgumentParser:
    """Adds a step whose first argument is the motion that ``change`` turns into the one that is written.

    Args:
        steps: what ``add_subparsers`` returned.
        change: given the options and the motion.
        others: names of options that hold further files.
    """
    command = steps.add_parser(name, help=what, description=what,
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("motion", help=f"{MOTION_HELP}, or {REST}: one frame of a face at rest")
    command.add_argument("-o", "--output", required=True, help=f"motion to write: {MOTION_HELP}")
    command.set_defaults(run=lambda args: run_step(args, change, others), product="motion")
    return command


def run_step(args: argparse.Namespace, change: Callable[[argparse.Namespace, Motion], Motion],
             others: Iterable[str]) -> Path:
    """Reads, changes and writes; returns the motion's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from ...media.output import check_output
    from ..animate import save_motion_as
    from ..pose_option import MOTION_FILES

    files = [getattr(args, name) for name in others]
    given = [file for held in files for file in (held if isinstance(held, list) else [held])]
    output = check_output(args.output, "motion", MOTION_FILES, inputs=[args.motion, *given])
    save_motion_as(change(args, read_motion(args.motion)), str(output))
    return output


def read_motion(path: str) -> Motion:
    """A motion file, or a face at rest.

    Raises:
        PlaymateError: no motion file.
    """
    from ...motion.files import load_motion
    from ...motion.types import Motion

    return Motion.rest(1) if path == REST and not Path(path).exists() else load_motion(path)


def add_regions(command: argparse.ArgumentParser, default: float, what: str) -> None:
    """Adds a number from 0 to 1 for every part of the face; ``what`` it means, with {} for the part."""
    for region in PARTS:
        command.add_argument(f"--{region}", type=float, default=default, metavar="AMOUNT", help=what.format(region))


def regions_of(args: argparse.Namespace) -> dict[str, float]:
    """What the user asked for by part of the face."""
    return {region: getattr(args, region) for region in PARTS}


def seconds_of_sound(path: str | None) -> float | None:
    """How long a sound file lasts; None without one."""
    from ...media.film_sound import seconds_of
    from ...media.sound_file import open_sound

    return None if path is None else seconds_of(open_sound(path))
