"""Lips that purse: they keep their order, end somewhere, close, and take the skin beside them along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from playmate_core.face import geometry
from playmate_core.render.landmark import pursing, topology
from playmate_core.render.landmark.grid import Grid
from playmate_core.render.landmark.warp import TIGHT, unfold, with_slopes

LEFT, RIGHT = topology.LIPS_OUTER_UPPER[0], topology.LIPS_OUTER_UPPER[-1]
SHAPE = geometry.mean_face().numpy()


def narrowed(share: float, gap: float = 0.0) -> torch.Tensor:
    """[1, 478, 3] a linear model's pursing: corners go in by ``share`` of the half width, the middles of the lips stay,
    and between them the way grows with the distance squared, so that large ways overtake each other."""
    half = (SHAPE[RIGHT, 0] - SHAPE[LEFT, 0]) / 2
    out = torch.zeros(1, topology.LANDMARKS, 3)
    for row in pursing.ROWS:
        part = SHAPE[list(row), 0] / half
        out[0, list(row), 0] = torch.from_numpy(-share * half * np.sign(part) * part ** 2).float()
    out[0, list(topology.LIPS_INNER_LOWER[1:-1]), 1] += gap
    return out


def width(displacement: torch.Tensor) -> float:
    """The mouth's width as a share of its own."""
    moved = SHAPE[:, 0] + displacement[0, :, 0].numpy()
    return float((moved[RIGHT] - moved[LEFT]) / (SHAPE[RIGHT, 0] - SHAPE[LEFT, 0]))


def test_lips_keep_their_order_and_a_mouth_narrows_only_so_far():
    purse = pursing.Pursing.of(SHAPE)
    asked = narrowed(0.75)
    for displacement, whole in ((asked, False), (purse(asked), True)):
        moved = SHAPE[:, 0] + displacement[0, :, 0].numpy()
        steps = np.stack([np.diff(moved[list(row)]) for row in pursing.ROWS])
        assert (steps.min() > 0) == whole
    assert width(asked) == pytest.approx(0.25, abs=0.02)
    assert pursing.FREE - pursing.FURTHER < width(purse(asked)) < 0.62


def test_a_mouth_that_does_not_narrow_much_is_left_as_it_is():
    purse = pursing.Pursing.of(SHAPE)
    still = torch.zeros(2, topology.LANDMARKS, 3)
    assert torch.equal(purse(still), still)
    wider, opened = narrowed(-0.3), narrowed(0.0, gap=0.04)
    assert torch.equal(purse(wider), wider) and torch.equal(purse(opened), opened)
    lips = sorted(set(sum(map(list, pursing.ROWS), [])))
    little = narrowed(0.1)
    assert torch.allclose(purse(little)[:, lips], little[:, lips], atol=1e-4)


def opened(gap: float, corners: float, width: float = 0.0) -> torch.Tensor:
    """[1, 478, 3] lips ``gap`` apart whose corners lie ``corners`` of it below the upper lip's edge."""
    out = narrowed(-width)
    level = SHAPE[13, 1] + corners * gap
    for row, middle in ((topology.LIPS_INNER_UPPER, 0.0), (topology.LIPS_INNER_LOWER, gap)):
        at = np.linspace(-1, 1, len(row)) ** 2
        wanted = (SHAPE[13, 1] + middle) * (1 - at) + level * at
        out[0, list(row), 1] = torch.from_numpy(wanted - SHAPE[list(row), 1]).float()
    return out


def edges_of(displacement: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """y [11] of the upper and of the lower lip's inner edge."""
    y = SHAPE[:, 1] + displacement[0, :, 1].numpy()
    return y[list(topology.LIPS_INNER_UPPER)], y[list(topology.LIPS_INNER_LOWER)]


def test_corners_sink_in_a_mouth_that_is_wide_open():
    purse = pursing.Pursing.of(SHAPE)
    flat = opened(0.25, 0.1)
    upper, lower = edges_of(purse.rounded(flat))
    gap = lower[5] - upper[5]
    assert (upper[[0, -1]] - upper[5]) / gap == pytest.approx([pursing.SUNK] * 2, abs=0.02)
    assert gap == pytest.approx(0.25, abs=1e-5) and (np.diff(upper)[:5] < 0).all(), "an arch"
    assert (lower - upper)[1:-1] == pytest.approx((edges_of(flat)[1] - edges_of(flat)[0])[1:-1], abs=1e-5)
    beside = [43, 273]
    assert (purse.rounded(flat)[0, beside, 1] > 0.005).all(), "the skin beside them goes along"


def test_slits_smiles_and_shut_lips_are_not_rounded():
    purse = pursing.Pursing.of(SHAPE)
    still = torch.zeros(1, topology.LANDMARKS, 3)
    for left in (still, opened(0.05, 0.1), opened(0.25, -0.15), opened(0.25, 0.55)):
        assert torch.equal(purse.rounded(left), left)


def test_the_narrower_the_request_the_narrower_the_mouth():
    purse = pursing.Pursing.of(SHAPE)
    widths = [width(purse(narrowed(share))) for share in np.linspace(0, 0.9, 19)]
    assert (np.diff(widths) < 0).all() and np.abs(np.diff(widths)).max() < 0.06


def test_skin_beside_the_corners_comes_along():
    purse = pursing.Pursing.of(SHAPE)
    drawn = purse(narrowed(0.4))[0]
    beside = [57, 43, 186, 92]  # just outside of the left corner
    assert (drawn[beside, 0] > 0.3 * drawn[LEFT, 0]).all() and (drawn[beside, 0] < drawn[LEFT, 0]).all()
    assert drawn[[33, 263, 4, 168, 468, 473]].abs().max() < 1e-6


@pytest.mark.parametrize("share, gap, shut", [(0.35, 0.03, True), (0.35, 0.10, False), (0.0, 0.03, False)])
def test_pursed_lips_close_unless_they_are_wide_open(share, gap, shut):
    out = pursing.Pursing.of(SHAPE)(narrowed(share, gap))[0]
    upper, lower = topology.LIPS_INNER_UPPER[5], topology.LIPS_INNER_LOWER[5]
    left = float(out[lower, 1] - out[upper, 1])
    assert left < 0.4 * gap if shut else left == pytest.approx(gap, rel=1e-5)


def test_a_field_that_folds_is_evened_out_and_others_are_not_touched():
    grid = Grid(0.0, 0.0, 2.0, 33, 41)
    nodes = torch.from_numpy(grid.nodes()).float().reshape(33, 41, 2)

    def pinch(amount):
        away = (nodes - torch.tensor([40.0, 32.0]))
        pull = -amount * away * torch.exp(-(away.square().sum(-1, keepdim=True)) / (2 * 8.0 ** 2))
        return pull.permute(2, 0, 1)[None]

    def least(field):
        slopes = with_slopes(field, grid.step)
        return float(((1 + slopes[:, 2]) * (1 + slopes[:, 5]) - slopes[:, 3] * slopes[:, 4]).min())

    mild, folded = pinch(0.4), torch.cat([pinch(0.4), pinch(1.0) + 0.5 * torch.sin(3 * nodes[..., 0])])
    assert torch.equal(unfold(mild, grid.step), mild)
    assert least(folded) < 0.0
    even = unfold(folded, grid.step)
    assert least(even) > 0.6 * TIGHT
    # Where nothing is tight it stays: the other frame, and far from the fold.
    assert torch.equal(even[0], folded[0])
