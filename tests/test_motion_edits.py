"""Cutting, joining, blending, retiming and smoothing motion."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from playmate_core.motion import edits
from playmate_core.motion.curves import monotone_cubic
from playmate_core.motion.geometry import relative_rotation, rotation_matrix
from playmate_core.motion.resampling import joined, resampled
from playmate_core.motion.smoothing import gaussian_smooth, kalman_smooth
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError

from .motion_helpers import FIELDS, random_motion


def same(a, b):
    return a.fps == b.fps and all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def offsets(motion):
    """Everything that moves, counted from the neutral frame."""
    n = motion.neutral
    return torch.cat([
        motion.expression_offset.flatten(1), relative_rotation(motion.rotation, n.rotation),
        motion.translation - n.translation, motion.scale / n.scale,
    ], dim=1)


def test_regions_partition_the_face():
    total = sum(edits.region_masks().values())
    assert torch.equal(total, torch.ones(21, 3))
    assert set(edits.REGIONS) == {"mouth", "eyes", "brows", "rest", "pose"}


# --- slices and lengths

def test_slices_by_frames_and_seconds():
    motion = random_motion(50)
    part = edits.slice_frames(motion, 10, 20)
    assert len(part) == 10 and torch.equal(part.expression, motion.expression[10:20])
    assert torch.equal(part.neutral.rotation, motion.neutral.rotation)
    assert same(edits.slice_seconds(motion, 0.4, 0.8), part)
    assert len(edits.slice_frames(motion, 45, 99)) == 5 and len(edits.slice_frames(motion, 50)) == 0
    assert same(edits.slice_seconds(motion), motion)


@pytest.mark.parametrize("start, stop", [(-1, 3), (4, 2), (11, None)])
def test_impossible_slices_are_refused(start, stop):
    with pytest.raises(PlaymateError, match="10 frames"):
        edits.slice_frames(random_motion(10), start, stop)


@pytest.mark.parametrize("policy, expected", [
    ("constant", [0, 1, 2, 2, 2, 2, 2, 2]), ("cycle", [0, 1, 2, 0, 1, 2, 0, 1]),
    ("mirror", [0, 1, 2, 1, 0, 1, 2, 1]), ("cut", [0, 1, 2]),
])
def test_length_policies(policy, expected):
    motion = random_motion(3)
    assert torch.equal(edits.fit_length(motion, 8, policy).rotation, motion.rotation[expected])
    assert same(edits.fit_length(motion, 2, policy), edits.slice_frames(motion, 0, 2))


def test_lengths_at_the_edge():
    assert len(edits.fit_length(random_motion(1), 5, "mirror")) == 5
    assert len(edits.fit_length(random_motion(0), 0)) == 0 and len(edits.fit_length(random_motion(0), 3, "cut")) == 0
    with pytest.raises(PlaymateError, match="without frames"):
        edits.fit_length(random_motion(0), 3)
    with pytest.raises(PlaymateError, match="policy"):
        edits.fit_length(random_motion(3), 3, "loop")


# --- neutral frames

def test_rebase_keeps_the_movement_and_can_be_undone():
    motion, other = random_motion(), random_motion(seed=1).neutral
    moved = edits.rebase(motion, other)
    assert torch.allclose(offsets(moved), offsets(motion), atol=1e-5)
    assert torch.equal(moved.neutral.rotation, other.rotation)
    back = edits.rebase(moved, motion.neutral)
    assert all(torch.allclose(getattr(back, name), getattr(motion, name), atol=1e-5) for name in FIELDS)
    assert same(edits.rebase(motion, motion.neutral), motion)


def test_rebase_of_the_neutral_frame_is_the_new_neutral_frame():
    motion, other = random_motion(), random_motion(seed=1).neutral
    lead = edits.with_neutral_lead(motion)
    assert len(lead) == len(motion) + 1
    first = edits.rebase(lead, other)
    for name in FIELDS:
        assert torch.allclose(getattr(first, name)[0], getattr(other, name), atol=1e-5)


# --- concatenation

def test_concatenation_joins_what_moves():
    a, b = random_motion(10), random_motion(8, seed=1)
    joined = edits.concatenate([a, b])
    assert len(joined) == 18 and torch.equal(joined.neutral.expression, a.neutral.expression)
    assert same(edits.slice_frames(joined, 0, 10), a)
    assert torch.allclose(offsets(edits.slice_frames(joined, 10)), offsets(b), atol=1e-5)
    assert same(edits.concatenate([a]), a)


def test_cross_fade_is_between_and_leaves_the_rest_alone():
    a, b = random_motion(10, neutral=False), random_motion(8, seed=1, neutral=False)
    joined = edits.concatenate([a, b], crossfade=4)
    assert len(joined) == 14
    assert same(edits.slice_frames(joined, 0, 6), edits.slice_frames(a, 0, 6))
    assert same(edits.slice_frames(joined, 10), edits.slice_frames(b, 4))
    low, high = torch.minimum(a.expression[6:], b.expression[:4]), torch.maximum(a.expression[6:], b.expression[:4])
    fade = joined.expression[6:10]
    assert ((fade > low) & (fade < high)).all()
    share = ((fade - a.expression[6:]) / (b.expression[:4] - a.expression[6:])).flatten(1).mean(1)
    assert (share.diff() > 0).all() and share[0] > 0 and share[-1] < 1
    assert torch.allclose(share + share.flip(0), torch.ones(4), atol=1e-4)


def test_cross_fade_turns_on_the_sphere():
    a, b = Motion.rest(4), Motion.rest(4)
    a = dataclasses.replace(a, rotation=torch.tensor([[0.0, 0.0, 170.0]]).expand(4, 3).clone())
    b = dataclasses.replace(b, rotation=torch.tensor([[0.0, 0.0, -170.0]]).expand(4, 3).clone())
    middle = edits.concatenate([a, b], crossfade=3).rotation[2, 2]
    assert abs(abs(middle) - 180) < 1e-3


def test_three_motions_at_different_rates():
    motions = [random_motion(25), random_motion(60, 60.0, 1), random_motion(15, 30.0, 2)]
    joined = edits.concatenate(motions, crossfade=5)
    assert joined.fps == 25 and len(joined) == 25 + 25 + round(15 / 30 * 25) - 10


@pytest.mark.parametrize("lengths, crossfade", [([], 0), ([3], -1), ([9, 3], 4)])
def test_impossible_joins_are_refused(lengths, crossfade):
    motions = [random_motion(length) for length in lengths]
    with pytest.raises(PlaymateError):
        edits.concatenate(motions, crossfade)


# --- blending

def test_blend_takes_regions_from_the_other_motion():
    a, b = random_motion(), random_motion(seed=1)
    mixed = edits.blend(a, b, {"mouth": 1.0, "pose": 1.0})
    inside = edits.region_masks()["mouth"].bool()
    assert torch.allclose(mixed.expression_offset[:, inside], b.expression_offset[:, inside], atol=1e-5)
    assert torch.equal(mixed.expression[:, ~inside], a.expression[:, ~inside])
    assert torch.allclose(offsets(mixed)[:, 63:], offsets(b)[:, 63:], atol=1e-5)
    brows = edits.blend(a, b, {"brows": 1.0})
    assert torch.equal(brows.rotation, a.rotation) and torch.equal(brows.scale, a.scale)


def test_blend_at_its_ends_is_exact():
    a, b = random_motion(neutral=False), random_motion(seed=1, neutral=False)
    assert same(edits.blend(a, b, 0.0), a) and same(edits.blend(a, b, {}), a)
    assert same(edits.blend(a, b, 1.0), b)
    half = edits.blend(a, b, {"eyes": 0.5, "pose": 0.5})
    assert torch.allclose(half.expression[:, 11], (a.expression[:, 11] + b.expression[:, 11]) / 2, atol=1e-5)
    assert torch.allclose(half.translation, (a.translation + b.translation) / 2, atol=1e-5)


def test_blend_weights_may_change_over_time():
    a, b = random_motion(neutral=False), random_motion(seed=1, neutral=False)
    weight = torch.linspace(0, 1, 20)
    mixed = edits.blend(a, b, {"mouth": weight, "pose": weight})
    assert torch.equal(mixed.expression[0], a.expression[0]) and torch.equal(mixed.rotation[-1], b.rotation[-1])
    assert torch.allclose(mixed.expression[7, 20], torch.lerp(a.expression[7, 20], b.expression[7, 20],
                          weight[7]), atol=1e-5)


def test_blend_of_other_lengths_and_rates():
    a, b = random_motion(20, neutral=False), random_motion(12, 50.0, 1, neutral=False)
    assert len(edits.blend(a, b, 1.0)) == 20
    assert torch.equal(edits.blend(a, b, 1.0).rotation[-1], edits.resample(b, 25.0).rotation[-1])
    assert len(edits.blend(a, b, 1.0, "cut")) == 6
    assert len(edits.blend(b, a, torch.ones(12), "cycle")) == 12


@pytest.mark.parametrize("weights, words", [
    ({"nose": 1.0}, "nose"), ({"mouth": 1.5}, "range"), ({"mouth": float("nan")}, "range"),
    ({"pose": torch.ones(3)}, "20 frames"), (-0.1, "range"),
])
def test_blend_weights_are_checked(weights, words):
    with pytest.raises(PlaymateError, match=words):
        edits.blend(random_motion(), random_motion(seed=1), weights)


# --- resampling

@pytest.mark.parametrize("frames, fps, wanted", [
    (25, 25, 60), (61, 24, 25), (100, 30000 / 1001, 25), (1, 25, 30), (7, 60, 12),
])
def test_resampling_gives_exactly_the_duration(frames, fps, wanted):
    motion = random_motion(frames, fps)
    result = edits.resample(motion, wanted)
    assert len(result) == round(motion.duration * wanted) and result.fps == wanted
    for name in FIELDS:
        assert torch.equal(getattr(result, name)[0], getattr(motion, name)[0])
        values, bounds = getattr(result, name), getattr(motion, name)
        if name != "rotation":
            assert (values <= bounds.amax(0) + 1e-5).all() and (values >= bounds.amin(0) - 1e-5).all()


def test_resampling_up_keeps_the_frames_and_down_again_returns_them():
    motion = random_motion(30, 25.0)
    up = edits.resample(motion, 100.0)
    for name in FIELDS:
        assert torch.allclose(getattr(up, name)[::4], getattr(motion, name), atol=1e-5)
    down = edits.resample(up, 25.0)
    assert all(torch.allclose(getattr(down, name), getattr(motion, name), atol=1e-5) for name in FIELDS)
    assert edits.resample(motion, 25.0) is motion
    assert len(edits.resample(random_motion(0), 60.0)) == 0


def test_resampled_rotation_turns_evenly_between_frames():
    motion = Motion.rest(2)
    motion = dataclasses.replace(motion, rotation=torch.tensor([[10.0, -40.0, 60.0], [-30.0, 50.0, -20.0]]))
    r = rotation_matrix(edits.resample(motion, 100.0).rotation.double())[:5]
    trace = (r[1:] * r[:-1]).sum((-1, -2))
    turns = torch.rad2deg(torch.arccos((trace - 1) / 2))
    assert turns.min() > 10 and (turns - turns[0]).abs().max() < 1e-3


@pytest.mark.parametrize("size", [1, 3, 20, 200])
@pytest.mark.parametrize("fps, wanted", [(25.0, 60.0), (25.0, 29.97), (30000 / 1001, 24.0), (60.0, 7.0)])
def test_pieces_resampled_as_they_come_are_the_whole(size, fps, wanted):
    motion = random_motion(73, fps)
    whole = edits.resample(motion, wanted)
    pieces = list(resampled((edits.slice_frames(motion, start, start + size) for start in range(0, 73, size)),
                            wanted, len(whole)))
    assert all(len(piece) and piece.fps == wanted for piece in pieces) and (size > 20 or len(pieces) > 1)
    for name in FIELDS:
        torch.testing.assert_close(getattr(joined(pieces), name), getattr(whole, name), atol=1e-5, rtol=1e-5)


def test_pieces_come_before_the_last_is_made_and_their_last_frame_holds():
    motion, given = random_motion(60), []

    def made():
        for start in range(0, 60, 20):
            given.append(start)
            yield edits.slice_frames(motion, start, start + 20)

    pieces = resampled(made(), 50.0, 130)
    assert len(next(pieces)) == 31 and given == [0]  # frames up to number 15, whose curve needs four more
    rest = joined(list(pieces))
    assert len(rest) == 99 and torch.equal(rest.rotation[-1], motion.rotation[-1])
    assert not list(resampled(iter(()), 50.0, 0))


@pytest.mark.parametrize("fps", [0, -5, float("nan"), float("inf")])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(PlaymateError, match="frames a second"):
        edits.resample(random_motion(), fps)
    with pytest.raises(PlaymateError, match="frames a second"):
        next(resampled(iter([random_motion()]), fps, 3))


def test_monotone_cubic_never_overshoots_and_is_smooth():
    times = torch.tensor([0.0, 1.0, 1.5, 4.0, 5.0])
    values = torch.tensor([[0.0], [1.0], [1.0], [-3.0], [-2.0]])
    fine = torch.linspace(-1, 6, 7001)
    curve = monotone_cubic(times, values, fine)[:, 0]
    assert torch.allclose(monotone_cubic(times, values, times)[:, 0], values[:, 0].double(), atol=1e-12)
    assert curve.max() <= 1 and curve.min() >= -3 and curve[0] == 0 and curve[-1] == -2
    inner = curve[1001:-1001]
    assert (inner.diff().diff().abs() < 1e-4).all()  # no kink: slopes change by less than 0.1 a unit of time
    rising = (fine > 0) & (fine < 1)
    assert (curve[rising].diff() >= 0).all()


# --- smoothing

@pytest.mark.parametrize("variance", ["3e-07", "3e-06", "0.0001"])
def test_kalman_equals_liveportrait(shared, variance):
    path = shared / "reference" / "liveportrait" / "parity_geometry.safetensors"
    if not path.is_file():
        pytest.skip("parity_geometry.safetensors is not on this machine")
    from safetensors.torch import load_file

    parity = load_file(str(path))
    result = kalman_smooth(parity["smooth.in"], float(variance))[:, 0]
    assert torch.allclose(result, parity[f"smooth.out_{variance}"], atol=1e-5, rtol=0)


def test_kalman_is_the_most_likely_path():
    # A smoothed random walk minimises (z-x)^2/r + (x_t - x_{t-1})^2/q + (x_0 - z_0)^2/1: solve that directly.
    z = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)).double()
    q, r = 0.02, 0.3
    system = torch.eye(30).double() / r
    for t in range(29):
        system[t, t] += 1 / q
        system[t + 1, t + 1] += 1 / q
        system[t, t + 1] -= 1 / q
        system[t + 1, t] -= 1 / q
    right = z / r
    system[0, 0] += 1
    right = right.clone()
    right[0] += z[0]
    assert torch.allclose(kalman_smooth(z, r, q), torch.linalg.solve(system, right), atol=1e-9)
    assert kalman_smooth(z[:0]).shape == (0, 2) and torch.allclose(kalman_smooth(z[:1]), z[:1], atol=1e-5)


def test_gaussian_keeps_lines_and_phase_and_removes_noise():
    t = torch.arange(200, dtype=torch.float64)
    line = torch.stack([0.3 * t - 5, torch.full_like(t, 2.0)], dim=1)
    assert torch.allclose(gaussian_smooth(line, 3.0), line, atol=1e-9)
    wave = torch.sin(2 * math.pi * t / 50)
    smoothed = gaussian_smooth(wave, 3.0)
    expected = math.exp(-0.5 * (2 * math.pi / 50 * 3) ** 2)  # the Gaussian's own response; no shift in time
    assert torch.allclose(smoothed[20:-20], expected * wave[20:-20], atol=2e-3)
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    assert gaussian_smooth(noise, 3.0).std() < 0.4 * noise.std()
    assert torch.isfinite(gaussian_smooth(noise[:3], 20.0)).all() and gaussian_smooth(noise[:1], 2.0) == noise[:1]


@pytest.mark.parametrize("method", ["gaussian", "kalman"])
def test_smoothing_chooses_regions_and_calms(method):
    motion = random_motion(60)
    result = edits.smooth(motion, 0.1, method, observation_variance=1e-3)
    for name in FIELDS:
        assert getattr(result, name).diff(dim=0).std() < 0.5 * getattr(motion, name).diff(dim=0).std()
    eyes = edits.smooth(motion, 0.1, method, ["eyes"])
    inside = edits.region_masks()["eyes"].bool()
    assert torch.equal(eyes.expression[:, ~inside], motion.expression[:, ~inside])
    assert not torch.equal(eyes.expression[:, inside], motion.expression[:, inside])
    assert torch.equal(eyes.rotation, motion.rotation) and torch.equal(eyes.scale, motion.scale)
    pose = edits.smooth(motion, 0.1, method, ["pose"])
    assert torch.equal(pose.expression, motion.expression) and not torch.equal(pose.rotation, motion.rotation)
    still = edits.smooth(edits.fit_length(random_motion(1), 30), 0.1, method)
    assert torch.allclose(still.rotation, still.rotation[:1].expand(30, 3), atol=1e-4)
    for frames in (0, 1):
        assert len(edits.smooth(random_motion(frames), 0.1, method)) == frames


@pytest.mark.parametrize("method", ["gaussian", "kalman"])
def test_smoothed_rotations_pass_through_180_degrees(method):
    motion = dataclasses.replace(Motion.rest(20), rotation=torch.zeros(20, 3))
    roll = torch.linspace(170, 190, 20)
    rolled = dataclasses.replace(motion, rotation=torch.stack([roll * 0, roll * 0, (roll + 180) % 360 - 180], dim=1))
    result = edits.smooth(rolled, 0.1, method, observation_variance=1e-4).rotation[:, 2] % 360
    assert (result - roll).abs().max() < 4


def test_smoothing_is_checked():
    motion = random_motion()
    assert edits.smooth(motion, 0.0) is motion
    for arguments in ({"method": "median"}, {"seconds": -1.0}, {"seconds": float("nan")}, {"regions": ["nose"]},
                      {"method": "kalman", "observation_variance": 0.0}):
        with pytest.raises(PlaymateError):
            edits.smooth(motion, **arguments)


# --- all of them

def test_nothing_is_changed_in_place():
    a, b = random_motion(20), random_motion(14, 30.0, 1)
    copies = [{name: getattr(m, name).clone() for name in FIELDS} for m in (a, b)]
    edits.blend(a, b, 0.5, "cycle")
    edits.concatenate([a, b], 3)
    edits.smooth(a)
    edits.smooth(a, method="kalman")
    edits.rebase(a, b.neutral)
    edits.resample(a, 30.0)
    for motion, copy in zip((a, b), copies, strict=True):
        assert all(torch.equal(getattr(motion, name), copy[name]) for name in FIELDS)


def test_any_length_and_rate():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        strategies.integers(0, 40), strategies.floats(1, 120), strategies.floats(1, 120), strategies.integers(0, 5),
        strategies.sampled_from(edits.LENGTH_POLICIES), strategies.integers(1, 50), strategies.integers(0, 99),
    )
    def check(frames, fps, wanted, crossfade, policy, length, seed):
        motion = random_motion(frames, fps, seed)
        result = edits.resample(motion, wanted)
        assert len(result) == round(frames / fps * wanted)
        if len(result) >= crossfade:
            assert len(edits.concatenate([result, result], crossfade)) == 2 * len(result) - crossfade
        if frames:
            fitted = edits.fit_length(motion, length, policy)
            assert len(fitted) == (min(length, frames) if policy == "cut" else length)
            assert torch.equal(fitted.rotation[0], motion.rotation[0])
            mixed = edits.blend(motion, fitted, 0.5, policy)
            assert len(mixed) == (len(fitted) if policy == "cut" and length < frames else frames)

    check()
