"""The loop under every stage, on accelerate: two CPU cores, one GPU, or many machines, with the same result.

Every process draws the whole batch from the same generator and works through its share of it, and losses are divided
by what the whole batch holds; dropout is drawn for the whole batch, too. So the number of processes and of pieces
(``accumulate``) changes the rounding of a step and nothing else.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.diffusion.denoiser import Dropout
from playmate_core.runtime.errors import PlaymateError

from .settings import Optimisation
from .upkeep import Heed, bar, board, knows_bf16, read_state, strike_later, write_text

log = logging.getLogger(__name__)

STATE = "state.pt"
LOG = "log.jsonl"
SETTINGS = "settings.json"
PATIENCE = timedelta(hours=2)
"""How long processes wait for the one that validates."""


def learning_rate(training: Optimisation, step: int, progress: float) -> float:
    """Warm-up by steps, then a cosine over the run's progress (0 to 1) down to a hundredth."""
    cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return training.learning_rate * min(1.0, (step + 1) / training.warm_up) * cosine


class Loop:
    """A run: its folder holds the settings, the state to go on from, a log and the result.

    Args:
        settings: has ``training`` (``Optimisation``) and ``to_json()``.
        out: the run's folder.
        resume: go on from the folder's state instead of starting anew.
        device: "cpu", or None for the accelerator if there is one.
        tensorboard: also write the log for TensorBoard, below ``out``.

    Raises:
        PlaymateError: a folder that holds a run, nothing to resume or a damaged state, fewer samples a batch than
            shares, no such device, or no TensorBoard.
    """

    result = ""
    """Name of the file that a run is for."""
    stopped = False
    """Whether the last ``train`` was asked to stop before its end; ``--resume`` continues it."""

    def __init__(self, settings, out: str | Path, *, resume: bool = False, device: str | None = None,
                 tensorboard: bool = False) -> None:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        self.settings, self.training = settings, settings.training
        self.out = Path(out)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlaymateError(f"The run's folder {self.out} cannot be made ({error}); choose another.") from None
        if (self.out / STATE).exists() and not resume:
            raise PlaymateError(f"{self.out} already holds a run; add --resume to continue it or choose "
                                "another folder.")
        if resume and not (self.out / STATE).exists():
            raise PlaymateError(f"There is no run to resume in {self.out}; leave out --resume to start one.")
        if device not in (None, "cpu") and not torch.cuda.is_available():
            raise PlaymateError("PyTorch finds no GPU on this machine; leave out --device, or install a PyTorch made "
                                "for it.")
        cpu = device == "cpu" or not torch.cuda.is_available()
        precision = self.training.mixed_precision
        if precision == "auto":
            precision = "no" if cpu else "bf16" if knows_bf16() else "fp16"
        if precision == "fp16" and cpu:
            raise PlaymateError("Training config: mixed_precision fp16 needs a GPU; set it to auto, bf16 or no.")
        self.accelerator = Accelerator(cpu=cpu, mixed_precision=precision,
                                       kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        shares = self.accelerator.num_processes * self.training.accumulate
        if self.training.batch < shares:
            raise PlaymateError(f"Training config: a batch of {self.training.batch} cannot be shared by "
                                f"{self.accelerator.num_processes} processes in {self.training.accumulate} pieces "
                                f"each; make it {shares} or more.")
        if self.accelerator.num_processes == 1 and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
            log.warning("This is one process alone, although a launcher was asked for several: accelerate launch --cpu "
                        "starts no more without MPI; docs/training.md says how to do without it.")
        self.generator = torch.Generator().manual_seed(self.training.seed)
        torch.manual_seed(self.training.seed)
        self._wants_board = tensorboard and self.accelerator.is_main_process
        self.board = board(self.out / "tensorboard") if self._wants_board and not resume else None
        self.step, self.elapsed, self.reached, self.smooth = 0, 0.0, {}, None
        self._heed = Heed()

    def _stored(self, resume: bool) -> dict | None:
        """The state to go on from, which must have been learned beside the same weights."""
        if not resume:
            return None
        state = read_state(self.out / STATE)
        if state.get("beside", self._beside()) != self._beside():
            raise PlaymateError(f"The run in {self.out} was started with other weights ({self.beside}); go on with "
                                "those.")
        return state

    beside = ""
    """What a run is given beside the corpus, in words."""

    def _beside(self) -> str:
        """A fingerprint of it."""
        return ""

    def _begin(self, net: torch.nn.Module, state: dict | None, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        """Hand the network over to accelerate, and go on from ``state`` if there is one."""
        optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=self.training.learning_rate,
                                     betas=betas)
        self.net, self.optimiser = self.accelerator.prepare(net, optimiser)
        self.average = {k: v.detach().clone() for k, v in self._learner().state_dict().items()}
        if state is None:
            return
        try:
            self._learner().load_state_dict(state["net"])
        except RuntimeError:
            raise PlaymateError(f"The run in {self.out} learned other networks or sizes than these; resume it with the "
                                "same config and files.") from None
        self.average = {k: v.to(self.accelerator.device) for k, v in state["average"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.elapsed, self.reached = state["step"], state["elapsed"], state["reached"]
        self.generator.set_state(state["generator"])
        self.smooth = state.get("smooth")
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.accelerator.is_main_process:
            strike_later(self.out / LOG, self.step)
        if self._wants_board:
            self.board = board(self.out / "tensorboard", self.step)

    # What a stage fills in.

    def _losses(self) -> Iterator[Tensor]:
        """Draw a batch and give the loss of each of this process' pieces (``parts``), computed when it is asked for.

        Each loss counts as much of the whole as its piece, times the number of processes.
        """
        raise NotImplementedError

    def _figures(self, learner: torch.nn.Module) -> dict:
        """Figures of the averaged network on what is held out; the main process alone asks."""
        raise NotImplementedError

    def _write_result(self, learner: torch.nn.Module, reached: dict) -> None:
        raise NotImplementedError

    def _extra_state(self) -> dict:
        """What else must be kept to go on."""
        return {}

    def _learner(self) -> torch.nn.Module:
        """The part of the network that learns, is averaged and is saved."""
        return self._plain()

    # The loop.

    def parts(self) -> list[slice]:
        """This process' pieces of a batch."""
        pieces, size = self.training.accumulate, self.training.batch
        shares = self.accelerator.num_processes * pieces
        own = range(self.accelerator.process_index * pieces, (self.accelerator.process_index + 1) * pieces)
        return [slice(k * size // shares, (k + 1) * size // shares) for k in own]

    def train(self, minutes: float | None = None, show: bool = True) -> dict:
        """Run to the end of the settings' steps or for ``minutes`` in all (earlier sittings counted).

        The learning rate falls over whichever of the two ends first, so a run on time always cools down fully.

        Returns:
            the figures of the last validation, also stored in the result file.

        Raises:
            PlaymateError: a loss that is not finite, memory that does not suffice for a step, or a state that cannot
                be written.
        """
        t = self.training
        main = self.accelerator.is_main_process
        shown = bar(t.steps, self.step, show and main)
        begun, before, validated = time.monotonic(), self.elapsed, None
        self.stopped = False
        if main:
            write_text(self.out / SETTINGS, self.settings.to_json())
        try:
            with self._heed:
                while not self.stopped:
                    self.elapsed = before + time.monotonic() - begun
                    spent = self._agreed(self.elapsed) / (60 * minutes) if minutes else 0.0
                    progress = max(self.step / t.steps, spent)
                    if progress >= 1.0:
                        break
                    try:
                        loss = self._learn(progress)
                    except torch.cuda.OutOfMemoryError:
                        raise PlaymateError(
                            f"The GPU's memory does not suffice for a step; set accumulate in the config to "
                            f"{2 * t.accumulate} or more, which changes nothing but rounding.") from None
                    self.smooth = loss if self.smooth is None else 0.98 * self.smooth + 0.02 * loss
                    self.step += 1
                    shown.update(1)
                    if self.step % 50 == 0:
                        shown.set_postfix(loss=f"{self.smooth:.4f}", **self.reached)
                        self._plot(loss=loss, learning_rate=self.optimiser.param_groups[0]["lr"])
                    if self.step % t.validate_every == 0:
                        self._validate()
                        validated = self.step
                    if self.stopped or self.step % t.save_every == 0:
                        self.save()
        finally:
            shown.close()
        if self.stopped:
            return self.reached
        if validated != self.step:
            self._validate()
        self.save()
        return self.reached

    def _agreed(self, seconds: float) -> float:
        """The main process' clock, by which all of them stop."""
        if self.accelerator.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(seconds, device=self.accelerator.device)))

    def _learn(self, progress: float) -> float:
        t = self.training
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(t, self.step, progress)
        self.net.train()
        total = torch.zeros((), device=self.accelerator.device)
        losses, pieces = self._losses(), t.accumulate
        for piece, part in enumerate(self.parts()):
            # Dropout is the only thing drawn from here; a seed a step needs no generator's state to be kept.
            torch.manual_seed(t.seed + self.step)
            for module in self._plain().modules():
                if isinstance(module, Dropout):
                    module.place = part, t.batch
            if piece < pieces - 1:
                with self.accelerator.no_sync(self.net):
                    total += self._backward(losses)
            else:
                total += self._backward(losses)
        self.accelerator.clip_grad_norm_(self.net.parameters(), t.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._follow(min(t.decay, (1 + self.step) / (10 + self.step)))
        # One of the processes being asked to stop stops all of them, at the same step.
        told = torch.stack((total, total.new_tensor(float(self._heed.asked))))
        value, asked = self.accelerator.reduce(told, "mean").tolist()
        self.stopped = asked > 0
        if not math.isfinite(value):
            raise PlaymateError(f"The loss is not finite at step {self.step}; resume with a lower learning_rate.")
        return value

    def _backward(self, losses: Iterator[Tensor]) -> Tensor:
        with self.accelerator.autocast():
            loss = next(losses)
        self.accelerator.backward(loss)
        return loss.detach().float()

    def _follow(self, decay: float) -> None:
        """Move the average towards the network; counters are taken over."""
        current = self._learner().state_dict()
        moving = [k for k, v in self.average.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in moving], [current[k] for k in moving], 1 - decay)
        for k in self.average.keys() - set(moving):
            self.average[k].copy_(current[k])

    def _plain(self) -> torch.nn.Module:
        return self.accelerator.unwrap_model(self.net)

    def averaged(self) -> torch.nn.Module:
        """A copy of the learner with the averaged weights."""
        learner = copy.deepcopy(self._learner())
        learner.load_state_dict(self.average)
        return learner.eval()

    def _validate(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.reached = self._figures(self.averaged())
        row = dict(step=self.step, minutes=round(self.elapsed / 60, 2), processes=self.accelerator.num_processes,
                   **self._about(), loss=None if self.smooth is None else round(self.smooth, 5), **self.reached)
        with open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._plot(**self.reached)

    def _about(self) -> dict:
        """What the log and the result say of the data."""
        return {}

    def _plot(self, **figures: float) -> None:
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, self.step)
            self.board.flush()

    def save(self) -> None:
        """Write the state and the result, each whole or not at all.

        Raises:
            PlaymateError: they cannot be written; the state before stays.
        """
        if not self.accelerator.is_main_process:
            return
        from safetensors import SafetensorError

        scaler = self.accelerator.scaler
        state = dict(settings=self.settings.to_json(), net=self._learner().state_dict(), average=self.average,
                     optimiser=self.optimiser.state_dict(), step=self.step, elapsed=self.elapsed,
                     reached=self.reached, smooth=self.smooth, beside=self._beside(),
                     generator=self.generator.get_state(),
                     scaler={} if scaler is None else scaler.state_dict(), **self._extra_state())
        temporary = self.out / f".{STATE}.tmp"
        try:
            with open(temporary, "wb") as file:
                torch.save(state, file)
            os.replace(temporary, self.out / STATE)
            self._write_result(self.averaged(), dict(
                self.reached, step=self.step, minutes=round(self.elapsed / 60, 1), **self._about()))
        except (OSError, RuntimeError, SafetensorError) as error:
            for left in self.out.glob(".*.tmp"):
                left.unlink(missing_ok=True)
            raise PlaymateError(f"Step {self.step} cannot be saved in {self.out} ({str(error).splitlines()[0]}); free "
                                "some space there and continue with --resume.") from error
