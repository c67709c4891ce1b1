"""Diffusion window after window: noise, steps, progress, and what one window hands to the next."""

from __future__ import annotations

from typing import Callable, Iterator, Optional

import torch
from torch import Tensor

from ..runtime.progress import Progress, report


def window_noise(seed: int, index: int, frames: int, dim: int) -> Tensor:
    """[frames, dim] standard normal of window ``index``; the same prefix however short the window is cut.

    Drawn on the CPU, so it depends neither on the device nor on the output's frame rate nor on how much speech follows.
    """
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + index * 7_919 + 17) % (1 << 63))
    return torch.randn(frames, dim, generator=generator)


class StepProgress:
    """Counts the denoising steps of all windows; to be called after each."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0
        report(progress, 0, max(total, 1))

    def __call__(self, steps: int = 1) -> None:
        """``steps`` more are done."""
        self.done += steps
        report(self.progress, self.done, self.total)


def denoised(scheduler, steps: int, x: Tensor, predict: Callable[[Tensor, int], Tensor],
             on_step: Optional[Callable[[], None]] = None) -> Tensor:
    """A window without its noise.

    Args:
        scheduler: of ``schedule.deterministic_scheduler``; it starts anew.
        steps: what it was made for.
        x: the noise it starts from.
        predict: (noisy window, number of the step) -> what the scheduler's ``prediction_type`` says.
        on_step: called after every step; may raise to stop.
    """
    scheduler.set_timesteps(steps)
    for index, t in enumerate(scheduler.timesteps):
        x = scheduler.step(predict(x, index), t, x).prev_sample
        if on_step is not None:
            on_step()
    return x


def in_turn(windows: int, keep: int, make: Callable[[int, Optional[Tensor]], Tensor],
            before: Optional[Tensor] = None) -> Iterator[Tensor]:
    """Windows one after another.

    Args:
        windows: how many.
        keep: frames that each is shown of what was made before it.
        make: (number, the last frames before it) -> window [W, D].
        before: what the first one is shown.
    """
    for index in range(windows):
        made = make(index, before)
        yield made
        before = (made if before is None else torch.cat((before, made)))[-keep:]
