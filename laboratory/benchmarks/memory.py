"""Peak memory of Render Video's path for a short and a long voice, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_CHILD = """
import resource, sys, tempfile
from pathlib import Path
from laboratory.benchmarks import inputs
from playmate_core import pipeline
from playmate_core.media.video_writer import write_video
seconds = float(sys.argv[1])
models = pipeline.load_models()
appearance = pipeline.extract_appearance(models, inputs.portrait(256))
sound = inputs.voice(seconds)
motion = pipeline.generate_motion(models, pipeline.encode_audio(models, sound), appearance)
with tempfile.TemporaryDirectory() as folder:
    write_video(Path(folder) / "out.mp4", pipeline.render_frames(models, appearance, motion), 25.0, len(motion), sound)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sys.stdout.write(str(peak / (1024 if sys.platform != "darwin" else 1024 * 1024)))
"""


def peak_megabytes(seconds: float) -> float:
    """Peak resident memory in MB of the whole path for ``seconds`` of speech."""
    done = subprocess.run([sys.executable, "-c", _CHILD, str(seconds)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def run(minutes: float = 10.0) -> None:
    """Prints both peaks and their difference."""
    short, long = peak_megabytes(10.0), peak_megabytes(60.0 * minutes)
    sys.stdout.write(f"memory: peak {short:.0f} MB for 10 s of audio, {long:.0f} MB for {minutes:g} min: "
                     f"{long - short:+.0f} MB\n")
