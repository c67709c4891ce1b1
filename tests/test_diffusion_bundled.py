"""What the bundled motion model does with a real voice."""

import dataclasses
import time

import pytest
import torch

from laboratory.training.validation import bridge_lips, correlation
from playmate_core.media.sound import from_waveform, read_audio


@pytest.fixture(scope="module")
def features(models, voice_path):
    return models.speech.encode(read_audio(voice_path))


@pytest.fixture(scope="module")
def motion(models, features):
    return models.motion.sample(features, seed=7)


def velocity(values, window):
    """Frame-to-frame change at joins and inside windows."""
    change = values.flatten(1).diff(dim=0).norm(dim=1)
    join = torch.arange(len(change)) % window == window - 1
    return change[join], change[~join]


@pytest.mark.parametrize("field", ["expression", "rotation"])
def test_windows_join_without_a_jump(models, features, field):
    """At joins the latents move no faster than the 99.5th percentile of what they do inside windows."""
    at, inside = [], []
    for seed in range(3):
        a, b = velocity(getattr(models.motion.sample(features, seed=seed), field), models.motion.config.window)
        at.append(a)
        inside.append(b)
    at, inside = torch.cat(at), torch.cat(inside)
    assert len(at) >= 3
    limit = torch.quantile(inside, 0.995)
    assert (at <= limit).float().mean() >= 0.95 and at.median() < 2 * inside.median()


def test_lips_move_as_much_as_real_ones_and_follow_the_voice(models, features, motion):
    """The same voice seven frames earlier moves the lips seven frames earlier, whatever the windows' borders."""
    lips = bridge_lips()
    gap = lips(motion.expression)[0]
    assert 0.03 < gap.std() < 0.11
    early = dataclasses.replace(features, features=features.features[7:], loudness=features.loudness[7:],
                                pitch=features.pitch[7:], duration=features.duration - 0.28)
    moved = lips(models.motion.sample(early, seed=8).expression)[0]
    assert correlation(moved, gap[7:]) > 0.8 and correlation(moved, gap[:-7]) < 0.5


def test_another_seed_keeps_the_words_and_changes_the_life(models, features, motion):
    other = models.motion.sample(features, seed=8)
    lips = bridge_lips()
    assert correlation(lips(motion.expression)[0], lips(other.expression)[0]) > 0.85
    assert not torch.allclose(motion.rotation, other.rotation, atol=0.5)


def test_silence_rests_the_mouth_and_keeps_the_head_alive(models):
    silent = models.speech.encode(from_waveform(torch.zeros(1, 16_000 * 6), 16_000))
    motion = models.motion.sample(silent, seed=1)
    gap, width = bridge_lips()(motion.expression)
    assert gap.clamp(min=0).mean() < 0.02 and width.abs().mean() < 0.08
    assert motion.rotation.std(0).max() > 0.05 and motion.rotation.abs().max() < 20


def test_the_head_stays_within_what_the_renderer_can_turn(motion):
    assert motion.rotation.abs().max() < 20 and (motion.scale - 1).abs().max() < 0.15
    assert motion.translation.abs().max() < 0.2


def test_few_steps_and_the_other_sampler_say_the_same(models, features, motion):
    lips = bridge_lips()
    reference = lips(motion.expression)[0]
    for knobs in (dict(steps=20), dict(steps=8), dict(steps=20, scheduler="ddim")):
        drawn = models.motion.sample(features, seed=7, **knobs)
        assert correlation(lips(drawn.expression)[0], reference) > 0.9, knobs


def test_cost(models, features):
    """Ten seconds of speech in well under the ten that the whole chain has, even on a busy machine."""
    ten = dataclasses.replace(features, features=features.features[:250], loudness=features.loudness[:250],
                              pitch=features.pitch[:250], duration=min(10.0, features.duration))
    begun = time.process_time()
    models.motion.sample(ten)
    assert time.process_time() - begun < 6
