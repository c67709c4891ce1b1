"""LivePortrait's keypoint, crop and paste arithmetic, without the reference's fixtures."""

from __future__ import annotations

import pytest
import torch

from playmate_core.motion.geometry import rotation_matrix
from playmate_core.render.liveportrait.animate import Latents, Options, animate
from playmate_core.render.liveportrait.crop import square_of, square_of_mesh
from playmate_core.render.liveportrait.hull import hull_volume
from playmate_core.render.liveportrait.paste import Placement, warp
from playmate_core.runtime.errors import PlaymateError
from tests.liveportrait_helpers import stitching_by_recipe


@pytest.fixture(scope="module")
def stitching():
    return stitching_by_recipe()


def test_hull_of_a_cube():
    corners = torch.tensor([[x, y, z] for x in (0.0, 2) for y in (0.0, 1) for z in (0.0, 3)])
    inside = torch.rand(8, 3) * torch.tensor([2.0, 1, 3])
    assert hull_volume(torch.cat([corners, inside])) == pytest.approx(6, rel=1e-5)
    assert hull_volume(corners * torch.tensor([1.0, 1.0, 0.0])) == 0


def test_landmarks_on_one_point():
    with pytest.raises(PlaymateError, match="one point"):
        square_of(torch.ones(5, 2), torch.ones(2, 2))


def test_paste_puts_a_crop_back_where_it_was():
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 3, 90), torch.linspace(0, 4, 120), indexing="ij")
    picture = torch.stack([x.sin(), y.cos(), (x + y).sin()]).abs()
    points = torch.tensor([[50.0, 40], [70, 38], [60, 50], [54, 60], [68, 59]])
    square = square_of(points, torch.stack([points[:2].mean(0), points[3:].mean(0)]))
    to_crop = square.matrix(128)
    crop = warp(picture[None], torch.linalg.inv(to_crop), (128, 128))
    found = Placement.of(to_crop, 128, (90, 120)).paste(crop, picture)[0]
    assert float((found - picture.permute(1, 2, 0)).abs().max()) < 0.04


def test_crop_outside_the_picture_leaves_it_alone():
    picture = torch.rand(3, 20, 30)
    to_crop = torch.eye(3)
    to_crop[0, 2] = -500
    assert torch.equal(Placement.of(to_crop, 64, (20, 30)).paste(torch.ones(2, 3, 64, 64), picture)[1],
                       picture.permute(1, 2, 0))


def test_mesh_crop_is_as_large_as_the_jaw_and_brows(models, portrait):
    face = models.face.analyze(portrait[None])[0][0]
    square = square_of_mesh(face.landmarks)
    flat = face.landmarks[:, :2] - 0.5
    whole = square_of(flat, torch.stack([flat[[468, 473]].mean(0), flat[14]]))
    assert 0.7 < square.size / whole.size < 1.0
    assert abs(square.angle) < 0.35


def test_retargeting_keeps_the_head_moving(stitching):
    torch.manual_seed(1)
    turn = rotation_matrix(torch.tensor([[0.0, 0, 0], [0, 20, 0]]))
    source = Latents(torch.zeros(1, 21, 3), turn[:1], torch.ones(1, 1), torch.zeros(1, 3), torch.randn(1, 21, 3),
                     torch.tensor([[0.3, 0.3]]), torch.tensor([[0.1]]))
    driving = Latents(torch.zeros(2, 21, 3), turn, torch.ones(2, 1), torch.zeros(2, 3), None,
                      torch.tensor([[0.3, 0.3], [0.1, 0.1]]), torch.tensor([[0.1], [0.4]]))
    still = Latents(torch.zeros(1, 21, 3), turn[:1], torch.ones(1, 1), torch.zeros(1, 3))
    found = animate(source, driving, still, Options(retarget_eyes=True, retarget_lips=True), stitching=stitching)
    assert float((found[1] - found[0]).abs().max()) > 0.2


def test_what_is_missing_is_named(stitching):
    still = Latents(torch.zeros(1, 21, 3), torch.eye(3)[None], torch.ones(1, 1), torch.zeros(1, 3),
                    torch.zeros(1, 21, 3))
    with pytest.raises(PlaymateError, match="ratios"):
        animate(still, still, still, Options(retarget_eyes=True), stitching=stitching)
    with pytest.raises(PlaymateError, match="stitching networks"):
        animate(still, still, still)
    with pytest.raises(PlaymateError, match="region"):
        Options(region="nose")
    found = animate(still, still, still, Options(stitching=False))
    assert torch.equal(found, still.keypoints())
