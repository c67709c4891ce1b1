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
DRIVING_SCALE, DRIVING_SHIFT = 2.2, -0.1

# Number of landmarks -> points of the left eye, of the right eye, of the mouth.
LAYOUTS = {
    203: ((0, 6, 12, 18), (24, 30, 36, 42), (48, 66)),
    106: ((33, 35, 40, 39), (87, 89, 94, 93), (52, 61)),
    101: ((39, 42, 45, 48), (51, 54, 57, 60), (75, 81)),
    68: ((36, 39), (42, 45), (48, 54)),
    5: ((0,), (1,), (3, 4)),
    9: ((2, 3), (0, 1), (5, 6)),
    478: ((468,), (473,), (14,)),
}
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

    def matrix(self, side: int = CROP_SIZE, rotate: bool = True) -> Tensor:
        """[3, 3] float64 picture pixels -> pixels of the crop with ``side`` pixels a side (M_o2c)."""
        k = side / self.size
        c, s = (math.cos(self.angle), math.sin(self.angle)) if rotate else (1.0, 0.0)
        return torch.tensor([
            [k * c, k * s, side / 2 - k * (c * self.x + s * self.y)],
            [-k * s, k * c, side / 2 - k * (-s * self.x + c * self.y)],
            [0.0, 0.0, 1.0]], dtype=torch.float64)


def apply_matrix(matrix: Tensor, points: Tensor) -> Tensor:
    """[3, 3] or [2, 3] on [..., 2] points, in float64."""
    matrix = matrix.double()
    return points.double() @ matrix[:2, :2].T + matrix[:2, 2]


def square_of(points: Tensor, scale: float = SOURCE_SCALE, shift_x: float = 0.0, shift_y: float = SOURCE_SHIFT,
              eye_axis: bool = False, axes: Tensor | None = None) -> Square:
    """The square around a face.

    The published code takes ``vx_ratio`` (here ``shift_x``) as a setting and then leaves it out; here it works, as in
    Kijai's port (SPEC.md section 18.4).

    Args:
        points: [N, 2] landmarks in one of ``LAYOUTS``; any other number above 101 is read as 101.
        scale: side of the square in units of the landmarks' box.
        shift_x, shift_y: shift along the face's own axes in units of the side; negative y is towards the forehead.
        eye_axis: take the face's axes off its eyes alone, instead of eyes and mouth.
        axes: [2, 2] the two points from which the axes are read (between the eyes, at the mouth), where ``points``
            are in no known layout.

    Raises:
        PlaymateError: too few landmarks.
    """
    points = points.double()
    upper, lower = axes.double() if axes is not None else _axis_points(points, eye_axis)
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
    centre = middle + right * (mid[0] + shift_x * size) + down * (mid[1] + shift_y * size)
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
    return square_of(flat[list(MESH_CONTOUR)], scale, 0.0, shift_y, axes=torch.stack([eyes, mouth]))


def clip_square(squares: list[Square]) -> Square:
    """One square for a whole driving clip: the mean of the frames' boxes, without rotation (SPEC.md section 12)."""
    boxes = torch.tensor([[s.x - s.size / 2, s.y - s.size / 2, s.x + s.size / 2, s.y + s.size / 2] for s in squares],
                         dtype=torch.float64)
    left, top, right, bottom = boxes.mean(dim=0).tolist()
    return Square((left + right) / 2, (top + bottom) / 2, right - left, 0.0)


def _axis_points(points: Tensor, eye_axis: bool) -> tuple[Tensor, Tensor]:
    count = len(points)
    layout = LAYOUTS.get(count if count in LAYOUTS or count <= 101 else 101)
    if layout is None:
        raise PlaymateError(f"A face cannot be cropped by {count} landmarks; "
                            f"give {', '.join(map(str, sorted(LAYOUTS)))}.")
    left, right, mouth = (points[list(group)].mean(dim=0) for group in layout)
    if eye_axis:
        across = right - left
        return left, left + torch.stack([-across[1], across[0]])
    return (left + right) / 2, mouth
