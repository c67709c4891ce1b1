"""``python -m playmate_core speak VOICE -o MOTION``: what ``animate`` would draw, as a motion file."""

from __future__ import annotations

import argparse
from pathlib import Path

from .animate import check_motion_out, save_motion_as
from .animate_options import (
    add_emotion_options,
    add_eye_options,
    add_model_options,
    add_portrait_options,
    add_pose_options,
    add_sampling_options,
)


def add_speak_command(commands) -> None:
    """Adds ``speak`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("speak", help="voice to motion file, without drawing it",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("audio", help="sound or video file with speech")
    command.add_argument("-o", "--output", required=True,
                         help="motion to write: .safetensors, or .pkl for LivePortrait")
    command.add_argument("--portrait", default=None, metavar="FILE",
                         help="whose face it is; an average one if left out")
    add_sampling_options(command)
    add_pose_options(command)
    add_eye_options(command)
    add_emotion_options(command)
    add_portrait_options(command)
    add_model_options(command)
    command.set_defaults(run=run_speak, product="motion", from_motion=None, length="motion")


def run_speak(args: argparse.Namespace) -> Path:
    """Runs the command; returns the motion's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import pipeline
    from ..media.sound_file import open_sound
    from .direction import Direction
    from .portrait_option import PortraitRequest

    args.motion_out = args.output
    check_motion_out(args, (args.audio, args.portrait, args.pose, args.motion_model, args.mask))
    direction = Direction.parse(args)
    portrait = None if args.portrait is None else PortraitRequest.parse(args)
    sound = open_sound(args.audio)
    models = pipeline.load_models(args.pack, device=args.device, motion_model=args.motion_model,
                                  speech_encoder=args.speech_encoder, acceleration=args.acceleration,
                                  wrinkles=args.wrinkles)
    appearance = None if portrait is None else portrait.appearance(models)
    save_motion_as(direction.motion(models, appearance, sound), args.output)
    return Path(args.output)
