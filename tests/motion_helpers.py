"""Motions for the motion tests: every number in use, and comparison bit for bit."""

from __future__ import annotations

import torch

from playmate_core.motion.types import Motion, Neutral

FIELDS = ("expression", "rotation", "translation", "scale")


def random_motion(frames=20, fps=25.0, seed=0, neutral=True):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    rest = Neutral(0.02 * draw(21, 3), 5 * draw(3), 0.1 * draw(3), torch.tensor([1.3])) if neutral else Neutral.rest()
    return Motion(0.02 * draw(frames, 21, 3), 8 * draw(frames, 3), 0.05 * draw(frames, 3),
                  1 + 0.1 * torch.rand(frames, 1, generator=generator), fps, rest)
