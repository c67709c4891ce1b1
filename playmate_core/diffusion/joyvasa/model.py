"""JoyVASA as the rest of the library uses a motion model: speech features in, ``Motion`` out."""

from __future__ import annotations

import logging
from typing import Iterator, Optional

import torch
from torch import Tensor

from ...motion.features import FPS, LEAD, SpeechFeatures
from ...motion.types import Motion, Neutral
from ...runtime.host import Host, place_on_device
from ...runtime.progress import Progress
from ..base import SamplingSettings, WindowedMotionModel, check_range
from ..schedule import check_sampler
from ..windows import StepProgress
from .checkpoint import Checkpoint
from .config import JoyVasaConfig
from .network import MotionGenerator
from .sampler import Noise, Sampling, sample_windows, steps_of
from .schedule import SAMPLERS
from .statistics import AveragedPose, MotionTemplate

log = logging.getLogger(__name__)

DEFAULT_AUDIO_GUIDANCE = 2.8
"""Of the published command line; its web page takes 4, its function 1.15 (SPEC.md 5.3)."""

SMALLEST_SCALE = 0.05
"""Of a head, where a wild draw would turn it inside out."""

WORKING_BYTES = 64 * 2**20
"""Beside the weights, generously: a window is two rows of some hundred frames."""


class JoyVasaMotionModel(WindowedMotionModel):
    """JoyVASA's motion generator.

    It knows one performance of a voice, no faces and no emotions: identity has no effect, and emotions are laid over
    its motion by the pipeline. Its motion is LivePortrait's numbers as they are, so ``neutral`` says from what they
    count. The published program counts expression from the first frame (and takes lips absolutely, whoever the
    portrait is); here expression counts from the generator's own answer to silence, which no blink or word in the
    first frame can spoil. The head counts from the first frame, so that a portrait looks where it looked.

    Attributes:
        config: sizes, and the speech encoder whose features it takes.
    """

    def __init__(self, generator: MotionGenerator, template: MotionTemplate,
                 device: str | torch.device = "cpu", host: Host | None = None) -> None:
        self.device = torch.device(device)
        self.generator = generator.eval()
        self._make_ready = place_on_device(self.generator, self.device, host)
        self.template = template.to(self.device)
        self._rest: dict[Sampling, Tensor] = {}

    @property
    def config(self) -> JoyVasaConfig:
        return self.generator.config

    @staticmethod
    def of(checkpoint: Checkpoint, device: str | torch.device = "cpu", host: Host | None = None) -> JoyVasaMotionModel:
        """A model from a checkpoint that was read; ``host`` keeps its generator, see ``runtime.host``."""
        return JoyVasaMotionModel(checkpoint.generator, checkpoint.template, device, host)

    def _pieces(self, features: SpeechFeatures, identity: Optional[Tensor], settings: SamplingSettings,
                progress: Progress) -> Iterator[Motion]:
        """Identity has no effect, nor has emotion guidance. Of ``steps`` at most the training's (50) are taken;
        ``ancestral``, the published sampling, takes them all. ``head_motion`` acts on what the released average leaves
        of the head's motion."""
        check_sampler(settings.scheduler, settings.steps, SAMPLERS)
        guidance = DEFAULT_AUDIO_GUIDANCE if settings.audio_guidance is None else settings.audio_guidance
        check_range("audio_guidance", guidance, 0.0, 10.0)
        sampling = Sampling(settings.scheduler, int(settings.steps), float(guidance))
        return self._decoded(features, sampling, settings.seed, settings.head_motion, progress)

    def _decoded(self, features: SpeechFeatures, sampling: Sampling, seed: int, head_motion: float,
                 progress: Progress) -> Iterator[Motion]:
        if not len(features):
            return
        self._make_ready(WORKING_BYTES)
        windows = self._windows(features)
        config = self.config
        silence = getattr(features, "silence", None)
        answers = 0 if silence is None else 1
        stepped = StepProgress(progress, (len(windows) + answers) * steps_of(self.generator, sampling))
        at_rest = None if silence is None else self._answer(silence, stepped, sampling)
        noise = Noise(seed, config.n_motions, config.motion_feat_dim)
        latents = sample_windows(self.generator, windows, noise.start(), noise.window, sampling, stepped)
        average = AveragedPose()
        skip, left, neutral = LEAD, len(features), None
        for latent in latents:
            pose = average(self.template.pose(latent))[skip:skip + left].cpu()
            expression = self.template.expression(latent)[skip:skip + left].cpu()
            skip, left = max(skip - len(latent), 0), left - len(pose)
            if not len(pose):
                continue
            if neutral is None:
                scale = pose[0, :1].clamp(min=SMALLEST_SCALE)
                neutral = Neutral((expression[0] if at_rest is None else at_rest).clone(), pose[0, 4:].clone(),
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

    def _answer(self, silence: Tensor, stepped: StepProgress, sampling: Sampling) -> Tensor:
        """[21, 3] the face when nothing is said: the median over a window of silence, whatever seed is drawn."""
        if sampling not in self._rest:
            config = self.config
            noise = Noise(0, config.n_motions, config.motion_feat_dim)
            mapped = self.generator.audio_feature_map(silence.to(self.device, torch.float32))[None]
            latent = next(sample_windows(self.generator, mapped, noise.start(), noise.window, sampling, stepped))
            self._rest[sampling] = self.template.expression(latent).cpu().clone().median(0).values
        else:
            stepped(steps_of(self.generator, sampling))
        return self._rest[sampling]
