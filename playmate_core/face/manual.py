"""Faces where the user says they are, for portraits in which the detector finds none: drawings, masks, animals.

The mesh reads the place that is given; it draws a face into much that only resembles one, which is welcome here.
Where it sees none either, or wanders off, the average face of the latent bridge is laid there: crude, but the head
moves and the mouth opens where they should.
"""

from __future__ import annotations

import re
from typing import Tuple

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .analyzer import FaceAnalyzer
from .blendshapes import NAMES
from .crop import Roi
from .detector import box_overlap
from .geometry import mean_face
from .types import Face
from .views import bounds, landmark_roi

FEATURES = ((33, 133), (362, 263), (1,), (61,), (291,))
"""Landmarks whose middles are the five points: both eyes, the tip of the nose, both corners of the mouth, each pair
from the picture's left to its right."""
POINTS_FORM = "five points as 'x y; x y; x y; x y; x y' in pixels: left eye, right eye, nose, left and right corner " \
              "of the mouth, left and right as in the picture"
BOX_FORM = "'left top width height' in pixels, such as '120 80 300 340'"

AVERAGE = "The mesh sees no face there, so an average face was laid into the place that you gave."
"""What the user is told when the landmarks are not read from the picture."""

_SMALLEST = 8.0  # pixels; a smaller face has no landmarks to speak of
_OVERLAP = 0.3  # of the mesh's face and the box, intersection over union; less is another face
_ASTRAY = 0.35  # mean distance of the mesh's features from the given ones, in distances of the eyes


def parse_box(text: str) -> Tensor:
    """[4] left, top, width and height, pixels.

    Raises:
        PlaymateError: not four numbers, or a box without area.
    """
    values = _numbers(text)
    if values is None or len(values) != 4 or min(values[2:]) <= 0:
        raise PlaymateError(f"The face box is {text.strip()[:60]!r}; give {BOX_FORM}.")
    return torch.tensor(values)


def parse_points(text: str) -> Tensor:
    """[5, 2] both eyes, nose, corners of the mouth, pixels.

    Raises:
        PlaymateError: not ten numbers.
    """
    values = _numbers(text)
    if values is None or len(values) != 10:
        raise PlaymateError(f"The face points are {text.strip()[:60]!r}; give {POINTS_FORM}.")
    return torch.tensor(values).reshape(5, 2)


def mask_box(mask: Tensor) -> Tensor:
    """[4] left, top, width and height of what is painted in a mask [H, W], pixels.

    Raises:
        PlaymateError: nothing is painted.
    """
    rows, columns = torch.nonzero(torch.nan_to_num(mask.float()) > 0.5, as_tuple=True)
    if not len(rows):
        raise PlaymateError("The mask is empty; paint it over the face.")
    left, top = int(columns.min()), int(rows.min())
    return torch.tensor([left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]).float()


def face_in_box(analyzer: FaceAnalyzer, image: Tensor, box: Tensor) -> Tuple[Face, bool]:
    """The face in a box that reaches from the hairline to the chin and from cheek to cheek.

    Args:
        image: [H, W, 3], 0 to 1.
        box: [4] left, top, width and height, pixels.

    Returns:
        The face, and whether its landmarks were read from the picture (else it is the average face).

    Raises:
        PlaymateError: a box that is too small or lies outside the picture.
    """
    left, top, width, height = box.tolist()
    _check_place(Roi(left + width / 2, top + height / 2, min(width, height)), image)
    corners = torch.tensor([left, top, left + width, top + height])
    roi = Roi(left + width / 2, top + height / 2, 1.5 * max(width, height))
    for settle in (True, False):
        face = analyzer.read(image, roi, settle)
        if face is not None and float(box_overlap(bounds(face.landmarks)[None], corners[None])) >= _OVERLAP:
            return face, True
    average = mean_face()
    low, high = bounds(average)[:2], bounds(average)[2:]
    stretch = torch.tensor([width, height]) / (high - low)
    placed = (average[:, :2] - low) * stretch + corners[:2]
    return _average(torch.cat([placed, average[:, 2:] * float(stretch.mean())], -1)), False


def face_at_points(analyzer: FaceAnalyzer, image: Tensor, points: Tensor) -> Tuple[Face, bool]:
    """The face whose eyes, nose and mouth lie at given points.

    The mesh's landmarks, or the average face, are moved, scaled, turned and sheared so that these features come as near
    to the points as that allows (least squares).

    Args:
        image: [H, W, 3], 0 to 1.
        points: [5, 2] as in ``FEATURES``, pixels.

    Returns:
        As ``face_in_box``.

    Raises:
        PlaymateError: points that are too close, in another order, or outside the picture.
    """
    eyes = float((points[1] - points[0]).norm())
    average = _laid(mean_face(), points)
    roi = landmark_roi(average)
    _check_place(Roi(roi.x, roi.y, eyes), image)
    for settle in (True, False):
        face = analyzer.read(image, roi, settle)
        if face is not None and float((_features(face.landmarks) - points).norm(dim=-1).mean()) <= _ASTRAY * eyes:
            landmarks = _laid(face.landmarks, points)
            return Face(landmarks, face.blendshapes, bounds(landmarks), 1.0, face.presence), True
    return _average(average), False


def _features(landmarks: Tensor) -> Tensor:
    return torch.stack([landmarks[list(part), :2].mean(0) for part in FEATURES])


def _laid(landmarks: Tensor, points: Tensor) -> Tensor:
    """Landmarks [478, 3] under the affine map that takes their features nearest to ``points``."""
    here = torch.cat([_features(landmarks), torch.ones(5, 1)], -1).double()
    found = torch.linalg.lstsq(here, points.double(), driver="gelsd").solution
    area = float(torch.linalg.det(found[:2]))
    if not torch.isfinite(found).all() or area <= 0:
        raise PlaymateError(f"The face points are no face, or in another order; give {POINTS_FORM}.")
    flat = (torch.cat([landmarks[:, :2], torch.ones(len(landmarks), 1)], -1).double() @ found).float()
    return torch.cat([flat, landmarks[:, 2:] * area**0.5], -1)


def _average(landmarks: Tensor) -> Face:
    return Face(landmarks, torch.zeros(len(NAMES)), bounds(landmarks), 1.0, 0.0)


def _check_place(roi: Roi, image: Tensor) -> None:
    height, width = image.shape[:2]
    if roi.size < _SMALLEST:
        raise PlaymateError(f"The face that you marked is {roi.size:.0f} pixels large; at least {_SMALLEST:.0f} are "
                            "needed, so enlarge the picture or mark the whole face.")
    if not (0 <= roi.x <= width and 0 <= roi.y <= height):
        raise PlaymateError(f"The face that you marked lies around {roi.x:.0f}, {roi.y:.0f}, outside the picture of "
                            f"{width} x {height} pixels; count pixels from its upper left corner.")


def _numbers(text: str) -> list[float] | None:
    """The numbers of a text in which only spaces, commas, semicolons and brackets stand between them."""
    words = re.sub(r"[\[\](),;]", " ", text).split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    return values if all(abs(value) < 1e6 for value in values) else None
