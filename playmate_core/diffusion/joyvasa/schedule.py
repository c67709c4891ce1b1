"""JoyVASA's diffusion: tables, the published ancestral sampling, and two faster solvers (SPEC.md section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import Tensor

from ...runtime.errors import PlaymateError
from ..schedule import SCHEDULERS, deterministic_scheduler
from .config import JoyVasaConfig

ANCESTRAL = "ancestral"
SAMPLERS = (*SCHEDULERS, ANCESTRAL)
"""``ancestral`` is the published one: every step of the training, fresh noise in each. The others are ours."""


@dataclass(frozen=True)
class Tables:
    """Numbers of the forward process; index 0..T, index 0 is clean.

    Attributes:
        betas, alphas, alpha_bars: [T + 1].
        sigmas_flex, sigmas_inflex: [T + 1] the two published deviations of fresh noise; the second is used.
    """

    betas: Tensor
    alphas: Tensor
    alpha_bars: Tensor
    sigmas_flex: Tensor
    sigmas_inflex: Tensor


def tables(steps: int, schedule: str = "cosine") -> Tables:
    """The forward process of ``steps`` steps (SPEC.md 5.1).

    Raises:
        PlaymateError: an unknown schedule.
    """
    low, high = 1e-4, 0.02
    if schedule == "cosine":
        u = torch.arange(steps + 1, dtype=torch.float64) / steps
        curve = torch.cos((u + 0.008) / 1.008 * (math.pi / 2)) ** 2
        betas = (1 - curve[1:] / curve[:-1]).clamp(1e-4, 0.999)
    elif schedule == "linear":
        betas = torch.linspace(low, high, steps, dtype=torch.float64)
    elif schedule == "quadratic":
        betas = torch.linspace(low ** 0.5, high ** 0.5, steps, dtype=torch.float64) ** 2
    elif schedule == "sigmoid":
        betas = torch.linspace(-5, 5, steps, dtype=torch.float64).sigmoid() * (high - low) + low
    else:
        raise PlaymateError(f"JoyVASA checkpoint: schedule {schedule!r} is unknown; cosine, linear, quadratic or "
                            "sigmoid is needed.")
    betas = torch.cat((betas.new_zeros(1), betas))
    bars = torch.cumsum(torch.log(1 - betas), 0).exp()
    inflex = torch.zeros_like(betas)
    inflex[1:] = ((1 - bars[:-1]) / (1 - bars[1:]) * betas[1:]).sqrt()
    return Tables(*(x.float() for x in (betas, 1 - betas, bars, betas.sqrt(), inflex)))


Predict = Callable[[Tensor, int], Tensor]
"""(state [L, m], step 1..T) to the network's guided output [L, m]."""


def ancestral(predict: Predict, x: Tensor, noise: Callable[[int], Tensor], table: Tables, target: str = "sample",
              on_step: Optional[Callable[[int, Tensor], None]] = None) -> Tensor:
    """Reverse process through every step (SPEC.md 5.2), with the smaller of the two deviations, as released.

    Args:
        predict: the network.
        x: [L, m] start noise.
        noise: gives the Gaussian [L, m] of step T, T - 1 .. 2, counted from 0.
        target: what ``predict`` gives, ``"sample"`` or ``"noise"``.
        on_step: called with (step reached, state there), T - 1 down to 0.
    """
    last = len(table.betas) - 1
    for t in range(last, 0, -1):
        made = predict(x, t)
        alpha, bar, before = (float(v) for v in (table.alphas[t], table.alpha_bars[t], table.alpha_bars[t - 1]))
        if target == "sample":
            x = ((1 - before) * math.sqrt(alpha) / (1 - bar)) * x + ((1 - alpha) * math.sqrt(before) / (1 - bar)) * made
        else:
            x = (x - (1 - alpha) / math.sqrt(1 - bar) * made) / math.sqrt(alpha)
        if t > 1:
            x = x + float(table.sigmas_inflex[t]) * noise(last - t).to(x)
        if on_step is not None:
            on_step(t - 1, x)
    return x


def sampling_scheduler(config: JoyVasaConfig, name: str, steps: int):
    """diffusers' scheduler of the same forward process with its timesteps set; step t is its timestep t - 1.

    Args:
        name: one of ``SAMPLERS`` but ``ancestral``.
        steps: 1 to ``n_diff_steps``.
    """
    betas = tables(config.n_diff_steps, config.schedule).betas[1:].numpy()
    return deterministic_scheduler(name, steps, num_train_timesteps=config.n_diff_steps, trained_betas=betas,
                                   prediction_type="sample" if config.target == "sample" else "epsilon")
