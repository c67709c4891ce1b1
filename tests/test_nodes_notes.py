"""Values of every kind, widgets that do nothing, and what is told on a node; without a server."""

import collections.abc
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.node_helpers import node_modules

NODES = ("pose_override", "emotion_control", "expression_edit", "eyes", "loop_motion", "retime_motion", "smooth_motion",
         "region_mask", "values")
POSE = {"mode": "replace", "source": "constant", "axes": "pitch, yaw, roll", "pitch": 0.0, "yaw": 0.0, "roll": 0.0,
        "x": 0.0, "y": 0.0, "scale": 1.0, "keyframes": "", "amount": 1.0, "length": "mirror"}
EMOTION = {"emotion": "neutral", "strength": 1.0, "start": 0.0, "end": 0.0, "fade_in": 0.5, "fade_out": 0.5,
           "schedule": ""}
SHIPPED = "0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5"


@pytest.fixture(scope="module")
def pack():
    with node_modules(*NODES) as modules:
        yield modules


@pytest.fixture
def motion(pack):
    return pack.pipeline.Motion.rest(76, 25.0)


@pytest.fixture
def turned(pack, motion):
    """A pose to take: yaw 5 throughout."""
    turned = pack.pipeline.Motion.rest(76, 25.0)
    turned.rotation[:, 1] = 5.0
    return turned


@pytest.fixture
def said(pack):
    """What a call tells on its node."""
    def run(call, *args, **given):
        del pack.server.said[:]
        result = call(*args, **given).args[0]
        return " ".join(text for text, _ in pack.server.said if text), result
    return run


@pytest.fixture
def pose(pack, motion, said):
    def run(**changes):
        return said(pack.pose_override.PoseOverride.execute, motion, **{**POSE, **changes})
    return run


# --- Pose Override uses what is there

def test_keyframes_that_are_written_count(pose):
    note, moved = pose(keyframes="0 yaw=0; 1 yaw=12")
    assert moved.rotation[25, 1] == 12 and "Source is constant, but keyframes are written, so yaw follows" in note
    note, moved = pose(keyframes="0 scale=1.2 yaw=3")
    assert moved.scale[9] == pytest.approx(1.2) and moved.rotation[9, 1] == 3, "axes at its default holds nothing back"
    note, moved = pose(keyframes="0 scale=1.2 yaw=3", axes="yaw")
    assert moved.scale[9] == 1 and "keyframes name scale, which axes leaves out" in note
    assert pose(keyframes="0 yaw=5", source="keyframes")[0] == ""


def test_what_nobody_wrote_does_not(pose):
    """Workflows of earlier versions hold the example that the widget was filled with."""
    note, moved = pose(keyframes=SHIPPED)
    assert not moved.rotation.any() and not note
    assert pose(keyframes=SHIPPED, source="keyframes")[1].rotation[25, 1] == 15


def test_a_preset_that_is_chosen_counts(pose):
    note, moved = pose(preset="nod")
    assert moved.rotation[:, 0].max() > 8 and "a preset is chosen, so" in note
    note, moved = pose(preset="nod", keyframes="0 pitch=3 yaw=7")
    assert (moved.rotation[:, 0] == 3).all() and (moved.rotation[:, 1] == 7).all()
    assert "the preset for pitch, yaw does nothing" in note.lower()


def test_a_pose_motion_that_is_connected_counts(pose, turned):
    note, moved = pose(pose_motion=turned)
    assert (moved.rotation[:, 1] == 5).all() and "pose_motion is connected, so" in note
    assert pose(pose_motion=turned, source="motion")[0] == ""


def test_numbers_that_are_set_count_before_all_else(pose):
    note, moved = pose(yaw=7.0, keyframes="0 yaw=1 roll=2")
    assert moved.rotation[3].tolist() == [0, 7, 2] and "the keyframes for yaw do nothing" in note.lower()
    assert pose(yaw=7.0)[0] == ""
    note, _ = pose(x=0.1)
    assert "x does nothing without being named in axes" in note


def test_a_source_that_was_chosen_counts_and_the_rest_is_told(pose, turned):
    note, moved = pose(source="motion", pose_motion=turned, keyframes="0 yaw=1", preset="nod", pitch=3.0, period=2.0)
    assert (moved.rotation[:, 1] == 5).all() and not moved.rotation[:, 0].any()
    for piece in ("keyframes are written, but source is motion", "pitch does nothing while source is motion",
                  "preset and period do nothing"):
        assert piece in note.replace("Keyframes", "keyframes")
    note, _ = pose(source="preset", preset="nod", easing="linear", length="cut")
    assert "easing does nothing without keyframes" in note and "length does nothing" in note
    note, _ = pose(yaw_values=[1.0, 2.0], yaw=4.0)
    assert "yaw does nothing beside a list" in note


def test_poses_beyond_what_can_be_drawn_are_told_and_arrive_in_time(pose):
    note, moved = pose(keyframes="0 yaw=0; 2 yaw=60; 3 yaw=0", source="keyframes")
    yaw = moved.rotation[:, 1]
    assert "held at the limit" in note and "yaw 60 to 25 at 2 s" in note
    assert yaw[50] == 25 and bool((yaw[:51].diff() > 0).all()), "no plateau before the keyframe"
    assert yaw[25] == pytest.approx(12.5, abs=1e-4)
    note, _ = pose(yaw_values=[40.0, 0.0])
    assert "yaw 40 to -25..25 in 38 frames" in note
    note, moved = pose(keyframes="0 yaw=50", source="keyframes", amount=0.5)
    assert not note and (moved.rotation[:, 1] == 25).all(), "half of it can be drawn"
    note, moved = pose(keyframes="0 yaw=50", source="keyframes", amount=0.5, mode="mix")
    assert note and (moved.rotation[:, 1] == 12.5).all(), "half way to what can be drawn"


def test_only_keyframes_that_are_used_are_judged(pack):
    judge = pack.pose_override.PoseOverride.validate_inputs
    assert "yaw=left" in judge(source="constant", keyframes="0 yaw=left")
    assert judge(source="constant", keyframes=SHIPPED) is True
    assert judge(source="motion", keyframes="0 yaw=left") is True


# --- others say what they do not use

def test_a_schedule_says_that_it_wins(pack, said):
    run = pack.emotion_control.EmotionControl.execute
    note, _ = said(run, **{**EMOTION, "schedule": "0 happy", "emotion": "sad", "strength": 0.5, "end": 3.0})
    assert note.startswith("emotion, strength and end do nothing while a schedule is written")
    assert said(run, **{**EMOTION, "schedule": "0 happy"})[0] == ""
    assert said(run, **{**EMOTION, "emotion": "happy", "end": 3.0, "fade_out": 0.1})[0] == ""
    note, _ = said(run, **{**EMOTION, "emotion": "happy", "combine": "replace", "second_strength": 1.0})
    assert "combine does nothing without a previous plan" in note and "second_strength does nothing" in note


def test_other_nodes_say_it_too(pack, motion, said):
    sound = {"waveform": torch.ones(1, 1, 16000), "sample_rate": 16000}
    edit = {"smile": 1.0, "eyebrow": 0.0, "blink": 0.0, "wink": 0.0, "pupil_x": 0.0, "pupil_y": 0.0, "aaa": 0.0,
            "eee": 0.0, "woo": 0.0, "apply": "whole", "start": 1.0, "end": 0.0, "fade": 0.2, "frame": 3}
    eyes = {"blink_mode": "keep", "blink_rate": 20.0, "seed": 0, "gaze_mode": "add", "gaze_x": 0.5, "gaze_y": 0.0,
            "gaze_keyframes": "0 x=0", "gaze_style": "jump", "saccades": 0.0, "keep_gaze": 0.0, "openness": 1.0}
    for run, given, pieces in (
            (pack.expression_edit.ExpressionEdit, {**edit, "motion": motion}, ("start does nothing", "frame does")),
            (pack.expression_edit.ExpressionEdit, edit, ("start and frame do nothing without a motion",)),
            (pack.eyes.Eyes, {**eyes, "motion": motion}, ("gaze_x does nothing while", "blink_rate does nothing")),
            (pack.loop_motion.LoopMotion, {"motion": motion, "seconds": 3.0, "seam": "hard", "crossfade": 1.0,
                                           "audio": sound}, ("seconds does nothing", "crossfade does nothing")),
            (pack.retime_motion.RetimeMotion, {"motion": motion, "start": 0.0, "end": 0.0, "speed": 1.0,
                                               "seconds": 0.0, "fit": "cut", "fps": 0.0}, ("fit does nothing",)),
            (pack.smooth_motion.SmoothMotion, {"motion": motion, "method": "kalman", "seconds": 0.2, "strength": 1.0,
                                               "mouth": 1.0, "eyes": 1.0, "brows": 1.0, "rest": 1.0, "pose": 1.0},
             ("seconds does nothing with kalman",))):
        note, _ = said(run.execute, **given)
        assert all(piece in note for piece in pieces), note


def test_what_was_told_goes_when_it_is_no_longer_so(pack, pose):
    assert pose(preset="nod")[0]
    del pack.server.said[:]
    pose()
    assert pack.server.said == [] or pack.server.said[-1][0] == ""
    pose(preset="nod")
    pack.pose_override.PoseOverride.execute(pack.pipeline.Motion.rest(3, 25.0), **POSE)
    assert pack.server.said[-1] == ("", "7")


# --- values

class Lazy(collections.abc.Mapping):
    def __init__(self, **content):
        self.content = content

    def __getitem__(self, key):
        if isinstance(self.content[key], Exception):
            raise self.content[key]
        return self.content[key]

    def __iter__(self):
        return iter(self.content)

    def __len__(self):
        return len(self.content)


def test_a_sound_is_what_behaves_as_one(pack):
    wave = torch.linspace(-1, 1, 8).reshape(1, 2, 4)
    for audio in (Lazy(waveform=wave, sample_rate=8000), {"waveform": wave.numpy(), "sample_rate": 8000.0},
                  type("Sound", (), {"waveform": wave, "sample_rate": torch.tensor(8000)})()):
        found, rate = pack.values.sound(audio)
        assert torch.equal(found, wave[0]) and rate == 8000 and type(rate) is int
    silent_first = torch.stack([torch.zeros(1, 4), torch.ones(1, 4)])
    assert pack.values.sound(Lazy(waveform=silent_first, sample_rate=1))[0].sum() == 4


@pytest.mark.parametrize("audio, said", [
    (None, "empty"), ("voice.wav", "empty"), ({}, "empty"), ({"waveform": torch.zeros(1, 1, 0)}, "empty"),
    (Lazy(waveform=OSError("ffmpeg: no\naudio"), sample_rate=1), r"\(ffmpeg: no audio\)"),
    (Lazy(waveform=OSError("x failed:\nbuilt with much\nno stream.\n"), sample_rate=1), "x failed: ... no stream"),
    ({"waveform": torch.ones(1, 1, 4)}, "sample rate"), ({"waveform": torch.ones(4), "sample_rate": 0}, "sample rate"),
])
def test_a_sound_that_is_none_is_told(pack, audio, said):
    with pytest.raises(ValueError, match=said) as caught:
        pack.values.sound(audio)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_pictures_that_are_none_are_told(pack):
    for image in ("portrait.png", None, torch.zeros(2, 3, 4, 5, 3), torch.zeros(1, 0, 4, 3),
                  [torch.zeros(2, 2, 3), torch.zeros(3, 2, 3)]):
        with pytest.raises(ValueError, match="image is|image has") as caught:
            pack.values.pictures(image)
        assert str(caught.value).endswith(".")
    with pytest.raises(ValueError, match="mask has shape"):
        pack.values.masks(torch.zeros(3))
    grey = torch.rand(5, 6)
    assert torch.equal(pack.values.pictures(grey), grey[None, ..., None])


@pytest.mark.parametrize("kind, value, wanted", [
    ("INT", 3.0, 3), ("INT", np.float32(3), 3), ("INT", np.int16(3), 3), ("INT", torch.tensor([3]), 3), ("INT", "3", 3),
    ("INT", True, 1), ("INT", 24.9999999, 25), ("INT", 2**63, 2**63), ("INT", np.array(7), 7), ("INT", [4.0], 4),
    ("FLOAT", 3, 3.0), ("FLOAT", np.float64(0.5), 0.5), ("FLOAT", Fraction(30000, 1001), 30000 / 1001),
    ("FLOAT", "29,97", 29.97), ("FLOAT", torch.tensor(0.25, dtype=torch.float16), 0.25), ("BOOLEAN", 1, True),
    ("BOOLEAN", np.bool_(False), False), ("BOOLEAN", "no", False), ("BOOLEAN", "Yes", True),
])
def test_numbers_of_every_kind(pack, kind, value, wanted):
    found = pack.values.plain_number(value, kind, "steps")
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize("kind, value, said", [
    ("INT", 3.5, "steps is 3.5; give a whole number"), ("INT", "many", "steps is 'many'"),
    ("FLOAT", float("nan"), "nan"), ("INT", float("inf"), "inf"), ("FLOAT", {"a": 1}, "{'a': 1}"),
    ("FLOAT", object(), "give a number"),
])
def test_what_is_no_number_is_named(pack, kind, value, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        pack.values.plain_number(value, kind, "steps")


def test_lists_of_numbers_are_left_alone(pack):
    for value in ([1.0, 2.0], torch.ones(3), np.ones(4), None):
        assert pack.values.plain_number(value, "FLOAT", "yaw_values") is value


def test_what_is_not_used_is_not_judged_either(pose, turned):
    note, _ = pose(source="motion", pose_motion=turned, keyframes="0 yaw=left", preset="nod", period=0.1)
    assert "Keyframes are written, but source is motion" in note


@pytest.mark.parametrize("given, why", [
    ({"source": "keyframes", "keyframes": "0 yaw=5", "axes": "roll"}, "keyframes name yaw, which axes leaves out"),
    ({"source": "preset", "preset": "nod", "axes": "x, y"}, r"none of the axes that axes names \(x, y\)"),
])
def test_a_pose_without_any_axis_is_refused(pose, given, why):
    with pytest.raises(ValueError, match=why) as caught:
        pose(**given)
    assert str(caught.value).endswith(".")
