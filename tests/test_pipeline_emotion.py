"""Emotions on their way to the motion model, and laid over what a model without an emotion head makes."""

import logging
import types
from dataclasses import replace

import pytest
import torch

from playmate_core import pipeline
from playmate_core.emotion.curve import LABELS, EmotionCurve
from playmate_core.emotion.plan import EmotionPlan
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import toy_features, toy_model

HAPPY = LABELS.index("happy")


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


@pytest.fixture(scope="module")
def opener(bridge):
    """[21, 3] latents that open the lips by one outer-eye distance."""
    readout = bridge.lip_gap(torch.eye(63))
    way = bridge.covariance @ readout
    return (way / (readout @ way)).reshape(21, 3)


@pytest.fixture
def offsets(monkeypatch, opener):
    """The module that lays emotions over, its expressions replaced by an opening of the lips."""
    from playmate_core.emotion import overlay

    monkeypatch.setattr(overlay, "emotion_expression", lambda curve: curve.amounts[:, HAPPY, None, None] * 0.1 * opener)
    return overlay


@pytest.fixture(scope="module")
def plain(bridge):
    return types.SimpleNamespace(motion=toy_model(), bridge=bridge)


class Recorder:
    """A motion model that only tells what it was asked."""

    def __init__(self, has_emotion_head):
        self.has_emotion_head, self.asked = has_emotion_head, None

    def sample(self, features, identity, **knobs):
        self.asked = knobs
        return Motion.rest(round(features.duration * knobs["fps"]), knobs["fps"])


def spoken(opener, gaps, fps=25.0):
    return replace(Motion.rest(len(gaps), fps), expression=torch.tensor(gaps)[:, None, None] * opener)


@pytest.mark.parametrize("emotion", [
    "0 neutral; 1 happy 0.8", EmotionPlan.parse("0 neutral; 1 happy 0.8"),
    EmotionCurve.parse("0 neutral; 1 happy 0.8", 200, 60.0),
])
def test_a_model_with_an_emotion_head_gets_the_curve_at_the_features_rate(bridge, emotion, caplog):
    model = Recorder(True)
    models = types.SimpleNamespace(motion=model, bridge=bridge)
    features = toy_features(73)
    with caplog.at_level(logging.WARNING):
        pipeline.generate_motion(models, features, emotion=emotion, emotion_guidance=2.0, fps=30.0)
    curve = model.asked["emotion"]
    assert len(curve) == 73 and curve.fps == 25.0 and model.asked["emotion_guidance"] == 2.0
    torch.testing.assert_close(curve.amounts[25:, HAPPY], torch.full((48,), 0.8))
    assert not caplog.records


def test_scales_that_are_left_out_are_the_model_s_own(bridge):
    model = Recorder(True)
    pipeline.generate_motion(types.SimpleNamespace(motion=model, bridge=bridge), toy_features(20), emotion="happy")
    assert "emotion_guidance" not in model.asked and "audio_guidance" not in model.asked


def test_without_an_emotion_head_the_emotion_is_laid_over_and_said(plain, offsets, caplog):
    features = toy_features(73)
    assert not plain.motion.has_emotion_head
    with caplog.at_level(logging.WARNING):
        calm = pipeline.generate_motion(plain, features, seed=2, steps=2)
        assert not caplog.records
        happy = pipeline.generate_motion(plain, features, seed=2, steps=2, emotion="1 neutral; 2 happy",
                                         emotion_guidance=3.0)
    assert [record.getMessage() for record in caplog.records] == [pipeline.LAID_OVER]
    assert torch.equal(calm.rotation, happy.rotation) and torch.equal(calm.expression[:26], happy.expression[:26])
    assert not torch.equal(calm.expression[50:], happy.expression[50:])


@pytest.mark.parametrize("fps", [12.0, 25.0, 30.0, 60.0])
def test_laid_over_at_the_right_time_at_any_rate(bridge, offsets, opener, fps):
    gap = 0.3
    frames = round(3 * fps)
    talking = spoken(opener, [gap] * frames, fps)
    motion = pipeline.lay_emotion_over(bridge, talking, EmotionCurve.parse("1 neutral; 2 happy", 75, 25.0))
    opened = bridge.lip_gap(motion.expression) - gap
    seconds = torch.arange(frames) / fps
    assert opened[seconds <= 1].abs().max() < 1e-5
    assert (opened[seconds >= 2] - 0.1).abs().max() < 1e-4
    assert abs(float(opened[int((seconds - 1.5).abs().argmin())]) - 0.05) < 0.008
    assert motion.fps == fps and len(motion) == frames


def test_lips_that_shut_stay_shut(bridge, offsets, opener):
    gaps = [-0.01, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2]
    talking = spoken(opener, gaps)
    motion = pipeline.lay_emotion_over(bridge, talking, EmotionCurve.constant("happy", 1.0, len(gaps), 25.0))
    now = bridge.lip_gap(motion.expression)
    torch.testing.assert_close(now[:3], torch.tensor(gaps[:3]), atol=1e-5, rtol=0)
    assert now[3] == pytest.approx(0.02 + 2 * 0.01, abs=1e-5)  # opened no further than in proportion
    torch.testing.assert_close(now[-2:], torch.tensor(gaps[-2:]) + 0.1, atol=1e-5, rtol=0)
    assert bool((now.diff() > 0).all())  # who opens more goes on opening more


def test_what_is_not_lip_opening_stays_on_shut_lips(bridge, monkeypatch, offsets, opener):
    readout = bridge.lip_gap(torch.eye(63))
    brow = torch.randn(63, generator=torch.Generator().manual_seed(1)) * 0.01
    brow = (brow - opener.flatten() * (brow @ readout)).reshape(21, 3)
    both = brow + 0.1 * opener
    monkeypatch.setattr(offsets, "emotion_expression", lambda curve: curve.strength[:, None, None] * both)
    motion = pipeline.lay_emotion_over(bridge, Motion.rest(4), EmotionCurve.constant("fear", 1.0, 4, 25.0))
    torch.testing.assert_close(motion.expression, brow.expand(4, -1, -1), atol=1e-5, rtol=0)


def test_pressed_lips_may_press(bridge, offsets, monkeypatch, opener):
    monkeypatch.setattr(offsets, "emotion_expression", lambda curve: -0.03 * curve.strength[:, None, None] * opener)
    talking = spoken(opener, [0.0, 0.2])
    motion = pipeline.lay_emotion_over(bridge, talking, EmotionCurve.constant("angry", 1.0, 2, 25.0))
    torch.testing.assert_close(bridge.lip_gap(motion.expression), torch.tensor([-0.03, 0.17]), atol=1e-5, rtol=0)


def test_neutral_is_laid_over_nothing(plain, caplog):
    features = toy_features(30)
    with caplog.at_level(logging.WARNING):
        calm = pipeline.generate_motion(plain, features, steps=1)
        neutral = pipeline.generate_motion(plain, features, steps=1, emotion="neutral")
    assert torch.equal(calm.expression, neutral.expression) and not caplog.records


def test_speech_without_a_frame(plain, offsets):
    assert len(pipeline.generate_motion(plain, toy_features(0), steps=1, emotion="happy")) == 0


def test_an_emotion_that_cannot_be_read(plain):
    with pytest.raises(PlaymateError, match="hapy"):
        pipeline.generate_motion(plain, toy_features(30), emotion="hapy")
