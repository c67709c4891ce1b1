"""A minute of speech to motion: the bundled model, and JoyVASA's networks at their published sizes."""

from __future__ import annotations

import torch

from playmate_core.diffusion.joyvasa.config import JoyVasaConfig
from playmate_core.diffusion.joyvasa.model import JoyVasaMotionModel
from playmate_core.diffusion.joyvasa.network import MotionGenerator
from playmate_core.diffusion.joyvasa.statistics import SIZES, MotionTemplate
from playmate_core.motion.features import FPS, LEAD, JoyVasaFeatures
from playmate_core.runtime.acceleration import GRAPHS, NONE

from ..benchmarks.liveportrait import speech
from ..benchmarks.roofline import timed
from .report import FAILED, TOLD, Report
from .setup import Setup


def minute(setup: Setup, report: Report) -> None:
    """Plain and as CUDA graphs, neutral and happy."""
    for device in dict.fromkeys((setup.device, torch.device("cpu"))):
        with report.attempt(f"speech to motion on {device}"):
            names = (NONE,) if device != setup.device else (NONE, GRAPHS)
            told = []
            for what, figure in speech(device, setup.pick(60.0, 0.4), names,
                                       setup.pick(3 if device == setup.device else 1, 1),
                                       setup.pick(10, 2), told.append):
                report.row(f"{what}, {device}", figure, short=device == setup.device,
                           result=FAILED if told else TOLD)


def joyvasa(setup: Setup, report: Report) -> None:
    """JoyVASA's generator, random weights."""
    torch.manual_seed(0)
    config = setup.pick(JoyVasaConfig(), JoyVasaConfig(n_motions=20, n_prev_motions=4, feature_dim=32,
                                                       features_dim=64, n_layers=2))
    generator = MotionGenerator(config).eval().requires_grad_(False)
    arrays = {name: torch.full((size,), 1.0 if "max" in name or "std" in name else 0.5)
              for name, size in SIZES.items()}
    model = JoyVasaMotionModel(generator, MotionTemplate.from_arrays(arrays), setup.device)
    frames = round(FPS * setup.pick(60.0, 1.0))
    count = -(-(frames + LEAD) // config.n_motions)
    windows = torch.randn(count, config.n_motions, config.features_dim)
    features = JoyVasaFeatures(windows.flatten(0, 1)[LEAD:LEAD + frames], torch.zeros(frames), torch.zeros(frames),
                               FPS, frames / FPS, config.encoder, windows, windows[0] * 0)
    for scheduler, steps in (("dpmsolver++", 10), ("ancestral", 50)):
        with report.attempt(f"JoyVASA, {scheduler}"):
            took = timed(lambda: model.sample(features, seed=1, steps=steps, scheduler=scheduler),  # noqa: B023
                         setup.device, setup.pick(3, 1), setup.pick(1, 0))
            report.row(f"JoyVASA's generator, {frames / FPS:.0f} s of features to motion, {scheduler}, {steps} steps",
                       f"{took:.2f} s", short=steps == 10)
