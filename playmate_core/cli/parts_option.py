"""``animate --part``: long films are drawn in parts, and go on where they were stopped."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Callable

from ..media.film_sound import SoundSource
from ..media.output import check_output
from ..media.parts import SUFFIXES as JOINED
from ..media.parts import Frames, PartsFolder, write_in_parts
from ..media.video_writer import write_video
from ..motion.files import load_motion, save_motion
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from .background_option import is_transparent, suffixes
from .progress_bar import ProgressBar

log = logging.getLogger(__name__)

_APART = ("output", "motion_out", "run", "command", "product")
"""Options that change nothing in the pictures."""


def check_part(part: float) -> float:
    """``part`` itself.

    Raises:
        PlaymateError: below 0, or no number.
    """
    if not (math.isfinite(part) and part >= 0):
        raise PlaymateError(f"--part is {part:g}; give the seconds of a part, or 0 to draw the film in one go.")
    return part


class LongFilm:
    """One film that is drawn in parts if it is long: its motion is made once and kept beside them.

    Args:
        args: all options; files that they name are known by what they hold.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self._args, self._part = args, check_part(args.part)
        self._output = check_output(args.output, "video", suffixes(args))
        self._in_one_go = is_transparent(args) or self._output.suffix.lower() not in JOINED
        self._parts = PartsFolder(self._output)
        self._in_parts = False

    def motion(self, make: Callable[[], Motion]) -> Motion:
        """The motion of the film that was stopped, or else of ``make``.

        Raises:
            PlaymateError: what ``make`` raises, or a folder that cannot be written.
        """
        made_of = None
        if self._part and self._parts.is_there():
            made_of = what_it_is_made_of(self._args)
            if self._goes_on(made_of):
                self._in_parts = True
                return load_motion(self._parts.motion)
            self._parts.remove()
        motion = make()
        if self._part and self._in_one_go and len(motion) > 2 * self._each(motion):
            # VP9's alpha lies beside its packets, and ProRes would fill the disk twice.
            log.warning("A film in WebM or with a transparent ground is drawn in one go: stopped, it begins anew.")
        elif self._part and len(motion) > 2 * self._each(motion):
            self._in_parts = True
            self._parts.begin(made_of or what_it_is_made_of(self._args))
            save_motion(motion, self._parts.motion)
            # As who goes on will read it.
            motion = load_motion(self._parts.motion)
        return motion

    def write(self, frames: Frames, motion: Motion, sound: SoundSource) -> Path:
        """Draws the film, or what is missing of it.

        Args:
            frames: draws frames of ``motion``, which is what :meth:`motion` gave.

        Raises:
            PlaymateError: a film that cannot be written, or whatever ``frames`` raises.
            KeyboardInterrupt: with a sentence, where parts are kept.
        """
        progress = ProgressBar("drawing")
        if not self._in_parts:
            path = write_video(self._output, frames(0, len(motion)), motion.fps, len(motion), audio=sound,
                               crf=self._args.crf, progress=progress, alpha=is_transparent(self._args))
            self._parts.remove()  # of a film of this name that was stopped
            return path
        each = self._each(motion)
        done = self._parts.frames_done(len(motion), each)
        if done:
            log.warning("Going on from %s of %s.", clock(done / motion.fps), clock(motion.duration))
        try:
            return write_in_parts(self._parts, frames, motion.fps, len(motion), sound, each=each, crf=self._args.crf,
                                  progress=progress)
        except PlaymateError as error:
            raise PlaymateError(f"{error} {self._kept(motion)}") from error
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(self._kept(motion)) from stop

    def _each(self, motion: Motion) -> int:
        return max(1, round(self._part * motion.fps))

    def _kept(self, motion: Motion) -> str:
        done = self._parts.frames_done(len(motion), self._each(motion))
        return f"What is drawn up to {clock(done / motion.fps)} is kept; the same command goes on from there."

    def _goes_on(self, made_of: dict[str, str]) -> bool:
        before = self._parts.made_of()
        if before is None or not self._parts.motion.is_file():
            return False
        other = [name for name in {**before, **made_of} if before.get(name) != made_of.get(name)]
        if other:
            log.warning("The film was begun with another %s, so it is drawn from its beginning.", " and ".join(other))
        return not other


def what_it_is_made_of(args: argparse.Namespace) -> dict[str, str]:
    """Everything that decides a film's pictures, by name: options, the contents of the files they name, the weights,
    and the code itself with what it calculates with."""
    found = {name.replace("_", " "): _known_as(value) for name, value in sorted(vars(args).items())
             if name not in _APART}
    nearby: list[Path] = []
    if args.motion_model:
        from ..pipeline import files_beside

        nearby += files_beside(args.motion_model, own_encoder=not args.speech_encoder)
    if args.pack != "bundled":
        from ..weights.catalogue import locate

        nearby += [Path(place) for _, place in sorted(locate(args.pack).items())]
    package = Path(__file__).resolve().parent.parent
    own = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    found["version of Playmate"] = _digest(own)
    found["weights"] = _digest(nearby)
    found["version of a library"] = " ".join(f"{name} {_version(name)}" for name in ("torch", "av", "numpy"))
    return found


def clock(seconds: float) -> str:
    """12:30, or 1:02:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _known_as(value: Any) -> str:
    """An option's value; where it names a file or folder, what that holds."""
    if isinstance(value, (list, tuple)):
        return json.dumps([_known_as(each) for each in value])
    text = str(value)
    for words in (text, text.partition("=")[2]):
        try:
            path = Path(words)
            if words and path.is_file():
                return _digest([path])
            if words and path.is_dir():
                return _digest(sorted(each for each in path.rglob("*") if each.is_file()))
        except (OSError, ValueError):  # too long for a name, or no name at all
            continue
    return text


def _digest(paths: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise PlaymateError(f"{path} cannot be read ({error.strerror or error}).") from error
        digest.update(path.name.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
