"""What a portrait makes of a turn: test poses, drawn and looked at, and the requests corrected by what was seen.

The relief that the face mesh guesses is never the sitter's own, hair and outline follow only in part, and a drawn face
need not have one shape at all. So one portrait turns a fifth further than asked and the next a tenth less. Once a
motion asks for a turn that shows, the portrait is turned both ways about each axis, the angles are read off these
frames, and from then on requests are looked up in what was seen. Tilting is exact as it is: the picture turns.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Callable

import torch
from torch import Tensor

from ...face.transform import facial_angles, rigid_angles
from ...face.types import Face
from ...motion.curves import monotone_cubic

log = logging.getLogger(__name__)

Tracker = Callable[[Tensor, Face], Tensor]
"""(frames [B, H, W, 3], the portrait's face) to landmarks [B, 478, 3] in pixels, NaN where the face is lost."""

ASKED, HELD = 9.0, 3.5
"""Degrees of pitch or yaw away from the portrait's own, at most and as root mean square over the clip, from which a
motion is worth the test, about half a second. Generated heads stay below (7.9 and 2.8 over minutes of speech), and
nobody asked them for a certain angle."""
TEST_ANGLES = (8.0, 17.0)
"""Degrees of the test poses, both ways: the response is no straight line, and not the same both ways."""
LEAST, MOST = 0.65, 1.45
"""What a request may be multiplied by; a reading that asks for far more is not believed."""


LARGEST_STRAY = 5.0
"""Degrees by which a turn about one axis may be seen about another, at most."""


@dataclass(frozen=True)
class Curve:
    """What turns about one axis show; float64 degrees, zero in zero.

    Attributes:
        seen: [K] tracked angle, rising.
        given: [K] the turn that gave it.
        stray: [K, 3] what was seen about the other axes at the same time.
    """

    seen: Tensor
    given: Tensor
    stray: Tensor


@dataclass(frozen=True)
class Response:
    """What a portrait makes of requested pitch and yaw.

    Attributes:
        curves: of pitch and yaw; None where requests are taken at their word.
    """

    curves: tuple[Curve | None, Curve | None] = (None, None)

    def turn(self, asked: Tensor) -> Tensor:
        """The turns [T, 3] degrees to draw so that [T, 3] ``asked`` ones will be seen; zero stays zero."""
        wanted = asked.double()
        for axis, curve in enumerate(self.curves):
            if curve is not None:
                wanted = wanted - monotone_cubic(curve.seen, curve.stray, asked[:, axis].double())
        turned = wanted.to(asked.dtype)
        for axis, curve in enumerate(self.curves):
            if curve is None:
                continue
            seen, given, angle = curve.seen, curve.given, wanted[:, axis]
            inside = monotone_cubic(seen, given[:, None], angle)[:, 0]
            for end, next_to in ((0, 1), (-1, -2)):
                slope = (given[end] - given[next_to]) / (seen[end] - seen[next_to])
                beyond = angle < seen[0] if end == 0 else angle > seen[-1]
                inside = torch.where(beyond, given[end] + slope * (angle - seen[end]), inside)
            turned[:, axis] = torch.where(angle == 0, 0.0, inside).to(asked.dtype)
        return turned


def trial_poses(free: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """[P, 3] degrees relative to the portrait: rest first, then both ways about pitch and yaw.

    Args:
        free: lowest and highest pitch and yaw, degrees, that the portrait follows without easing off.
    """
    poses = [[0.0, 0.0, 0.0]]
    for axis, (low, high) in enumerate(free):
        for angle in (-TEST_ANGLES[1], -TEST_ANGLES[0], *TEST_ANGLES):
            if low <= angle <= high:
                poses.append([angle if column == axis else 0.0 for column in range(3)])
    return torch.tensor(poses)


def read_response(asked: Tensor, landmarks: Tensor, image_size: tuple[int, int]) -> Response:
    """What the frames that were drawn for test poses show.

    Args:
        asked: [P, 3] degrees as :func:`trial_poses` gives them.
        landmarks: [P, 478, 3] pixels seen on the frames, NaN where the face was lost.
        image_size: (height, width) of these frames.

    Returns:
        Response with curves for the axes whose readings can be believed.
    """
    readers = [reading.double().cpu() for reading in (facial_angles(landmarks, image_size), rigid_angles(landmarks))]
    readers = [reading - reading[0] for reading in readers]
    angles = (readers[0] + readers[1]) / 2  # face.transform.head_angles
    # Readers differ about turns that nobody asked for by more than there is; what they agree on is there.
    agreed = torch.minimum(readers[0].abs(), readers[1].abs()).clamp_max(LARGEST_STRAY) * readers[0].sign()
    agreed = torch.where(readers[0] * readers[1] > 0, agreed, 0.0)
    asked = asked.double().cpu()
    curves = []
    for axis in (0, 1):
        rows = (asked[:, axis] != 0) & torch.isfinite(angles[:, axis])
        given, seen = asked[rows, axis], angles[rows, axis]
        factor = (given / seen).clamp(LEAST, MOST)
        believed = (given * seen > 0) & ((given / seen - factor).abs() < 0.35)
        zero = given.new_zeros(1)
        given, order = torch.cat([zero, given[believed]]).sort()
        seen = torch.cat([zero, (asked[rows, axis] / factor)[believed]])[order]
        rising = len(given) > 1 and bool((seen.diff() > 0.3 * given.diff()).all()) and bool(torch.isfinite(seen).all())
        stray = torch.cat([zero.new_zeros(1, 3), agreed[rows][believed]])[order]
        stray[:, axis] = 0
        curves.append(Curve(seen, given, stray) if rising else None)
        if not rising:
            log.debug("Turns about axis %d could not be tested: %s.", axis, angles[:, axis].tolist())
    return Response((curves[0], curves[1]))


def is_worth_it(degrees: Tensor) -> bool:
    """Whether a clip of ``degrees`` [T, 3] turns far enough for the test."""
    if not len(degrees):
        return False
    turns = degrees[:, :2]
    return float(turns.abs().max()) > ASKED or float(turns.square().mean(0).max()) > HELD ** 2


def view_limits(own: tuple[float, float], free: tuple[float, float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Lowest and highest turn about pitch and yaw that a portrait which looks ``own`` follows up to ``free``, degrees.

    A portrait that is turned further already is free to turn back, not on.
    """
    spans = []
    for angle, limit in zip(own, free, strict=True):
        limit = max(limit, abs(angle))
        spans.append((-limit - angle, limit - angle))
    return spans[0], spans[1]


__all__ = ["Response", "Tracker", "is_worth_it", "read_response", "trial_poses", "view_limits"]
