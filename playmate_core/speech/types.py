"""Sound as the rest of the library sees it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

SAMPLE_RATE = 16_000
"""Samples a second that every speech encoder here takes."""


@dataclass(frozen=True)
class Audio:
    """Mono speech.

    Attributes:
        samples: [N] float32 in -1..1 at ``SAMPLE_RATE``, finite.
        duration: seconds of the original sound (before resampling).
    """

    samples: Tensor
    duration: float


@dataclass(frozen=True)
class SpeechFeatures:
    """What the motion model hears, one row a motion frame; T = round(duration * fps).

    Attributes:
        features: [T, C] float32 encoder features, averaged over each frame's time.
        loudness: [T] decibels relative to full scale, floored at -80.
        pitch: [T] fundamental frequency in Hz, 0 where unvoiced.
        fps: frames a second.
        duration: seconds of the original sound.
        encoder: name of the encoder, compared with what the motion model was trained on.
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
