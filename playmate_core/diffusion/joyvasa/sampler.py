"""Window after window of JoyVASA's motion (SPEC.md sections 5.3 to 5.5 and 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Tuple

import torch
from torch import Tensor

from ..sampler import window_noise
from .network import MotionGenerator
from .schedule import ancestral, solver, tables


@dataclass(frozen=True)
class Sampling:
    """How a window is drawn.

    Attributes:
        scheduler, steps: see ``schedule.SAMPLERS``; ``ancestral`` takes all steps of the training whatever ``steps``.
        guidance: scale of classifier-free guidance; 1 and None leave the conditional prediction alone.
        threshold: (ratio, lowest, highest) of SPEC.md 5.4, or None, as released.
        flexibility: of the ancestral sampler, 0 as released.
    """

    scheduler: str = "ancestral"
    steps: int = 50
    guidance: Optional[float] = 2.8
    threshold: Optional[Tuple[float, float, float]] = None
    flexibility: float = 0.0


class Noise:
    """Gaussians of a seed, from the CPU's generator: the same on every device, whatever comes after."""

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


def limited(made: Tensor, threshold: Tuple[float, float, float]) -> Tensor:
    """[N, L, m] clamped row by row to its own quantile of magnitudes, kept within bounds (SPEC.md 5.4)."""
    ratio, low, high = threshold
    most = torch.quantile(made.abs().flatten(1), ratio, dim=1).clamp(low, high)[:, None, None]
    return made.clamp(-most, most)


def predictor(net: MotionGenerator, audio: Tensor, before_motion: Tensor, before_audio: Tensor,
              sampling: Sampling) -> Callable[[Tensor, int], Tensor]:
    """A window's guided network: (state [L, m], step) to [L, m].

    Args:
        audio: [L, d] speech of the window, mapped.
        before_motion, before_audio: [P, m] and [P, d] of the frames before it. Guidance never takes them away.
    """
    guided = sampling.guidance is not None and sampling.guidance != 1.0
    memory = torch.cat((before_audio, audio))[None]
    if guided:
        silent = torch.cat((before_audio, net.null_audio_feat[0].expand(len(audio), -1)))[None]
        memory = torch.cat((silent, memory))
    network = net.denoising_net
    heard, rows = network.listen(memory), len(memory)

    def predict(x: Tensor, step: int) -> Tensor:
        motion = torch.cat((before_motion, x))[None].expand(rows, -1, -1)
        steps = torch.full((rows,), step, device=x.device, dtype=torch.long)
        made = network(motion, memory, steps, heard)[:, len(before_motion):]
        if sampling.threshold is not None:
            made = limited(made, sampling.threshold)
        return made[0] + sampling.guidance * (made[1] - made[0]) if guided else made[0]

    return predict


def sample_window(net: MotionGenerator, audio: Tensor, before_motion: Tensor, before_audio: Tensor, start: Tensor,
                  noise: Callable[[int], Tensor], sampling: Sampling,
                  on_step: Optional[Callable[[int, Tensor], None]] = None) -> Tensor:
    """One window's raw latent [L, m] from its start noise [L, m]; other arguments as ``predictor``."""
    config = net.config
    predict = predictor(net, audio, before_motion, before_audio, sampling)
    x = start.to(audio)
    if sampling.scheduler == "ancestral":
        return ancestral(predict, x, noise, tables(config.n_diff_steps, config.schedule), config.target,
                         sampling.flexibility, on_step)
    scheduler = solver(config, sampling.scheduler, sampling.steps)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(x, int(t) + 1), t, x).prev_sample
        if on_step is not None:
            on_step(int(t), x)
    return x


def steps_of(net: MotionGenerator, sampling: Sampling) -> int:
    """Evaluations a window."""
    return net.config.n_diff_steps if sampling.scheduler == "ancestral" else min(sampling.steps,
                                                                                 net.config.n_diff_steps)


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
    count = net.config.n_prev_motions
    before_motion, before_audio = net.start_motion_feat[0], net.start_audio_feat[0]
    told = None if on_step is None else lambda step, state: on_step()
    for index, audio in enumerate(windows):
        made = sample_window(net, audio, before_motion, before_audio, start, noise(index), sampling, told)
        yield made
        before_motion = torch.cat((before_motion, made))[-count:]
        before_audio = torch.cat((before_audio, audio))[-count:]
