"""The corpus: a teacher learns a mouth, heads live, shards are written whole and read back."""

import json

import numpy as np
import pytest
import torch

from laboratory.corpus import build, evaluate, head_motion, shards, speakers, teacher, tracks
from laboratory.corpus.latents import Measures
from laboratory.corpus.report import count_blinks
from playmate_core.runtime.errors import PlaymateError


def _lessons(speakers=4, frames=400, noise=0.3):
    """Features that hold a known mouth among much else."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 40, generator=generator)
    shape = torch.randn(6, 63, generator=generator) * 0.01
    lessons = []
    for speaker in range(speakers):
        drive = torch.randn(frames + 10, 6, generator=generator)
        drive = drive.unfold(0, 11, 1).mean(-1) * 3
        features = drive @ mixing + noise * torch.randn(frames, 40, generator=generator)
        lessons.append(teacher.Lesson(f"s{speaker}", features, drive @ shape))
    return lessons


@pytest.mark.parametrize("networks", [0, 1])
def test_teacher_learns_and_carries_to_a_new_speaker(networks, tmp_path):
    lessons = _lessons()
    taught = teacher.fit(lessons[:-1], networks=networks, steps=60, folds=2)
    said = taught.mouth(lessons[-1].features)
    correlation = np.corrcoef(said.flatten().numpy(), lessons[-1].mouth.flatten().numpy())[0, 1]
    assert correlation > 0.9
    assert float(said.std() / lessons[-1].mouth.std()) == pytest.approx(1.0, abs=0.25)
    taught.save(tmp_path / "teacher.safetensors")
    assert torch.allclose(teacher.Teacher.load(tmp_path / "teacher.safetensors").mouth(lessons[0].features),
                          taught.mouth(lessons[0].features), atol=1e-5)
    assert not list(tmp_path.glob("*.part"))


def test_a_teacher_says_what_it_would_of_speakers_it_has_not_seen():
    lessons = [teacher.Lesson(x.speaker, x.features, x.mouth, f"{x.speaker} {clip}")
               for x in _lessons(noise=3.0) for clip in range(2)]
    taught = teacher.fit(lessons, networks=0, folds=2)
    assert set(taught.unseen) == {x.name for x in lessons}
    honest = torch.cat([taught.unseen[x.name] - x.mouth for x in lessons])
    fitted = torch.cat([taught.mean(x.features) - x.mouth for x in lessons])
    assert honest.square().mean() > 1.02 * fitted.square().mean()
    assert taught.mean(lessons[0].features).std() < taught.mouth(lessons[0].features).std()


def test_gain_gives_back_the_spread_but_amplifies_no_noise():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(4000, 3, generator=generator)
    said = torch.stack([0.6 * real[:, 0], 0.1 * torch.randn(4000, generator=generator), real[:, 2]], 1)
    gain = teacher.find_gain(said, real)
    assert gain[0] == pytest.approx(1 / 0.6, rel=0.02)
    assert gain[1] == 1.0 and gain[2] == pytest.approx(1.0, abs=0.01)


def test_teacher_without_lessons_says_so():
    with pytest.raises(PlaymateError, match="talking tracks"):
        teacher.fit([])


def test_agreement_of_a_perfect_teacher_is_one():
    class Face:
        basis = torch.randn(63, 478 * 3, generator=torch.Generator().manual_seed(3))

        def displacement(self, latents):
            return (latents.reshape(-1, 63) @ self.basis).reshape(-1, 478, 3)

    measures = Measures(Face(), torch.eye(63))
    lessons = _lessons(3, noise=0.01)
    known = []
    for lesson in lessons:
        gap, width = measures.read(lesson.mouth, "gap", "width").T
        # Speakers of the usual amplitude, so that their lesson is their mouth.
        scale = tracks.TYPICAL_GAP_STD / float(gap.std())
        known.append(tracks.Track(lesson.speaker, np.zeros(1), lesson.mouth * scale, lesson.mouth * scale, gap * scale,
                                  width * scale, torch.zeros(len(gap), 6), torch.zeros(63)))
    lessons = [teacher.Lesson(t.name, x.features, t.mouth) for t, x in zip(known, lessons, strict=True)]
    found = evaluate.leave_speakers_out(lessons, known, measures, 3, networks=0)
    middle = evaluate.median(found)
    assert len(found) == 3 and middle["gap"] > 0.9 and middle["width"] > 0.9
    assert middle["amplitude"] == pytest.approx(1.0, abs=0.2)


def _statistics():
    rng = np.random.default_rng(0)
    poses = []
    for _ in range(6):
        drift = np.stack([head_motion.smooth(rng.standard_normal(400), 0.4) for _ in range(6)], 1)
        drift[:, 3] = 0.9 * drift[:, 1] + 0.1 * drift[:, 3]  # a neck: yaw shifts the head
        poses.append(drift / drift.std(0) * np.array([3, 3, 2, 0.05, 0.03, 0.01]))
    return head_motion.PoseStatistics.measure(poses)


def test_sampled_heads_move_as_the_measured_ones_do():
    sampled = np.concatenate([_statistics().sample(500, np.random.default_rng(s)) for s in range(8)])
    assert np.corrcoef(sampled[:, 1], sampled[:, 3])[0, 1] > 0.8
    assert abs(np.corrcoef(sampled[:, 0], sampled[:, 3])[0, 1]) < 0.4
    assert 1.5 < sampled[:, 0].std() < 4.0
    power = np.abs(np.fft.rfft(sampled[:500, 0])) ** 2
    assert power[: int(2 * 20)].sum() > 0.95 * power.sum()  # below 2 Hz


def test_heads_nod_on_accents_and_stay_in_range():
    frames = 1000
    stress = [(t, 1.0) for t in range(50, 950, 40)]
    speaking = np.ones(frames)
    pitch = np.zeros(frames)
    for seed in range(30):
        pose = head_motion.head_pose(_statistics(), frames, speaking, stress, np.random.default_rng(seed))
        assert (np.abs(pose) <= head_motion._MOST).all()
        pitch += pose[:, 0] / 30
    on = np.mean([pitch[t:t + 3].mean() for t, _ in stress]) * head_motion.NOD_DOWN
    off = np.mean([pitch[t + 20:t + 23].mean() for t, _ in stress]) * head_motion.NOD_DOWN
    assert on > off + 0.4


def test_quiet_heads_breathe():
    rest = head_motion.head_pose(_statistics(), 500, np.zeros(500), [], np.random.default_rng(0))
    talk = head_motion.head_pose(_statistics(), 500, np.ones(500), [], np.random.default_rng(0))
    assert 0.2 < rest[:, 0].std() < talk[:, 0].std()


def test_blinks_come_at_a_human_rate_and_shut_fast():
    counts, shapes = [], []
    for seed in range(20):
        curve = head_motion.blinks(1500, [], np.random.default_rng(seed))
        assert curve.min() >= 0 and curve.max() <= 1.0 + 1e-9
        counts.append(count_blinks(-0.1 * curve))
        tops = np.flatnonzero((curve[1:-1] > 0.95) & (curve[1:-1] >= curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
        shapes += [(curve[t - 2], curve[t + 2]) for t in tops if 3 < t < 1490]
    assert 14 <= np.mean(counts) <= 26
    assert np.mean([b for _, b in shapes]) > np.mean([a for a, _ in shapes])


def test_blinks_are_as_many_in_the_first_seconds_as_later():
    curves = np.stack([head_motion.blinks(500, [], np.random.default_rng(seed)) for seed in range(300)])
    begins = (curves[:, 1:] > 0.5) & (curves[:, :-1] <= 0.5)
    early, late = begins[:, :100].sum(), begins[:, 300:400].sum()
    assert early == pytest.approx(late, rel=0.2) and 300 < early < 500  # 14 to 26 a minute in 300 times 4 s


def test_accents_are_peaks_of_the_voice():
    loudness = np.full(200, -40.0)
    loudness[50:56], loudness[120:126] = -15.0, -15.0
    found = head_motion.accents(loudness, np.full(200, 120.0), np.ones(200))
    assert {round(t / 10) for t, _ in found} == {5, 12}
    assert head_motion.accents(loudness, np.zeros(200), np.zeros(200)) == []


def test_gaze_counters_the_head():
    pose = np.zeros((100, 6))
    pose[:, 1] = 10.0 * head_motion.YAW_RIGHT
    look = np.mean([head_motion.gaze(100, pose, np.random.default_rng(s))[:, 0].mean() for s in range(40)])
    assert -0.03 < look < -0.005


def test_brows_rise_on_accents():
    stress = [(t, 1.0) for t in range(20, 480, 30)]
    raised = head_motion.brows(500, stress, np.ones(500), np.random.default_rng(0))
    assert raised.shape == (500, 2) and raised.max() > 0.012 and raised.max() <= 0.07


def _clip(frames=7, **about):
    rows = torch.arange(frames, dtype=torch.float32)[:, None]
    return shards.Clip(rows.expand(-1, 384), rows[:, 0], rows[:, 0], rows.expand(-1, 63) / 100, rows.expand(-1, 7),
                       torch.ones(63), {"source": "espeak", "language": "de", "seconds": frames / 25, **about})


def test_shards_round_trip_and_leave_no_part(tmp_path):
    clips = [_clip(), _clip(11, split="phones", phones=[["p", "closed", 0.1, 0.2]])]
    shards.write_shard(tmp_path / "speech-0000.safetensors", clips)
    back = shards.read_shard(tmp_path / "speech-0000.safetensors")
    assert [len(c.features) for c in back] == [7, 11] and back[1].about["phones"][0][0] == "p"
    assert torch.allclose(back[1].expression, clips[1].expression, atol=1e-4)
    assert [p.name for p in tmp_path.iterdir()] == ["speech-0000.safetensors"]
    shards.write_manifest(tmp_path, {"seed": 0}, {"speech-0000.safetensors": [c.about for c in clips]})
    listed = json.loads((tmp_path / shards.MANIFEST).read_text())
    assert "phones" not in listed["shards"]["speech-0000.safetensors"][1]
    assert shards.hours(listed["shards"], "language")[("de",)] == pytest.approx(18 / 25 / 3600)


def test_foreign_files_are_no_shards(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, str(tmp_path / "a.safetensors"))
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    for name, words in (("a", "no shard"), ("b", "cannot be read")):
        with pytest.raises(PlaymateError, match=words):
            shards.read_about(tmp_path / f"{name}.safetensors")


def test_rows_are_read_between_frames_and_held_at_the_ends():
    rows = np.array([[0.0], [1.0], [2.0]])
    read = tracks.resample_rows(rows, np.array([-1.0, 0.05, 0.1, 5.0]), 10.0)
    assert read[:, 0] == pytest.approx([0.0, 0.5, 1.0, 2.0])


def test_rest_is_shut_lips_and_open_eyes():
    gap = torch.linspace(0.0, 0.3, 100)
    eyes = torch.full((100,), 0.1)
    eyes[:4] = 0.01
    chosen = tracks.rest_frames(gap, eyes)
    assert chosen.nonzero().flatten().tolist() == list(range(4, 12))


def test_missing_tracks_are_named(tmp_path):
    with pytest.raises(PlaymateError, match="--tracks"):
        speakers.list_tracks(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(PlaymateError, match="no talking track"):
        tracks.load_track(tmp_path / "x.safetensors", None, None)


def test_random_streams_are_apart_and_repeatable():
    settings = build.Settings("out", "tracks")
    draws = {build._rng(settings, *key).integers(1 << 40) for key in
             [("speech", 0), ("speech", 1), ("real", "lp_d6", "p_d6", 0), ("real", "lp_d11", "_d11", 0)]}
    assert len(draws) == 4
    assert build._rng(settings, "speech", 1).integers(99) == build._rng(settings, "speech", 1).integers(99)
