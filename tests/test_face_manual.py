"""Faces that the user marks, where no detector finds one."""

import pytest
import torch

from playmate_core import pipeline
from playmate_core.face.geometry import mean_face
from playmate_core.face.manual import AVERAGE, FEATURES, face_at_points, face_in_box, mask_box, parse_box, parse_points
from playmate_core.runtime.errors import PlaymateError


def features(landmarks):
    return torch.stack([landmarks[list(part), :2].mean(0) for part in FEATURES])


@pytest.fixture(scope="module")
def found(models, portrait):
    return models.face.analyze(portrait[None])[0][0]


@pytest.fixture(scope="module")
def box(found):
    low, high = found.landmarks[:, :2].amin(0), found.landmarks[:, :2].amax(0)
    return torch.cat([low, high - low])


@pytest.fixture(scope="module")
def blank():
    """Stripes: the mesh sees no face in them, and what moves can be seen."""
    return ((torch.arange(240.0) // 10) % 2)[None, :, None].expand(200, -1, 3).contiguous()


def test_a_box_around_a_real_face_gives_the_detectors_landmarks(models, portrait, found, box):
    face, seen = face_in_box(models.face, portrait, box)
    unit = float((found.landmarks[33] - found.landmarks[263]).norm())
    assert seen and face.presence > 0.9
    assert float((face.landmarks - found.landmarks)[:, :2].norm(dim=-1).max()) < 0.05 * unit
    sloppy = box + torch.tensor([-0.1, -0.05, 0.15, 0.1]) * box[2]
    face, seen = face_in_box(models.face, portrait, sloppy)
    assert seen and float((face.landmarks - found.landmarks)[:, :2].norm(dim=-1).max()) < 0.05 * unit


def test_points_on_a_real_face_are_met(models, portrait, found):
    face, seen = face_at_points(models.face, portrait, features(found.landmarks))
    unit = float((found.landmarks[33] - found.landmarks[263]).norm())
    assert seen
    assert float((face.landmarks - found.landmarks)[:, :2].norm(dim=-1).max()) < 0.05 * unit
    # points a little lower: the user is right, not the mesh
    moved, seen = face_at_points(models.face, portrait, features(found.landmarks) + torch.tensor([0.0, 0.1 * unit]))
    assert seen
    assert float((moved.landmarks - face.landmarks)[:, 1].mean()) == pytest.approx(0.1 * unit, rel=0.1)


def test_where_nothing_is_seen_an_average_face_fills_the_box(models, blank):
    face, seen = face_in_box(models.face, blank, torch.tensor([75.0, 20.0, 110.0, 140.0]))
    assert not seen and face.presence == 0.0 and face.blendshapes.abs().max() == 0
    assert face.box.tolist() == pytest.approx([75, 20, 185, 160], abs=0.01)


def test_where_nothing_is_seen_an_average_face_meets_the_points(models, blank):
    turn = torch.tensor([[0.94, -0.34], [0.34, 0.94]])
    points = features(mean_face()) @ turn.T * torch.tensor([55.0, 45.0]) + torch.tensor([130.0, 70.0])
    face, seen = face_at_points(models.face, blank, points)
    assert not seen
    assert float((features(face.landmarks) - points).norm(dim=-1).max()) < 0.01


def test_a_marked_face_can_be_drawn_and_said(models, blank):
    from playmate_core.motion.sliders import edit_expression
    from playmate_core.motion.types import Motion, Neutral

    said = []
    appearance = pipeline.extract_appearance(models, blank, box=torch.tensor([75.0, 20.0, 110.0, 140.0]),
                                             notify=said.append)
    assert said == [AVERAGE]
    still = Motion(torch.zeros(2, 21, 3), torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 1), 25.0, Neutral.rest())
    opened = edit_expression(still, {"aaa": 60.0, "smile": 1.0})
    rest, open_ = (torch.cat(list(pipeline.render_frames(models, appearance, motion)))[1] for motion in (still, opened))
    assert rest.shape == blank.shape
    moved = torch.nonzero((rest - open_).abs().amax(-1) > 0.05)
    assert len(moved) > 20, "the mouth opens"
    middle = moved.float().mean(0)
    assert 90 < middle[0] < 160 and 100 < middle[1] < 160, "below the middle of the box, on its axis"
    with pytest.raises(PlaymateError, match="No face was found"):
        pipeline.extract_appearance(models, blank)


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 x", "1 2 0 5", "1 2 3 nan", "1 2 3 inf", "1 2 3 4 5"])
def test_boxes_that_cannot_be_read(text):
    with pytest.raises(PlaymateError, match="left top width height"):
        parse_box(text)


def test_texts_in_the_forms_that_people_write():
    assert parse_box("[120, 80, 300, 340]").tolist() == [120, 80, 300, 340]
    assert parse_points("1 2; 3 4; 5 6; 7 8; 9 10").tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert parse_points("(1,2), (3,4), (5,6), (7,8), (9,10)").shape == (5, 2)
    with pytest.raises(PlaymateError, match="left eye, right eye, nose"):
        parse_points("1 2; 3 4")


def test_marks_that_make_no_sense(models, blank):
    good = features(mean_face()) * 50 + torch.tensor([120.0, 80.0])
    with pytest.raises(PlaymateError, match="another order"):
        face_at_points(models.face, blank, good[[1, 0, 2, 4, 3]])
    with pytest.raises(PlaymateError, match="another order|pixels large"):
        face_at_points(models.face, blank, torch.full((5, 2), 50.0))
    with pytest.raises(PlaymateError, match="outside the picture of 240 x 200"):
        face_at_points(models.face, blank, good + 900)
    with pytest.raises(PlaymateError, match="outside the picture"):
        face_in_box(models.face, blank, torch.tensor([500.0, 20.0, 110.0, 140.0]))
    with pytest.raises(PlaymateError, match="5 pixels large; at least 8"):
        face_in_box(models.face, blank, torch.tensor([50.0, 20.0, 110.0, 5.0]))


def test_the_box_of_a_mask():
    mask = torch.zeros(50, 60)
    mask[10:30, 5:25] = 1
    assert mask_box(mask).tolist() == [5, 10, 20, 20]
    with pytest.raises(PlaymateError, match="empty"):
        mask_box(torch.zeros(5, 5))


def test_the_node_takes_texts_and_masks(models, portrait, box):
    from tests.node_helpers import node_modules

    with node_modules("extract_appearance") as pack:
        node = pack.extract_appearance.ExtractAppearance
        assert node.validate_inputs(face="largest", face_box="mask", face_points=None) is True
        assert "left top width height" in node.validate_inputs(face_box="12 x")
        assert "left eye" in node.validate_inputs(face_points="1 2")
        seen = []
        pack.pipeline.extract_appearance = lambda *args, **more: seen.append(more) or "appearance"
        node.execute(models, portrait[None], "largest", 0, 0)
        assert seen[-1]["box"] is None and seen[-1]["points"] is None
        node.execute(models, portrait[None], "largest", 0, 0, None, "1 2 30 40", "1 2; 3 4; 5 6; 7 8; 9 10")
        assert seen[-1]["box"].tolist() == [1, 2, 30, 40] and seen[-1]["points"].shape == (5, 2)
        mask = torch.zeros(1, 256, 256)
        mask[:, 40:90, 20:100] = 1
        node.execute(models, portrait[None], "largest", 0, 0, mask, "Mask")
        assert seen[-1]["box"].tolist() == [20, 40, 80, 50]
        with pytest.raises(Exception, match="no mask is painted"):
            node.execute(models, portrait[None], "largest", 0, 0, None, "mask")
