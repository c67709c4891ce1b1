"""The keypoints with which JoyVASA's program drives LivePortrait's networks (SPEC.md section 9).

LivePortrait's renderer here has its own ways of driving; these are the published ones, for whoever wants exactly them.
Stitching and lip closing are the renderer's networks and come after.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ...motion.geometry import rotation_matrix, transform_keypoints
from ...motion.types import Motion
from ...runtime.errors import PlaymateError

LIPS = (6, 12, 14, 17, 19, 20)
REGIONS = ("all", "exp", "pose", "lip", "eyes")


@dataclass(frozen=True)
class Source:
    """The portrait as LivePortrait's motion extractor reads it.

    Attributes:
        keypoints: [21, 3] canonical.
        expression: [21, 3].
        rotation: [3] degrees: pitch, yaw, roll.
        translation: [3].
        scale: [1].
    """

    keypoints: Tensor
    expression: Tensor
    rotation: Tensor
    translation: Tensor
    scale: Tensor

    def posed(self) -> Tensor:
        """[21, 3] keypoints of the portrait itself."""
        return transform_keypoints(self.keypoints[None], self.rotation[None], self.expression[None], self.scale[None],
                                   self.translation[None])[0]


def driving_keypoints(source: Source, motion: Motion, region: str = "all", relative: bool = False,
                      option: str = "expression-friendly", multiplier: float = 1.0) -> Tensor:
    """[T, 21, 3] keypoints for the warping network.

    Everything counts from the motion's first frame, save the lips when the whole face moves: they are taken as
    generated. That holds whatever ``relative`` says (SPEC.md section 9).

    Args:
        motion: as generated; its neutral frame has no say.
        region: ``"all"``, ``"exp"``, ``"pose"``, ``"lip"`` or ``"eyes"``.
        relative, option: together ``True`` and ``"expression-friendly"`` scale the movement by the sizes of the two
            heads; the other option is ``"pose-friendly"``.
        multiplier: of what remains between the portrait's keypoints and the driven ones.

    Raises:
        PlaymateError: another region or option.
    """
    if region not in REGIONS:
        raise PlaymateError(f"The driven region is {region!r}; use one of: {', '.join(REGIONS)}.")
    if option not in ("expression-friendly", "pose-friendly"):
        raise PlaymateError(f"The driving option is {option!r}; use expression-friendly or pose-friendly.")
    own = rotation_matrix(source.rotation)
    turn = rotation_matrix(motion.rotation)
    rotation = turn @ turn[0].T @ own if region in ("all", "pose") else own.expand(len(motion), 3, 3)
    moved = source.expression + motion.expression - motion.expression[0]
    expression = source.expression.expand_as(moved).clone()
    lips = list(LIPS)
    if region in ("all", "exp"):
        expression = moved
        expression[:, lips] = motion.expression[:, lips]
    elif region == "lip":
        expression[:, lips] = moved[:, lips]
    scale = source.scale * (motion.scale / motion.scale[0])
    shift = source.translation + (motion.translation - motion.translation[0])
    driven = transform_keypoints(source.keypoints[None], rotation, expression, scale, shift)
    still = source.posed()
    if relative and option == "expression-friendly":
        driven = still + (driven - driven[0]) * (hull_volume(still) / hull_volume(driven[0])) ** 0.5
    return still + (driven - still) * multiplier


def hull_volume(points: Tensor) -> float:
    """Volume of the convex hull of [K, 3] points, K a few dozen at most.

    A triangle is part of the hull when all other points lie on one side of it; the hull is then made of the
    tetrahedra over these triangles. Points are shaken by a billionth so that no four share a face.
    """
    spread = points.double()
    spread = spread - spread.mean(0)
    generator = torch.Generator().manual_seed(0)
    shake = torch.randn(spread.shape, generator=generator, dtype=torch.float64).to(spread)
    spread = spread + 1e-9 * spread.abs().max() * shake
    corner = torch.tensor(list(combinations(range(len(spread)), 3)), device=spread.device)
    a, b, c = spread[corner].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    side = (spread[None] - a[:, None]) @ normal[..., None]
    side = side[..., 0].scatter(1, corner, 0.0)
    outer = (side >= 0).all(1) | (side <= 0).all(1)
    return float((a * normal).sum(-1).abs()[outer].sum() / 6.0)
