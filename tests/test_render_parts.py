"""Parts of the landmark renderer, each against something that is known in advance."""

from __future__ import annotations

import itertools
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.render.landmark import edges, lips, mouth, opening, refine, teeth, topology
from playmate_core.render.landmark.grid import Grid, locate, polygon_distance, smooth
from playmate_core.render.landmark.head import HeadFrame, limit_slope
from playmate_core.render.landmark.palette import measure
from playmate_core.render.landmark.warp import CAMERA, Pose, Texture, invert, rigid, with_slopes

from .render_helpers import drawn_face


def test_topology_is_one_sheet():
    triangles = topology.triangles()
    assert triangles.shape == (898, 3) and triangles.min() == 0 and triangles.max() == 467
    pairs = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert counts.max() == 2 and (counts == 1).sum() == len(topology.OVAL)


def test_lips_mouth_and_eyes_are_apart():
    between, upper, lower = topology.mouth_pieces()
    inner = set(topology.LIPS_INNER_UPPER + topology.LIPS_INNER_LOWER)
    assert set(topology.triangles()[between].reshape(-1).tolist()) == inner
    assert between.sum() == len(inner) - 2
    assert not (between & upper).any() and not (between & lower).any() and not (upper & lower).any()
    for lip, outer in ((upper, topology.LIPS_OUTER_UPPER), (lower, topology.LIPS_OUTER_LOWER)):
        assert set(outer) <= set(topology.triangles()[lip].reshape(-1).tolist())
    for eye in (0, 1):
        ring = set(topology.EYES_UPPER[eye] + topology.EYES_LOWER[eye])
        assert set(topology.triangles()[topology.eye_piece(eye)].reshape(-1).tolist()) == ring


def test_locate_finds_the_landmarks_themselves():
    _, face = drawn_face()
    points = face.landmarks.double().numpy()
    x, y = points[1, :2]
    grid = Grid(x - 4, y - 4, 4.0, 3, 3)
    vertex, weight, covered = locate(grid, points, np.ones(898, bool))
    assert covered.all()
    assert (points[vertex, :2] * weight[..., None]).sum(1) == pytest.approx(grid.nodes(), abs=1e-5)


def test_polygon_distance():
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    assert polygon_distance(np.array([[5.0, 5], [13, 5], [13, 14], [0, -2]]), square).tolist() == [0, 3, 5, 2]


def test_smoothing_keeps_constants():
    grid = Grid(0, 0, 2.0, 9, 7)
    assert smooth(np.full((63, 2), 3.0), grid, 5.0) == pytest.approx(3.0, rel=1e-5)


def test_relief_is_nowhere_steeper_than_allowed():
    grid = Grid(0, 0, 1.0, 30, 30)
    cliff = np.where(grid.nodes()[:, 0] < 15, 0.0, 40.0)
    limited = limit_slope(cliff, grid, 1.3).reshape(30, 30)
    assert np.abs(np.diff(limited, axis=1)).max() <= 1.3 + 1e-6
    assert limited.mean() == pytest.approx(cliff.mean(), rel=0.1)
    gentle = 0.5 * grid.nodes()[:, 1]
    assert limit_slope(gentle, grid, 1.3) == pytest.approx(gentle, rel=1e-5)


def test_inverse_of_a_known_movement():
    grid = Grid(0, 0, 2.0, 60, 60)
    nodes = grid.nodes_tensor()
    wave = torch.stack([6 * torch.sin(nodes[..., 1] / 20), 8 * torch.exp(-((nodes - 60) ** 2).sum(-1) / 800)])[None]
    targets = nodes[6:-6, 6:-6]
    found = invert(with_slopes(wave, grid.step), grid, targets)
    back = found + grid.sample(wave, found).permute(0, 2, 3, 1)
    assert (back - targets).norm(dim=-1).max() < 1e-3


def test_turns_go_the_way_the_angles_say():
    pose = Pose(torch.tensor([[0.0, 0.3, 0.0]]), torch.zeros(1, 2), torch.ones(1), torch.zeros(3), 1.0)
    nose = rigid(torch.tensor([[[0.0, 0.0, -1.0]]]), pose)[0, 0]
    nearer = 1 - np.cos(0.3) / CAMERA
    assert nose.tolist() == pytest.approx([-np.sin(0.3) / nearer, 0.0], abs=1e-5)
    half = rigid(torch.tensor([[[1.0, 0.0, 0.0]]]), pose, weight=torch.tensor([0.5]))[0, 0]
    away = 1 - np.sin(0.15) / CAMERA
    assert half.tolist() == pytest.approx([np.cos(0.15) / away, 0.0], abs=1e-5)


def test_texture_is_exact_at_pixels_and_sharp_between():
    image = torch.rand(20, 24, 3, generator=torch.Generator().manual_seed(0))
    texture = Texture.of(image)
    row, column = torch.meshgrid(torch.arange(20), torch.arange(24), indexing="ij")
    centres = torch.stack([column, row], -1)[None].float() + 0.5
    assert (texture.read(centres)[0].permute(1, 2, 0) - image).abs().max() < 1e-4
    x = torch.arange(64).float()
    wave = (0.5 + 0.4 * torch.sin(x * 1.2))[None, :, None].expand(8, -1, 3)
    half = torch.stack([x[4:-4] + 1.0, torch.full((56,), 4.5)], -1)[None, None]
    truth = 0.5 + 0.4 * torch.sin((x[4:-4] + 0.5) * 1.2)
    linear = (wave[0, 4:-4, 0] + wave[0, 5:-3, 0]) / 2
    error = (Texture.of(wave).read(half)[0, 0, 0] - truth).abs().mean()
    assert error < 0.35 * (linear - truth).abs().mean()


def test_huge_textures_are_not_doubled(monkeypatch):
    from playmate_core.render.landmark import warp

    image = torch.rand(12, 10, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(warp, "LARGEST_DOUBLED", 100)
    texture = Texture.of(image, 3, 4)
    assert texture.pixels.shape == (1, 3, 12, 10)
    at = torch.tensor([[[[5.5, 9.5], [5.0, 9.5]]]])
    expected = torch.stack([image[5, 2], (image[5, 1] + image[5, 2]) / 2])
    assert texture.read(at)[0, :, 0].T == pytest.approx(expected, abs=1e-4)


def test_head_frame_of_a_turned_face():
    from playmate_core.motion.geometry import rotation_matrix

    degrees = torch.tensor([8.0, -20.0, 12.0], dtype=torch.float64)
    _, face = drawn_face(turn=tuple(degrees.tolist()))
    frame = HeadFrame.of(face.landmarks.double().numpy())
    assert frame.size == pytest.approx(60.0, rel=1e-3)
    assert frame.rotation == pytest.approx(rotation_matrix(degrees).T.numpy(), abs=0.02)


def test_lip_line_finds_the_dark_line_beside_the_mesh():
    image, face = drawn_face(size=80.0)
    landmarks = face.landmarks.double().numpy()
    pixels = image.numpy().copy()
    middle = opening.through((landmarks[list(topology.LIPS_INNER_UPPER), :2]
                           + landmarks[list(topology.LIPS_INNER_LOWER), :2]) / 2)
    import cv2

    lips = np.round(landmarks[list(geometry.LIPS_OUTER), :2] * 16 - 8).astype(np.int32)
    cv2.fillPoly(pixels, [lips], (0.7, 0.35, 0.35), cv2.LINE_AA, 4)
    line = np.round((middle + [0, 1.6]) * 16 - 8).astype(np.int32)
    cv2.polylines(pixels, [line], False, (0.2, 0.1, 0.1), 1, cv2.LINE_AA, 4)
    found = edges.lip_line(pixels, landmarks, 80.0)
    assert np.abs(found[12:-12, 1] - middle[12:-12, 1] - 1.6).max() < 1.0
    assert found[0] == pytest.approx(middle[0], rel=1e-5) and found[-1] == pytest.approx(middle[-1], rel=1e-5)


def test_a_mesh_on_its_line_is_left_alone_and_a_small_painted_mouth_is_found():
    import cv2

    image, face = drawn_face(size=80.0)
    landmarks = face.landmarks.double().numpy()
    blank = image.numpy().copy()
    cv2.fillPoly(blank, [np.round(landmarks[list(geometry.OVAL), :2]).astype(np.int32)], (0.8, 0.62, 0.52))
    corners = landmarks[[78, 308], :2]
    middle = opening.through((landmarks[list(topology.LIPS_INNER_UPPER), :2]
                           + landmarks[list(topology.LIPS_INNER_LOWER), :2]) / 2)

    def painted(line):
        picture = blank.copy()
        cv2.polylines(picture, [np.round(line * 16 - 8).astype(np.int32)], False, (0.45, 0.15, 0.15), 2, cv2.LINE_AA, 4)
        return picture

    assert refine.fit_mouth(painted(middle), landmarks, 80.0) is landmarks
    centre = corners.mean(0) + [5.0, -2.5]
    small = (middle - middle.mean(0)) * 0.6 + centre
    # Teeth in between hide half of the line: the rest is no small mouth in a corner.
    assert refine.fit_mouth(painted(middle[len(middle) // 2:]), landmarks, 80.0) is landmarks
    moved = refine.fit_mouth(painted(small), landmarks, 80.0)
    assert moved[[78, 308], :2] == pytest.approx(small[[0, -1]], abs=4.0)
    assert moved[[33, 263, 10, 152]] == pytest.approx(landmarks[[33, 263, 10, 152]], abs=0.5)


def test_a_hardly_open_mouths_edges_lie_on_the_lips():
    def gaps(open_mouth):
        image, face = drawn_face(size=80.0, open_mouth=open_mouth)
        landmarks = face.landmarks.double().numpy()
        mesh = opening.through(landmarks[list(topology.LIPS_INNER_LOWER), :2]) - opening.through(
            landmarks[list(topology.LIPS_INNER_UPPER), :2])
        upper, lower = edges.mouth_edges(image.numpy(), landmarks, 80.0, True)
        return np.linalg.norm(mesh, axis=1), np.linalg.norm(lower - upper, axis=1)

    mesh, found = gaps(0.02)
    middle = slice(len(mesh) // 4, -len(mesh) // 4)
    assert (found[middle] > mesh[middle] + 1.2 * edges.SLIVER * 80).all()
    assert found[[0, -1]] == pytest.approx(mesh[[0, -1]], abs=1e-5)


def test_a_blank_face_has_no_mouth_line():
    _, face = drawn_face()
    landmarks = face.landmarks.double().numpy()
    assert refine.mouth_line(np.full((256, 256, 3), 0.6), landmarks, 60.0) is None
    assert refine.fit_mouth(np.full((256, 256, 3), 0.6), landmarks, 60.0) is landmarks


@pytest.mark.parametrize("upper", [True, False])
def test_rows_of_teeth(upper):
    tooth, gum = np.array([0.9, 0.88, 0.8]), np.array([0.7, 0.4, 0.4])
    row = teeth.row_of_teeth(upper, 200.0, tooth, gum)
    box = teeth.UPPER_BOX if upper else teeth.LOWER_BOX
    assert row.shape == (round((box[3] - box[1]) * 200), round((box[2] - box[0]) * 200), 4)
    assert row.min() >= 0 and row.max() <= 1
    edge = row[int((0 - box[1]) * 200) + (10 if upper else -10), row.shape[1] // 2 + 6]
    crown = row[int((0 - box[1]) * 200) + (-8 if upper else 8), row.shape[1] // 2 + 6]
    assert edge[3] < 0.2 < 0.9 < crown[3]
    assert crown[:3].mean() > 0.7
    assert row[..., 3] == pytest.approx(row[:, ::-1, 3], abs=0.02)


@pytest.mark.parametrize("upper", [True, False])
def test_teeth_darken_smoothly_to_the_corners(upper):
    row = teeth.row_of_teeth(upper, 300.0, np.full(3, 0.9), np.array([0.7, 0.4, 0.4]), 0.0)
    box = teeth.UPPER_BOX if upper else teeth.LOWER_BOX
    line = row[int((-0.03 if upper else 0.03) * 300 - box[1] * 300), :, :3].mean(-1)
    at = [float(line[round((x - 0.04 - box[0]) * 300):round((x + 0.04 - box[0]) * 300)].mean())
          for x in (0.0, 0.15, 0.22, 0.29)]
    assert all(a > b for a, b in zip(at, at[1:], strict=False))
    assert 0.45 * at[0] < at[-1] < 0.85 * at[0], "darker, but seen"
    # Single teeth and no comb: what parts two of them is a faint line.
    middle = line[round((-0.15 - box[0]) * 300):round((0.15 - box[0]) * 300)]
    assert 0.5 * at[0] < middle.min() < 0.93 * at[0]


def test_an_open_mouths_edges_are_where_the_lips_begin():
    """A mesh whose ring lies inside the opening, corners included, is corrected by the picture."""
    image, face = drawn_face(320, 320, size=90.0, open_mouth=0.2)
    true = face.landmarks.double().numpy()
    off = true.copy()
    ring = sorted({*topology.LIPS_INNER_UPPER, *topology.LIPS_INNER_LOWER})
    centre = true[ring, :2].mean(0)
    off[ring, :2] = centre + (true[ring, :2] - centre) * np.array([0.94, 0.82])
    wanted = edges.mouth_edges(image.numpy(), true, 90.0, True)
    found = edges.mouth_edges(image.numpy(), off, 90.0, True)
    plain = np.stack([opening.through(off[list(curve), :2]) for curve in
                      (topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER)])
    def height(curves):
        return (curves[1] - curves[0])[32, 1]
    assert abs(height(found) - height(wanted)) < 0.4 * abs(height(plain) - height(wanted))


def test_a_mouths_fields_carry_its_ring_as_the_landmarks_go():
    image, face = drawn_face()
    landmarks = face.landmarks.double().numpy()
    upper, lower = topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER
    hole, *lips = topology.mouth_pieces()
    line = edges.mouth_edges(image.numpy(), landmarks, 60.0, False)
    built = opening.build(landmarks, 60.0, upper, lower, line, (0.30, 0.30, 0.42), 0.016, hole, lips)
    generator = np.random.default_rng(3)
    # Smooth, and steep at the lips.
    moved = np.sin(landmarks[:, :2] / 9.0 + generator.uniform(0, 6, 2)) * 3
    grid = built.grid
    shift = torch.einsum("snc,cd->sdn", built.weights, torch.from_numpy(moved.astype(np.float32))[built.columns])
    read = grid.sample(shift.reshape(2, 2, grid.rows, grid.columns), built.ring[:, None])[:, :, 0].transpose(1, 2)
    asked = np.stack([opening.through(moved[list(curve)]) for curve in (upper, lower)])
    assert (read.numpy() - asked) == pytest.approx(np.zeros_like(asked), abs=0.15)


def test_a_wide_open_mouth_is_drawn_round():
    place, length = torch.linspace(0, 1, 101), torch.tensor([[100.0]])
    roof = (1 - (2 * place - 1).abs())[None]
    tilt = 5 * place[None]

    def drawn(height, up, down):
        upper, lower = tilt - up * height * roof, tilt + down * height * roof
        return tuple(edge + more for edge, more in zip(
            (upper, lower), opening._rounding(upper, lower, length, place), strict=True)), (upper, lower)

    (upper, lower), (flat, under) = drawn(40.0, 0.4, 0.6)
    gap = (lower - upper)[0]
    assert gap[[0, -1]].numpy() == pytest.approx(np.zeros(2), abs=1e-4), "shut at its ends, however tilted"
    assert gap[7] > 0.4 * 40 > 2 * float((under - flat)[0, 7]), "no pointed corner"
    assert gap.max() == pytest.approx(40, rel=0.08) and (upper <= flat).all() and (lower >= under).all()
    (upper, lower), (flat, under) = drawn(8.0, 0.4, 0.6)
    assert torch.equal(upper, flat) and torch.equal(lower, under), "a slit is one"


def test_a_turned_head_shows_the_teeth_of_its_near_side():
    x = torch.linspace(-0.3, 0.3, 61)[None, None]
    aside, lower = mouth._arch(x, torch.tensor([[0.0, 0.0]]))
    assert aside.abs().max() < 1e-5 and not lower.any(), "from the front a row is a row"
    aside, lower = mouth._arch(x, torch.tensor([[0.4, 0.2]]))
    place = x - aside
    back = teeth.ARCH_DEPTH * (1 - (1 - (place / teeth.ARCH_WIDTH) ** 2).sqrt())
    near = x[0, 0] > -0.15
    assert (place + 0.4 * back)[0, 0, near].numpy() == pytest.approx(x[0, 0, near].numpy(), abs=0.004)
    assert aside[0, 0, -1] > 0.03 and aside[0, 0, 30] == pytest.approx(0, abs=1e-5) and (lower >= 0).all()


def test_a_stroke_is_told_from_a_dimple():
    line = np.stack([np.linspace(60, 140, 65), np.full(65, 100.0)], 1)
    y = np.arange(200)[:, None] + 0.5

    def beyond(width):
        dark = 0.5 * np.exp(-0.5 * ((y - 100) / (width * 100 / 2.355)) ** 2)
        image = np.repeat(np.repeat(0.8 - dark, 200, 1)[..., None], 3, 2)
        return float(lips._width_beyond(image, line, 100.0))

    assert beyond(0.02) < lips.DIMPLE < beyond(0.06)
    assert beyond(0.02) == pytest.approx(0.02, abs=0.01) and beyond(0.06) == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize("apart", [False, True])
def test_teeth_follow_a_grin_and_lips_that_rise_as_a_whole(apart):
    y, x = torch.meshgrid(torch.linspace(-0.4, 0.4, 161), torch.linspace(-0.4, 0.4, 161), indexing="ij")
    x, y = x[None], y[None]
    inside = SimpleNamespace(unit=100.0, edge=mouth.UPPER_EDGE, own=torch.ones(1) if apart else None)

    def lift(bend, raised):
        """How much higher teeth lie 0.25 from the middle and in it, in a mouth 0.6 wide and 0.08 high."""
        top = -0.04 - raised - bend * x ** 2
        opened = SimpleNamespace(depth=(y - top) * 100, gap=torch.where(x.abs() < 0.3, 8.0, 0.0), along=x / 0.6 + 0.5)
        out = mouth._smile(inside, opened, x, y)[0, 80]
        return float(out[80 + 50]), float(out[80])

    assert lift(0.0, 0.0) == pytest.approx((0, 0), abs=1e-5)
    assert lift(-0.4, 0.0) == pytest.approx((0, 0), abs=1e-5), "corners that hang show no other teeth"
    grin, raised = lift(0.5, 0.0), lift(0.0, 0.08)
    if apart:
        assert grin == raised == (0, 0), "the portrait's own teeth stay"
    else:
        assert grin[0] > 0.01 and grin[1] == pytest.approx(0, abs=1e-3)
        gums = (-mouth.UPPER_EDGE + 0.112) - (0.04 + 0.08 - raised[1])
        assert -0.02 < gums < 0 and raised[0] == pytest.approx(raised[1], abs=1e-3)


def test_palette_follows_the_light():
    image, face = drawn_face()
    landmarks = face.landmarks.double().numpy()
    bright, dim = measure(image.numpy(), landmarks, 60.0), measure(image.numpy() * 0.4, landmarks, 60.0)
    assert dim.teeth.mean() == pytest.approx(0.4 * bright.teeth.mean(), rel=0.4)
    assert bright.cavity.mean() < 0.35 * bright.teeth.mean()
    assert bright.teeth.max() - bright.teeth.min() < 0.25


def test_edges_of_an_opening_add_up_everywhere():
    upper = torch.tensor([[[10.0, 20], [30, 14], [50, 20]]])
    lower = torch.tensor([[[10.0, 20], [30, 30], [50, 20]]])
    pixels = Grid(0, 0, 1, 40, 60).nodes_tensor()[None] + 0.5
    along, top, bottom, down, steep, *_ = opening._frame(upper, lower, pixels, torch.zeros(3))
    assert float((bottom - top)[0, 20, 29]) == pytest.approx(16, abs=0.5)
    assert (bottom - top)[0, :, :9].abs().max() < 1e-3, "beside the opening its edges are one"
    assert float(along[0, 5, 29]) == pytest.approx(0.4875, abs=0.02)
    above = ((top - down) / steep + 0.5).clamp(0, 1)
    below = ((down - bottom) / steep + 0.5).clamp(0, 1)
    assert (above + below)[0, :, :9] == pytest.approx(torch.ones(40, 9), abs=1e-3)


def test_mesh_converter_reads_the_protobuf(tmp_path):
    from laboratory.conversions import face_mesh as tool

    floats = np.array([1, 2, 3, 0.5, 0.5], "<f4")
    mesh = b"".join(b"\x1d" + value.tobytes() for value in floats) + b"\x20\x00\x20\xac\x02\x20\x07"
    message = b"\x10\x05" + b"\x0a" + bytes([len(mesh)]) + mesh
    path = tmp_path / "model.task"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(tool.MEMBER, message)
    vertices, triangles = tool.canonical_mesh(str(path))
    assert vertices.tolist() == [[1, -2, -3]] and triangles.tolist() == [[0, 300, 7]]


@pytest.mark.parametrize("stiffness", [0.0, 0.05, 10.0])
def test_cheapest_path_is_the_cheapest_of_all(stiffness):
    cost = np.random.default_rng(3).random((6, 4))

    def price(path) -> float:
        jumps = np.abs(np.diff(path)) ** 1.5
        return float(cost[np.arange(6), list(path)].sum() + stiffness * jumps.sum())

    found = edges.cheapest_path(cost, stiffness)
    assert price(found) == pytest.approx(min(price(path) for path in itertools.product(range(4), repeat=6)))
