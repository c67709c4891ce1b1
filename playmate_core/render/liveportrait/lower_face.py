"""The part of a crop that a mouth moves: where the drawn square goes back into a film whose eyes, brows and head stay
its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import geometry
from .crop import CROP_SIZE, Square, apply_matrix

UPPER = (93, 123, 50, 4, 280, 352, 323)
"""Upper border from the picture's left to its right: cheeks below the eyes' bags, and the tip of the nose."""
JAW = (361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132)
"""The rest of the ring, along the jaw back to the left."""
MOUTH = (61, 291)

BEYOND = (0.12, 0.3)
"""How far the ring reaches beyond the jaw, to the side and down, as a share of its distance from the mouth: a jaw that
is shut in the film opens by a quarter of that and must still be whole, while hair beside it stays as it is."""
RAMP = 0.15
"""Outer-eye distances over which the part fades in from its border."""
FINENESS = 128
"""Pixels a side that are worked out, which are enough for so smooth a mask; the crop's others lie between them."""


@dataclass(frozen=True)
class LowerFace:
    """The part in one crop.

    Attributes:
        mask: [1, 1, side, side] share of the drawn crop, 0 from the border outwards.
        box: left, top, right, bottom in pixels of the crop; beyond it the mask is 0.
    """

    mask: Tensor
    box: tuple[float, float, float, float]


def lower_face(landmarks: Tensor, square: Square, side: int, device=None) -> LowerFace:
    """The part of a face's crop that a mouth moves.

    Args:
        landmarks: [478, 3] pixels of the picture with centres at integer + 0.5.
        square: the crop.
        side: pixels a side of the crop.
    """
    flat = apply_matrix(square.matrix(CROP_SIZE), landmarks[:, :2].cpu().double() - 0.5) * (side / CROP_SIZE)
    mouth = flat[list(MOUTH)].mean(0)
    jaw = flat[list(JAW)]
    ring = torch.cat([flat[list(UPPER)], jaw + (jaw - mouth) * torch.tensor(BEYOND, dtype=torch.float64)]).float()
    ramp = RAMP * float(geometry.outer_eye_distance(flat))
    left, top, right, bottom = *ring.amin(0).tolist(), *ring.amax(0).tolist()
    count = min(side, FINENESS)
    steps = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (side / count) - 0.5
    inside = depth(ring.to(device), steps, steps)
    share = (inside / max(ramp, 1e-3)).clamp(0, 1)
    share = share * share * (3 - 2 * share)
    mask = F.interpolate(share[None, None], (side, side), mode="bilinear", align_corners=False)
    reach = 2 * side / count  # what interpolation carries over the border
    return LowerFace(mask, (left - reach, top - reach, right + reach, bottom + reach))


def depth(ring: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """How deep places lie inside a ring of points.

    Args:
        ring: [N, 2] corners in their order, either way around.
        x, y: [W] and [H] columns and rows, in the corners' unit.

    Returns:
        [H, W] distance to the border, 0 outside.
    """
    start, end = ring, ring.roll(-1, 0)
    along = end - start
    px, py = x[None, :, None] - start[:, 0], y[:, None, None] - start[:, 1]
    share = ((px * along[:, 0] + py * along[:, 1]) / along.square().sum(1).clamp_min(1e-12)).clamp(0, 1)
    distance = torch.hypot(px - share * along[:, 0], py - share * along[:, 1]).amin(-1)
    # A ray to the right crosses the border an odd number of times from inside.
    spans = (start[:, 1] > y[:, None]) != (end[:, 1] > y[:, None])
    rise = torch.where(along[:, 1] == 0, torch.ones_like(along[:, 1]), along[:, 1])
    at = start[:, 0] + (y[:, None] - start[:, 1]) * along[:, 0] / rise
    crossings = (spans[:, None] & (x[None, :, None] < at[:, None])).sum(-1)
    return torch.where(crossings % 2 == 1, distance, torch.zeros_like(distance))
