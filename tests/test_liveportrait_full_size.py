"""LivePortrait's networks at their published sizes, weights by recipe, against parity_full.

G takes about ten seconds a picture on one core, so that this file is the slowest of the parity tests.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from laboratory.parity import liveportrait
from laboratory.parity.liveportrait import FullSize, allowed, difference, drawn
from tests.liveportrait_helpers import fixture, skip_unless_the_whole_file_runs


@pytest.fixture(scope="module")
def reference(shared):
    path = shared / "reference" / "liveportrait" / "parity_full.safetensors"
    if not path.is_file():
        pytest.skip("LivePortrait's fixtures are not on this machine")
    return fixture(path)


@pytest.fixture(scope="module")
def networks():
    """Their weights are drawn once."""
    return FullSize()


@pytest.fixture
def compare(reference, record_property):
    """Holds arrays to the stored ones and writes the errors down."""
    def check(found):
        for name, value in found.items():
            error = float(difference(*reference, name, value).max())
            record_property(name, error)
            assert error < allowed(name), name
    return check


def test_from_pictures_to_a_picture(reference, compare, networks):
    compare(liveportrait.chain(networks, reference[0]))


@pytest.mark.parametrize("way", liveportrait.WARPING_WAYS)
def test_warping_alone(reference, compare, networks, way):
    """As published, as the CPU runs it, and as graphics cards do."""
    compare(liveportrait.warping_alone(networks, *reference, way=way))


@pytest.mark.parametrize("way", ["plain", "fused"])
def test_generator_alone(reference, compare, networks, way):
    assert torch.allclose(drawn("iso.feature", [1, 256, 64, 64]).flatten()[:3],
                          torch.tensor([-0.07621797, -2.8907907, -0.9200393]), atol=1e-5)
    compare(liveportrait.generator_alone(networks, reference[1], way=way))


class TensorCores(TorchDispatchMode):
    """Convolutions of half-precision tensors as graphics cards do them: sums in float32, results in half precision.

    The CPU's own take minutes at these sizes.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default and args[0].dtype in (torch.float16, torch.bfloat16):
            wide = [value.float() if isinstance(value, torch.Tensor) else value for value in args]
            return func(*wide, **(kwargs or {})).to(args[0].dtype)
        return func(*args, **(kwargs or {}))


def test_half_precision(reference, networks, record_property):
    """W and G as GPUs run them, all else in float32: nothing overflows, and the picture is within a few grey levels."""
    with TensorCores():
        image = liveportrait.chain_in_half(networks, reference[0])
    assert image.dtype == torch.float16
    error = difference(*reference, "G.image", image) * 255
    record_property("grey levels, largest and mean", f"{float(error.max()):.2f} {float(error.mean()):.3f}")
    most, mean = liveportrait.HALF
    assert float(error.max()) < most and float(error.mean()) < mean


def test_every_array_was_compared(reference, request):
    skip_unless_the_whole_file_runs(request)
    assert reference[0].unseen == []
