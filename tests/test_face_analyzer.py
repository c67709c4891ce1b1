"""Finding, reading, following and choosing faces."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from playmate_core.face.analyzer import FaceAnalyzer, select_face
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.crop import BACKDROP, Roi, as_rgb, sample
from playmate_core.face.types import Face
from playmate_core.face.views import landmark_roi, nearest, shift, tiles
from playmate_core.runtime.errors import PlaymateError

FIXTURE = Path(__file__).parent / "data" / "face_parity.safetensors"
OUTER_EYES = (33, 263)


@pytest.fixture(scope="module")
def analyzer() -> FaceAnalyzer:
    return FaceAnalyzer.load()


@pytest.fixture(scope="module")
def head() -> torch.Tensor:
    """[256, 256, 3] the astronaut's head, filling the picture as a portrait does."""
    return load_file(FIXTURE)["mesh.astronaut"].float() / 255


@pytest.fixture(scope="module")
def face(analyzer, head) -> Face:
    (found,) = analyzer.analyze(head)[0]
    return found


def eye_distance(face: Face) -> float:
    return float((face.landmarks[OUTER_EYES[0], :2] - face.landmarks[OUTER_EYES[1], :2]).norm())


def paste(*items: tuple[torch.Tensor, int, int, int], size: tuple[int, int], background: float = 0.4) -> torch.Tensor:
    """A plain picture [H, W, 3] with pictures on it, each (picture, x, y, side)."""
    canvas = torch.full((*size, 3), background)
    for picture, x, y, side in items:
        small = F.interpolate(picture.permute(2, 0, 1)[None], (side, side), mode="bilinear", antialias=True)[0]
        canvas[y:y + side, x:x + side] = small.permute(1, 2, 0)
    return canvas


def assert_same_face(found: Face, expected: Face, scale: float = 1.0, x: float = 0, y: float = 0,
                     tolerance: float = 0.03) -> None:
    """Landmarks agree but for a scale and a move, within ``tolerance`` outer-eye distances on average."""
    wanted = expected.landmarks[:, :2] * scale + torch.tensor([x, y])
    assert (found.landmarks[:, :2] - wanted).norm(dim=-1).mean() < tolerance * scale * eye_distance(expected)


def test_a_face_is_found_where_it_is(face):
    assert face.landmarks.shape == (478, 3) and face.blendshapes.shape == (len(NAMES),) and face.box.shape == (4,)
    assert face.presence > 0.9 and 0.5 < face.score <= 1
    left_iris, right_iris, nose, chin = (face.landmarks[i, :2] for i in (468, 473, 1, 152))
    assert left_iris[0] < nose[0] < right_iris[0] and left_iris[1] < nose[1] < chin[1]
    # the crop was made by the landmarks themselves, so the face lies in its middle at two thirds of its size
    middle = (face.landmarks[:468, :2].amin(0) + face.landmarks[:468, :2].amax(0)) / 2
    assert (middle - 128).abs().max() < 8
    assert 0.35 < eye_distance(face) / 256 < 0.5
    assert face.landmarks[1, 2] < face.landmarks[234, 2]  # the tip of the nose is nearer than the ear
    assert face.blendshapes[NAMES.index("mouthSmileLeft")] > 0.5


def test_nothing_needs_gradients_and_float_types_are_plain(face):
    assert not face.landmarks.requires_grad and face.landmarks.dtype == torch.float32
    assert face.to("cpu").landmarks.device.type == "cpu"


def test_landmarks_move_and_grow_with_the_picture(analyzer, head, face):
    (found,) = analyzer.analyze(paste((head, 210, 90, 200), size=(400, 600)))[0]
    assert_same_face(found, face, scale=200 / 256, x=210, y=90)
    torch.testing.assert_close(found.blendshapes, face.blendshapes, atol=0.25, rtol=0)


@pytest.mark.parametrize("side", [40, 600])
def test_small_and_large_faces(analyzer, head, face, side):
    size = (700, 900)
    (found,) = analyzer.analyze(paste((head, 60, 50, side), size=size))[0]
    assert_same_face(found, face, scale=side / 256, x=60, y=50, tolerance=0.06)


def test_the_thorough_search_finds_a_face_that_one_look_misses(analyzer, head, face):
    picture = paste((head, 1500, 900, 46), size=(1200, 1800))
    assert analyzer.analyze(picture, detector="short") == [[]]
    (found,) = analyzer.analyze(picture)[0]
    assert_same_face(found, face, scale=46 / 256, x=1500, y=900, tolerance=0.06)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_picture_lying_on_its_side(analyzer, head, face, turns):
    (found,) = analyzer.analyze(torch.rot90(head, turns))[0]
    x, y = face.landmarks[:, 0], face.landmarks[:, 1]
    wanted = torch.stack([y, 256 - x], -1) if turns == 1 else torch.stack([256 - y, x], -1)
    assert (found.landmarks[:, :2] - wanted).norm(dim=-1).mean() < 0.05 * eye_distance(face)
    # blendshapes are read from the upright face, so the smile stays one
    assert (found.blendshapes - face.blendshapes).abs().mean() < 0.03


def test_pictures_without_a_face(analyzer):
    noise = torch.rand(120, 200, 3, generator=torch.Generator().manual_seed(0))
    assert analyzer.analyze(noise) == [[]]
    assert analyzer.analyze(torch.zeros(2, 64, 300, 3)) == [[], []]
    assert analyzer.analyze(torch.ones(1, 1, 1, 3)) == [[]]
    wheel = torch.zeros(256, 256, 3)
    axis = torch.arange(256) - 127.5
    radius = (axis[:, None] ** 2 + axis ** 2).sqrt()
    wheel[(radius < 90) & (radius > 60)] = 0.8
    wheel[radius < 25] = 0.6
    assert analyzer.analyze(wheel) == [[]]


def test_batches_and_lists_of_different_sizes(analyzer, head, face):
    blank = torch.zeros_like(head)
    found = analyzer.analyze(torch.stack([head, blank, head]))
    assert [len(faces) for faces in found] == [1, 0, 1]
    torch.testing.assert_close(found[2][0].landmarks, face.landmarks, atol=0.05, rtol=0)
    assert [len(faces) for faces in analyzer.analyze([head, torch.zeros(30, 500, 3)])] == [1, 0]
    assert analyzer.analyze(torch.zeros(0, 32, 32, 3)) == []


@pytest.mark.parametrize("detector", ["short", "full"])
def test_each_detector_alone(analyzer, head, face, detector):
    picture = paste((head, 100, 100, 256), size=(456, 456))
    (found,) = analyzer.analyze(picture, detector=detector)[0]
    assert_same_face(found, face, x=100, y=100)


def test_an_unknown_detector_is_named(analyzer, head):
    with pytest.raises(PlaymateError, match="auto, short, full"):
        analyzer.analyze(head, detector="retina")


def test_several_faces_each_once(analyzer, head, face):
    places = [(head, 20, 160, 150), (head.flip(1), 200, 30, 256), (head, 480, 200, 100)]
    picture = paste(*places, size=(330, 600))
    found = analyzer.analyze(picture)[0]
    assert len(found) == 3
    middles = [float(one.landmarks[:, 0].mean()) for one in found]
    assert middles == sorted(middles)
    assert_same_face(found[0], face, scale=150 / 256, x=20, y=160)
    (largest,) = analyzer.analyze(picture, max_faces=1)[0]
    assert_same_face(largest, found[1])

    size = (330, 600)
    assert select_face(found, size) is found[1]
    assert select_face(found, size, "left") is found[0] and select_face(found, size, "right") is found[2]
    assert select_face(found, size, "index", 1) is found[1]
    mask = torch.zeros(size)
    mask[200:, 480:] = 1
    assert select_face(found, size, mask=mask) is found[2]
    assert select_face(found, size, "index", 0, mask=mask[None]) is found[2]
    with pytest.raises(PlaymateError, match="3 faces were found .* from 0 to 2"):
        select_face(found, size, "index", 3)
    with pytest.raises(PlaymateError, match="one face was found under the mask"):
        select_face(found, size, "index", 1, mask=mask)
    with pytest.raises(PlaymateError, match="does not cover any of the 3 faces"):
        select_face(found, size, mask=torch.zeros(size))


def test_a_mask_must_have_the_pictures_size(face):
    with pytest.raises(PlaymateError, match="64 x 32 pixels but the picture 256 x 256"):
        select_face([face], (256, 256), mask=torch.ones(32, 64))


def test_no_face_and_unknown_policy(face):
    with pytest.raises(PlaymateError, match="No face was found"):
        select_face([], (256, 256))
    with pytest.raises(PlaymateError, match="largest, left, right, index"):
        select_face([face], (256, 256), policy="prettiest")


# ---- video


def frames(head: torch.Tensor, count: int, missing: range = range(0)):
    """A head that drifts to the right; in the ``missing`` frames there is none."""
    for number in range(count):
        shown = [] if number in missing else [(head, 10 + 3 * number, 20, 160)]
        yield paste(*shown, size=(200, 300))


def test_tracking_follows_every_frame(analyzer, head, face):
    tracked = list(analyzer.track(frames(head, 10), batch_size=4))
    assert len(tracked) == 10
    for number, found in enumerate(tracked):
        assert_same_face(found, face, scale=160 / 256, x=10 + 3 * number, y=20, tolerance=0.04)


def test_tracking_equals_analysing_each_frame(analyzer, head):
    apart = [analyzer.analyze(frame)[0][0] for frame in frames(head, 5)]
    batches = torch.stack(list(frames(head, 5)))
    for one, other in zip(analyzer.track([batches[:2], batches[2:]]), apart, strict=True):
        assert_same_face(one, other, tolerance=0.02)


def test_tracking_loses_and_finds_again(analyzer, head):
    tracked = list(analyzer.track(frames(head, 12, missing=range(3, 6)), batch_size=4))
    assert [found is None for found in tracked] == [3 <= number < 6 for number in range(12)]
    assert [found is None for found in analyzer.track(frames(head, 4, missing=range(0, 2)))] == [True, True,
                                                                                              False, False]


def test_tracking_keeps_to_the_chosen_face(analyzer, head):
    picture = paste((head, 10, 40, 120), (head, 180, 10, 180), size=(200, 380))
    left = list(analyzer.track([picture] * 3, policy="left"))
    assert all(float(found.landmarks[:, 0].mean()) < 130 for found in left)


def test_tracking_does_not_jump_to_another_face(analyzer, head):
    """The chosen one leaves the picture for two frames, the other stays; then a lone face that comes back elsewhere."""
    other, size = (head, 230, 30, 130), (200, 380)
    film = [paste(*([(head, 10, 30, 140)] if shown else []), other, size=size) for shown in (1, 1, 0, 0, 1)]
    tracked = list(analyzer.track(film, policy="left", batch_size=2))
    assert [face is None for face in tracked] == [False, False, True, True, False]
    assert all(float(face.landmarks[:, 0].mean()) < 140 for face in tracked if face is not None)
    cut = [paste((head, x, 30, 140), size=size) for x in (10, 10, 220)]
    assert [float(face.landmarks[:, 0].mean()) > 200 for face in analyzer.track(cut, batch_size=1)] == [
        False, False, True]


def test_nearest_goes_by_place_and_size(face):
    def placed(x, scale=1.0):
        return replace(face, landmarks=face.landmarks * scale + torch.tensor([x, 0.0, 0.0]))

    assert nearest([placed(300), placed(20)], face) is not None
    beside, small = placed(60), placed(20, 0.3)
    assert nearest([small, beside], face) is beside
    assert nearest([placed(900)], face, 0.6) is None and nearest([], face) is None


def test_tracking_streams(analyzer, head):
    read = 0

    def counted():
        nonlocal read
        for frame in frames(head, 40):
            read += 1
            yield frame

    stream = analyzer.track(counted(), batch_size=2)
    next(stream)
    assert read <= 2
    stream.close()
    assert list(analyzer.track(iter([]))) == []


# ---- pictures and crops


def test_every_kind_of_picture_is_read(analyzer, head, face):
    grey = head.mean(-1, keepdim=True)
    alpha = torch.ones_like(grey)
    with_hole = torch.cat([head, alpha], -1)
    with_hole[:20, :20, 3] = 0
    broken = head.clone()
    broken[5:9, 5:9] = float("nan")
    broken[0, 0] = float("inf")
    eight_bit = (head * 255).round().to(torch.uint8)
    for picture in (grey, grey[..., 0], with_hole, broken, eight_bit, head * 1.0001 + 1e-3):
        (found,) = analyzer.analyze(picture)[0]
        assert_same_face(found, face, tolerance=0.05)


def test_as_rgb_composites_over_grey():
    picture = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.5], [1.0, 0.0, 0.0, 1.0]]])
    assert as_rgb(picture)[0].tolist() == [[BACKDROP] * 3, [0.75, 0.25, 0.25], [1, 0, 0]]
    assert as_rgb(torch.tensor([[float("nan"), float("inf"), -1.0]]))[0, :, 0].tolist() == [BACKDROP, 1, 0]


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 8, 5), (0, 8, 3), (8,), (2, 2, 2, 2, 3)])
def test_what_is_no_picture_is_refused(analyzer, shape):
    with pytest.raises(PlaymateError, match="height, width, channels"):
        analyzer.analyze(torch.zeros(shape) if len(shape) != 3 else [torch.zeros(shape)])


def test_a_crop_the_size_of_its_output_copies_pixels():
    picture = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(1))
    crop = sample(picture, Roi(x=14, y=9, size=8), 8, "zeros")
    torch.testing.assert_close(crop.permute(1, 2, 0), picture[5:13, 10:18], atol=1e-5, rtol=0)
    turned = sample(picture, Roi(x=14, y=9, size=8, angle=math.pi / 2), 8, "zeros")
    torch.testing.assert_close(turned.permute(1, 2, 0), torch.rot90(picture[5:13, 10:18], 1), atol=1e-4, rtol=0)


def test_a_reduced_crop_averages_and_the_outside_is_padded():
    checks = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[..., None].expand(-1, -1, 3)
    small = sample(checks, Roi(32, 32, 64), 16, "zeros")
    torch.testing.assert_close(small, torch.full_like(small, 0.5), atol=0.02, rtol=0)
    white = torch.ones(10, 10, 3)
    beyond = Roi(0, 5, 10)  # half of it left of the picture
    assert sample(white, beyond, 10, "zeros")[0, 5, 0] == 0 and sample(white, beyond, 10, "border").min() > 0.99
    assert sample(white, Roi(-500, -500, 4), 4, "zeros").abs().max() == 0


def test_points_go_from_crop_to_picture():
    roi = Roi(100, 50, 40, math.pi / 2)
    points = roi.to_picture(torch.tensor([[0.5, 0.5, 0.1], [1.0, 0.5, 0.0]]))
    torch.testing.assert_close(points, torch.tensor([[100, 50, 4.0], [100, 70, 0.0]]), atol=1e-4, rtol=0)


def test_unusable_squares_are_not_read(analyzer, head):
    landmarks, presence = analyzer._mesh([head] * 3, [Roi(0, 0, 0), Roi(math.nan, 0, 5), Roi(9e9, 0, 5)])
    assert landmarks.abs().max() == 0 and presence.max() == 0
    assert shift(Roi(0, 0, 0), Roi(1, 1, 1)) == 0


def test_landmark_roi_is_upright_and_fills_two_thirds(face):
    roi = landmark_roi(face.landmarks)
    assert abs(roi.angle) < 0.1 and abs(roi.size / 256 - 1) < 0.1
    angle = math.radians(40)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = torch.cat([face.landmarks[:, :2] @ turn, face.landmarks[:, 2:]], 1)
    other = landmark_roi(turned)
    assert other.angle == pytest.approx(roi.angle + angle, abs=1e-4) and other.size == pytest.approx(roi.size, rel=1e-4)


def test_tiles_cover_the_picture():
    height, width = 300, 1000
    covered = torch.zeros(height, width)
    for roi in tiles(height, width, 0.35):
        x0, y0 = max(int(roi.x - roi.size / 2), 0), max(int(roi.y - roi.size / 2), 0)
        covered[y0:int(roi.y + roi.size / 2) + 1, x0:int(roi.x + roi.size / 2) + 1] += 1
    assert covered.min() >= 1


def test_astronaut_of_skimage(analyzer):
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    (found,) = analyzer.analyze(torch.from_numpy(data.astronaut()))[0]
    iris = found.landmarks[468, :2]
    assert (iris - torch.tensor([204.5, 101.0])).norm() < 3  # her right eye, read off the picture
