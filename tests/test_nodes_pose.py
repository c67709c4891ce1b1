"""Pose Override's way of putting its sources together; without a server."""

import pytest
import torch

from playmate_core.motion.presets import PosePreset
from playmate_core.motion.types import Motion
from tests.node_helpers import node_modules
from tests.test_motion_pose import random_motion


@pytest.fixture(scope="module")
def modules():
    with node_modules("pose_override") as modules:
        yield modules


@pytest.fixture
def node(modules):
    return modules.pose_override.PoseOverride


@pytest.fixture
def run(modules, node):
    def packed(motion):
        """The same as a motion of the pack's own copy of the library."""
        own = modules.pipeline.Motion
        neutral = type(own.rest(0).neutral)(*vars(motion.neutral).values())
        return own(**{**vars(motion), "neutral": neutral})

    def run(motion, **changes):
        if "pose_motion" in changes:
            changes["pose_motion"] = packed(changes["pose_motion"])
        motion = packed(motion)
        settings = {"mode": "replace", "source": "constant", "axes": "pitch, yaw, roll", "pitch": 0.0, "yaw": 0.0,
                    "roll": 0.0, "x": 0.0, "y": 0.0, "scale": 1.0, "keyframes": "0 yaw=0; 1 yaw=10", "amount": 1.0,
                    "length": "mirror", **changes}
        return node.execute(motion, **settings).args[0]
    return run


def test_workflows_of_the_first_release_do_as_before(run, modules):
    motion = random_motion(26)
    assert (run(motion, yaw=7.0).rotation == torch.tensor([0.0, 7.0, 0.0])).all()
    keyed = run(motion, source="keyframes", axes="")
    assert float(keyed.rotation[25, 1]) == 10 and torch.equal(keyed.rotation[:, 0], motion.rotation[:, 0])
    taken = run(motion, source="motion", pose_motion=random_motion(26, seed=3), axes="yaw")
    assert torch.allclose(taken.rotation[:, 1], random_motion(26, seed=3).rotation[:, 1], atol=1e-5)
    with pytest.raises(modules.pose_override.PlaymateError, match="not connected"):
        run(motion, source="motion")


def test_lists_direct_their_axis_whatever_the_source(run):
    motion, values = random_motion(5), [1.0, 2.0, 3.0, 4.0, 5.0]
    result = run(motion, yaw_values=values, pitch=2.0)
    assert result.rotation[:, 1].tolist() == values and (result.rotation[:, 0] == 2).all()
    result = run(motion, source="keyframes", keyframes="0 pitch=4 yaw=9", axes="", yaw_values=values, x_values=0.1)
    assert result.rotation[:, 1].tolist() == values and (result.rotation[:, 0] == 4).all()
    assert torch.allclose(result.translation[:, 0], torch.tensor(0.1), atol=1e-5)
    assert torch.equal(result.rotation[:, 2], motion.rotation[:, 2])
    only = run(motion, axes="yaw", yaw_values=values, mode="add", amount=0.5)
    assert torch.allclose(only.rotation[:, 1], motion.rotation[:, 1] + torch.tensor(values) / 2, atol=1e-5)


def test_presets_easing_and_modes_by_axis(run):
    motion = random_motion(51)
    nod = run(motion, source="preset", preset="nod", axes="pitch=add, yaw")
    pitch = PosePreset("nod").sample(51, 25.0)["pitch"]
    assert torch.allclose(nod.rotation[:, 0], (motion.rotation[:, 0] + pitch).clamp(-20, 20), atol=1e-5)
    assert not nod.rotation[:, 1].any() and torch.equal(nod.rotation[:, 2], motion.rotation[:, 2])
    slow = run(Motion.rest(51), source="preset", preset="shake", period=2.0).rotation
    assert torch.allclose(slow[:, 1], PosePreset("shake", 2.0).sample(51, 25.0)["yaw"], atol=1e-5)
    step = run(motion, source="keyframes", easing="step").rotation[:, 1]
    assert step.unique().tolist() == [0, 10]


def test_choices_are_checked_before_anything_runs(node):
    assert node.validate_inputs(mode="add", source="preset", preset="nod", easing="linear", period=0.0) is True
    for wrong, piece in (({"easing": "bounce"}, "easing"), ({"preset": "jump"}, "preset"), ({"axes": "nod"}, "'nod'"),
                         ({"axes": "yaw=twice"}, "'twice'"), ({"source": "tape"}, "source"),
                         ({"source": "preset", "preset": "nod", "period": 0.1}, "period")):
        assert piece in node.validate_inputs(**wrong)
