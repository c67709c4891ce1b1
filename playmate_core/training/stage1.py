"""Training stage 1 (PAPER.md 1.5 to 1.10): one loop for two CPU cores and for many GPUs, on accelerate."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.model import MotionModel
from ..diffusion.normalisation import MotionStatistics, fit_statistics
from ..diffusion.schedule import training_scheduler
from ..errors import PlaymateError
from .dataset import Clip, Windows, load_corpus
from .settings import Settings, Training, settings_from
from .validation import bridge_lips, validate

log = logging.getLogger(__name__)

STATE = "state.pt"
RESULT = "motion_stage1.safetensors"
LOG = "log.jsonl"


def noise_loss(denoiser, batch: dict[str, Tensor], generator: torch.Generator, weights: Tensor, training: Training,
               alphas: Tensor) -> Tensor:
    """Eq. 7 with Eq. 9 and 10 on one batch of ``Windows``.

    The squared error of the noise is divided by abar_t. Under the denoiser's skip this weighs every timestep by the
    error of the heads themselves (the "velocity" loss); without it nearly all of the loss would come from the
    last few, nearly clean steps, which hold tracker noise and no speech.

    Args:
        weights: [K + 6] of the motion numbers, mean one over the expression.
        alphas: [train_timesteps] cumulative products.
    """
    batch = dict(batch)
    clean = batch.pop("clean")
    previous, device = len_previous(denoiser), clean.device
    size = len(clean)
    t = torch.randint(0, len(alphas), (size,), generator=generator).to(device)
    slight = torch.randint(0, min(training.previous_noise, len(alphas)), (size,), generator=generator).to(device)
    # The sampler shows previous frames as they are; half of the windows train just that.
    noised = (torch.rand(size, generator=generator) < 0.5).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device)
    kept_before = torch.where(noised, alphas[slight], torch.ones_like(alphas[slight]))
    kept = torch.cat((kept_before[:, None].expand(-1, previous),
                      alphas[t][:, None].expand(-1, clean.shape[1] - previous)), 1)[..., None]
    motion = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    predicted = denoiser(motion, batch.pop("audio"), batch.pop("heard"), t, **batch)
    error = (predicted - noise[:, previous:]).square() / alphas[t][:, None, None]
    there = batch["mask"][:, previous:, None].to(error.dtype)
    return (error * weights * there).sum() / (there.sum() * weights.sum())


def len_previous(denoiser) -> int:
    """Previous frames of a denoiser, wrapped for several processes or not."""
    return getattr(denoiser, "module", denoiser).config.previous


def learning_rate(training: Training, step: int, progress: float) -> float:
    """Warm-up by steps, then a cosine over the run's progress (0 to 1) down to a hundredth."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return training.learning_rate * min(1.0, (step + 1) / training.warm_up) * cosine


class Stage1:
    """A run: ``Stage1(...).train()``. Its folder holds the settings, the state to go on from, a log and the result.

    Args:
        corpus: folder of shards, or clips.
        out: the run's folder.
        resume: go on from the folder's state instead of starting anew.

    Raises:
        PlaymateError: no corpus, no training clips, nothing to resume, or a state of another config.
    """

    def __init__(self, corpus: str | Path | list[Clip], settings: Settings, out: str | Path, *, resume: bool = False,
                 device: str | None = None, lips=None) -> None:
        from accelerate import Accelerator

        self.settings, self.training = settings, settings.training
        self.out = Path(out)
        self.out.mkdir(parents=True, exist_ok=True)
        if (self.out / STATE).exists() and not resume:
            raise PlaymateError(f"{self.out} already holds a run; add --resume to go on with it or choose "
                                "another folder.")
        if resume and not (self.out / STATE).exists():
            raise PlaymateError(f"There is no run to resume in {self.out}; leave out --resume to start one.")
        clips = corpus if isinstance(corpus, list) else load_corpus(corpus)
        self.held_out = [c for c in clips if c.split == "heldout"]
        learned = [c for c in clips if c.split == "train"]
        if not learned:
            raise PlaymateError("The corpus has no training clips; no clip has the split train.")
        cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
        precision = self.training.mixed_precision
        if precision == "auto":
            precision = "no" if cpu else "bf16"
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=precision)
        self.generator = torch.Generator().manual_seed(self.training.seed + 1_000 * self.accelerator.process_index)
        torch.manual_seed(self.training.seed)
        weights = [c.weight * self.training.source_weights.get(c.info.get("source"), 1.0) for c in learned]
        state = torch.load(self.out / STATE, map_location="cpu", weights_only=True) if resume else None
        if state is not None and settings_from(json.loads(state["settings"])).model != settings.model:
            raise PlaymateError(f"The run in {self.out} was started with another model config; use that one.")
        t = self.training
        self.statistics = (self._fit(learned, weights) if state is None
                           else MotionStatistics(**state["statistics"]))
        self.windows = self._windows(learned, weights, first=t.first, short=t.short, drop_audio=t.drop_audio,
                                     drop_identity=t.drop_identity, features_noise=t.features_noise)
        self.frames = sum(len(c) for c in learned)
        net = self._network()
        optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=t.learning_rate,
                                     betas=(0.9, 0.99))
        self.net, self.optimiser = self.accelerator.prepare(net, optimiser)
        self.average = {k: v.detach().clone() for k, v in self._learner().state_dict().items()}
        device = self.accelerator.device
        self.weights = torch.cat((self.statistics.axis_weight, torch.full((6,), t.pose_weight))).to(device)
        self.alphas = training_scheduler(settings.model).alphas_cumprod.float().to(device)
        self.step, self.elapsed, self.reached, self.lips = 0, 0.0, {}, lips
        if state is not None:
            self._restore(state)

    # What a later stage does otherwise.

    result = RESULT

    def _fit(self, clips: list[Clip], weights: list[float]) -> MotionStatistics:
        return fit_statistics([c.tensors for c in clips], self.settings.model.axes, weights)

    def _windows(self, clips: list[Clip], weights: list[float], **chances) -> Windows:
        return Windows(clips, self.statistics, self.settings.model, weights, device=self.accelerator.device, **chances)

    def _network(self) -> torch.nn.Module:
        return Denoiser(self.settings.model)

    def _learner(self) -> torch.nn.Module:
        """The part of the network that learns, is averaged and is saved."""
        return self._plain()

    def _caller(self, learner: torch.nn.Module) -> torch.nn.Module:
        """What ``noise_loss`` calls to hear a learner."""
        return learner

    def _model(self, learner: torch.nn.Module) -> MotionModel:
        """The model that a learner makes."""
        return MotionModel(learner, self.statistics, self.settings.sampling, device=self.accelerator.device)

    def _measure(self, model: MotionModel) -> dict:
        """Figures of a model on held-out clips, beside the loss."""
        if self.lips is None:
            self.lips = bridge_lips()
        return validate(model, self.held_out, self.lips)

    def train(self, minutes: float | None = None, show: bool = True) -> dict:
        """Run to the end of the settings' steps or for ``minutes`` in all (earlier sittings counted).

        The learning rate falls over whichever of the two ends first, so a run on time always cools down fully.

        Returns:
            the figures of the last validation, also stored in the result file.
        """
        t = self.training
        main = self.accelerator.is_main_process
        bar = _bar(t.steps, self.step, show and main)
        begun, before, smooth = time.monotonic(), self.elapsed, None
        (self.out / "settings.json").write_text(self.settings.to_json(), encoding="utf-8")
        try:
            while True:
                self.elapsed = before + time.monotonic() - begun
                progress = max(self.step / t.steps, self.elapsed / (60 * minutes) if minutes else 0.0)
                if progress >= 1.0:
                    break
                loss = self._learn(progress)
                smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
                self.step += 1
                bar.update(1)
                if self.step % 50 == 0:
                    bar.set_postfix(loss=f"{smooth:.4f}", **self.reached)
                if self.step % t.validate_every == 0:
                    self._validate(smooth)
                if self.step % t.save_every == 0:
                    self.save()
        finally:
            bar.close()
        self._validate(smooth)
        self.save()
        return self.reached

    def _learn(self, progress: float) -> float:
        t = self.training
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(t, self.step, progress)
        self.net.train()
        batch = self.windows.batch(t.batch, self.generator)
        with self.accelerator.autocast():
            loss = noise_loss(self.net, batch, self.generator, self.weights, t, self.alphas)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.net.parameters(), t.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        decay = min(t.decay, (1 + self.step) / (10 + self.step))
        current = self._learner().state_dict()
        torch._foreach_lerp_(list(self.average.values()), [current[k] for k in self.average], 1 - decay)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise PlaymateError(f"The loss is not finite at step {self.step}; resume with a lower learning_rate.")
        return value

    def _plain(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.net)

    def averaged(self) -> torch.nn.Module:
        """A copy of the learner with the averaged weights."""
        learner = copy.deepcopy(self._learner())
        learner.load_state_dict(self.average)
        return learner.eval()

    def _validate(self, loss: float | None) -> None:
        if not self.accelerator.is_main_process:
            return
        learner = self.averaged()
        figures: dict = {}
        if self.held_out:
            figures["val_loss"] = round(self._held_out_loss(learner), 4)
            figures |= self._measure(self._model(learner))
        self.reached = figures
        row = dict(step=self.step, minutes=round(self.elapsed / 60, 2), frames=self.frames,
                   loss=None if loss is None else round(loss, 5), **figures)
        with open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    @torch.no_grad()
    def _held_out_loss(self, net: torch.nn.Module, batches: int = 4) -> float:
        """Same windows, noise and timesteps every time, so that the figures of a run compare."""
        t = self.training
        windows = self._windows(self.held_out, [1.0] * len(self.held_out), first=t.first, short=0.0, drop_audio=0.0,
                                drop_identity=0.0)
        generator = torch.Generator().manual_seed(1)
        losses = [noise_loss(self._caller(net), windows.batch(64, generator), generator, self.weights, t, self.alphas)
                  for _ in range(batches)]
        return float(torch.stack(losses).mean())

    def save(self) -> None:
        """Write the state and the result, each whole or not at all."""
        if not self.accelerator.is_main_process:
            return
        cuda = torch.cuda.get_rng_state_all() if self.accelerator.device.type == "cuda" else []
        state = dict(settings=self.settings.to_json(), statistics=self.statistics.tensors(),
                     net=self._learner().state_dict(), average=self.average, optimiser=self.optimiser.state_dict(),
                     step=self.step, elapsed=self.elapsed, reached=self.reached,
                     generator=self.generator.get_state(), random=torch.get_rng_state(), cuda=cuda)
        temporary = self.out / f".{STATE}.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.out / STATE)
        reached = dict(self.reached, step=self.step, minutes=round(self.elapsed / 60, 1), frames=self.frames)
        model = self._model(self.averaged())
        model.reached = reached
        model.save(self.out / self.result)

    def _restore(self, state: dict) -> None:
        self._learner().load_state_dict(state["net"])
        self.average = {k: v.to(self.accelerator.device) for k, v in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed, self.reached = state["step"], state["elapsed"], state["reached"]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if state["cuda"] and self.accelerator.device.type == "cuda":
            torch.cuda.set_rng_state_all(state["cuda"])


def _bar(total: int, start: int, show: bool):
    from tqdm.auto import tqdm
    return tqdm(total=total, initial=start, disable=not show, dynamic_ncols=True, mininterval=2.0)
