"""``python -m playmate_core animate PORTRAIT AUDIO -o OUT.mp4``: portrait and voice to video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from ..media.sizes import check_size
from ..runtime.errors import PlaymateError
from .animate_options import add_knobs
from .cast_option import CastRequest, add_cast_options, cast_of, motion_files, sound_files
from .drawing_option import check_drawing
from .film_option import add_film_options, check_film_options, dub
from .liveportrait_option import parse_options, with_options
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from torch import Tensor

    from ..motion.types import Motion

log = logging.getLogger(__name__)


def add_animate_command(commands) -> None:
    """Adds ``animate`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("animate", help="portrait and voice to video",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("portrait", help="picture or film with a face")
    command.add_argument("audio", nargs="?", default=None,
                         help="sound or video file with speech; left out where each --speaker brings one")
    command.add_argument("-o", "--output", required=True, help="video to write (.mp4, .mov or .mkv)")
    add_knobs(command)
    add_film_options(command)
    add_cast_options(command)
    command.set_defaults(run=run_animate)


def run_animate(args: argparse.Namespace) -> Path:
    """Runs the whole path; returns the video's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import pipeline
    from ..media.film_pictures import is_film
    from ..media.output import check_output, refuse_same
    from ..media.sound_file import open_sound
    from ..media.video_writer import SUFFIXES
    from .direction import Direction
    from .parts_option import LongFilm
    from .portrait_option import PortraitRequest, parse_face

    # What the user typed is checked before minutes are spent on it.
    check_size(args.size)
    check_drawing(args)
    inputs = (args.portrait, args.audio, args.from_motion, args.pose, args.motion_model, args.mask)
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    if args.motion_out:
        check_motion_out(args, inputs)
        refuse_same(args.output, args.motion_out)
    filmed = is_film(args.portrait)
    check_film_options(args, filmed)
    direction, film, people = Direction.parse(args), LongFilm(args), CastRequest.parse(args)
    if people is not None:
        return _run_cast(args, people, filmed)
    options, portrait = parse_options(args), None if filmed else PortraitRequest.parse(args)
    # One reader for the speech encoder and the film: the same track, the same clock, one warning.
    sound = open_sound(args.audio)

    models = pipeline.load_models(args.pack, device=args.device,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration, wrinkles=args.wrinkles)
    models = with_options(models, options)
    if portrait is None:
        return dub(args, models, direction, sound, *parse_face(args.face), save_motion_as)
    appearance = portrait.appearance(models)
    motion = film.motion(lambda: direction.motion(models, appearance, sound))
    if args.motion_out:
        save_motion_as(motion, args.motion_out)
    note = pipeline.size_note(appearance, args.size, motion.fps)
    if note is not None:
        log.warning(note)

    def frames(start: int, stop: int) -> Iterator[Tensor]:
        return pipeline.render_frames(models, appearance, motion, args.batch_size or None, size=args.size, start=start,
                                      stop=stop)

    return film.write(frames, motion, sound)


def _run_cast(args: argparse.Namespace, people: CastRequest, filmed: bool) -> Path:
    """The same with several people in the picture or film."""
    from .. import cast, film_pipeline, pipeline
    from ..media.output import check_output, refuse_same
    from ..media.pictures import read_image
    from ..media.video_writer import SUFFIXES, write_video

    inputs = (args.portrait, args.pose, args.motion_model, *sound_files(people, args))
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    kept = motion_files(people, args) if args.motion_out else []
    for path in kept:
        check_output(path, "motion", inputs=inputs)
    refuse_same(args.output, *kept)
    options = parse_options(args)
    picture = film_pipeline.open_film(args.portrait) if filmed else read_image(args.portrait, args.image_index)
    models = with_options(pipeline.load_models(args.pack, device=args.device, motion_model=args.motion_model,
                                               speech_encoder=args.speech_encoder, acceleration=args.acceleration,
                                               wrinkles=args.wrinkles), options)
    everybody, sound = cast_of(people, args, picture, models)
    if note := pipeline.size_note(everybody.appearance, args.size, everybody.fps):
        log.warning(note)
    progress = ProgressBar("drawing")
    if not filmed:
        frames = cast.render_frames(models, everybody, args.batch_size or None, size=args.size)
        return write_video(args.output, frames, everybody.fps, everybody.frames, audio=sound, crf=args.crf,
                           progress=progress)
    first = everybody.in_step().members[0][1]
    take = film_pipeline.film_take(everybody.appearance, first, args.film_length,
                                   fps=None if args.fps is None else everybody.fps)
    frames = cast.render_frames(models, everybody, args.batch_size or None, size=args.size, take=take,
                                scope=args.scope)
    return film_pipeline.write_take(args.output, frames, take, sound, crf=args.crf, progress=progress)


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
    from .direction import USUAL_FPS
    from .pose_option import MOTION_FILES

    path = check_output(args.motion_out, "motion", MOTION_FILES, inputs=inputs)
    fps = float(exact_rate(USUAL_FPS if args.fps is None else args.fps))
    if path.suffix.lower() == ".pkl" and fps != round(fps):
        raise PlaymateError(f"{path.name} is a template, which holds whole frame rates, and the film has {fps:g} "
                            "frames a second; end the name in .safetensors, or give a whole --fps.")
