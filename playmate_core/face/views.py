"""Where to look for faces, and the squares and boxes in which they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .crop import Roi
from .detector import box_overlap
from .mesh import POINTS
from .types import Face

_CROP = 1.5  # side of the mesh's crop over that of the face's box, as MediaPipe's
_SURFACE = POINTS - 10  # the irises follow
_EYES = (33, 263)  # outer corners: their line is the crop's horizontal


@dataclass(frozen=True)
class Detection:
    """What a detector says about one face: box [4], keypoints [6, 2] (both picture pixels) and score."""

    box: Tensor
    keypoints: Tensor
    score: float

    def roi(self) -> Roi:
        """The crop for the first pass of the mesh: upright by the line of the eyes."""
        x0, y0, x1, y1 = self.box.tolist()
        dx, dy = (self.keypoints[1] - self.keypoints[0]).tolist()
        return Roi((x0 + x1) / 2, (y0 + y1) / 2, _CROP * max(x1 - x0, y1 - y0), math.atan2(dy, dx))


def landmark_roi(landmarks: Tensor) -> Roi:
    """The crop that a face with ``landmarks`` [478, 3] (pixels) fills as the mesh was trained to see it."""
    points = landmarks[:_SURFACE, :2].double()
    dx, dy = (points[_EYES[1]] - points[_EYES[0]]).tolist()
    angle = math.atan2(dy, dx)
    c, s = math.cos(angle), math.sin(angle)
    turned = points @ torch.tensor([[c, -s], [s, c]], dtype=points.dtype)
    low, high = turned.amin(0), turned.amax(0)
    u, v = ((low + high) / 2).tolist()
    return Roi(c * u - s * v, s * u + c * v, _CROP * float((high - low).max()), angle)


def eye_angle(landmarks: Tensor) -> float:
    """How a face [478, 2 or 3] is turned in the picture: radians, clockwise on the screen, 0 upright."""
    dx, dy = (landmarks[_EYES[1], :2] - landmarks[_EYES[0], :2]).tolist()
    return math.atan2(dy, dx)


def upright(landmarks: Tensor) -> Tensor:
    """[478, 3] -> [478, 2], turned so that the line of the eyes is level; for the blendshapes' network."""
    angle = eye_angle(landmarks)
    c, s = math.cos(angle), math.sin(angle)
    return landmarks[:, :2] @ torch.tensor([[c, -s], [s, c]])


def shift(before: Roi, after: Roi) -> float:
    """How much two crops differ, in sides of the first: the largest of move, growth and turn."""
    if not before.size > 0:
        return 0.0
    turn = math.remainder(after.angle - before.angle, math.tau)
    return max(math.hypot(after.x - before.x, after.y - before.y) / before.size,
               abs(after.size / before.size - 1), abs(turn) / 2)


def bounds(points: Tensor) -> Tensor:
    """[N, 2 or 3] -> [4] x0, y0, x1, y1."""
    return torch.cat([points[:, :2].amin(0), points[:, :2].amax(0)])


def nearest(faces: Sequence[Face], last: Face, reach: float = math.inf) -> Face | None:
    """The face most like ``last`` in place and size.

    Distance is counted in sides of its crop, and a face twice or half as large is as far off as one a side away.

    Args:
        reach: faces farther off are not considered.

    Returns:
        None where there is none within reach.
    """
    roi = landmark_roi(last.landmarks)

    def distance(face: Face) -> float:
        other = landmark_roi(face.landmarks)
        return math.hypot(other.x - roi.x, other.y - roi.y) / roi.size + abs(math.log2(other.size / roi.size))

    best = min(faces, key=distance, default=None)
    return best if best is not None and distance(best) <= reach else None


def whole(picture: Tensor) -> Roi:
    """The smallest square around a picture [H, W, C]."""
    height, width = picture.shape[:2]
    return Roi(width / 2, height / 2, max(height, width))


def tiles(height: int, width: int, share: float) -> list[Roi]:
    """Overlapping squares, each ``share`` of the longer side, that cover a picture; they overlap by a third or more."""
    size = share * max(height, width)

    def centres(length: int) -> list[float]:
        if length <= size:
            return [length / 2]
        count = max(2, math.ceil((length - size) / (size * 2 / 3)) + 1)
        return [size / 2 + (length - size) * i / (count - 1) for i in range(count)]

    return [Roi(x, y, size) for y in centres(height) for x in centres(width)]


def to_picture(roi: Roi, boxes: Tensor, keypoints: Tensor, scores: Tensor) -> list[Detection]:
    """Detections in fractions of a view, as the detector gives them -> picture pixels."""
    x0, y0, x1, y1 = boxes[:, None].unbind(-1)
    corners = roi.to_picture(torch.stack([torch.cat([x0, x1, x1, x0], 1), torch.cat([y0, y0, y1, y1], 1)], -1))
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    return [Detection(*parts) for parts in zip(boxes, roi.to_picture(keypoints), scores.tolist(), strict=True)]


def unique(detections: list[Detection], overlap: float = 0.3) -> list[Detection]:
    """Best first, without those that overlap a better one: views and detectors find the same faces."""
    kept: list[Detection] = []
    for detection in sorted(detections, key=lambda item: item.score, reverse=True):
        if not kept or float(box_overlap(detection.box[None],
                                         torch.stack([other.box for other in kept])).max()) <= overlap:
            kept.append(detection)
    return kept
