"""The motion model as the rest of the library uses it: speech features in, ``Motion`` out."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Iterator, Optional

import torch
from torch import Tensor, nn

from ..emotion.curve import EmotionCurve
from ..emotion.weights import Feeling, feeling
from ..motion.features import FPS, SpeechFeatures
from ..motion.types import KEYPOINTS, Motion, Neutral
from ..runtime.acceleration import NONE
from ..runtime.errors import PlaymateError
from ..runtime.host import Host, place_on_device
from ..runtime.progress import Progress
from ..weights import bundled
from .articulation import Articulation
from .checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from .config import POSE_DIM, DenoiserConfig
from .controller import EmotionController
from .denoiser import Denoiser
from .normalisation import MotionStatistics
from .retiming import FIELDS, retimed
from .sampler import Guidance, sample_windows
from .schedule import sampling_scheduler

DEFAULT_AUDIO_GUIDANCE = 1.5
"""The paper's w_a (PAPER.md 1.8); a checkpoint may carry a better one."""

DEFAULT_TEMPERATURE = 1.0

WORKING_BYTES = 64 * 2**20
"""Beside the weights, generously: a window is a few rows of some hundred frames."""

DEFAULT_EMOTION_GUIDANCE = 1.0
"""Neutral in Eq. 8: the strength of a curve is already a condition. The paper, without strengths, uses 1.5."""


class MotionModel:
    """Playmate's two stages: what speech does to a face, and what an emotion makes of that.

    Stage 2 moves about each emotion's mean expression as stage 1 moves about the neutral one (Eq. 5 with statistics
    of every emotion): the diffusion runs on what is left after the mean is taken off, so the frozen network meets
    motion of the kind it knows however strong the emotion.

    Attributes:
        config: sizes, and the encoder it listens to.
        sampling: default knobs that came with the weights: ``audio_guidance``, ``temperature``.
        reached: figures measured when the weights were made.
        controller, emotion_means: the emotion head and [7, 63] mean expressions, None for stage 1 alone.
        articulation: a regression that has a say in how far lips part, or None.
        acceleration: one of ``runtime.acceleration.ACCELERATIONS``; other than "none" records CUDA graphs where
            there is CUDA.
    """

    def __init__(self, denoiser: Denoiser, statistics: MotionStatistics, sampling: dict | None = None,
                 reached: dict | None = None, device: str | torch.device = "cpu",
                 controller: Optional[EmotionController] = None, emotion_means: Optional[Tensor] = None,
                 articulation: Optional[Articulation] = None, host: Host = None) -> None:
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
    def encoder(self) -> str:
        """Name of the speech encoder whose features it takes."""
        return self.config.encoder

    @property
    def has_emotion_head(self) -> bool:
        """Whether emotion curves take effect (stage 2)."""
        return self.controller is not None

    @staticmethod
    def load(path: str | os.PathLike | None = None, device: str | torch.device = "cpu",
             host: Host = None) -> MotionModel:
        """A model from ``path``, or the bundled one; ``host`` keeps its networks, see ``runtime.host``.

        Raises:
            PlaymateError: the file is missing or is not a motion model that fits this version.
        """
        denoiser, statistics, extra = load_checkpoint(bundled(BUNDLED) if path is None else path)
        return MotionModel(denoiser, statistics, device=device, host=host, **extra)

    def save(self, path: str | os.PathLike) -> None:
        """Write it where ``load`` finds it again; half precision."""
        save_checkpoint(path, self.denoiser, self.statistics, self.sampling, self.reached, self.controller,
                        self.emotion_means, self.articulation)

    def sample(self, features: SpeechFeatures, identity: Optional[Tensor] = None, **knobs) -> Motion:
        """The whole motion of ``features``; arguments as ``stream``. T = round(duration * fps) frames."""
        pieces = list(self.stream(features, identity, **knobs))
        if not pieces:
            return Motion.rest(0, float(knobs.get("fps", FPS)))
        return replace(pieces[0], **{name: torch.cat([getattr(p, name) for p in pieces]) for name in FIELDS})

    def stream(self, features: SpeechFeatures, identity: Optional[Tensor] = None, *, seed: int = 0, steps: int = 10,
               scheduler: str = "dpmsolver++", audio_guidance: Optional[float] = None,
               temperature: Optional[float] = None, head_motion: float = 1.0, fps: float = FPS,
               emotion: Optional[EmotionCurve] = None, emotion_guidance: Optional[float] = None,
               progress: Progress = None) -> Iterator[Motion]:
        """Motion piece by piece as windows are finished, on the CPU; memory does not grow with the speech.

        Expression counts from the resting, closed mouth; rotation, translation and scale from a straight head.

        Args:
            features: at 25 fps, of the encoder that the model was trained on.
            identity: [63] ``face.geometry.identity_feature``; None for an average face.
            seed: same seed, same motion, on any device; any whole number.
            steps: denoising steps per window, 1 to 1000; 8 to 20 are enough.
            scheduler: ``"dpmsolver++"`` or ``"ddim"``.
            audio_guidance: w_a of Eq. 8, 0 to 10; None for the model's own default.
            temperature: 0 to 1.5, deviation of the start noise on what speech explains (lips). 1 draws from the
                whole distribution; lower stays nearer the likeliest articulation, while blinks, brows and head
                keep their variety. None for the model's own default.
            head_motion: 0 (still) to 3; 1 is natural.
            fps: output frames a second; the model itself always runs at 25 and the motion is resampled.
            emotion: a curve as long as the features, at 25 fps; anything but neutral needs a model with an emotion
                head. It also decides how the head is held, in step with ``head_motion`` up to 1.
            emotion_guidance: w_e of Eq. 8, 0 to 3; None for the model's own default. It scales the mean expression
                too, as extrapolating between two distributions of equal spread does.
            progress: windows times steps.

        Raises:
            PlaymateError: settings out of range, features of another encoder or frame rate, or an emotion.
        """
        guidance = self._check(features, identity, steps, scheduler, audio_guidance, temperature, head_motion, fps,
                               emotion, emotion_guidance)
        self._make_ready(WORKING_BYTES)
        feels = feeling(emotion, len(features), self.emotion_means, guidance.emotion, head_motion)
        audio = self.statistics.encode_audio(*(x.to(self.device, torch.float32) for x in
                                               (features.features, features.loudness, features.pitch)))
        person = None if identity is None else identity.to(self.device, torch.float32).reshape(-1)
        windows = sample_windows(self.denoiser, audio, person, guidance, int(seed), progress, self.controller,
                                 None if feels is None else feels.felt, self.acceleration)
        expected = (None if self.articulation is None or not len(features) else
                    self.articulation.gap(features.features.to(self.device, torch.float32)))
        pieces = self._decoded(windows, head_motion, feels, expected)
        return pieces if fps == FPS else retimed(pieces, float(fps), round(features.duration * fps))

    def _decoded(self, windows: Iterator[Tensor], head_motion: float, feels: Optional[Feeling],
                 expected: Optional[Tensor]) -> Iterator[Motion]:
        start = 0
        for units in windows:
            rows = slice(start, start + len(units))
            start += len(units)
            expression = self.statistics.decode_expression(units[:, :self.config.axes])
            if expected is not None:
                expression = self.articulation(expression, expected[rows])
            moved = units[:, self.config.axes:]
            if feels is not None:
                expression = expression + feels.mean[rows]
                moved = moved * feels.liveliness[rows, None]
            pose = self.statistics.decode_pose(moved, head_motion)
            if feels is not None:
                pose[:, :3] += feels.turn[rows]
            expression, pose = expression.cpu().clone(), pose.cpu().clone()
            yield Motion(expression.reshape(-1, KEYPOINTS, 3), pose[:, :3], pose[:, 3:6], pose[:, 6:], FPS,
                         Neutral.rest())

    def _check(self, features, identity, steps, scheduler, audio_guidance, temperature, head_motion, fps,
               emotion, emotion_guidance) -> Guidance:
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
        if not all(bool(torch.isfinite(x).all()) for x in (features.features, features.loudness, features.pitch)):
            raise PlaymateError("The speech features hold numbers that are not finite; encode the audio again.")
        if identity is not None and (identity.numel() != config.identity_dim
                                     or not bool(torch.isfinite(identity).all())):
            raise PlaymateError(f"The identity feature must be {config.identity_dim} finite numbers.")
        guidance = self._knob("audio_guidance", audio_guidance, DEFAULT_AUDIO_GUIDANCE, 10.0)
        warmth = self._knob("temperature", temperature, DEFAULT_TEMPERATURE, 1.5)
        feeling_scale = self._knob("emotion_guidance", emotion_guidance, DEFAULT_EMOTION_GUIDANCE, 3.0)
        _in_range("head_motion", head_motion, 0.0, 3.0)
        _in_range("fps", fps, 1.0, 240.0)
        sampling_scheduler(config, scheduler, steps)  # refuses before the first window is asked for
        if emotion is not None and not emotion.is_neutral and not self.has_emotion_head:
            raise PlaymateError("This motion model has no emotion head, so emotions other than neutral cannot be "
                                "drawn yet; leave the emotion out until a model with one is loaded.")
        share = self.statistics.speech_share
        spoken = (share / share.max().clamp(min=1e-6)).clamp(0.0, 1.0)
        scale = torch.cat((1.0 + (warmth - 1.0) * spoken, spoken.new_ones(POSE_DIM)))
        return Guidance(scheduler, int(steps), guidance, scale, feeling_scale)

    def _knob(self, name: str, value: Optional[float], default: float, highest: float) -> float:
        value = self.sampling.get(name, default) if value is None else value
        _in_range(name, value, 0.0, highest)
        return float(value)


def _in_range(name: str, value: float, lowest: float, highest: float) -> None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and lowest <= value <= highest):
        raise PlaymateError(f"{name} is {value}; it must be {lowest:g} to {highest:g}.")
