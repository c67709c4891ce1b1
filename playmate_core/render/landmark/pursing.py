"""Lips that purse and round: how far a mouth narrows, lips that stay together, corners that sink, skin that follows.

The bridge is linear: what it takes off a wide mouth it takes off a small one, and in an "oo" of a loud speaker half of
a small mouth would turn inside out. Real mouths gather: the further they are, the less they still narrow, the points
along the lips keep their order, and the skin beside the corners is drawn in with them from far away. And the further
they open, the rounder: the corners sink with the jaw, however the portrait's shut lips bow.

Everything here is in the head's own frame (face.geometry): outer-eye distances, x right, y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import topology
from .grid import smoothstep

FREE, FURTHER = 0.78, 0.20
"""Share of its own width down to which a mouth narrows as asked, and by how much more it can, at most. Tracked clips
end at 0.52 of their own width, LivePortrait's drawings of them, of a small mouth too, at 0.62."""
LEAST = 0.5
"""A piece of lip never shrinks further than to this share of what its row shrinks to."""
TOGETHER = (0.025, 0.075)
"""Lip gaps that count as none, and in full, in a pursed mouth: lips that push forward close. Where the bridge reads a
gap of 0.02 to 0.06 in a narrowed mouth, tracked ones are shut; where it reads more, they are as open as it says."""
NARROW = (0.92, 0.70)
"""Share of its own width from which a mouth is pursed, and at which it is so wholly."""
CORNER, CHEEK = 0.05, 0.42
"""How far from a lip's corner the skin goes with it, and where it no longer feels a pursing mouth."""
SUNK = 0.46
"""How far below the upper lip's inner edge the corners of an open mouth lie, of its gap: in tracked speakers 0.35 to
0.45 where the mouth is narrow; smiles, whose corners lie as high as the upper lip, are left as they are."""
ROUND = (0.16, 0.40)
"""Gap of an opening, of its width, from which it is round, and at which it is so wholly."""
SMILING = (-0.12, 0.10)
"""The same share below which an open mouth smiles, and above which it does not."""
ROWS = (*topology.LIPS_UPPER_ROWS, *topology.LIPS_LOWER_ROWS)


@dataclass(frozen=True)
class Pursing:
    """What pursing needs to know of one portrait.

    Attributes:
        rest: [R, 11] x of the lips' landmarks, rows as in ``ROWS``.
        skin: [478, L] how the landmarks off the lips feel a correction of each of ``lips``.
        lips: [L] the lips' landmarks.
        follow: [478, 2] how far a landmark goes along with the left and the right corner.
        inner: [2, 11, 2] the lips' inner edges, upper and lower.
    """

    rest: Tensor
    skin: Tensor
    lips: list[int]
    follow: Tensor
    inner: Tensor

    @staticmethod
    def of(shape: np.ndarray) -> Pursing:
        """From the portrait's landmarks ``shape`` [478, 3]."""
        lips = sorted(set(sum(map(list, ROWS), [])))
        distance = np.linalg.norm(shape[:, None, :2] - shape[None, lips, :2], axis=-1)
        kernel = np.exp(-0.5 * (distance / 0.05) ** 2) + 1e-12
        skin = kernel / kernel.sum(1, keepdims=True) * (1 - smoothstep(distance.min(1) / 0.30))[:, None]
        ends = [topology.LIPS_OUTER_UPPER[0], topology.LIPS_OUTER_UPPER[-1]]
        follow = 1 - smoothstep((np.linalg.norm(shape[:, None, :2] - shape[None, ends, :2], axis=-1) - CORNER)
                                / (CHEEK - CORNER))
        # Above and below the lips skin is gathered as they are: by its share of the way to the corner.
        middle, half = shape[ends, 0].mean(), max(float(shape[ends[1], 0] - shape[ends[0], 0]) / 2, 1e-3)
        follow *= ((shape[:, None, 0] - middle) / half * np.array([-1.0, 1.0])).clip(0, 1)
        # The nose stands where it is, and so does whatever lies above its tip.
        tip, under = shape[1, 1], shape[2, 1]
        follow *= smoothstep((shape[:, 1] - tip) / max(2.0 * (under - tip), 0.02))[:, None]
        # The face's outline is the head's, not the mouth's.
        rim = np.linalg.norm(shape[:, None, :2] - shape[None, list(topology.OVAL), :2], axis=-1).min(1)
        follow *= smoothstep(rim / 0.22)[:, None]
        for table in (skin, follow):
            table[lips] = 0
            table[topology.MESH_POINTS:] = 0
        rows = np.stack([shape[list(row), 0] for row in ROWS])
        inner = np.stack([shape[list(row), :2] for row in (topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER)])
        own, felt, along, inside = (torch.from_numpy(t.astype(np.float32)) for t in (rows, skin, follow, inner))
        return Pursing(own, felt, lips, along, inside)

    def __call__(self, displacement: Tensor) -> Tensor:
        """[T, 478, 3] with lips that gather as lips do; a mouth that does not narrow is left as it is."""
        rows = [list(row) for row in ROWS]
        rest = self.rest.to(displacement.device)
        moved = rest + torch.stack([displacement[:, row, 0] for row in rows], 1)
        outer = len(topology.LIPS_UPPER_ROWS) - 1
        share = ((moved[:, outer, -1] - moved[:, outer, 0]) / (rest[outer, -1] - rest[outer, 0]).clamp_min(1e-3))
        out = displacement.clone()
        wanted = in_order(rest, moved, share)
        change = torch.zeros_like(displacement[..., 0])
        for number, row in enumerate(rows):
            change[:, row] = wanted[:, number] - moved[:, number]
        change = change + change[:, self.lips] @ self.skin.to(change.device).T
        out[..., 0] += change
        out = self._skin_along(out)
        return self._together(out, share)

    def rounded(self, displacement: Tensor) -> Tensor:
        """[T, 478, 3] with corners that sink as the mouth opens: what is left of a flat upper edge and corners on its
        height, when shut lips that bow are only drawn apart, is no mouth but a box."""
        inner = self.inner.to(displacement.device)
        edges = [inner[part] + displacement[:, list(row), :2]
                 for part, row in enumerate((topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER))]
        left, right = ((edges[0][:, end] + edges[1][:, end]) / 2 for end in (0, -1))
        chord = right - left
        width = chord.norm(dim=-1).clamp_min(1e-3)
        down = torch.stack([-chord[:, 1], chord[:, 0]], -1) / width[:, None]
        upper, lower = (((edge[:, 4:7].mean(1) - left) * down).sum(-1) for edge in edges)
        gap = (lower - upper).clamp_min(1e-4)
        share = -upper / gap
        amount = smoothstep((gap / width - ROUND[0]) / (ROUND[1] - ROUND[0]))
        amount = amount * smoothstep((share - SMILING[0]) / (SMILING[1] - SMILING[0]))
        sink = (amount * (SUNK - share).clamp_min(0) * gap)[:, None] * down
        # Points beside the corner go along by how far a round opening is still shut there.
        beside = torch.linspace(-1, 1, len(topology.LIPS_INNER_UPPER), device=sink.device).square()
        out = displacement.clone()
        change = displacement.new_zeros(*displacement.shape[:2], 2)
        for row in ROWS:
            change[:, list(row)] = beside[:, None] * sink[:, None]
        out[..., :2] += change + torch.einsum("nk,tkc->tnc", self.skin.to(change.device), change[:, self.lips])
        return out

    def _skin_along(self, out: Tensor) -> Tensor:
        """The skin beside the corners goes inward with them, at least as far as its nearness says."""
        corners = topology.LIPS_OUTER_UPPER[0], topology.LIPS_OUTER_UPPER[-1]
        # What a mouth that shifts sideways does to the cheeks is the bridge's to say.
        middle = (out[:, corners[0], 0] + out[:, corners[1], 0]) / 2
        follow = self.follow.to(out.device)
        x = out[..., 0].clone()
        for side, (corner, sign) in enumerate(zip(corners, (1.0, -1.0), strict=True)):
            near = follow[:, side]
            inward = ((out[:, corner, 0] - middle) * sign).clamp_min(0)[:, None]
            own = (x - middle[:, None]) * sign
            x = x + sign * near * (inward * near - own).clamp_min(0) * (inward > 0)
        out[..., 0] = x
        return out

    def _together(self, out: Tensor, share: Tensor) -> Tensor:
        """Small gaps of a pursed mouth are shut, half by either lip."""
        upper, lower = list(topology.LIPS_INNER_UPPER), list(topology.LIPS_INNER_LOWER)
        gap = (out[:, lower, 1] - out[:, upper, 1]).clamp_min(0)
        pursed = smoothstep((NARROW[0] - share) / (NARROW[0] - NARROW[1]))
        widest = gap.amax(1)
        shut = pursed * (1 - smoothstep((widest - TOGETHER[0]) / (TOGETHER[1] - TOGETHER[0])))
        half = gap * shut[:, None] / 2
        out[:, upper, 1] += half
        out[:, lower, 1] -= half
        return out


def eased(share: Tensor) -> Tensor:
    """What becomes of a mouth's width that is asked to be ``share`` of its own."""
    return torch.where(share < FREE, FREE - FURTHER * torch.tanh((FREE - share) / FURTHER), share)


def in_order(rest: Tensor, moved: Tensor, share: Tensor) -> Tensor:
    """``moved`` [T, R, K] x of rows whose outer row is ``share`` [T] as wide as at rest: never too narrow, and with
    pieces none of which is overrun.

    Args:
        rest: [R, K] the same at rest.
    """
    own = (rest[:, -1] - rest[:, 0]).clamp_min(1e-3)
    width = moved[..., -1] - moved[..., 0]
    middle = (moved[..., -1] + moved[..., 0]) / 2
    # Every row by what the outer row is eased: the lips' own corner stays whole.
    target = torch.maximum(width + (eased(share) - share)[:, None] * own, 0.5 * own)
    wider = target[..., None] / width.clamp_min(1e-3)[..., None]
    pieces = moved.diff(dim=-1) * torch.where(width[..., None] > 0.1 * own[:, None], wider, 1.0)
    least = LEAST * rest.diff(dim=-1).clamp_min(0) * (target / own)[..., None]
    pieces = torch.maximum(pieces, least)
    pieces = pieces * (target / pieces.sum(-1).clamp_min(1e-3))[..., None]
    ordered = torch.cat([torch.zeros_like(middle)[..., None], pieces.cumsum(-1)], -1)
    ordered = ordered + (middle - target / 2)[..., None]
    # Rounding is no change.
    return torch.where((ordered - moved).abs().amax(-1, keepdim=True) > 1e-5, ordered, moved)
