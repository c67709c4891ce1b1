"""The expression sliders: latents, time ranges, and what a rendered face does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core.face import geometry as geo
from playmate_core.motion.sliders import SLIDERS, edit_expression, envelope, frame_envelope, slider_offset
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError
from tests.motion_helpers import random_motion


def at(offset, keypoint, axis):
    return float(offset[keypoint, "xyz".index(axis)])


# --- latents

@pytest.mark.parametrize("slider, value, wanted", [
    ("smile", 1.0, {(20, "y"): -0.01, (14, "y"): -0.02, (17, "y"): 0.0065, (17, "z"): 0.003, (13, "y"): -0.00275,
                    (16, "y"): -0.00275, (3, "y"): -0.0035, (7, "y"): -0.0035}),
    ("wink", 10.0, {(11, "y"): 0.01, (13, "y"): -0.003, (17, "x"): 0.003, (17, "y"): 0.003, (3, "y"): -0.003}),
    ("eyebrow", 10.0, {(1, "y"): 0.01, (2, "y"): -0.01}),
    ("eyebrow", -10.0, {(1, "x"): 0.01, (2, "x"): -0.01, (1, "y"): -0.003, (2, "y"): 0.003}),
    ("pupil_x", 10.0, {(11, "x"): 0.007, (15, "x"): 0.01}),
    ("pupil_x", -10.0, {(11, "x"): -0.01, (15, "x"): -0.007}),
    # v = 10: -0.001 v on the upper lids, and with b = -5 a blink of -0.001 b and 0.0003 b.
    ("pupil_y", 10.0, {(11, "y"): -0.005, (15, "y"): -0.005, (13, "y"): -0.0015, (16, "y"): -0.0015}),
    ("blink", -10.0, {(11, "y"): 0.01, (15, "y"): 0.01, (13, "y"): -0.003, (16, "y"): -0.003}),
    ("aaa", 100.0, {(19, "y"): 0.1, (19, "z"): 0.01, (17, "y"): -0.01}),
    ("eee", 10.0, {(20, "z"): -0.01, (20, "y"): -0.01, (14, "y"): -0.01}),
    ("woo", 10.0, {(14, "y"): 0.01, (3, "y"): -0.005, (7, "y"): -0.005, (17, "z"): -0.005}),
])
def test_latents_are_the_published_ones(slider, value, wanted):
    offset = slider_offset({slider: value})
    for (keypoint, axis), number in wanted.items():
        assert at(offset, keypoint, axis) == pytest.approx(number, abs=1e-5)
    assert int((offset != 0).sum()) == len(wanted)


def test_sliders_add_up_and_rest_is_rest():
    both = slider_offset({"smile": 0.5, "aaa": 40})
    assert torch.allclose(both, slider_offset({"smile": 0.5}) + slider_offset({"aaa": 40}), atol=1e-5)
    assert not slider_offset(dict.fromkeys(SLIDERS, 0.0)).any()


def test_beyond_the_range_is_held_and_said(caplog):
    held = slider_offset({"smile": 5.0})
    assert torch.equal(held, slider_offset({"smile": SLIDERS["smile"][1]}))
    assert "smile 5 to 1.3" in caplog.text


@pytest.mark.parametrize("sliders, word", [({"grin": 1.0}, "'grin'"), ({"smile": float("nan")}, "smile is nan"),
                                           ({"aaa": "wide"}, "'wide'")])
def test_sliders_that_cannot_be(sliders, word):
    with pytest.raises(PlaymateError, match=word):
        slider_offset(sliders)


# --- time

def test_a_range_fades_in_and_out_inside_itself():
    level = envelope(100, 25.0, start=1.0, end=3.0, fade=0.4)
    assert not level[:26].any() and not level[75:].any()
    assert bool((level[35:65] == 1).all())
    assert bool((level[25:36].diff() > 0).all()) and bool((level[65:76].diff() < 0).all())
    assert torch.allclose(level[25:51], level.flip(0)[24:50], atol=1e-5)


def test_a_range_to_the_end_does_not_fall_and_no_fade_is_hard():
    assert bool((envelope(50, 25.0, start=1.0, fade=0.2)[30:] == 1).all())
    assert envelope(10, 10.0, start=0.3, end=0.6).tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    short = envelope(50, 25.0, start=0.4, end=0.8, fade=5.0)
    assert float(short.max()) == pytest.approx(1.0, abs=1e-5) and short.argmax() == 15


def test_one_frame_and_its_slopes():
    assert frame_envelope(5, 25.0, -1).tolist() == [0, 0, 0, 0, 1]
    level = frame_envelope(11, 10.0, 5, fade=0.3)
    assert level[5] == 1 and not level[:3].any() and torch.allclose(level, level.flip(0), atol=1e-5)


@pytest.mark.parametrize("call, word", [
    (lambda: envelope(9, 25.0, start=-1.0), "-1"), (lambda: envelope(9, 25.0, start=2.0, end=1.0), "ends at 1 s"),
    (lambda: frame_envelope(9, 25.0, 9), "no frame 9"), (lambda: frame_envelope(9, 25.0, 3, -0.1), "-0.1"),
    (lambda: edit_expression(Motion.rest(4), {}, torch.ones(5)), "4 frames"),
])
def test_times_that_cannot_be(call, word):
    with pytest.raises(PlaymateError, match=word):
        call()


def test_an_edit_counts_by_its_amount_and_leaves_the_rest_bit_for_bit():
    motion = random_motion(10)
    amount = torch.tensor([0.0] * 5 + [0.5] + [1.0] * 4)
    edited = edit_expression(motion, {"smile": 1.0}, amount)
    assert torch.equal(edited.expression[:5], motion.expression[:5])
    offset = slider_offset({"smile": 1.0})
    assert torch.allclose(edited.expression - motion.expression, amount[:, None, None] * offset, atol=1e-5)
    assert torch.equal(edited.rotation, motion.rotation) and edited.neutral is motion.neutral


# --- what the face does

@pytest.fixture(scope="module")
def moved(models):
    """slider, value -> the mean face's landmarks under it, by the bridge."""
    return lambda **sliders: geo.mean_face() + models.bridge.displacement(slider_offset(sliders))


def corners(shape):
    return float(shape[[61, 291], 1].mean())


def irises(shape):
    """[2, 2] right and left iris within the corners of its eye."""
    return torch.stack([shape[iris, :2] - shape[[eye[0], eye[-1]], :2].mean(0)
                        for iris, eye in zip(geo.IRIS_CENTRES, geo.EYES_UPPER, strict=True)])


def brows(shape):
    return float(shape[[105, 334], 1].mean())


def test_every_slider_moves_what_its_name_says(moved):
    rest = geo.mean_face()
    smile = moved(smile=1.0)
    assert corners(smile) < corners(rest) - 0.05 and geo.lip_width(smile) > geo.lip_width(rest) + 0.05
    assert corners(moved(smile=-0.3)) > corners(rest) + 0.01
    # Openness is a distance, which grows again when lids cross: the change of the lids tells.
    assert float(geo.eye_openness(moved(blink=-10)).max()) < 0.3 * float(geo.eye_openness(rest).min())
    assert float(geo.eye_openness(moved(blink=5)).min()) > 1.2 * float(geo.eye_openness(rest).max())
    right, left = geo.eye_openness(moved(wink=15))
    assert float(right) < 0.02 and float(left) > 0.04
    assert bool((irises(moved(pupil_x=10))[:, 0] > irises(rest)[:, 0] + 0.03).all())
    assert bool((irises(moved(pupil_x=-10))[:, 0] < irises(rest)[:, 0] - 0.03).all())
    assert bool((irises(moved(pupil_y=15))[:, 1] < irises(rest)[:, 1] - 0.008).all())
    assert float(geo.lip_gap(moved(aaa=60))) > 0.15 and moved(aaa=60)[152, 1] > rest[152, 1] + 0.05
    assert geo.lip_width(moved(eee=10)) > geo.lip_width(rest) + 0.08
    assert geo.lip_width(moved(woo=15)) < geo.lip_width(rest) - 0.05
    assert geo.lip_gap(moved(woo=15)) > geo.lip_gap(rest)
    assert brows(moved(eyebrow=15)) < brows(rest) - 0.02 and brows(moved(eyebrow=-10)) > brows(rest)


def test_rendered_faces_smile_blink_and_open(models, appearance):
    edits = [{}, {"smile": 1.2}, {"blink": -14.0}, {"wink": 18.0}, {"aaa": 80.0}, {"eee": -18.0}]
    motion = replace(Motion.rest(len(edits)), expression=torch.stack([slider_offset(edit) for edit in edits]))
    frames = torch.cat(list(models.renderer.render(appearance, motion)))
    rest, smile, blink, wink, aaa, narrow = [faces[0] for faces in models.face.analyze(frames)]

    from playmate_core.face.blendshapes import NAMES

    def score(face, name):
        return float(face.blendshapes[NAMES.index(name)])

    assert score(smile, "mouthSmileLeft") + score(smile, "mouthSmileRight") > 0.5
    assert score(rest, "mouthSmileLeft") + score(rest, "mouthSmileRight") < 0.2
    assert geo.lip_width(smile.landmarks) > 1.08 * geo.lip_width(rest.landmarks)
    assert geo.lip_width(narrow.landmarks) < 0.9 * geo.lip_width(rest.landmarks)
    open_ = geo.eye_openness(rest.landmarks)
    assert bool((geo.eye_openness(blink.landmarks) < 0.35 * open_).all())
    right, left = geo.eye_openness(wink.landmarks) / open_
    assert float(right) < 0.35 and float(left) > float(right) + 0.1
    assert float(geo.lip_gap(aaa.landmarks)) > 0.15
