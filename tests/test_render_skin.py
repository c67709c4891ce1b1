"""Eyes and skin of the landmark renderer: whole irises, gaze and lids as asked, creases only where skin is pushed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.types import Motion
from playmate_core.render.landmark import LandmarkRenderer, expression, eye_fit, skin, topology
from playmate_core.render.landmark.head import HeadFrame

from .render_helpers import drawn_face


class Told(LatentBridge):
    """A bridge whose latents name rows of a table of landmark displacement."""

    rows: torch.Tensor | None = None

    def displacement(self, expression_offset):
        flat = expression_offset.reshape(-1, 63)
        if self.rows is None or not bool((flat[:, 0] >= 999).any()):
            return super().displacement(expression_offset)
        return self.rows[(flat[:, 0] - 1000).round().long()]


@pytest.fixture(scope="module")
def bridge():
    loaded = Told.load()
    loaded.__class__ = Told
    return loaded


def drawn(bridge, image, face, moves, **options):
    """[N, H, W, 3] a portrait moved by each of ``moves`` [478, 3], outer-eye distances."""
    bridge.rows = None
    renderer = LandmarkRenderer(bridge, **options)
    appearance = renderer.prepare(image, face)
    bridge.rows = torch.stack(moves)
    motion = Motion.rest(len(moves))
    latents = motion.expression.clone()
    latents[:, 0, 0] += 1000 + torch.arange(len(moves))
    return torch.cat(list(renderer.render(appearance, replace(motion, expression=latents)))), appearance


def lids(up: float, down: float = 0.0) -> torch.Tensor:
    """Upper lids that rise and lower lids that fall."""
    out, bow = torch.zeros(478, 3), torch.sin(torch.linspace(0, torch.pi, 9)).clamp_min(0)
    for eye in (0, 1):
        out[list(topology.EYES_UPPER[eye]), 1] -= up * bow
        out[list(topology.EYES_LOWER[eye]), 1] += down * bow
    return out


def gaze(x: float, y: float = 0.0) -> torch.Tensor:
    out = torch.zeros(478, 3)
    for ring in geometry.IRISES:
        out[list(ring)] += torch.tensor([x, y, 0.0])
    return out


def knit(amount: float = 1.0) -> torch.Tensor:
    """Brows that come together and down."""
    out = torch.zeros(478, 3)
    for brow, sign in zip((geometry.BROWS[0], geometry.BROWS[1]), (1, -1), strict=True):
        out[list(brow)] += torch.tensor([sign * 0.02, 0.03, 0.0]) * amount
    return out


def roughened(image, face, amount, softness, everywhere=False):
    """The picture with noise over the face, or over all of it."""
    import cv2

    from playmate_core.render.landmark.edges import blur

    noise = blur(np.random.default_rng(3).standard_normal((*image.shape[:2], 1)).astype(np.float32), softness, softness)
    oval = np.zeros(image.shape[:2], np.float32)
    cv2.fillPoly(oval, [face.landmarks[list(geometry.OVAL), :2].numpy().round().astype(np.int32)], 1.0)
    oval = np.ones_like(oval) if everywhere else oval
    return (image + torch.from_numpy(amount / noise.std() * noise * oval[..., None])).clamp(0, 1)


@pytest.fixture(scope="module")
def textured():
    """The drawn face with skin that has texture."""
    image, face = drawn_face(400, 400, 130.0)
    return roughened(image, face, 0.012, 1.8), face


def iris_dark(frame, face):
    """[h, w] bool about the left eye: as dark as the iris; and the iris' centre and radius there."""
    size = float((face.landmarks[33] - face.landmarks[263]).norm())
    ring = face.landmarks[list(geometry.IRISES[0]), :2]
    radius = float((ring[1:] - ring[0]).norm(dim=-1).mean())
    x, y = (int(v) for v in ring[0])
    reach = int(0.16 * size)
    light = frame[y - reach:y + reach + 1, x - reach:x + reach + 1].mean(-1)
    return light, ring[0] - torch.tensor([x - reach, y - reach]), radius


def test_an_iris_is_whole_when_lids_widen(bridge):
    image, face = drawn_face(400, 400, 160.0)
    frames, _ = drawn(bridge, image, face, [lids(0.0), lids(0.06, 0.01)])
    light, centre, radius = iris_dark(frames[1], face)
    y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in light.shape), indexing="ij")
    distance = torch.stack([x - centre[0], y - centre[1]], -1).norm(dim=-1) / radius
    before = iris_dark(frames[0], face)[0]
    dark = light < 0.45
    inside = distance < 0.8
    assert dark[inside].float().mean() > 0.97 > (before < 0.45)[inside].float().mean() + 0.02
    # One rim: outward from the centre it gets lighter once, and never darker again before the lid.
    rings = [float(light[(distance >= r) & (distance < r + 0.1) & (y > centre[1] - 0.9 * radius)].median())
             for r in np.arange(0, 1.3, 0.1)]
    assert max(a - b for a, b in zip(rings[:-1], rings[1:], strict=True)) < 0.06
    assert rings[-1] > rings[0] + 0.3


def test_gaze_moves_the_iris_as_far_as_asked_without_a_second_one(bridge):
    image, face = drawn_face(400, 400, 160.0)
    asked = (0.0, 0.03, 0.06)
    frames, appearance = drawn(bridge, image, face, [gaze(a) for a in asked])
    # The rim that trails behind, in the row through the iris' middle: nothing covers it.
    rims = []
    for frame in frames:
        light, centre, _ = iris_dark(frame, face)
        row = light[int(centre[1])]
        dark = (row < 0.45).nonzero().flatten()
        # One iris, and nothing dark left where it was.
        assert int(dark[-1] - dark[0]) == len(dark) - 1
        rims.append(float(dark[0]) / 160.0)
    gain = expression.GAZE_GAIN[0] * float(appearance.payload.shape.eye_width[0]) / expression.USUAL_EYE_WIDTH
    for rim, wanted in zip(rims, asked, strict=True):
        assert rim - rims[0] == pytest.approx(gain * wanted, abs=0.01)


def test_far_gaze_ends_where_eyes_end(bridge):
    image, face = drawn_face()
    bridge.rows = None
    shape = LandmarkRenderer(bridge).prepare(image, face).payload.shape
    turned = expression.gaze(torch.stack([gaze(a) for a in (0.02, 0.06, 0.12, 1.0)]), shape)[:, 0, 0]
    width = float(shape.eye_width[0])
    near = expression.GAZE_GAIN[0] * width / expression.USUAL_EYE_WIDTH
    assert turned[0] == pytest.approx(0.02 * near, abs=1e-5)
    assert bool((turned[1:] > turned[:-1]).all()) and turned[-1] <= expression.FARTHEST_GAZE * width + 1e-5


def test_a_squint_raises_the_lower_lid_and_a_blink_lowers_the_upper(bridge):
    image, face = drawn_face()
    bridge.rows = None
    shape = LandmarkRenderer(bridge).prepare(image, face).payload.shape
    moves = torch.stack([lids(0.0, -0.03), lids(-0.10, 0.0)])
    done = expression.adapt(moves, shape, expression.closure(moves, shape), close_mouth=False)
    upper, lower = done[:, topology.EYES_UPPER[0][4], 1], done[:, topology.EYES_LOWER[0][4], 1]
    assert -float(lower[0]) > 3 * abs(float(upper[0]))
    assert float(upper[1]) > 5 * abs(float(lower[1]))


def test_large_painted_eyes_are_found():
    """The mesh's circle is two thirds of the drawn one and lies beside it; where they agree nothing moves."""
    image, face = drawn_face(400, 400, 160.0)
    landmarks = face.landmarks.double().numpy()
    iris = landmarks[topology.IRISES[0][0], :2]
    y, x = np.mgrid[0:400, 0:400] + 0.5
    painted = image.numpy().copy()
    away = np.linalg.norm(np.stack([x, y], -1) - iris - [1.5, 2.0], axis=-1)
    painted[away < 0.20 * 160] = 0.95
    painted[away < 0.11 * 160] = 0.1
    centre, radius = eye_fit.fit_iris(painted, landmarks, 160.0, 0)
    assert np.linalg.norm(centre - iris - [1.5, 2.0]) < 2.0 and radius == pytest.approx(0.11 * 160, abs=1.5)
    same, kept = eye_fit.fit_iris(image.numpy(), landmarks, 160.0, 0)
    ring = landmarks[list(topology.IRISES[0][1:]), :2]
    assert np.linalg.norm(same - iris) < 2.0
    assert kept == pytest.approx(np.linalg.norm(ring - iris, axis=1).mean(), abs=2.0)


def test_skin_at_rest_is_untouched(bridge, textured):
    image, face = textured
    frames, appearance = drawn(bridge, image, face, [torch.zeros(478, 3)], wrinkles=2.0)
    assert torch.equal(frames[0], image)
    creases = appearance.payload.skin
    assert float(creases.shading.abs().max()) > 0.1
    # Beside a frame that creases, too.
    moves = torch.stack([torch.zeros(478, 3), 130.0 * knit()])
    shaded = image.permute(2, 0, 1).repeat(2, 1, 1, 1)
    creases.shade(shaded, moves, torch.zeros(2, 400, 400, 2), (0, 0), 0.0, 2.0)
    assert torch.equal(shaded[0].permute(1, 2, 0), image) and not torch.equal(shaded[0], shaded[1])


def test_knit_brows_crease_between_them_and_the_knob_doubles_it(bridge, textured):
    image, face = textured
    without, once, twice = (drawn(bridge, image, face, [knit()], wrinkles=w)[0][0] for w in (0.0, 1.0, 2.0))
    changed = (once - without).abs().mean(-1)
    x, y = (int(v) for v in face.landmarks[[8, 9], :2].mean(0))
    between = changed[y - 12:y + 13, x - 14:x + 15]
    assert between.mean() > 10 * changed[300:].mean() and between.max() > 0.05
    assert (twice - without).abs().mean() == pytest.approx(2 * float(changed.mean()), rel=0.25)
    # Hue stays: a factor on all three colours.
    taken = (without - once).amax(-1) > 0.03
    ratio = (once / without.clamp_min(1e-3))[taken]
    assert len(ratio) > 10 and (ratio.amax(-1) - ratio.amin(-1)).max() < 0.02


def test_flat_paint_and_cartoon_eyes_do_not_crease(textured):
    image, face = drawn_face(400, 400, 130.0)
    landmarks = face.landmarks.double().numpy()
    frame = HeadFrame.of(landmarks)
    assert not bool(skin.prepare(image.numpy(), landmarks, frame).shading.any())
    real = textured[0].numpy()
    large = landmarks.copy()
    for ring in topology.IRISES:
        large[list(ring), :2] = landmarks[ring[0], :2] + 1.8 * (landmarks[list(ring), :2] - landmarks[ring[0], :2])
    assert bool(skin.prepare(real, landmarks, frame).shading.any())
    assert not bool(skin.prepare(real, large, frame).shading.any())


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_light_is_found_where_it_comes_from(side):
    """A head lit from one side, drawn through its own normals."""
    _, face = drawn_face(300, 300, 100.0)
    landmarks = face.landmarks.double().numpy()
    x = np.linspace(-1, 1, 300)[None, :, None]
    lit = np.broadcast_to(0.5 + 0.3 * side * x, (300, 300, 3)).astype(np.float32)
    assert side * skin.light_direction(np.ascontiguousarray(lit), landmarks)[0] > 0.1


def test_grain_over_all_of_a_picture_is_no_skin():
    """Noise, film and canvas lie on everything; skin's texture lies on skin."""
    image, face = drawn_face(400, 400, 130.0)
    landmarks = face.landmarks.double().numpy()
    flat = image.clone()
    flat[:] = 0.6
    oval = roughened(flat, face, 0.012, 1.0)
    over_all = roughened(flat, face, 0.012, 1.0, everywhere=True)
    assert skin.texture_of(oval.numpy(), landmarks, 130.0) > skin.SKIN_TEXTURE
    assert skin.texture_of(over_all.numpy(), landmarks, 130.0) < 0.5 * skin.texture_of(oval.numpy(), landmarks, 130.0)
    weak = roughened(flat, face, 0.003, 1.0, everywhere=True)
    assert skin.texture_of(weak.numpy(), landmarks, 130.0) < skin.SMOOTH_SKIN


def test_creases_are_soft_and_follow_no_cracks_where_grain_is_coarse(textured):
    image, face = textured
    landmarks = face.landmarks.double().numpy()
    frame = HeadFrame.of(landmarks)
    rough = roughened(image, face, 0.06, 0.5).numpy()
    assert skin.roughness_of(image.numpy(), landmarks, 130.0) < 0.2
    assert skin.roughness_of(rough, landmarks, 130.0) == 1.0
    fine, soft = (skin.prepare(picture, landmarks, frame).shading[0, 0] for picture in (image.numpy(), rough))

    def steep(shading):
        across, down = torch.gradient(shading)
        return float(torch.stack([across, down]).abs().max())

    assert 0.02 < float(soft.abs().max()) < float(fine.abs().max())
    assert steep(soft) < 0.6 * steep(fine)


@pytest.mark.parametrize("up", [-0.015, 0.004, 0.03])
def test_lids_get_no_outline(bridge, up):
    """On soft lids, no darker line shows about the eye than the portrait has there, narrowed, moved or widened."""
    import cv2

    image, face = drawn_face(400, 400, 160.0)
    soft = torch.from_numpy(cv2.GaussianBlur(image.numpy(), (0, 0), 3.0))
    frames, _ = drawn(bridge, soft, face, [lids(up, 0.002)])
    landmarks = face.landmarks
    for eye in (0, 1):
        # Beside the iris: skin and white alone.
        ring = landmarks[list(geometry.IRISES[eye]), :2]
        corner = landmarks[topology.EYES_UPPER[eye][0], :2]
        radius = float((ring[1:] - ring[0]).norm(dim=-1).mean())
        x0, x1 = int(corner[0]) - 4, int(ring[0, 0] - radius - 8)
        y0, y1 = int(corner[1]) - 18, int(corner[1]) + 18
        before, after = soft[y0:y1, x0:x1].mean(-1), frames[0, y0:y1, x0:x1].mean(-1)
        assert x1 - x0 > 6 and float(after.min()) > float(before.min()) - 0.03


def test_a_lowered_lid_goes_as_far_as_asked_and_a_squint_leaves_the_upper():
    from playmate_core.face.bridge import LatentBridge as Bridge

    _, face = drawn_face(400, 400, 160.0)
    landmarks = face.landmarks.double().numpy()
    frame = HeadFrame.of(landmarks)
    shape = expression.read_shape((landmarks - landmarks[list(geometry.RIGID)].mean(0)) @ frame.rotation / frame.size,
                                  Bridge.load())
    moves = torch.stack([lids(0.0, -0.012), lids(-0.012, 0.0), lids(-0.07, -0.01)])
    shut, lower = expression._lid_shares(moves, shape)
    upper = (shut - lower) * expression.USUAL_EYE_OPENING
    assert float(upper[0].abs().max()) < 0.001 and float(lower[0].min()) > 0.1
    assert 0.007 < float(upper[1].min()) <= float(upper[1].max()) < 0.0125
    assert float(shut[2].min()) == 1.0


def test_no_light_line_opens_above_an_iris_when_lids_begin_to_widen(bridge):
    """Under a lid's shadow the eyeball goes on as dark as it was, down from the skin to the iris."""
    import cv2

    image, face = drawn_face(400, 400, 160.0)
    dark = torch.from_numpy(cv2.GaussianBlur(image.numpy(), (0, 0), 1.0)).contiguous()
    upper = face.landmarks[list(topology.EYES_UPPER[0]), :2].numpy()
    line = np.round(upper * 16 - 8).astype(np.int32)
    dark = torch.from_numpy(cv2.polylines(dark.numpy().copy(), [line], False, (0.1, 0.08, 0.08), 12, cv2.LINE_AA, 4))
    frames, _ = drawn(bridge, dark, face, [lids(0.008), lids(0.014)])
    x, y = (int(v) for v in face.landmarks[topology.IRISES[0][0], :2])
    top = int(upper[4, 1])
    for frame in frames:
        column = frame[top - 6:y, x - 2:x + 3].mean((1, 2))
        # It gets lighter towards the iris, and never darker again.
        assert float((column.cummax(0).values - column).max()) < 0.04
