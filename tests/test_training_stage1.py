"""Training: windows as the sampler meets them, exact resume, and that it learns."""

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from laboratory.training import loop
from laboratory.training.__main__ import main
from laboratory.training.dataset import OUTLIER, Clip, Windows, load_corpus
from laboratory.training.settings import Settings, Training, find_settings, load_settings, settings_from
from laboratory.training.stage1 import LOG, RESULT, STATE, Stage1, learning_rate, noise_loss
from laboratory.training.validation import correlation, join_velocity, validate
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.diffusion.normalisation import fit_statistics
from playmate_core.runtime.errors import PlaymateError
from tests.diffusion_helpers import CONFIG, toy_clip

TRAINING = Training(batch=16, steps=6, learning_rate=3e-3, warm_up=2, decay=0.9, validate_every=3, save_every=3)
SETTINGS = Settings(CONFIG, TRAINING, dict(audio_guidance=1.0, temperature=0.3))
CLIPS = [toy_clip(i) for i in range(6)] + [toy_clip(100 + i, held_out=True) for i in range(2)]


def toy_lips(expression):
    basis = toy_clip(0).tensors["expression"].T @ toy_clip(0).tensors["features"][:, 0]
    return expression @ (basis / basis.norm()), expression[:, 0]


def write_corpus(folder, clips=CLIPS, name="shard-0.safetensors", **replaced):
    folder.mkdir(exist_ok=True)
    tensors = {f"{i}.{k}": v.half() if k == "features" else v.clone()
               for i, c in enumerate(clips) for k, v in c.tensors.items()}
    tensors |= replaced
    save_file(tensors, folder / name, {"clips": json.dumps([c.info for c in clips])})
    return folder


def windows(**changed):
    learned = CLIPS[:6]
    statistics = fit_statistics([c.tensors for c in learned], CONFIG.axes)
    knobs = dict(first=0.3, short=0.3, drop_audio=0.2, drop_identity=0.2) | changed
    return Windows(learned, statistics, CONFIG, [1.0] * 6, **knobs), statistics


class TestCorpus:
    def test_shards_are_read_back(self, tmp_path):
        clips = load_corpus(write_corpus(tmp_path / "c"))
        assert len(clips) == 8 and [c.split for c in clips] == ["train"] * 6 + ["heldout"] * 2
        torch.testing.assert_close(clips[3].tensors["expression"], CLIPS[3].tensors["expression"])
        assert clips[0].tensors["features"].dtype == torch.float16 and clips[0].weight == 1.0

    def test_more_than_ten_clips_keep_their_descriptions(self, tmp_path):
        many = [dataclasses.replace(toy_clip(i, 20), info=dict(split="train", n=i)) for i in range(12)]
        assert [c.info["n"] for c in load_corpus(write_corpus(tmp_path / "c", many))] == list(range(12))

    def test_nothing_there(self, tmp_path):
        with pytest.raises(PlaymateError, match="no corpus shards"):
            load_corpus(tmp_path)

    def test_a_broken_shard(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"no")
        with pytest.raises(PlaymateError, match="not a corpus shard"):
            load_corpus(tmp_path)

    def test_foreign_tensors(self, tmp_path):
        save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
        with pytest.raises(PlaymateError, match="not a corpus shard"):
            load_corpus(tmp_path)

    @pytest.mark.parametrize("replaced, word", [
        ({"0.pitch": torch.zeros(7)}, "7 frames of pitch"),
        ({"1.pose": torch.full((120, 7), float("nan"))}, "not finite"),
    ])
    def test_clips_that_do_not_fit(self, tmp_path, replaced, word):
        with pytest.raises(PlaymateError, match=word):
            load_corpus(write_corpus(tmp_path / "c", **replaced))


class TestWindows:
    def test_shapes_and_states(self):
        source, _ = windows()
        batch = source.batch(400, torch.Generator().manual_seed(0))
        previous, window = CONFIG.previous, CONFIG.window
        assert batch["clean"].shape == (400, previous + window, CONFIG.motion_dim)
        assert batch["audio"].shape == (400, previous + window + CONFIG.lookahead, CONFIG.features_dim + 3)
        for key, share in (("has_audio", 0.8), ("has_identity", 0.8)):
            assert abs(float(batch[key].float().mean()) - share) < 0.08
        first = ~batch["continued"]
        assert 0.3 < float(first.float().mean()) < 0.5
        assert not batch["audio_mask"][first][:, :previous].any() and batch["audio_mask"][first][:, previous].all()
        assert batch["audio_mask"][~first][:, :previous].all(), "a window that goes on has all its previous frames"
        full = batch["mask"].all(1)
        assert 0.6 < float(full.float().mean()) < 0.85 and batch["mask"][:, :previous + 1].all()
        frames = batch["mask"][:, previous:].sum(1)
        cut = frames < window
        reached = batch["audio_mask"][cut][:, previous:].sum(1)
        assert torch.equal(reached, frames[cut]), "a window cut short hears nothing beyond its end"
        assert not batch["audio"][~batch["audio_mask"]].any()

    def test_motion_and_sound_stay_in_step(self):
        source, statistics = windows(first=0.0, short=0.0)
        batch = source.batch(50, torch.Generator().manual_seed(1))
        clip = CLIPS[int((source.identity == batch["identity"][0]).all(1).nonzero()[0])].tensors
        said = clip["features"][:, 0]
        row = batch["audio"][0, :, 0] * statistics.features_deviation[0] + statistics.features_mean[0]
        spots = [i for i in range(len(said) - len(row) + 1)
                 if torch.allclose(said[i:i + len(row)], row, atol=0.02)]
        assert len(spots) == 1
        units = statistics.encode_expression(clip["expression"])[spots[0]:spots[0] + 25]
        torch.testing.assert_close(batch["clean"][0, :, :CONFIG.axes], units.clamp(-OUTLIER, OUTLIER))

    def test_weights_choose_clips(self):
        learned = CLIPS[:6]
        statistics = fit_statistics([c.tensors for c in learned], CONFIG.axes)
        source = Windows(learned, statistics, CONFIG, [0, 0, 1, 0, 0, 0], first=0, short=0, drop_audio=0,
                         drop_identity=0, features_noise=0.1)
        batch = source.batch(20, torch.Generator().manual_seed(0))
        assert (batch["identity"] == learned[2].tensors["identity"]).all()

    def test_clips_shorter_than_a_window(self):
        learned = [toy_clip(1, 12)]
        statistics = fit_statistics([toy_clip(0).tensors], CONFIG.axes)
        source = Windows(learned, statistics, CONFIG, [1.0], first=0, short=0, drop_audio=0, drop_identity=0)
        batch = source.batch(8, torch.Generator().manual_seed(0))
        assert (batch["mask"].sum(1) == CONFIG.previous + 12).all() and not batch["continued"].any()


class TestLoss:
    def test_perfect_and_untrained_predictions(self):
        from playmate_core.diffusion.denoiser import Denoiser
        source, statistics = windows()
        batch = source.batch(256, torch.Generator().manual_seed(0))
        weights, alphas = torch.ones(CONFIG.motion_dim), Denoiser(CONFIG).alphas_cumprod

        class Oracle(torch.nn.Module):
            config = CONFIG

            def forward(self, motion, audio, audio_mask, t, **conditions):
                kept = alphas[t][:, None, None]
                noisy, clean = motion[:, CONFIG.previous:], batch["clean"][:, CONFIG.previous:]
                return (noisy - kept.sqrt() * clean) / (1 - kept).sqrt()

        loss = noise_loss(Oracle(), batch, torch.Generator().manual_seed(0), weights, TRAINING, alphas)
        assert loss < 1e-3
        fresh = noise_loss(Denoiser(CONFIG), batch, torch.Generator().manual_seed(0), weights, TRAINING, alphas)
        assert 0.7 < fresh < 1.4, "the skip alone leaves the variance of the velocity, which is one"

    def test_what_is_masked_costs_nothing(self):
        from playmate_core.diffusion.denoiser import Denoiser
        source, _ = windows(short=1.0)
        batch = source.batch(32, torch.Generator().manual_seed(0))
        other = dict(batch, clean=torch.where(batch["mask"][..., None], batch["clean"], 50.0))
        net, weights = Denoiser(CONFIG).eval(), torch.ones(CONFIG.motion_dim)
        a, b = (noise_loss(net, x, torch.Generator().manual_seed(3), weights, TRAINING, net.alphas_cumprod)
                for x in (batch, other))
        torch.testing.assert_close(a, b)

    def test_learning_rate_warms_up_and_cools_down(self):
        t = Training(learning_rate=1.0, warm_up=10)
        assert learning_rate(t, 0, 0.0) == pytest.approx(0.1, rel=1e-5)
        assert learning_rate(t, 50, 0.0) == 1.0 and learning_rate(t, 50, 1.0) == pytest.approx(0.01, rel=1e-5)


class TestRun:
    def test_a_run_resumes_exactly(self, tmp_path):
        one = Stage1(CLIPS, SETTINGS, tmp_path / "one", device="cpu", lips=toy_lips)
        one.train(show=False)

        class Interrupted(Exception):
            pass

        two = Stage1(CLIPS, SETTINGS, tmp_path / "two", device="cpu", lips=toy_lips)
        learn = two._learn

        def fail(progress):
            if two.step == 4:  # one step beyond the saved state
                raise Interrupted
            return learn(progress)

        two._learn = fail
        with pytest.raises(Interrupted):
            two.train(show=False)
        torch.manual_seed(12345)
        three = Stage1(CLIPS, SETTINGS, tmp_path / "two", resume=True, device="cpu", lips=toy_lips)
        assert three.step == 3
        three.train(show=False)
        for key, value in one.average.items():
            assert torch.equal(value, three.average[key]), key
        a, b = (torch.load(p / STATE, weights_only=True)["net"] for p in (tmp_path / "one", tmp_path / "two"))
        assert all(torch.equal(a[k], b[k]) for k in a)

    def test_what_a_run_leaves(self, tmp_path):
        run = Stage1(CLIPS, SETTINGS, tmp_path, device="cpu", lips=toy_lips)
        reached = run.train(show=False)
        rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
        assert rows[-1]["step"] == 6 and {"loss", "val_loss", "gap_r", "width_r", "gap_ratio"} <= set(rows[-1])
        model = PlaymateMotionModel.load(tmp_path / RESULT)
        assert model.reached["step"] == 6 and model.sampling["temperature"] == 0.3
        assert model.reached["gap_r"] == reached["gap_r"]
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
        with pytest.raises(PlaymateError, match="already holds a run"):
            Stage1(CLIPS, SETTINGS, tmp_path, device="cpu")

    def test_refusals(self, tmp_path):
        with pytest.raises(PlaymateError, match="no run to resume"):
            Stage1(CLIPS, SETTINGS, tmp_path, resume=True, device="cpu")
        with pytest.raises(PlaymateError, match="no training clips"):
            Stage1(CLIPS[6:], SETTINGS, tmp_path, device="cpu")
        Stage1(CLIPS, SETTINGS, tmp_path, device="cpu", lips=toy_lips).save()
        other = dataclasses.replace(SETTINGS, model=dataclasses.replace(CONFIG, width=64))
        with pytest.raises(PlaymateError, match="another model config"):
            Stage1(CLIPS, other, tmp_path, resume=True, device="cpu")

    def test_minutes_end_a_run_cooled_down(self, tmp_path, monkeypatch):
        ticks = itertools.count(0.0, 0.5)  # seconds: every look at the clock costs half of one
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
        endless = dataclasses.replace(SETTINGS, training=dataclasses.replace(TRAINING, steps=100_000))
        run = Stage1(CLIPS, endless, tmp_path, device="cpu", lips=toy_lips)
        run.train(minutes=0.1, show=False)
        assert run.step == 11
        assert run.optimiser.param_groups[0]["lr"] < 0.1 * TRAINING.learning_rate

    def test_it_learns_to_speak(self, tmp_path):
        """A small model hears the toy's mouth, draws clips it has not seen, and its windows join."""
        training = dataclasses.replace(TRAINING, batch=32, steps=250, warm_up=20, decay=0.98, validate_every=10_000,
                                       save_every=10_000)
        clips = [toy_clip(i) for i in range(16)] + [toy_clip(100 + i, 200, held_out=True) for i in range(3)]
        run = Stage1(clips, dataclasses.replace(SETTINGS, training=training), tmp_path, device="cpu", lips=toy_lips)
        reached = run.train(show=False)
        assert reached["gap_r"] > 0.75 and 0.6 < reached["gap_ratio"] < 1.5
        model = PlaymateMotionModel.load(tmp_path / RESULT)
        deaf = validate(model, clips[16:], toy_lips, audio_guidance=0.0)
        assert deaf["gap_r"] < 0.4, "without the sound there is nothing to follow"

    def test_command(self, tmp_path, caplog):
        corpus = write_corpus(tmp_path / "c", CLIPS[:6])
        config = tmp_path / "config.json"
        config.write_text(Settings(CONFIG, dataclasses.replace(TRAINING, steps=2), {}).to_json())
        arguments = ["stage1", "--corpus", str(corpus), "--config", str(config), "--out", str(tmp_path / "run"),
                     "--device", "cpu", "--threads", "1"]
        threads = torch.get_num_threads()
        try:
            assert main(arguments) == 0
            assert (tmp_path / "run" / RESULT).is_file()
            assert main(arguments) == 2 and "already holds a run" in caplog.text
        finally:
            torch.set_num_threads(threads)


class TestSettings:
    def test_the_bundled_settings_are_sound(self):
        settings = load_settings()
        assert settings.model.encoder == "whisper-tiny.en" and settings.model.features_dim == 384
        assert settings_from(json.loads(settings.to_json())) == settings

    @pytest.mark.parametrize("name", ["stage1", "stage2", "stage1_full", "stage2_full"])
    def test_configs_go_by_their_names(self, name, tmp_path):
        assert load_settings(find_settings(name)).training.steps > 1000
        assert find_settings(tmp_path / "mine.json") == tmp_path / "mine.json"
        assert find_settings("nothing") == Path("nothing")

    def test_full_scale_is_the_papers(self):
        first, second = (load_settings(find_settings(f"{stage}_full")) for stage in ("stage1", "stage2"))
        assert first.model == second.model and first.model.encoder.startswith("wav2vec2")
        assert first.sampling["audio_guidance"] == second.sampling["emotion_guidance"] == 1.5
        assert first.training.previous_noise == 50 and second.training.unlabelled == "leave out"

    @pytest.mark.parametrize("values", [
        dict(hats=1), [1], dict(training=dict(hats=1)), dict(training=dict(batch=0)), dict(training=dict(decay=2)),
        dict(training=dict(learning_rate=0)), dict(training=dict(mixed_precision="int3")), dict(model=dict(width=7)),
        dict(training=dict(source_weights=dict(real=-1))),
    ])
    def test_mistakes_are_told(self, values):
        with pytest.raises(PlaymateError):
            settings_from(values)

    def test_files(self, tmp_path):
        with pytest.raises(PlaymateError, match="no training config"):
            load_settings(tmp_path / "none.json")
        (tmp_path / "bad.json").write_text("{")
        with pytest.raises(PlaymateError, match="not valid JSON"):
            load_settings(tmp_path / "bad.json")


def test_correlation_and_joins():
    x = torch.sin(torch.arange(100.0))
    assert correlation(x, 3 * x + 1) == pytest.approx(1.0, rel=1e-5) and correlation(x, torch.zeros(100)) == 0.0
    smooth = torch.sin(torch.arange(100.0) / 7)[:, None].expand(-1, 3)
    assert join_velocity(smooth, 20) == 0.0 and join_velocity(smooth[:15], 20) == 0.0
    jumping = smooth + (torch.arange(100) // 20)[:, None] * 2.0
    assert join_velocity(jumping, 20) == 1.0


def test_validation_without_clips_says_nothing():
    assert validate(None, [], toy_lips) == {}


def test_a_clip_knows_its_split():
    assert Clip("a", {}, {}).split == "train"
