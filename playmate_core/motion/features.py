"""Speech as a motion model takes it: one row a motion frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from torch import Tensor

FPS = 25.0
"""Frames a second at which every motion model runs (PAPER.md 1.10); other rates resample the motion."""

LEAD = 2
"""Frames of silence that JoyVASA's encoder puts in front of the sound, and its generator expects there."""


@dataclass(frozen=True)
class SpeechFeatures:
    """What a motion model is given, one row a motion frame; T = round(duration * fps).

    Attributes:
        features: [T, C] float32 encoder features, averaged over each frame's time.
        loudness: [T] decibels relative to full scale, floored at -80.
        pitch: [T] fundamental frequency in Hz, 0 where unvoiced.
        fps: frames a second.
        duration: seconds of the original sound.
        encoder: name of the encoder, compared with the one that the motion model was trained on.
    """

    features: Tensor
    loudness: Tensor
    pitch: Tensor
    fps: float
    duration: float
    encoder: str

    def __len__(self) -> int:
        return self.features.shape[0]

    def to(self, device) -> SpeechFeatures:
        """The same on ``device``."""
        return SpeechFeatures(self.features.to(device), self.loudness.to(device), self.pitch.to(device),
                              self.fps, self.duration, self.encoder)


@dataclass(frozen=True)
class JoyVasaFeatures(SpeechFeatures):
    """Speech features that still know their windows.

    Attributes:
        windows: [W, L, C] features of every window. Flattened, the first ``LEAD`` rows lie before the sound.
        silence: [L, C] features of a window without any sound.
    """

    windows: Optional[Tensor] = None
    silence: Optional[Tensor] = None

    def to(self, device) -> JoyVasaFeatures:
        """The same on ``device``."""
        moved = (None if x is None else x.to(device) for x in (self.windows, self.silence))
        return JoyVasaFeatures(self.features.to(device), self.loudness.to(device), self.pitch.to(device), self.fps,
                               self.duration, self.encoder, *moved)
