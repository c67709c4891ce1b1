"""Emotion as an offset in latent space, for motion models without an emotion head."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..face.bridge import LatentBridge
from ..motion.types import Motion
from .curve import EmotionCurve
from .offsets import emotion_expression

LAID_OVER = ("The loaded motion model has no emotion head, so the emotion is laid over the generated expression, and "
             "the way of speaking does not change with it.")
"""What a user reads when emotions are drawn without stage 2."""

CLOSED_LIPS = 0.01
"""Lip gap above the resting one, in outer-eye distances, below which generated lips are taken as shut."""

MOST_OPENING = 2.0
"""How far, in multiples of the generated lip gap, an emotion that is laid over it may open the lips further."""


def lay_emotion_over(bridge: LatentBridge, motion: Motion, curve: EmotionCurve) -> Motion:
    """Emotion as an offset in latent space, for motion that was made without it.

    Lips keep shutting on p, b and m: an emotion opens them further by ``MOST_OPENING`` times the gap that the motion
    has in the frame, so not at all where they are shut. What it would open beyond is taken off along the latents'
    most probable way of opening the lips. Emotions that press the lips together are left as they are.

    Args:
        bridge: reads the lip gap off latents.
        motion: T frames at any rate.
        curve: the emotions from the motion's first frame on, at any rate; its last frame holds.

    Returns:
        Motion with the expression changed and all else as it was.
    """
    offset = emotion_expression(curve.resampled(len(motion), motion.fps)).to(motion.expression)
    shown = bridge.lip_gap(motion.expression_offset)
    opening = bridge.lip_gap(offset)
    excess = (opening - MOST_OPENING * (shown - CLOSED_LIPS).clamp_min(0.0)).clamp_min(0.0)
    readout = bridge.lip_gap(torch.eye(bridge.covariance.shape[0]))
    opener = bridge.covariance @ readout
    opener = (opener / (readout @ opener)).reshape(offset.shape[1:]).to(offset)
    return replace(motion, expression=motion.expression + offset - excess[:, None, None] * opener)
