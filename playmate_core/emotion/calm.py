"""A portrait's own smile under an emotion: nobody is sad who goes on smiling.

Motion counts from the portrait's own face. As far as an emotion is shown, the smile or frown that the picture itself
has is therefore taken off, so that every emotion starts from a calm mouth; neutral speech keeps the picture's mood.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..face.arkit import ArkitShapes
from ..face.blendshapes import NAMES
from ..motion.types import Motion
from .curve import EmotionCurve
from .offsets import onset

MOODS = ("mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight")
"""What counts as a mood. Brows do not: scores of brows at rest differ from person to person."""
TAKEN = 0.8
"""Share of it that a full emotion takes off; a face drawn without a trace of its smile looks pasted over."""
AT_REST = 0.05
"""Score up to which a mouth has no mood."""


def own_mood(blendshapes: Tensor) -> Tensor:
    """[52] a portrait's scores (``face.blendshapes.NAMES``) -> [21, 3] latents of its smile or frown."""
    shapes = ArkitShapes.load()
    weights = torch.zeros(len(shapes.names))
    for name in MOODS:
        score = float(blendshapes[NAMES.index(name)])
        weights[shapes.names.index(name)] = max(score - AT_REST, 0.0) / (1.0 - AT_REST)
    return shapes.expression(weights)


def calm_first(motion: Motion, curve: EmotionCurve, blendshapes: Tensor) -> Motion:
    """``motion`` with the portrait's own mood taken off in step with the emotions.

    Args:
        motion: T frames at any rate, with the emotion.
        curve: the emotions, at any rate.
        blendshapes: [52] scores of the portrait.
    """
    mood = own_mood(blendshapes)
    if curve.is_neutral or not bool(mood.any()):
        return motion
    amounts = onset(curve.resampled(len(motion), motion.fps).amounts, motion.fps).sum(1).clamp(max=1.0)
    change = TAKEN * amounts.float()[:, None, None] * mood
    return replace(motion, expression=motion.expression - change.to(motion.expression))
