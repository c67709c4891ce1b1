"""Eyes on drawings and on photographs: where lids are, what shows when they shut, and what when they open wide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.render.landmark import edges, expression, eye, eye_fit, lids, opening, topology
from playmate_core.render.landmark.head import HeadFrame
from playmate_core.render.landmark.portrait import head_frame_shape

from .render_helpers import drawn_face

SIZE = 160.0


@pytest.fixture
def portrait():
    """(picture [400, 400, 3], landmarks [478, 3]): a face as the mesh expects it."""
    image, face = drawn_face(400, 400, SIZE)
    return image.numpy().copy(), face.landmarks.double().numpy()


@pytest.fixture
def large_eyed(portrait):
    """The same with the left eye in the picture painted far beyond the mesh's lids: black lashes that run into a large
    dark iris between two whites."""
    image, landmarks = portrait
    iris = landmarks[topology.IRISES[0][0], :2]
    y, x = np.mgrid[0:400, 0:400] + 0.5
    across, down = (x - iris[0]) / SIZE, (y - iris[1]) / SIZE
    ball = (across / 0.20) ** 2 + (down / 0.11) ** 2
    image[(across / 0.22) ** 2 + ((down + 0.03) / 0.15) ** 2 < 1] = 0.04
    image[(ball < 1)] = 0.9
    image[(np.hypot(across, down) < 0.10) & (ball < 1)] = 0.05
    return image, landmarks, iris


def test_a_painted_lid_arches_over_the_iris(large_eyed):
    image, landmarks, iris = large_eyed
    upper, lower = eye_fit.fit_lids(image, landmarks, SIZE, 0, iris, 0.10 * SIZE)
    middle = np.abs(upper[:, 0] - iris[0]).argmin()
    # The straight way between the whites would cross the iris at less than half its height.
    assert (iris[1] - upper[middle, 1]) / SIZE > 0.7 * 0.10
    assert (lower[middle, 1] - iris[1]) / SIZE == pytest.approx(0.11, abs=0.03)
    # No white is left beside the corners or above the lid.
    assert (iris[0] - upper[0, 0]) / SIZE > 0.18 and (upper[-1, 0] - iris[0]) / SIZE > 0.18
    for place in upper[1:-1]:
        off = (place[0] - iris[0]) / SIZE
        if abs(off) > 0.105:
            assert place[1] < iris[1] - SIZE * 0.11 * np.sqrt(max(1 - (off / 0.20) ** 2, 0)) + 0.015 * SIZE


def test_a_lid_that_hangs_over_the_iris_stays_where_skin_begins(large_eyed):
    image, landmarks, iris = large_eyed
    y = np.arange(400)[:, None] + 0.5
    x = np.arange(400)[None] + 0.5
    image[(y < iris[1] - 0.04 * SIZE) & (np.abs(x - iris[0]) < 0.3 * SIZE)] = (0.80, 0.62, 0.52)
    y9 = np.full(9, 0.0)
    place = np.linspace(-0.12, 0.12, 9) * SIZE
    heights = eye_fit._over_iris(image, iris, np.array([1.0, 0.0]), np.array([0.0, 1.0]), place, y9, iris, 0.12 * SIZE,
                                 0.65)
    assert heights[4] == pytest.approx(-0.04 * SIZE, abs=1.6)


def test_paint_beside_an_eye_of_usual_size_is_not_taken_for_its_white(portrait):
    image, landmarks = portrait
    low = landmarks[list(topology.EYES_LOWER[0]), :2]
    x, y = np.round(low.mean(0)).astype(int)
    image[y:y + 14, x - 24:x + 24] = 0.93
    iris, radius = eye_fit.fit_iris(image, landmarks, SIZE, 0)
    assert radius < eye_fit.DRAWN_IRIS * SIZE
    assert eye_fit.fit_lids(image, landmarks, SIZE, 0, iris, radius) is None


def test_lashes_come_down_in_their_own_height(portrait):
    image, landmarks = portrait
    rims = edges.lid_edges(landmarks, SIZE, 0)
    x, y = np.meshgrid(np.arange(400) + 0.5, np.arange(400) + 0.5)
    above = -np.nan_to_num(opening.heights(np.stack([x, y], -1).reshape(-1, 2), rims[0]), posinf=1e6).reshape(x.shape)
    along = (x - rims[0, 0, 0]) / (rims[0, -1, 0] - rims[0, 0, 0])
    plain = edges.lash_heights(image, rims, SIZE)
    image[(above > -1) & (above < SIZE * (0.05 + 0.06 * (along < 0.15)))] = 0.03
    high = edges.lash_heights(image, rims, SIZE)
    assert plain.max() < 0.02 * SIZE and high.shape == (rims.shape[1],)
    assert high[len(high) // 2] == pytest.approx(0.05 * SIZE, abs=0.012 * SIZE)
    assert high.max() > 0.065 * SIZE and high.argmax() < len(high) / 3


def test_a_shut_lid_is_lit_as_the_skin_about_the_eye(portrait):
    """A shadow between lashes and brow goes, black ink and skin that is merely a little darker stay."""
    image, landmarks = portrait
    rims, none = edges.lid_edges(landmarks, SIZE, 0), np.zeros(65)
    top, brow = rims[0, 32], landmarks[52, :2]
    spot = top + 0.35 * (brow - top)
    column, row = (int(v) for v in spot)
    for dark, low, high in ((0.45, 1.4, 3.0), (0.85, 0.99, 1.01), (0.03, 0.9, 1.3)):
        shaded = image.copy()
        shaded[int(brow[1]):int(top[1]), column - 40:column + 40] *= dark
        texture = lids.lit(shaded, landmarks, rims, none, SIZE, 0)
        value = texture.read(torch.tensor([[[[column + 0.5, row + 0.5]]]]).float())[0, :, 0, 0]
        gain = float(value[:3].mean()) / float(shaded[row, column].mean())
        assert low < gain < high, (dark, gain)
        assert float(value[3]) > 0.4
    heavy = lids.lit(image, landmarks, rims, np.full(65, 0.08 * SIZE), SIZE, 0)
    assert float(heavy.pixels[:, 3].max()) == 0.0
    assert lids.comes_out(torch.tensor([-0.3, 0.1, 1.0])).tolist() == [0.0, 0.0, 1.0]


def test_white_that_is_laid_open_is_white(portrait):
    image, landmarks = portrait
    skin = edges.skin_beneath(image, landmarks, 0)
    rims, frame = edges.lid_edges(landmarks, SIZE, 0), HeadFrame.of(landmarks)
    bright = eye.prepare(image, landmarks, frame, rims, 0)
    white = (image.min(-1) > 0.8)
    image[white] = 0.55 * skin
    dull = eye.prepare(image, landmarks, frame, rims, 0)
    # White as it should be is left nearly alone; a dull one is lit, at most so far, and greyer.
    assert float((bright.clear - 1).abs().max()) < 0.15
    assert 1.2 < float(dull.clear.mean()) < 2.0 and float(dull.clear[2]) > float(dull.clear[0])


def test_brows_of_drawings_come_down_further_and_those_of_people_as_asked(portrait):
    (_, landmarks), bridge = portrait, LatentBridge.load()
    shape = head_frame_shape(landmarks, HeadFrame.of(landmarks))
    people = expression.read_shape(shape, bridge)
    assert torch.equal(people.brows, torch.ones(478))
    for top, bottom in zip(topology.EYES_UPPER, topology.EYES_LOWER, strict=True):
        shape[list(top[1:-1]), 1] -= 0.09
        shape[list(bottom[1:-1]), 1] += 0.06
    drawing = expression.read_shape(shape, bridge)
    brows = [point for brow in geometry.BROWS for point in brow]
    assert drawing.brows[brows].min() > 1.25 and drawing.brows[[152, 13, 1]].max() == 1
    asked = torch.zeros(2, 478, 3)
    asked[0, brows, 1], asked[1, brows, 1] = 0.05, -0.05
    for kept, further in ((people, 1.0), (drawing, 1.3)):
        done = expression.adapt(asked, kept, expression.closure(asked, kept), close_mouth=False)
        assert float(done[0, 66, 1]) == pytest.approx(0.05 * further, abs=2e-3)
        assert float(done[1, 66, 1]) == pytest.approx(-0.05, abs=2e-3)
