"""The motion model as the rest of the library uses it: speech features in, ``Motion`` out."""

from __future__ import annotations

import os
from typing import Iterator, Optional

import torch
from torch import Tensor, nn

from ..emotion.conditioning import EmotionConditioning, conditioning
from ..motion.blinks import MAX_RATE
from ..motion.features import FPS, SpeechFeatures
from ..motion.types import KEYPOINTS, Motion, Neutral
from ..runtime.acceleration import NONE
from ..runtime.errors import PlaymateError
from ..runtime.host import Host, place_on_device
from ..runtime.progress import Progress
from ..weights import bundled
from .articulation import Articulation
from .base import SamplingSettings, WindowedMotionModel, check_range
from .blinking import Blinker
from .checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from .config import POSE_DIM, DenoiserConfig
from .controller import EmotionController
from .denoiser import Denoiser
from .normalisation import MotionStatistics
from .sampler import Guidance, sample_windows
from .schedule import sampling_scheduler
from .speech_rows import SpeechRows

DEFAULT_AUDIO_GUIDANCE = 1.5
"""The paper's w_a (PAPER.md 1.8); a checkpoint may carry a better one."""

DEFAULT_TEMPERATURE = 1.0
"""Deviation of the start noise on what speech explains (lips). 1 draws from the whole distribution; a checkpoint may
ask for less, to stay nearer the likeliest articulation, while blinks, brows and head keep their variety."""

WORKING_BYTES = 64 * 2**20
"""Beside the weights, generously: a window is a few rows of some hundred frames."""

DEFAULT_EMOTION_GUIDANCE = 1.0
"""Neutral in Eq. 8: the strength of a curve is already a condition. The paper, without strengths, uses 1.5."""


class PlaymateMotionModel(WindowedMotionModel):
    """Playmate's two stages: what speech does to a face, and what an emotion makes of that.

    Stage 2 moves about each emotion's mean expression as stage 1 moves about the neutral one (Eq. 5 with statistics
    of every emotion): the diffusion runs on what is left after the mean is taken off, so the frozen network meets
    motion of the kind it knows however strong the emotion.

    Attributes:
        config: sizes, and the speech encoder whose features it takes.
        sampling: defaults that came with the weights: ``audio_guidance``, ``emotion_guidance``, ``temperature``,
            and ``blinks``, how many a minute are planned beside the model's own (0 if it does not say).
        reached: figures measured when the weights were made.
        controller, emotion_means: the emotion head and [7, 63] mean expressions, None for stage 1 alone.
        articulation: a regression that corrects how far lips part, or None.
        acceleration: one of ``runtime.acceleration.ACCELERATIONS``; other than "none" records CUDA graphs where
            there is CUDA.
    """

    def __init__(self, denoiser: Denoiser, statistics: MotionStatistics, sampling: dict | None = None,
                 reached: dict | None = None, device: str | torch.device = "cpu",
                 controller: Optional[EmotionController] = None, emotion_means: Optional[Tensor] = None,
                 articulation: Optional[Articulation] = None, host: Host | None = None) -> None:
        self.device = torch.device(device)
        self.denoiser = denoiser.eval()
        self.controller = None if controller is None else controller.eval()
        networks = nn.ModuleList(net for net in (self.denoiser, self.controller) if net is not None)
        self._make_ready = place_on_device(networks, self.device, host)
        self.acceleration = NONE
        self.statistics = statistics.to(self.device)
        self.sampling = dict(sampling or {})
        self.reached = dict(reached or {})
        self.emotion_means = None if emotion_means is None else emotion_means.to(self.device)
        self.articulation = None if articulation is None else articulation.to(self.device)

    @property
    def config(self) -> DenoiserConfig:
        return self.denoiser.config

    @property
    def has_emotion_head(self) -> bool:
        """Whether emotion curves take effect (stage 2)."""
        return self.controller is not None

    @staticmethod
    def load(path: str | os.PathLike | None = None, device: str | torch.device = "cpu",
             host: Host | None = None) -> PlaymateMotionModel:
        """A model from ``path``, or the bundled one; ``host`` keeps its networks, see ``runtime.host``.

        Raises:
            PlaymateError: the file is missing or is not a motion model that fits this version.
        """
        denoiser, statistics, extra = load_checkpoint(bundled(BUNDLED) if path is None else path)
        return PlaymateMotionModel(denoiser, statistics, device=device, host=host, **extra)

    def save(self, path: str | os.PathLike) -> None:
        """Write it where ``load`` finds it again; half precision."""
        save_checkpoint(path, self.denoiser, self.statistics, self.sampling, self.reached, self.controller,
                        self.emotion_means, self.articulation)

    def _pieces(self, features: SpeechFeatures, identity: Optional[Tensor], settings: SamplingSettings,
                progress: Progress) -> Iterator[Motion]:
        """Expression counts from the resting, closed mouth; rotation, translation and scale from a straight head.

        The emotion also decides how the head is held, in step with ``head_motion`` up to 1; emotion guidance scales
        its mean expression too, as extrapolating between two distributions of equal spread does.
        """
        if identity is not None and (identity.numel() != self.config.identity_dim
                                     or not bool(torch.isfinite(identity).all())):
            raise PlaymateError(f"The identity feature must be {self.config.identity_dim} finite numbers.")
        guidance = self._guidance(settings)
        emotion = conditioning(settings.emotion, len(features), self.emotion_means, guidance.emotion,
                               settings.head_motion)
        self._make_ready(WORKING_BYTES)
        audio = SpeechRows(self.statistics, features, self.device)
        person = None if identity is None else identity.to(self.device, torch.float32).reshape(-1)
        windows = sample_windows(self.denoiser, audio, person, guidance, settings.seed, progress, self.controller,
                                 None if emotion is None else emotion.weights, self.acceleration)
        expected = (None if self.articulation is None or not len(features) else
                    self.articulation.expected(features.features))
        rate = self._scale("blinks", None, 0.0, MAX_RATE)
        blinker = Blinker(rate, settings.seed, len(features)) if rate else None
        return self._decoded(windows, settings.head_motion, emotion, expected, blinker)

    def _decoded(self, windows: Iterator[Tensor], head_motion: float, emotion: Optional[EmotionConditioning],
                 expected: Optional[Tensor], blinker: Optional[Blinker] = None) -> Iterator[Motion]:
        start = 0
        for units in windows:
            rows = slice(start, start + len(units))
            start += len(units)
            expression = self.statistics.decode_expression(units[:, :self.config.axes])
            if expected is not None:
                expression = self.articulation(expression, expected[rows])
            moved = units[:, self.config.axes:]
            if emotion is not None:
                expression = expression + emotion.expression[rows]
                moved = moved * emotion.head_motion[rows, None]
            if blinker is not None:
                # Last, so that lids meet whatever the emotion does to them.
                expression = blinker(expression, rows.start)
            pose = self.statistics.decode_pose(moved, head_motion)
            if emotion is not None:
                pose[:, :3] += emotion.rotation[rows]
            expression, pose = expression.cpu().clone(), pose.cpu().clone()
            yield Motion(expression.reshape(-1, KEYPOINTS, 3), pose[:, :3], pose[:, 3:6], pose[:, 6:], FPS,
                         Neutral.rest())

    def _guidance(self, settings: SamplingSettings) -> Guidance:
        audio = self._scale("audio_guidance", settings.audio_guidance, DEFAULT_AUDIO_GUIDANCE, 10.0)
        emotion = self._scale("emotion_guidance", settings.emotion_guidance, DEFAULT_EMOTION_GUIDANCE, 3.0)
        temperature = self._scale("temperature", None, DEFAULT_TEMPERATURE, 1.5)
        share = self.statistics.speech_share
        spoken = (share / share.max().clamp(min=1e-6)).clamp(0.0, 1.0)
        noise = torch.cat((1.0 + (temperature - 1.0) * spoken, spoken.new_ones(POSE_DIM)))
        scheduler = sampling_scheduler(self.config, settings.scheduler, settings.steps)
        return Guidance(scheduler, int(settings.steps), audio, noise, emotion)

    def _scale(self, name: str, value: Optional[float], default: float, highest: float) -> float:
        value = self.sampling.get(name, default) if value is None else value
        check_range(name, value, 0.0, highest)
        return float(value)
