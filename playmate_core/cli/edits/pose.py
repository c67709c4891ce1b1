"""``edit pose``: where the head looks (the node Pose Override)."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.errors import PlaymateError
from ..animate_options import add_pose_options
from .step import add_step

if TYPE_CHECKING:
    from ...motion.types import Motion

log = logging.getLogger(__name__)

AXES = ("pitch", "yaw", "roll", "x", "y", "scale")
"""``motion.pose.POSE_AXES``."""


def add(steps) -> None:
    """Adds the step."""
    command = add_step(steps, "pose", "directs the head: fixed numbers, lists of numbers, keyframes, a preset, another "
                       "motion or a video", change, ("pose",))
    add_pose_options(command)
    for axis in AXES:
        command.add_argument(f"--{axis}", type=float, default=None, metavar="NUMBER",
                             help=f"fixed {axis}, counted from how the portrait looks")
    command.add_argument("--values", default=None, action="append", metavar="AXIS=FILE",
                         help="text file with one number for each frame that directs an axis, for instance "
                              "yaw=yaw.txt; may be given several times")


def change(args: argparse.Namespace, motion: Motion) -> Motion:
    """The motion with its head directed: numbers and lists of them for their axes, ``--pose`` for the others."""
    from ...face.analyzer import FaceAnalyzer
    from ...face.bridge import LatentBridge
    from ...motion.pose import MODES, POSE_AXES, override_pose, parse_axes
    from ..pose_option import POSE_LENGTHS, length_note, parse_pose, read_pose
    from ..progress_bar import ProgressBar

    if args.pose_length not in POSE_LENGTHS:
        raise PlaymateError(f"--pose-length is {args.pose_length!r}; choose one of: {', '.join(POSE_LENGTHS)}.")
    named, modes = (None, args.pose_mode) if args.pose_mode in MODES else parse_axes(args.pose_mode)
    length = POSE_LENGTHS[args.pose_length]
    given = {axis: getattr(args, axis) for axis in POSE_AXES if getattr(args, axis) is not None}
    given.update(read_values(args.values or ()))
    if not given and args.pose is None:
        raise PlaymateError("Nothing directs the head; give --pose, --values, or a number such as --yaw 15.")
    left = [axis for axis in named or POSE_AXES if axis not in given]
    if args.pose is not None:
        if not left:
            raise PlaymateError("Every axis has a number of its own, which leaves none to --pose; give one of them.")
        request = parse_pose(args.pose, args.pose_easing)
        watching = isinstance(request, Path)
        source = read_pose(request, FaceAnalyzer.load() if watching else None,
                           LatentBridge.load() if watching else None, ProgressBar("watching"))
        if note := length_note(source, motion, args.pose_length):
            log.warning(note)
        motion = override_pose(motion, source, modes, left if given or named else None, args.pose_amount, length=length)
    return override_pose(motion, given, modes, list(given), args.pose_amount, length=length) if given else motion


def read_values(texts) -> dict[str, list[float]]:
    """Lists of numbers by axis, of "yaw=FILE" texts.

    Raises:
        PlaymateError: an unknown axis, or a file that cannot be read as numbers.
    """
    found = {}
    for text in texts:
        axis, equals, name = text.partition("=")
        if not equals or axis.strip() not in AXES:
            raise PlaymateError(f"--values {text!r}: write AXIS=FILE with an axis out of {', '.join(AXES)}.")
        try:
            words = re.split(r"[\s,;]+", Path(name.strip()).read_text(encoding="utf-8").strip())
            found[axis.strip()] = [float(word) for word in words if word]
        except (OSError, ValueError) as error:
            raise PlaymateError(f"--values {text!r}: {name.strip()} cannot be read as numbers ({error}).") from error
    return found
