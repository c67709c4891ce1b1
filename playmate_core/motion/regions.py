"""Parts of the face among LivePortrait's implicit keypoints."""

from __future__ import annotations

from typing import Iterable

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .types import KEYPOINTS

REGION_KEYPOINTS: dict[str, tuple[int, ...]] = {
    "mouth": (6, 12, 14, 17, 19, 20),
    "eyes": (11, 13, 15, 16, 18),
    "brows": (1, 2),
    "rest": (0, 3, 4, 5, 7, 8, 9, 10),
}
"""Which keypoints belong to which part of the face; every keypoint belongs to exactly one.

Mouth and eyes are the sets LIP and EYES of SPEC.md section 10, with all three axes, as LivePortrait itself moves
them. Brows are the keypoints that its eyebrow slider moves (appendix A). What is left, the rest of the face, is
cheeks, jaw and outline. LivePortrait's keypoints are learned, not placed: the rest follows a wide open jaw and the
brows' keypoints take some part in blinks, so for speech from one motion on the face of another, give "rest" the
weight of "mouth".
"""

EXPRESSION_REGIONS = tuple(REGION_KEYPOINTS)
REGIONS = (*EXPRESSION_REGIONS, "pose")
"""The face's regions, and the head's pose: rotation, translation and scale."""


def region_masks(device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """[21, 3] float masks of the expression regions: 1 inside, 0 outside; they add up to 1 everywhere."""
    masks = {}
    for name, keypoints in REGION_KEYPOINTS.items():
        masks[name] = torch.zeros(KEYPOINTS, 3, device=device)
        masks[name][list(keypoints)] = 1.0
    return masks


def check_regions(names: Iterable[str]) -> None:
    """Raises PlaymateError if one of ``names`` is not in REGIONS."""
    for name in names:
        if name not in REGIONS:
            raise PlaymateError(f"There is no region {name!r}; choose from {', '.join(REGIONS)}.")
