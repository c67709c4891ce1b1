"""Flite (BSD-like licence): four American and Scottish voices; `flite -psdur` prints where every phone ends."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from playmate_core.evaluation.phones import from_arpabet

from .base import Speech, Voice, read_wave

_MEAN_PITCH = {"slt": 175.0, "awb": 110.0, "rms": 95.0, "kal16": 105.0}


class Flite:
    """See :class:`.base.Engine`."""

    name = "flite"

    def __init__(self) -> None:
        if shutil.which("flite") is None:
            raise OSError("flite is not installed")

    def voices(self, language: str) -> list[str]:
        """English only."""
        return sorted(_MEAN_PITCH) if language == "en" else []

    def say(self, text: str, voice: Voice) -> Speech:
        """Speak; ``pitch`` moves the voice's mean. Raises OSError."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            command = ["flite", "-voice", voice.name, "-psdur", "--setf", f"duration_stretch={1 / voice.speed:.3f}",
                       "--setf", f"int_f0_target_mean={_MEAN_PITCH.get(voice.name, 110.0) * voice.pitch:.1f}",
                       "-t", text, "-o", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            if done.returncode or not path.is_file():
                raise OSError(f"flite failed on {text[:40]!r}")
            waveform, rate = read_wave(path)
        phones, start = [], 0.0
        for item in done.stdout.split():
            symbol, _, end = item.rpartition(":")
            phones += from_arpabet(symbol, start, float(end))
            start = float(end)
        return Speech(waveform, rate, phones)
