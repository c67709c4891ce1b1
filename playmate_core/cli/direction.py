"""How ``animate``'s options move one face: checked before minutes are spent on it, then carried out."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping

from ..emotion.plan import EmotionPlan
from ..media.rates import exact_rate
from ..media.sound_file import SoundFile
from ..motion.blinks import plan_blinks
from ..motion.files import load_motion
from ..motion.gaze import GazeKeyframes
from ..motion.lengths import SOUND_LENGTHS, fit_sound
from ..motion.pose import MODES, override_pose, parse_axes
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from .emotion_option import read_emotion
from .pose_option import POSE_LENGTHS, PoseRequest, length_note, parse_pose, read_pose
from .progress_bar import ProgressBar

if TYPE_CHECKING:
    from ..pipeline import Appearance, Models

log = logging.getLogger(__name__)

USUAL_FPS = 25.0
"""Frames a second of a film if nothing else is asked."""


@dataclass(frozen=True)
class Direction:
    """Everything that decides a face's motion, read from the options.

    Attributes:
        args: the options themselves, for what needs no reading.
        fps: frames a second of the film.
        pose, pose_axes, pose_modes: whose pose the head takes, and how.
        gaze, emotion: over time; None leaves them to the model.
        kept: a motion that was made before, in place of a generated one.
    """

    args: argparse.Namespace
    fps: float
    pose: PoseRequest | None
    pose_axes: tuple | None
    pose_modes: str | Mapping[str, str]
    gaze: GazeKeyframes | None
    emotion: EmotionPlan | None
    kept: Motion | None

    @staticmethod
    def parse(args: argparse.Namespace) -> Direction:
        """Reads and checks what the user typed.

        Raises:
            PlaymateError: whatever cannot be understood.
        """
        for option, value, known in (("--length", args.length, SOUND_LENGTHS),
                                     ("--pose-length", args.pose_length, POSE_LENGTHS)):
            if value not in known:
                raise PlaymateError(f"{option} is {value!r}; choose one of: {', '.join(known)}.")
        if args.blink is not None:
            plan_blinks(0.0, args.blink)
        axes, modes = (None, args.pose_mode) if args.pose_mode in MODES else parse_axes(args.pose_mode)
        return Direction(
            args, float(exact_rate(USUAL_FPS if args.fps is None else args.fps)),
            None if args.pose is None else parse_pose(args.pose, args.pose_easing), axes, modes,
            None if args.gaze is None else GazeKeyframes.parse(args.gaze),
            read_emotion(args.emotion, args.emotion_layer),
            load_motion(args.from_motion) if args.from_motion else None)

    def motion(self, models: Models, appearance: Appearance | None, sound: SoundFile,
               fps: float | None = None) -> Motion:
        """The motion of ``appearance`` as it speaks with ``sound``.

        Args:
            appearance: whose face it is; None assumes an average one.
            fps: frames a second; None takes the options' own.

        Raises:
            PlaymateError: whatever in the inputs cannot be used.
        """
        motion = self._directed(models, self._spoken(models, appearance, sound, self.fps if fps is None else fps))
        if self.args.blink is None and self.gaze is None:
            return motion
        from ..motion.eyes import direct_eyes

        return direct_eyes(motion, blink_mode="keep" if self.args.blink is None else "replace",
                           blink_rate=self.args.blink or 0.0, seed=self.args.seed, gaze_mode="replace", gaze=self.gaze)

    def _spoken(self, models: Models, appearance: Appearance | None, sound: SoundFile, fps: float) -> Motion:
        from .. import pipeline

        args = self.args
        if self.kept is not None:
            from ..media.film_sound import seconds_of
            from ..motion.edits import resample

            motion, note = fit_sound(resample(self.kept, fps), seconds_of(sound), args.length)
            if note:
                log.warning(note)
            return motion
        features = pipeline.encode_audio(models, sound, progress=ProgressBar("listening"))
        return pipeline.generate_motion(
            models, features, appearance, seed=args.seed, steps=args.steps, scheduler=args.scheduler,
            audio_guidance=args.audio_guidance, head_motion=args.head_motion, fps=fps, emotion=self.emotion,
            emotion_guidance=args.emotion_guidance, progress=ProgressBar("moving"))

    def _directed(self, models: Models, motion: Motion) -> Motion:
        if self.pose is None:
            return motion
        source = read_pose(self.pose, models.face, models.bridge, ProgressBar("watching"))
        if note := length_note(source, motion, self.args.pose_length):
            log.warning(note)
        return override_pose(motion, source, self.pose_modes, self.pose_axes, self.args.pose_amount,
                             length=POSE_LENGTHS[self.args.pose_length])
