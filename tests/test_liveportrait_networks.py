"""LivePortrait's networks against the reference's small fixtures, fused and as published.

Every array of the files is compared; ``--junitxml=FILE -o junit_family=xunit1`` writes the errors.
"""

from __future__ import annotations

import json

import pytest
import torch

from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule
from tests.liveportrait_helpers import (
    below,
    fixture,
    kept_outputs,
    recipe,
    recipe_of,
    relative_error,
    skip_unless_the_whole_file_runs,
)

TOLERANCE = 1e-4
SMALL = "FGMSW"


@pytest.fixture(scope="module")
def folder(shared):
    folder = shared / "reference" / "liveportrait"
    if not folder.is_dir():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    """(tensors, metadata) of the files by the network's letter."""
    return {kind: fixture(folder / f"parity_{kind}.safetensors") for kind in SMALL}


@pytest.fixture
def compare(record_property):
    """Holds arrays to those of a file, and writes the errors down."""
    def check(tensors, found):
        for name, value in found.items():
            error = relative_error(value, tensors[name])
            record_property(name, error)
            assert error < TOLERANCE, name
    return check


def ready(network, weights):
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


def test_stitching(reference, compare):
    tensors, _ = reference["S"]
    network = ready(Stitching(), below(tensors, "sd."))
    source, driving = tensors["in.kp_source"], tensors["in.kp_driving"]
    compare(tensors, {
        "out.stitching_raw": network.stitching(torch.cat([source.flatten(1), driving.flatten(1)], 1)),
        "out.stitching_kp": network.stitch(source, driving),
        "out.eye_delta": network.eye_delta(source, tensors["in.eye_ratio"]),
        "out.lip_delta": network.lip_delta(source, tensors["in.lip_ratio"])})


def test_motion_extractor(reference, compare):
    tensors, metadata = reference["M"]
    config = MotionExtractorConfig(**metadata["constructor_args"])
    weights = below(tensors, "sd.")
    assert MotionExtractorConfig.of(weights) == config
    network = ready(MotionExtractor(config), weights)
    inner = {"mid.stem": "downsample_layers.0", "mid.stages.0.0": "stages.0.0", "mid.stages.3": "stages.3",
             "mid.pooled_norm": "norm"}
    kept = kept_outputs(network.detector, inner.values())
    found = network(tensors["in.image"])
    compare(tensors, {name: kept[part] for name, part in inner.items()})
    compare(tensors, {f"out.{name}": value for name, value in found.items()})


def test_appearance_extractor(reference, compare):
    tensors, metadata = reference["F"]
    config = AppearanceConfig(**metadata["constructor_args"])
    weights = below(tensors, "sd.")
    assert AppearanceConfig.of(weights) == config
    network = ready(AppearanceExtractor(config), weights)
    inner = ("first", "second", "resblocks_3d.3dr0")
    kept = kept_outputs(network, inner)
    found = network(tensors["in.image"])
    compare(tensors, {f"mid.{name}": kept[name] for name in inner})
    compare(tensors, {"out.f_s": found})


@pytest.mark.parametrize("fused", [False, True])
def test_warping_module(reference, compare, fused):
    tensors, metadata = reference["W"]
    network = ready(WarpingModule(WarpingConfig(**metadata["constructor_args"])), below(tensors, "sd."))
    inner = {"compress_norm": "dense_motion_network.norm", "hourglass_input": "dense_motion_network.hourglass (in)",
             "hourglass": "dense_motion_network.hourglass", "warped_flat": "third (in)", "third": "third",
             "fourth": "fourth"}
    if fused:
        network.fold()
        inner.pop("compress_norm")
    kept = kept_outputs(network, {part.removesuffix(" (in)") for part in inner.values()})
    found = network(network.source(tensors["in.feature_3d"], tensors["in.kp_source"]), tensors["in.kp_driving"])
    compare(tensors, {f"mid.{name}": kept[part] for name, part in inner.items()})
    compare(tensors, {f"out.{name}": found[name] for name in ("mask", "deformation", "occlusion_map", "out")})


@pytest.mark.parametrize("fused", [False, True])
def test_generator(reference, compare, fused):
    tensors, metadata = reference["G"]
    network = ready(Generator(GeneratorConfig(**metadata["constructor_args"])), below(tensors, "sd."))
    if fused:
        network.fold()
    inner = ("fc", "G_middle_0", "G_middle_5", "up_0", "up_1", "conv_img")
    kept = kept_outputs(network, inner)
    found = network(tensors["in.feature"])
    compare(tensors, {f"mid.{name}": kept[name] for name in inner})
    compare(tensors, {"out.image": found})


def test_sizes_of_w_and_g_are_read_off_the_weights(reference):
    for kind, network, config in (("W", WarpingModule, WarpingConfig), ("G", Generator, GeneratorConfig)):
        weights = below(reference[kind][0], "sd.")
        ready(network(config.of(weights)), weights)


def test_real_sizes_have_the_published_names_and_shapes(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    with torch.device("meta"):
        stitching = Stitching()
        networks = {"F": AppearanceExtractor(), "M": MotionExtractor(), "W": WarpingModule(), "G": Generator(),
                    "S_stitching": stitching.stitching, "S_lip": stitching.lip, "S_eye": stitching.eye}
    for tag, network in networks.items():
        ours = {key: list(value.shape) for key, value in network.state_dict().items()}
        assert ours == manifest[tag], tag


def test_sizes_read_off_real_shapes_are_the_defaults(folder):
    manifest = json.loads((folder / "manifest.json").read_text())

    def weights(tag):
        return {key: torch.empty(shape, device="meta") for key, shape in manifest[tag].items()}

    assert AppearanceConfig.of(weights("F")) == AppearanceConfig()
    assert MotionExtractorConfig.of(weights("M")) == MotionExtractorConfig()
    assert WarpingConfig.of(weights("W")) == WarpingConfig()
    config = GeneratorConfig.of(weights("G"))
    assert (config.in_channels, config.upscale, config.out_channels) == (256, 2, 64)


def test_recipe_is_the_references(reference):
    for kind in "FMWG":
        stored = below(reference[kind][0], "sd.")
        made = recipe_of(f"r{kind}", {key: tuple(value.shape) for key, value in stored.items()})
        for key, value in stored.items():
            assert torch.equal(made[key], value) or relative_error(made[key], value) < 1e-5, key


def test_every_array_was_compared(reference, folder, request):
    """No file of the reference is left out, and no array of these; the others have such a test of their own."""
    elsewhere = {"parity_full", "parity_geometry"}
    assert {path.stem for path in folder.glob("parity_*")} == {f"parity_{kind}" for kind in SMALL} | elsewhere
    skip_unless_the_whole_file_runs(request)
    assert {kind: tensors.unseen for kind, (tensors, _) in reference.items()} == {kind: [] for kind in SMALL}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("axes", [2, 3])
def test_convolution_before_upsampling(axes, scale):
    from playmate_core.render.liveportrait.upsampled import UpsampledConv

    torch.manual_seed(0)
    conv = (torch.nn.Conv2d if axes == 2 else torch.nn.Conv3d)(3, 5, 3, padding=1).double()
    x = torch.randn(2, 3, *([4] if axes == 3 else []), 5, 6, dtype=torch.float64)
    factor = (scale, scale) if axes == 2 else (1, scale, scale)
    wanted = conv(torch.nn.functional.interpolate(x, scale_factor=factor))
    assert torch.allclose(UpsampledConv(conv, scale)(x), wanted, atol=1e-12)


def test_wide_convolution():
    from playmate_core.render.liveportrait.upsampled import WideConv3d

    torch.manual_seed(0)
    conv = torch.nn.Conv3d(3, 4, 7, padding=3).double()
    for depth in (2, 6, 9):
        x = torch.randn(2, 3, depth, 5, 6, dtype=torch.float64)
        assert torch.allclose(WideConv3d(conv)(x), conv(x), atol=1e-12)


def test_narrow_convolution():
    from playmate_core.render.liveportrait.upsampled import NarrowConv2d

    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 2, 7, padding=3)
    x = torch.randn(2, 6, 9, 12)
    assert torch.allclose(NarrowConv2d(conv)(x), conv(x), atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (1, 30)])
def test_winograd(size):
    from playmate_core.render.liveportrait import winograd

    torch.manual_seed(0)
    for bias in (True, False):
        conv = torch.nn.Conv2d(40, 36, 3, padding=1, bias=bias)
        x = torch.randn(2, 40, *size)
        assert relative_error(winograd.WinogradConv(conv)(x), conv(x)) < 2e-5
    block = torch.nn.Sequential(torch.nn.Conv2d(512, 512, 3, padding=1), torch.nn.Conv2d(512, 512, 1))
    winograd.replace_convolutions(block)
    assert [type(m).__name__ for m in block] == ["WinogradConv", "Conv2d"]


def test_folding_changes_nothing_without_reference():
    config = WarpingConfig(3, 4, 12, 1, 3, True, {"block_expansion": 4, "max_features": 12, "num_blocks": 2,
                                                  "reshape_depth": 4, "compress": 2})
    plain = WarpingModule(config)
    plain = ready(plain, recipe("t", plain))
    folded = ready(WarpingModule(config), plain.state_dict())
    folded.fold()
    volume, points = torch.randn(1, 3, 4, 8, 12), torch.rand(3, 3, 3) - 0.5
    wanted = plain(plain.source(volume, points[:1]), points)
    found = folded(folded.source(volume, points[:1]), points)
    for name, value in wanted.items():
        assert relative_error(found[name], value) < TOLERANCE, name


def test_generator_without_upscale_and_in_training():
    config = GeneratorConfig(1, 2, 8, 1, 5)
    network = ready(Generator(config), recipe("t", Generator(config)))
    x = torch.randn(1, 4, 4, 4)
    wanted = network(x)
    assert wanted.shape == (1, 3, 16, 16)
    network.train().requires_grad_(True)
    network(x).mean().backward()
    assert network.up_0.conv_0.weight_orig.grad is not None
    network.eval().fold()
    assert network(x).shape == wanted.shape
