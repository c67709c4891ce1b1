"""JoyVASA as the rest of the library uses a motion model: speech features in, ``Motion`` out."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Iterator, Optional

import torch
from torch import Tensor

from ...motion.features import FPS, LEAD, SpeechFeatures
from ...motion.types import Motion, Neutral
from ...runtime.errors import PlaymateError
from ...runtime.host import Host, place_on_device
from ...runtime.progress import Progress, report
from ..retiming import FIELDS, retimed
from .checkpoint import Checkpoint, load_joyvasa
from .config import JoyVasaConfig
from .network import MotionGenerator
from .sampler import Noise, Sampling, sample_windows, steps_of
from .schedule import check_sampler
from .statistics import MotionTemplate, PoseSmoother

log = logging.getLogger(__name__)

DEFAULT_AUDIO_GUIDANCE = 2.8
"""Of the published command line; its web page takes 4, its function 1.15 (SPEC.md 5.3)."""

SMALLEST_SCALE = 0.05
"""Of a head, where a wild draw would turn it inside out."""

RESTS = ("silence", "first")

WORKING_BYTES = 64 * 2**20
"""Beside the weights, generously: a window is two rows of some hundred frames."""


class JoyVasa:
    """JoyVASA's motion generator.

    It knows one performance of a voice, no faces and no emotions: identity has no effect, and emotions are laid over
    its motion by the pipeline. Its motion is LivePortrait's numbers as they are, so ``neutral`` says from what they
    count. The published program counts expression from the first frame (and takes lips absolutely, whoever the
    portrait is); here expression counts from the generator's own answer to silence, which no blink or word in the
    first frame can spoil. The head counts from the first frame, so that a portrait looks where it looked.

    Attributes:
        config: sizes, and the encoder it listens to.
        has_emotion_head: never.
    """

    has_emotion_head = False

    def __init__(self, generator: MotionGenerator, template: MotionTemplate,
                 device: str | torch.device = "cpu", host: Host = None) -> None:
        self.device = torch.device(device)
        self.generator = generator.eval()
        self._make_ready = place_on_device(self.generator, self.device, host)
        self.template = template.to(self.device)
        self._rest: dict[Sampling, Tensor] = {}

    @property
    def config(self) -> JoyVasaConfig:
        return self.generator.config

    @property
    def encoder(self) -> str:
        """Name of the speech encoder whose features it takes."""
        return self.config.encoder

    @staticmethod
    def load(path: str | os.PathLike, device: str | torch.device = "cpu", positions: str | None = None) -> JoyVasa:
        """A model from ``path``, without its speech encoder; arguments and errors as ``checkpoint.load_joyvasa``."""
        return JoyVasa.of(load_joyvasa(path, positions), device)

    @staticmethod
    def of(checkpoint: Checkpoint, device: str | torch.device = "cpu", host: Host = None) -> JoyVasa:
        """A model from a checkpoint that was read; ``host`` keeps its generator, see ``runtime.host``."""
        return JoyVasa(checkpoint.generator, checkpoint.template, device, host)

    def sample(self, features: SpeechFeatures, identity: Optional[Tensor] = None, **knobs) -> Motion:
        """The whole motion of ``features``; arguments as ``stream``. T = round(duration * fps) frames."""
        pieces = list(self.stream(features, identity, **knobs))
        if not pieces:
            return Motion.rest(0, float(knobs.get("fps", FPS)))
        return replace(pieces[0], **{name: torch.cat([getattr(p, name) for p in pieces]) for name in FIELDS})

    def stream(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None, head_motion: float = 1.0,
               fps: float = FPS, emotion=None, emotion_guidance: Optional[float] = None,
               pose_smoothing: str = "ema", rest: str = "silence", progress: Progress = None) -> Iterator[Motion]:
        """Motion piece by piece as windows are finished, on the CPU; memory does not grow with the speech.

        Args:
            features: of the checkpoint's own encoder, or as wide and at 25 fps.
            identity: has no effect.
            seed: same seed, same motion, on any device; any whole number.
            steps: 1 to 1000, at most the training's (50) are taken; ``ancestral`` takes them all.
            scheduler: ``"dpmsolver++"`` or ``"ddim"``, or ``"ancestral"``, the published sampling.
            audio_guidance: 0 to 10; None for 2.8.
            head_motion: 0 (still) to 3 on what the smoothing leaves of the head's motion.
            fps: output frames a second; the model itself always runs at 25 and the motion is resampled.
            emotion: None or neutral.
            emotion_guidance: has no effect.
            pose_smoothing: ``"ema"``, as released, holds the head nearly still; ``"none"`` shows it as generated.
            rest: what expression counts from: ``"silence"`` or ``"first"``, the first frame, as published.
            progress: windows times steps.

        Raises:
            PlaymateError: settings out of range, features of another encoder or frame rate, or an emotion.
        """
        self._check(features, audio_guidance, head_motion, fps, emotion)
        check_sampler(scheduler, steps)
        if rest not in RESTS:
            raise PlaymateError(f"rest is {rest!r}; use one of: {', '.join(RESTS)}.")
        guidance = DEFAULT_AUDIO_GUIDANCE if audio_guidance is None else float(audio_guidance)
        sampling = Sampling(scheduler, int(steps), guidance)
        pieces = self._pieces(features, sampling, int(seed), head_motion, PoseSmoother(pose_smoothing), rest, progress)
        return pieces if fps == FPS else retimed(pieces, float(fps), round(features.duration * fps))

    def _pieces(self, features: SpeechFeatures, sampling: Sampling, seed: int, head_motion: float,
                smoother: PoseSmoother, rest: str, progress: Progress) -> Iterator[Motion]:
        if not len(features):
            return
        self._make_ready(WORKING_BYTES)
        windows = self._windows(features)
        config, done = self.config, 0
        silence = getattr(features, "silence", None) if rest == "silence" else None
        answers = 0 if silence is None else 1
        total = (len(windows) + answers) * steps_of(self.generator, sampling)

        def stepped() -> None:
            nonlocal done
            done += 1
            report(progress, done, total)

        report(progress, 0, total)
        still = None if silence is None else self._answer(silence, stepped, sampling)
        noise = Noise(seed, config.n_motions, config.motion_feat_dim)
        latents = sample_windows(self.generator, windows, noise.start(), noise.window, sampling, stepped)
        skip, left, neutral = LEAD, len(features), None
        for latent in latents:
            pose = smoother(self.template.pose(latent))[skip:skip + left].cpu()
            expression = self.template.expression(latent)[skip:skip + left].cpu()
            skip, left = max(skip - len(latent), 0), left - len(pose)
            if not len(pose):
                continue
            if neutral is None:
                scale = pose[0, :1].clamp(min=SMALLEST_SCALE)
                neutral = Neutral((expression[0] if still is None else still).clone(), pose[0, 4:].clone(),
                                  pose[0, 1:4].clone(), scale.clone())
            if head_motion != 1.0:
                origin = torch.cat((neutral.scale, neutral.translation, neutral.rotation))
                pose = origin + head_motion * (pose - origin)
            yield Motion(expression.clone(), pose[:, 4:].clone(), pose[:, 1:4].clone(),
                         pose[:, :1].clamp(min=SMALLEST_SCALE), FPS, neutral)

    def _windows(self, features: SpeechFeatures) -> Tensor:
        """[W, L, d] mapped speech of every window; features without windows are laid out as the encoder's would be."""
        length, whole = self.config.n_motions, getattr(features, "windows", None)
        if whole is None or tuple(whole.shape[1:]) != (length, self.config.features_dim):
            log.warning("JoyVASA's speech encoder was trained together with its motion; features of another encoder "
                        "make its lips less exact.")
            rows = features.features.float()
            count = -(-(len(rows) + LEAD) // length)
            behind = count * length - LEAD - len(rows)
            rows = torch.cat((rows[:1].expand(LEAD, -1), rows, rows[-1:].expand(behind, -1)))
            whole = rows.unflatten(0, (-1, length))
        return self.generator.audio_feature_map(whole.to(self.device, torch.float32))

    def _answer(self, silence: Tensor, stepped, sampling: Sampling) -> Tensor:
        """[21, 3] the face when nothing is said: the median over a window of silence, whatever seed is drawn."""
        if sampling not in self._rest:
            config = self.config
            noise = Noise(0, config.n_motions, config.motion_feat_dim)
            heard = self.generator.audio_feature_map(silence.to(self.device, torch.float32))[None]
            latent = next(sample_windows(self.generator, heard, noise.start(), noise.window, sampling, stepped))
            self._rest[sampling] = self.template.expression(latent).cpu().clone().median(0).values
        else:
            for _ in range(steps_of(self.generator, sampling)):
                stepped()
        return self._rest[sampling]

    def _check(self, features, audio_guidance, head_motion, fps, emotion) -> None:
        config = self.config
        if features.encoder != config.encoder:
            raise PlaymateError(f"The speech features come from {features.encoder}, but this motion model was trained "
                                f"on {config.encoder}; load the speech encoder that belongs to the model.")
        if features.features.ndim != 2 or features.features.shape[1] != config.features_dim:
            raise PlaymateError(f"The speech features have shape {tuple(features.features.shape)}; this motion model "
                                f"needs [frames, {config.features_dim}].")
        if abs(features.fps - FPS) > 1e-6:
            raise PlaymateError(f"The speech features are at {features.fps:g} frames a second; encode the audio at "
                                f"{FPS:g} and set the output rate on the sampler.")
        if not bool(torch.isfinite(features.features).all()):
            raise PlaymateError("The speech features hold numbers that are not finite; encode the audio again.")
        for name, value, lowest, highest in (("audio_guidance", audio_guidance, 0.0, 10.0),
                                             ("head_motion", head_motion, 0.0, 3.0), ("fps", fps, 1.0, 240.0)):
            if value is not None and not (isinstance(value, (int, float)) and lowest <= value <= highest):
                raise PlaymateError(f"{name} is {value}; it must be {lowest:g} to {highest:g}.")
        if emotion is not None and not emotion.is_neutral:
            raise PlaymateError("JoyVASA's motion model has no emotion head, so emotions other than neutral cannot be "
                                "drawn by itself; leave the emotion out or lay it over the motion.")
