"""Peak memory of ``animate``'s path for a short and a long voice, each in a process of its own.

The voice is read from a file and the film is drawn in parts, as the command line does it. ``--minutes 60`` draws an
hour; its pictures are small, since memory does not depend on how many there are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from playmate_core.cli.demo import SAMPLES

_CHILD = """
import resource, sys, wave
from pathlib import Path
from laboratory.benchmarks import inputs
from playmate_core.cli.main import main
seconds, folder = float(sys.argv[1]), sys.argv[2]
wanted, at_once = seconds, 10.0
with wave.open(folder + "/voice.wav", "wb") as file:
    sound, rate = inputs.voice(at_once)
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(rate)
    block = (sound[0].clamp(-1, 1) * 32767).short()
    while wanted > 0:
        file.writeframes(block[:round(min(wanted, at_once) * rate)].numpy().tobytes())
        wanted -= at_once
if main(["animate", sys.argv[3], folder + "/voice.wav", "-o", folder + "/out.mp4", "--device", "cpu",
         "--size", sys.argv[4], "--part", "20"]):
    sys.exit(1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Path(folder, "peak").write_text(str(peak / (1024 if sys.platform != "darwin" else 1024 * 1024)))
"""


def peak_megabytes(seconds: float, size: int = 128) -> float:
    """Peak resident memory in MB of the whole path for ``seconds`` of speech."""
    portrait = next(SAMPLES.glob("portrait.*"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", _CHILD, str(seconds), folder, str(portrait), str(size)],
                       capture_output=True, text=True, check=True)
        return float(Path(folder, "peak").read_text())


def run(minutes: float = 10.0) -> None:
    """Prints both peaks and their difference."""
    short, long = peak_megabytes(60.0), peak_megabytes(60.0 * minutes)
    sys.stdout.write(f"memory: peak {short:.0f} MB for 1 min of audio, {long:.0f} MB for {minutes:g} min: "
                     f"{long - short:+.0f} MB\n")
