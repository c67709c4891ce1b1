"""A toy corpus and a toy model, small enough to train inside a test."""

import math
from dataclasses import replace

import torch

from laboratory.training.dataset import Clip
from playmate_core.diffusion.config import DenoiserConfig
from playmate_core.diffusion.denoiser import Denoiser
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.diffusion.normalisation import fit_statistics
from playmate_core.motion.features import SpeechFeatures

CONFIG = DenoiserConfig(encoder="toy", features_dim=12, axes=6, width=32, blocks=2, heads=2, kernel=5, dropout=0.0,
                        window=20, previous=5, lookahead=2)


def toy_clip(seed, frames=120, held_out=False, features_dim=CONFIG.features_dim):
    """A mouth that opens with what the first feature says; the rest is other, slower life."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(frames) / 25.0
    phase = torch.rand(16, generator=generator) * 2 * math.pi
    spoken = torch.sin(2 * math.pi * 1.5 * time + phase[0]) * torch.sin(2 * math.pi * 0.3 * time + phase[1]).abs()
    features = 0.3 * torch.randn(frames, features_dim, generator=generator)
    features[:, 0] += 2 * spoken
    basis = torch.randn(6, 63, generator=torch.Generator().manual_seed(99))
    life = torch.stack([torch.sin(2 * math.pi * (0.1 + 0.1 * k) * time + phase[2 + k]) for k in range(5)], 1)
    expression = 0.02 * (spoken[:, None] * basis[0] * 2 + life @ basis[1:] * 0.5)
    pose = torch.zeros(frames, 7)
    pose[:, :3] = torch.stack([3 * torch.sin(0.8 * time + phase[8 + k]) for k in range(3)], 1)
    pose[:, 3:5] = 0.01 * pose[:, :2]
    pose[:, 6] = 1.0
    tensors = dict(features=features, loudness=-30 + 10 * spoken.abs(), pitch=120 + 20 * spoken,
                   expression=expression, pose=pose, identity=torch.randn(63, generator=generator))
    return Clip(f"toy/{seed}", tensors, dict(source="toy", split="heldout" if held_out else "train"))


def toy_features(frames=73, seed=5, fps=25.0):
    clip = toy_clip(seed, frames).tensors
    return SpeechFeatures(clip["features"], clip["loudness"], clip["pitch"], fps, frames / 25.0, "toy")


def toy_model(trained=False, seed=0, **changes):
    """Random weights everywhere, heads and modulations too, so that every input has an effect; ``changes`` to CONFIG,
    such as the encoder it listens to."""
    torch.manual_seed(seed)
    config = replace(CONFIG, **changes)
    net = Denoiser(config)
    for p in net.parameters():
        if p.dim() and not bool(p.any()):
            torch.nn.init.normal_(p, std=0.05)
    clips = [toy_clip(i, features_dim=config.features_dim).tensors for i in range(3)]
    return PlaymateMotionModel(net, fit_statistics(clips, config.axes))
