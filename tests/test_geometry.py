"""Index sets, measures and frames of the 478 landmarks."""

from __future__ import annotations

import pytest
import torch

from playmate_core.face import geometry as geo
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.runtime.errors import PlaymateError

RINGS = [geo.LIPS_OUTER, geo.LIPS_INNER, *geo.EYES, *geo.BROWS, geo.OVAL]


def posed(shape, degrees, scale=150.0, shift=(400.0, 300.0, 20.0)):
    """``shape`` turned as LivePortrait's R says, in pixels."""
    return scale * shape @ rotation_matrix(torch.tensor(degrees)) + torch.tensor(shift)


def crossings(polygon):
    """Number of pairs of edges of a closed polygon [N, 2] that cross."""
    a, b = polygon, polygon.roll(-1, 0)

    def side(p, q, r):
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    count = 0
    for i in range(len(polygon)):
        for j in range(i + 2, len(polygon) - (i == 0)):
            count += (side(a[i], b[i], a[j]) * side(a[i], b[i], b[j]) < 0
                      and side(a[j], b[j], a[i]) * side(a[j], b[j], b[i]) < 0)
    return count


@pytest.mark.parametrize("ring", RINGS, ids=range(len(RINGS)))
def test_rings_run_around(ring):
    assert len(set(ring)) == len(ring)
    face = geo.mean_face()
    if ring is geo.LIPS_INNER:  # shut in the mean face: open it to see the order
        face[[b for _, b in geo.INNER_LIP_PAIRS], 1] += 0.05
    assert crossings(face[list(ring), :2].double()) == 0


def test_rings_mirror_onto_themselves():
    index = geo.mirror_index()
    for ring in (geo.LIPS_OUTER, geo.LIPS_INNER, geo.OVAL):
        assert {int(index[i]) for i in ring} == set(ring)
    for right, left in (geo.EYES, geo.BROWS, geo.IRISES, geo.EYES_UPPER, geo.EYES_LOWER):
        assert {int(index[i]) for i in right} == set(left)
    assert int(index[33]) == 263 and int(index[61]) == 291 and int(index[13]) == 13
    assert torch.equal(index[index], torch.arange(geo.LANDMARKS))


def test_mean_face_is_frontal_at_rest_and_symmetric():
    face = geo.mean_face()
    assert torch.allclose(geo.outer_eye_distance(face), torch.tensor(1.0), atol=1e-5)
    assert torch.allclose(face[list(geo.RIGID)].mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(geo.mirror(face), face, atol=1e-5)
    assert geo.lip_gap(face) < 0.02 and 0.4 < geo.lip_width(face) < 0.7
    assert (geo.eye_openness(face) > 0.06).all()
    assert face[33, 0] < 0 < face[152, 1] and face[1, 2] < face[234, 2]  # right eye left, chin down, nose towards us


def test_measures_count_in_eye_distances():
    face = geo.mean_face()
    wide = face.clone()
    wide[14, 1] += 0.2
    wide[291, 0] += 0.1
    assert float(geo.lip_gap(wide * 37.0) - geo.lip_gap(face)) == pytest.approx(0.2, abs=0.01)
    assert float(geo.lip_width(wide * 37.0) - geo.lip_width(face)) == pytest.approx(0.1, abs=0.01)
    assert float(geo.lip_gap(wide[:, :2])) == pytest.approx(float(geo.lip_gap(wide)), rel=0.05)


def test_eye_openness_tells_the_eyes_apart():
    face = geo.mean_face()
    for upper, lower in geo.EYELID_PAIRS[0]:
        face[upper] = face[lower]
    right, left = geo.eye_openness(face[None])[0]
    assert right < 1e-4 and left > 0.06


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (12.0, 0.0, 0.0), (0.0, -25.0, 0.0), (5.0, 18.0, -20.0)])
def test_head_pose_in_liveportraits_signs(degrees):
    found = geo.head_pose(posed(geo.mean_face(), degrees))
    assert torch.allclose(found, torch.tensor(degrees), atol=0.5)


def test_head_pose_ignores_a_talking_mouth_and_a_broken_point():
    face = posed(geo.mean_face(), (3.0, 10.0, 2.0))
    face[list(geo.LIPS)] += torch.tensor([0.0, 40.0, 0.0])
    clean = geo.head_pose(face)
    face[4] += 60.0
    assert (geo.head_pose(face) - clean).abs().max() < 1.5


def test_head_frame_takes_the_pose_out_and_leaves_the_expression():
    face = geo.mean_face()
    talking = face.clone()
    talking[list(geo.LIPS), 1] += 0.1
    clip = torch.stack([posed(face, (0.0, 0.0, 0.0)), posed(talking, (8.0, -15.0, 5.0), 90.0, (0.0, 5.0, 1.0))])
    framed = geo.to_head_frame(clip, face)
    assert torch.allclose(framed[0], face, atol=1e-4)
    assert torch.allclose(framed[1], talking, atol=1e-4)


def test_head_frame_without_reference_uses_the_clips_own_median():
    torch.manual_seed(0)
    person = geo.mean_face() * torch.tensor([1.0, 1.15, 0.9])
    clip = torch.stack([posed(person, (float(i) - 3, 2.0 * i, -float(i)), 80.0 + i) for i in range(7)])
    framed = geo.to_head_frame(clip)
    assert (framed - framed[0]).abs().max() < 2e-3
    assert float(geo.outer_eye_distance(framed[3])) == pytest.approx(1.0, abs=0.01)


def test_head_frame_keeps_lost_frames_lost():
    clip = posed(geo.mean_face(), (1.0, 2.0, 3.0)).expand(3, -1, -1).clone()
    clip[1] = float("nan")
    for reference in (None, geo.mean_face()):
        framed = geo.to_head_frame(clip, reference)
        assert framed[1].isnan().all() and framed[[0, 2]].isfinite().all()
    assert geo.to_head_frame(torch.full_like(clip, float("nan"))).isnan().all()


def test_robust_similarity_finds_an_outlier():
    source = geo.mean_face()[None, list(geo.RIGID)]
    target = 2.0 * source[0].clone()
    target[3] += 1.0
    plain, _, _ = geo.similarity(source, target)
    robust, rotation, _ = geo.similarity(source, target, rounds=6)
    assert abs(float(robust) - 2.0) < 0.3 * abs(float(plain) - 2.0)
    assert torch.linalg.det(rotation) > 0


def test_identity_does_not_change_with_pose_or_size():
    torch.manual_seed(1)
    person = geo.mean_face() * torch.tensor([1.05, 1.12, 0.95])
    front = geo.identity_feature(posed(person, (0.0, 0.0, 0.0)))
    turned = geo.identity_feature(posed(person, (10.0, -20.0, 8.0), 310.0))
    assert front.shape == (63,) and front.abs().max() > 0.03
    assert torch.allclose(front, turned, atol=1e-4)
    assert geo.identity_feature(posed(geo.mean_face(), (5.0, 5.0, 5.0))).abs().max() < 1e-4


@pytest.mark.parametrize("function", [geo.to_head_frame, geo.head_pose, geo.identity_feature])
def test_other_shapes_are_refused(function):
    with pytest.raises(PlaymateError, match="478"):
        function(torch.zeros(1, 468, 3))


def test_real_speakers_are_in_range(shared):
    from safetensors.torch import load_file

    track = load_file(str(shared / "data" / "talking_tracks" / "retalking_3.safetensors"))["landmarks"].float()
    framed = geo.to_head_frame(track)
    gap = geo.lip_gap(framed)
    assert gap.min() < 0.02 and 0.1 < gap.max() < 0.5
    assert geo.head_pose(track).abs().max() < 30
    rigid = framed[:, list(geo.RIGID)]
    assert float((rigid - rigid.median(0).values).norm(dim=-1).median()) < 0.02
