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
from playmate_core.render.landmark.obedience import (
    Response,
    corner_poses,
    is_worth_it,
    read_corners,
    read_response,
    trial_poses,
    view_limits,
)
from playmate_core.runtime.errors import PlaymateError

from .render_helpers import drawn_face, gap_latent, motion_of

STEPS = np.array([0.0, 20.0, -20.0, 10.0, -10.0, 15.0, -5.0])
AXES = ("pitch", "yaw", "roll")


def smaller(image, edge):
    height, width = image.shape[:2]
    picture = image[:min(height, width), :min(height, width)].permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(picture, (edge, edge), mode="area")[0].permute(1, 2, 0)


SITTERS = ("tilted", "drawn", "aside", "smiling")
_made = {}


@pytest.fixture
def sitter(models, portrait_path):
    """By name: a portrait whose head is tilted by 18 degrees, a drawn face, one that is drawn looking aside and down,
    and a photograph of a small, smiling face."""
    from playmate_core.pipeline import extract_appearance

    def picture(name):
        if name == "tilted":
            return smaller(read_image(portrait_path)[..., :3], 320)
        if name == "smiling":
            data = pytest.importorskip("skimage.data", reason="scikit-image ships the photograph")
            return torch.from_numpy(data.astronaut()[:300, 70:370].astype(np.float32) / 255)
        return drawn_face(320, 320, 84.0, turn=(8.0, 16.0, 0.0) if name == "aside" else (0.0, 0.0, 0.0))[0]

    def get(name):
        if name not in _made:
            _made[name] = extract_appearance(models, picture(name))
        return _made[name]

    return get


def seen(models, appearance, rotation):
    """[T, 478, 3] landmarks on the frames drawn for ``rotation``."""
    frames = torch.cat(list(models.renderer.render(appearance, motion_of(rotation=rotation.tolist()))))
    return models.face.follow(frames, appearance.face)


@pytest.mark.parametrize("name", SITTERS)
def test_heads_turn_as_far_as_asked(models, sitter, name):
    appearance = sitter(name)
    rotation = np.zeros((21, 3))
    for axis in range(3):
        rotation[7 * axis:7 * axis + 7, axis] = STEPS
    landmarks = seen(models, appearance, rotation)
    size = tuple(appearance.image.shape[:2])
    for reader, largest in ((head_angles, 1.0), (facial_angles, 1.7), (lambda p, _: rigid_angles(p), 1.7)):
        angles = reader(landmarks, size).double().numpy()
        for axis in range(3):
            tracked = angles[7 * axis:7 * axis + 7, axis]
            error = np.abs((tracked - tracked.mean()) - (STEPS - STEPS.mean())).mean()
            assert np.corrcoef(STEPS, tracked)[0, 1] >= 0.98, AXES[axis]
            assert error <= largest, (reader, AXES[axis])


@pytest.mark.parametrize("speaking", [False, True], ids=["silent", "speaking"])
@pytest.mark.parametrize("name", ["tilted", "drawn"])
def test_all_axes_at_once(models, sitter, name, speaking):
    phase = 2 * np.pi * np.arange(9) / 9
    rotation = np.stack([12 * np.sin(phase + 0.5), 15 * np.sin(2 * phase), 12 * np.sin(3 * phase + 1)], 1)
    gaps = [0.0, 0.1, 0.05, 0.15, 0.0, 0.08, 0.12, 0.03, 0.1] if speaking else np.zeros(9)
    check_turns(models, sitter(name), rotation, gaps, 1.2 if speaking else 0.8)


@pytest.mark.parametrize("name", ["tilted", "drawn"])
def test_into_the_corners(models, sitter, name):
    rotation = np.array([[0, 0, 0]] + [[15 * p, 18 * y, 10 * r] for p in (-1, 1) for y in (-1, 1) for r in (-1, 1)])
    check_turns(models, sitter(name), rotation, np.zeros(9), 1.0)


def check_turns(models, appearance, rotation, gaps, largest):
    motion = motion_of([gap_latent(models.bridge, gap) for gap in gaps], rotation.tolist())
    frames = torch.cat(list(models.renderer.render(appearance, motion)))
    landmarks = models.face.follow(frames, appearance.face)
    angles = head_angles(landmarks, tuple(appearance.image.shape[:2])).double().numpy()
    for axis in range(3):
        difference = angles[:, axis] - rotation[:, axis]
        assert np.corrcoef(angles[:, axis], rotation[:, axis])[0, 1] >= 0.98, AXES[axis]
        assert np.abs(difference - difference.mean()).mean() <= largest, AXES[axis]


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
    assert sum(calls) == 13
    again = torch.cat(list(renderer.render(appearance, motion_of(rotation=[[0, 15, 0]]))))
    assert sum(calls) == 13 and torch.equal(first, again)
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
    poses = trial_poses(((-26.0, 26.0), (-40.0, 13.0)))
    assert poses[:, 1].unique().tolist() == [-17, -8, 0, 8, 13], "as far as it follows"
    poses = trial_poses(((-26.0, 26.0), (-60.0, 1.0)))
    assert poses[:, 1].unique().tolist() == [-17, -8, 0], "a degree is no test"


def coupled(poses):
    """What is seen of a head whose nod reads further on one side, and which tilts when it does both."""
    shown = poses.clone()
    both = poses[:, 0] * poses[:, 1] / (14 * 17)
    shown[:, 0] = 1.15 * poses[:, 0] + 2.5 * both.abs() * poses[:, 0].sign()
    shown[:, 1] = 0.85 * poses[:, 1]
    shown[:, 2] += 1.5 * both
    return shown


def test_combined_turns_are_looked_up_too():
    free = ((-26.0, 26.0), (-34.0, 34.0))
    poses = trial_poses(free)
    points = heads(coupled(poses).tolist())
    alone = read_response(poses, points, (512, 512))
    corners = corner_poses(alone, free)
    assert corners.shape == (4, 3) and corners[:, :2].sign().unique(dim=0).shape == (4, 2)
    both = read_corners(alone, corners, heads(coupled(corners).tolist()), points[0], (512, 512))
    asked = torch.tensor([[-12.0, 14.0, 5.0], [12.0, -16.0, 0.0], [9.0, 9.0, -5.0], [-14.0, -17.0, 0.0]])
    off = [(head_angles(heads(coupled(response.turn(asked)).tolist()), (512, 512))
            - head_angles(points[:1], (512, 512)) - asked).abs().max() for response in (alone, both)]
    assert off[0] > 1.4 and off[1] < 0.8
    single = torch.tensor([[12.0, 0.0, 0.0], [0.0, -15.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(both.turn(single), alone.turn(single), atol=0.5), "one axis alone is as it was"
    assert not both.turn(single)[3].any()
    slow = torch.linspace(-20, 20, 400)[:, None] * torch.tensor([[0.8, 1.0, 0.0]])
    assert (both.turn(slow)[:, :2].diff(dim=0) > 0).all(), "more is always more, through rest too"


def test_corners_that_were_lost_change_nothing():
    free = ((-26.0, 26.0), (-34.0, 34.0))
    poses = trial_poses(free)
    alone = read_response(poses, heads(poses.tolist()), (512, 512))
    corners = corner_poses(alone, free)
    points = heads(corners.tolist())
    assert read_corners(alone, corners, points * float("nan"), heads([[0.0] * 3])[0], (512, 512)).corners is None
    points[1:] *= float("nan")
    one = read_corners(alone, corners, points, heads([[0.0] * 3])[0], (512, 512))
    assert torch.isfinite(one.turn(torch.tensor([[15.0, 18.0, 0.0], [-15.0, -18.0, 3.0]]))).all()
    assert len(corner_poses(Response(), free)) == 0
    aside = corner_poses(alone, ((-26.0, 26.0), (-50.0, 2.0)))
    assert len(aside) == 2 and (aside[:, 1] < 0).all()


def test_far_sides_stay_out_of_sight(models, sitter):
    """A head that is asked to turn far eases off before the far side of nose and mouth becomes a line."""
    frame = sitter("aside").payload.frame
    own = frame.angles()
    asked = torch.zeros(41, 3)
    asked[:, 1] = torch.linspace(0, 40, 41)
    turn = head_movement(motion_of(rotation=asked.tolist()), models.bridge, frame).turn
    angle = turn.norm(dim=-1).rad2deg()
    assert (angle.diff() > 0).all() and float(own[1] + angle.max()) < 41
    free = int(34 - own[1]) - 1
    assert torch.allclose(angle[:free], asked[:free, 1], atol=1e-3)


def test_what_is_worth_the_test():
    assert not is_worth_it(torch.zeros(0, 3))
    assert not is_worth_it(torch.tensor([[3.0, -3.0, 30.0]]))
    assert is_worth_it(torch.tensor([[0.0, -10.0, 0.0]] + [[0.0, 0.0, 0.0]] * 100))
    assert is_worth_it(torch.tensor([[4.0, 0.0, 0.0]] * 10))


def test_angles_count_on_top_of_the_portrait_s_own(models, sitter):
    payload = sitter("tilted").payload
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
