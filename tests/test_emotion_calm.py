"""A portrait's own smile under an emotion."""

from __future__ import annotations

import torch

from playmate_core.emotion.calm import TAKEN, calm_first, own_mood
from playmate_core.emotion.curve import EmotionCurve
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion


def scores(**given):
    values = torch.zeros(len(NAMES))
    for name, value in given.items():
        values[[i for i, full in enumerate(NAMES) if full.startswith(name)]] = value
    return values


def corners(expression):
    """[T] how far the corners of the mouth rise, outer-eye distances."""
    return -LatentBridge.load().displacement(expression)[..., [61, 291], 1].mean(-1)


def test_a_smile_is_a_mood_and_a_calm_or_talking_mouth_is_none():
    assert corners(own_mood(scores(mouthSmile=0.9))) > 0.06
    assert corners(own_mood(scores(mouthFrown=0.6))) < -0.01
    assert not own_mood(scores(mouthSmile=0.03, jawOpen=0.7, browInnerUp=0.6)).any()


def test_an_emotion_takes_the_smile_off_and_neutral_speech_keeps_it():
    motion, smiling = Motion.rest(50), scores(mouthSmile=0.8)
    sad = calm_first(motion, EmotionCurve.constant("sad", 1.0, 50, 25.0), smiling)
    assert torch.allclose(sad.expression[-1], -TAKEN * own_mood(smiling), atol=1e-5)
    half = calm_first(motion, EmotionCurve.constant("sad", 0.5, 50, 25.0), smiling)
    assert torch.allclose(half.expression[-1], sad.expression[-1] / 2, atol=1e-5)
    assert calm_first(motion, EmotionCurve.constant("neutral", 1.0, 50, 25.0), smiling) is motion
    assert calm_first(motion, EmotionCurve.constant("sad", 1.0, 50, 25.0), scores()) is motion


def test_the_smile_goes_as_the_emotion_comes():
    curve = EmotionCurve.parse("0 neutral; 1 neutral; 2 sad", 75)
    change = -corners(calm_first(Motion.rest(75), curve, scores(mouthSmile=0.8)).expression)
    assert change[:20].abs().max() < 1e-5 < 0.03 < change[-1] and change.diff().abs().max() < 0.01
