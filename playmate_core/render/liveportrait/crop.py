"""Which square of the picture the networks see (SPEC.md section 12)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...face import geometry
from ...runtime.errors import PlaymateError

CROP_SIZE = 512
SOURCE_SCALE, SOURCE_SHIFT = 2.3, -0.125

_OVAL = geometry.OVAL
_JAW = _OVAL[_OVAL.index(356):_OVAL.index(127) + 1]
MESH_CONTOUR = (*_JAW, *(point for brow in geometry.BROWS_UPPER for point in brow))
"""Mesh landmarks that span what InsightFace's 106 points span: jaw from temple to temple, and the brows. The forehead
is left out, since the published crop factors were chosen without it and the face would come out too small."""


@dataclass(frozen=True)
class Square:
    """A rotated square of a picture, pixels with centres at integers (OpenCV's convention).

    Attributes:
        x, y: centre.
        size: side before any resizing.
        angle: radians, positive clockwise on the screen.
    """

    x: float
    y: float
    size: float
    angle: float

    def matrix(self, side: int = CROP_SIZE) -> Tensor:
        """[3, 3] float64 picture pixels -> pixels of the crop with ``side`` pixels a side (M_o2c)."""
        k = side / self.size
        c, s = math.cos(self.angle), math.sin(self.angle)
        return torch.tensor([
            [k * c, k * s, side / 2 - k * (c * self.x + s * self.y)],
            [-k * s, k * c, side / 2 - k * (-s * self.x + c * self.y)],
            [0.0, 0.0, 1.0]], dtype=torch.float64)


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """[3, 3] or [2, 3] on [..., 2] points, in float64."""
    matrix = matrix.double()
    return points.double() @ matrix[:2, :2].T + matrix[:2, 2]


def square_of(points: Tensor, axes: Tensor, scale: float = SOURCE_SCALE, shift_y: float = SOURCE_SHIFT) -> Square:
    """The square around a face.

    Args:
        points: [N, 2] landmarks.
        axes: [2, 2] the two points from which the face's axes are read: between the eyes, at the mouth.
        scale: side of the square in units of the landmarks' box.
        shift_y: shift along the face's own axis in units of the side; negative is towards the forehead.

    Raises:
        PlaymateError: landmarks without extent.
    """
    points = points.double()
    upper, lower = axes.double()
    down = lower - upper
    length = down.norm()
    down = torch.tensor([0.0, 1.0], dtype=torch.float64) if length <= 1e-3 else down / length
    right = torch.stack([down[1], -down[0]])
    angle = math.atan2(float(right[1]), float(right[0]))
    middle = points.mean(dim=0)
    offsets = torch.stack([(points - middle) @ right, (points - middle) @ down], dim=-1)
    low, high = offsets.amin(dim=0), offsets.amax(dim=0)
    size = float((high - low).max()) * scale
    mid = (low + high) / 2
    centre = middle + right * mid[0] + down * (mid[1] + shift_y * size)
    if not (math.isfinite(size) and size > 0):
        raise PlaymateError("The face's landmarks lie on one point; choose another face or a larger picture.")
    return Square(float(centre[0]), float(centre[1]), size, angle)


def square_of_mesh(landmarks: Tensor, scale: float = SOURCE_SCALE, shift_y: float = SOURCE_SHIFT) -> Square:
    """The square around a face of the 478-point mesh, as large as the published code's 106 points would have it.

    Args:
        landmarks: [478, 2 or 3] pixels with centres at integer + 0.5 (``face.types.Face``).
    """
    flat = landmarks[:, :2].cpu().double() - 0.5
    eyes = flat[list(geometry.IRIS_CENTRES)].mean(dim=0)
    mouth = flat[[61, 291]].mean(dim=0)
    return square_of(flat[list(MESH_CONTOUR)], torch.stack([eyes, mouth]), scale, shift_y)
