"""The forward process and the samplers, all diffusers' own."""

from __future__ import annotations

from typing import Sequence

from ..runtime.errors import PlaymateError
from .config import DenoiserConfig

SCHEDULERS = ("dpmsolver++", "ddim")
"""Deterministic samplers that every motion model knows."""


def _forward_process(config: DenoiserConfig) -> dict:
    return dict(num_train_timesteps=config.train_timesteps, beta_schedule=config.beta_schedule,
                beta_start=1e-4, beta_end=0.02, prediction_type="epsilon")


def training_scheduler(config: DenoiserConfig):
    """The DDPM forward process of Eq. 7 (1000 steps, as the "(0, 50)" of Eq. 9 suggests)."""
    from diffusers import DDPMScheduler
    return DDPMScheduler(clip_sample=False, **_forward_process(config))


def sampling_scheduler(config: DenoiserConfig, name: str, steps: int):
    """A deterministic sampler of the same forward process with its timesteps set, the first at pure noise.

    Raises:
        PlaymateError: unknown name, or steps outside 1 to train_timesteps.
    """
    check_sampler(name, steps, most=config.train_timesteps)
    return deterministic_scheduler(name, steps, **_forward_process(config))


def deterministic_scheduler(name: str, steps: int, **forward_process):
    """diffusers' scheduler of a forward process, ``steps`` timesteps set.

    Args:
        name: one of ``SCHEDULERS``.
        forward_process: as diffusers' schedulers take it: num_train_timesteps, betas, prediction_type.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
    if name == "ddim":
        scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", **forward_process)
    else:
        scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2,
                                                timestep_spacing="trailing", **forward_process)
    scheduler.set_timesteps(int(steps))
    return scheduler


def check_sampler(name: str, steps: int, known: Sequence[str] = SCHEDULERS, most: int = 1000) -> None:
    """Raises PlaymateError for an unknown scheduler or an impossible number of steps."""
    if name not in known:
        raise PlaymateError(f"Scheduler {name!r} is unknown; use one of {', '.join(known)}.")
    if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= most:
        raise PlaymateError(f"Steps is {steps}; it must be a whole number from 1 to {most}.")
