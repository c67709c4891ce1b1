"""JoyVASA from its published files to motion, on small random checkpoints."""


import pytest
import torch

from playmate_core import pipeline
from playmate_core.diffusion.joyvasa.network import Attention, DenoisingNetwork
from playmate_core.diffusion.joyvasa.schedule import tables
from playmate_core.diffusion.joyvasa.statistics import AveragedPose
from playmate_core.emotion.curve import EmotionCurve
from playmate_core.media.audio import Audio
from playmate_core.motion.edits import resample
from playmate_core.motion.features import SpeechFeatures
from playmate_core.motion.pose import PoseKeyframes, override_pose
from playmate_core.pipeline import load_motion_and_speech
from playmate_core.runtime.errors import PlaymateError
from playmate_core.speech.external import external_features
from playmate_core.speech.joyvasa import JoyVasaFeatures, plan_windows
from tests.joyvasa_helpers import other, write_checkpoint, write_encoder
from tests.test_speech_transformers import voice


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("joyvasa"))


@pytest.fixture(scope="module")
def pair(path):
    return load_motion_and_speech(path)


@pytest.fixture(scope="module")
def heard(pair):
    return pair[1].encode(voice(2.2))


# Network


def test_hearing_ones_own_row_equals_masked_attention():
    """The shortcut of alignment width 1 against the general path under the same mask."""
    torch.manual_seed(0)
    attention, memory = Attention(32, 8), torch.randn(2, 9, 32)
    blocked = ~torch.eye(9, dtype=torch.bool)
    assert torch.allclose(attention(torch.randn(2, 9, 32), memory, blocked), attention.own_row(memory), atol=1e-5)


def test_a_wider_mask_hears_neighbours_alone():
    torch.manual_seed(0)
    net = DenoisingNetwork(other(align_mask_width=2, n_layers=1, n_motions=10)).eval()
    motion, memory, step = torch.randn(1, 14, 73), torch.randn(1, 14, 32), torch.tensor([3])
    layer = net.transformer.layers[0].multihead_attn
    query = net.embed_motion(motion)
    moved = memory.clone()
    moved[:, 6] += 1
    change = (layer(query, moved, net.blocked) - layer(query, memory, net.blocked)).abs().sum(-1)[0]
    assert change.gt(1e-5).nonzero()[:, 0].tolist() == [5, 6, 7]
    assert net(motion, memory, step).shape == (1, 14, 73)


@pytest.mark.parametrize("name", ["cosine", "linear", "quadratic", "sigmoid"])
def test_schedules_end_in_noise_little_by_little(name):
    table = tables(50, name)
    assert table.betas[0] == 0 and table.alpha_bars[0] == 1 and bool((table.alpha_bars.diff() < 0).all())
    assert bool((table.sigmas_inflex[2:] < table.sigmas_flex[2:]).all()) and table.sigmas_inflex[1] == 0
    with pytest.raises(PlaymateError, match="schedule 'none'"):
        tables(50, "none")


def test_the_average_of_a_pose_is_the_same_in_pieces():
    pose = torch.randn(40, 7)
    whole, pieces = AveragedPose(), AveragedPose()
    assert torch.allclose(whole(pose), torch.cat([pieces(part) for part in pose.split(3)]), atol=1e-5)
    assert torch.allclose(AveragedPose()(torch.ones(12, 7)), torch.ones(12, 7))
    assert AveragedPose()(pose).std(0).mean() < 0.3 * pose.std(0).mean()


# Speech


@pytest.mark.parametrize("seconds", [0.04, 0.5, 0.8, 2.2, 3.21])
def test_features_have_a_row_a_frame(pair, seconds):
    made = pair[1].encode(voice(seconds))
    frames = round(seconds * 25)
    assert made.features.shape == (frames, 64) and len(made.loudness) == len(made.pitch) == frames
    assert made.windows.shape == (plan_windows(round(seconds * 16000), 20).windows, 20, 64)
    assert torch.equal(made.features, made.windows.flatten(0, 1)[2:2 + frames])
    assert made.silence.shape == (20, 64) and isinstance(made.to("cpu"), JoyVasaFeatures)


def test_sound_beyond_its_samples_is_silence(pair):
    made = pair[1].encode(Audio(voice(1.0).samples, 3.0))
    assert len(made) == 75 and torch.isfinite(made.features).all()


def test_impossible_sound_is_refused(pair):
    with pytest.raises(PlaymateError, match="less than one frame"):
        pair[1].encode(voice(0.01))


# Motion


@pytest.mark.parametrize("scheduler", ["dpmsolver++", "ddim", "ancestral"])
def test_motion_follows_seed_and_voice(pair, heard, scheduler):
    model, encoder = pair
    how = dict(steps=4, scheduler=scheduler)
    motion = model.sample(heard, seed=1, **how)
    assert len(motion) == 55 and motion.fps == 25.0
    assert torch.equal(motion.expression, model.sample(heard, seed=1, **how).expression)
    assert not torch.equal(motion.expression, model.sample(heard, seed=2, **how).expression)
    voiced = model.sample(encoder.encode(voice(2.2, seed=9)), seed=1, **how)
    assert not torch.equal(motion.expression, voiced.expression)


def test_solvers_agree_with_the_published_sampling(pair, heard):
    """Without noise between the steps, dpmsolver++ and ddim of all steps end where each other ends."""
    a, b = (pair[0].sample(heard, steps=50, scheduler=name).expression for name in ("dpmsolver++", "ddim"))
    assert (a - b).norm() < 0.1 * a.norm()


def test_the_head_starts_from_the_portraits_pose(pair, heard):
    motion = pair[0].sample(heard, steps=4)
    assert torch.equal(motion.rotation[0], motion.neutral.rotation)
    assert torch.equal(motion.translation[0], motion.neutral.translation)
    assert torch.equal(motion.scale[0], motion.neutral.scale)
    still = pair[0].sample(heard, steps=4, head_motion=0.0)
    assert torch.allclose(still.rotation, still.neutral.rotation.expand(55, 3), atol=1e-5)
    lively = pair[0].sample(heard, steps=4, head_motion=2.0)
    assert torch.allclose(lively.rotation - lively.neutral.rotation, 2 * (motion.rotation - motion.neutral.rotation),
                          atol=1e-4)


def test_expression_counts_from_the_answer_to_silence(pair, heard):
    model = pair[0]
    rests = [model.sample(heard, steps=4, seed=seed).neutral.expression for seed in (1, 2)]
    assert torch.equal(*rests)


def test_pieces_are_the_whole(pair, heard):
    pieces = list(pair[0].stream(heard, steps=3))
    assert [len(p) for p in pieces] == [18, 20, 17]
    whole = pair[0].sample(heard, steps=3)
    assert torch.equal(torch.cat([p.rotation for p in pieces]), whole.rotation)
    faster = pair[0].sample(heard, steps=3, fps=60.0)
    assert len(faster) == 132 and faster.fps == 60.0
    assert torch.allclose(faster.expression, resample(whole, 60.0).expression, atol=1e-5)


def test_the_start_of_a_motion_does_not_depend_on_what_follows(pair):
    sound = voice(4.0)
    short = pair[0].sample(pair[1].encode(Audio(sound.samples[:16000 * 3], 3.0)), steps=3)
    whole = pair[0].sample(pair[1].encode(sound), steps=3)
    assert torch.allclose(short.expression[:58], whole.expression[:58], atol=1e-5)


def test_features_of_comfyuis_own_encoder_are_taken(pair, caplog):
    sound = voice(2.2)
    model, rows = pair[0], torch.randn(1, 109, 64, generator=torch.Generator().manual_seed(0))
    plain = external_features((sound.samples[None], 16000), rows, len(sound.samples), model.encoder,
                              model.features_dim)
    motion = pair[0].sample(plain, steps=3)
    assert len(motion) == 55 and "trained together" in caplog.text
    assert torch.equal(motion.neutral.expression, motion.expression[0])


def test_progress_and_cancelling(pair, heard):
    told = []
    pair[0].sample(heard, steps=3, progress=lambda done, total: told.append((done, total)))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1] == 12  # silence and three windows

    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair[0].sample(heard, steps=3, progress=stop)


def test_empty_features_give_an_empty_motion(pair):
    nothing = SpeechFeatures(torch.zeros(0, 64), torch.zeros(0), torch.zeros(0), 25.0, 0.0, "joyvasa")
    assert len(pair[0].sample(nothing)) == 0


@pytest.mark.parametrize("changes, said", [
    (dict(scheduler="euler"), "Scheduler 'euler' is unknown"), (dict(steps=0), "Steps is 0"),
    (dict(audio_guidance=11.0), "audio_guidance is 11"), (dict(head_motion=float("nan")), "head_motion is nan"),
    (dict(fps=0.0), "fps is 0")])
def test_settings_out_of_range(pair, heard, changes, said):
    with pytest.raises(PlaymateError, match=said):
        pair[0].sample(heard, **changes)


def test_wrong_features_are_refused(pair, heard):
    def features(values=heard.features, fps=25.0, encoder="joyvasa"):
        return SpeechFeatures(values, heard.loudness, heard.pitch, fps, heard.duration, encoder)

    for wrong, said in ((features(encoder="whisper-tiny.en"), "come from whisper-tiny.en"),
                        (features(heard.features[:, :9]), "shape"), (features(fps=30.0), "30 frames"),
                        (features(heard.features * float("nan")), "not finite")):
        with pytest.raises(PlaymateError, match=said):
            pair[0].sample(wrong)
    with pytest.raises(PlaymateError, match="no emotion head"):
        pair[0].sample(heard, emotion=EmotionCurve.constant("happy", 1.0, len(heard), 25.0))


# The whole path


def test_everything_above_works_on_its_motion(path, portrait, tmp_path):
    models = pipeline.load_models(motion_model=path)
    sound = voice(1.5)
    features = pipeline.encode_audio(models, (sound.samples[None], 16000))
    appearance = pipeline.extract_appearance(models, portrait)
    plain = pipeline.generate_motion(models, features, appearance, seed=4, steps=3)
    assert len(plain) == 38
    happy = pipeline.generate_motion(models, features, appearance, seed=4, steps=3, emotion="happy")
    assert torch.equal(happy.rotation, plain.rotation) and not torch.equal(happy.expression, plain.expression)
    posed = override_pose(plain, PoseKeyframes.parse("0 yaw=0; 1 yaw=15"), "replace", ("yaw",))
    assert (posed.rotation[-1, 1] - plain.neutral.rotation[1]) == pytest.approx(15, abs=1.5)
    frames = torch.cat(list(pipeline.render_frames(models, appearance, pipeline.Motion.rest(1))))
    drawn = torch.cat(list(pipeline.render_frames(models, appearance, happy)))
    assert drawn.shape == (38, 256, 256, 3) and (drawn[-1] - frames[0]).abs().mean() > 1e-3


def test_a_motion_model_finds_its_speech_encoder_beside_it(tmp_path):
    from dataclasses import replace

    from tests.diffusion_helpers import toy_model

    model = toy_model()
    model.denoiser.config = replace(model.config, encoder="hubert-tiny")
    model.save(tmp_path / "model.safetensors")
    write_encoder(tmp_path / "hubert-tiny", "hubert")
    found = load_motion_and_speech(tmp_path / "model.safetensors")
    assert found[0].encoder == found[1].name == "hubert-tiny"
    with pytest.raises(PlaymateError, match="come from hubert-tiny"):
        load_motion_and_speech(write_checkpoint(tmp_path / "joy"), tmp_path / "hubert-tiny")[0].sample(
            found[1].encode(voice(1.0)))
