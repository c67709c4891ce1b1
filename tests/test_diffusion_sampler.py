"""Windows, streaming, guidance and what the sampler promises."""

import dataclasses

import pytest
import torch

from playmate_core.diffusion.sampler import audio_window, smooth_head
from playmate_core.diffusion.windows import window_noise
from playmate_core.emotion.curve import EmotionCurve
from playmate_core.motion.edits import resample
from playmate_core.motion.features import SpeechFeatures
from playmate_core.motion.types import FIELDS
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import CONFIG, toy_features, toy_model


@pytest.fixture(scope="module")
def model():
    return toy_model()


def same(a, b):
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@pytest.mark.parametrize("frames", [1, 4, 19, 20, 21, 24, 40, 73])
def test_as_many_frames_as_features(model, frames):
    motion = model.sample(toy_features(frames), steps=2)
    assert len(motion) == frames and motion.fps == 25.0
    assert not motion.neutral.expression.any() and not motion.translation[:, 2].any()


def test_nothing_said_nothing_moved(model):
    motion = model.sample(toy_features(0), steps=2)
    assert len(motion) == 0
    assert len(model.sample(toy_features(0), steps=2, fps=30.0)) == 0


def test_same_seed_same_motion_bit_for_bit(model):
    a, b = (model.sample(toy_features(), seed=3, steps=4) for _ in range(2))
    assert same(a, b)
    assert not same(a, model.sample(toy_features(), seed=4, steps=4))


def test_global_random_state_is_neither_used_nor_changed(model):
    torch.manual_seed(1)
    a = model.sample(toy_features(), seed=3, steps=2)
    left = torch.rand(1)
    torch.manual_seed(2)
    b = model.sample(toy_features(), seed=3, steps=2)
    torch.manual_seed(1)
    assert same(a, b) and torch.equal(left, torch.rand(1))


def test_noise_is_by_window_and_has_a_stable_prefix():
    assert torch.equal(window_noise(5, 2, 20, 12)[:7], window_noise(5, 2, 20, 12)[:7])
    assert not torch.equal(window_noise(5, 2, 20, 12), window_noise(5, 3, 20, 12))
    assert window_noise(-4, 0, 2, 3).isfinite().all() and window_noise(1 << 64, 0, 2, 3).isfinite().all()


def test_streaming_gives_the_same_pieces_and_stays_lazy(model):
    pieces = model.stream(toy_features(73), seed=1, steps=3)
    first = next(pieces)
    assert len(first) == CONFIG.window
    rest = list(pieces)
    whole = model.sample(toy_features(73), seed=1, steps=3)
    assert torch.equal(torch.cat([p.expression for p in (first, *rest)]), whole.expression)


def test_early_windows_do_not_depend_on_how_much_follows(model):
    long, short = toy_features(90), toy_features(90)
    short = SpeechFeatures(short.features[:60], short.loudness[:60], short.pitch[:60], 25.0, 2.4, "toy")
    a, b = (model.sample(f, steps=3) for f in (long, short))
    torch.testing.assert_close(a.expression[:40], b.expression[:40], atol=1e-5, rtol=1e-5)


def test_the_windows_know_the_one_before(model):
    """Other speech in the first window changes the second, through the previous frames."""
    features = toy_features(40)
    changed = features.features.clone()
    changed[:10] += 5
    other = dataclasses.replace(features, features=changed)
    a, b = (model.sample(f, steps=3) for f in (features, other))
    assert not torch.allclose(a.expression[20:], b.expression[20:], atol=1e-5)


def test_audio_window_marks_what_is_not_there():
    audio = torch.arange(1.0, 31.0)[:, None].expand(30, 4)
    rows, audio_mask = audio_window(audio, 20, CONFIG)
    assert rows.shape == (CONFIG.previous + CONFIG.window + CONFIG.lookahead, 4)
    assert rows[0, 0] == 16 and audio_mask.sum() == 15 and not rows[~audio_mask].any()
    rows, audio_mask = audio_window(audio, 0, CONFIG)
    assert not audio_mask[:CONFIG.previous].any() and audio_mask[CONFIG.previous]


@pytest.mark.parametrize("fps", [24.0, 29.97, 60.0, 12.5])
def test_another_frame_rate_resamples_the_same_motion(model, fps):
    features = toy_features(73)
    whole = resample(model.sample(features, steps=2), fps)
    pieces = list(model.stream(features, steps=2, fps=fps))
    assert len(pieces) > 1 and all(p.fps == fps for p in pieces)
    got = torch.cat([p.expression for p in pieces])
    assert len(got) == round(features.duration * fps) == len(whole)
    torch.testing.assert_close(got, whole.expression, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.cat([p.rotation for p in pieces]), whole.rotation, atol=1e-4, rtol=1e-4)


def test_frames_follow_the_true_duration(model):
    features = dataclasses.replace(toy_features(25), duration=1.015)
    assert len(model.sample(features, steps=1, fps=60.0)) == 61


def test_head_motion_scales_the_head_and_nothing_else(model):
    still, natural, lively = (model.sample(toy_features(30), steps=3, head_motion=h) for h in (0.0, 1.0, 2.0))
    assert not still.rotation.any() and not still.translation.any() and torch.equal(still.scale, torch.ones(30, 1))
    torch.testing.assert_close(lively.rotation, 2 * natural.rotation)
    assert torch.equal(still.expression, natural.expression)


def test_guidance(model):
    features = toy_features(30)
    at = {g: model.sample(features, steps=3, audio_guidance=g).expression for g in (0.0, 1.0, 1.0001, 2.0)}
    torch.testing.assert_close(at[1.0], at[1.0001], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(at[1.0], at[2.0], atol=1e-4)
    deaf = dataclasses.replace(features, features=features.features.flip(0))
    torch.testing.assert_close(at[0.0], model.sample(deaf, steps=3, audio_guidance=0.0).expression)


def test_default_knobs_come_from_the_checkpoint():
    model = toy_model()
    plain = model.sample(toy_features(20), steps=2, audio_guidance=2.0)
    model.sampling = dict(audio_guidance=2.0)
    assert same(plain, model.sample(toy_features(20), steps=2))
    model.sampling = dict(temperature=0.25)
    cool = model.sample(toy_features(20), steps=2, audio_guidance=2.0)
    assert not same(plain, cool)
    model.sampling = dict(temperature=2.0)
    with pytest.raises(PlaymateError, match="temperature is 2.0; it must be 0 to 1.5"):
        model.sample(toy_features(20), steps=2)


class TestHead:
    before = torch.linspace(0, 1, 10)[:, None].expand(-1, 6)

    def test_a_steady_turn_passes_unchanged(self):
        turn = torch.linspace(0, 6, 60)[:, None].expand(-1, 6)
        torch.testing.assert_close(smooth_head(turn[10:], turn[:10]), turn[10:], atol=1e-4, rtol=0)

    def test_a_step_at_the_join_fades(self):
        settled = smooth_head(torch.full((50, 6), 4.0), self.before)
        path = torch.cat((self.before, settled))
        assert path.diff(dim=0).abs().max() < 0.35, "a step of three units in a single frame before"
        torch.testing.assert_close(settled[-5:], torch.full((5, 6), 4.0), atol=1e-2, rtol=0)

    def test_shaking_is_damped_and_moving_is_not(self):
        time = torch.arange(100)[:, None] / 25
        nod, shake = torch.sin(2 * torch.pi * 0.5 * time), torch.sin(2 * torch.pi * 8 * time)
        assert smooth_head(nod, None).std() > 0.95 * nod.std() and smooth_head(shake, None).std() < 0.15 * shake.std()

    @pytest.mark.parametrize("frames", [1, 2, 5])
    def test_short_windows(self, frames):
        assert smooth_head(torch.ones(frames, 6), self.before).shape == (frames, 6)
        torch.testing.assert_close(smooth_head(torch.ones(frames, 6), None), torch.ones(frames, 6))


def test_identity_is_used_and_may_be_left_out(model):
    a = model.sample(toy_features(20), None, steps=2)
    b = model.sample(toy_features(20), torch.ones(63), steps=2)
    assert not same(a, b)


def test_progress_counts_steps_and_may_cancel(model):
    calls = []
    model.sample(toy_features(41), steps=3, progress=lambda d, t: calls.append((d, t)))
    assert calls == [(i, 9) for i in range(10)]

    class Cancelled(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        model.sample(toy_features(41), steps=3, progress=stop)


def test_memory_does_not_grow(model):
    """Two minutes stream through; only a window is held at a time."""
    features = toy_features(3_000)
    seen = 0
    for piece in model.stream(features, steps=1, audio_guidance=1.0):
        assert len(piece) <= CONFIG.window
        seen += len(piece)
    assert seen == 3_000


@pytest.mark.parametrize("change, word", [
    (dict(encoder="other"), "other"), (dict(fps=50.0), "50"),
    (dict(features=torch.zeros(73, 5)), "shape"), (dict(features=torch.full((73, 12), float("nan"))), "finite"),
])
def test_foreign_features_are_refused(model, change, word):
    with pytest.raises(PlaymateError, match=word):
        model.sample(dataclasses.replace(toy_features(), **change))


@pytest.mark.parametrize("knobs", [
    dict(steps=0), dict(scheduler="euler"), dict(audio_guidance=-1), dict(audio_guidance=float("nan")),
    dict(emotion_guidance=4.0), dict(head_motion=-0.1), dict(fps=0), dict(fps=1000.0),
    dict(identity=torch.zeros(5)), dict(identity=torch.full((63,), float("inf"))),
])
def test_settings_out_of_range_are_refused_before_any_work(model, knobs):
    with pytest.raises(PlaymateError):
        model.stream(toy_features(), **knobs)


def test_emotions_need_a_model_that_has_them(model):
    neutral = EmotionCurve.constant("neutral", 1.0, 73, 25.0)
    assert same(model.sample(toy_features(), steps=1, emotion=neutral), model.sample(toy_features(), steps=1))
    with pytest.raises(PlaymateError, match="emotion"):
        model.sample(toy_features(), steps=1, emotion=EmotionCurve.constant("happy", 1.0, 73, 25.0))
