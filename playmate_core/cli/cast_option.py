"""``--speaker`` and ``--turns``: several people of one picture, who speaks with what, and who when."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from ..runtime.errors import PlaymateError
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from torch import Tensor

    from ..emotion.plan import EmotionPlan
    from ..media.film_pictures import FilmPictures
    from ..motion.turns import Turns
    from ..motion.types import Motion
    from ..pipeline import Appearance, Models
    from ..render.cast import Cast

log = logging.getLogger(__name__)

FACES = ("left", "right", "largest")


def add_cast_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of several speakers to ``animate``, and lets its sound be left out where they bring theirs."""
    command.add_argument("--speaker", action="append", default=None, metavar="FACE[=AUDIO]",
                         help='one of several people in the picture, e.g. "left=a.wav"; FACE as for --face. Several '
                              'times, one a person, who listens while others speak. ",emotion=happy" at the end gives '
                              "a person their own emotion. Without AUDIO: see --turns")
    command.add_argument("--turns", default=None, metavar="SCHEDULE",
                         help='who speaks when in the one sound given, e.g. "0 1; 3.2 2; 5 1" (seconds, then the '
                              "number of the --speaker, or its FACE; - is nobody, all is everybody). Without it, left "
                              "and right channel are the two speakers")
    known = command.parse_known_args

    def parse_known_args(args=None, namespace=None):
        # Before Python 3.12, argparse takes an optional argument for missing when an option comes before it.
        namespace, rest = known(args, namespace)
        if namespace.audio is None and rest and not rest[0].startswith("-"):
            namespace.audio = rest.pop(0)
        if namespace.audio is None and not namespace.speaker:
            command.error("the following arguments are required: audio")
        return namespace, rest

    vars(command)["parse_known_args"] = parse_known_args


@dataclass(frozen=True)
class Speaker:
    """One ``--speaker``.

    Attributes:
        face: left, right, largest, or a number counted from the left.
        audio: their own sound, or None.
        emotion: their own, or None for what holds for all.
    """

    face: str
    audio: str | None = None
    emotion: EmotionPlan | None = None

    @staticmethod
    def parse(text: str) -> Speaker:
        """Reads ``FACE``, ``FACE=AUDIO`` or either with ``,emotion=SCHEDULE`` behind.

        Raises:
            PlaymateError: a face that cannot be told, or an emotion that cannot be read.
        """
        from ..emotion.plan import EmotionPlan

        text, comma, emotion = text.partition(",emotion=")
        face, equals, audio = text.partition("=")
        face = face.strip().lower()
        if face not in FACES and not face.isdigit():
            raise PlaymateError(f'--speaker is "{text}", where {face or "nothing"!r} names no face; write '
                                'left=voice.wav, right=voice.wav, largest=voice.wav, or a number from the left, '
                                '0=voice.wav.')
        if equals and not audio.strip():
            raise PlaymateError(f'--speaker is "{text}", without a sound after the =; write {face}=voice.wav, or '
                                f"only {face} with one sound for all and --turns.")
        return Speaker(face, audio.strip() or None, EmotionPlan.parse(emotion) if comma else None)

    @property
    def choice(self) -> dict[str, Any]:
        """For ``pipeline.extract_appearance``."""
        return {"policy": "index", "index": int(self.face)} if self.face.isdigit() else {"policy": self.face}


@dataclass(frozen=True)
class CastRequest:
    """What was asked for, understood.

    Attributes:
        speakers: two at least, or one with a sound of their own.
        turns: who speaks when in a sound for all; None where they have their own, or a channel each.
    """

    speakers: tuple[Speaker, ...]
    turns: Turns | None

    @staticmethod
    def parse(args: argparse.Namespace) -> CastRequest | None:
        """None where one person speaks.

        Raises:
            PlaymateError: options that cannot be understood, or that contradict each other.
        """
        from ..motion.turns import Turns

        if not getattr(args, "speaker", None) and getattr(args, "turns", None) is None:
            return None
        speakers = tuple(Speaker.parse(text) for text in args.speaker or ("left", "right"))
        faces = [speaker.face for speaker in speakers]
        if twice := next((face for face in faces if faces.count(face) > 1), None):
            raise PlaymateError(f"--speaker names the face {twice!r} twice; give each person once.")
        own = [speaker for speaker in speakers if speaker.audio is not None]
        for option, value in (("--from-motion", args.from_motion), ("--face-box", args.face_box),
                              ("--face-points", args.face_points)):
            if value is not None:
                raise PlaymateError(f"{option} is for one person and cannot be used with --speaker or --turns; leave "
                                    "it out.")
        if own and args.audio is not None:
            raise PlaymateError(f"Both a sound for all ({Path(args.audio).name}) and one of their own for "
                                f"{own[0].face} are given; give one or the other.")
        if own and args.turns is not None:
            raise PlaymateError("--turns divides one sound between the speakers, but they have sounds of their own; "
                                "leave out --turns, or give the sound once and --speaker without it.")
        if not own and args.audio is None:
            raise PlaymateError("No sound is given; write --speaker FACE=AUDIO for each person, or one sound after "
                                "the picture with --turns.")
        if own and len(own) == len(speakers) == 1:
            return CastRequest(speakers, None)
        if len(speakers) < 2:
            raise PlaymateError("--speaker names one person; give it once for each of them.")
        return CastRequest(speakers, None if args.turns is None else Turns.parse(args.turns, faces))


def cast_of(request: CastRequest, args: argparse.Namespace, picture: Tensor | FilmPictures,
            models: Models) -> tuple[Cast, Any]:
    """Everybody's motion, and the film's sound.

    Args:
        picture: [H, W, 3], or a film's pictures.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    import torch

    from .. import film_pipeline, pipeline
    from ..cast import Cast, loudness_of
    from ..render.cast import check_together
    from .direction import Direction

    direction = Direction.parse(args)
    sounds, heard = _sounds(request, args.audio)
    appearances: list[Appearance] = []
    for speaker in request.speakers:
        if isinstance(picture, torch.Tensor):
            one = pipeline.extract_appearance(models, picture, size=args.size, **speaker.choice)
        else:
            one = film_pipeline.extract_film(models, picture, size=args.size, progress=ProgressBar("following"),
                                             **speaker.choice)
        for other in appearances:
            check_together(other, one)
        appearances.append(one)
    speech, motions = [], []
    for number, (speaker, sound, appearance) in enumerate(zip(request.speakers, sounds, appearances, strict=True)):
        own = replace(direction, args=argparse.Namespace(**{**vars(args), "seed": args.seed + number}),
                      emotion=speaker.emotion or direction.emotion)
        if sound is None:
            speech.append(torch.zeros(0))
            motions.append(None)
            continue
        speech.append(loudness_of(sound))
        # On a film, at the film's rate unless another is asked for.
        fps = None if appearance.film is None or args.fps is not None else appearance.film.fps
        motions.append(own.motion(models, appearance, sound, fps))
    moved = _everybody(appearances, speech, motions, args)
    if args.motion_out:
        from .animate import save_motion_as

        for path, motion in zip(motion_files(request, args), moved, strict=True):
            save_motion_as(motion, path)
    cast = None
    for appearance, motion in zip(appearances, moved, strict=True):
        cast = Cast.of(appearance, motion, cast)
    return cast, heard


def motion_files(request: CastRequest, args: argparse.Namespace) -> list[str]:
    """Where each person's motion is kept: the name given, with the person's number before its ending."""
    path = Path(args.motion_out)
    return [str(path.with_name(f"{path.stem}_{number + 1}{path.suffix}")) for number in range(len(request.speakers))]


def sound_files(request: CastRequest, args: argparse.Namespace) -> list[str]:
    """All sounds that are read."""
    return [path for path in (args.audio, *(speaker.audio for speaker in request.speakers)) if path is not None]


def _everybody(appearances: Sequence[Appearance], loudness: Sequence[Tensor], motions: Sequence[Motion | None],
               args: argparse.Namespace) -> list[Motion]:
    """Motions of all, those without a sound listening throughout."""
    from ..cast import converse
    from ..motion.types import Motion

    longest = max((motion for motion in motions if motion is not None), key=len)
    quiet = [number for number, motion in enumerate(motions) if motion is None]
    whole = [Motion.rest(len(longest), longest.fps) if motion is None else motion for motion in motions]
    return converse(appearances, loudness, whole, seed=args.seed, head=args.pose is None, eyes=args.gaze is None,
                    blinks=quiet)


def _sounds(request: CastRequest, audio: str | None) -> tuple[list, Any]:
    """(each speaker's sound, or None who has none; the film's)."""
    from ..media.film_sound import seconds_of
    from ..media.gating import SpeakersSound, added, whole
    from ..media.sound_file import open_sound

    if audio is None:
        files = {speaker.audio: open_sound(speaker.audio) for speaker in request.speakers if speaker.audio is not None}
        sounds = [None if speaker.audio is None else files[speaker.audio] for speaker in request.speakers]
        return sounds, next(iter(files.values())) if len(files) == 1 else added([whole(one) for one in files.values()])
    sound = open_sound(audio)
    seconds, count = seconds_of(sound) or 0.0, len(request.speakers)
    if request.turns is None:
        if sound.channels != 2 or count != 2:
            raise PlaymateError(f"{sound.name} has {sound.channels} channel{'s' if sound.channels > 1 else ''} for "
                                f"{count} speakers; say with --turns who speaks when, such as --turns \"0 1; 3.2 2\", "
                                "or give each of them a sound of their own.")
        return [SpeakersSound.of(sound, seconds, channel=number) for number in range(count)], sound
    spans = [request.turns.spans(number, seconds) for number in range(count)]
    for number, own in enumerate(spans):
        if not own:
            log.warning("Speaker %d (%s) has no turn within the %.2f s of %s and only listens.", number + 1,
                        request.speakers[number].face, seconds, sound.name)
    return [SpeakersSound.of(sound, seconds, own) if own else None for own in spans], sound
