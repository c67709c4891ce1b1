"""The forward process and the samplers, all diffusers' own."""

from __future__ import annotations

from ..runtime.errors import PlaymateError
from .config import DenoiserConfig

SAMPLERS = ("dpmsolver++", "ddim")


def _common(config: DenoiserConfig) -> dict:
    return dict(num_train_timesteps=config.train_timesteps, beta_schedule=config.beta_schedule,
                beta_start=1e-4, beta_end=0.02, prediction_type="epsilon")


def training_scheduler(config: DenoiserConfig):
    """The DDPM forward process of Eq. 7 (1000 steps, as the "(0, 50)" of Eq. 9 suggests)."""
    from diffusers import DDPMScheduler
    return DDPMScheduler(clip_sample=False, **_common(config))


def sampling_scheduler(config: DenoiserConfig, name: str, steps: int):
    """A deterministic sampler with its timesteps set, the first at pure noise.

    Raises:
        PlaymateError: unknown name, or steps outside 1 to train_timesteps.
    """
    if name not in SAMPLERS:
        raise PlaymateError(f"Scheduler {name!r} is unknown; use one of {', '.join(SAMPLERS)}.")
    if isinstance(steps, bool) or int(steps) != steps or not 1 <= steps <= config.train_timesteps:
        raise PlaymateError(f"Steps is {steps}; it must be a whole number from 1 to {config.train_timesteps}.")
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
    if name == "ddim":
        scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", **_common(config))
    else:
        scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2,
                                                timestep_spacing="trailing", **_common(config))
    scheduler.set_timesteps(int(steps))
    return scheduler
