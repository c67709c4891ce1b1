"""Real clips to a corpus: parts, labels, what is left out, going on, and one clip through the real networks."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from laboratory.corpus import shards
from laboratory.training import footage, prepare
from laboratory.training.__main__ import main
from laboratory.training.crops import Crops, write_crops
from laboratory.training.dataset import load_corpus
from laboratory.training.footage import Filters, Unusable, divide
from laboratory.training.labels import FOLDERS, Label, Labels, from_names
from laboratory.training.prepare import Settings, list_files, split_of
from playmate_core.driving.film import FilmedFace
from playmate_core.runtime.errors import PlaymateError


def track(frames=200, fps=25.0, unseen=(), moved=None):
    """A face of 100 pixels that stands still, but for what ``moved`` {from frame: (shift, factor)} says."""
    points = torch.rand(478, 3, generator=torch.Generator().manual_seed(0)) * 100
    points[0, :2], points[1, :2] = 0, 100
    landmarks = points.expand(frames, -1, -1).clone()
    for begin, (shift, factor) in (moved or {}).items():
        landmarks[begin:] = landmarks[begin:] * factor + shift
    seen = torch.tensor([k for k in range(frames) if k not in set(unseen)])
    return FilmedFace(landmarks[seen], torch.zeros(len(seen), 52), seen, torch.arange(frames).double() / fps, fps)


def spans(parts):
    return [(round(float(p.times[0]), 2), round(p.duration, 2)) for p in parts]


class TestParts:
    def test_one_face_one_shot(self):
        assert spans(divide(track(), [], Filters())) == [(0.0, 8.0)]

    def test_a_short_gap_stays_and_a_long_one_divides(self):
        part, = divide(track(unseen=range(50, 54)), [], Filters())
        assert len(part.seen) == 196 and len(part.times) == 200
        assert spans(divide(track(unseen=range(50, 60)), [], Filters())) == [(0.0, 2.0), (2.4, 5.6)]

    @pytest.mark.parametrize("moved", [{100: (80.0, 1.0)}, {100: (0.0, 1.5)}, {100: (0.0, 0.6)}])
    def test_a_face_that_jumps_or_changes_size_is_another_shot(self, moved):
        assert spans(divide(track(moved=moved), [], Filters())) == [(0.0, 4.0), (4.0, 4.0)]

    def test_cuts_divide(self):
        assert spans(divide(track(), [3.0], Filters())) == [(0.0, 3.0), (3.0, 5.0)]

    def test_long_parts_are_divided_evenly(self):
        parts = divide(track(200), [], Filters(most_seconds=3.0))
        assert [d for _, d in spans(parts)] == pytest.approx([2.68, 2.64, 2.68], abs=0.05)
        assert sum(len(p.seen) for p in parts) == 200 and int(parts[1].seen[0]) == 0

    def test_cuts_stand_out(self):
        """Measured: 0.0675 between two speakers framed alike, 0.003 to 0.008 from frame to frame of either."""
        calm = [(k / 30, 0.003 + 0.005 * (k % 7 == 0)) for k in range(90)]
        assert footage.find_cuts(calm) == [] and footage.find_cuts([]) == []
        assert footage.find_cuts(calm[:40] + [(40 / 30, 0.0675)] + calm[41:]) == [pytest.approx(40 / 30)]
        shaken = [(k / 30, 0.04 + 0.03 * (k % 3 == 0)) for k in range(90)]
        assert footage.find_cuts(shaken) == [], "a camera that moves is no cut"
        assert footage.find_cuts(shaken[:50] + [(50 / 30, 0.2)] + shaken[51:]) == [pytest.approx(50 / 30)]

    def test_what_is_watched(self):
        """Changes of the pictures, and moments at which somebody else might be speaking."""
        sizes = iter([(100, 20), (100, 40), (100,)])

        def analyze(picture, detector):
            return [[SimpleNamespace(box=torch.tensor([0.0, 0.0, side, side])) for side in next(sizes)]]

        frames = [(k * 0.5, torch.full((64, 64, 3), 40 * (k >= 5), dtype=torch.uint8)) for k in range(10)]
        changes, crowded = [], []
        seen = list(footage._watched(frames, SimpleNamespace(analyze=analyze), changes, crowded))
        assert len(seen) == 10 and crowded == [2.0] and footage.find_cuts(changes) == [2.5]

    def test_small_and_short_faces_are_told(self):
        with pytest.raises(Unusable, match="2.0 s is too short"):
            footage._check_face(track(50), Filters())
        with pytest.raises(Unusable, match="100 pixels"):
            footage._check_face(track(100), Filters(least_face=120))
        footage._check_face(track(100), Filters(least_face=90))


class TestLabels:
    @pytest.mark.parametrize("file, emotion, strength, speaker", [
        ("M003/video/front/angry/level_2/001.mp4", "angry", 0.75, "M003"), ("happy/a.mp4", "happy", 1.0, None),
        ("W009/x/surprise/level_1/3.mp4", "surprised", 0.5, "W009"), ("actor_sad_02.mp4", "sad", 1.0, None),
        ("1001_IEO_FEA_HI.mp4", "fear", 1.0, None), ("madness.mp4", None, 1.0, None),
        ("Anna/calm/clip.mp4", "neutral", 1.0, "Anna"),
    ])
    def test_names(self, file, emotion, strength, speaker):
        assert from_names(file) == Labels(FOLDERS).of(file) == Label(emotion, strength, speaker)

    def test_tables(self, tmp_path):
        table = tmp_path / "l.csv"
        table.write_text("file,emotion,strength,speaker,split\na/b.mp4,Anger,1.5,Ann,heldout\nc.mp4,,,,\nd,joy,,,\n")
        labels = Labels(table)
        assert labels.of("a/b.mp4") == Label("angry", 1.5, "Ann", "heldout")
        assert labels.of("x/c.mp4") == labels.of("other.mp4") == Label()
        assert labels.of("deep/d.mov") == Label("happy")
        assert labels.of("a/b.mp4").about() == {"speaker": "Ann", "emotion": "angry", "strength": 1.5}

    @pytest.mark.parametrize("text, word", [
        ("name,emotion\na,sad\n", "columns"), ("file,emotion\na,gloomy\n", "line 2.*'gloomy'"),
        ("file,emotion,strength\na,sad,lots\n", "strength"), ("file,emotion,strength\na,sad,3\n", "0 to 2"),
        ("file,emotion,split\na,sad,test\n", "train or heldout"),
    ])
    def test_mistakes(self, tmp_path, text, word):
        (tmp_path / "l.csv").write_text(text)
        with pytest.raises(PlaymateError, match=word):
            Labels(tmp_path / "l.csv")

    def test_no_table(self, tmp_path):
        with pytest.raises(PlaymateError, match="cannot be read"):
            Labels(tmp_path / "none.csv")


def some_clip(file, frames=80):
    return shards.Clip(torch.randn(frames, 384), torch.zeros(frames), torch.zeros(frames), torch.zeros(frames, 63),
                       torch.zeros(frames, 7), torch.zeros(63),
                       dict(file=file, source="video", seconds=frames / 25, split="train"))


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Forty files whose reading takes no time: bad ones fail, odd ones are silent; and a list of what was read."""
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    for k in range(38):
        (folder / f"c{k:02d}.mp4").touch()
    (folder / "bad.mkv").touch()
    (folder / "sub" / "odd.MP4").touch()
    (folder / "notes.txt").touch()
    read = []

    def clips_of(path, name, kit, filters, label, split, **rest):
        read.append(name)
        if name.startswith("bad"):
            raise ValueError("no such codec")
        return ([], ["0.0 to 2.0 s: silence"]) if "odd" in name else ([some_clip(name)], [])

    monkeypatch.setattr(footage, "clips_of", clips_of)
    monkeypatch.setattr(prepare, "_load_kit", lambda settings: None)
    return Settings(str(folder), str(tmp_path / "out")), read


class TestBuild:
    def test_everything_is_read_once_and_failures_are_listed(self, quick, tmp_path):
        settings, read = quick
        told = []
        assert prepare.prepare(settings, lambda *step: told.append(step)) == dict(files=40, clips=38, skipped=2)
        assert len(read) == 40 and told[-1] == (40, 40)
        skipped = json.loads((tmp_path / "out" / "skipped.json").read_text())
        assert skipped == {"bad.mkv": "no such codec", "sub/odd.MP4": "0.0 to 2.0 s: silence"}
        clips = load_corpus(tmp_path / "out")
        assert sorted(c.info["file"] for c in clips) == [f"c{k:02d}.mp4" for k in range(38)]
        for workers in (1, 4):
            again = Settings(settings.folder, settings.out, workers=workers)
            assert prepare.prepare(again)["clips"] == 38 and len(read) == 40, "nothing is done twice"
        (tmp_path / "clips" / "late.mp4").touch()
        assert prepare.prepare(settings)["clips"] == 39 and read[40:] == ["late.mp4"]
        listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["shards"]
        assert sum(map(len, listed.values())) == 39

    def test_a_build_that_was_stopped_goes_on(self, quick, tmp_path, monkeypatch):
        settings, read = quick
        write = shards.write_shard

        def stopped(path, clips):
            if "00001" in path.name:
                raise KeyboardInterrupt
            return write(path, clips)

        monkeypatch.setattr(shards, "write_shard", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(settings)
        monkeypatch.setattr(shards, "write_shard", write)
        begun = len(read)
        assert prepare.prepare(settings)["clips"] == 38
        assert len(read) - begun == 40 - prepare.GROUP

    def test_few_files_are_shared_by_all_processes(self, quick, monkeypatch):
        settings, _ = quick
        given = []

        def pooled(settings, tasks, workers):
            given.extend(len(names) for _, names in tasks)
            return (prepare._make(settings, *task) for task in tasks)

        monkeypatch.setattr(prepare, "_pooled", pooled)
        prepare.prepare(Settings(settings.folder, settings.out, workers=5))
        assert given == [4] * 10

    def test_a_full_disk_stops_it_and_no_file_is_blamed(self, quick, tmp_path):
        resource = pytest.importorskip("resource")
        settings, read = quick
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
            with pytest.raises(PlaymateError, match="clips-00000.safetensors cannot be written.*run the same command"):
                prepare.prepare(settings)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not [path for path in (tmp_path / "out").iterdir() if path.name != "prepare.json"]
        assert prepare.prepare(settings)["clips"] == 38

    def test_memory_that_does_not_suffice_is_no_fault_of_the_clip(self, quick, monkeypatch):
        settings, _ = quick
        for error in (MemoryError, torch.cuda.OutOfMemoryError):
            monkeypatch.setattr(footage, "clips_of", mock.Mock(side_effect=error))
            with pytest.raises(PlaymateError, match="memory does not suffice for bad.mkv.*fewer --workers"):
                prepare.prepare(settings)

    def test_pictures_that_cannot_be_kept_are_no_fault_of_the_clip(self, quick, tmp_path, monkeypatch):
        settings, _ = quick

        def clips_of(path, name, *rest, **more):
            write_crops(tmp_path / "file" / "x.safetensors", [torch.zeros(3, 8, 8)], {})

        (tmp_path / "file").touch()
        monkeypatch.setattr(footage, "clips_of", clips_of)
        with pytest.raises(PlaymateError, match="cannot be written"):
            prepare.prepare(settings)

    def test_what_other_machines_are_writing_stays(self, quick, tmp_path):
        settings, _ = quick
        out = tmp_path / "out"
        (out / "crops").mkdir(parents=True)
        parts = ["clips-1of3-00000.safetensors.9.part", "clips-0of3-00000.safetensors.9.part", "crops/new.9.part",
                 "crops/old.9.part"]
        for name in parts:
            (out / name).touch()
        os.utime(out / parts[3], (0, 0))
        prepare.prepare(Settings(settings.folder, settings.out, share=(0, 3)))
        assert [(out / name).exists() for name in parts] == [True, False, True, False]

    def test_interrupted_by_hand(self, quick, tmp_path, monkeypatch, caplog):
        settings, _ = quick
        monkeypatch.setattr(footage, "clips_of", mock.Mock(side_effect=KeyboardInterrupt))
        assert main(["prepare", settings.folder, "--out", settings.out, "--workers", "1"]) == 130
        assert "the same command continues a corpus" in caplog.text

    def test_shares_make_the_whole(self, quick, tmp_path):
        settings, _ = quick
        for k in range(3):
            prepare.prepare(Settings(settings.folder, settings.out, share=(k, 3)))
        assert len(load_corpus(settings.out)) == 38
        assert sorted(sum((list_files(tmp_path / "clips", (k, 3)) for k in range(3)), [])) == list_files(
            tmp_path / "clips")

    def test_other_settings_are_refused(self, quick):
        settings, _ = quick
        prepare.prepare(settings)
        with pytest.raises(PlaymateError, match="another heldout"):
            prepare.prepare(Settings(settings.folder, settings.out, heldout=0.5))

    def test_another_motion_extractor_is_refused(self, quick, tmp_path):
        settings, _ = quick
        weights = tmp_path / "motion_extractor.safetensors"
        for number, content in enumerate((b"one", b"one", b"fine-tuned")):
            weights.write_bytes(content)
            prepare._digest.cache_clear()
            again = Settings(settings.folder, settings.out, liveportrait=str(tmp_path))
            if number < 2:
                prepare.prepare(again)
            else:
                with pytest.raises(PlaymateError, match="another extractor"):
                    prepare.prepare(again)

    def test_a_file_that_kills_its_process_is_lost_alone(self, quick, monkeypatch):
        settings, _ = quick

        def pooled(settings, tasks, workers):
            if any("c07.mp4" in names for _, names in tasks):
                raise BrokenProcessPool
            return (prepare._make(settings, *task) for task in tasks)

        monkeypatch.setattr(prepare, "_pooled", pooled)
        counts = prepare.prepare(Settings(settings.folder, settings.out, workers=2))
        assert counts == dict(files=40, clips=37, skipped=3)
        assert "crashes" in json.loads(open(settings.out + "/skipped.json").read())["c07.mp4"]
        assert len(load_corpus(settings.out)) == 37

    def test_speakers_are_held_out_whole(self):
        splits = {s: {split_of(f"{s}/{k}.mp4", Label(speaker=f"s{s}"), 0.3) for k in range(5)} for s in range(60)}
        assert all(len(found) == 1 for found in splits.values())
        assert 8 < sum(found == {"heldout"} for found in splits.values()) < 30
        assert split_of("a", Label(split="heldout"), 0.0) == "heldout" and split_of("a", Label(), 0.0) == "train"

    def test_nothing_there(self, tmp_path, caplog):
        assert main(["prepare", str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == 2
        assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
        assert "no folder" in caplog.text and "no videos" in caplog.text
        with pytest.raises(SystemExit):
            main(["prepare", str(tmp_path), "--out", str(tmp_path / "o"), "--share", "2/2"])

    def test_weights_and_devices_that_are_not_there(self, tmp_path):
        (tmp_path / "a.mp4").touch()
        with pytest.raises(PlaymateError, match="Device 'abacus' cannot be used"):
            prepare.prepare(Settings(str(tmp_path), str(tmp_path / "o"), device="abacus"))
        with pytest.raises(PlaymateError, match="nowhere"):
            prepare.prepare(Settings(str(tmp_path), str(tmp_path / "o"), speech_encoder=str(tmp_path / "nowhere")))

    def test_processes_by_default(self, tmp_path, monkeypatch):
        asked = []
        monkeypatch.setattr(prepare, "prepare", lambda settings, show: asked.append(settings.workers) or dict(
            files=0, clips=0, skipped=0))
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        for more in ([], ["--device", "cuda"], ["--device", "cuda", "--workers", "9"]):
            prepare.main([str(tmp_path), "--out", str(tmp_path), *more])
        assert asked == [64, 4, 9]

    def test_weights_that_are_not_there(self, tmp_path):
        (tmp_path / "a.mp4").touch()
        with pytest.raises(PlaymateError, match="motion_extractor"):
            prepare.prepare(Settings(str(tmp_path), str(tmp_path / "out"), liveportrait=str(tmp_path)))


def test_extracted_latents_are_anchored_on_the_calmest_frames():
    from playmate_core.face.bridge import LatentBridge

    bridge = LatentBridge.load()
    own, spoken = torch.randn(63) * 0.02, torch.randn(50, 63) * 0.01
    spoken[10:20] = 0.0
    found = footage.anchored(own + spoken, spoken + 0.001, bridge)
    torch.testing.assert_close(found, spoken + 0.001, atol=1e-5, rtol=0)


def film(path, portrait_path, voice_path):
    """The sample portrait, moving a little, for 0.8 s at 20 frames a second, with the sample voice."""
    from playmate_core.media.pictures import read_image
    from playmate_core.media.video_writer import write_video

    image = read_image(portrait_path)[..., :3]
    edge = min(image.shape[:2])
    image = torch.nn.functional.interpolate(image[:edge, :edge].permute(2, 0, 1)[None], (320, 320), mode="bilinear",
                                            antialias=True)[0].permute(1, 2, 0)
    frames = (torch.roll(image, int(4 * np.sin(k)), 1)[None] for k in range(16))
    path.parent.mkdir(exist_ok=True)
    write_video(path, frames, 20.0, 16, audio=voice_path and str(voice_path))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, portrait_path, voice_path):
    """A folder of ``film`` and of three files that are no use."""
    folder = tmp_path_factory.mktemp("filmed")
    film(folder / "happy" / "клип 1 (größer).mp4", portrait_path, voice_path)
    film(folder / "mute.mp4", portrait_path, None)
    shutil.copy(voice_path, folder / "sound alone.mp4")
    (folder / "broken.mp4").write_bytes(b"\0" * 100)
    return folder


def test_a_clip_through_the_networks(filmed, tmp_path, caplog):
    from safetensors.torch import save_file

    from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig

    caplog.set_level("INFO")
    torch.manual_seed(0)
    save_file(MotionExtractor(MotionExtractorConfig(3, (1, 1), (8, 16))).state_dict(),
              tmp_path / "motion_extractor.safetensors")
    common = ["prepare", str(filmed), "--labels", "folders", "--workers", "1", "--heldout", "0", "--least-seconds",
              "0.5", "--least-voiced", "0"]
    assert main([*common, "--out", str(tmp_path / "a"), "--crops", "64"]) == 0
    assert main([*common, "--out", str(tmp_path / "b"), "--liveportrait", str(tmp_path)]) == 0
    assert "1 clips of 4 files; 3 files skipped" in caplog.text
    skipped = json.loads((tmp_path / "a" / "skipped.json").read_text(encoding="utf-8"))
    for name, word in {"broken.mp4": "damaged", "mute.mp4": "no sound", "sound alone.mp4": "no picture"}.items():
        assert word in skipped.pop(name)
    assert not skipped
    (bridged,), (extracted,) = load_corpus(tmp_path / "a"), load_corpus(tmp_path / "b")
    assert len(bridged) == 20, "16 frames at 20 a second are 20 at 25"
    assert bridged.info["file"] == "happy/клип 1 (größer).mp4"
    assert bridged.info["emotion"] == "happy" and bridged.info["encoder"] == "whisper-tiny.en"
    assert (bridged.info["extractor"], extracted.info["extractor"]) == ("landmarks", "liveportrait")
    for clip in (bridged, extracted):
        assert abs(float(clip.tensors["pose"][:, 6].median()) - 1.0) < 1e-3
        assert float(clip.tensors["pose"][:, :3].median(0).values.abs().max()) < 1e-3
    assert torch.equal(bridged.tensors["features"], extracted.tensors["features"])
    assert not torch.equal(bridged.tensors["expression"], extracted.tensors["expression"])
    shift = bridged.tensors["pose"][:, 3]
    wanted = torch.tensor([np.sin(min(round(k * 0.8), 15)) for k in range(20)])
    assert np.corrcoef(shift, wanted)[0, 1] > 0.9, "the head's shift is the picture's"
    crops = Crops(tmp_path / "a")
    assert crops.lengths.tolist() == [20] and crops.picture(0, 3).shape == (3, 64, 64)
    assert float((crops.picture(0, 0) - crops.picture(0, 9)).abs().mean()) < 0.1, "one crop for the whole clip"
