"""Which of several faces is meant."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .types import Face

POLICIES = ("largest", "left", "right", "index")
"""Ways to choose: the largest, the leftmost, the rightmost, or a number counted from the left."""

_COVERED = 0.25  # share of a face's landmarks under the mask from which it counts as marked


def face_area(face: Face) -> float:
    """Area of the landmarks' bounding box, pixels squared."""
    points = face.landmarks[:, :2]
    return float((points.amax(0) - points.amin(0)).prod())


def left_to_right(faces: Sequence[Face]) -> list[Face]:
    """The faces by the horizontal place of their middles."""
    return sorted(faces, key=lambda face: float(face.landmarks[:, 0].mean()))


def select_face(faces: Sequence[Face], image_size: tuple[int, int], policy: str = "largest", index: int = 0,
                mask: Tensor | None = None) -> Face:
    """One face of those found in a picture.

    Args:
        faces: what ``FaceAnalyzer.analyze`` found.
        image_size: height and width of the picture, pixels.
        policy: one of ``POLICIES``.
        index: for policy "index" only: 0 is the leftmost face.
        mask: [H, W] or [1, H, W], 0 to 1; only faces with at least a quarter of their landmarks where it is above
            one half are candidates, and of these only such as it covers at least half as well as the best covered.

    Raises:
        PlaymateError: no face, no such face, a mask of another size or one that covers no face, or an unknown policy.
    """
    if policy not in POLICIES:
        raise PlaymateError(f"'{policy}' is no way to choose a face; use one of {', '.join(POLICIES)}.")
    if not faces:
        raise PlaymateError("No face was found in the picture; use one in which a face is clearly visible, upright "
                            "and large enough, crop the picture closer to the face, or say where it is with face_box "
                            "or face_points.")
    candidates = left_to_right(faces)
    if mask is not None:
        candidates = _covered(candidates, image_size, mask)
    if policy == "index":
        if not 0 <= index < len(candidates):
            many = "one face was found" if len(candidates) == 1 else f"{len(candidates)} faces were found"
            under = "" if mask is None else " under the mask"
            raise PlaymateError(f"Face {index} does not exist because only {many}{under} in the picture; faces are "
                                f"counted from the left, so use an index from 0 to {len(candidates) - 1}.")
        return candidates[index]
    if policy == "largest":
        return max(candidates, key=face_area)
    return candidates[0 if policy == "left" else -1]


def _covered(faces: Sequence[Face], image_size: tuple[int, int], mask: Tensor) -> list[Face]:
    """The faces under the mask, in the order given."""
    mask = mask[0] if mask.ndim == 3 and mask.shape[0] == 1 else mask
    height, width = image_size
    if tuple(mask.shape) != (height, width):
        size = " x ".join(str(side) for side in reversed(mask.shape))
        raise PlaymateError(f"The mask measures {size} pixels but the picture {width} x {height}; "
                            "use a mask made for this picture, or none.")
    marked = torch.nan_to_num(mask.float()) > 0.5
    shares = []
    for face in faces:
        pixels = face.landmarks[:, :2].floor().long().to(mask.device)
        inside = ((pixels >= 0) & (pixels < torch.tensor([width, height], device=mask.device))).all(-1)
        column, row = pixels[inside].unbind(-1)
        shares.append(float(marked[row, column].sum()) / len(pixels))
    best = max(shares)
    if best < _COVERED:
        what = "the face" if len(faces) == 1 else f"any of the {len(faces)} faces"
        raise PlaymateError(f"The mask does not cover {what} found in the picture; paint it over the face "
                            "that is to be animated, or leave it out.")
    return [face for face, share in zip(faces, shares, strict=True) if share >= max(_COVERED, best / 2)]
