"""``python -m playmate_core motion VIDEO -o MOTION``: a driving clip becomes a motion file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Callable

SUFFIXES = (".safetensors", ".pkl")


def add_motion_command(commands, progress_bar: Callable) -> None:
    """Adds ``motion`` to the parser's commands.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
        progress_bar: makes a progress callback of a label.
    """
    command = commands.add_parser("motion", help="driving video to motion file",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("video", help="video file with a face, or a folder of pictures in the order of their names")
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
    command.add_argument("--image-fps", type=float, default=25.0,
                         help="of a folder: the frames a second at which its pictures were taken")
    command.add_argument("--start", type=float, default=0.0, help="seconds to leave out at the beginning")
    command.add_argument("--seconds", type=float, default=None, help="length to read; to the end if left out")
    command.add_argument("--face", default="largest", help="largest, left, right, or a number counted from the left")
    command.add_argument("--extractor", default="auto",
                         help="what reads the pictures: 'motion extractor' (LivePortrait's, of the pack), landmarks, "
                              "or auto, which takes the former where the pack has it")
    command.add_argument("--pack", default="bundled",
                         help="weights whose motion extractor is used: bundled (has none), liveportrait or "
                              "liveportrait-animal, as python -m playmate_core weights lists them")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.set_defaults(run=lambda args: run_motion(args, progress_bar("watching")), product="motion")


def run_motion(args: argparse.Namespace, progress=None) -> Path:
    """Runs the command; returns the motion's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from ..driving.film import check_choices, follow_clip, motion_from_track
    from ..face.analyzer import FaceAnalyzer
    from ..face.bridge import LatentBridge
    from ..media.output import check_output
    from ..media.picture_files import PictureFolder
    from ..media.video_reader import open_video
    from ..motion.files import save_motion
    from ..pipeline import motion_extractor
    from ..runtime.devices import usable_device

    output = check_output(args.output, "motion", SUFFIXES, inputs=[args.video])
    check_choices(use=args.use, neutral=args.neutral, missing=args.missing, extractor=args.extractor)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    device = usable_device(args.device)
    reader = PictureFolder(args.video, args.image_fps, args.start, args.seconds) if Path(args.video).is_dir() else \
        open_video(args.video, args.start, args.seconds)
    extractor = None if args.extractor == "landmarks" else motion_extractor(args.pack, device)
    fps = args.fps
    template = output.suffix.lower() == ".pkl"
    if template:  # these hold whole frame rates
        fps = float(max(round(reader.fps if fps is None else fps), 1))
    track, readings = follow_clip(
        FaceAnalyzer.load(device=device), reader, reader.fps, total=reader.total, face=policy, face_index=index,
        strict=args.missing == "fail", extractor=args.extractor, motion_extractor=extractor, progress=progress)
    motion = motion_from_track(track, LatentBridge.load(), readings=readings, missing=args.missing,
                               neutral=args.neutral, use=args.use, smoothing=args.smoothing, output_fps=fps)
    return _save_template(motion, track, args, output) if template else save_motion(motion, output)


def _save_template(motion, track, args: argparse.Namespace, output: Path) -> Path:
    """A template with the openings of the actor's own eyes and lips."""
    import torch

    from ..driving.film import at_steady_rate
    from ..driving.template import write_template
    from ..face.ratios import eye_ratio, lip_ratio

    eyes, lips = (at_steady_rate(track, ratio(track.landmarks), motion.fps, args.missing).clamp_min(0)
                  for ratio in (eye_ratio, lip_ratio))
    # The neutral frame comes first: eyes as they mostly are, lips as shut as they get.
    first = (eyes[:1], lips[:1]) if args.neutral == "first frame" else (
        eyes.median(0, keepdim=True).values, lips.amin(0, keepdim=True))
    eyes, lips = (torch.cat(pair) for pair in zip(first, (eyes, lips), strict=True))
    return write_template(motion, output, (eyes, lips))
