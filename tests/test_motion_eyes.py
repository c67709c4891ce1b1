"""Blinks, gaze and lids: their timing, their latents, and what rendered eyes do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from playmate_core.face import geometry as geo
from playmate_core.motion.blinks import FIRST, blink_curve, find_blinks, plan_blinks
from playmate_core.motion.eyes import BLINK_MODES, EYEBALL, direct_eyes, eye_offset, read_eyes
from playmate_core.motion.gaze import GAZE_RANGE, GazeKeyframes, jumps, small_saccades
from playmate_core.motion.pose import override_pose
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError
from tests.motion_helpers import random_motion

FPS = 25.0


def still(frames):
    return torch.zeros(frames, 2)


def motion_with(closure, gaze=None):
    """A motion whose eyes do this and nothing else."""
    gaze = torch.zeros_like(closure) if gaze is None else gaze
    return replace(Motion.rest(len(closure)), expression=eye_offset(closure, gaze))


def blinking(frames, *tops):
    """[frames, 2] blinks of about a third of a second at these frames."""
    distance = (torch.arange(frames)[:, None] - torch.tensor(tops)[None]).abs().float()
    return (1 - distance.amin(1) / 5).clamp_min(0)[:, None].expand(-1, 2)


# --- when people blink

@pytest.mark.parametrize("rate", [6, 15, 40])
def test_the_rate_is_kept(rate):
    blinks = plan_blinks(1800.0, rate, seed=4)
    assert len(blinks) / 30 == pytest.approx(rate, rel=0.12)


def test_blinks_are_as_long_and_as_uneven_as_real_ones():
    blinks = plan_blinks(3600.0, 15.0, seed=1)
    lengths = [end - begin for begin, _, _, end in blinks]
    assert 0.15 <= min(lengths) and max(lengths) <= 0.40
    assert all(shut - begin < end - opens for begin, shut, opens, end in blinks), "lids fall faster than they rise"
    pauses = torch.tensor([b[0] - a[3] for a, b in zip(blinks, blinks[1:], strict=False)])
    assert float(pauses.min()) > 0
    doubles = float((pauses < 0.26).float().mean())
    assert 0.04 < doubles < 0.16
    long = pauses[pauses > 0.6].log()
    assert 0.45 < float(long.std()) < 0.8, "log-normal, neither a metronome nor all over the place"
    assert abs(float(((long - long.mean()) / long.std()).pow(3).mean())) < 0.6


def test_blinks_keep_clear_of_the_beginning_the_end_and_others():
    starts, ends = [], []
    for seed in range(200):
        blinks = plan_blinks(4.0, 30.0, seed, existing=[(1.0, 1.3), (2.5, 2.8)])
        starts += [blink[0] for blink in blinks]
        ends += [blink[3] for blink in blinks]
    assert len(starts) > 100 and min(starts) >= FIRST and max(ends) <= 4.0
    assert not any(start < other + 0.4 and end > other - 0.1
                   for start, end in zip(starts, ends, strict=True) for other in (1.0, 2.5))


def test_the_same_seed_blinks_alike_and_longer_only_adds():
    assert plan_blinks(60.0, 20.0, 7) == plan_blinks(60.0, 20.0, 7) != plan_blinks(60.0, 20.0, 8)
    short = plan_blinks(20.0, 20.0, 7)
    assert plan_blinks(60.0, 20.0, 7)[:len(short)] == short
    assert plan_blinks(60.0, 0.0) == [] and plan_blinks(0.0, 20.0) == []


@pytest.mark.parametrize("fps", [12.0, 25.0, 30.0, 60.0])
def test_no_blink_is_missed_between_two_frames(fps):
    blinks = plan_blinks(60.0, 20.0, 3)
    curve = blink_curve(blinks, round(60 * fps), fps)
    for begin, _, _, end in blinks:
        assert float(curve[int(begin * fps):math.ceil(end * fps) + 1].max()) > 0.999
    assert float(curve.min()) == 0 and float(curve.max()) <= 1


def test_blinks_are_found_but_sleep_and_squints_are_not():
    closure = blinking(100, 20, 60)
    found = find_blinks(closure, FPS)
    assert len(found) == 2 and all(a <= top < b for (a, b), top in zip(found, (20, 60), strict=True))
    asleep = torch.zeros(100, 2)
    asleep[30:80] = 1
    assert find_blinks(asleep, FPS) == []
    assert find_blinks(0.2 * closure, FPS) == [] and find_blinks(closure[:0], FPS) == []
    assert find_blinks(closure * torch.tensor([1.0, 0.0]), FPS) == [], "a wink is no blink"


@pytest.mark.parametrize("rate", [-1.0, 61.0, float("nan")])
def test_rates_that_cannot_be(rate):
    with pytest.raises(PlaymateError, match="0 to 60"):
        plan_blinks(10.0, rate)


# --- where eyes look

def test_keyframes_as_text():
    keyframes = GazeKeyframes.parse("1.5 X = 0.5; 0 x=0 y=-.25s; 3s y=1".replace("-.25s", "-.25"))
    assert keyframes.axes == {"x": ((0.0, 0.0), (1.5, 0.5)), "y": ((0.0, -0.25), (3.0, 1.0))}


@pytest.mark.parametrize("text, word", [
    ("", "holds no keyframe"), ("now x=1", '"now"'), ("-1 x=0", '"-1"'), ("1", "names neither"), ("0 z=1", '"z=1"'),
    ("0 x=1.5", "beyond -1 to 1"), ("0 x=nan", '"x=nan"'), ("0 x=0; 0 x=1", "second time"),
])
def test_keyframes_that_cannot_be_read(text, word):
    with pytest.raises(PlaymateError, match="gaze keyframes") as caught:
        GazeKeyframes.parse(text)
    assert word in str(caught.value)


def test_eyes_jump_when_the_time_comes_or_glide_there():
    keyframes = GazeKeyframes.parse("0 x=0; 2 x=0.8")
    jump, share = keyframes.sample(75, FPS)["x"]
    assert bool((share == 1).all())
    assert not jump[:51].any() and float(jump[52]) == pytest.approx(0.8 * GAZE_RANGE[0], rel=1e-5)
    glide, _ = keyframes.sample(75, FPS, "glide")["x"]
    assert float(glide[25]) == pytest.approx(0.4 * GAZE_RANGE[0], rel=1e-5)
    assert float(glide[50]) == pytest.approx(20.0, rel=1e-5)
    window, _ = keyframes.sample(25, FPS, start=2.0)["x"]
    assert torch.allclose(window, jump[50:], atol=1e-5)
    with pytest.raises(PlaymateError, match="'hop'"):
        keyframes.sample(5, FPS, "hop")


def test_an_axis_named_later_is_left_alone_before():
    curves = GazeKeyframes.parse("0 x=0.2; 1 y=0.5").sample(50, FPS)
    assert bool((curves["x"][1] == 1).all())
    assert not curves["y"][1][:26].any() and bool((curves["y"][1][27:] == 1).all())


def test_small_saccades_stay_small_and_are_jumps():
    aim = small_saccades(1500, FPS, 1.0, seed=2)
    assert not small_saccades(1500, FPS, 0.0).any()
    assert 0.5 < float(aim[:, 0].std()) < 2.5 and float(aim[:, 1].std()) < float(aim[:, 0].std())
    assert float(aim[:, 0].abs().max()) <= 4.0
    moving = (aim.diff(dim=0).abs().amax(1) > 1e-5).float().mean()
    assert 0.01 < float(moving) < 0.15, "mostly at rest"
    assert torch.equal(small_saccades(500, FPS, 1.0, seed=2), aim[:500])
    with pytest.raises(PlaymateError, match="saccades"):
        small_saccades(5, FPS, 4.0)
    assert jumps([(1.0, 3.0)], torch.tensor([0.0, 2.0])).tolist() == [3.0, 3.0]


# --- latents

def test_what_is_written_is_read_again():
    generator = torch.Generator().manual_seed(0)
    closure, gaze = torch.rand(9, 2, generator=generator), 15 * torch.randn(9, 2, generator=generator)
    found = read_eyes(eye_offset(closure, gaze))
    assert torch.allclose(found[0], closure, atol=1e-5) and torch.allclose(found[1], gaze, atol=1e-3)
    random = random_motion(9).expression_offset
    both = read_eyes(random + eye_offset(closure, gaze))
    assert torch.allclose(both[0] - read_eyes(random)[0], closure, atol=1e-4)


def test_nothing_asked_for_is_nothing_done():
    motion = random_motion(30)
    assert torch.equal(direct_eyes(motion).expression, motion.expression)
    assert len(direct_eyes(Motion.rest(0), blink_mode="add", saccades=1.0)) == 0


def test_only_the_eyes_are_touched():
    motion = random_motion(100)
    done = direct_eyes(motion, blink_mode="replace", blink_rate=30, gaze=GazeKeyframes.constant(0.5, -0.5),
                       saccades=1.0, keep_gaze=1.0, openness=0.8, seed=1)
    eyes = [11, 13, 15, 16]
    others = [k for k in range(21) if k not in eyes]
    assert torch.equal(done.expression[:, others], motion.expression[:, others])
    assert not torch.equal(done.expression[:, eyes], motion.expression[:, eyes])
    assert torch.equal(done.rotation, motion.rotation) and torch.equal(done.scale, motion.scale)


def test_blinks_do_not_stack():
    own = blinking(500, 60, 200, 330)
    motion = motion_with(own)
    counts = []
    for seed in range(8):
        added = read_eyes(direct_eyes(motion, blink_mode="add", blink_rate=30, seed=seed).expression_offset)[0]
        assert float(added.max()) < 1.001
        assert bool((added[own > 0] - own[own > 0] < 1e-4).all()), "those that are there stay as they are"
        counts.append(len(find_blinks(added, FPS)))
    assert 8 < sum(counts) / len(counts) < 13, "thirty a minute in 20 seconds, with the three that were there"
    shut = motion_with(torch.ones(200, 2))
    assert torch.allclose(direct_eyes(shut, blink_mode="add", blink_rate=60).expression, shut.expression, atol=1e-5)


def test_blinks_are_replaced_and_removed():
    motion = motion_with(0.2 + 0.8 * blinking(500, 60, 200, 330))
    none = read_eyes(direct_eyes(motion, blink_mode="replace", blink_rate=0).expression_offset)[0]
    assert float((none - 0.2).abs().max()) < 0.03
    other = read_eyes(direct_eyes(motion, blink_mode="replace", blink_rate=20, seed=5).expression_offset)[0]
    planned = plan_blinks(20.0, 20.0, 5)
    assert len(find_blinks(other, FPS)) == len(planned)
    for begin, _, _, end in planned:
        assert float(other[int(begin * FPS):math.ceil(end * FPS) + 1].min(1).values.max()) == pytest.approx(1, abs=1e-3)


def test_lids_open_by_share():
    lids = [float(read_eyes(direct_eyes(Motion.rest(1), openness=openness).expression_offset)[0].mean())
            for openness in (0.0, 0.5, 1.0, 1.3)]
    assert lids == pytest.approx([1.0, 0.5, 0.0, -0.3], abs=1e-5)


def test_gaze_is_added_or_replaced_on_the_axes_that_are_named():
    motion = motion_with(still(50), torch.tensor([8.0, 6.0]).expand(50, 2))
    target = GazeKeyframes.parse("0 x=-0.4")
    added, taken = (read_eyes(direct_eyes(motion, gaze=target, gaze_mode=mode).expression_offset)[1][-1]
                    for mode in ("add", "replace"))
    assert added.tolist() == pytest.approx([-2.0, 6.0], abs=1e-3)
    assert taken.tolist() == pytest.approx([-10.0, 6.0], abs=1e-3)


def test_eyes_turn_against_the_head_and_no_further_than_they_can():
    # Yaw above 0 turns the face to the picture's left, pitch above 0 lowers it (SPEC.md section 8).
    head = override_pose(Motion.rest(3), {"yaw": 12.0, "pitch": 8.0})
    whole = read_eyes(direct_eyes(head, keep_gaze=1.0).expression_offset)[1][0]
    assert whole.tolist() == pytest.approx([12, 8], abs=1e-3)
    half = read_eyes(direct_eyes(head, keep_gaze=0.5).expression_offset)[1][0]
    assert half.tolist() == pytest.approx([6, 4], abs=1e-3)
    far = direct_eyes(head, keep_gaze=1.0, gaze=GazeKeyframes.constant(1.0, 1.0))
    assert read_eyes(far.expression_offset)[1][0].tolist() == pytest.approx(GAZE_RANGE, abs=1e-3)


@pytest.mark.parametrize("wrong, word", [
    ({"blink_mode": "often"}, "blink mode 'often'"), ({"gaze_mode": "stare"}, "gaze mode 'stare'"),
    ({"keep_gaze": 2.0}, "keep_gaze"), ({"openness": -0.1}, "openness"), ({"openness": float("nan")}, "openness"),
    ({"gaze": GazeKeyframes.constant(), "gaze_style": "hop"}, "'hop'"), ({"saccades": -1.0}, "saccades"),
])
def test_wishes_that_cannot_be(wrong, word):
    with pytest.raises(PlaymateError, match=word):
        direct_eyes(Motion.rest(5), **wrong)
    with pytest.raises(PlaymateError, match="-1 to 1"):
        GazeKeyframes.constant(2.0)
    assert "keep" in BLINK_MODES


# --- what the face does

def test_the_bridge_draws_what_was_asked(models):
    def shape(closure, gaze):
        latents = eye_offset(torch.tensor([closure]).float().expand(1, 2), torch.tensor([gaze]).float())
        return geo.mean_face() + models.bridge.displacement(latents)[0]

    def look(face):
        """Degrees right and up by which the irises have turned."""
        shifts = [face[iris, :2] - face[[eye[0], eye[-1]], :2].mean(0)
                  for iris, eye in zip(geo.IRIS_CENTRES, geo.EYES_UPPER, strict=True)]
        return torch.rad2deg(torch.asin(torch.stack(shifts).mean(0) / EYEBALL)) * torch.tensor([1.0, -1.0])

    rest = geo.mean_face()
    assert float(geo.eye_openness(shape(1.0, (0, 0))).max()) < 0.02
    assert float((look(shape(0, (15.0, 0))) - look(rest))[0]) == pytest.approx(15, abs=3)
    assert float((look(shape(0, (-15.0, 0))) - look(rest))[0]) == pytest.approx(-15, abs=3)
    up, down = look(shape(0, (0, 15.0))) - look(rest), look(shape(0, (0, -15.0))) - look(rest)
    assert 7 < float(up[1]) < 18 and -18 < float(down[1]) < -7
    assert geo.eye_openness(shape(0, (0, 15.0))).mean() > geo.eye_openness(rest).mean()


def astronaut():
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(data.astronaut()[:256, 95:351]).float() / 255
    return image


@pytest.fixture(scope="module")
def people(models, appearance):
    """Appearances of three portraits: the sample, a photograph, and a drawn face whose landmarks are known."""
    from playmate_core.pipeline import extract_appearance
    from tests.render_helpers import drawn_face

    drawn, face = drawn_face()
    return {"sample": appearance, "drawn": models.renderer.prepare(drawn, face),
            "photograph": extract_appearance(models, astronaut())}


CLOSING = torch.tensor([0.0, 0.5, 1.0, 0.0])[:, None].expand(4, 2)


@pytest.mark.parametrize("name", ["sample", "photograph"])
def test_rendered_blinks_close(models, people, name):
    frames = torch.cat(list(models.renderer.render(people[name], motion_with(CLOSING))))
    assert torch.equal(frames[0], frames[3])
    opened = [float(geo.eye_openness(faces[0].landmarks).mean()) for faces in models.face.analyze(frames)]
    assert opened[2] < 0.45 * opened[0] and opened[2] < 0.035
    assert opened[2] < opened[1] < opened[0], "never inverted"


def test_rendered_blinks_cover_drawn_eyes(models, people):
    """The mesh is no judge of drawn eyes, but where they are and what they look like is known."""
    drawn = people["drawn"]
    frames = torch.cat(list(models.renderer.render(drawn, motion_with(CLOSING))))
    skin = torch.tensor([0.80, 0.62, 0.52])
    for ring in geo.EYES:
        left, top = drawn.face.landmarks[list(ring), :2].min(0).values.round().int().tolist()
        right, bottom = drawn.face.landmarks[list(ring), :2].max(0).values.round().int().tolist()
        eyes = frames[:, top:bottom, left:right]
        seen = ((eyes - skin).abs().amax(-1) > 0.12).float().mean((1, 2)).tolist()
        assert seen[0] > 0.4 and seen[2] < 0.35 * seen[0] and seen[2] < seen[1] < seen[0]


def test_rendered_eyes_look_and_hold_the_viewer(models, appearance):
    rest = Motion.rest(1)
    turned = override_pose(rest, {"yaw": 14.0})
    sides = [direct_eyes(rest, gaze=GazeKeyframes.constant(x)) for x in (0.7, -0.7)]
    clips = [rest, *sides, turned, direct_eyes(turned, keep_gaze=1.0)]
    frames = torch.cat([next(iter(models.renderer.render(appearance, clip))) for clip in clips])
    landmarks = torch.stack([faces[0].landmarks for faces in models.face.analyze(frames)])
    shape = geo.to_head_frame(landmarks, geo.to_head_frame(landmarks[:1], geo.mean_face())[0])
    across = torch.stack([shape[:, iris, 0] - shape[:, [eye[0], eye[-1]], 0].mean(1)
                          for iris, eye in zip(geo.IRIS_CENTRES, geo.EYES_UPPER, strict=True)]).mean(0)
    middle, right, left, along, held = across.tolist()
    assert right > middle + 0.01 and left < middle - 0.01
    assert held > along + 0.01, "the head turns to the picture's left, so the eyes go to its right"
