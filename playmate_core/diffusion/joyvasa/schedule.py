"""JoyVASA's diffusion: tables, the published ancestral sampling, and two faster solvers (SPEC.md section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Optional, Sequence

import torch
from torch import Tensor

from ...runtime.errors import PlaymateError
from .config import JoyVasaConfig

SAMPLERS = ("dpmsolver++", "ddim", "ancestral")
"""``ancestral`` is the published one: every step of the training, fresh noise in each. The others are ours."""


@dataclass(frozen=True)
class Tables:
    """Numbers of the forward process; index 0..T, index 0 is clean.

    Attributes:
        betas, alphas, alpha_bars: [T + 1].
        sigmas_flex, sigmas_inflex: [T + 1] the two deviations that flexibility blends.
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
              flexibility: float = 0.0, on_step: Optional[Callable[[int, Tensor], None]] = None) -> Tensor:
    """Reverse process through every step (SPEC.md 5.2).

    Args:
        predict: the network.
        x: [L, m] start noise.
        noise: gives the Gaussian [L, m] of step T, T - 1 .. 2, counted from 0.
        target: what ``predict`` gives, ``"sample"`` or ``"noise"``.
        flexibility: 0 (released) to 1, which of the two deviations of fresh noise is taken.
        on_step: told the number of the step now reached and the state there, T - 1 down to 0.
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
            sigma = float(table.sigmas_flex[t]) * flexibility + float(table.sigmas_inflex[t]) * (1 - flexibility)
            x = x + sigma * noise(last - t).to(x)
        if on_step is not None:
            on_step(t - 1, x)
    return x


def solver(config: JoyVasaConfig, name: str, steps: int):
    """A diffusers scheduler of the same forward process with its timesteps set; step t is its timestep t - 1.

    Raises:
        PlaymateError: unknown name, or steps that are no whole number above 0.
    """
    check_sampler(name, steps)
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    kind = DDIMScheduler if name == "ddim" else DPMSolverMultistepScheduler
    own = dict(clip_sample=False) if name == "ddim" else dict(algorithm_type="dpmsolver++", solver_order=2)
    betas = tables(config.n_diff_steps, config.schedule).betas[1:].numpy()
    scheduler = kind(num_train_timesteps=config.n_diff_steps, trained_betas=betas, timestep_spacing="trailing",
                     prediction_type="sample" if config.target == "sample" else "epsilon", **own)
    scheduler.set_timesteps(min(int(steps), config.n_diff_steps))
    return scheduler


def check_sampler(name: str, steps: int, known: Sequence[str] = SAMPLERS) -> None:
    """Raises PlaymateError for an unknown sampler or an impossible number of steps."""
    if name not in known:
        raise PlaymateError(f"Scheduler {name!r} is unknown; use one of {', '.join(known)}.")
    if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= 1000:
        raise PlaymateError(f"Steps is {steps}; it must be a whole number from 1 to 1000.")
