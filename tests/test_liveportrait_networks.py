"""LivePortrait's networks against the reference's small fixtures, fused and as published.

Every array of the files is compared; ``--junitxml=FILE -o junit_family=xunit1`` writes the errors.
"""

from __future__ import annotations

import json

import pytest
import torch

from laboratory.parity import liveportrait
from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.upsampled import UpsampledConv
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule
from tests.liveportrait_helpers import (
    below,
    fixture,
    recipe,
    recipe_of,
    relative_error,
    skip_unless_the_whole_file_runs,
)

TOLERANCE = liveportrait.SMALL
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


def ready(network, weights):
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("letter, compute, way", [
    ("S", liveportrait.stitching, None), ("M", liveportrait.motion_extractor, None),
    ("F", liveportrait.appearance_extractor, None),
    *(("W", liveportrait.warping, way) for way in liveportrait.WARPING_WAYS),
    *(("G", liveportrait.generator, way) for way in liveportrait.GENERATOR_WAYS)])
def test_every_array_is_the_references(reference, record_property, letter, compute, way):
    tensors, metadata = reference[letter]
    found = compute(tensors, metadata, **({} if way is None else {"way": way}))
    for name, error in liveportrait.relative_errors(tensors, found).items():
        record_property(name, error)
        assert error < TOLERANCE, name


def test_sizes_are_read_off_the_weights(reference):
    for kind, network, config in (("M", MotionExtractor, MotionExtractorConfig),
                                  ("F", AppearanceExtractor, AppearanceConfig),
                                  ("W", WarpingModule, WarpingConfig), ("G", Generator, GeneratorConfig)):
        tensors, metadata = reference[kind]
        weights = below(tensors, "sd.")
        ready(network(config.of(weights)), weights)
        if kind in "MF":
            assert config.of(weights) == config(**metadata["constructor_args"])


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


def test_a_network_laid_out_for_graphics_cards_is_compiled_once():
    """Nothing changes in the first call that the compiler would have to see anew."""
    from playmate_core.render.liveportrait.checkpoint import Networks
    from playmate_core.render.liveportrait.renderer import lay_out
    from playmate_core.runtime.acceleration import Compiled
    from tests.liveportrait_helpers import small_networks, small_weights

    made, weights = small_networks(4), small_weights(4)
    networks = Networks(**{role: ready(network, weights[role]) for role, network in made.items()})
    lay_out(networks, torch.float32, stacked_planes=True)
    assert any(isinstance(part, UpsampledConv) and part.index is not None for part in networks.generator.modules())
    random = torch.Generator().manual_seed(0)
    volume, points = torch.randn(1, 4, 4, 16, 16, generator=random), torch.rand(3, 21, 3, generator=random) - 0.5

    def draw(points):
        return networks.generator(networks.warping(source, points)["out"])

    with torch.no_grad():
        source, recorded = networks.warping.source(volume, points[:1]), []

        def counting(graph, inputs):
            recorded.append(graph)
            return graph.forward

        torch._dynamo.reset()
        fast = Compiled(draw)
        fast.fast = torch.compile(draw, dynamic=False, backend=counting)
        first = fast(points)
        once = len(recorded)
        second = fast(points + 0.01)
    torch._dynamo.reset()
    assert once >= 1 and len(recorded) == once, "the second call was recorded again"
    assert first.shape == second.shape and not torch.equal(first, second)


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
