"""How well a motion model speaks clips that it has not learned."""

from __future__ import annotations

from typing import Callable, Optional

import torch
from torch import Tensor

from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.motion.features import SpeechFeatures

from .dataset import Clip

LIP_TOP, LIP_BOTTOM, CORNERS = 13, 14, (61, 291)

LipReader = Callable[[Tensor], tuple[Tensor, Tensor]]
"""[T, 63] expression offsets -> lip gap [T] and lip width [T], both relative to rest, in outer-eye distances."""


def bridge_lips() -> LipReader:
    """Lips as the bundled latent bridge sees them."""
    from playmate_core.face.bridge import LatentBridge
    bridge = LatentBridge.load()

    def read(expression: Tensor) -> tuple[Tensor, Tensor]:
        moved = bridge.displacement(expression.reshape(-1, 21, 3))
        width = moved[:, CORNERS[1], 0] - moved[:, CORNERS[0], 0]
        return moved[:, LIP_BOTTOM, 1] - moved[:, LIP_TOP, 1], width

    return read


def features_of(clip: Clip, encoder: str) -> SpeechFeatures:
    """The clip's speech as the sampler takes it."""
    t = clip.tensors
    return SpeechFeatures(t["features"].float(), t["loudness"], t["pitch"], 25.0, len(clip) / 25.0, encoder)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r; 0 where one of them does not move."""
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    size = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / size if size > 1e-12 else 0.0


def join_velocity(expression: Tensor, window: int) -> float:
    """Share of window joins whose frame-to-frame change lies above the 99.5th percentile of those inside windows."""
    change = (expression[1:] - expression[:-1]).norm(dim=1)
    join = torch.arange(len(change)) % window == window - 1
    if not bool(join.any()):
        return 0.0
    return float((change[join] > torch.quantile(change[~join], 0.995)).float().mean())


def validate(model: PlaymateMotionModel, clips: list[Clip], lips: LipReader, *, seed: int = 0, max_clips: int = 12,
             max_frames: int = 500, beat: Optional[Callable[[], None]] = None, **knobs) -> dict[str, float]:
    """Draw the lips of held-out clips and compare with theirs.

    Returns:
        medians over the clips: gap_r, width_r (Pearson), gap_ratio, width_ratio (deviation drawn / real), and joins
        (see ``join_velocity``).
    """
    rows = []
    for clip in clips[:max_clips]:
        clip = Clip(clip.name, {k: v if k == "identity" else v[:max_frames] for k, v in clip.tensors.items()},
                    clip.info)
        motion = model.sample(features_of(clip, model.encoder), clip.tensors["identity"], seed=seed, **knobs)
        drawn = motion.expression.flatten(1)
        (gap, width), (real_gap, real_width) = lips(drawn), lips(clip.tensors["expression"])
        rows.append((correlation(gap, real_gap), correlation(width, real_width),
                     float(gap.std() / real_gap.std().clamp(min=1e-4)),
                     float(width.std() / real_width.std().clamp(min=1e-4)),
                     join_velocity(drawn, model.config.window)))
        if beat is not None:
            beat()
    if not rows:
        return {}
    middle = torch.tensor(rows).quantile(0.5, dim=0).tolist()
    names = ("gap_r", "width_r", "gap_ratio", "width_ratio", "joins")
    return {name: round(value, 4) for name, value in zip(names, middle, strict=True)}
