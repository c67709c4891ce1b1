"""Looking up values: the same on every device, and devices that do it wrongly are found out."""

from __future__ import annotations

import ast
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from playmate_core.runtime import sampling
from playmate_core.runtime.errors import PlaymateError
from playmate_core.runtime.sampling import as_torch_does, by_indexing, by_moving_inside, sample
from tests.conftest import ROOT

CASES = list(product((2, 3), ("zeros", "border"), (False, True)))


def given(axes: int):
    random = torch.Generator().manual_seed(axes)
    values = torch.randn(2, 3, *(4, 7, 6)[-axes:], generator=random)
    places = torch.rand(2, *(3, 9, 8)[-axes:], axes, generator=random) * 3 - 1.5
    # Exactly on the border, on the outermost centres, and far away.
    edges = torch.tensor([-40.0, -1.0, 1 / 6 - 1, 0.0, 1 - 1 / 6, 1.0, 40.0])
    places.flatten()[:len(edges)] = edges
    return values, places


@pytest.mark.parametrize("axes, padding, corners", CASES)
@pytest.mark.parametrize("way", [by_moving_inside, by_indexing, sample])
def test_every_way_gives_what_torch_gives(way, axes, padding, corners):
    values, places = given(axes)
    wanted = F.grid_sample(values, places, padding_mode=padding, align_corners=corners)
    torch.testing.assert_close(way(values, places, padding, corners), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_one_cell_wide(axes):
    values, places = torch.full((1, 1, *[1] * axes), 3.0), torch.rand(1, *[2] * axes, axes) * 4 - 2
    for way, corners in product((by_moving_inside, by_indexing), (False, True)):
        torch.testing.assert_close(way(values, places, "border", corners), torch.full_like(places[..., :1], 3.0)
                                   .movedim(-1, 1), rtol=0, atol=1e-6)


def test_dtypes_and_strides():
    values, places = given(2)
    wanted = sample(values, places, "border")
    half = sample(values.half(), places.half(), "border")
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), sample(values.half().float(), places.half().float(), "border"),
                               rtol=1e-3, atol=1e-3)
    wide = sample(values.double(), places, "border")
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), wanted, rtol=0, atol=1e-5)
    crossed = places.permute(0, 2, 1, 3)
    assert torch.equal(sample(values, crossed, "border"), sample(values, crossed.contiguous(), "border"))
    one = values[:1].expand(2, -1, -1, -1)
    assert torch.equal(sample(one, places), sample(one.contiguous(), places))


class OtherDevice:
    """Stands for a device that is not the CPU while its tensors are."""

    type = "other"


@pytest.fixture
def other(monkeypatch):
    monkeypatch.setattr(sampling, "_ways", {})
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_, **__: self)
    return OtherDevice()


def test_a_bad_device_is_refused_every_time(other, monkeypatch):
    right = as_torch_does
    turns = []

    def wrong_on_the_device(values, places, padding, corners):
        turns.append(1)
        return right(values, places, padding, corners) + len(turns)

    for name in ("as_torch_does", "by_moving_inside", "by_indexing"):
        monkeypatch.setattr(sampling, name, wrong_on_the_device)
    for _ in range(2):
        with pytest.raises(PlaymateError, match="samples pictures wrongly; choose the device cpu"):
            sampling.check_device(other)
    assert "other" not in sampling._ways


def test_nothing_else_in_the_product_calls_grid_sample():
    callers = set()
    for path in [*(ROOT / "playmate_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("grid_sample"):
                callers.add(str(path.relative_to(ROOT)))
    assert callers == {"playmate_core/runtime/sampling.py"}
