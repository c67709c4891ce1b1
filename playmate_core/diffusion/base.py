"""What every motion model offers, and what all of them do alike around their networks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Iterator, Optional, Protocol

import torch
from torch import Tensor

from ..emotion.curve import EmotionCurve
from ..motion.features import FPS, SpeechFeatures
from ..motion.resampling import joined, resampled
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress


class MotionModel(Protocol):
    """Speech features to motion.

    Attributes:
        encoder: name of the speech encoder whose features it takes.
        features_dim: how wide they are.
        has_emotion_head: whether emotion curves take effect; without one anything but neutral is refused.
    """

    @property
    def encoder(self) -> str: ...

    @property
    def features_dim(self) -> int: ...

    @property
    def has_emotion_head(self) -> bool: ...

    def sample(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None, head_motion: float = 1.0,
               fps: float = FPS, emotion: Optional[EmotionCurve] = None, emotion_guidance: Optional[float] = None,
               progress: Progress = None) -> Motion:
        """The whole motion of ``features``; arguments as ``stream``. T = round(duration * fps) frames."""
        ...

    def stream(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None, head_motion: float = 1.0,
               fps: float = FPS, emotion: Optional[EmotionCurve] = None, emotion_guidance: Optional[float] = None,
               progress: Progress = None) -> Iterator[Motion]:
        """Motion piece by piece as windows are finished, on the CPU; memory does not grow with the speech.

        Args:
            features: at 25 fps, of the encoder that the model was trained on.
            identity: [63] ``face.geometry.identity_feature``; None for an average face.
            seed: same seed, same motion, on any device; any whole number.
            steps: denoising steps per window, 1 to 1000; 8 to 20 are enough.
            scheduler: ``"dpmsolver++"`` or ``"ddim"``; a model may know more.
            audio_guidance: scale of guidance by the speech, 0 to 10; None for the model's own default.
            head_motion: 0 (still) to 3; 1 is natural.
            fps: output frames a second; models themselves run at 25 and the motion is resampled.
            emotion: a curve as long as the features, at 25 fps.
            emotion_guidance: scale of guidance by the emotion, 0 to 3; None for the model's own default.
            progress: windows times steps.

        Raises:
            PlaymateError: settings out of range, features of another encoder or frame rate, or an emotion that the
                model cannot draw.
        """
        ...


@dataclass(frozen=True)
class SamplingSettings:
    """Arguments of ``MotionModel.stream`` that are the model's own to judge."""

    seed: int
    steps: int
    scheduler: str
    audio_guidance: Optional[float]
    head_motion: float
    emotion: Optional[EmotionCurve]
    emotion_guidance: Optional[float]


class WindowedMotionModel(ABC):
    """A motion model that makes its motion in windows at 25 frames a second: all of ``MotionModel`` but the windows.

    Subclasses have ``config`` with ``encoder`` and ``features_dim``.
    """

    config: Any

    @property
    def has_emotion_head(self) -> bool:
        """Whether emotion curves take effect."""
        return False

    @property
    def encoder(self) -> str:
        """Name of the speech encoder whose features it takes."""
        return self.config.encoder

    @property
    def features_dim(self) -> int:
        """Width of those features."""
        return self.config.features_dim

    def sample(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None, head_motion: float = 1.0,
               fps: float = FPS, emotion: Optional[EmotionCurve] = None, emotion_guidance: Optional[float] = None,
               progress: Progress = None) -> Motion:
        """See ``MotionModel.sample``."""
        pieces = list(self.stream(features, identity, seed=seed, steps=steps, scheduler=scheduler,
                                  audio_guidance=audio_guidance, head_motion=head_motion, fps=fps, emotion=emotion,
                                  emotion_guidance=emotion_guidance, progress=progress))
        return joined(pieces) if pieces else Motion.rest(0, float(fps))

    def stream(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None, head_motion: float = 1.0,
               fps: float = FPS, emotion: Optional[EmotionCurve] = None, emotion_guidance: Optional[float] = None,
               progress: Progress = None) -> Iterator[Motion]:
        """See ``MotionModel.stream``."""
        check_features(features, self.encoder, self.features_dim)
        check_range("head_motion", head_motion, 0.0, 3.0)
        check_range("fps", fps, 1.0, 240.0)
        if emotion is not None and not emotion.is_neutral and not self.has_emotion_head:
            raise PlaymateError("This motion model has no emotion head, so emotions other than neutral cannot be "
                                "drawn by it; leave the emotion out or load a model that has one.")
        settings = SamplingSettings(int(seed), steps, scheduler, audio_guidance, head_motion, emotion, emotion_guidance)
        pieces = self._pieces(features, identity, settings, progress)
        return pieces if fps == FPS else resampled(pieces, float(fps), round(features.duration * fps))

    @abstractmethod
    def _pieces(self, features: SpeechFeatures, identity: Optional[Tensor], settings: SamplingSettings,
                progress: Progress) -> Iterator[Motion]:
        """Motion at 25 frames a second, window by window. Raises for wrong settings when it is called, not when the
        first piece is asked for."""


def check_features(features: SpeechFeatures, encoder: str, features_dim: int) -> None:
    """That speech features are those that a motion model was trained on.

    Raises:
        PlaymateError: of another encoder, width or frame rate, or numbers that are not finite.
    """
    if features.encoder != encoder:
        raise PlaymateError(f"The speech features come from {features.encoder}, but this motion model was trained "
                            f"on {encoder}; load the speech encoder that belongs to the model.")
    if features.features.ndim != 2 or features.features.shape[1] != features_dim:
        raise PlaymateError(f"The speech features have shape {tuple(features.features.shape)}; this motion model "
                            f"needs [frames, {features_dim}].")
    if abs(features.fps - FPS) > 1e-6:
        raise PlaymateError(f"The speech features are at {features.fps:g} frames a second; encode the audio at "
                            f"{FPS:g} and set the output rate on the sampler.")
    # Piece by piece: the question makes a copy of what it is asked of.
    if not all(bool(torch.isfinite(part).all()) for x in (features.features, features.loudness, features.pitch)
               for part in x.split(1 << 13)):
        raise PlaymateError("The speech features hold numbers that are not finite; encode the audio again.")


def check_range(name: str, value: float, lowest: float, highest: float) -> None:
    """Raises PlaymateError for a setting that is no number from ``lowest`` to ``highest``."""
    if not (isinstance(value, (int, float)) and math.isfinite(value) and lowest <= value <= highest):
        raise PlaymateError(f"{name} is {value}; it must be {lowest:g} to {highest:g}.")
