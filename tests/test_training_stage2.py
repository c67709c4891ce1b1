"""Training the emotion controller: what it learns from, and that it learns."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from laboratory.corpus.emotions import feel, means, random_curve
from laboratory.corpus.latents import EYES, GAPS, Measures
from laboratory.training.settings import Settings, Training, default_settings, load_settings
from laboratory.training.stage2 import Emotions, Stage2
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.emotion.curve import EMOTIONS, EmotionCurve
from playmate_core.emotion.offsets import emotion_table
from playmate_core.face.bridge import LatentBridge
from playmate_core.runtime.errors import PlaymateError

from .diffusion_helpers import CONFIG, toy_clip, toy_model

CLIPS = [toy_clip(i) for i in range(4)] + [toy_clip(9, held_out=True)]


@pytest.fixture(scope="module")
def measures() -> Measures:
    bridge = LatentBridge.load()
    return Measures(bridge, bridge.covariance)


@pytest.fixture
def settings() -> Settings:
    training = Training(batch=8, steps=30, warm_up=5, learning_rate=3e-3, validate_every=1000, save_every=1000,
                        mixed_precision="no")
    return Settings(CONFIG, training, {"audio_guidance": 1.0})


@pytest.fixture
def stage1(tmp_path):
    path = tmp_path / "stage1.safetensors"
    toy_model().save(path)
    return path


def spoken(measures, frames=100):
    """Lips that open and shut, in the most probable way."""
    gap = 0.06 * (1 - torch.cos(torch.arange(frames) * 0.5))
    return measures.move(torch.zeros(frames, 63), gap[:, None].expand(-1, 3), GAPS), gap


def held(label, frames=100):
    felt = np.zeros((frames, 7))
    felt[:, EMOTIONS.index(label)] = 1.0
    return felt


@pytest.mark.parametrize("label", EMOTIONS)
def test_lips_shut_for_closures_in_every_emotion(measures, label):
    neutral, gap = spoken(measures)
    face = feel(neutral, torch.full((100,), -20.0), held(label), measures, 0.08, np.random.default_rng(0))
    felt_gap = measures.read(face, "gap")[:, 0]
    assert float(felt_gap[gap < 0.002].abs().max()) < 0.006
    assert np.corrcoef(felt_gap, gap)[0, 1] > 0.9
    assert float((face - neutral).abs().max()) > 0.005


@pytest.mark.parametrize("label", EMOTIONS)
def test_blinks_shut_the_eyes_in_every_emotion(measures, label):
    neutral = measures.move(torch.zeros(60, 63), torch.full((60, 2), -0.08) * (torch.arange(60) % 20 < 3)[:, None],
                            EYES)
    face = feel(neutral, torch.full((60,), -20.0), held(label, 60), measures, 0.08, np.random.default_rng(1))
    shut = measures.read(face, *EYES)[torch.arange(60) % 20 < 3]
    assert float((shut + 0.08).abs().max()) < 0.012


def test_means_hold_the_lips_together(measures):
    assert float(measures.read(means(measures), *GAPS).abs().max()) < 0.02
    assert float(measures.read(means(measures), "gap").abs().max()) < 1e-4
    assert means(measures).shape == emotion_table().shape


def test_neutral_clips_stay_themselves(measures):
    neutral, _ = spoken(measures)
    assert feel(neutral, torch.zeros(100), np.zeros((100, 7)), measures, 0.08, np.random.default_rng(0)) is neutral


def test_curves_for_training_stay_in_range():
    rng = np.random.default_rng(0)
    curves = [random_curve(80, rng) for _ in range(300)]
    total = np.stack([c.sum(1) for c in curves])
    assert all(c.shape == (80, 7) and c.min() >= 0 for c in curves) and total.max() <= 2.0 + 1e-9
    assert 0.05 < (total.max(1) == 0).mean() < 0.3  # some feel nothing
    assert (np.ptp(total, axis=1) > 0.3).mean() > 0.1  # some change


def test_the_same_clip_feels_the_same_again():
    a, b = Emotions(0), Emotions(0)
    curve = a.curve(CLIPS[0])
    assert np.array_equal(curve, b.curve(CLIPS[0]))
    assert not np.array_equal(curve, Emotions(1).curve(CLIPS[0]))
    assert torch.equal(a.clip(CLIPS[0], curve).tensors["expression"], b.clip(CLIPS[0], curve).tensors["expression"])


def test_a_run_learns_and_leaves_stage_1_alone(tmp_path, settings, stage1):
    run = Stage2(CLIPS, settings, tmp_path / "run", stage1=stage1, device="cpu")
    before = {k: v.clone() for k, v in run.base.state_dict().items()}
    start = run._held_out_loss(run.averaged())
    run.train(show=False)
    assert run._held_out_loss(run.averaged()) < 0.995 * start
    assert all(torch.equal(v, before[k]) for k, v in run.base.state_dict().items())
    model = PlaymateMotionModel.load(tmp_path / "run" / "motion_stage2.safetensors")
    assert model.has_emotion_head
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert row["step"] == 30 and "emotion_gap_r" in row
    from .diffusion_helpers import toy_features
    motion = model.sample(toy_features(40), emotion=EmotionCurve.constant("angry", 1.0, 40, 25.0))
    assert len(motion) == 40 and bool(torch.isfinite(motion.expression).all())


def test_resuming_goes_on_exactly(tmp_path, settings, stage1):
    whole = Stage2(CLIPS, settings, tmp_path / "whole", stage1=stage1, device="cpu")
    for step in range(8):
        whole._learn(step / 30)
        whole.step += 1
    part = Stage2(CLIPS, replace(settings), tmp_path / "part", stage1=stage1, device="cpu")
    for step in range(5):
        part._learn(step / 30)
        part.step += 1
    part.save()
    part = Stage2(CLIPS, settings, tmp_path / "part", stage1=stage1, resume=True, device="cpu")
    for step in range(5, 8):
        part._learn(step / 30)
        part.step += 1
    for key, value in whole.average.items():
        assert torch.equal(value, part.average[key]), key


def felt_clip(label, seed=0, **info):
    clip = toy_clip(seed)
    return replace(clip, info=clip.info | {"emotion": label} | info)


class TestLabelledClips:
    def test_they_feel_their_label_and_show_it_themselves(self):
        emotions = Emotions(0)
        clip = felt_clip("sad", strength=0.75)
        curve = emotions.curve(clip)
        assert curve[:, EMOTIONS.index("sad")] == pytest.approx(0.75) and curve.sum() == pytest.approx(0.75 * len(clip))
        less = clip.tensors["expression"] - emotions.clip(clip, curve).tensors["expression"]
        torch.testing.assert_close(less, 0.75 * emotions.means[EMOTIONS.index("sad")].expand(len(clip), -1),
                                   atol=1e-5, rtol=1e-4)

    def test_neutral_ones_stay_themselves(self):
        emotions = Emotions(0)
        clip = felt_clip("neutral")
        assert not emotions.curve(clip).any()
        assert torch.equal(emotions.clip(clip, emotions.curve(clip)).tensors["expression"], clip.tensors["expression"])

    @pytest.mark.parametrize("clip", [felt_clip("gloomy"), felt_clip("sad", strength=3),
                                      felt_clip("sad", strength="a")])
    def test_labels_that_there_are_not(self, clip):
        with pytest.raises(PlaymateError, match="is said to be"):
            Emotions(0).curve(clip)

    def test_a_run_on_labelled_clips_alone(self, tmp_path, settings, stage1):
        """The controller learns what happy speakers do beyond the mean, from clips that are said to be happy."""
        settings = replace(settings, training=replace(settings.training, unlabelled="leave out", storage="disk"))
        with pytest.raises(PlaymateError, match="no clip with an emotion"):
            Stage2(CLIPS, settings, tmp_path / "none", stage1=stage1, device="cpu")
        happy = [felt_clip("happy", i) for i in range(3)] + [felt_clip("neutral", 5)]
        held = replace(felt_clip("happy", 7), info=dict(emotion="happy", split="heldout"))
        run = Stage2([*CLIPS, *happy, held], settings, tmp_path / "run", stage1=stage1, device="cpu")
        assert run.frames == sum(map(len, happy)) and len(run.held_out) == 1
        batch = run.windows.batch(64, torch.Generator().manual_seed(0))
        asked = batch["emotion_weights"].amax(dim=(0, 1))
        assert float(asked[EMOTIONS.index("happy")]) == 1.0 and float(asked.sum()) == 1.0
        before = run._held_out_loss(run.averaged())
        for step in range(30):
            run._learn(step / 30)
            run.step += 1
        assert run._held_out_loss(run.averaged()) < before


def test_another_size_is_refused(tmp_path, settings, stage1):
    other = replace(settings, model=replace(CONFIG, blocks=3))
    with pytest.raises(PlaymateError, match="other sizes"):
        Stage2(CLIPS, other, tmp_path / "run", stage1=stage1, device="cpu")


def test_both_stages_share_the_bundled_models_sizes():
    assert load_settings(default_settings("stage1")).model == load_settings(default_settings("stage2")).model
