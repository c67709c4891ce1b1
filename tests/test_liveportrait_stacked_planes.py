"""W and G as graphics cards run them: volumes as planes, channels last, half precision."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig, instance_norm
from playmate_core.render.liveportrait.source import WarpSource
from playmate_core.render.liveportrait.stacked_planes import PlanarDenseMotion
from playmate_core.render.liveportrait.upsampled import NarrowConv2d, UpsampledConv, shifted_sum
from playmate_core.render.liveportrait.warping import DenseMotionConfig, WarpingConfig, WarpingModule
from tests.liveportrait_helpers import below, fixture, recipe, relative_error

WARPING = WarpingConfig(num_kp=7, block_expansion=16, max_features=60, reshape_channel=6, dense_motion_params=(
    DenseMotionConfig(block_expansion=10, max_features=48, num_blocks=3, reshape_depth=10, compress=3)))
"""Nothing of it is a multiple of eight, so that everything is filled up."""
GENERATOR = GeneratorConfig(upscale=2, block_expansion=16, max_features=64, num_down_blocks=2, out_channels=12)


def network(kind, config, tag):
    made = kind(config)
    made.load_state_dict(recipe(tag, made))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[True, False], ids=["occlusion", "no occlusion"])
def warping(request):
    from dataclasses import replace

    return network(WarpingModule, replace(WARPING, estimate_occlusion_map=request.param), "W")


@pytest.fixture(scope="module")
def seen():
    random = torch.Generator().manual_seed(3)
    keypoints = torch.rand(1, WARPING.num_kp, 3, generator=random) * 1.4 - 0.7
    driving = keypoints + 0.1 * torch.randn(3, WARPING.num_kp, 3, generator=random)
    return torch.randn(1, 6, 10, 16, 24, generator=random), keypoints, driving


def is_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


def test_planes_are_volumes(warping, seen):
    volume, keypoints, driving = seen
    plain = warping(warping.source(volume, keypoints), driving)
    planar = copy.deepcopy(warping)
    planar.fold(stacked_planes=True)
    assert isinstance(planar.dense_motion_network, PlanarDenseMotion)
    found = planar(planar.source(volume, keypoints), driving)
    assert float(plain["mask"].std()) > 0.05, "the masks must differ for the comparison to mean anything"
    for name, wanted in plain.items():
        if wanted is None:
            assert found[name] is None
        else:
            assert found[name].shape == wanted.shape
            assert relative_error(found[name], wanted) < 1e-5, name
    assert is_last(found["out"])


def test_planes_of_many_pictures(warping, seen):
    """A film has a volume for every frame."""
    volume, keypoints, driving = seen
    volumes, sources = volume * torch.tensor([1.0, 0.5, -1.0])[:, None, None, None, None], keypoints + 0.1 * driving
    plain = warping(warping.source(volumes, sources), driving)
    planar = copy.deepcopy(warping)
    planar.fold(stacked_planes=True)
    found = planar(planar.source(volumes, sources), driving)
    assert relative_error(found["out"], plain["out"]) < 1e-5
    assert relative_error(found["mask"], plain["mask"]) < 1e-5


def test_channels_last_generator():
    plain = network(Generator, GENERATOR, "G")
    feature = torch.randn(2, GENERATOR.in_channels, 12, 20, generator=torch.Generator().manual_seed(1))
    wanted = plain(feature)
    folded = copy.deepcopy(plain)
    folded.fold()
    assert relative_error(folded(feature), wanted) < 1e-5
    last = folded.to(memory_format=torch.channels_last)
    assert relative_error(last(feature.to(memory_format=torch.channels_last)), wanted) < 1e-5


class Watch(TorchDispatchMode):
    """Does half-precision convolutions as matrix units do, and notes what they are given."""

    def __init__(self):
        super().__init__()
        self.convolutions, self.strangers, self.ragged = 0, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is not torch.ops.aten.convolution.default:
            return func(*args, **(kwargs or {}))
        x, weight = args[:2]
        self.convolutions += 1
        if not is_last(x) and 1 not in x.shape[2:]:
            self.strangers.append(tuple(x.shape))
        if x.shape[1] % 8 or weight.shape[0] % 8:
            self.ragged.append((tuple(x.shape), tuple(weight.shape)))
        wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
        return func(*wide, **(kwargs or {})).to(x.dtype)


def test_what_matrix_units_are_given(warping, seen):
    """Everything but the picture's last convolution comes in blocks of eight, and nothing is laid out anew."""
    volume, keypoints, driving = seen
    planar = copy.deepcopy(warping)
    planar.fold(stacked_planes=True)
    planar.half()
    config = GeneratorConfig(upscale=2, block_expansion=16, max_features=64, num_down_blocks=2, out_channels=16)
    drawing = network(Generator, config, "G")
    drawing.fold()
    drawing.half().to(memory_format=torch.channels_last)
    source = planar.source(volume.half(), keypoints)
    with Watch() as watch:
        out = planar(source, driving)["out"]
        picture = drawing(out)
    assert picture.dtype == torch.float16 and torch.isfinite(picture).all()
    assert watch.convolutions > 60
    # The looked-up volume comes channels first, and its 60 channels are this test's.
    assert watch.strangers == [(3, 60, 16, 24)]
    assert [shape for shape in watch.ragged if shape[0] != (3, 60, 16, 24)] == [((3, 16, 64, 96), (12, 16, 3, 3))]
    plain = warping(warping.source(volume, keypoints), driving)["out"]
    assert relative_error(out.float(), plain) < 0.02


@pytest.mark.parametrize("scale", [2, 4])
def test_laying_out_by_one_look_up(scale):
    conv = torch.nn.Conv2d(5, 6, 3, padding=1)
    upsampled = UpsampledConv(conv, scale).to(memory_format=torch.channels_last)
    for size in ((7, 5), (4, 9)):
        x = torch.randn(2, 5, *size)
        wanted = conv(F.interpolate(x, scale_factor=scale))
        found = upsampled(x.to(memory_format=torch.channels_last))
        assert is_last(found)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert "index" not in upsampled.state_dict()


def test_summing_without_fold():
    conv = torch.nn.Conv2d(5, 2, (7, 3), padding=(3, 1))
    x = torch.randn(2, 5, 9, 11)
    torch.testing.assert_close(NarrowConv2d(conv, 8)(x), conv(x), rtol=1e-4, atol=1e-5)
    maps = torch.randn(2, 2 * 21, 9 * 11)
    torch.testing.assert_close(shifted_sum(maps, (9, 11), (7, 3), (3, 1)),
                               F.fold(maps, (9, 11), (7, 3), padding=(3, 1)))


def test_instance_norm_of_channels_last():
    x = torch.randn(2, 16, 30, 20) * torch.linspace(1, 5, 16)[:, None, None] + torch.linspace(-9, 9, 16)[:, None, None]
    wanted = F.instance_norm(x, eps=1e-5)
    found = instance_norm(x.to(memory_format=torch.channels_last))
    assert is_last(found)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-4)
    half = instance_norm(x.half().to(memory_format=torch.channels_last))
    # Means of up to nine deviations: half precision itself is no finer than that.
    assert half.dtype == torch.float16 and float((half.float() - wanted).abs().max()) < 0.02
    assert torch.equal(instance_norm(torch.full((1, 3, 4, 4), 2.0).to(memory_format=torch.channels_last)),
                       torch.zeros(1, 3, 4, 4))


def test_nothing_is_read_back_from_the_device(warping, seen):
    """What runs on the meta device, where there are no values, waits for none: it can be recorded as a CUDA graph."""
    volume, keypoints, driving = (tensor.to("meta") for tensor in seen)
    planar = copy.deepcopy(warping)
    planar.fold(stacked_planes=True)
    planar.to("meta")
    drawing = network(Generator, GENERATOR, "G")
    drawing.fold()
    drawing.to("meta")
    out = planar(planar.source(volume, keypoints), driving)["out"]
    assert out.shape == (3, 64, 16, 24)
    assert drawing(torch.empty(3, 64, 16, 24, device="meta")).shape == (3, 3, 128, 192)


@pytest.fixture(scope="module")
def folder(shared):
    found = shared / "reference" / "liveportrait"
    if not found.is_dir():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return found


def test_the_reference_in_planes(folder):
    tensors, metadata = fixture(folder / "parity_W.safetensors")
    made = WarpingModule(WarpingConfig(**metadata["constructor_args"]))
    made.load_state_dict(dict(below(tensors, "sd.")), strict=True)
    made.eval().fold(stacked_planes=True)
    with torch.no_grad():
        volume, driving = tensors["in.feature_3d"], tensors["in.kp_driving"]
        for row in range(len(volume)):
            found = made(made.source(volume[row:row + 1], tensors["in.kp_source"][row:row + 1]), driving[row:row + 1])
            for name in ("mask", "deformation", "occlusion_map", "out"):
                assert relative_error(found[name], tensors[f"out.{name}"][row:row + 1]) < 1e-4, name


def test_the_reference_at_full_size_in_planes(folder):
    import zlib

    import numpy as np

    tensors, metadata = fixture(folder / "parity_full.safetensors")
    made = WarpingModule()
    made.load_state_dict(recipe("W", made), strict=True)
    made.eval().fold(stacked_planes=True)
    state = np.random.RandomState(zlib.crc32(b"full/iso.feature_3d"))
    volume = torch.from_numpy(state.standard_normal([1, 32, 16, 64, 64]).astype(np.float32))
    with torch.no_grad():
        found = made(made.source(volume, tensors["iso.kp_source"]), tensors["iso.kp_driving"])
    for name in ("occlusion_map", "deformation", "out"):
        stat = metadata["stats"].get(f"isoW.{name}")
        wanted = tensors[f"out.isoW.{name}"] if stat is None or f"out.isoW.{name}" in tensors \
            else tensors[f"sub.isoW.{name}"]
        value = found[name] if wanted.shape == found[name].shape else found[name].flatten()[::stat["stride"]]
        assert float((value - wanted).abs().max()) < 2e-4, name


@pytest.mark.parametrize("planes", [True, False])
def test_traced_in_one_piece(seen, planes):
    """torch.compile sees the whole of W and G as one graph; anything that it cannot follow would cost a launch."""
    warping, drawing = network(WarpingModule, WARPING, "W"), network(Generator, GENERATOR, "G")
    warping.fold(planes)
    drawing.fold()
    volume, keypoints, driving = seen
    if planes:
        drawing.to(memory_format=torch.channels_last)
        # As the renderer does, so that nothing changes in the first call.
        for part in (warping, drawing):
            part.set_size(*volume.shape[-2:])

    def draw(*tensors):
        return drawing(warping(WarpSource(*tensors[:-1]), tensors[-1])["out"])

    tensors = (*warping.source(volume, keypoints).tensors, driving)
    traced = torch.compile(draw, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        torch.testing.assert_close(traced(*tensors), draw(*tensors), rtol=1e-4, atol=1e-5)


def test_a_film_in_planes_and_half_precision(models, portrait, small_liveportrait):
    """From a portrait to pasted frames as on a graphics card, but for the card, against the CPU's own way."""
    from dataclasses import replace

    from playmate_core import pipeline
    from playmate_core.motion.types import Motion
    from playmate_core.render.liveportrait import LivePortraitRenderer, load_networks

    networks = load_networks(small_liveportrait)
    networks.warping.fold(stacked_planes=True)
    networks.generator.fold()
    networks.generator.to(memory_format=torch.channels_last)
    motion = Motion.rest(5)
    motion.rotation[:, 1] = torch.linspace(0, 12, 5)
    motion.expression[:, 19, 1] = 0.03
    films = {}
    for name, renderer in {
            "card": LivePortraitRenderer(networks, models.bridge, dtype=torch.float16),
            "cpu": LivePortraitRenderer(load_networks(small_liveportrait), models.bridge)}.items():
        using = replace(models, renderer=renderer)
        appearance = pipeline.extract_appearance(using, portrait)
        films[name] = torch.cat(list(renderer.render(appearance, motion, batch_size=2)))
    assert isinstance(networks.warping.dense_motion_network, PlanarDenseMotion)
    assert networks.generator.fc.weight.dtype == torch.float16
    assert films["card"].dtype == torch.float32 and films["card"].shape == films["cpu"].shape
    error = (films["card"] - films["cpu"]).abs() * 255
    moved = (films["cpu"] - portrait).abs() * 255
    assert float(moved.max()) > 20
    assert float(error.max()) < 6 and float(error.mean()) < 0.2
