"""``python -m playmate_core animate PORTRAIT AUDIO -o OUT.mp4``: portrait and voice to video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..media.sizes import check_size
from ..runtime.errors import PlaymateError
from .animate_options import add_knobs
from .drawing_option import check_drawing
from .liveportrait_option import parse_options, with_options
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ..motion.types import Motion

log = logging.getLogger(__name__)


def add_animate_command(commands) -> None:
    """Adds ``animate`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("animate", help="portrait and voice to video",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("portrait", help="picture file with a face")
    command.add_argument("audio", help="sound or video file with speech")
    command.add_argument("-o", "--output", required=True, help="video to write (.mp4, .mov or .mkv)")
    add_knobs(command)
    command.set_defaults(run=run_animate)


def run_animate(args: argparse.Namespace) -> Path:
    """Runs the whole path; returns the video's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import pipeline
    from ..media.output import check_output, refuse_same
    from ..media.sound_file import open_sound
    from ..media.video_writer import SUFFIXES, write_video
    from .direction import Direction
    from .portrait_option import PortraitRequest

    # What the user typed is checked before minutes are spent on it.
    check_size(args.size)
    check_drawing(args)
    inputs = (args.portrait, args.audio, args.from_motion, args.pose, args.motion_model, args.mask)
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    if args.motion_out:
        check_motion_out(args, inputs)
        refuse_same(args.output, args.motion_out)
    direction = Direction.parse(args)
    options, portrait = parse_options(args), PortraitRequest.parse(args)
    # One reader for the speech encoder and the film: the same track, the same clock, one warning.
    sound = open_sound(args.audio)

    models = pipeline.load_models(args.pack, device=args.device,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration, wrinkles=args.wrinkles)
    models = with_options(models, options)
    appearance = portrait.appearance(models)
    motion = direction.motion(models, appearance, sound)
    if args.motion_out:
        save_motion_as(motion, args.motion_out)
    note = pipeline.size_note(appearance, args.size, motion.fps)
    if note is not None:
        log.warning(note)
    frames = pipeline.render_frames(models, appearance, motion, args.batch_size or None, size=args.size)
    return write_video(args.output, frames, motion.fps, len(motion), audio=sound, crf=args.crf,
                       progress=ProgressBar("drawing"))


def save_motion_as(motion: Motion, path: str) -> None:
    """Writes a motion as a template where its name ends in .pkl, else as a motion file."""
    from ..driving.template import write_template
    from ..motion.files import save_motion

    if path.lower().endswith(".pkl"):
        write_template(motion, path)
    else:
        save_motion(motion, path)


def check_motion_out(args: argparse.Namespace, inputs) -> None:
    """Raises PlaymateError where ``--motion-out`` cannot be written, or not at the film's rate."""
    from ..media.output import check_output
    from ..media.rates import exact_rate
    from .pose_option import MOTION_FILES

    path = check_output(args.motion_out, "motion", MOTION_FILES, inputs=inputs)
    fps = float(exact_rate(args.fps))
    if path.suffix.lower() == ".pkl" and fps != round(fps):
        raise PlaymateError(f"{path.name} is a template, which holds whole frame rates, and the film has {args.fps:g} "
                            "frames a second; end the name in .safetensors, or give a whole --fps.")
