"""Reverse diffusion, window by window (PAPER.md 1.6, 1.8 and 1.11).

Every window is ``config.window`` frames (the last may be shorter) behind ``config.previous`` frames of the window
before it. The noise of window i comes from a CPU generator seeded by (seed, i), so it depends neither on the device
nor on the output's frame rate nor on how much speech follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Optional

import torch
from torch import Tensor

from ..runtime.acceleration import GRAPHS, NONE, accelerated
from ..runtime.progress import Progress, report
from .config import DenoiserConfig
from .controller import EmotionController
from .denoiser import Conditions, Denoiser, Trunk
from .schedule import sampling_scheduler

HEAD_SMOOTHING = 1.5
"""Deviation in frames of the Gaussian on pose: heads move below about 2 Hz."""

FELT_AT_ALL = 1e-3
"""Least amount of an emotion that is drawn."""

HEAD_EASE = 25
"""Frames over which a step of the pose at a window's start fades out."""


@dataclass(frozen=True)
class Guidance:
    """How a window is drawn.

    Attributes:
        scheduler, steps: see ``schedule.sampling_scheduler``.
        audio: scale w_a of Eq. 8; 1 leaves the conditional prediction alone and halves the cost.
        noise_scale: [K + 6] deviation of the start noise; below 1 stays nearer to the likeliest motion.
        emotion: scale w_e of Eq. 8, for a model with an emotion head.
    """

    scheduler: str
    steps: int
    audio: float
    noise_scale: Tensor
    emotion: float = 1.0


def window_noise(seed: int, index: int, frames: int, dim: int) -> Tensor:
    """[frames, dim] standard normal of window ``index``; the same prefix however short the window is cut."""
    generator = torch.Generator("cpu").manual_seed((seed * 1_000_003 + index * 7_919 + 17) % (1 << 63))
    return torch.randn(frames, dim, generator=generator)


def audio_window(audio: Tensor, start: int, config: DenoiserConfig) -> tuple[Tensor, Tensor]:
    """Speech around the window from frame ``start`` of [T, C].

    Always as long as a full window's, as in training; only the motion of a last window is shorter.

    Returns:
        [previous + window + lookahead, C], zeros outside the recording, and [..] bool, whether it reaches there.
    """
    rows = torch.arange(start - config.previous, start + config.window + config.lookahead, device=audio.device)
    heard = (rows >= 0) & (rows < len(audio))
    picked = audio[rows.clamp(0, max(len(audio) - 1, 0))] if len(audio) else audio.new_zeros(len(rows), audio.shape[1])
    return picked * heard[:, None], heard


def conditions_of(denoiser: Denoiser, identity: Optional[Tensor], timesteps: Tensor) -> Conditions:
    """What every step [S] and the speaker ([identity_dim], None for unknown) do to the network, a row a step."""
    row = torch.zeros(denoiser.config.identity_dim, device=timesteps.device) if identity is None else identity
    known = torch.full((len(timesteps),), identity is not None, device=timesteps.device)
    return denoiser.conditions(timesteps, row.expand(len(timesteps), -1), known)


def predictor(denoiser: Denoiser, guidance: Guidance, controller: Optional[EmotionController] = None,
              acceleration: str = NONE) -> Callable[..., Tensor]:
    """Eq. 8 as one function of tensors: noise [W, K + 6] from

    * motion [previous + W, K + 6], previous frames and then noisy ones;
    * speech [terms, previous + W + lookahead, D], tokens of ``Denoiser.listen`` with and without speech;
    * t [] timestep, continued [] bool;
    * felt [previous + W, 7], or empty where nothing is felt;
    * the parts of a row of ``conditions_of``.

    eps = eps(0, 0) + w_a (eps(speech, 0) - eps(0, 0)) + w_e (eps(speech, emotion) - eps(speech, 0)). Speech and no
    speech run as one batch. "No emotion" is stage 1 itself, past the controller, so all terms share the Conformer's
    pass and the third one costs the two DiT blocks and a head.
    """
    def predict(motion: Tensor, speech: Tensor, t: Tensor, continued: Tensor, felt: Tensor, time: Tensor,
                both: Tensor, *modulation: Tensor) -> Tensor:
        terms = len(speech)
        motion, timestep = motion.expand(terms, -1, -1), t.expand(terms)
        trunk = denoiser.flow(motion, speech, Conditions(time, both, modulation), continued.expand(terms))
        terms_eps = denoiser.heads(trunk, motion, timestep)
        eps = terms_eps[0] if terms == 1 else terms_eps[1] + guidance.audio * (terms_eps[0] - terms_eps[1])
        if controller is not None:
            heard_only = Trunk(*(part[:1] for part in trunk))
            feeling = denoiser.heads(heard_only, motion[:1], timestep[:1],
                                     lambda hidden, time: controller(hidden, time, felt[None]))[0]
            eps = eps + guidance.emotion * (feeling - terms_eps[0])
        return eps

    # Kernels this small take less time to run than to start, which a graph does at once. Compiling would take longer
    # than a clip.
    return accelerated(predict, NONE if acceleration == NONE else GRAPHS,
                       [denoiser] if controller is None else [denoiser, controller])


def denoise_window(denoiser: Denoiser, predict: Callable[..., Tensor], noise: Tensor, audio: Tensor, heard: Tensor,
                   before: Optional[Tensor], conditions: Conditions, guidance: Guidance, on_step=None,
                   felt: Optional[Tensor] = None) -> Tensor:
    """One window [W, K + 6] from its noise.

    Args:
        predict: of ``predictor``, with a controller where ``felt`` is given.
        audio, heard: of ``audio_window``.
        before: [previous, K + 6] frames before, None for the first window.
        conditions: of ``conditions_of``, a row a step.
        on_step: called after every step; may raise to stop.
        felt: [previous + W, 7] amounts of the emotions.
    """
    config, device = denoiser.config, audio.device
    terms = 1 if guidance.audio == 1.0 else 2
    clean = torch.zeros(config.previous, config.motion_dim, device=device) if before is None else before
    speech = denoiser.listen(audio.expand(terms, *audio.shape), heard.expand(terms, *heard.shape),
                             torch.tensor([True, False][:terms], device=device))
    continued = torch.tensor(before is not None, device=device)
    felt = audio.new_zeros(0) if felt is None else felt
    scheduler = sampling_scheduler(config, guidance.scheduler, guidance.steps)
    x = (noise * guidance.noise_scale.cpu()).to(device)
    for step, (t, here) in enumerate(zip(scheduler.timesteps, scheduler.timesteps.to(device), strict=True)):
        row = conditions.row(step)
        eps = predict(torch.cat((clean, x)), speech, here, continued, felt, row.time, row.both, *row.modulation)
        x = scheduler.step(eps, t, x).prev_sample
        if on_step is not None:
            on_step()
    return x


def settle_head(pose: Tensor, before: Optional[Tensor], smoothing: float = HEAD_SMOOTHING,
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
                   felt: Optional[Tensor] = None, acceleration: str = NONE) -> Iterator[Tensor]:
    """Normalised motion [W, K + 6] of speech [T, C + 3], window after window; T frames in all.

    With a ``controller``, ``felt`` [T, 7] is how much of each emotion is shown. ``acceleration`` is one of
    ``runtime.acceleration.ACCELERATIONS``.
    """
    config, frames = denoiser.config, len(audio)
    steps = sampling_scheduler(config, guidance.scheduler, guidance.steps).timesteps.to(audio.device)
    conditions = conditions_of(denoiser, identity, steps)
    spoken = predictor(denoiser, guidance, None, acceleration)
    felt_too = None if felt is None or controller is None else predictor(denoiser, guidance, controller, acceleration)
    windows = -(-frames // config.window)
    total, done = windows * guidance.steps, 0
    before: Optional[Tensor] = None
    report(progress, 0, max(total, 1))

    def stepped() -> None:
        nonlocal done
        done += 1
        report(progress, done, total)

    for index in range(windows):
        start = index * config.window
        length = min(config.window, frames - start)
        speech, heard = audio_window(audio, start, config)
        noise = window_noise(seed, index, config.window, config.motion_dim)[:length]
        now = None
        if felt is not None:
            rows = torch.arange(start - config.previous, start + length, device=felt.device).clamp(min=0)
            now = felt[rows]
        # Where nothing is felt stage 1 speaks alone.
        feels = felt_too is not None and bool((now > FELT_AT_ALL).any())
        made = denoise_window(denoiser, felt_too if feels else spoken, noise, speech, heard, before, conditions,
                              guidance, stepped, now if feels else None)
        axes = config.axes
        head = settle_head(made[:, axes:], None if before is None else before[:, axes:])
        made = torch.cat((made[:, :axes], head), 1)
        yield made
        recent = made if before is None else torch.cat((before, made))
        before = recent[-config.previous:]
