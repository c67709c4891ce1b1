"""``animate FILM VOICE``: what its options for films mean, and the way through the library for one."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from ..runtime.errors import PlaymateError
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ..media.sound_file import SoundFile
    from ..motion.types import Motion
    from ..pipeline import Models
    from .direction import Direction

log = logging.getLogger(__name__)

FILM_DEFAULTS = {"scope": "mouth", "film_length": "hold"}


def add_film_options(command: argparse.ArgumentParser) -> None:
    """Adds what directs a film as the portrait."""
    command.add_argument("--scope", default=FILM_DEFAULTS["scope"],
                         help="of a film, what is replaced: mouth (lips, jaw and what they move), face (every "
                              "expression; the head stays the film's), or all")
    command.add_argument("--film-length", default=FILM_DEFAULTS["film_length"],
                         help="a film shorter than the speech: hold (its last picture), loop, ping-pong (backwards and "
                              "forwards) or cut; cut also ends a longer one with the speech, others play it to its end "
                              "with the mouth shut")


def check_film_options(args: argparse.Namespace, filmed: bool) -> None:
    """Checks what the user typed.

    Raises:
        PlaymateError: an unknown choice, or a mark of a face in a film.
    """
    from ..render.film import check_scope
    from ..render.takes import check_film_length

    check_scope(args.scope)
    check_film_length(args.film_length)
    if filmed and not (args.face_box is args.face_points is args.mask is None):
        raise PlaymateError("In a film the face is found and followed by itself, and a marked place would not move "
                            "with it; leave --face-box, --face-points and --mask out.")
    changed = [f"--{name.replace('_', '-')}" for name, usual in FILM_DEFAULTS.items() if getattr(args, name) != usual]
    if changed and not filmed:
        log.warning("%s %s nothing where the portrait is a picture.", " and ".join(changed),
                    "do" if changed[1:] else "does")


def dub(args: argparse.Namespace, models: Models, direction: Direction, sound: SoundFile, policy: str, index: int,
        keep_motion: Callable[[Motion, str], object]) -> Path:
    """A film speaks with another voice; returns the new film's path.

    Args:
        keep_motion: writes a motion to a path, for ``--motion-out``.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import film_pipeline, pipeline

    appearance = film_pipeline.extract_film(models, film_pipeline.open_film(args.portrait), policy, index,
                                            size=args.size, progress=ProgressBar("following"))
    film = appearance.film
    motion = direction.motion(models, appearance, sound, film.fps if args.fps is None else direction.fps)
    if args.motion_out:
        keep_motion(motion, args.motion_out)
    take = film_pipeline.film_take(appearance, motion, args.film_length,
                                   fps=None if args.fps is None else direction.fps)
    note = pipeline.size_note(appearance, args.size, take.fps)
    if note is not None:
        log.warning(note)
    frames = film_pipeline.film_frames(models, appearance, motion, take, args.scope, args.batch_size or None,
                                       size=args.size)
    return film_pipeline.write_take(args.output, frames, take, sound, crf=args.crf, progress=ProgressBar("drawing"))
