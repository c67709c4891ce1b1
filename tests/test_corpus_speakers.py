"""Who is learned from and who is not; where a tracker lost a face."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from laboratory.corpus import build, speakers, tracks
from laboratory.corpus.latents import Measures
from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.runtime.errors import PlaymateError


def _track(path, speaker=None, landmarks=None, rate=25.0):
    landmarks = torch.zeros(5, 478, 3) if landmarks is None else landmarks
    sound = torch.arange(round(len(landmarks) / rate * 16000)) % 1000
    save_file({"audio": sound.to(torch.int16), "landmarks": landmarks.half()}, str(path),
              metadata={"fps": str(rate)} | ({} if speaker is None else {"speaker": speaker}))


def test_tracks_of_several_folders_without_those_that_mislead(tmp_path):
    (tmp_path / "b" / "grid_s1").mkdir(parents=True)
    for name in ("lp_d6", "edtalk_radio", "retalking_1", "lp_d12"):
        _track(tmp_path / f"{name}.safetensors")
    _track(tmp_path / "b" / "cued_video.safetensors", "cued_A")
    for name in (*speakers.GRID, "grids1_other"):
        _track(tmp_path / "b" / "grid_s1" / f"{name}.safetensors", "grid_s1")
    found = speakers.list_tracks([tmp_path, tmp_path / "b"])
    assert [path.stem for path in found] == ["cued_video", *sorted(speakers.GRID), "lp_d6"]
    assert len(speakers.GRID) <= 6 and speakers.weight_of("grid_s1") < 1 == speakers.weight_of("lp_d6")
    assert speakers.speaker_of(found[0]) == "cued_A" and speakers.speaker_of(found[-1]) == "lp_d6"
    _track(tmp_path / "b" / "lp_d6.safetensors")
    with pytest.raises(PlaymateError, match="lp_d6"):
        speakers.list_tracks([tmp_path, tmp_path / "b"])


def test_nobody_stands_on_both_sides(tmp_path):
    for name in ("a1", "a2", "b"):
        _track(tmp_path / f"{name}.safetensors", name[0])
    paths = speakers.list_tracks(tmp_path)
    build._check_sides(paths, ("a1", "a2"))
    with pytest.raises(PlaymateError, match="speaker a "):
        build._check_sides(paths, ("a1",))


def test_the_speakers_held_out():
    folders = speakers.default_folders()
    if not all(folder.is_dir() for folder in folders):
        pytest.skip("the talking tracks are not beside the repository")
    paths = speakers.list_tracks(folders)
    build._check_sides(paths, speakers.HELD_OUT)
    people = {speakers.speaker_of(path) for path in paths if path.stem in speakers.HELD_OUT}
    assert set(speakers.HELD_OUT) <= {path.stem for path in paths} and len(people) >= 8
    assert "cued_A" not in people and not {"edtalk_radio", "retalking_1", "lp_d12"} & {path.stem for path in paths}


def test_short_losses_are_bridged_and_long_ones_end_a_clip():
    seen = np.ones(100, bool)
    seen[[0, 20, 21, 22]] = False
    assert tracks.longest_seen(seen) == (1, 100)
    seen[60:64] = False
    assert tracks.longest_seen(seen) == (1, 60)
    seen[5:9] = False
    assert tracks.longest_seen(seen) == (9, 60)


def test_sound_is_cut_with_the_picture(tmp_path):
    bridge = LatentBridge.load()
    face = geometry.mean_face().expand(150, -1, -1).clone()
    face[:60, 14, 1] += 0.1 * torch.rand(60, generator=torch.Generator().manual_seed(0))
    face[60:70] = float("nan")
    _track(tmp_path / "x.safetensors", "someone", face, 30.0)
    track = tracks.load_track(tmp_path / "x.safetensors", bridge, Measures(bridge, bridge.covariance))
    first = round(70 / 30 * 16000)
    assert len(track.latents) == int(80 / 30 * 25) and track.person == "someone"
    assert track.samples[0] * 32768 == first % 1000 and track.gap.std() < 1e-3
