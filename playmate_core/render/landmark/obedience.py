"""What a portrait makes of a turn: test poses, drawn and looked at, and the requests corrected by what was seen.

The relief that the face mesh guesses is never the sitter's own, hair and outline follow only in part, and a drawn face
need not have one shape at all. So one portrait turns a fifth further than asked and the next a tenth less, and a nod
of a head that looks aside is another one than a nod straight ahead. Once a motion asks for a turn that shows, the
portrait is turned both ways about each axis and into the four corners between pitch and yaw, the angles are read off
these frames, and from then on requests are looked up in what was seen. Tilting is exact as it is: the picture turns. A
head so near to the picture's border that it is held tilts less; asking for more of it shears the face (tried).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Callable

import torch
from torch import Tensor

from ...face.transform import facial_angles, head_angles, rigid_angles
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
TEST_REACH = 1.5
"""Outer-eye distances beyond the head over which the test poses fade: as of a clip that turns by 23 degrees. The
further a movement reaches, the more of it the picture's border holds."""
CORNER = (14.0, 17.0)
"""Pitch and yaw of the combined test poses, degrees, as they would be asked for: each axis's own curve counts already,
so that what is tested lies where requests lead."""
BEYOND = 1.3
"""How far beyond the corners, as a factor, what was seen there is believed to go on growing."""
LEAST_TESTED = 4.0
"""Degrees below which a turn is no test: the readers' own unrest would be measured."""
LEAST, MOST = 0.65, 1.45
"""What a request may be multiplied by; a reading that asks for far more is not believed."""
LARGEST_STRAY = 5.0
"""Degrees by which a turn about one axis may be seen about another, or a combined turn miss the sum, at most."""
ROUNDS = 6
"""Steps of the search for the turn that will be seen as asked; each leaves a tenth or so of what was off before."""


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

    def show(self, turns: Tensor) -> Tensor:
        """[T] what will be seen of drawn turns [T]."""
        return _looked_up(self.given, self.seen, turns)

    def turn(self, wanted: Tensor) -> Tensor:
        """[T] the turns to draw so that [T] ``wanted`` ones are seen; straight on beyond the last test."""
        return _looked_up(self.seen, self.given, wanted)


def _looked_up(places: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """[T] the curve through ``values`` [K] at ``places`` [K], read at [T], straight on beyond both ends."""
    found = monotone_cubic(places, values[:, None], at)[:, 0]
    for end, next_to in ((0, 1), (-1, -2)):
        slope = (values[end] - values[next_to]) / (places[end] - places[next_to])
        beyond = at < places[0] if end == 0 else at > places[-1]
        found = torch.where(beyond, values[end] + slope * (at - places[end]), found)
    return found


@dataclass(frozen=True)
class Corners:
    """What combined turns show beyond the sum of their parts: nothing while only one axis turns.

    Attributes:
        unit: [2, 2] degrees of pitch and yaw that count as one, downwards and upwards: a portrait that looks aside is
            tested further back than on.
        terms: [4, 3] degrees by pitch x yaw, pitch^2 x yaw, pitch x yaw^2 and pitch^2 x yaw^2, in units.
    """

    unit: Tensor
    terms: Tensor

    def at(self, turns: Tensor) -> Tensor:
        """[T, 3] degrees seen beside what each axis alone shows, of drawn ``turns`` [T, 3]."""
        return products(self.part(turns)) @ self.terms

    def part(self, turns: Tensor) -> Tensor:
        """[T, 2] pitch and yaw of [T, 3], in units."""
        turns = turns[:, :2]
        return (turns / torch.where(turns < 0, self.unit[0], self.unit[1])).clamp(-BEYOND, BEYOND)


def products(part: Tensor) -> Tensor:
    """[T, 4] of [T, 2]: smooth, nought on both axes, and any four corners can be met exactly."""
    u, v = part.unbind(-1)
    return torch.stack([u * v, u * u * v, u * v * v, (u * v).square()], -1)


@dataclass(frozen=True)
class Response:
    """What a portrait makes of requested turns.

    Attributes:
        curves: of pitch and yaw; None where requests are taken at their word.
        corners: of pitch and yaw together; None where their sum is taken for what is seen.
    """

    curves: tuple[Curve | None, Curve | None] = (None, None)
    corners: Corners | None = None

    def aside(self, turns: Tensor) -> Tensor:
        """[T, 3] degrees that drawn ``turns`` [T, 3] show beside each axis's own."""
        other = torch.zeros_like(turns) if self.corners is None else self.corners.at(turns)
        for axis, curve in enumerate(self.curves):
            if curve is not None:
                other = other + monotone_cubic(curve.given, curve.stray, turns[:, axis])
        return other

    def turn(self, asked: Tensor) -> Tensor:
        """The turns [T, 3] degrees to draw so that [T, 3] ``asked`` ones will be seen; zero stays zero."""
        wanted = asked.double()
        turned = wanted
        if self.corners is None and not any(self.curves):
            return asked.clone()
        for _ in range(ROUNDS):
            own = wanted - self.aside(turned)
            turned = torch.stack([own[:, axis] if curve is None else curve.turn(own[:, axis])
                                  for axis, curve in enumerate((*self.curves, None))], -1)
        return torch.where((asked == 0).all(-1, keepdim=True), 0.0, turned).to(asked.dtype)


def trial_poses(free: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """[P, 3] degrees relative to the portrait: rest first, then both ways about pitch and yaw.

    Where a portrait cannot follow as far as a test pose goes, it is tested as far as it follows.

    Args:
        free: lowest and highest pitch and yaw, degrees, that the portrait follows without easing off.
    """
    def within(axis: int, angle: float) -> float:
        return min(max(angle, free[axis][0]), free[axis][1])

    near, far = TEST_ANGLES
    poses = [[0.0, 0.0, 0.0]]
    for axis in (0, 1):
        for way in (-1.0, 1.0):
            reached = abs(within(axis, way * far))
            angles = [near, reached] if reached > near + LEAST_TESTED / 2 else [min(near, reached)]
            poses += [[way * angle if column == axis else 0.0 for column in range(3)]
                      for angle in angles if angle >= LEAST_TESTED]
    return torch.tensor(poses)


def corner_poses(response: Response, free: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """[P, 3] degrees relative to the portrait: turns about pitch and yaw together, to be drawn once ``response`` is
    known of each axis. None where one axis could not be tested or is not free to turn."""
    if response.curves[0] is None or response.curves[1] is None:
        return torch.zeros(0, 3)
    asked = torch.tensor([[pitch, yaw, 0.0] for pitch in (-CORNER[0], CORNER[0]) for yaw in (-CORNER[1], CORNER[1])])
    poses = response.turn(asked)
    for axis, (low, high) in enumerate(free):
        poses[:, axis].clamp_(low, high)
    return poses[(poses[:, :2].abs() >= LEAST_TESTED).all(1)]


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
    angles = (readers[0] + readers[1]) / 2  # as face.transform.head_angles
    # Readers differ about turns that nobody asked for by more than there is; what they agree on is there.
    agreed = torch.minimum(readers[0].abs(), readers[1].abs()).clamp_max(LARGEST_STRAY) * readers[0].sign()
    agreed = torch.where(readers[0] * readers[1] > 0, agreed, 0.0)
    asked = asked.double().cpu()
    curves = []
    for axis in (0, 1):
        rows = (asked[:, axis] != 0) & torch.isfinite(angles[:, axis])
        curves.append(_curve(axis, asked[rows, axis], angles[rows, axis], agreed[rows]))
        if curves[-1] is None:
            log.debug("Turns about axis %d could not be tested: %s.", axis, angles[:, axis].tolist())
    return Response((curves[0], curves[1]))


def _curve(axis: int, given: Tensor, seen: Tensor, stray: Tensor) -> Curve | None:
    """The curve of turns [K] about ``axis`` that showed [K] and [K, 3]; None where they cannot be believed."""
    factor = (given / seen).clamp(LEAST, MOST)
    believed = (given * seen > 0) & ((given / seen - factor).abs() < 0.35)
    zero = given.new_zeros(1)
    seen = torch.cat([zero, (given / factor)[believed]])
    given, order = torch.cat([zero, given[believed]]).sort()
    seen, stray = seen[order], torch.cat([zero.new_zeros(1, 3), stray[believed]])[order]
    stray[:, axis] = 0
    rising = len(given) > 1 and bool((seen.diff() > 0.3 * given.diff()).all()) and bool(torch.isfinite(seen).all())
    return Curve(seen, given, stray) if rising else None


def read_corners(response: Response, given: Tensor, landmarks: Tensor, rest: Tensor,
                 image_size: tuple[int, int]) -> Response:
    """``response`` with what combined turns showed beyond the sum of their parts.

    Args:
        given: [P, 3] degrees as :func:`corner_poses` gives them.
        landmarks: [P, 478, 3] pixels seen on the frames; rest: [478, 3] on the portrait at rest.
        image_size: (height, width) of these frames.
    """
    angles = head_angles(torch.cat([rest[None], landmarks]), image_size).double().cpu()
    angles, given = angles[1:] - angles[0], given.double().cpu()
    seen = torch.isfinite(angles).all(1)
    if not bool(seen.any()):
        return response
    given, angles = given[seen], angles[seen]
    total = response.aside(given)
    for axis, curve in enumerate((*response.curves, None)):
        total[:, axis] += given[:, axis] if curve is None else curve.show(given[:, axis])
    beyond = (angles - total).clamp(-LARGEST_STRAY, LARGEST_STRAY)
    unit = torch.stack([given[:, :2].neg(), given[:, :2]]).amax(1)
    unit = torch.where(unit > 0, unit, unit.flip(0))  # a side without a test
    corners = Corners(unit, given.new_zeros(4, 3))
    # Four corners decide the four terms; with fewer the plainest of the surfaces through them is taken.
    return replace(response, corners=replace(corners, terms=torch.linalg.pinv(products(corners.part(given))) @ beyond))


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


__all__ = ["Response", "Tracker", "corner_poses", "is_worth_it", "read_corners", "read_response", "trial_poses",
           "view_limits"]
