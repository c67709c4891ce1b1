"""A face followed through a film: cuts, other people, gaps, tremor."""

from __future__ import annotations

import math

import pytest
import torch

from playmate_core.driving import followed
from playmate_core.driving.followed import follow_film, motion_of
from playmate_core.driving.shots import CutFinder, leaps, numbered
from playmate_core.driving.steadying import runs, steady
from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.runtime.errors import PlaymateError

from .driving_helpers import actor, speech
from .portrait_films import person, scene, stranger, timed

# ---- with the networks, on films of the sample portrait


@pytest.fixture(scope="module")
def people(portrait):
    return person(portrait), stranger(portrait)


def follow(models, pictures, **more):
    return follow_film(models.face, timed(pictures), 25.0, **more)


def marks(found) -> str:
    return "".join("x" if seen else "." for seen in found.seen)


def test_a_cut_to_another_person_is_not_followed(models, people):
    one, other = people
    pictures = [scene(160, 160, (who, 8, 8)) for who in [one] * 5 + [other] * 5 + [one] * 4]
    found = follow(models, pictures)
    assert marks(found) == "xxxxx.....xxxx"
    assert found.shot.tolist() == [0] * 5 + [1] * 5 + [2] * 4
    assert torch.isfinite(found.landmarks).all() and found.size == (160, 160)


def test_two_people_who_cross_keep_their_faces(models, people):
    one, other = people
    ways = [20 * step for step in range(13)]
    for policy in ("left", "right"):
        # Whoever is followed walks behind the other.
        order = [[(one, 10 + way, 8), (other, 270 - way, 8)] for way in ways]
        order = order if policy == "left" else [both[::-1] for both in order]
        found = follow(models, [scene(160, 420, *both) for both in order], policy=policy)
        assert found.seen[0] and found.seen[-1] and not found.seen.all() and not found.shot.any()
        nose = found.landmarks[:, 1, 0]
        start = float(nose[0])
        sign = 1 if policy == "left" else -1
        for step in found.seen.nonzero()[:, 0].tolist():
            assert float(nose[step]) == pytest.approx(start + sign * ways[step], abs=4.0), step


def test_a_face_that_leaves_and_comes_back(models, people):
    ways = [*range(0, 200, 20), *range(200, -1, -20)]
    found = follow(models, [scene(160, 300, (people[0], 100 + way, 8)) for way in ways])
    seen = marks(found).strip("x")
    assert found.seen[0] and found.seen[-1] and 3 <= len(seen) < len(ways) and "x" not in seen
    # Bridged along the way, not left where nothing was written.
    nose = found.landmarks[:, 1, 0]
    assert float(nose.min()) >= float(nose[0]) - 3 and float(nose.max()) < 300


def test_films_without_faces_without_pictures_and_of_one_picture(models, people):
    with pytest.raises(PlaymateError, match="No face was found in any of the film's 2 pictures"):
        follow(models, [torch.full((64, 64, 3), 0.5)] * 2)
    with pytest.raises(PlaymateError, match="no pictures"):
        follow(models, [])
    found = follow(models, [scene(160, 160, (people[0], 8, 8))])
    assert len(found.times) == 1 and found.seen.all()
    assert len(motion_of(found, models.bridge, 25.0)) == 1
    with pytest.raises(PlaymateError, match="change their size"):
        follow(models, [scene(160, 160, (people[0], 8, 8)), scene(80, 80)])


# ---- without pictures: faces of known motion


class Seen:
    """Stands in for FaceAnalyzer.track with faces that are known, None where there is none."""

    def __init__(self, faces, cut=()):
        self.faces, self.cut = faces, set(cut)

    def track(self, frames, policy, index, person):
        for number, (face, _) in enumerate(zip(self.faces, frames, strict=True)):
            person.look(torch.full((8, 8, 3), 0.2 + 0.5 * (sum(cut <= number for cut in self.cut) % 2)))
            if face is not None:
                person.accept(face)
            yield face


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def faces_of(bridge, count, **more):
    return [actor(bridge, torch.zeros(21, 3), **{name: value(number) for name, value in more.items()})
            for number in range(count)]


def followed_of(faces, cut=(), fps=25.0):
    blank = torch.zeros(2, 2, 3)
    return follow_film(Seen(faces, cut), [(number / fps, blank) for number in range(len(faces))], fps)


def test_gaps_are_bridged_within_a_shot_and_short_ones_are_drawn(bridge):
    faces = faces_of(bridge, 30, place=lambda number: (100.0 + 2 * number, 90.0))
    for number in (4, 5, 12, 13, 14, 15, 20, 21):
        faces[number] = None
    found = followed_of(faces, cut=(18,))
    # 4 and 5 are a blur; 12 to 15 too long; a cut before 18, so 20 and 21 are within the second shot.
    assert marks(found) == "x" * 12 + "...." + "x" * 14
    assert found.shot.tolist() == [0] * 18 + [1] * 12
    nose = found.landmarks[:, 1, 0]
    assert torch.allclose(nose.diff(), torch.full((29,), 2.0), atol=0.15)


def test_nothing_is_bridged_across_a_cut(bridge):
    faces = faces_of(bridge, 12, place=lambda number: (100.0 if number < 6 else 300.0, 90.0))
    faces[4] = faces[5] = faces[6] = None
    found = followed_of(faces, cut=(6,))
    assert marks(found) == "xxxx...xxxxx"
    nose = found.landmarks[:, 1, 0]
    assert torch.allclose(nose[:6], nose[0].expand(6), atol=1e-3)
    assert torch.allclose(nose[6:], nose[7].expand(6), atol=1e-3)


def test_the_films_own_motion_counts_the_films_own_pictures(bridge):
    expression = speech(bridge, 30)
    faces = [actor(bridge, one, (0.0, 10 * math.sin(0.2 * number), 0.0)) for number, one in enumerate(expression)]
    stamps = torch.linspace(0, 1, 30, dtype=torch.float64) ** 1.3  # at no steady rate
    found = follow_film(Seen(faces), zip(stamps.tolist(), [torch.zeros(2, 2, 3)] * 30, strict=True), 29.0)
    motion = motion_of(found, bridge, 29.0)
    assert len(motion) == 30
    gap, truth = bridge.lip_gap(motion.expression), bridge.lip_gap(expression)
    assert float(torch.corrcoef(torch.stack([gap, truth]))[0, 1]) > 0.99
    turned = motion.rotation[:, 1] - motion.rotation[0, 1]
    assert float((turned - 10 * torch.sin(0.2 * torch.arange(30))).abs().max()) < 1.0


def test_a_clear_picture_is_frontal_calm_and_sharp(bridge):
    faces = [actor(bridge, one, (0.0, 25.0 - 2 * number, 0.0)) for number, one in enumerate(speech(bridge, 26))]
    found = followed_of(faces)
    number = followed.clear_picture(found, bridge)
    # The head is straight at 12 and 13, where the mouth is shut.
    assert abs(number - 12.5) <= 2.5
    found.sharpness[:] = 1.0
    found.sharpness[8:18] = 0.05
    blurred = followed.clear_picture(found, bridge)
    assert not 8 <= blurred < 18


# ---- tremor


def tremor(landmarks):
    """Mean second difference, outer-eye distances."""
    bent = landmarks[2:] - 2 * landmarks[1:-1] + landmarks[:-2]
    return float(bent[..., :2].norm(dim=-1).mean() / geometry.outer_eye_distance(landmarks).mean())


def steadied(landmarks, fps=25.0):
    after = landmarks.clone()
    count = len(after)
    steady(after, torch.ones(count, dtype=torch.bool), torch.zeros(count, dtype=torch.int64), fps)
    return after


def shaken(landmarks, amount, seed=0):
    """With the mesh's tremor: the whole face's, and every landmark's."""
    generator = torch.Generator().manual_seed(seed)
    unit = float(geometry.outer_eye_distance(landmarks).mean())
    whole = torch.randn(len(landmarks), 1, 3, generator=generator)
    each = torch.randn(len(landmarks), 12, 3, generator=generator).repeat_interleave(40, 1)[:, :478]
    return landmarks + amount * unit * (whole + each)


def test_a_face_at_rest_stands_still(bridge):
    still = torch.stack([face.landmarks for face in faces_of(bridge, 60)])
    noisy = shaken(still, 0.002)
    calm = steadied(noisy)
    assert tremor(calm) < 0.3 * tremor(noisy)
    assert float((calm - still).norm(dim=-1).mean()) < float((noisy - still).norm(dim=-1).mean())


def test_lips_that_snap_shut_do_so_in_the_same_picture(bridge):
    still = torch.zeros(60, 21, 3)
    open_wide = speech(bridge, 8)[6]
    still[20:26] = open_wide
    still[40] = open_wide  # a single picture
    clean = torch.stack([actor(bridge, one).landmarks for one in still])
    calm = steadied(shaken(clean, 0.002))
    gap, truth = geometry.lip_gap(calm), geometry.lip_gap(clean)
    wide = float(truth.max() - truth.min())
    assert wide > 0.1 and float((gap - truth).abs().max()) < 0.1 * wide
    assert (gap.diff().abs() > 0.5 * wide).nonzero()[:, 0].tolist() == [19, 25, 39, 40]


def test_a_head_that_moves_is_not_held_back(bridge):
    way = [200 + (0 if number < 20 else 6 * min(number - 20, 15)) for number in range(60)]
    clean = torch.stack([face.landmarks for face in faces_of(
        bridge, 60, place=lambda number: (float(way[number]), 180.0),
        rotation=lambda number: (0.0, 0.3 * (way[number] - 200), 0.0))])
    noisy = shaken(clean, 0.002)
    calm = steadied(noisy)
    unit = float(geometry.outer_eye_distance(clean).mean())
    off = (calm - clean)[..., :2].norm(dim=-1).mean(1) / unit
    assert float(off.max()) < 0.015 and float(off.mean()) < float((noisy - clean)[..., :2].norm(dim=-1).mean() / unit)


def test_nothing_is_smoothed_across_a_cut_or_a_gap(bridge):
    seen = torch.tensor([1, 1, 1, 0, 1, 1, 1, 1], dtype=torch.bool)
    shot = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    assert runs(seen, shot) == [(0, 3), (4, 6), (6, 8)]
    places = torch.stack([face.landmarks for face in faces_of(
        bridge, 20, place=lambda number: (100.0 if number < 10 else 300.0, 90.0))])
    after = places.clone()
    steady(after, torch.ones(20, dtype=torch.bool), torch.arange(20) // 10, 25.0)
    assert torch.allclose(after, places, atol=1e-2)


# ---- cuts


def grey(value):
    return torch.full((36, 64, 3), float(value))


def found_cuts(pictures):
    finder = CutFinder()
    at_once = [number for number, picture in enumerate(pictures) if finder.may_be_cut(picture)]
    return at_once, finder.cuts()


def test_cuts_are_told_from_movement():
    calm = [grey(0.3 + 0.002 * (number % 2)) for number in range(12)]
    assert found_cuts([*calm, *[grey(0.6)] * 8]) == ([12], [12])
    ramp = torch.linspace(0, 1, 64)[None, :, None].expand(36, 64, 3)
    pan = [torch.roll(ramp, 6 * number, 1) for number in range(12)]
    assert found_cuts(pan)[1] == []
    assert found_cuts([grey(0.3)] * 3) == ([], [])
    assert found_cuts([]) == ([], [])


def test_a_face_that_leaps_within_a_picture_that_hardly_changes(bridge):
    places = torch.stack([face.landmarks for face in faces_of(
        bridge, 20, place=lambda number: (100.0 + number + (60 if number >= 9 else 0), 90.0))])
    seen = torch.ones(20, dtype=torch.bool)
    assert leaps(places, seen) == [9]
    fast = torch.stack([face.landmarks for face in faces_of(
        bridge, 20, place=lambda number: (100.0 + 40 * number, 90.0))])
    assert leaps(fast, seen) == []
    seen[8] = False
    assert leaps(places, seen) == []
    assert numbered([9, 9, 0, 40], 12).tolist() == [0] * 9 + [1] * 3
