"""What every speech encoder offers, and what several do alike."""

from __future__ import annotations

from typing import Callable, Protocol

import torch
from torch import Tensor

from ..media.audio import Audio
from ..motion.features import FPS, SpeechFeatures
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .frames import FrameMean, frame_count
from .prosody import loudness, pitch, pitch_chunks


class SpeechEncoder(Protocol):
    """Sound to speech features at the motion's frame rate (``motion.features.FPS``).

    Attributes:
        name: what the features are called; a motion model accepts only the name it was trained on.
        features_dim: C, numbers a frame.
        device: where the network runs; results come back on the CPU.
    """

    name: str
    features_dim: int
    device: torch.device

    def encode(self, audio: Audio, progress: Progress = None) -> SpeechFeatures:
        """Features, loudness and pitch of mono sound of any length, one row a motion frame.

        Args:
            audio: the sound.
            progress: called with the windows done and their number, those of the pitch analysis included.

        Returns:
            ``SpeechFeatures`` on the CPU with T = round(duration * 25); memory beyond it does not depend on the
            length.

        Raises:
            PlaymateError: the sound is shorter than one frame.
        """
        ...


def frames_of(audio: Audio) -> int:
    """Motion frames of a sound.

    Raises:
        PlaymateError: less than one.
    """
    frames = frame_count(audio.duration, FPS)
    if frames < 1:
        raise PlaymateError(f"The audio lasts {audio.duration:.3f} s, less than one frame at {FPS:g} frames a second; "
                            "give a longer recording.")
    return frames


def with_prosody(audio: Audio, features: Callable[[Progress], Tensor], windows: int, encoder: str,
                 progress: Progress = None) -> SpeechFeatures:
    """Features [T, C] with loudness and pitch of the sound.

    Args:
        audio: the sound.
        features: makes them; it is given a progress callback, for the windows done.
        windows: how many it encodes.
        encoder: the encoder's name.
        progress: see ``SpeechEncoder.encode``.
    """
    frames, total = frames_of(audio), windows + pitch_chunks(audio.samples)
    values = features(lambda done, _: report(progress, done, total))
    hertz = pitch(audio.samples, frames, FPS, lambda done, _: report(progress, windows + done, total))
    return SpeechFeatures(values.cpu(), loudness(audio.samples, frames, FPS), hertz, FPS, audio.duration, encoder)


def rows_needed(audio: Audio, rate: float) -> int:
    """Encoder rows, ``rate`` a second, that cover all motion frames of a sound; at least one.

    Raises:
        PlaymateError: the sound is shorter than one frame.
    """
    return max(FrameMean(frames_of(audio), FPS, rate, 0).rows_needed(), 1)


def encode_in_windows(encoder: SpeechEncoder, audio: Audio, rate: float, starts: list[int],
                      window: Callable[[int], Tensor], weights: Callable[[int], Tensor],
                      progress: Progress = None) -> SpeechFeatures:
    """Features of a sound that is encoded window by window, averaged over the time of each motion frame.

    Args:
        encoder: whose name and width the features have, and on whose device they are averaged.
        audio: the sound.
        rate: encoder rows a second.
        starts: first row of each window; a window may reach beyond either end of the sound.
        window: from a first row to the window's rows [L, C].
        weights: from a window's number to [L], how much its rows count; over all windows those of a row add up to 1.
        progress: see ``SpeechEncoder.encode``.
    """
    rows = rows_needed(audio, rate)

    def features(told: Progress) -> Tensor:
        mean = FrameMean(frames_of(audio), FPS, rate, encoder.features_dim, encoder.device)
        for index, start in enumerate(starts):
            report(told, index, len(starts))
            encoded = window(start) * weights(index).to(encoder.device)[:, None]
            mean.add(max(start, 0), encoded[max(-start, 0):rows - start])
        return mean.values

    return with_prosody(audio, features, len(starts), encoder.name, progress)
