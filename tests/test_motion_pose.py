"""Pose keyframes and overriding the head."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from playmate_core.cli.pose_option import parse_pose, read_pose
from playmate_core.motion.edits import rebase
from playmate_core.motion.files import save_motion
from playmate_core.motion.geometry import relative_rotation, slerp_degrees
from playmate_core.motion.pose import (
    POSE_AXES,
    POSE_LIMITS,
    PRESETS,
    PoseKeyframes,
    PosePreset,
    override_pose,
    parse_axes,
    pose_offsets,
)
from playmate_core.motion.types import Motion, Neutral
from playmate_core.runtime.errors import PlaymateError

TEXT = "0 yaw=0 pitch=0; 1 yaw=15; 2.5 yaw=-10 roll=5"
ANGLES = slice(0, 3)


def random_motion(frames=75, fps=25.0, seed=0, neutral=False):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    rest = Neutral(0.02 * draw(21, 3), 5 * draw(3), 0.05 * draw(3), torch.tensor([1.3])) if neutral else Neutral.rest()
    offset = Motion(0.02 * draw(frames, 21, 3), 4 * draw(frames, 3), 0.02 * draw(frames, 3),
                    1 + 0.05 * torch.rand(frames, 1, generator=generator), fps, Neutral.rest())
    return rebase(offset, rest)


# --- the text

def test_the_example_of_the_manual():
    keyframes = PoseKeyframes.parse(TEXT)
    assert keyframes.axes == {
        "pitch": ((0.0, 0.0),), "yaw": ((0.0, 0.0), (1.0, 15.0), (2.5, -10.0)), "roll": ((2.5, 5.0),),
    }
    curves = keyframes.sample(100, 25.0)
    yaw = curves["yaw"]
    assert set(curves) == {"pitch", "yaw", "roll"}
    assert yaw[0] == 0 and yaw[25] == 15 and abs(yaw[62] + 10) < 0.1 and (yaw[63:] == -10).all()
    assert (curves["roll"] == 5).all() and (curves["pitch"] == 0).all()
    assert yaw.max() <= 15 and yaw.min() >= -10
    assert (yaw[:26].diff() > 0).all() and (yaw[26:62].diff() < 0).all()


def test_two_keyframes_ease_in_and_out():
    yaw = PoseKeyframes.parse("1 yaw=0; 2 yaw=10").sample(76, 25.0)["yaw"]
    u = torch.linspace(0, 1, 26)
    assert torch.allclose(yaw[25:51], 10 * u * u * (3 - 2 * u), atol=1e-5)
    assert (yaw[:26] == 0).all() and (yaw[50:] == 10).all()


def test_a_chain_of_keyframes_does_not_stop_at_each():
    yaw = PoseKeyframes.parse("0 yaw=0; 1 yaw=10; 2 yaw=20").sample(51, 25.0)["yaw"]
    assert yaw[26] - yaw[25] > 0.3  # 10 degrees a second are 0.4 a frame


@pytest.mark.parametrize("text", [
    "0 yaw=1\n2 yaw=3", " 0s  YAW = 1 ;; 2.0s yaw=+3.0 ; ", "2 yaw=3; 0 yaw=1", "0 yaw=1;2 yaw=.3e1;",
])
def test_spellings(text):
    assert PoseKeyframes.parse(text).axes == {"yaw": ((0.0, 1.0), (2.0, 3.0))}


def test_windows_see_one_curve():
    keyframes = PoseKeyframes.parse(TEXT)
    whole = keyframes.sample(60, 25.0)["yaw"]
    assert torch.allclose(keyframes.sample(20, 25.0, start=40 / 25)["yaw"], whole[40:], atol=1e-5)


@pytest.mark.parametrize("text, piece", [
    ("", '""'), (" ; \n", "holds no keyframe"), ("yaw=5", '"yaw=5" is no time'), ("-1 yaw=5", '"-1"'),
    ("nan yaw=5", '"nan"'), ("1_0 yaw=5", '"1_0"'), ("0 yaw", '"yaw"'), ("0 yaw=", '"yaw="'),
    ("0 yaw=abc", '"yaw=abc"'),
    ("0 yaw=inf", '"yaw=inf"'), ("0 yaw=1e999", '"yaw=1e999"'), ("0 nod=5", '"nod=5"'), ("0 z=1", '"z=1"'),
    ("0 yaw=1; 2", '"2" names no axis'), ("0 yaw=1, pitch=2", '"yaw=1,"'), ("0 scale=0", '"scale=0"'),
    ("1 yaw=1; 1.0 yaw=2", '"yaw=2" sets yaw a second time'), ("0 yaw=1=2", '"yaw=1=2"'), ("x" * 500, "xxx..."),
])
def test_bad_text_is_quoted_with_a_right_example(text, piece):
    with pytest.raises(PlaymateError) as caught:
        PoseKeyframes.parse(text)
    message = str(caught.value)
    assert piece in message and TEXT in message and len(message) < 300


# --- overriding

def test_a_constant_replaces_one_axis_and_leaves_all_else_bit_for_bit():
    motion = random_motion()
    result = override_pose(motion, {"yaw": 12.5})
    assert (result.rotation[:, 1] == 12.5).all()
    assert torch.equal(result.rotation[:, [0, 2]], motion.rotation[:, [0, 2]])
    for name in ("expression", "translation", "scale"):
        assert torch.equal(getattr(result, name), getattr(motion, name))


def test_every_axis_goes_where_it_belongs():
    motion = Motion.rest(3)
    result = override_pose(motion, {"pitch": 1, "yaw": 2, "roll": 3, "x": 0.1, "y": -0.2, "scale": 1.1})
    assert torch.allclose(result.rotation[0], torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)
    assert torch.allclose(result.translation[0], torch.tensor([0.1, -0.2, 0.0]), atol=1e-5)
    assert torch.allclose(result.scale, torch.full((3, 1), 1.1), atol=1e-5)


def test_keyframes_direct_what_they_name():
    motion = random_motion()
    keyframes = PoseKeyframes.parse(TEXT + "; 0 scale=1.2 roll=1")
    result, curves = override_pose(motion, keyframes), keyframes.sample(75, 25.0)
    for column, axis in enumerate(("pitch", "yaw", "roll")):
        assert torch.equal(result.rotation[:, column], curves[axis])
    assert torch.allclose(result.scale, torch.tensor(1.2), atol=1e-5)
    assert torch.equal(result.translation, motion.translation)
    only = override_pose(motion, keyframes, axes=["yaw"])
    assert torch.equal(only.rotation[:, 0], motion.rotation[:, 0]) and torch.equal(only.rotation[:, 1], curves["yaw"])
    late = override_pose(motion, keyframes, axes=["yaw"], start=1.0)
    assert abs(late.rotation[0, 1] - 15) < 1e-5


def test_the_modes_and_the_amount():
    motion, constants = random_motion(10), {"yaw": 10.0, "scale": 1.21}
    yaw, scale = motion.rotation[:, 1], motion.scale[:, 0]
    expected = {
        ("replace", 1.0): (torch.full((10,), 10.0), torch.full((10,), 1.21)),
        ("replace", 0.5): (torch.full((10,), 5.0), torch.full((10,), 1.1)),
        ("add", 1.0): (yaw + 10, scale * 1.21),
        ("add", 0.5): (yaw + 5, scale * 1.1),
        ("mix", 0.5): ((yaw + 10) / 2, (scale * 1.21).sqrt()),
        ("mix", 1.0): (torch.full((10,), 10.0), torch.full((10,), 1.21)),
        ("mix", 0.0): (yaw, scale),
        ("add", 0.0): (yaw, scale),
    }
    for (mode, amount), (wanted_yaw, wanted_scale) in expected.items():
        result = override_pose(motion, constants, mode, amount=amount)
        assert torch.allclose(result.rotation[:, 1], wanted_yaw, atol=1e-5), (mode, amount)
        assert torch.allclose(result.scale[:, 0], wanted_scale.clamp(0.75, 1.35), atol=1e-5), (mode, amount)


def test_poses_count_from_the_neutral_frame():
    motion = random_motion(neutral=True)
    result = override_pose(motion, {"yaw": 15.0, "pitch": -5.0, "roll": 2.0, "x": 0.1, "scale": 1.2})
    relative = relative_rotation(result.rotation, motion.neutral.rotation)
    assert torch.allclose(relative, torch.tensor([-5.0, 15.0, 2.0]).expand_as(relative), atol=1e-3)
    there = motion.neutral.translation[0] + 0.1 * motion.neutral.scale
    assert torch.allclose(result.translation[:, 0], there, atol=1e-5)
    assert torch.equal(result.translation[:, 1:], motion.translation[:, 1:])
    assert torch.allclose(result.scale, motion.neutral.scale * 1.2, atol=1e-5)


def test_another_motions_pose():
    motion, other = random_motion(20, neutral=True), random_motion(40, 50.0, seed=1, neutral=True)
    result = override_pose(motion, other)
    assert len(result) == 20 and torch.equal(result.expression, motion.expression)
    assert torch.allclose(pose_offsets(result), pose_offsets(other)[::2], atol=1e-3)
    nod = override_pose(motion, other, axes=["pitch"])
    assert torch.allclose(pose_offsets(nod)[:, 0], pose_offsets(other)[::2, 0], atol=1e-3)
    assert torch.allclose(pose_offsets(nod)[:, 1:], pose_offsets(motion)[:, 1:], atol=1e-3)


def test_mixing_with_another_motion_follows_the_sphere():
    motion, other = random_motion(20), random_motion(20, seed=1)
    result = override_pose(motion, other, "mix", amount=0.4)
    assert torch.allclose(result.rotation, slerp_degrees(motion.rotation, other.rotation, torch.tensor(0.4)), atol=1e-4)


@pytest.mark.parametrize("policy, length, last", [
    ("constant", 20, 7), ("cycle", 20, 3), ("mirror", 20, 5), ("cut", 8, 7),
])
def test_a_shorter_source(policy, length, last):
    motion, other = random_motion(20), random_motion(8, seed=1)
    result = override_pose(motion, other, length=policy)
    assert len(result) == length and torch.allclose(result.rotation[-1], other.rotation[last], atol=1e-5)


# --- limits

def test_clamping_is_exact_inside_and_never_silent(caplog):
    motion = Motion.rest(4)
    with caplog.at_level(logging.WARNING, logger="playmate_core"):
        edge = override_pose(motion, {"yaw": 25.0, "pitch": -20.0})
        assert not caplog.records and edge.rotation[0].tolist() == [-20.0, 25.0, 0.0]
        result = override_pose(motion, {"yaw": -60.0, "roll": 5.0, "scale": 3.0})
    assert result.rotation[0].tolist() == [0.0, -25.0, 5.0]
    assert torch.allclose(result.scale, torch.tensor(1.35), atol=1e-5)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "yaw -60" in message and "scale 3" in message and "4 frames" in message and "roll" not in message


def test_limits_can_be_set_and_lifted():
    motion = Motion.rest(2)
    wide = override_pose(motion, {"yaw": 60.0, "pitch": 30.0}, limits={"yaw": None, "pitch": (-10.0, 10.0)})
    assert wide.rotation[0].tolist() == [10.0, 60.0, 0.0]
    assert POSE_LIMITS["yaw"] == (-25.0, 25.0) and POSE_LIMITS["pitch"] == POSE_LIMITS["roll"] == (-20.0, 20.0)


def test_axes_that_are_not_directed_are_not_clamped(caplog):
    motion = override_pose(Motion.rest(3), {"yaw": 40.0}, limits={"yaw": None})
    result = override_pose(motion, {"pitch": 5.0})
    assert (result.rotation[:, 1] == 40).all() and not caplog.records


@pytest.mark.parametrize("call", [
    lambda m: override_pose(m, {"yaw": 1.0}, "multiply"),
    lambda m: override_pose(m, {"yaw": 1.0}, amount=1.5),
    lambda m: override_pose(m, {"yaw": 1.0}, amount=float("nan")),
    lambda m: override_pose(m, {"nod": 1.0}),
    lambda m: override_pose(m, {}),
    lambda m: override_pose(m, {"yaw": float("nan")}),
    lambda m: override_pose(m, {"yaw": "5"}),
    lambda m: override_pose(m, {"scale": 0.0}),
    lambda m: override_pose(m, {"yaw": 1.0}, axes=["pitch"]),
    lambda m: override_pose(m, {"yaw": 1.0}, axes=["nod"]),
    lambda m: override_pose(m, {"yaw": 1.0}, axes=[]),
    lambda m: override_pose(m, {"yaw": 1.0}, limits={"yaw": (5.0, -5.0)}),
    lambda m: override_pose(m, {"yaw": 1.0}, limits={"nod": None}),
    lambda m: override_pose(m, random_motion(0)),
    lambda m: override_pose(m, random_motion(3), length="loop"),
])
def test_bad_arguments_are_one_sentence(call):
    with pytest.raises(PlaymateError) as caught:
        call(Motion.rest(5))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_nothing_is_changed_in_place_and_empty_motion_passes():
    motion, other = random_motion(10), random_motion(10, seed=1)
    before = [getattr(m, name).clone() for m in (motion, other) for name in ("rotation", "translation", "scale")]
    for mode in ("replace", "add", "mix"):
        override_pose(motion, other, mode, amount=0.7)
    after = [getattr(m, name) for m in (motion, other) for name in ("rotation", "translation", "scale")]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert len(override_pose(Motion.rest(0), {"yaw": 3.0})) == 0


def test_any_pose_stays_inside_the_limits():
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    angle = strategies.floats(-170, 170, width=32)

    @hypothesis.settings(max_examples=60, deadline=None)
    @hypothesis.given(
        strategies.fixed_dictionaries({}, optional={
            "pitch": angle, "yaw": angle, "roll": angle, "x": strategies.floats(-2, 2),
            "y": strategies.floats(-2, 2), "scale": strategies.floats(0.01, 10),
        }).filter(bool),
        strategies.sampled_from(["replace", "add", "mix"]), strategies.floats(0, 1), strategies.booleans(),
    )
    def check(constants, mode, amount, neutral):
        motion = random_motion(4, neutral=neutral)
        offsets = pose_offsets(override_pose(motion, constants, mode, amount=amount))
        untouched = pose_offsets(motion)
        for column, axis in enumerate(POSE_AXES):
            if axis in constants:
                low, high = POSE_LIMITS[axis]
                assert (offsets[:, column] >= low - 1e-3).all() and (offsets[:, column] <= high + 1e-3).all()
            else:
                assert torch.allclose(offsets[:, column], untouched[:, column], atol=1e-3)

    check()


def test_an_axis_named_later_eases_in_from_the_motion_s_own():
    generated = torch.full((76, 3), 2.0)
    motion = replace(Motion.rest(76), rotation=generated)
    directed = override_pose(motion, PoseKeyframes.parse("0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5"))
    assert torch.equal(directed.rotation[:, 0], generated[:, 0])  # pitch is nowhere named
    roll = directed.rotation[:, 2]
    assert torch.allclose(roll[:26], generated[:26, 2], atol=1e-5)
    assert torch.allclose(roll[63:], torch.full((13,), 5.0), atol=1e-5)
    assert bool((roll[26:63].diff() > 0).all())
    assert float(directed.rotation[25, 1]) == pytest.approx(15, rel=1e-5) and float(directed.rotation[0, 1]) == 0


# --- easing, presets, lists, modes by axis

def test_linear_and_step_easing():
    text = "0 yaw=0; 1 yaw=10; 2 yaw=-10"
    linear = PoseKeyframes.parse(text, "linear").sample(76, 25.0)["yaw"]
    assert torch.allclose(linear[:26], torch.linspace(0, 10, 26), atol=1e-5)
    assert torch.allclose(linear[25:51], torch.linspace(10, -10, 26), atol=1e-5) and (linear[50:] == -10).all()
    step = PoseKeyframes.parse(text, "step").sample(76, 25.0)["yaw"]
    assert (step[:25] == 0).all() and (step[25:50] == 10).all() and (step[50:] == -10).all()
    assert PoseKeyframes.parse("0.28 yaw=5", "linear").sample(9, 25.0)["yaw"].unique().tolist() == [5]
    jump = PoseKeyframes.parse("0 yaw=0; 0.28 yaw=5", "step").sample(9, 25.0)["yaw"]
    assert jump[6] == 0 and jump[7] == 5, "0.28 s is frame 7"
    assert torch.allclose(PoseKeyframes.parse(text, "linear").sample(20, 25.0, start=0.4)["yaw"], linear[10:30],
                          atol=1e-5)
    with pytest.raises(PlaymateError, match="easing 'bounce'"):
        PoseKeyframes.parse(text, "bounce")


def test_an_axis_named_later_enters_by_the_same_easing():
    motion = replace(Motion.rest(51), rotation=torch.full((51, 3), 2.0))
    linear = override_pose(motion, PoseKeyframes.parse("0 yaw=0; 2 roll=6", "linear")).rotation[:, 2]
    assert torch.allclose(linear, torch.linspace(2, 6, 51), atol=1e-5)
    step = override_pose(motion, PoseKeyframes.parse("0 yaw=0; 2 roll=6", "step")).rotation[:, 2]
    assert (step[:50] == 2).all() and step[50] == 6


@pytest.mark.parametrize("name", PRESETS)
def test_presets_start_at_rest_repeat_and_stay_drawable(name, caplog):
    motion = random_motion(500)
    moved = override_pose(motion, PosePreset(name))
    assert not caplog.records, "nothing had to be clamped"
    pose = pose_offsets(moved)[:, :3]
    assert pose[0].abs().max() < 1e-5 and torch.equal(moved.expression, motion.expression)
    speed = pose.diff(dim=0).abs().max() * 25
    if name == "still":
        assert not pose.any() and (moved.scale == 1).all() and not moved.translation[:, :2].any()
    else:
        assert pose.abs().max() > 5 and speed < 130
        assert pose.diff(dim=0).diff(dim=0).abs().max() * 625 < 2000, "no jerk"
    period = {"nod": 1.1, "shake": 0.9, "slow turn": 8.0, "look around": 9.0}.get(name, 1.0)
    curves = PosePreset(name).sample(50, 25.0, start=period)
    later = PosePreset(name).sample(50, 25.0, start=2 * period)
    assert all(torch.allclose(curves[axis], later[axis], atol=1e-4) for axis in curves)


def test_the_period_and_the_amount_of_a_preset():
    motion = Motion.rest(101)
    wide = override_pose(motion, PosePreset("shake", 2.0)).rotation[:, 1]
    assert torch.allclose(wide[60:100], wide[10:50], atol=1e-3), "the same again after 2 s, but for the soft start"
    half = override_pose(motion, PosePreset("shake", 2.0), amount=0.5).rotation[:, 1]
    assert torch.allclose(half, wide / 2, atol=1e-5) and wide.abs().max() > 10
    added = override_pose(random_motion(101), PosePreset("nod"), "add", axes=["pitch"])
    nod = PosePreset("nod").sample(101, 25.0)["pitch"]
    assert torch.allclose(added.rotation[:, 0], (random_motion(101).rotation[:, 0] + nod).clamp(-20, 20), atol=1e-4)
    assert nod.max() > 8 and nod.min() > -3, "a nod goes down"
    for bad in (0.0, 0.05, -1.0, float("nan")):
        with pytest.raises(PlaymateError, match="period"):
            PosePreset("nod", bad)
    with pytest.raises(PlaymateError, match="no pose preset 'jump'"):
        PosePreset("jump")


def test_lists_give_one_value_a_frame():
    motion = random_motion(6)
    values = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    result = override_pose(motion, {"yaw": values, "pitch": 3, "scale": torch.linspace(1, 1.1, 6)})
    assert result.rotation[:, 1].tolist() == values and (result.rotation[:, 0] == 3).all()
    assert torch.allclose(result.scale[:, 0], torch.linspace(1, 1.1, 6), atol=1e-5)
    assert torch.equal(result.rotation[:, 2], motion.rotation[:, 2])
    assert override_pose(motion, {"yaw": values + [99.0]}).rotation[:, 1].tolist() == values, "what is over is left"


@pytest.mark.parametrize("policy, last", [("constant", 2.0), ("cycle", 1.0), ("mirror", 2.0), ("cut", 2.0)])
def test_shorter_lists_follow_the_length_policy(policy, last):
    result = override_pose(Motion.rest(8), {"yaw": [0.0, 1.0, 2.0], "roll": 4.0}, length=policy)
    wanted = {"constant": [0, 1, 2, 2, 2, 2, 2, 2], "cycle": [0, 1, 2, 0, 1, 2, 0, 1],
              "mirror": [0, 1, 2, 1, 0, 1, 2, 1], "cut": [0, 1, 2]}[policy]
    assert result.rotation[:, 1].tolist() == wanted and (result.rotation[:, 2] == 4).all()
    window = override_pose(Motion.rest(3), {"yaw": [0.0, 1.0, 2.0]}, length="cycle", start=4 / 25)
    assert window.rotation[:, 1].tolist() == [1, 2, 0]


@pytest.mark.parametrize("value, piece", [
    ([], "yaw is empty"), ([1.0, float("nan")], "Value 1"), ("5", "'5'"), ([1.0, "x"], "list of them"), (None, "None"),
    ({"a": 1}, "list of them"),
])
def test_bad_lists_say_what_is_wrong(value, piece):
    with pytest.raises(PlaymateError, match=piece):
        override_pose(Motion.rest(3), {"yaw": value})


def test_a_scale_list_must_stay_above_zero():
    with pytest.raises(PlaymateError, match="Value 1 of the list for scale"):
        override_pose(Motion.rest(3), {"scale": [1.0, 0.0, 1.0]})


def test_each_axis_may_have_its_own_mode():
    motion = random_motion(10)
    result = override_pose(motion, {"yaw": 10.0, "pitch": 2.0, "roll": 6.0},
                           {"yaw": "replace", "pitch": "add", "roll": "mix"}, amount=0.5)
    assert torch.allclose(result.rotation[:, 1], torch.full((10,), 5.0), atol=1e-5)
    assert torch.allclose(result.rotation[:, 0], motion.rotation[:, 0] + 1, atol=1e-5)
    assert torch.allclose(result.rotation[:, 2], (motion.rotation[:, 2] + 6) / 2, atol=1e-5)
    assert torch.equal(override_pose(motion, {"yaw": 3.0}, {}).rotation[:, 1], torch.full((10,), 3.0))
    for wrong in ({"yaw": "double"}, {"nod": "add"}):
        with pytest.raises(PlaymateError):
            override_pose(motion, {"yaw": 1.0}, wrong)


def test_axes_as_text():
    axes, modes = parse_axes("Yaw, pitch = add; roll:mix", "replace")
    assert axes == ("yaw", "pitch", "roll") and modes["pitch"] == "add" and modes["roll"] == "mix"
    assert modes["yaw"] == modes["x"] == "replace"
    assert parse_axes("", "mix") == (None, dict.fromkeys(POSE_AXES, "mix"))
    assert parse_axes("pitch+yaw roll")[0] == ("pitch", "yaw", "roll")
    assert parse_axes("Ｙaw，pitch＝add\u00a0x")[0] == ("yaw", "pitch", "x")
    for text, piece in (("nod", "'nod'"), ("yaw=double", "'double'"), ("yaw=", "''")):
        with pytest.raises(PlaymateError, match=piece):
            parse_axes(text)


# --- animate --pose

def test_the_pose_option_reads_text_presets_and_files(tmp_path):
    assert parse_pose(TEXT) == PoseKeyframes.parse(TEXT)
    assert parse_pose("0 yaw=1; 1 yaw=2", "step").easing == "step"
    assert parse_pose("Slow turn") == PosePreset("slow turn") and parse_pose("nod 0.8") == PosePreset("nod", 0.8)
    (tmp_path / "pose.txt").write_text(TEXT + "\n")
    assert parse_pose(str(tmp_path / "pose.txt")) == PoseKeyframes.parse(TEXT)
    motion = random_motion(9)
    save_motion(motion, tmp_path / "pose.safetensors")
    request = parse_pose(str(tmp_path / "pose.safetensors"))
    assert torch.equal(read_pose(request, None, None).rotation, motion.rotation)
    assert read_pose(parse_pose("nod"), None, None) == PosePreset("nod")
    for text, piece in (("missing.mp4", "no file missing.mp4"), ("nod fast", "'fast'"), ("nodding", "nodding")):
        with pytest.raises(PlaymateError, match=piece):
            parse_pose(text)
