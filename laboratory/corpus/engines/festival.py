"""Festival (free licence): voices of another make, kept for validation; utt.save.segs writes the phone times."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from playmate_core.evaluation.phones import from_arpabet

from .base import Speech, Voice, read_wave

_VOICES = ["cmu_us_slt_arctic_hts", "ked_diphone", "kal_diphone"]


class Festival:
    """See :class:`.base.Engine`."""

    name = "festival"

    def __init__(self) -> None:
        if shutil.which("festival") is None:
            raise OSError("festival is not installed")
        # The program comes without most of its voices.
        done = subprocess.run(["festival", "-b", "(print (voice.list))"], capture_output=True, text=True, timeout=60)
        there = set(re.findall(r"\w+", done.stdout))
        self._voices = [voice for voice in _VOICES if voice in there]
        if not self._voices:
            raise OSError(f"festival has none of the voices {', '.join(_VOICES)}")

    def voices(self, language: str) -> list[str]:
        """English only."""
        return list(self._voices) if language == "en" else []

    def say(self, text: str, voice: Voice) -> Speech:
        """Speak; ``speed`` stretches the durations. Raises OSError."""
        clean = re.sub(r"[^\w ,.!?'-]", " ", text)
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "say.scm"
            script.write_text(
                f"(voice_{voice.name})\n(Parameter.set 'Duration_Stretch {1 / voice.speed:.3f})\n"
                f'(set! u (Utterance Text "{clean}"))\n(utt.synth u)\n'
                f'(utt.save.segs u "{folder}/segments")\n(utt.save.wave u "{folder}/speech.wav")\n')
            done = subprocess.run(["festival", "-b", str(script)], capture_output=True, text=True, timeout=120)
            if done.returncode or not (Path(folder) / "speech.wav").is_file():
                raise OSError(f"festival failed on {text[:40]!r}")
            waveform, rate = read_wave(Path(folder) / "speech.wav")
            segments = (Path(folder) / "segments").read_text().split("#\n", 1)[1]
        phones, start = [], 0.0
        for line in segments.strip().splitlines():
            end, _, symbol = line.split()[:3]
            phones += from_arpabet(symbol, start, float(end))
            start = float(end)
        return Speech(waveform, rate, phones)
