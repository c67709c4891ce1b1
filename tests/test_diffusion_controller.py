"""Stage 2: the controller, its place in the sampler, and the checkpoint that carries it."""

from __future__ import annotations

import pytest
import torch

from playmate_core.diffusion.controller import EmotionalDenoiser, EmotionController
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.emotion.curve import EMOTIONS, LABELS, EmotionCurve
from playmate_core.emotion.offsets import attitude, emotion_table, expression_factors, onset
from playmate_core.runtime.errors import PlaymateError

from .diffusion_helpers import toy_features as speech
from .diffusion_helpers import toy_model as small_model


@pytest.fixture
def stage1() -> PlaymateMotionModel:
    return small_model()


def with_head(stage1: PlaymateMotionModel, trained: bool = True) -> PlaymateMotionModel:
    torch.manual_seed(3)
    controller = EmotionController(stage1.config.width, stage1.config.heads)
    if trained:
        for block in controller.blocks:
            torch.nn.init.normal_(block.modulation.weight, std=0.2)
    return PlaymateMotionModel(stage1.denoiser, stage1.statistics, stage1.sampling, controller=controller,
                       emotion_means=emotion_table())


def test_an_untrained_controller_changes_nothing():
    controller = EmotionController(16, 2)
    hidden, time = torch.randn(2, 9, 16), torch.randn(2, 16)
    assert torch.equal(controller(hidden, time, torch.rand(2, 9, 7)), hidden)


def test_untrained_stage_2_is_stage_1_about_the_emotions_mean(stage1):
    features = speech(70)
    plain = stage1.sample(features, seed=1, head_motion=0.0)
    curve = EmotionCurve.constant("happy", 1.0, 70, 25.0)
    felt = with_head(stage1, trained=False).sample(features, seed=1, head_motion=0.0, emotion=curve)
    smile = emotion_table()[EMOTIONS.index("happy")]
    assert torch.allclose(felt.expression.flatten(1), plain.expression.flatten(1) + smile, atol=1e-4)
    assert torch.equal(felt.rotation, plain.rotation)


def test_neutral_is_stage_1_bit_for_bit(stage1):
    features = speech(60)
    model = with_head(stage1)
    plain = stage1.sample(features, seed=2)
    neutral = model.sample(features, seed=2, emotion=EmotionCurve.constant("neutral", 1.0, 60, 25.0))
    assert torch.equal(plain.expression, neutral.expression)


def test_each_frame_feels_its_own_emotion(stage1):
    torch.manual_seed(5)
    controller = with_head(stage1).controller
    width = stage1.config.width
    hidden, time, felt = torch.randn(1, 8, width), torch.randn(1, width), torch.zeros(1, 8, 7)
    felt[:, 4:, 0] = 1.0
    late, none = controller(hidden, time, felt), controller(hidden, time, torch.zeros(1, 8, 7))
    assert (late[:, 4:] - none[:, 4:]).abs().max() > 4 * (late[:, :4] - none[:, :4]).abs().max() > 0


def test_guidance_extrapolates_the_third_term(stage1):
    """With w_a = 1 one step's result is linear in w_e, stage 1 at 0."""
    features, curve = speech(20), EmotionCurve.constant("sad", 1.0, 20, 25.0)
    model = with_head(stage1)
    knobs = dict(seed=3, steps=1, audio_guidance=1.0, head_motion=0.0, scheduler="ddim")
    zero, one, two = (model.sample(features, emotion=curve, emotion_guidance=w, **knobs).expression for w in (0, 1, 2))
    assert torch.allclose(zero, stage1.sample(features, **knobs).expression, atol=1e-4)
    assert torch.allclose(two - zero, 2 * (one - zero), rtol=1e-3, atol=2e-4)
    assert (one - zero).abs().max() > 1e-2


def test_gradients_reach_the_controller_alone(stage1):
    config = stage1.config
    net = EmotionalDenoiser(stage1.denoiser, EmotionController(config.width, config.heads)).train()
    length = config.previous + config.window
    there = torch.ones(1, dtype=torch.bool)
    out = net(torch.randn(1, length, config.motion_dim),
              torch.randn(1, length + config.lookahead, config.features_dim + 3),
              torch.ones(1, length + config.lookahead, dtype=torch.bool), torch.tensor([500]), has_audio=there,
              emotion_weights=torch.rand(1, length, 7), continued=there, identity=torch.zeros(1, 63),
              has_identity=there)
    out.square().mean().backward()
    assert all(p.grad is None for p in net.denoiser.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.controller.parameters())
    assert not net.denoiser.training


def test_checkpoint_keeps_the_head(tmp_path, stage1):
    model = with_head(stage1)
    model.save(tmp_path / "both.safetensors")
    again = PlaymateMotionModel.load(tmp_path / "both.safetensors")
    assert again.has_emotion_head and torch.equal(again.emotion_means.cpu(), emotion_table())
    features, curve = speech(30), EmotionCurve.constant("fear", 0.7, 30, 25.0)
    a, b = model.sample(features, emotion=curve).expression, again.sample(features, emotion=curve).expression
    assert torch.allclose(a, b, atol=2e-2)
    stage1.save(tmp_path / "one.safetensors")
    assert not PlaymateMotionModel.load(tmp_path / "one.safetensors").has_emotion_head


def test_a_curve_of_another_length_is_refused(stage1):
    with pytest.raises(PlaymateError, match="31 frames"):
        with_head(stage1).sample(speech(30), emotion=EmotionCurve.constant("happy", 1.0, 31, 25.0))


def test_faces_follow_at_their_own_pace():
    felt = torch.zeros(50, 7)
    felt[10:, [EMOTIONS.index("surprised"), EMOTIONS.index("sad")]] = 1.0
    shown = onset(felt, 25.0)
    assert torch.equal(shown[:10], felt[:10])
    assert shown[14, EMOTIONS.index("surprised")] > 0.7 > shown[14, EMOTIONS.index("sad")] > 0.2
    assert (shown[1:] >= shown[:-1] - 1e-5).all() and (shown[-1].max() <= 1.0)


def test_strength_grows_without_running_away():
    felt = torch.eye(7)[0] * torch.tensor([[0.5], [1.0], [1.5], [2.0]])
    factor = expression_factors(felt)[:, 0]
    assert torch.allclose(factor, torch.tensor([0.5, 1.0, 1.3, 1.6]), atol=1e-5)
    mixture = expression_factors(torch.tensor([[1.0, 1.0, 0, 0, 0, 0, 0]]))
    assert torch.allclose(mixture[0, :2], torch.tensor([0.8, 0.8]), atol=1e-5)


def test_amounts_leave_neutral_out():
    curve = EmotionCurve.parse("happy 0.5 + neutral 0.5", 3)
    assert curve.amounts.shape == (3, 7) and torch.allclose(curve.amounts.sum(1), torch.full((3,), 0.5))
    assert len(EMOTIONS) == len(LABELS) - 1


def test_sad_heads_sink_and_rest():
    turn, lively = attitude(torch.eye(7))
    sad = EMOTIONS.index("sad")
    assert turn[sad, 0] > 2.0 and lively[sad] < 0.8
    assert (turn.abs() < 6.0).all()
