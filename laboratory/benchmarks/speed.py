"""Seconds for ten seconds of speech on a 512 x 512 portrait, stage by stage, imports and loading apart."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playmate_core import pipeline
from playmate_core.media.video_writer import write_video

from . import inputs

SECONDS = 10.0


def run(device: str = "cpu") -> None:
    """Prints a table: stage, seconds, milliseconds a frame."""
    image, sound = inputs.portrait(), inputs.voice(SECONDS)
    start = time.perf_counter()
    models = pipeline.load_models(device=device)
    loading = time.perf_counter() - start
    # Once in small, so that the first call's lazy imports and thread pools are not counted.
    warm = pipeline.encode_audio(models, inputs.voice(1.0))
    appearance = pipeline.extract_appearance(models, image)
    for _ in pipeline.render_frames(models, appearance, pipeline.generate_motion(models, warm, appearance)):
        pass

    rows: list[tuple[str, float]] = []

    def timed(name, call):
        begin = time.perf_counter()
        result = call()
        rows.append((name, time.perf_counter() - begin))
        return result

    appearance = timed("face and appearance", lambda: pipeline.extract_appearance(models, image))
    features = timed("speech encoder", lambda: pipeline.encode_audio(models, sound))
    motion = timed("motion diffusion", lambda: pipeline.generate_motion(models, features, appearance))
    frames = len(motion)
    with tempfile.TemporaryDirectory() as folder:
        timed("render and encode", lambda: write_video(
            Path(folder) / "out.mp4", pipeline.render_frames(models, appearance, motion), motion.fps, frames, sound))
    rows.append(("whole", sum(seconds for _, seconds in rows)))
    sys.stdout.write(f"speed: {SECONDS:.0f} s of speech, {frames} frames, 512 x 512, {device}; "
                     f"loading the models took {loading:.2f} s\n")
    for name, seconds in rows:
        sys.stdout.write(f"  {name:<22} {seconds:7.2f} s {1000 * seconds / frames:8.1f} ms a frame\n")
