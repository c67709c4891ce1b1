"""Motion as a chart, and features of foreign encoders: the library behind two nodes."""

import pytest
import torch

from playmate_core.evaluation.plot import motion_curves, plot_motion
from playmate_core.face.bridge import LatentBridge
from playmate_core.motion.pose import PoseKeyframes, override_pose
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError


@pytest.fixture(scope="module")
def bridge():
    return LatentBridge.load()


def opened(bridge, frames=50):
    """A mouth that opens half way through."""
    wide = torch.zeros(478, 3)
    wide[[14, 17, 87, 317, 178, 402], 1] = 0.2
    motion = Motion.rest(frames)
    motion.expression[frames // 2:] = bridge.expression(wide)
    return motion


def test_curves_tell_what_the_face_does(bridge):
    curves = motion_curves(opened(bridge), bridge)
    assert curves["lip gap"][:20].max() < 0.03 < 0.06 < curves["lip gap"][30:].min()
    assert all(len(curve) == 50 for curve in curves.values())
    assert (curves["right eye"] > 0.03).all()
    turned = override_pose(Motion.rest(50), PoseKeyframes.parse("0 yaw=0; 2 yaw=20"))
    assert motion_curves(turned, bridge)["yaw"][-1] == pytest.approx(20, abs=0.1)


def test_the_chart_shows_a_rise_where_there_is_one(bridge):
    chart = plot_motion(opened(bridge), bridge, 640, 420)
    assert chart.shape == (420, 640, 3) and 0 <= chart.min() and chart.max() <= 1
    blue = chart[..., 2] - chart[..., 0] > 0.2
    rows = torch.arange(420)[:, None].expand_as(blue)[blue & (torch.arange(420)[:, None] > 26)]
    rows = rows[rows < 130]
    assert rows.max() - rows.min() > 40, "the lip curve climbs its panel"
    flat = plot_motion(Motion.rest(50), bridge, 640, 420)
    assert not torch.equal(flat, chart)


@pytest.mark.parametrize("frames", [1, 2, 40_000])
def test_any_length_fits_the_paper(bridge, frames):
    seen = []
    chart = plot_motion(Motion.rest(frames), bridge, 400, 300, progress=lambda done, total: seen.append((done, total)))
    assert chart.shape == (300, 400, 3)
    assert seen[-1] == (frames, frames)


def test_charts_that_cannot_be_are_refused(bridge):
    with pytest.raises(PlaymateError, match="no frames"):
        plot_motion(Motion.rest(0), bridge)
    with pytest.raises(PlaymateError, match="200x200"):
        plot_motion(Motion.rest(5), bridge, 100, 300)
