"""Training stage 1 (PAPER.md 1.5 to 1.10) on the loop that all stages share."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.diffusion.config import POSE_DIM
from playmate_core.diffusion.denoiser import Denoiser
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.diffusion.normalisation import MotionStatistics, fit_statistics
from playmate_core.diffusion.schedule import training_scheduler
from playmate_core.runtime.errors import PlaymateError

from .dataset import Clip, Windows, load_corpus
from .loop import LOG, STATE, Loop, learning_rate
from .settings import Settings, Training, settings_from
from .validation import bridge_lips, validate

__all__ = ["LOG", "RESULT", "STATE", "Stage1", "draw_noise", "learning_rate", "noise_loss"]

log = logging.getLogger(__name__)

RESULT = "motion_stage1.safetensors"
MOST_HELD_OUT = 256
"""Clips that a validation loss is taken of."""


def draw_noise(shape: tuple[int, ...], generator: torch.Generator, training: Training,
               timesteps: int) -> dict[str, Tensor]:
    """Everything that ``noise_loss`` draws for windows of ``shape`` [B, P + W, K + 6], on the CPU."""
    size = shape[0]
    return dict(t=torch.randint(0, timesteps, (size,), generator=generator),
                slight=torch.randint(0, min(training.previous_noise, timesteps), (size,), generator=generator),
                # The sampler shows previous frames as they are; ``clean_previous`` windows train just that.
                noised=torch.rand(size, generator=generator) >= training.clean_previous,
                noise=torch.randn(shape, generator=generator))


def noise_loss(denoiser, batch: dict[str, Tensor], generator: torch.Generator | dict[str, Tensor], weights: Tensor,
               training: Training, alphas: Tensor) -> Tensor:
    """Eq. 7 with Eq. 9 and 10 on one batch of ``Windows``.

    The mean squared error of the noise, as printed, if ``training.loss`` is "noise". If it is "velocity" (ours), the
    squared error is divided by abar_t: under the denoiser's skip this weighs every timestep by the error of the heads
    themselves; without it nearly all of a small model's loss comes from the last few, nearly clean steps, which hold
    tracker noise and no speech.

    Args:
        generator: of the noise; or noise that ``draw_noise`` drew.
        weights: [K + 6] of the motion numbers; ones for Eq. 7 (``loss_weights``).
        alphas: [train_timesteps] cumulative products.
    """
    batch = dict(batch)
    clean, tokens = batch.pop("clean"), batch.pop("tokens")
    previous, device = len_previous(denoiser), clean.device
    drawn = (generator if isinstance(generator, dict)
             else draw_noise(tuple(clean.shape), generator, training, len(alphas)))
    t, slight, noised, noise = (drawn[k].to(device) for k in ("t", "slight", "noised", "noise"))
    kept_before = torch.where(noised, alphas[slight], torch.ones_like(alphas[slight]))
    kept = torch.cat((kept_before[:, None].expand(-1, previous),
                      alphas[t][:, None].expand(-1, clean.shape[1] - previous)), 1)[..., None]
    motion = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    predicted = denoiser(motion, batch.pop("audio"), batch.pop("audio_mask"), t, **batch)
    error = (predicted - noise[:, previous:]).square()
    if training.loss == "velocity":
        error = error / alphas[t][:, None, None]
    there = batch["mask"][:, previous:, None].to(error.dtype)
    return (error * weights * there).sum() / (tokens * weights.sum())


def loss_weights(statistics: MotionStatistics, training: Training) -> Tensor:
    """[K + 6] of the motion numbers: all equal under Eq. 7; with the velocity loss by how much an axis moves."""
    axes = statistics.axis_weight
    return torch.cat((axes if training.loss == "velocity" else torch.ones_like(axes),
                      torch.full((POSE_DIM,), float(training.pose_weight))))


def len_previous(denoiser) -> int:
    """Previous frames of a denoiser, wrapped for several processes or not."""
    return getattr(denoiser, "module", denoiser).config.previous


class Stage1(Loop):
    """A run: ``Stage1(...).train()``.

    Args:
        corpus: folder of shards, or clips.
        settings, out, resume, device, tensorboard: see :class:`Loop`.
        lips: reads lips for validation; None takes the bundled bridge.

    Raises:
        PlaymateError: as :class:`Loop`; no corpus, no training clips, clips made for another speech encoder, or a
            state of another config.
    """

    result = RESULT

    def __init__(self, corpus: str | Path | list[Clip], settings: Settings, out: str | Path, *, resume: bool = False,
                 device: str | None = None, lips=None, tensorboard: bool = False) -> None:
        super().__init__(settings, out, resume=resume, device=device, tensorboard=tensorboard)
        t = self.training
        clips = corpus if isinstance(corpus, list) else load_corpus(corpus, lazy=t.storage == "disk")
        clips = self._usable(clips)
        self.held_out = [c for c in clips if c.split == "heldout"]
        learned = [c for c in clips if c.split == "train"]
        if not learned:
            raise PlaymateError("The corpus has no training clips; no clip has the split train.")
        for clip in clips:
            _check_encoder(clip, settings)
        weights = [c.weight * t.source_weights.get(c.info.get("source"), 1.0) for c in learned]
        state = self._stored(resume)
        if state is not None and settings_from(json.loads(state["settings"])).model != settings.model:
            raise PlaymateError(f"The run in {self.out} was started with another model config; use that one.")
        self.statistics = (self._fit(learned, weights) if state is None
                           else MotionStatistics(**state["statistics"]))
        self.windows = self._windows(learned, weights, first=t.first, short=t.short, drop_audio=t.drop_audio,
                                     drop_identity=t.drop_identity, features_noise=t.features_noise,
                                     storage=self._storage())
        self.frames = sum(len(c) for c in learned)
        self._begin(self._network(), state)
        device = self.accelerator.device
        self.weights = loss_weights(self.statistics, t).to(device)
        self.alphas = training_scheduler(settings.model).alphas_cumprod.float().to(device)
        self.lips = lips

    def _storage(self) -> Path | None:
        """Where windows are mapped from, each machine's own, since several may share ``out``; None for memory."""
        if self.training.storage != "disk":
            return None
        machine = os.environ.get("GROUP_RANK", "0")  # as torch's and accelerate's launchers count machines
        return self.out / ("windows" if machine == "0" else f"windows-{machine}")

    # What a later stage does otherwise.

    def _usable(self, clips: list[Clip]) -> list[Clip]:
        return clips

    def _fit(self, clips: list[Clip], weights: list[float]) -> MotionStatistics:
        # Every n-th clip: a corpus in no order of speakers is as well known by a part of it.
        step = max(1, round(sum(map(len, clips)) / self.training.statistics_frames))
        return fit_statistics([c.tensors for c in clips[::step]], self.settings.model.axes, weights[::step],
                              turned=self.training.normalisation == "axes")

    def _windows(self, clips: list[Clip], weights: list[float], **rest) -> Windows:
        return Windows(clips, self.statistics, self.settings.model, weights, device=self.accelerator.device,
                       turn=self.accelerator, **rest)

    def _network(self) -> torch.nn.Module:
        return Denoiser(self.settings.model)

    def _caller(self, learner: torch.nn.Module) -> torch.nn.Module:
        """What ``noise_loss`` calls to hear a learner."""
        return learner

    def _model(self, learner: torch.nn.Module) -> PlaymateMotionModel:
        """The model that a learner makes."""
        return PlaymateMotionModel(learner, self.statistics, self.settings.sampling, device=self.accelerator.device)

    def _measure(self, model: PlaymateMotionModel) -> dict:
        """Figures of a model on held-out clips, beside the loss."""
        if self.lips is None:
            self.lips = bridge_lips()
        return validate(model, self.held_out, self.lips)

    # The loop's.

    def _losses(self) -> Iterator[Tensor]:
        t = self.training
        drawn = self.windows.draw(t.batch, self.generator)
        model = self.settings.model
        noise = draw_noise((t.batch, model.previous + model.window, model.motion_dim), self.generator, t,
                           len(self.alphas))
        for part in self.parts():
            batch = self.windows.take(drawn, part, self.accelerator.num_processes)
            yield noise_loss(self.net, batch, {k: v[part] for k, v in noise.items()}, self.weights, t, self.alphas)

    def _figures(self, learner: torch.nn.Module) -> dict:
        if not self.held_out:
            return {}
        return dict(val_loss=round(self._held_out_loss(learner), 4), **self._measure(self._model(learner)))

    def _about(self) -> dict:
        return dict(frames=self.frames)

    @torch.no_grad()
    def _held_out_loss(self, net: torch.nn.Module, batches: int = 4) -> float:
        """Same windows, noise and timesteps every time, so that the figures of a run compare."""
        t = self.training
        clips = self.held_out[:MOST_HELD_OUT]
        windows = self._windows(clips, [1.0] * len(clips), first=t.first, short=0.0, drop_audio=0.0,
                                drop_identity=0.0)
        generator = torch.Generator().manual_seed(1)
        losses = [noise_loss(self._caller(net), windows.batch(64, generator), generator, self.weights, t, self.alphas)
                  for _ in range(batches)]
        return float(torch.stack(losses).mean())

    def _extra_state(self) -> dict:
        return dict(statistics=self.statistics.tensors())

    def _write_result(self, learner: torch.nn.Module, reached: dict) -> None:
        model = self._model(learner)
        model.reached = reached
        model.save(self.out / self.result)


def _check_encoder(clip: Clip, settings: Settings) -> None:
    model, encoder = settings.model, clip.info.get("encoder")
    width = clip.tensors["features"].shape[1]
    if width != model.features_dim or (encoder is not None and encoder != model.encoder):
        raise PlaymateError(f"Clip {clip.name} holds {width} speech features a frame of {encoder or 'its encoder'}, "
                            f"but the config's model listens to {model.encoder} with {model.features_dim}; prepare "
                            "the corpus with that encoder or change the config.")
