"""Reverse diffusion, window by window (PAPER.md 1.6, 1.8 and 1.11).

Every window is ``config.window`` frames (the last may be shorter) behind ``config.previous`` frames of the window
before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterator, Optional

import torch
from torch import Tensor

from ..runtime.acceleration import GRAPHS, NONE, accelerated
from ..runtime.progress import Progress
from .config import DenoiserConfig
from .controller import EmotionController
from .denoiser import Conditions, Denoiser, Trunk
from .windows import StepProgress, denoised, in_turn, window_noise

HEAD_SMOOTHING = 1.5
"""Deviation in frames of the Gaussian on pose: heads move below about 2 Hz."""

LEAST_EMOTION = 1e-3
"""Least amount of an emotion that is drawn."""

HEAD_EASE = 25
"""Frames over which a step of the pose at a window's start fades out."""


@dataclass(frozen=True)
class Guidance:
    """How a window is drawn.

    Attributes:
        scheduler: of ``schedule.sampling_scheduler``, made for ``steps``.
        steps: denoising steps a window.
        audio: scale w_a of Eq. 8; 1 leaves the conditional prediction alone and halves the cost.
        noise_scale: [K + 6] deviation of the start noise; below 1 stays nearer to the likeliest motion.
        emotion: scale w_e of Eq. 8, for a model with an emotion head.
    """

    scheduler: Any
    steps: int
    audio: float
    noise_scale: Tensor
    emotion: float = 1.0


def audio_window(audio: Tensor, start: int, config: DenoiserConfig) -> tuple[Tensor, Tensor]:
    """Speech around the window from frame ``start`` of [T, C].

    Always as long as a full window's, as in training; only the motion of a last window is shorter.

    Returns:
        [previous + window + lookahead, C], zeros outside the recording, and [..] bool, whether it reaches there.
    """
    rows = torch.arange(start - config.previous, start + config.window + config.lookahead, device=audio.device)
    mask = (rows >= 0) & (rows < len(audio))
    picked = audio[rows.clamp(0, max(len(audio) - 1, 0))] if len(audio) else audio.new_zeros(len(rows), audio.shape[1])
    return picked * mask[:, None], mask


def conditions_of(denoiser: Denoiser, identity: Optional[Tensor], timesteps: Tensor) -> Conditions:
    """What every step [S] and the speaker ([identity_dim], None for unknown) do to the network, a row a step."""
    row = torch.zeros(denoiser.config.identity_dim, device=timesteps.device) if identity is None else identity
    known = torch.full((len(timesteps),), identity is not None, device=timesteps.device)
    return denoiser.conditions(timesteps, row.expand(len(timesteps), -1), known)


def guided_denoiser(denoiser: Denoiser, guidance: Guidance, controller: Optional[EmotionController] = None,
                    acceleration: str = NONE) -> Callable[..., Tensor]:
    """Eq. 8 as one function of tensors: noise [W, K + 6] from

    * motion [previous + W, K + 6], previous frames and then noisy ones;
    * speech [terms, previous + W + lookahead, D], tokens of ``Denoiser.speech_tokens`` with and without speech;
    * t [] timestep, continued [] bool;
    * emotion_weights [previous + W, 7], or empty without a controller;
    * the parts of a row of ``conditions_of``.

    eps = eps(0, 0) + w_a (eps(speech, 0) - eps(0, 0)) + w_e (eps(speech, emotion) - eps(speech, 0)). Speech and no
    speech run as one batch. "No emotion" is stage 1 itself, past the controller, so all terms share the Conformer's
    pass and the third one costs the two DiT blocks and a head.
    """
    def predict(motion: Tensor, speech: Tensor, t: Tensor, continued: Tensor, emotion_weights: Tensor, time: Tensor,
                both: Tensor, *modulation: Tensor) -> Tensor:
        terms = len(speech)
        motion, timestep = motion.expand(terms, -1, -1), t.expand(terms)
        trunk = denoiser.flow(motion, speech, Conditions(time, both, modulation), continued.expand(terms))
        plain = denoiser.heads(trunk, motion, timestep)
        eps = plain[0] if terms == 1 else plain[1] + guidance.audio * (plain[0] - plain[1])
        if controller is not None:
            with_speech = Trunk(*(part[:1] for part in trunk))
            emotional = denoiser.heads(with_speech, motion[:1], timestep[:1],
                                       lambda hidden, time: controller(hidden, time, emotion_weights[None]))[0]
            eps = eps + guidance.emotion * (emotional - plain[0])
        return eps

    # Kernels this small take less time to run than to start, which a graph does at once. Compiling would take longer
    # than a clip.
    return accelerated(predict, NONE if acceleration == NONE else GRAPHS,
                       [denoiser] if controller is None else [denoiser, controller])


def denoise_window(denoiser: Denoiser, predict: Callable[..., Tensor], noise: Tensor, audio: Tensor,
                   audio_mask: Tensor, before: Optional[Tensor], conditions: Conditions, guidance: Guidance,
                   on_step: Optional[Callable[[], None]] = None,
                   emotion_weights: Optional[Tensor] = None) -> Tensor:
    """One window [W, K + 6] from its noise.

    Args:
        predict: of ``guided_denoiser``, with a controller where ``emotion_weights`` are given.
        audio, audio_mask: of ``audio_window``.
        before: [previous, K + 6] frames before, None for the first window.
        conditions: of ``conditions_of``, a row a step.
        on_step: called after every step; may raise to stop.
        emotion_weights: [previous + W, 7] amounts of the emotions.
    """
    config, device = denoiser.config, audio.device
    terms = 1 if guidance.audio == 1.0 else 2
    clean = torch.zeros(config.previous, config.motion_dim, device=device) if before is None else before
    speech = denoiser.speech_tokens(audio.expand(terms, *audio.shape), audio_mask.expand(terms, *audio_mask.shape),
                             torch.tensor([True, False][:terms], device=device))
    continued = torch.tensor(before is not None, device=device)
    emotion_weights = audio.new_zeros(0) if emotion_weights is None else emotion_weights
    timesteps = guidance.scheduler.timesteps.to(device)

    def step(x: Tensor, index: int) -> Tensor:
        row = conditions.row(index)
        return predict(torch.cat((clean, x)), speech, timesteps[index], continued, emotion_weights, row.time, row.both,
                       *row.modulation)

    start = (noise * guidance.noise_scale.cpu()).to(device)
    return denoised(guidance.scheduler, guidance.steps, start, step, on_step)


def smooth_head(pose: Tensor, before: Optional[Tensor], smoothing: float = HEAD_SMOOTHING,
                ease: int = HEAD_EASE) -> Tensor:
    """A window's pose [W, 6] that goes on where ``before`` [P, 6] stopped, without what necks cannot do.

    What remains of a step at the join fades out over ``ease`` frames; then every frame becomes the value of a line
    fitted to its surroundings, those before the window included, under Gaussian weights of ``smoothing`` frames: in
    the middle plain Gaussian smoothing, at the ends without its drag. (JoyVASA, Ditto and MoDA smooth pose too and
    leave expression alone: PAPER.md 5.5.)
    """
    past = pose[:0] if before is None else before
    if len(past) >= 2:
        step = pose[0] - (2 * past[-1] - past[-2])
        n = torch.arange(len(pose), device=pose.device).clamp(max=ease)
        pose = pose - 0.5 * (1 + torch.cos(torch.pi * n / ease))[:, None] * step
    away = torch.arange(-len(past), len(pose))[None] - torch.arange(len(pose))[:, None].double()
    weight = torch.exp(-0.5 * (away / smoothing) ** 2)
    first, second = (weight * away).sum(1), (weight * away ** 2).sum(1)
    line = weight * (second[:, None] - first[:, None] * away)
    line = line / line.sum(1, keepdim=True) if len(pose) + len(past) > 1 else weight
    return line.to(pose) @ torch.cat((past, pose))


@torch.inference_mode()
def sample_windows(denoiser: Denoiser, audio: Tensor, identity: Optional[Tensor], guidance: Guidance, seed: int,
                   progress: Progress = None, controller: Optional[EmotionController] = None,
                   emotion_weights: Optional[Tensor] = None, acceleration: str = NONE) -> Iterator[Tensor]:
    """Normalised motion [W, K + 6] of speech [T, C + 3], window after window; T frames in all.

    With a ``controller``, ``emotion_weights`` [T, 7] is how much of each emotion is shown. ``acceleration`` is one of
    ``runtime.acceleration.ACCELERATIONS``.
    """
    config, frames, axes = denoiser.config, len(audio), denoiser.config.axes
    conditions = conditions_of(denoiser, identity, guidance.scheduler.timesteps.to(audio.device))
    plain = guided_denoiser(denoiser, guidance, None, acceleration)
    emotional = None if emotion_weights is None or controller is None else \
        guided_denoiser(denoiser, guidance, controller, acceleration)
    windows = -(-frames // config.window)
    stepped = StepProgress(progress, windows * guidance.steps)

    def make(index: int, before: Optional[Tensor]) -> Tensor:
        start = index * config.window
        length = min(config.window, frames - start)
        speech, mask = audio_window(audio, start, config)
        noise = window_noise(seed, index, config.window, config.motion_dim)[:length]
        weights = None
        if emotional is not None:
            weights = emotion_weights[torch.arange(start - config.previous, start + length,
                                                   device=emotion_weights.device).clamp(min=0)]
            if not bool((weights > LEAST_EMOTION).any()):
                weights = None  # stage 1 speaks alone
        made = denoise_window(denoiser, plain if weights is None else emotional, noise, speech, mask, before,
                              conditions, guidance, stepped, weights)
        head = smooth_head(made[:, axes:], None if before is None else before[:, axes:])
        return torch.cat((made[:, :axes], head), 1)

    yield from in_turn(windows, config.previous, make)
