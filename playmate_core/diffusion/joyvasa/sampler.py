"""Window after window of JoyVASA's motion (SPEC.md sections 5.3 to 5.5 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Optional

import torch
from torch import Tensor

from ..windows import denoised, in_turn, window_noise
from .network import MotionGenerator
from .schedule import ANCESTRAL, ancestral, sampling_scheduler, tables


@dataclass(frozen=True)
class Sampling:
    """How a window is drawn.

    Attributes:
        scheduler, steps: see ``schedule.SAMPLERS``; ``ancestral`` takes all steps of the training whatever ``steps``.
        guidance: scale of classifier-free guidance; 1 and None leave the conditional prediction alone.
    """

    scheduler: str = ANCESTRAL
    steps: int = 50
    guidance: Optional[float] = 2.8


class Noise:
    """Gaussians of a seed: the same on every device, whatever comes after."""

    def __init__(self, seed: int, frames: int, width: int) -> None:
        self.seed, self.frames, self.width = seed, frames, width

    def start(self) -> Tensor:
        """[L, m] where every window begins: the same in all of them, as published."""
        return window_noise(self.seed, -1, self.frames, self.width)

    def window(self, index: int) -> Callable[[int], Tensor]:
        """Fresh noise [L, m] of a window, by the number of the draw."""
        def draw(count: int) -> Tensor:
            return window_noise(self.seed, 1 + index * 4096 + count, self.frames, self.width)
        return draw


def guided_generator(net: MotionGenerator, audio: Tensor, before_motion: Tensor, before_audio: Tensor,
                     guidance: Optional[float]) -> Callable[[Tensor, int], Tensor]:
    """A window's network under guidance: (state [L, m], step 1..T) to [L, m].

    Args:
        audio: [L, d] speech of the window, mapped.
        before_motion, before_audio: [P, m] and [P, d] of the frames before it. Guidance never takes them away.
    """
    guided = guidance is not None and guidance != 1.0
    memory = torch.cat((before_audio, audio))[None]
    if guided:
        silent = torch.cat((before_audio, net.null_audio_feat[0].expand(len(audio), -1)))[None]
        memory = torch.cat((silent, memory))
    network = net.denoising_net
    from_speech, rows = network.speech_terms(memory), len(memory)

    def predict(x: Tensor, step: int) -> Tensor:
        motion = torch.cat((before_motion, x))[None].expand(rows, -1, -1)
        steps = torch.full((rows,), step, device=x.device, dtype=torch.long)
        made = network(motion, memory, steps, from_speech)[:, len(before_motion):]
        return made[0] + guidance * (made[1] - made[0]) if guided else made[0]

    return predict


def sample_window(net: MotionGenerator, audio: Tensor, before_motion: Tensor, before_audio: Tensor, start: Tensor,
                  noise: Callable[[int], Tensor], sampling: Sampling, scheduler=None,
                  on_step: Optional[Callable[[], None]] = None) -> Tensor:
    """One window's raw latent [L, m] from its start noise [L, m].

    Args:
        noise: draws of ``Noise.window``, for ``ancestral``.
        scheduler: of ``schedule.sampling_scheduler``, for the others.
        on_step: called after every diffusion step; may raise to stop.
        net, audio, before_motion, before_audio: as in ``guided_generator``.
    """
    config = net.config
    predict = guided_generator(net, audio, before_motion, before_audio, sampling.guidance)
    x = start.to(audio)
    if scheduler is None:
        table = tables(config.n_diff_steps, config.schedule)
        return ancestral(predict, x, noise, table, config.target,
                         None if on_step is None else lambda step, state: on_step())
    timesteps = scheduler.timesteps.tolist()
    return denoised(scheduler, steps_of(net, sampling), x, lambda state, index: predict(state, timesteps[index] + 1),
                    on_step)


def steps_of(net: MotionGenerator, sampling: Sampling) -> int:
    """Evaluations a window."""
    most = net.config.n_diff_steps
    return most if sampling.scheduler == ANCESTRAL else min(sampling.steps, most)


@torch.inference_mode()
def sample_windows(net: MotionGenerator, windows: Tensor, start: Tensor, noise: Callable[[int], Callable],
                   sampling: Sampling, on_step: Optional[Callable[[], None]] = None) -> Iterator[Tensor]:
    """Raw latents [L, m] of every window of mapped speech [W, L, d].

    What is carried over is the raw latent and the speech of the last P frames, before anything is decoded.

    Args:
        start: [L, m] noise in which every window begins.
        noise: window's number to the draws of ``Noise.window``.
        on_step: called after every diffusion step; may raise to stop.
    """
    keep, length = net.config.n_prev_motions, windows.shape[1]
    scheduler = None if sampling.scheduler == ANCESTRAL else \
        sampling_scheduler(net.config, sampling.scheduler, steps_of(net, sampling))
    speech = torch.cat((net.start_audio_feat[0], windows.flatten(0, 1)))

    def make(index: int, before: Optional[Tensor]) -> Tensor:
        before_speech = speech[index * length:index * length + keep]
        return sample_window(net, windows[index], before, before_speech, start, noise(index), sampling, scheduler,
                             on_step)

    yield from in_turn(len(windows), keep, make, net.start_motion_feat[0])
