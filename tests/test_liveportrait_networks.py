"""LivePortrait's networks against the reference's fixtures, fused and as published."""

from __future__ import annotations

import json

import pytest
import torch

from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule
from playmate_core.render.liveportrait.winograd import replace_convolutions
from tests.liveportrait_helpers import below, fixture, recipe, recipe_of, relative_error

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "reference" / "liveportrait"
    if not folder.is_dir():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return folder


def ready(network, weights):
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


def test_stitching(reference):
    tensors, _ = fixture(reference / "parity_S.safetensors")
    network = ready(Stitching(), below(tensors, "sd."))
    source, driving = tensors["in.kp_source"], tensors["in.kp_driving"]
    raw = network.stitching(torch.cat([source.flatten(1), driving.flatten(1)], 1))
    assert relative_error(raw, tensors["out.stitching_raw"]) < TOLERANCE
    assert relative_error(network.stitch(source, driving), tensors["out.stitching_kp"]) < TOLERANCE
    assert relative_error(network.eye_delta(source, tensors["in.eye_ratio"]), tensors["out.eye_delta"]) < TOLERANCE
    assert relative_error(network.lip_delta(source, tensors["in.lip_ratio"]), tensors["out.lip_delta"]) < TOLERANCE


def test_motion_extractor(reference):
    tensors, metadata = fixture(reference / "parity_M.safetensors")
    config = MotionExtractorConfig(**metadata["constructor_args"])
    weights = below(tensors, "sd.")
    assert MotionExtractorConfig.of(weights) == config
    found = ready(MotionExtractor(config), weights)(tensors["in.image"])
    for name, value in found.items():
        assert relative_error(value, tensors[f"out.{name}"]) < TOLERANCE, name


def test_appearance_extractor(reference):
    tensors, metadata = fixture(reference / "parity_F.safetensors")
    config = AppearanceConfig(**metadata["constructor_args"])
    weights = below(tensors, "sd.")
    assert AppearanceConfig.of(weights) == config
    found = ready(AppearanceExtractor(config), weights)(tensors["in.image"])
    assert relative_error(found, tensors["out.f_s"]) < TOLERANCE


@pytest.mark.parametrize("folded", [False, True])
def test_warping_module(reference, folded):
    tensors, metadata = fixture(reference / "parity_W.safetensors")
    weights = below(tensors, "sd.")
    network = ready(WarpingModule(WarpingConfig(**metadata["constructor_args"])), weights)
    if folded:
        network.fold()
    found = network(network.source(tensors["in.feature_3d"], tensors["in.kp_source"]), tensors["in.kp_driving"])
    for name in ("mask", "deformation", "occlusion_map", "out"):
        assert relative_error(found[name], tensors[f"out.{name}"]) < TOLERANCE, name


@pytest.mark.parametrize("folded", [False, True])
def test_generator(reference, folded):
    tensors, metadata = fixture(reference / "parity_G.safetensors")
    network = ready(Generator(GeneratorConfig(**metadata["constructor_args"])), below(tensors, "sd."))
    if folded:
        network.fold()
    assert relative_error(network(tensors["in.feature"]), tensors["out.image"]) < TOLERANCE


def test_sizes_of_w_and_g_are_read_off_the_weights(reference):
    for kind, network, config in (("W", WarpingModule, WarpingConfig), ("G", Generator, GeneratorConfig)):
        weights = below(fixture(reference / f"parity_{kind}.safetensors")[0], "sd.")
        ready(network(config.of(weights)), weights)


def test_real_sizes_have_the_published_names_and_shapes(reference):
    manifest = json.loads((reference / "manifest.json").read_text())
    with torch.device("meta"):
        stitching = Stitching()
        networks = {"F": AppearanceExtractor(), "M": MotionExtractor(), "W": WarpingModule(), "G": Generator(),
                    "S_stitching": stitching.stitching, "S_lip": stitching.lip, "S_eye": stitching.eye}
    for tag, network in networks.items():
        ours = {key: list(value.shape) for key, value in network.state_dict().items()}
        assert ours == manifest[tag], tag


def test_sizes_read_off_real_shapes_are_the_defaults(reference):
    manifest = json.loads((reference / "manifest.json").read_text())

    def weights(tag):
        return {key: torch.empty(shape, device="meta") for key, shape in manifest[tag].items()}

    assert AppearanceConfig.of(weights("F")) == AppearanceConfig()
    assert MotionExtractorConfig.of(weights("M")) == MotionExtractorConfig()
    assert WarpingConfig.of(weights("W")) == WarpingConfig()
    config = GeneratorConfig.of(weights("G"))
    assert (config.in_channels, config.upscale, config.out_channels) == (256, 2, 64)


def test_recipe_is_the_references(reference):
    for kind in "FMWG":
        stored = below(fixture(reference / f"parity_{kind}.safetensors")[0], "sd.")
        made = recipe_of(f"r{kind}", {key: tuple(value.shape) for key, value in stored.items()})
        for key, value in stored.items():
            assert torch.equal(made[key], value) or relative_error(made[key], value) < 1e-6, key


def test_published_sizes_end_to_end(reference):
    """The whole chain with weights by recipe; W and G fused, as they are used."""
    from playmate_core.motion.geometry import transform_keypoints

    tensors, metadata = fixture(reference / "parity_full.safetensors")

    def check(name, found, tolerance):
        full = tensors.get(f"out.{name}")
        if full is not None:
            difference = found - full
        else:
            stat = metadata["stats"][name]
            kept = tensors[f"sub.{name}"]
            stride = next(v for k, v in stat.items() if k == "stride")
            difference = found.flatten()[::stride] - kept
        assert difference.abs().max() < tolerance, name

    def build(tag, kind):
        network = kind()
        return ready(network, recipe(tag, network))

    source, driving = (tensors[f"in.{n}_u8"][None].float() / 255 for n in ("source", "driving"))
    extractor = build("M", MotionExtractor)
    points = {}
    for name, image in (("source", source), ("driving", driving)):
        motion = extractor.motion(image)
        for key, value in extractor(image).items():
            check(f"M.{name}.raw.{key}", value, 2e-5)
        for axis, key in enumerate(("pitch", "yaw", "roll")):
            check(f"M.{name}.{key}", motion["rotation"][:, axis:axis + 1], 1e-4)
        points[name] = transform_keypoints(motion["kp"], motion["rotation"], motion["exp"], motion["scale"],
                                           motion["t"])
    kp_source = points["source"]
    kp_driving = kp_source + 0.5 * (points["driving"] - kp_source)
    check("kp_source", kp_source, 2e-5)
    check("kp_driving", kp_driving, 2e-5)
    stitching = Stitching()
    stitching.load_state_dict({f"{name}.{key}": value for name in ("stitching", "eye", "lip")
                               for key, value in recipe(f"S_{name}", getattr(stitching, name)).items()})
    with torch.no_grad():
        check("kp_driving_stitched", stitching.stitch(kp_source, kp_driving), 2e-5)
    volume = build("F", AppearanceExtractor)(source)
    check("F.f_s", volume, 2e-5)
    warping, generator = build("W", WarpingModule), build("G", Generator)
    warping.fold()
    generator.fold()
    replace_convolutions(generator)
    warped = warping(warping.source(volume, kp_source), kp_driving)
    for key in ("occlusion_map", "deformation", "out"):
        check(f"W.{key}", warped[key], 2e-4)
    check("G.image", generator(warped["out"]), 5e-4)


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
