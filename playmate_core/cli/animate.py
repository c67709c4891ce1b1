"""``python -m playmate_core animate PORTRAIT AUDIO -o OUT.mp4``: portrait and voice to video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.sizes import check_size
from ..runtime.errors import PlaymateError
from .animate_options import add_knobs
from .cast_option import CastRequest, add_cast_options, cast_of, motion_files, sound_files
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ..motion.types import Motion

log = logging.getLogger(__name__)


def add_animate_command(commands) -> None:
    """Adds ``animate`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("animate", help="portrait and voice to video",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("portrait", help="picture file with a face")
    command.add_argument("audio", nargs="?", default=None,
                         help="sound or video file with speech; left out where each --speaker brings one")
    command.add_argument("-o", "--output", required=True, help="video to write (.mp4, .mov or .mkv)")
    add_knobs(command)
    add_cast_options(command)
    command.set_defaults(run=run_animate)


def run_animate(args: argparse.Namespace) -> Path:
    """Runs the whole path; returns the video's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import pipeline
    from ..face.manual import parse_box, parse_points
    from ..media.output import check_output, refuse_same
    from ..media.pictures import read_image
    from ..media.sound_file import open_sound
    from ..media.video_writer import SUFFIXES, write_video
    from .direction import Direction

    # What the user typed is checked before minutes are spent on it.
    check_size(args.size)
    inputs = (args.portrait, args.audio, args.from_motion, args.pose, args.motion_model)
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    if args.motion_out:
        _check_motion_out(args, inputs)
        refuse_same(args.output, args.motion_out)
    direction, people = Direction.parse(args), CastRequest.parse(args)
    if people is not None:
        return _run_cast(args, people)
    box = None if args.face_box is None else parse_box(args.face_box)
    points = None if args.face_points is None else parse_points(args.face_points)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    image = read_image(args.portrait)
    # One reader for the speech encoder and the film: the same track, the same clock, one warning.
    sound = open_sound(args.audio)

    models = pipeline.load_models(args.pack, device=args.device,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration, wrinkles=args.wrinkles)
    appearance = pipeline.extract_appearance(models, image, policy=policy, index=index, box=box, points=points,
                                             size=args.size)
    motion = direction.motion(models, appearance, sound)
    if args.motion_out:
        save_motion_as(motion, args.motion_out)
    note = pipeline.size_note(appearance, args.size, motion.fps)
    if note is not None:
        log.warning(note)
    frames = pipeline.render_frames(models, appearance, motion, size=args.size)
    return write_video(args.output, frames, motion.fps, len(motion), audio=sound, progress=ProgressBar("drawing"))


def _run_cast(args: argparse.Namespace, people: CastRequest) -> Path:
    """The same with several people in the picture."""
    from .. import cast, pipeline
    from ..media.output import check_output, refuse_same
    from ..media.pictures import read_image
    from ..media.video_writer import SUFFIXES, write_video

    inputs = (args.portrait, args.pose, args.motion_model, *sound_files(people, args))
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    kept = motion_files(people, args) if args.motion_out else []
    for path in kept:
        check_output(path, "motion", inputs=inputs)
    refuse_same(args.output, *kept)
    image = read_image(args.portrait)
    models = pipeline.load_models(args.pack, device=args.device,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration, wrinkles=args.wrinkles)
    everybody, sound = cast_of(people, args, image, models)
    if note := pipeline.size_note(everybody.appearance, args.size, everybody.fps):
        log.warning(note)
    frames = cast.render_frames(models, everybody, size=args.size)
    return write_video(args.output, frames, everybody.fps, everybody.frames, audio=sound,
                       progress=ProgressBar("drawing"))


def save_motion_as(motion: Motion, path: str) -> None:
    """Writes a motion as a template where its name ends in .pkl, else as a motion file."""
    from ..driving.template import write_template
    from ..motion.files import save_motion

    if path.lower().endswith(".pkl"):
        write_template(motion, path)
    else:
        save_motion(motion, path)


def _check_motion_out(args: argparse.Namespace, inputs) -> None:
    from ..media.output import check_output
    from ..media.rates import exact_rate
    from .pose_option import MOTION_FILES

    path = check_output(args.motion_out, "motion", MOTION_FILES, inputs=inputs)
    fps = float(exact_rate(args.fps))
    if path.suffix.lower() == ".pkl" and fps != round(fps):
        raise PlaymateError(f"{path.name} is a template, which holds whole frame rates, and the film has {args.fps:g} "
                            "frames a second; end the name in .safetensors, or give a whole --fps.")
