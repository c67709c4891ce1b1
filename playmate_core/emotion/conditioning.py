"""What an emotion curve asks of every frame, worked out before the first window is drawn."""

from __future__ import annotations

from typing import NamedTuple, Optional

from torch import Tensor

from ..motion.features import FPS
from ..runtime.errors import PlaymateError
from .curve import EmotionCurve
from .offsets import attitude, expression_factors, onset

MOST_EXPRESSION = 2.2
"""Factor on an emotion's mean expression that guidance and strength together do not pass."""


class EmotionConditioning(NamedTuple):
    """An emotion curve as the model draws it."""

    weights: Tensor  # [T, 7] amounts that a face can follow: what the emotion controller is given
    expression: Tensor  # [T, 63] the emotions' mean expression
    rotation: Tensor  # [T, 3] how the head is held, degrees
    head_motion: Tensor  # [T] factor on the head's motion


def conditioning(curve: Optional[EmotionCurve], frames: int, means: Optional[Tensor], guidance: float,
                 head_motion: float) -> Optional[EmotionConditioning]:
    """What ``curve`` asks for; None where it asks for nothing.

    Args:
        curve: at 25 fps.
        frames: of the speech.
        means: [7, 63] mean expressions of the model's emotion head.
        guidance: w_e of Eq. 8. Extrapolating from one distribution to another of the same spread moves the mean by
            as much, so it scales the mean expression.
        head_motion: a head that is to keep still keeps its attitude too.

    Raises:
        PlaymateError: a curve of another length or frame rate.
    """
    if curve is None or curve.is_neutral or frames == 0:
        return None
    if len(curve) != frames or abs(curve.fps - FPS) > 1e-6:
        raise PlaymateError(f"The emotion curve has {len(curve)} frames at {curve.fps:g} a second where the speech has "
                            f"{frames} at {FPS:g}; make it from the schedule for this speech.")
    weights = onset(curve.amounts, FPS)
    factors = guidance * expression_factors(weights)
    total = factors.sum(1, keepdim=True)
    factors = factors * (total.clamp(max=MOST_EXPRESSION) / total.clamp(min=1e-6))
    rotation, factor = attitude(weights)
    device = means.device
    return EmotionConditioning(weights.to(device), factors.to(device) @ means,
                               (rotation * min(head_motion, 1.0)).to(device), factor.to(device))
