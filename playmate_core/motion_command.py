"""``python -m playmate_core motion VIDEO -o MOTION``: a driving clip becomes a motion file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Callable

from .errors import PlaymateError

SUFFIXES = (".safetensors", ".pkl")


def add_motion_command(commands, progress_bar: Callable) -> None:
    """Adds ``motion`` to the parser's commands.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
        progress_bar: makes a progress callback of a label.
    """
    command = commands.add_parser("motion", help="driving video to motion file",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("video", help="video file with a face")
    command.add_argument("-o", "--output", required=True,
                         help="motion to write: .safetensors, or .pkl for LivePortrait")
    command.add_argument("--use", default="pose and expression", help="'pose and expression', pose, or expression")
    command.add_argument("--neutral", default="auto",
                         help="the face from which expressions count: auto, 'first frame', or median")
    command.add_argument("--missing", default="interpolate",
                         help="what frames without a face become: interpolate, hold, or fail")
    command.add_argument("--smoothing", type=float, default=0.03, help="seconds; 0 keeps every tremor")
    command.add_argument("--fps", type=float, default=None,
                         help="frames a second of the motion; the clip's if left out")
    command.add_argument("--start", type=float, default=0.0, help="seconds to leave out at the beginning")
    command.add_argument("--seconds", type=float, default=None, help="length to read; to the end if left out")
    command.add_argument("--face", default="largest", help="largest, left, right, or a number counted from the left")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.set_defaults(run=lambda args: run_motion(args, progress_bar("watching")), product="motion")


def run_motion(args: argparse.Namespace, progress=None) -> Path:
    """Runs the command; returns the motion's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .face.analyzer import FaceAnalyzer
    from .face.bridge import LatentBridge
    from .face.driving import check_choices, motion_from_frames
    from .motion.edits import with_neutral_lead
    from .motion.files import save_motion, save_template
    from .pipeline import usable_device
    from .video_reading import open_video

    output = Path(args.output)
    if output.suffix not in SUFFIXES:
        raise PlaymateError(f"The motion cannot be saved as {args.output!r}; end the name in {' or '.join(SUFFIXES)}.")
    check_choices(use=args.use, neutral=args.neutral, missing=args.missing)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    reader = open_video(args.video, args.start, args.seconds)
    fps = args.fps
    if output.suffix == ".pkl":  # templates hold whole frame rates
        fps = float(max(round(reader.fps if fps is None else fps), 1))
    analyzer = FaceAnalyzer.load(device=usable_device(args.device))
    motion = motion_from_frames(
        analyzer, LatentBridge.load(), reader, reader.fps, total=reader.total, face=policy, face_index=index,
        missing=args.missing, neutral=args.neutral, use=args.use, smoothing=args.smoothing, output_fps=fps,
        progress=progress)
    if output.suffix == ".pkl":
        # LivePortrait takes a template's first frame as its neutral one.
        return save_template(with_neutral_lead(motion), output)
    return save_motion(motion, output)
