"""Speech features that another program's encoder made, brought to the motion's frames."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple, Union

from torch import Tensor

from ..media.audio import SAMPLE_RATE
from ..media.sound import read_audio
from ..motion.features import FPS, SpeechFeatures
from ..runtime.errors import PlaymateError
from .base import frames_of, with_prosody
from .frames import FrameMean

KNOWN_WIDTHS = {384: "Whisper tiny", 512: "Whisper base", 768: "wav2vec2 or HuBERT base", 1024: "wav2vec2 large",
                1280: "Whisper large"}
"""Encoders by the width of their features, to name what was connected."""


def external_features(
    audio: Union[str, Path, Tuple[Tensor, int]],
    encoded: Tensor,
    encoded_samples: int,
    encoder: str,
    features_dim: int,
) -> SpeechFeatures:
    """Features of a foreign encoder with loudness and pitch of the sound itself.

    Args:
        audio: the sound that was encoded, as ``reading.read_audio`` takes it.
        encoded: [1, N, C] or [N, C] rows over the sound, evenly spaced. Encoders that fill up with silence (Whisper:
            30 s) are longer than the sound; what lies beyond is cut off.
        encoded_samples: samples at 16 kHz that went into the encoder.
        encoder: name of the encoder whose features the motion model takes; the result carries it.
        features_dim: width that the motion model takes.

    Returns:
        SpeechFeatures on the CPU, T = round(duration * 25).

    Raises:
        PlaymateError: features of another width, of several sounds, or of a sound of another length than ``audio``.
    """
    if encoded.ndim == 3:
        if len(encoded) != 1:
            raise PlaymateError(f"The connected speech features are of {len(encoded)} sounds; encode one at a time.")
        encoded = encoded[0]
    if encoded.ndim != 2 or not len(encoded):
        raise PlaymateError(f"The connected speech features have shape {tuple(encoded.shape)} where [rows, numbers] is "
                            "needed.")
    width = encoded.shape[1]
    if width != features_dim:
        kind = f" ({KNOWN_WIDTHS[width]})" if width in KNOWN_WIDTHS else ""
        raise PlaymateError(f"The connected speech features have {width} numbers a row{kind}, but this motion model "
                            f"listens to {encoder} with {features_dim}; disconnect audio_encoder_output or load a "
                            "motion model that was trained on them.")
    sound = read_audio(audio)
    if abs(encoded_samples / SAMPLE_RATE - sound.duration) > 0.1:
        raise PlaymateError(f"The connected speech features are of {encoded_samples / SAMPLE_RATE:.2f} s of sound, but "
                            f"the audio lasts {sound.duration:.2f} s; encode the same audio.")
    # Both families give 50 rows a second; wav2vec2's may be a row or two short, Whisper's cover its whole 30 s window.
    rate = len(encoded) / sound.duration if abs(len(encoded) - 50 * sound.duration) <= 2 else 50.0
    if len(encoded) / rate < sound.duration - 0.1:
        raise PlaymateError(f"The connected speech features end after {len(encoded) / rate:.0f} s of "
                            f"{sound.duration:.0f} s; disconnect audio_encoder_output for long sounds.")
    mean = FrameMean(frames_of(sound), FPS, rate, width)
    mean.add(0, encoded.detach().float().cpu())
    return with_prosody(sound, lambda _: mean.values, 0, encoder)
