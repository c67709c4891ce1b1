"""Tracks of faces: streaming, gaps, files; pose and emotion measures on tracks whose answer is known."""

import math

import pytest
import torch

from playmate_core.evaluation.emotion import (
    directions,
    labels_of,
    mean_blendshapes,
    monotone,
    nearest_label,
    parse_label,
    separation,
)
from playmate_core.evaluation.pose import READERS, pose_error, requested_angles, tracked_angles
from playmate_core.evaluation.tracking import FaceTrack, is_track, load_track, track_video
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.geometry import mean_face
from playmate_core.runtime.errors import PlaymateError
from tests.motion_helpers import random_motion


def scores(**values):
    vector = torch.full((52,), 0.1)
    for name, value in values.items():
        matching = [i for i, full in enumerate(NAMES) if full == name or full in (f"{name}Left", f"{name}Right")]
        assert matching, name
        vector[matching] = value
    return vector


def track_of(frames=20, fps=25.0, holes=()):
    landmarks = mean_face().expand(frames, -1, -1).clone() * 100 + 200
    blendshapes = torch.full((frames, 52), 0.25)
    landmarks[list(holes)] = float("nan")
    blendshapes[list(holes)] = float("nan")
    return FaceTrack.of(landmarks, blendshapes, fps, (400, 300))


@pytest.fixture(scope="module")
def clip(tmp_path_factory, portrait):
    """A clip of the portrait with a frame without a face, as frames and as a file."""
    from playmate_core.media.video_writer import write_video

    frames = [portrait] * 3 + [torch.zeros_like(portrait)] + [portrait] * 2
    path = tmp_path_factory.mktemp("clip") / "happy_0.5.mp4"
    write_video(path, [torch.stack(frames)], 12.5, len(frames))
    return frames, path


# ---- tracking


def test_a_file_and_its_frames_give_the_same_track(clip, models):
    frames, path = clip
    seen = []
    from_frames = track_video([torch.stack(frames)], models.face, fps=12.5,
                              observers=[lambda n, picture, face: seen.append((n, picture.shape, face is None))])
    from_file = track_video(path, models.face)
    assert from_file.fps == 12.5 and from_file.size == (256, 256) and len(from_file) == 6
    assert from_frames.valid.tolist() == [True] * 3 + [False] + [True] * 2 == from_file.valid.tolist()
    assert [n for n, _, _ in seen] == list(range(6)) and [gone for _, _, gone in seen] == (~from_frames.valid).tolist()
    # What compression costs stays below a pixel; the numbers are the analyzer's own.
    assert (from_file.landmarks - from_frames.landmarks)[from_file.valid].abs().mean() < 1
    assert torch.isnan(from_file.rotation[3]).all() and torch.isfinite(from_file.rotation[[0, 5]]).all()


def test_a_clip_is_tracked_once_when_a_cache_is_given(clip, models, tmp_path):
    class Counting:
        calls = 0

        def track(self, *args, **kwargs):
            Counting.calls += 1
            return models.face.track(*args, **kwargs)

    first = track_video(clip[1], Counting(), cache=tmp_path)
    again = track_video(clip[1], Counting(), cache=tmp_path)
    assert Counting.calls == 1
    assert torch.equal(first.landmarks.nan_to_num(), again.landmarks.nan_to_num())
    assert again.size == first.size and again.fps == first.fps


def test_tracks_survive_a_file_and_foreign_ones_are_read(tmp_path):
    from safetensors.torch import save_file

    track = track_of(holes=[4])
    path = track.save(tmp_path / "a.safetensors")
    again = load_track(path)
    assert is_track(path) and torch.equal(again.valid, track.valid) and again.size == (400, 300)
    save_file({"landmarks": track.landmarks.half(), "blendshapes": track.blendshapes.half()},
              str(tmp_path / "b.safetensors"), metadata={"fps": "30"})
    other = load_track(tmp_path / "b.safetensors")
    assert other.fps == 30 and not other.valid[4] and other.rotation[0].abs().max() < 2
    save_file({"something": torch.zeros(1)}, str(tmp_path / "c.safetensors"))
    assert not is_track(tmp_path / "c.safetensors")
    with pytest.raises(PlaymateError, match="no face track"):
        load_track(tmp_path / "c.safetensors")


def test_a_stretch_of_a_track():
    track = track_of(frames=50)
    assert len(track.between(0.4, 1.2)) == 20 and len(track.between(1.0)) == 25


def test_no_frames_and_wrong_shapes(models):
    with pytest.raises(PlaymateError, match="no frames"):
        track_video([], models.face)
    with pytest.raises(PlaymateError, match="blendshapes has shape"):
        FaceTrack(torch.zeros(2, 478, 3), torch.zeros(3, 52), torch.zeros(2, 3), torch.ones(2).bool(), 25.0)
    with pytest.raises(PlaymateError, match="fps"):
        FaceTrack(torch.zeros(2, 478, 3), torch.zeros(2, 52), torch.zeros(2, 3), torch.ones(2).bool(), 0.0)


# ---- pose


def test_pose_errors_of_a_known_shift_and_gain():
    asked = torch.stack([torch.linspace(-20, 20, 81), torch.zeros(81), torch.full((81,), float("nan"))], 1)
    tracked = asked.nan_to_num() * torch.tensor([0.9, 1.0, 1.0]) + torch.tensor([3.0, -1.0, 0.0])
    tracked[7] = float("nan")
    report = pose_error(tracked, asked)
    assert set(report) == {"pitch", "yaw"}
    pitch, yaw = report["pitch"], report["yaw"]
    assert pitch.correlation == pytest.approx(1, rel=1e-5) and pitch.gain == pytest.approx(0.9, rel=1e-5)
    assert pitch.frames == 80
    assert pitch.error == pytest.approx(0.1 * float(asked[:, 0].abs().mean()), rel=0.03)
    assert pitch.raw_error == pytest.approx(3, abs=0.05)
    assert math.isnan(yaw.correlation) and yaw.error == pytest.approx(0, abs=1e-5)
    assert yaw.raw_error == pytest.approx(1, rel=1e-5)


def test_the_request_counts_from_the_portraits_own_pose():
    base = torch.tensor([4.0, -12.0, 3.0])
    asked = requested_angles("0 yaw=-15 pitch=5; 2 yaw=15", 50, 25.0)
    assert torch.isnan(asked[:, 2]).all()
    report = pose_error(asked.nan_to_num() + base, asked, base)
    assert set(report) == {"pitch", "yaw"} and max(axis.raw_error for axis in report.values()) < 1e-3


def test_a_motions_pose_counts_from_its_neutral_frame():
    motion = random_motion(frames=30, fps=25.0, seed=3)
    asked = requested_angles(motion, 60, 50.0)
    assert torch.isfinite(asked).all() and pose_error(asked, asked)["roll"].correlation == pytest.approx(1, rel=1e-5)
    assert torch.isnan(requested_angles(motion, 40, 25.0)[30:]).all()
    with pytest.raises(PlaymateError, match="tracked angles"):
        pose_error(torch.zeros(4, 2), asked)


def test_every_reader_sees_the_turn():
    from playmate_core.motion.geometry import rotation_matrix

    turn = torch.zeros(9, 3)
    turn[:, 1] = torch.linspace(-15, 15, 9)
    landmarks = mean_face() @ rotation_matrix(turn) * 60 + torch.tensor([150.0, 200.0, 0.0])
    landmarks[4] = float("nan")
    track = FaceTrack.of(landmarks, torch.full((9, 52), 0.2), 25.0, (400, 300))
    for reader in READERS:
        yaw = pose_error(tracked_angles(track, reader), turn)["yaw"]
        assert yaw.correlation > 0.99 and 0.75 < yaw.gain < 1.25 and yaw.frames == 8
    unsized = FaceTrack.of(landmarks, torch.full((9, 52), 0.2), 25.0)
    assert tracked_angles(unsized) is unsized.rotation


# ---- emotion


def test_mean_blendshapes_leave_out_frames_without_a_face():
    assert torch.allclose(mean_blendshapes(track_of(holes=[0, 5])), torch.full((52,), 0.25), atol=1e-5)
    with pytest.raises(PlaymateError, match="shows a face"):
        mean_blendshapes(track_of(holes=range(20)))


def test_separation_of_known_vectors():
    found = separation({"happy": torch.zeros(52), "sad": torch.eye(52)[0] * 3, "angry": torch.eye(52)[1] * 4})
    assert found.mean == pytest.approx(4, rel=1e-5) and found.smallest == pytest.approx(3, rel=1e-5)
    assert found.closest == ("happy", "sad") and found.matrix[1, 2] == pytest.approx(5, rel=1e-5)
    assert found.as_dict()["labels"] == ["happy", "sad", "angry"]
    with pytest.raises(PlaymateError, match="two labelled clips"):
        separation({"happy": torch.zeros(52)})


@pytest.mark.parametrize("label, values", [
    ("happy", {"mouthSmile": 0.8, "cheekSquint": 0.2}),
    ("happy", {"mouthSmile": 0.8, "eyeSquint": 0.4}),
    ("angry", {"browDown": 0.6}),
    ("sad", {"browInnerUp": 0.7}),
    ("fear", {"browInnerUp": 0.7, "eyeWide": 0.3}),
    ("surprised", {"browInnerUp": 0.5, "browOuterUp": 0.5, "eyeWide": 0.3}),
    ("disgusted", {"noseSneer": 0.4}),
    ("disgusted", {"mouthUpperUp": 0.4}),
    ("contempt", {"mouthSmileLeft": 0.6}),
    ("contempt", {"mouthDimpleRight": 0.4}),
])
def test_emotions_change_the_face_as_they_should(label, values):
    neutral = scores()
    assert all(d.holds and d.change > 0.05 for d in directions(neutral, scores(**values), label))
    against = directions(neutral, scores(**{name: 0.05 for name in values}), label)
    assert against and not any(d.holds for d in against)
    assert not all(d.holds for d in directions(neutral, neutral, label))


def test_what_leads_ranks_first_and_an_even_smile_is_no_contempt():
    felt = scores(mouthSmile=0.9, eyeSquint=0.3)
    assert directions(scores(), felt, "happy")[0].rank == 1
    assert not directions(scores(), felt, "contempt")[0].holds
    assert directions(scores(), felt, "neutral") == []
    with pytest.raises(PlaymateError, match="hungry"):
        directions(scores(), felt, "hungry")


def test_strength_grows():
    neutral = scores()
    steps = [(0.5, scores(browDown=0.3)), (1.5, scores(browDown=0.7)), (1.0, scores(browDown=0.5))]
    found = monotone(neutral, steps, "angry")["brow lowering"]
    assert found["rises"] and found["strengths"] == [0.5, 1.0, 1.5]
    assert not monotone(neutral, [*steps, (2.0, scores(browDown=0.6))], "angry")["brow lowering"]["rises"]


def test_the_nearest_template_names_the_emotion():
    templates = {"happy": scores(mouthSmile=0.8), "angry": scores(browDown=0.8)}
    assert nearest_label(scores(browDown=0.5), templates) == "angry"
    with pytest.raises(PlaymateError, match="no templates"):
        nearest_label(scores(), {})


def test_labels_are_read_from_words_and_file_names():
    assert parse_label("happy") == ("happy", 1.0) and parse_label("Sad 0.5") == ("sad", 0.5)
    assert labels_of(["angry_1.5", "portrait-fear", "p1_surprised_seed", "clip"]) == [
        ("angry", 1.5), ("fear", 1.0), ("surprised", 1.0), None]
    with pytest.raises(PlaymateError, match="names happy and sad|names sad and happy"):
        parse_label("happy sad")
