"""The corpus, end to end on a made-up speaker and a made-up engine, with the bundled bridge and encoder."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from laboratory.corpus import build, recipes, report, residuals, shards, speakers, teacher, tracks
from laboratory.corpus.closures import Targets
from laboratory.corpus.engines import Speech
from laboratory.corpus.head_motion import PoseStatistics
from laboratory.corpus.latents import BROWS, EYES, GAPS
from playmate_core.evaluation.phones import CLOSED, Phone
from playmate_core.face import geometry
from playmate_core.runtime.errors import PlaymateError

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One speaker of 4 s at 30 frames a second: opens the mouth once a second, shuts the eyes once, nods, and is
    lost by the tracker for two frames."""
    path = tmp_path_factory.mktemp("tracks")
    frames = 120
    time = torch.arange(frames) / 30
    face = geometry.mean_face().expand(frames, -1, -1).clone()
    opening = 0.1 * (1 - torch.cos(2 * torch.pi * time))
    below = torch.tensor([i for i in geometry.LIPS_INNER[11:]] + [17, 152])
    face[:, below, 1] += opening[:, None]
    for upper in geometry.EYES_UPPER:
        face[60:64, list(upper[2:7]), 1] += 0.075
    face[..., 1] += 0.05 * torch.sin(time)[:, None]
    face[50:52] = float("nan")
    sound = np.random.default_rng(0).standard_normal(4 * RATE) * 3000
    save_file({"audio": torch.from_numpy(sound.astype(np.int16)), "landmarks": face.half(),
               "blendshapes": torch.zeros(frames, 52).half(), "transform": torch.eye(4).expand(frames, 4, 4).clone()},
              str(path / "made_up.safetensors"), metadata={"fps": "30.0"})
    return path


@pytest.fixture(scope="module")
def kit(folder):
    settings = build.Settings("unused", str(folder))
    bare = build._load_kit(settings)
    generator = torch.Generator().manual_seed(0)
    open_mouth = bare.measures.direction(("gap",), ("width",)) * 0.1
    lessons = [teacher.Lesson(str(i), torch.randn(80, 384, generator=generator),
                              torch.rand(80, 1, generator=generator) * open_mouth) for i in range(2)]
    rng = np.random.default_rng(0)
    statistics = PoseStatistics.measure([rng.standard_normal((300, 6)).cumsum(0) * 0.1])
    return replace(bare, statistics=statistics, teacher=teacher.fit(lessons, networks=0, folds=1),
                   identities=torch.zeros(2, 63))


def test_a_track_becomes_latents_that_draw_its_lips(folder, kit):
    track = tracks.load_track(folder / "made_up.safetensors", kit.bridge, kit.measures)
    assert track.latents.shape == (100, 63) and torch.isfinite(track.latents).all()
    gap = kit.measures.read(track.latents, "gap")[:, 0]
    assert torch.corrcoef(torch.stack([gap, track.gap]))[0, 1] > 0.99
    assert float(gap.max()) == pytest.approx(0.2, abs=0.02) and float(gap.min()) == pytest.approx(0.0, abs=0.01)
    eyes = kit.measures.read(track.latents, *EYES).mean(1)
    assert int(eyes.argmin()) in range(49, 54) and float(eyes.min()) < -0.04
    assert kit.measures.read(track.mouth, *EYES).abs().max() < 0.04
    assert track.pose.mean(0).abs().max() < 1e-3 and track.pose[:, 4].std() > 0.01
    assert track.identity.abs().max() < 0.1


def test_pauses_are_found_and_short_gaps_are_not():
    sound = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32) * 0.1
    sound[RATE:2 * RATE] = 0.0
    sound[int(2.4 * RATE):int(2.5 * RATE)] = 0.0
    weight = recipes.pauses(sound, 75)
    assert weight[30:45].min() == 1.0 and weight[:25].max() == 0.0 and weight[50:].max() == 0.0


def _spoken(kit, strength=1.0, seed=0):
    """Two seconds of "apapapa", then silence."""
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal(3 * RATE).astype(np.float32) * 0.1
    sound[2 * RATE:] = 0.0
    phones = [Phone("ap"[i % 2], ("open", CLOSED)[i % 2], 0.2 * i, 0.2 * (i + 1)) for i in range(10)]
    about = {"source": "made up", "language": "en", "split": "phones", "name": "nobody",
             "phones": [[p.symbol, p.kind, p.start, p.end] for p in phones]}
    return recipes.synthetic_clip(kit, sound, phones, about, rng, strength), phones


def test_a_synthetic_face_shuts_rests_blinks_and_lives(kit):
    clip, phones = _spoken(kit)
    assert clip.features.shape == (75, 384) and clip.expression.shape == (75, 63) and clip.pose.shape == (75, 7)
    gap = recipes.measure(kit, clip)["gap"]
    figures = report.closure_figures([gap], [phones])
    assert figures["closed"] == 1.0 and figures["shut"] <= 0.005 and figures["open"] >= 0.9 * Targets().open
    assert figures["ratio"] > 3
    assert np.abs(gap[62:]).max() < 0.01
    eyes = np.concatenate([recipes.measure(kit, _spoken(kit, seed=s)[0])["eye"] for s in range(5)])
    openness = float(geometry.eye_openness(geometry.mean_face()).mean())
    assert eyes.min() == pytest.approx(-1.02 * openness, abs=0.01) and abs(np.median(eyes)) < 0.02
    assert clip.pose[:, :3].abs().max() < 12 and clip.pose[:, :3].std(0).min() > 0
    assert (clip.pose[:, 6] - 1).abs().max() < 0.07 and clip.pose[:, 5].abs().max() == 0


def test_closures_survive_a_round_trip_through_landmarks(kit):
    clip, phones = _spoken(kit, strength=0.0)
    drawn = kit.bridge.displacement(clip.expression)
    back = kit.bridge.expression(drawn).flatten(1)
    gap = kit.measures.read(back, "gap")[:, 0].numpy()
    assert max(report.at_centre(gap, p) for p in phones if p.kind == CLOSED) <= 0.015


def test_nobody_speaks_and_the_mouth_rests(kit):
    clip = recipes.non_speech_clip(kit, np.random.default_rng(1))
    curves = recipes.measure(kit, clip)
    assert np.abs(curves["gap"]).max() < 0.01 and np.abs(curves["width"]).max() < 0.01
    assert clip.about["source"] == "non-speech" and clip.pose[:, :3].std() > 0


@pytest.fixture(scope="module")
def lively(kit):
    """The kit with a library of two made-up speakers who raise brows and spread lips as they like."""
    generator, sources = torch.Generator().manual_seed(5), []
    for speaker in range(2):
        slow = torch.randn(300, 3, generator=generator).cumsum(0)
        slow = (slow - slow.mean(0)) / slow.std(0)
        mouth = kit.measures.move(torch.zeros(300, 63), 0.03 * slow[:, :1], ("width",), GAPS)
        mouth = kit.measures.move(mouth, 0.02 * slow[:, 1:2].expand(-1, 3), GAPS, ("width",))
        still = (*GAPS, "width", *EYES)
        upper = kit.measures.move(torch.zeros(300, 63), 0.02 * slow[:, 2:].expand(-1, 2), BROWS, still)
        sources.append(residuals.Source(str(speaker), torch.randn(300, 384, generator=generator), torch.zeros(300) - 20,
                                        torch.zeros(300), torch.zeros(300, 63), mouth, upper))
    return replace(kit, library=residuals.Library.build(sources))


def test_a_livelier_face_still_shuts_rests_and_blinks(kit, lively):
    clip, phones = _spoken(lively)
    curves = recipes.measure(lively, clip)
    figures = report.closure_figures([curves["gap"]], [phones])
    assert figures["closed"] == 1.0 and figures["shut"] <= 0.005 and figures["ratio"] > 3
    assert np.abs(curves["gap"][62:]).max() < 0.01
    eyes = np.concatenate([recipes.measure(lively, _spoken(lively, seed=s)[0])["eye"] for s in range(5)])
    openness = float(geometry.eye_openness(geometry.mean_face()).mean())
    assert eyes.min() == pytest.approx(-1.02 * openness, abs=0.01)

    def spread(which, *names):
        return np.mean([which.measures.read(_spoken(which, seed=s)[0].expression, *names).std(0).mean()
                        for s in range(3)])

    assert spread(lively, *BROWS) > 1.3 * spread(kit, *BROWS) and spread(lively, "width") > 1.1 * spread(kit, "width")
    again, other = _spoken(lively)[0], _spoken(lively, seed=1)[0]
    assert torch.equal(clip.expression, again.expression)
    assert not torch.allclose(clip.expression, other.expression, atol=0.01)


def test_a_pause_lives_with_its_lips_shut(lively):
    clip = recipes.non_speech_clip(lively, np.random.default_rng(1))
    assert np.abs(recipes.measure(lively, clip)["gap"]).max() < 0.01
    assert lively.measures.read(clip.expression, *BROWS).std(0).min() > 0.003


def test_build_real_part_is_resumable_and_repeatable(folder, tmp_path):
    settings = build.Settings(str(tmp_path / "a"), str(folder), hours=0, workers=1, variants=2, heldout=())
    told = []
    build.build(settings, lambda done, total: told.append((done, total)))
    assert told[-1] == (1, 1)
    out = tmp_path / "a"
    clips = shards.read_shard(out / "real-made_up.safetensors")
    assert [c.about["split"] for c in clips] == ["train", "train"] and len(clips[0].features) == 100
    assert not torch.allclose(clips[0].features[:80], clips[1].features[:80], atol=0.1)
    manifest = json.loads((out / shards.MANIFEST).read_text())
    assert list(manifest["shards"]) == ["real-made_up.safetensors"] and manifest["settings"]["seed"] == 0
    assert "real, train" in (out / "REPORT.md").read_text()
    before = (out / "real-made_up.safetensors").stat().st_mtime_ns
    (out / "left.over.part").write_bytes(b"half")
    build.build(settings)
    assert (out / "real-made_up.safetensors").stat().st_mtime_ns == before and not list(out.glob("*.part"))
    build.build(replace(settings, out=str(tmp_path / "b")))
    again = shards.read_shard(tmp_path / "b" / "real-made_up.safetensors")
    assert torch.equal(again[1].features, clips[1].features) and torch.equal(again[1].expression, clips[1].expression)


class _Engine:
    """Says everything in half a second of noise."""

    name = "flite"

    def voices(self, language):
        return ["slt", "rms"]

    def say(self, text, voice):
        if len(text) % 7 == 0:
            raise OSError("a word that it cannot say")
        sound = np.random.default_rng(len(text)).standard_normal(20000).astype(np.float32) * 0.1
        return Speech(sound, RATE, [Phone("p", CLOSED, 0.1, 0.2), Phone("a", "open", 0.2, 1.2)])


def test_speech_and_check_shards(folder, kit, monkeypatch):
    settings = build.Settings("unused", str(folder), workers=1, check_minutes=0.2)
    monkeypatch.setattr(build, "SHARD_SECONDS", 20.0)
    monkeypatch.setattr(build, "NON_SPEECH", 0.3)
    build._begin(settings)
    build._state.update(kit=kit, engines={"flite": _Engine()})
    clips = build._speech_shard(settings, kit, 4)
    assert sum(c.about["seconds"] for c in clips) >= 20
    assert {c.about["source"] for c in clips} == {"flite", "non-speech"}
    assert all(c.about.get("name") != "rms" for c in clips)
    checks = build._check_shard(settings, kit, 0)
    assert all(c.about["split"] == "phones" and c.about["phones"] for c in checks)
    gaps = [recipes.measure(kit, c)["gap"] for c in checks]
    found = report.closure_figures(gaps, [[Phone(*p) for p in c.about["phones"]] for c in checks])
    assert found["closed"] == 1.0


def test_the_teacher_and_the_library_are_made_together(folder, tmp_path, monkeypatch):
    settings = build.Settings(str(tmp_path), str(folder), hours=0, workers=1, variants=2, heldout=())
    build.build(settings)
    # One speaker cannot be left out of himself: what the teacher would say of two is asked of the fit.
    real = teacher.fit

    def fit(lessons, seed):
        taught = real(lessons, networks=0, folds=1, seed=seed)
        taught.unseen["made_up"] = taught.mean(lessons[0].features)
        return taught

    monkeypatch.setattr(build.teacher, "fit", fit)
    build._learn(settings, tmp_path, tracks_of(folder))
    kit = build._load_kit(settings)
    assert len(kit.library) == 100 and kit.library.tensors["posture"].shape == (1, 63)
    assert kit.library.tensors["lively"].min() > 0
    assert not list(tmp_path.glob("teacher/*.part"))


def tracks_of(folder):
    return speakers.list_tracks(str(folder))


def test_lessons_follow_the_pace_of_their_recording(folder, tmp_path, kit):
    settings = build.Settings(str(tmp_path), str(folder), hours=0, workers=1, variants=3, heldout=())
    build.build(settings)
    track = tracks.load_track(folder / "made_up.safetensors", kit.bridge, kit.measures)
    lessons = build.lessons_of(tmp_path, [track])
    assert len(lessons) == 3
    for lesson, clip in zip(lessons, shards.read_shard(tmp_path / "real-made_up.safetensors"), strict=True):
        assert len(lesson.mouth) == len(clip.features)
        gap = kit.measures.read(lesson.mouth, "gap")[:, 0]
        top = int(gap[:30].argmax()) / 25 * clip.about["pace"]
        assert top == pytest.approx(0.5, abs=0.06)


def test_command_line_and_its_refusals(tmp_path, monkeypatch):
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    args = parser.parse_args(["--out", str(tmp_path), "--hours", "2", "--heldout"])
    assert args.heldout == [] and args.hours == 2
    with pytest.raises(PlaymateError, match="--tracks"):
        build.main(["--out", str(tmp_path / "x"), "--tracks", str(tmp_path)])
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.safetensors").write_bytes(b"x")
    monkeypatch.setattr(build, "_engine_names", lambda: set())
    with pytest.raises(PlaymateError, match="text-to-speech"):
        build.main(["--out", str(tmp_path / "x"), "--tracks", str(tmp_path / "t")])


def test_real_tracks_have_lips_to_teach_with(kit):
    where = speakers.default_folders()[0]
    if not where.is_dir():
        pytest.skip("the talking tracks are not beside the repository")
    track = tracks.load_track(where / "sadtalker_1.safetensors", kit.bridge, kit.measures)
    gap = kit.measures.read(track.latents, "gap")[:, 0]
    assert torch.corrcoef(torch.stack([gap, track.gap]))[0, 1] > 0.98
    assert 0.7 < float(gap.std() / track.gap.std()) < 1.3
    assert float(kit.bridge.mahalanobis(track.latents).mean()) < 2.0
