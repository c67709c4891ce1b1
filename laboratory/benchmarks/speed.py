"""Seconds for ten seconds of speech on a 512 x 512 portrait, stage by stage, imports and loading apart."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from playmate_core import pipeline
from playmate_core.motion.types import Motion
from playmate_core.render.base import Appearance

from . import inputs
from .roofline import finish

SECONDS = 10.0

Result = TypeVar("Result")


class Stages:
    """Seconds by the name of the stage; each is finished on the device before the next begins."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, call: Callable[[], Result]) -> Result:
        finish(self.device)
        begin = time.perf_counter()
        result = call()
        finish(self.device)
        self.seconds[name] = time.perf_counter() - begin
        return result


def to_motion(models: pipeline.Models, image: Tensor, sound: tuple[Tensor, int], stages: Stages,
              **how) -> tuple[Appearance, Motion]:
    """From a portrait and a voice to motion; ``how`` goes to ``pipeline.generate_motion``."""
    appearance = stages("face and appearance", lambda: pipeline.extract_appearance(models, image))
    features = stages("speech encoder", lambda: pipeline.encode_audio(models, sound))
    motion = stages("motion diffusion", lambda: pipeline.generate_motion(models, features, appearance, **how))
    return appearance, motion


def run(device: str = "cpu") -> None:
    """Prints a table: stage, seconds, milliseconds a frame."""
    from playmate_core.media.video_writer import write_video

    image, sound = inputs.portrait(), inputs.voice(SECONDS)
    stages = Stages(torch.device(device))
    models = stages("loading", lambda: pipeline.load_models(device=device))
    # Once in small, so that the first call's lazy imports and thread pools are not counted.
    for _ in pipeline.render_frames(models, *to_motion(models, image, inputs.voice(1.0), Stages(models.device))):
        pass
    appearance, motion = to_motion(models, image, sound, stages)
    frames = len(motion)
    with tempfile.TemporaryDirectory() as folder:
        stages("render and encode", lambda: write_video(
            Path(folder) / "out.mp4", pipeline.render_frames(models, appearance, motion), motion.fps, frames, sound))
    loading = stages.seconds.pop("loading")
    rows = {**stages.seconds, "whole": sum(stages.seconds.values())}
    sys.stdout.write(f"speed: {SECONDS:.0f} s of speech, {frames} frames, 512 x 512, {device}; "
                     f"loading the models took {loading:.2f} s\n")
    for name, seconds in rows.items():
        sys.stdout.write(f"  {name:<22} {seconds:7.2f} s {1000 * seconds / frames:8.1f} ms a frame\n")
