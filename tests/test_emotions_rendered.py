"""The bundled model's emotions on finished frames, and on its latents over time (issue 3's table)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from laboratory.training.validation import bridge_lips, correlation
from playmate_core import pipeline
from playmate_core.emotion.curve import EMOTIONS, EmotionCurve
from playmate_core.evaluation.emotion import directions, mean_blendshapes, monotone, separation
from playmate_core.evaluation.motion import seam_velocity
from playmate_core.face.geometry import lip_gap
from playmate_core.media.sound import read_audio
from playmate_core.motion.types import FIELDS

SECONDS, EVERY = 3, 3


@pytest.fixture(scope="module")
def features(models, voice_path):
    samples = read_audio(str(voice_path)).samples[:16_000 * SECONDS]
    return pipeline.encode_audio(models, (samples[None], 16_000))


@pytest.fixture(scope="module")
def drawn(models, portrait, features):
    """(emotion, strength) -> mean blendshapes and lip gaps of every third frame of the sample portrait, small."""
    appearance = pipeline.extract_appearance(models, portrait)
    made = {}

    def draw(label: str, strength: float = 1.0):
        if (label, strength) not in made:
            motion = pipeline.generate_motion(models, features, appearance, seed=0, emotion=f"{label} {strength:g}")
            faces = []
            some = replace(motion, **{name: getattr(motion, name)[::EVERY] for name in FIELDS})
            for batch in pipeline.render_frames(models, appearance, some):
                faces += [found[0] for found in models.face.analyze(batch)]
            scores = mean_blendshapes(torch.stack([face.blendshapes for face in faces]))
            made[label, strength] = scores, lip_gap(torch.stack([face.landmarks for face in faces]))
        return made[label, strength]

    return draw


def test_the_bundled_model_has_an_emotion_head(models):
    assert models.motion.has_emotion_head


def test_emotions_are_distinct(drawn):
    apart = separation({label: drawn(label)[0] for label in EMOTIONS})
    assert apart.mean >= 0.95
    assert apart.smallest >= 0.40, apart.closest


@pytest.mark.parametrize("label", EMOTIONS)
def test_emotions_do_what_they_should(drawn, label):
    for found in directions(drawn("neutral")[0], drawn(label)[0], label):
        assert found.holds, found


@pytest.mark.parametrize("label", EMOTIONS)
def test_emotions_grow_with_strength(drawn, label):
    steps = [(strength, drawn(label, strength)[0]) for strength in (0.5, 1.0, 1.5)]
    for name, rise in monotone(drawn("neutral")[0], steps, label).items():
        assert rise["rises"], (name, rise)


@pytest.mark.parametrize("label", EMOTIONS)
def test_lips_survive_emotion_on_frames(drawn, label):
    assert correlation(drawn(label)[1], drawn("neutral")[1]) >= 0.85


@pytest.mark.parametrize("label", EMOTIONS)
def test_lips_shut_where_they_shut_without_emotion(models, features, label):
    lips = bridge_lips()
    knobs = dict(seed=1)
    neutral, _ = lips(models.motion.sample(features, **knobs).expression.flatten(1))
    curve = EmotionCurve.constant(label, 1.0, len(features), 25.0)
    felt, _ = lips(models.motion.sample(features, emotion=curve, **knobs).expression.flatten(1))
    shut = torch.nn.functional.max_pool1d((neutral > 0.011).float()[None, None], 3, 1, 1)[0, 0] == 0
    assert int(shut.sum()) >= 5
    assert float((felt[shut] <= 0.015).float().mean()) >= 0.8
    assert correlation(felt, neutral) >= 0.85


def test_nothing_jumps_at_windows_or_emotion_changes(models, voice_path):
    samples = read_audio(str(voice_path)).samples
    features = pipeline.encode_audio(models, (samples.repeat(3)[None], 16_000))
    motion = pipeline.generate_motion(models, features, seed=0,
                                      emotion="0 neutral; 3 happy; 6 sad; 9 surprised 1.5; 12 angry + fear; 15 neutral")
    found = seam_velocity(motion.expression, 25.0, changes=(3.0, 6.0, 9.0, 12.0, 15.0))
    assert found["borders"] >= 6
    assert found["worst"] <= 1.0, found
    assert found["change_worst"] <= 1.0, found


def test_emotion_leaves_the_first_frames_of_a_late_one_alone(models, features):
    plain = models.motion.sample(features, seed=4)
    curve = EmotionCurve.parse("0 neutral; 2.2 neutral; 2.8 happy", len(features))
    felt = models.motion.sample(features, seed=4, emotion=curve)
    # The first window, of two seconds, does not know what comes.
    assert torch.equal(felt.expression[:50], plain.expression[:50])
    assert (felt.expression[-5:] - plain.expression[-5:]).abs().max() > 0.005
