"""Training stage 2 (PAPER.md 1.7, 1.10): the emotion controller on a frozen stage 1.

The corpus is stage 1's, where ``corpus.emotions`` makes every clip feel something, or real clips that say what their
speakers feel. What is learned is the clip less each emotion's mean expression (``diffusion.model``), so a run starts
at stage 1 speaking through a set face and learns what else an emotion does: how far lips open and spread, how lids and
eyes move.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from playmate_core.diffusion.checkpoint import load_checkpoint
from playmate_core.diffusion.controller import EmotionalDenoiser, EmotionController
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.diffusion.normalisation import MotionStatistics
from playmate_core.emotion.curve import EMOTIONS, LABELS, MAX_STRENGTH, EmotionCurve
from playmate_core.emotion.offsets import expression_factors, onset
from playmate_core.runtime.errors import PlaymateError

from ..corpus.emotions import feel, means, random_curve
from ..corpus.latents import Measures
from .dataset import Clip, Windows
from .settings import Settings
from .stage1 import Stage1
from .upkeep import fingerprint
from .validation import bridge_lips, correlation, features_of

_log = logging.getLogger(__name__)
_FPS = 25.0


class EmotionalWindows(Windows):
    """Windows of feeling clips: ``batch`` also gives ``emotion_weights`` [B, P + W, 7], what the controller is told."""

    def __init__(self, *arguments, emotions: Emotions, **rest) -> None:
        self.emotions = emotions
        super().__init__(*arguments, **rest)

    def kinds(self) -> dict[str, tuple[int, torch.dtype]]:
        return super().kinds() | {"emotion_weights": (len(EMOTIONS), torch.float32)}

    def encode(self, clip: Clip) -> dict[str, Tensor]:
        curve = self.emotions.curve(clip)
        followed = onset(torch.from_numpy(curve).float(), _FPS)
        return super().encode(self.emotions.clip(clip, curve)) | {"emotion_weights": followed}

    def rows_of(self, index: Tensor, frames: int) -> dict[str, Tensor]:
        return dict(emotion_weights=self.rows["emotion_weights"][index[:, :frames]].to(self.device))


class Emotions:
    """What a clip feels. One with an emotion in its description feels just that, and shows it already; any other gets
    a curve drawn for it and is made to feel it, the same for the same clip and seed."""

    def __init__(self, seed: int) -> None:
        from playmate_core.face import geometry
        from playmate_core.face.bridge import LatentBridge

        bridge = LatentBridge.load()
        self.measures = Measures(bridge, bridge.covariance)
        self.means = means(self.measures)
        self.openness = float(geometry.eye_openness(geometry.mean_face()).mean())
        self.seed = seed

    def _rng(self, clip: Clip, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose.encode(), *clip.name.encode()])

    def curve(self, clip: Clip) -> np.ndarray:
        """[T, 7] amounts asked for.

        Raises:
            PlaymateError: a description with an emotion or a strength that there is not.
        """
        if labelled(clip):
            label, strength = clip.info["emotion"], clip.info.get("strength", 1.0)
            if label not in LABELS or not isinstance(strength, (int, float)) or not 0 <= strength <= MAX_STRENGTH:
                raise PlaymateError(f"Clip {clip.name} is said to be {label!r} at strength {strength!r}; labels are "
                                    f"{', '.join(LABELS)}, strengths 0 to {MAX_STRENGTH:g}.")
            amounts = np.zeros((len(clip), len(EMOTIONS)))
            if label in EMOTIONS:
                amounts[:, EMOTIONS.index(label)] = strength
            return amounts
        return random_curve(len(clip), self._rng(clip, "curve"))

    def clip(self, clip: Clip, amounts: np.ndarray) -> Clip:
        """The feeling clip, less its emotions' mean expression."""
        t = clip.tensors
        expression = t["expression"].float()
        if not labelled(clip):
            expression = feel(expression, t["loudness"].float(), amounts, self.measures, self.openness,
                              self._rng(clip, "face"))
        mean = expression_factors(onset(torch.from_numpy(amounts).float(), _FPS)) @ self.means
        return Clip(clip.name, t | {"expression": expression - mean}, clip.info)


def labelled(clip: Clip) -> bool:
    """Whether the clip's description says what its speaker feels (``prepare --labels``)."""
    return clip.info.get("emotion") is not None


class Stage2(Stage1):
    """A run of stage 2; arguments as :class:`Stage1`, with the stage-1 model that it stands on.

    Raises:
        PlaymateError: also a stage-1 file that is none, or whose sizes are not those of the settings; no labelled clip
            where unlabelled ones are left out.
    """

    result = "motion_stage2.safetensors"
    beside = "--stage1"

    def __init__(self, corpus: str | Path | list[Clip], settings: Settings, out: str | Path, *,
                 stage1: str | Path, **rest) -> None:
        self.base, self._stage1_statistics, extra = load_checkpoint(stage1)
        self._articulation = extra.get("articulation")
        if self.base.config != settings.model:
            raise PlaymateError(f"{stage1} has other sizes than the settings' model; give the settings it was made "
                                "with.")
        self._fingerprint = fingerprint(self.base)
        self.emotions = Emotions(settings.training.seed)
        super().__init__(corpus, settings, out, **rest)
        # The pose is stage 1's and cannot be changed by what stands before the expression head.
        self.weights[-6:] = 0.0

    def _beside(self) -> str:
        return self._fingerprint

    def _usable(self, clips: list[Clip]) -> list[Clip]:
        if self.training.unlabelled == "synthetic":
            return clips
        kept = [clip for clip in clips if labelled(clip)]
        if not kept:
            raise PlaymateError("The corpus has no clip with an emotion; prepare it with --labels, or set the config's "
                                "unlabelled to synthetic.")
        return kept

    def _fit(self, clips, weights) -> MotionStatistics:
        return self._stage1_statistics

    def _windows(self, clips, weights, **rest) -> Windows:
        return EmotionalWindows(clips, self.statistics, self.settings.model, weights, emotions=self.emotions,
                                device=self.accelerator.device, turn=self.accelerator, **rest)

    def _network(self) -> EmotionalDenoiser:
        config = self.settings.model
        return EmotionalDenoiser(self.base, EmotionController(config.width, config.heads))

    def _learner(self) -> EmotionController:
        return self._plain().controller

    def _caller(self, learner: EmotionController) -> EmotionalDenoiser:
        return EmotionalDenoiser(self._plain().denoiser, learner)

    def _model(self, learner: EmotionController) -> PlaymateMotionModel:
        return PlaymateMotionModel(self._plain().denoiser, self.statistics, self.settings.sampling,
                           device=self.accelerator.device, controller=learner, emotion_means=self.emotions.means,
                           articulation=self._articulation)

    def _measure(self, model: PlaymateMotionModel, clips: int = 2, frames: int = 250) -> dict:
        """Lips of every emotion against neutral's for the same speech, least over the emotions."""
        self.lips = bridge_lips() if self.lips is None else self.lips
        rows = []
        for clip in self.held_out[:clips]:
            clip = Clip(clip.name, {k: v if k == "identity" else v[:frames] for k, v in clip.tensors.items()},
                        clip.info)
            speech = features_of(clip, model.encoder)
            neutral, _ = self.lips(model.sample(speech, clip.tensors["identity"]).expression.flatten(1))
            for label in EMOTIONS:
                curve = EmotionCurve.constant(label, 1.0, len(clip), _FPS)
                moved = model.sample(speech, clip.tensors["identity"], emotion=curve)
                gap, _ = self.lips(moved.expression.flatten(1))
                rows.append((correlation(gap, neutral), float(gap.min() - neutral.min())))
        worst = torch.tensor(rows)
        return dict(emotion_gap_r=round(float(worst[:, 0].min()), 4), least_gap=round(float(worst[:, 1].max()), 4))
