"""``python -m playmate_core render PORTRAIT MOTION -o FILM``: a motion file becomes a film or pictures."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..media.sizes import check_size
from .animate_options import add_model_options, add_portrait_options
from .drawing_option import add_drawing_options, check_drawing
from .film_option import add_film_options, check_film_options
from .liveportrait_option import add_liveportrait_options, parse_options, with_options
from .progress_bar import ProgressBar

log = logging.getLogger(__name__)


def add_render_command(commands) -> None:
    """Adds ``render`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("render", help="portrait and motion file to video or pictures",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("portrait", help="picture or film with a face")
    command.add_argument("motion", help=".safetensors, or LivePortrait's .pkl")
    command.add_argument("-o", "--output", required=True,
                         help="video to write (.mp4, .mov or .mkv), or a folder for a PNG of every frame")
    command.add_argument("--audio", default=None, metavar="FILE", help="the film's sound; silent if left out")
    command.add_argument("--length", default="motion",
                         help="how long the film lasts when motion and sound differ: as the motion; cut ends with the "
                              "shorter of them; hold, loop and mirror continue a shorter motion to the sound's end")
    add_portrait_options(command)
    add_model_options(command)
    add_liveportrait_options(command)
    add_drawing_options(command)
    add_film_options(command)
    command.set_defaults(run=run_render)


def run_render(args: argparse.Namespace) -> Path:
    """Runs the command; returns the film's or folder's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import film_pipeline, pipeline
    from ..media.film_pictures import is_film
    from ..media.film_sound import seconds_of
    from ..media.output import check_output
    from ..media.picture_files import check_folder, write_pictures
    from ..media.sound_file import open_sound
    from ..media.video_writer import SUFFIXES, write_video
    from ..motion.files import load_motion
    from ..motion.lengths import fit_sound
    from .portrait_option import PortraitRequest, parse_face

    check_size(args.size)
    check_drawing(args)
    pictures = not Path(args.output).suffix
    if pictures:
        check_folder(args.output)
        args.product = "pictures"
    else:
        check_output(args.output, "video", SUFFIXES, inputs=(args.portrait, args.motion, args.audio, args.mask))
    filmed = is_film(args.portrait)
    check_film_options(args, filmed)
    options, portrait = parse_options(args), None if filmed else PortraitRequest.parse(args)
    sound = None if args.audio is None else open_sound(args.audio)
    motion, note = fit_sound(load_motion(args.motion), seconds_of(sound), args.length)

    models = pipeline.load_models(args.pack, device=args.device, motion_model=args.motion_model,
                                  speech_encoder=args.speech_encoder, acceleration=args.acceleration,
                                  wrinkles=args.wrinkles)
    models = with_options(models, options)
    progress, take = ProgressBar("drawing"), None
    if portrait is not None:
        appearance = portrait.appearance(models)
        fps, total = motion.fps, len(motion)
        frames = pipeline.render_frames(models, appearance, motion, args.batch_size or None, size=args.size)
    else:
        appearance = film_pipeline.extract_film(models, film_pipeline.open_film(args.portrait), *parse_face(args.face),
                                                size=args.size, progress=ProgressBar("following"))
        take = film_pipeline.film_take(appearance, motion, args.film_length)
        fps, total = take.fps, len(take)
        frames = film_pipeline.film_frames(models, appearance, motion, take, args.scope, args.batch_size or None,
                                           size=args.size)
    for said in (note, pipeline.size_note(appearance, args.size, None if pictures else fps)):
        if said is not None:
            log.warning(said)
    if pictures:
        return write_pictures(args.output, frames, total, progress)
    if take is not None:
        return film_pipeline.write_take(args.output, frames, take, sound, crf=args.crf, progress=progress)
    return write_video(args.output, frames, fps, total, audio=sound, crf=args.crf, progress=progress)
