"""The mean expression of each emotion as latents, fitted by ``laboratory/fits/emotions.py`` from facial action units.

Stage 2 learns from faces made with these; a motion model without an emotion head adds them as they are. Nothing here
knows of windows or networks.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..motion.types import KEYPOINTS
from ..weights.tensors import bundled_tensors
from .curve import EMOTIONS, LABELS, NEUTRAL, EmotionCurve

FILE = "emotions.safetensors"
BEYOND = 0.6
"""Slope of the expression above strength 1: faces run out of skin, and latents out of what a renderer can draw."""

PACE: dict[str, float] = {"angry": 0.20, "disgusted": 0.25, "contempt": 0.30, "fear": 0.15, "happy": 0.25, "sad": 0.40,
                         "surprised": 0.12}
"""Seconds in which a face gets two thirds of the way to a new emotion: startled quickly, saddened slowly (Ekman 2003,
Emotions Revealed: surprise is the briefest emotion; the seconds are ours)."""

ATTITUDE: dict[str, tuple[float, float, float, float]] = {
    "angry": (2.0, 0.0, 0.0, 1.2),
    "disgusted": (-1.5, 2.5, 1.0, 0.9),
    "contempt": (-3.0, 0.0, 2.5, 0.8),
    "fear": (-1.5, 0.0, 0.0, 0.9),
    "happy": (-0.5, 0.0, 1.0, 1.15),
    "sad": (4.0, 0.0, -1.0, 0.6),
    "surprised": (-2.5, 0.0, 0.0, 1.0),
}
"""How a head is held, at strength 1: pitch (down is positive), yaw, roll in degrees, and a factor on its motion.
Heads bend forward in sadness and back in joy (Coulson 2004, Attributing emotion to static body postures, Journal of
Nonverbal Behavior 28); all degrees and factors are ours."""


@lru_cache(maxsize=1)
def emotion_table() -> Tensor:
    """[7, 63] latent offsets of ``EMOTIONS`` at strength 1.

    Raises:
        PlaymateError: the bundled file is missing or damaged.
    """
    offsets = bundled_tensors(FILE, "emotions", {"offsets": (len(LABELS), 3 * KEYPOINTS)})["offsets"]
    return offsets[:NEUTRAL].float()


def expression_factors(amounts: Tensor) -> Tensor:
    """[..., 7] amounts -> [..., 7] factors on the expressions; linear to a total of 1, then flatter."""
    total = amounts.sum(-1, keepdim=True)
    reached = total.clamp(max=1.0) + BEYOND * (total - 1.0).clamp(min=0.0)
    return amounts * (reached / total.clamp(min=1e-6))


def onset(amounts: Tensor, fps: float) -> Tensor:
    """[T, 7] amounts as asked for -> as a face can follow them: a first-order approach at each emotion's ``PACE``.

    The first frame is where it is asked to be.
    """
    if len(amounts) < 2:
        return amounts
    keep = torch.tensor([math.exp(-1.0 / (fps * PACE[label])) for label in EMOTIONS], dtype=amounts.dtype)
    rows, state = [], amounts[0]
    for row in amounts:
        state = keep * state + (1 - keep) * row
        rows.append(state)
    return torch.stack(rows)


def emotion_expression(curve: EmotionCurve) -> Tensor:
    """[T, 21, 3] latent offsets of a curve, without articulation, blinks or dynamics."""
    return (expression_factors(curve.amounts) @ emotion_table()).reshape(-1, KEYPOINTS, 3)


def attitude(amounts: Tensor) -> tuple[Tensor, Tensor]:
    """How the head is held.

    Args:
        amounts: [T, 7] amounts.

    Returns:
        [T, 3] pitch, yaw, roll offsets in degrees, and [T] factor on the head's motion.
    """
    table = amounts.new_tensor([ATTITUDE[label] for label in EMOTIONS])
    factors = expression_factors(amounts)
    return factors @ table[:, :3], 1.0 + factors @ (table[:, 3] - 1.0)
