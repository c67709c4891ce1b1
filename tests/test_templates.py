"""Motions as LivePortrait's own files: the openings of eyes and lips, and the neutral frame in front."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from playmate_core.driving.template import write_template
from playmate_core.face import geometry
from playmate_core.face.bridge import LatentBridge
from playmate_core.face.ratios import eye_ratio, lip_ratio, openings
from playmate_core.motion.files import load_motion
from playmate_core.motion.sliders import edit_expression
from playmate_core.motion.types import Motion
from playmate_core.weights.unpickle import read_arrays

from .render_helpers import gap_latent


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def column(path, name):
    return torch.stack([torch.from_numpy(one.copy()).reshape(-1) for one in read_arrays(path.read_bytes())[name]])


def test_eyes_and_lips_are_in_the_template(bridge, tmp_path):
    rest = Motion.rest(3)
    blink = edit_expression(rest, {"blink": -20.0}, torch.tensor([0.0, 0.35, 1.0]))
    speaks = blink.expression + torch.tensor([0.0, 1.0, 0.5])[:, None, None] * gap_latent(bridge, 0.2)
    motion = replace(blink, expression=speaks)
    path = write_template(motion, tmp_path / "a.pkl")
    eyes, lips = column(path, "c_eyes_lst"), column(path, "c_lip_lst")
    assert eyes.shape == (4, 2) and lips.shape == (4, 1)
    open_eyes = eye_ratio(geometry.mean_face())
    # The neutral frame leads; the first frame is the same.
    assert torch.allclose(eyes[:2], open_eyes.float().expand(2, 2), atol=1e-4) and not lips[:2].any()
    assert bool((eyes[2] < 0.8 * eyes[1]).all()) and bool((eyes[3] < eyes[2]).all())
    assert float(lips[2]) > 1.6 * float(lips[3]) > 0.1
    again = load_motion(path)
    assert torch.allclose(again.expression[1:], motion.expression, atol=1e-5)


def test_openings_that_were_measured_are_kept(tmp_path):
    eyes, lips = torch.rand(3, 2), torch.rand(3, 1)
    path = write_template(Motion.rest(2), tmp_path / "a", (eyes, lips))
    assert torch.equal(column(path, "c_eyes_lst"), eyes) and torch.equal(column(path, "c_lip_lst"), lips)


def test_openings_of_the_mesh(bridge):
    """Against the ratios themselves, measured on the displaced face; one eye can shut alone."""
    gap = bridge.displacement(gap_latent(bridge, 0.15)[None])
    eyes, lips = openings(gap)
    face = geometry.mean_face() + gap
    assert torch.allclose(eyes * eye_ratio(geometry.mean_face()), eye_ratio(face), atol=1e-5)
    assert torch.allclose(lips, lip_ratio(face) - lip_ratio(geometry.mean_face()), atol=1e-5)
    wink = torch.zeros(1, geometry.LANDMARKS, 3)
    lid, other = geometry.EYES_UPPER[0][4], geometry.EYES_LOWER[0][4]
    wink[0, lid] = geometry.mean_face()[other] - geometry.mean_face()[lid] + torch.tensor([0.0, 0.01, 0.0])
    eyes, _ = openings(wink)
    assert float(eyes[0, 0]) == 0.0 and float(eyes[0, 1]) == pytest.approx(1.0)


def test_shut_lips_stay_shut(bridge):
    _, lips = openings(bridge.displacement(-gap_latent(bridge, 0.1)[None]))
    assert float(lips[0]) == 0.0
