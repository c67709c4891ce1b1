"""What covers a mouth or eyes, and shut eyes, are told; nothing is said of clean portraits."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from playmate_core import pipeline
from playmate_core.face import cover, geometry
from playmate_core.media.pictures import check_image, read_image, smaller
from playmate_core.motion.eyes import eye_offset
from playmate_core.motion.types import Motion

LOWER_FACE = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454,
              280, 5, 50)


@pytest.fixture(scope="module")
def people(portrait_path, models):
    """The sample portrait and two made of it, as pale and as dark as people are: (picture [512, 512, 3], face)."""
    sample = smaller(read_image(portrait_path)[..., :3], 512, 512)
    found = {}
    for name, picture in (("sample", sample), ("pale", 0.25 + 0.75 * sample),
                          ("dark", sample.flip(1) * torch.tensor([0.55, 0.45, 0.38]))):
        found[name] = picture, models.face.analyze(picture)[0][0]
    return found


def covered(picture, face, what):
    """The picture with something painted over the face."""
    canvas = (picture * 255).byte().numpy().copy()
    points = face.landmarks[:, :2].numpy()
    unit = float(np.linalg.norm(points[263] - points[33]))

    def disc(middle, radius, colour):
        cv2.circle(canvas, tuple(int(v) for v in middle), int(radius * unit), colour, -1, cv2.LINE_AA)

    if what == "microphone":
        disc(points[13], 0.36, (28, 28, 30))
    elif what in ("blue mask", "red scarf"):
        colour = (110, 150, 190) if what == "blue mask" else (150, 20, 40)
        cv2.fillPoly(canvas, [points[list(LOWER_FACE)].astype(np.int32)], colour, cv2.LINE_AA)
    elif what == "hand":
        colour = tuple(int(v) for v in 0.95 * canvas[tuple(points[205].astype(int)[::-1])])
        middle, turn = points[13] + np.array([0, 0.2 * unit]), np.degrees(np.arctan2(*(points[263] - points[33])[::-1]))
        cv2.ellipse(canvas, tuple(int(v) for v in middle), (int(0.8 * unit), int(0.6 * unit)), turn, 0, 360, colour, -1,
                    cv2.LINE_AA)
    elif what == "glasses":
        for eye in geometry.EYES:
            disc(points[list(eye)].mean(0), 0.26, (20, 20, 24))
    elif what == "patch":
        disc(points[list(geometry.EYES[0])].mean(0), 0.26, (6, 6, 8))
    return torch.from_numpy(canvas).float() / 255


def told(models, picture):
    said = []
    pipeline.extract_appearance(models, picture, notify=said.append)
    assert len(said) <= 1, "one call, or a node would show the last sentence only"
    return said[0] if said else ""


@pytest.mark.parametrize("who", ["sample", "pale", "dark"])
def test_nothing_is_said_of_clean_portraits(models, people, who):
    picture, face = people[who]
    assert cover.notes(models.face, picture, face) == []


@pytest.mark.parametrize("who", ["sample", "pale", "dark"])
@pytest.mark.parametrize("what", ["microphone", "blue mask", "red scarf"])
def test_what_covers_the_mouth_is_told(models, people, who, what):
    picture = covered(*people[who], what)
    assert cover.MOUTH in cover.notes(models.face, picture, models.face.analyze(picture)[0][0])


@pytest.mark.parametrize("who", ["sample", "pale", "dark"])
def test_a_hand_of_the_face_s_own_colour_is_told(models, people, who):
    picture = covered(*people[who], "hand")
    assert cover.MOUTH in cover.notes(models.face, picture, models.face.analyze(picture)[0][0])


@pytest.mark.parametrize("who", ["sample", "pale"])
@pytest.mark.parametrize("what, note", [("glasses", cover.EYES), ("patch", cover.EYE)])
def test_what_covers_the_eyes_is_told(models, people, who, what, note):
    picture = covered(*people[who], what)
    assert cover.notes(models.face, picture, models.face.analyze(picture)[0][0]) == [note]


def test_a_face_that_lies_is_judged_as_it_would_be_upright(models, people):
    picture, face = people["sample"]
    assert not told(models, torch.rot90(picture, 1, (0, 1)).contiguous())
    lying = torch.rot90(covered(picture, face, "glasses"), 2, (0, 1)).contiguous()
    assert told(models, lying) == cover.EYES


def test_both_are_said_at_once(models, people):
    picture, face = people["sample"]
    both = covered(covered(picture, face, "glasses"), face, "microphone")
    assert told(models, both) == f"{cover.MOUTH} {cover.EYES}"


@pytest.mark.parametrize("closure, who, note", [
    ((1.0, 1.0), "sample", cover.SHUT), ((1.0, 1.0), "dark", cover.SHUT), ((1.0, 0.0), "sample", cover.WINK),
    ((1.0, 0.0), "pale", cover.WINK), ((0.3, 0.3), "sample", None),
])
def test_shut_eyes_are_told(models, people, closure, who, note):
    """Drawn by the renderer itself, which shuts eyes by moving the portrait's own skin."""
    picture, face = people[who]
    rest = Motion.rest(1)
    lids = eye_offset(torch.tensor([closure]), torch.zeros(1, 2)).reshape(1, 21, 3)
    drawn = pipeline.render_frames(models, models.renderer.prepare(picture, face),
                                   replace(rest, expression=rest.expression + lids))
    assert told(models, next(drawn)[0]) == (note or "")


def test_faces_too_small_to_tell(models, people):
    picture, face = people["sample"]
    small = smaller(covered(picture, face, "microphone"), 96, 96)
    (found,) = models.face.analyze(small)[0]
    assert cover.notes(models.face, small, found) == []


def test_the_node_says_it_and_goes_on(people):
    from tests.node_helpers import node_modules

    with node_modules("extract_appearance") as nodes:
        models = nodes.pipeline.load_models()
        extract = nodes.extract_appearance.ExtractAppearance
        picture = covered(*people["sample"], "microphone")
        appearance = extract.execute(models, picture[None], "largest", 0, 0).args[0]
        assert appearance.image.shape == picture.shape
        assert "cover the mouth" in nodes.server.said[-1][0]
        extract.execute(models, people["sample"][0][None], "largest", 0, 0)
        assert nodes.server.said[-1][0] == ""


def test_the_reported_file_and_those_beside_it(shared, models):
    if not (shared / "cases" / "microphone.png").is_file():
        pytest.skip("no such case there")
    assert told(models, check_image(read_image(shared / "cases" / "microphone.png"))) == cover.MOUTH
    for name in ("looks/portrait_46.png", "looks/portrait_s0.jpg", "cases/exif6_rgba.png"):
        assert not told(models, check_image(read_image(shared / name))), name
