"""The interface of a text-to-speech engine with phone times."""

from __future__ import annotations

import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from playmate_core.evaluation.phones import Phone


@dataclass(frozen=True)
class Speech:
    """One spoken sentence.

    Attributes:
        waveform: [N] float32 in -1..1.
        rate: samples a second.
        phones: in order, times in seconds of ``waveform``.
    """

    waveform: np.ndarray
    rate: int
    phones: list[Phone]

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.waveform) / self.rate


@dataclass(frozen=True)
class Voice:
    """One way of speaking of an engine.

    Attributes:
        name: as the engine calls it.
        language: code of the text it can read ("en", "de", ..).
        speed: factor on the pace, above 1 is faster.
        pitch: factor on the fundamental frequency.
        tract: factor on the formants, below 1 is a longer vocal tract (a bigger person).
        liveliness: factor on the pitch's movement, where the engine can.
        seed: of the engine's own noise, where it has any.
    """

    name: str
    language: str = "en"
    speed: float = 1.0
    pitch: float = 1.0
    tract: float = 1.0
    liveliness: float = 1.0
    seed: int = field(default=0, compare=False)


class Engine(Protocol):
    """Speaks text and says when each phone was spoken.

    Constructing one raises ImportError or OSError where the engine is not installed.
    """

    name: str

    def voices(self, language: str) -> list[str]:
        """Names of the voices that read ``language``; empty where it does not."""

    def say(self, text: str, voice: Voice) -> Speech:
        """Speak ``text``; raises OSError when the engine fails on it."""


def read_wave(path: Path) -> tuple[np.ndarray, int]:
    """A mono 16-bit wave file as ([N] float32 in -1..1, rate)."""
    with wave.open(str(path), "rb") as stream:
        samples = np.frombuffer(stream.readframes(stream.getnframes()), np.int16)
        return samples.astype(np.float32) / 32768.0, stream.getframerate()
