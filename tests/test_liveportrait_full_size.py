"""LivePortrait's networks at their published sizes, weights by recipe, against parity_full.

G takes about ten seconds a picture on one core, so that this file is the slowest of the parity tests.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from playmate_core.motion.geometry import transform_keypoints
from playmate_core.render.liveportrait.appearance import AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingModule
from playmate_core.render.liveportrait.winograd import WinogradConv, replace_convolutions
from tests.liveportrait_helpers import fixture, recipe, skip_unless_the_whole_file_runs

IMAGE, ISOLATED_IMAGE, WARPED = 5e-4, 2e-5, 2e-4
"""Largest differences that the file's description allows."""


@pytest.fixture(scope="module")
def reference(shared):
    path = shared / "reference" / "liveportrait" / "parity_full.safetensors"
    if not path.is_file():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return fixture(path)


@pytest.fixture
def compare(reference, record_property):
    """Holds a tensor to the stored one, or to every n-th number of it, and writes the error down."""
    tensors, metadata = reference

    def check(name, found, tolerance):
        if f"out.{name}" in tensors:
            wanted = tensors[f"out.{name}"]
        else:
            wanted, stat = tensors[f"sub.{name}"], metadata["stats"][name]
            assert list(found.shape) == stat["shape"]
            found = found.flatten()[::stat["stride"]]
        assert found.shape == wanted.shape
        error = float((found - wanted).abs().max())
        record_property(name, error)
        assert error < tolerance, name
    return check


@pytest.fixture(scope="module")
def weights(reference):
    """Those of the large networks, drawn once."""
    return {tag: recipe(tag, kind()) for tag, kind in (("W", WarpingModule), ("G", Generator))}


def build(kind, weights):
    network = kind()
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def fused_warping(weights):
    network = build(WarpingModule, weights["W"])
    network.fold()
    return network


def generator(weights, way):
    network = build(Generator, weights["G"])
    if way != "plain":
        network.fold()
    if way == "winograd":
        replace_convolutions(network)
        assert sum(isinstance(part, WinogradConv) for part in network.modules()) == 60
    return network


@pytest.fixture(scope="module")
def winograd_generator(weights):
    """As it draws on the CPU."""
    return generator(weights, "winograd")


def feature_volume(tensors):
    network = build(AppearanceExtractor, recipe("F", AppearanceExtractor()))
    return network(tensors["in.source_u8"][None].float() / 255)


def drawn(name, shape):
    state = np.random.RandomState(zlib.crc32(f"full/{name}".encode()))
    return torch.from_numpy(state.standard_normal(shape).astype(np.float32))


@torch.no_grad()
def test_from_pictures_to_a_picture(reference, compare, fused_warping, winograd_generator):
    tensors, _ = reference
    extractor = build(MotionExtractor, recipe("M", MotionExtractor()))
    points = {}
    for name in ("source", "driving"):
        image = tensors[f"in.{name}_u8"][None].float() / 255
        motion = extractor.motion(image)
        for key, value in extractor(image).items():
            compare(f"M.{name}.raw.{key}", value, 2e-5)
        for axis, key in enumerate(("pitch", "yaw", "roll")):
            compare(f"M.{name}.{key}", motion["rotation"][:, axis:axis + 1], 1e-4)
        for key in ("kp", "exp", "t", "scale"):
            compare(f"M.{name}.{key}", motion[key], 2e-5)
        points[name] = transform_keypoints(motion["kp"], motion["rotation"], motion["exp"], motion["scale"],
                                           motion["t"])
    kp_source, kp_driving = points["source"], points["source"] + 0.5 * (points["driving"] - points["source"])
    compare("kp_source", kp_source, 2e-5)
    compare("kp_driving_raw", points["driving"], 2e-5)
    compare("kp_driving", kp_driving, 2e-5)
    stitching = Stitching()
    stitching.load_state_dict({f"{name}.{key}": value for name in ("stitching", "eye", "lip")
                               for key, value in recipe(f"S_{name}", getattr(stitching, name)).items()})
    compare("kp_driving_stitched", stitching.stitch(kp_source, kp_driving), 2e-5)
    volume = feature_volume(tensors)
    compare("F.f_s", volume, 2e-5)
    warped = fused_warping(fused_warping.source(volume, kp_source), kp_driving)
    for key in ("occlusion_map", "deformation", "out"):
        compare(f"W.{key}", warped[key], WARPED)
    compare("G.image", winograd_generator(warped["out"]), IMAGE)


@pytest.mark.parametrize("way", ["plain", "fused", "planes"])
def test_warping_alone(reference, compare, weights, fused_warping, way):
    """As published, as the CPU runs it, and as graphics cards do."""
    tensors, _ = reference
    network = fused_warping if way == "fused" else build(WarpingModule, weights["W"])
    if way == "planes":
        network.fold(planes=True)
    volume = drawn("iso.feature_3d", [1, 32, 16, 64, 64])
    found = network(network.source(volume, tensors["iso.kp_source"]), tensors["iso.kp_driving"])
    for key in ("occlusion_map", "deformation", "out"):
        compare(f"isoW.{key}", found[key], WARPED)


@pytest.mark.parametrize("way", ["plain", "fused", "winograd"])
def test_generator_alone(compare, weights, winograd_generator, way):
    network = winograd_generator if way == "winograd" else generator(weights, way)
    feature = drawn("iso.feature", [1, 256, 64, 64])
    assert torch.allclose(feature.flatten()[:3], torch.tensor([-0.07621797, -2.8907907, -0.9200393]), atol=1e-5)
    compare("isoG.image", network(feature), ISOLATED_IMAGE)


class TensorCores(TorchDispatchMode):
    """Convolutions of half-precision tensors as graphics cards do them: sums in float32, results in half precision.

    The CPU's own take minutes at these sizes.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default and args[0].dtype in (torch.float16, torch.bfloat16):
            wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
            return func(*wide, **(kwargs or {})).to(args[0].dtype)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_half_precision(reference, weights, record_property, dtype=torch.float16):
    """W and G as GPUs run them, all else in float32: nothing overflows, and the picture is within a few grey levels."""
    tensors, metadata = reference
    warping, network = build(WarpingModule, weights["W"]), generator(weights, "fused")
    warping.fold(planes=True)
    network.to(memory_format=torch.channels_last)
    source = warping.to(dtype).source(feature_volume(tensors).to(dtype), tensors["out.kp_source"])
    with TensorCores():
        warped = warping(source, tensors["out.kp_driving"])
        image = network.to(dtype)(warped["out"])
    assert image.dtype == dtype and warped["deformation"].dtype == torch.float32
    stride = metadata["stats"]["G.image"]["stride"]
    error = (image.float().flatten()[::stride] - tensors["sub.G.image"]).abs() * 255
    record_property("grey levels, largest and mean", f"{float(error.max()):.2f} {float(error.mean()):.3f}")
    assert float(error.max()) < 5 and float(error.mean()) < 0.5


def test_every_array_was_compared(reference, request):
    skip_unless_the_whole_file_runs(request)
    assert reference[0].unseen == []
