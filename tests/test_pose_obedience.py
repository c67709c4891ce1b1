"""Pose is obeyed: angles read off rendered frames against those that were asked for, and what the correction may do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.transform import facial_angles, head_angles, rigid_angles
from playmate_core.media.pictures import read_image
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.motion.types import Motion, Neutral
from playmate_core.render.landmark.clip import head_movement, requested_turn
from playmate_core.render.landmark.obedience import Response, is_worth_it, read_response, trial_poses, view_limits
from playmate_core.runtime.errors import PlaymateError

from .render_helpers import motion_of

STEPS = np.array([0.0, 20.0, -20.0, 10.0, -10.0, 15.0, -5.0])
AXES = ("pitch", "yaw", "roll")


def smaller(image, edge):
    height, width = image.shape[:2]
    picture = image[:min(height, width), :min(height, width)].permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(picture, (edge, edge), mode="area")[0].permute(1, 2, 0)


@pytest.fixture(scope="module")
def sitters(models, portrait_path):
    """A portrait whose head is tilted by 18 degrees, and a photograph of a small, smiling face."""
    from playmate_core.pipeline import extract_appearance

    data = pytest.importorskip("skimage.data", reason="scikit-image, which ships the photograph, is not installed")
    smiling = torch.from_numpy(data.astronaut()[:300, 70:370].astype(np.float32) / 255)
    return [extract_appearance(models, smaller(read_image(portrait_path)[..., :3], 320)),
            extract_appearance(models, smiling)]


def seen(models, appearance, rotation):
    """[T, 478, 3] landmarks on the frames drawn for ``rotation``."""
    frames = torch.cat(list(models.renderer.render(appearance, motion_of(rotation=rotation.tolist()))))
    return models.face.follow(frames, appearance.face)


@pytest.mark.parametrize("sitter", [0, 1], ids=["tilted", "smiling"])
def test_heads_turn_as_far_as_asked(models, sitters, sitter):
    appearance = sitters[sitter]
    rotation = np.zeros((21, 3))
    for axis in range(3):
        rotation[7 * axis:7 * axis + 7, axis] = STEPS
    landmarks = seen(models, appearance, rotation)
    size = tuple(appearance.image.shape[:2])
    for reader, largest in ((head_angles, 0.8), (facial_angles, 1.5), (lambda p, _: rigid_angles(p), 1.5)):
        angles = reader(landmarks, size).double().numpy()
        for axis in range(3):
            tracked = angles[7 * axis:7 * axis + 7, axis]
            error = np.abs((tracked - tracked.mean()) - (STEPS - STEPS.mean())).mean()
            assert np.corrcoef(STEPS, tracked)[0, 1] >= 0.97, AXES[axis]
            assert error <= largest, (reader, AXES[axis])


def test_all_axes_at_once(models, sitters):
    phase = 2 * np.pi * np.arange(8) / 8
    rotation = np.stack([10 * np.sin(phase + 0.5), 14 * np.sin(2 * phase + 0.3), 12 * np.sin(phase)], 1)
    angles = head_angles(seen(models, sitters[0], rotation), tuple(sitters[0].image.shape[:2])).double().numpy()
    for axis in range(3):
        difference = angles[:, axis] - rotation[:, axis]
        assert np.corrcoef(angles[:, axis], rotation[:, axis])[0, 1] >= 0.97
        assert np.abs(difference - difference.mean()).mean() <= 1.2


def test_the_portrait_is_tested_once_and_only_for_turns_that_show(models, portrait):
    from playmate_core.pipeline import extract_appearance

    appearance = extract_appearance(models, portrait)
    calls = []

    def watching(frames, face):
        calls.append(len(frames))
        return models.face.follow(frames, face)

    renderer = type(models.renderer)(models.bridge, tracker=watching)
    list(renderer.render(appearance, motion_of(rotation=[[2, 5, 20], [-3, 0, -20], [0, 0, 0], [0, 0, 0]])))
    assert not calls
    first = torch.cat(list(renderer.render(appearance, motion_of(rotation=[[0, 15, 0]]))))
    assert sum(calls) == 9
    again = torch.cat(list(renderer.render(appearance, motion_of(rotation=[[0, 15, 0]]))))
    assert sum(calls) == 9 and torch.equal(first, again)
    both = torch.cat(list(renderer.render(appearance, motion_of(rotation=[[0, 15, 0], [0, 0, 0]]), batch_size=1)))
    assert torch.equal(both[1], appearance.image), "rest stays the portrait, tested or not"
    assert not torch.equal(both[0], appearance.image)


def test_a_lost_face_changes_nothing(models, portrait):
    from playmate_core.pipeline import extract_appearance

    appearance = extract_appearance(models, portrait)

    def blind(frames, face):
        return torch.full((len(frames), 478, 3), float("nan"))

    motion = motion_of(rotation=[[10, 15, 0]])
    lost = torch.cat(list(type(models.renderer)(models.bridge, tracker=blind).render(appearance, motion)))
    assert torch.equal(lost, torch.cat(list(type(models.renderer)(models.bridge).render(appearance, motion))))


# --- the correction itself

def heads(rotation, slope=(1.0, 1.0)):
    """[P, 478, 3] the mean face turned by ``slope`` times ``rotation``, seen from far away."""
    turned = torch.tensor(rotation, dtype=torch.float64) * torch.tensor([*slope, 1.0], dtype=torch.float64)
    points = geometry.mean_face().double() @ rotation_matrix(turned)
    return (points * 8 + torch.tensor([256.0, 256.0, 0.0])).float()


def test_requests_are_looked_up_in_what_was_seen():
    poses = trial_poses(((-26.0, 26.0), (-34.0, 34.0)))
    response = read_response(poses, heads(poses.tolist(), (1.25, 0.8)), (512, 512))
    asked = torch.tensor([[12.5, 8.0, 5.0], [-20.0, -10.0, -5.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    drawn = response.turn(asked)
    assert torch.allclose(drawn[:2, 0], asked[:2, 0] / 1.25, atol=0.5)
    assert torch.allclose(drawn[:2, 1], asked[:2, 1] / 0.8, atol=0.8)
    assert torch.allclose(drawn[:, 2], asked[:, 2], atol=0.3) and drawn[2].tolist() == [0, 0, 3]
    fine = torch.zeros(200, 3, dtype=torch.float64)
    fine[:, 0] = torch.linspace(-30, 30, 200)
    assert (response.turn(fine)[:, 0].diff() > 0).all(), "more is always more"


def test_turns_that_nobody_asked_for_are_taken_back():
    poses = trial_poses(((-26.0, 26.0), (-34.0, 34.0)))
    tilting = poses.clone()
    tilting[:, 2] = 0.2 * poses[:, 1]
    response = read_response(poses, heads(tilting.tolist()), (512, 512))
    drawn = response.turn(torch.tensor([[0.0, 15.0, 0.0], [0.0, -8.0, 4.0]], dtype=torch.float64))
    assert torch.allclose(drawn[:, 2], torch.tensor([-3.0, 5.6], dtype=torch.float64), atol=0.4)
    assert torch.allclose(drawn[:, 1], torch.tensor([15.0, -8.0], dtype=torch.float64), atol=1.0)


def test_readings_that_cannot_be_are_not_believed():
    poses = trial_poses(((-26.0, 26.0), (-34.0, 34.0)))
    for slope in ((0.2, 3.5), (-1.0, -1.0), (0.0, 0.0)):
        assert read_response(poses, heads(poses.tolist(), slope), (512, 512)).curves == (None, None)
    points = heads(poses.tolist())
    points[2] = float("nan")
    response = read_response(poses, points, (512, 512))
    assert [len(curve.seen) for curve in response.curves] == [4, 5], "one lost pose costs one point"
    points[0] = float("nan")
    assert read_response(poses, points, (512, 512)).curves == (None, None)


def test_a_turned_portrait_is_tested_where_it_can_turn():
    (low, high), (left, right) = view_limits((0.0, 26.0), (26.0, 34.0))
    assert (low, high, left, right) == (-26, 26, -60, 8)
    poses = trial_poses(((low, high), (left, right)))
    assert poses[:, 1].unique().tolist() == [-17, -8, 0, 8] and len(poses) == 8


def test_what_is_worth_the_test():
    assert not is_worth_it(torch.zeros(0, 3))
    assert not is_worth_it(torch.tensor([[3.0, -3.0, 30.0]]))
    assert is_worth_it(torch.tensor([[0.0, -10.0, 0.0]] + [[0.0, 0.0, 0.0]] * 100))
    assert is_worth_it(torch.tensor([[4.0, 0.0, 0.0]] * 10))


def test_angles_count_on_top_of_the_portrait_s_own(models, sitters):
    payload = sitters[0].payload
    own = payload.frame.angles()
    asked = torch.tensor([[8.0, -6.0, 12.0], [0.0, 15.0, 0.0]])
    pose = head_movement(motion_of(rotation=asked.tolist()), models.bridge, payload.frame)
    for turn, wanted in zip(pose.turn.double(), asked.double() + own, strict=True):
        angle = turn.norm()
        x, y, z = (turn / angle).tolist()
        cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
        step = torch.eye(3, dtype=torch.float64) + angle.sin() * cross + (1 - angle.cos()) * cross @ cross
        assert torch.allclose(step @ rotation_matrix(own).T, rotation_matrix(wanted).T, atol=1e-5)


def test_turns_are_relative_to_the_neutral_frame():
    still = replace(Motion.rest(2), rotation=torch.full((2, 3), 7.0),
                    neutral=Neutral(torch.zeros(21, 3), torch.full((3,), 7.0), torch.zeros(3), torch.ones(1)))
    assert not requested_turn(still).any()


def test_facial_angles_read_a_turned_canonical_face():
    rotation = [[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, -15.0, 0.0], [0.0, 0.0, 20.0]]
    landmarks = heads(rotation)
    read = facial_angles(landmarks, (512, 512))
    assert torch.allclose(read - read[0], torch.tensor(rotation), atol=1.6)
    assert torch.allclose(rigid_angles(landmarks), torch.tensor(rotation), atol=1e-2)
    landmarks[1, 5] = float("nan")
    lost = facial_angles(landmarks, (512, 512))
    assert torch.isnan(lost[1]).all() and torch.isfinite(lost[[0, 2, 3]]).all()
    with pytest.raises(PlaymateError, match="478"):
        facial_angles(torch.zeros(4, 10, 3), (512, 512))


def test_an_untested_response_takes_requests_at_their_word():
    asked = torch.tensor([[3.0, -4.0, 5.0]])
    assert torch.equal(Response().turn(asked), asked)
