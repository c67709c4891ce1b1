"""How alive a face is, on faces whose movement is known."""

import json
import sys

import pytest
import torch

from laboratory.measures import liveliness
from playmate_core.evaluation.tracking import FaceTrack
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.geometry import mean_face
from playmate_core.motion.eyes import eye_offset
from playmate_core.motion.files import save_motion
from playmate_core.motion.types import Motion, Neutral


def _track(seconds=20, blinks=(1, 3, 15), size=0.1):
    frames = seconds * 25
    time = torch.arange(frames) / 25
    scores = torch.zeros(frames, 52)
    scores[:, NAMES.index("mouthSmileLeft")] = 0.5 + size * 2 ** 0.5 * torch.sin(2 * torch.pi * time)
    for second in blinks:
        scores[second * 25:second * 25 + 4, 9:11] = 0.9
    face = mean_face().expand(frames, -1, -1).clone()
    rotation = torch.zeros(frames, 3)
    rotation[:, 1] = 3 * torch.sin(2 * torch.pi * 0.5 * time)
    return FaceTrack(face, scores, rotation, torch.ones(frames, dtype=torch.bool), 25.0)


def test_there_are_26_figures_with_bounds_in_order():
    assert len(liveliness.QUARTILES) == 26 and all(low < high for low, high in liveliness.QUARTILES.values())


def test_known_movement():
    found = liveliness.figures(_track())
    assert set(liveliness.QUARTILES) <= set(found)
    assert found["mouthSmileLeft"] == pytest.approx(0.1, rel=0.01) and found["jawOpen"] == 0
    assert found["blinks"] == pytest.approx(9.0) and found["first blinks"] == pytest.approx(12.0)
    assert found["yaw"] == pytest.approx(3 / 2 ** 0.5, rel=0.01) and found["pitch"] == 0
    assert found["head speed"] == pytest.approx(6.0, rel=0.02)
    assert "mouthSmileLeft" in liveliness.inside(found) and "jawOpen" not in liveliness.inside(found)


def test_frames_without_a_face_are_left_out():
    track = _track()
    track.blendshapes[10], track.valid[10] = float("nan"), False
    assert liveliness.figures(track)["mouthSmileLeft"] == pytest.approx(0.1, rel=0.01)


def test_two_takes_are_as_alike_as_they_are():
    one, other = _track(), _track(blinks=(2, 8, 12))
    other.blendshapes[:, NAMES.index("mouthSmileLeft")] = one.blendshapes[:, NAMES.index("mouthSmileLeft")].roll(6)
    other.rotation[:, 1] = one.rotation[:, 1].roll(12)
    assert liveliness.alike(one, one) == pytest.approx(1.0) and abs(liveliness.alike(one, other)) < 0.2


def test_a_motion_file_is_measured(tmp_path, monkeypatch, capsys):
    shut = torch.zeros(100)
    shut[30:34] = shut[70:74] = 1.0
    motion = Motion(eye_offset(shut[:, None].expand(-1, 2), torch.zeros(100, 2)), torch.zeros(100, 3),
                    torch.zeros(100, 3), torch.ones(100, 1), 25.0, Neutral.rest())
    path = save_motion(motion, tmp_path / "still.safetensors")
    monkeypatch.setattr(sys, "argv", ["liveliness", str(path), "--json", str(tmp_path / "out.json")])
    assert liveliness.main() == 0
    found = json.loads((tmp_path / "out.json").read_text())["still.safetensors"]
    assert found["figures"]["blinks"] == pytest.approx(30.0) and found["figures"]["pitch"] == 0
    assert "inside" in capsys.readouterr().out
