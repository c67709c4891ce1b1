"""Rotations and keypoints: against LivePortrait's own numbers, and against what rotations are."""

from __future__ import annotations

import math

import pytest
import torch

from playmate_core.motion import geometry as g
from playmate_core.runtime.errors import PlaymateError


@pytest.fixture(scope="module")
def parity(shared):
    path = shared / "reference" / "liveportrait" / "parity_geometry.safetensors"
    if not path.is_file():
        pytest.skip("parity_geometry.safetensors is not on this machine")
    from safetensors.torch import load_file

    return load_file(str(path))


def angles_of(parity, name):
    return torch.cat([parity[f"{name}.{axis}"] for axis in ("pitch", "yaw", "roll")], dim=1)


def random_degrees(count, spread=180.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    degrees = (torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2 - 1) * spread
    degrees[:, 1] *= min(1.0, 89.0 / spread)
    return degrees


def axis_rotation(axis, degrees):
    """Right-handed rotation about one axis, written out."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = {
        "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
        "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
        "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
    }
    return torch.tensor(rows[axis], dtype=torch.float64)


def test_headpose_equals_liveportrait(parity):
    assert torch.allclose(g.headpose_degrees(parity["headpose.logits"]), parity["headpose.degree"], atol=1e-4, rtol=0)


def test_rotation_equals_liveportrait(parity):
    assert torch.allclose(g.rotation_matrix(angles_of(parity, "rotation")), parity["rotation.R"], atol=1e-5, rtol=0)


def test_transform_equals_liveportrait(parity):
    p = {name: parity[f"transform.{name}"] for name in ("kp", "exp", "scale", "t", "out")}
    degrees = angles_of(parity, "transform")
    assert torch.allclose(g.transform_keypoints(p["kp"], degrees, p["exp"], p["scale"], p["t"]), p["out"], atol=1e-5)
    flat = g.transform_keypoints(
        p["kp"].flatten(1), g.rotation_matrix(degrees), p["exp"].flatten(1), p["scale"], p["t"]
    )
    assert torch.allclose(flat, p["out"], atol=1e-5)


def test_headpose_of_one_sure_bin_and_of_degrees():
    logits = torch.full((2, 66), -1e4)
    logits[0, 0], logits[1, 65] = 0, 0
    assert g.headpose_degrees(logits).tolist() == [-97.5, 97.5]
    degrees = torch.tensor([[12.5], [-3.0]])
    assert g.headpose_degrees(degrees) is degrees


@pytest.mark.parametrize("column, axis", [(0, "x"), (1, "y"), (2, "z")])
def test_each_angle_turns_about_its_axis(column, axis):
    degrees = torch.zeros(3, dtype=torch.float64)
    degrees[column] = 31.0
    assert torch.allclose(g.rotation_matrix(degrees), axis_rotation(axis, 31.0).T, atol=1e-12)


def test_matrix_is_the_transpose_of_rz_ry_rx():
    expected = (axis_rotation("z", 30) @ axis_rotation("y", 20) @ axis_rotation("x", 10)).T
    assert torch.allclose(g.rotation_matrix(torch.tensor([10.0, 20.0, 30.0]).double()), expected, atol=1e-12)


def test_euler_is_the_inverse():
    degrees = random_degrees(500)
    assert torch.allclose(g.euler_degrees(g.rotation_matrix(degrees)), degrees, atol=1e-9)
    single = degrees.float()
    assert (g.euler_degrees(g.rotation_matrix(single)) - single)[single[:, 1].abs() < 80].abs().max() < 2e-4


@pytest.mark.parametrize("yaw", [90.0, -90.0, 89.99999, -89.9999, 89.99, 90.001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_euler_keeps_the_rotation_near_gimbal_lock(yaw, dtype):
    degrees = random_degrees(100, seed=3).to(dtype)
    degrees[:, 1] = yaw
    matrix = g.rotation_matrix(degrees)
    again = g.rotation_matrix(g.euler_degrees(matrix))
    assert torch.isfinite(again).all()
    assert (again - matrix).abs().max() < (1e-5 if dtype == torch.float32 else 1e-12)


def test_angles_outside_the_range_come_back_as_the_same_rotation():
    degrees = torch.tensor([[10.0, 150.0, -30.0], [400.0, 0.0, 0.0]]).double()
    back = g.euler_degrees(g.rotation_matrix(degrees))
    assert back[:, 1].abs().max() <= 90
    assert torch.allclose(g.rotation_matrix(back), g.rotation_matrix(degrees), atol=1e-12)


def test_nearest_rotation_repairs_a_matrix_and_never_mirrors():
    matrix = g.rotation_matrix(random_degrees(20))
    assert torch.allclose(g.nearest_rotation(matrix * 1.7), matrix, atol=1e-12)
    mirrored = g.nearest_rotation(torch.diag(torch.tensor([1.0, 1.0, -0.2])).double())
    assert torch.det(mirrored) == pytest.approx(1.0, rel=1e-5)


def test_transform_adds_expression_before_scaling_and_ignores_depth_shift():
    kp, exp = torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.5, 0.0]]])
    out = g.transform_keypoints(kp, torch.zeros(2, 3), exp.expand(2, -1, -1), torch.tensor([[2.0], [3.0]]),
                                torch.tensor([[0.1, 0.2, 9.0]]).expand(2, -1))
    assert torch.allclose(out[:, 0], torch.tensor([[2.1, 1.2, 0.0], [3.1, 1.7, 0.0]]), atol=1e-5)


def test_relative_rotation_and_its_application_undo_each_other():
    a, b = random_degrees(50, 40), random_degrees(50, 40, seed=1)
    relative = g.relative_rotation(a, b)
    expected = g.rotation_matrix(a) @ g.rotation_matrix(b).transpose(1, 2)
    assert torch.allclose(g.rotation_matrix(relative), expected, atol=1e-12)
    assert torch.allclose(g.apply_rotation(relative, b), a, atol=1e-9)
    assert g.relative_rotation(a, a).abs().max() < 1e-12


def test_quaternions_agree_with_matrices_and_compose_like_heads():
    a, b = random_degrees(100), random_degrees(100, seed=1)
    qa, qb = g.quaternion_from_degrees(a), g.quaternion_from_degrees(b)
    assert torch.allclose(qa.norm(dim=-1), torch.ones(100).double(), atol=1e-5)
    assert torch.allclose(g.quaternion_to_degrees(qa), a, atol=1e-5)
    heads = g.rotation_matrix(a).transpose(1, 2) @ g.rotation_matrix(b).transpose(1, 2)
    product = g.rotation_matrix(g.quaternion_to_degrees(g.quaternion_multiply(qa, qb))).transpose(1, 2)
    assert torch.allclose(product, heads, atol=1e-12)


def turn_between(a, b):
    """Angle in degrees between two poses."""
    trace = (g.rotation_matrix(a.double()) * g.rotation_matrix(b.double())).sum((-1, -2))
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def test_slerp_turns_evenly_along_the_shorter_way():
    a, b = random_degrees(50, 80), random_degrees(50, 80, seed=1)
    whole = turn_between(a, b)
    for weight in (0.25, 0.5, 0.8):
        middle = g.slerp_degrees(a, b, torch.tensor(weight))
        assert torch.allclose(turn_between(a, middle), weight * whole, atol=1e-4)
        assert torch.allclose(turn_between(middle, b), (1 - weight) * whole, atol=1e-4)
    across = g.slerp_degrees(torch.tensor([0.0, 0.0, 175.0]), torch.tensor([0.0, 0.0, -175.0]), torch.tensor(0.5))
    assert abs(abs(across[2].item()) - 180) < 1e-3


def test_slerp_keeps_its_ends_and_equal_poses_bit_for_bit():
    a, b = random_degrees(20, 40).float(), random_degrees(20, 40, seed=1).float()
    assert torch.equal(g.slerp_degrees(a, b, torch.tensor(0.0)), a)
    assert torch.equal(g.slerp_degrees(a, b, torch.ones(20)), b)
    assert torch.equal(g.slerp_degrees(a, a, torch.tensor(0.3)), a)
    tiny = g.slerp_degrees(a, a + 1e-5, torch.tensor(0.5))
    assert torch.isfinite(tiny).all() and (tiny - a).abs().max() < 1e-4


@pytest.mark.parametrize("call", [
    lambda: g.rotation_matrix(torch.zeros(4)),
    lambda: g.euler_degrees(torch.zeros(3, 4)),
    lambda: g.transform_keypoints(torch.zeros(1, 21, 3), torch.zeros(1, 3), torch.zeros(1, 20, 3), torch.ones(1, 1),
                                  torch.zeros(1, 3)),
])
def test_wrong_shapes_are_named(call):
    with pytest.raises(PlaymateError):
        call()


def test_any_rotation_survives_the_round_trip():
    hypothesis = pytest.importorskip("hypothesis")
    angle = hypothesis.strategies.floats(-720, 720, allow_nan=False)

    @hypothesis.settings(max_examples=150, deadline=None)
    @hypothesis.given(angle, angle, angle)
    def check(pitch, yaw, roll):
        matrix = g.rotation_matrix(torch.tensor([pitch, yaw, roll], dtype=torch.float64))
        assert torch.allclose(matrix @ matrix.T, torch.eye(3).double(), atol=1e-12)
        assert torch.allclose(g.rotation_matrix(g.euler_degrees(matrix)), matrix, atol=1e-10)
        quaternion = g.quaternion_from_degrees(torch.tensor([pitch, yaw, roll], dtype=torch.float64))
        assert torch.allclose(g.rotation_matrix(g.quaternion_to_degrees(quaternion)), matrix, atol=1e-10)

    check()


@pytest.mark.parametrize("device, wanted", [("cpu", "double"), ("cuda", "double"), ("mps", "float"), ("xpu", "float")])
def test_float64_is_left_alone_on_devices_that_may_lack_it(device, wanted):
    class Elsewhere:
        def __init__(self):
            self.device = torch.device(device)

        def float(self):
            return "float"

        def double(self):
            return "double"

    assert g.wide(Elsewhere()) == wanted
