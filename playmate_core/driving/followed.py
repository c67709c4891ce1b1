"""A film as the portrait: one face through all of its pictures, without tremor, and its own motion.

Pictures are read as they come and only landmarks are kept (6 kB a picture). What the drawing needs is everything at
the film's own pictures, whatever their times, where ``film`` makes a motion at a steady rate.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Iterable, Tuple

import torch
from torch import Tensor

from ..face import geometry
from ..face.bridge import LatentBridge
from ..face.mesh import POINTS
from ..motion.smoothing import gaussian_smooth
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .film import FilmedFace, motion_from_track, rising
from .person import Person
from .shots import leaps, numbered
from .steadying import runs, steady

logger = logging.getLogger(__name__)

BLINDNESS = 0.1
"""Seconds without a face, within a shot, that are taken for a blurred picture: the face is where its neighbours have
it, and is drawn, since a mouth that changes back for a picture or two flickers."""
BLENDSHAPE_SECONDS = 0.03
"""Standard deviation of the Gaussian over blendshapes."""
_LEAST_REACH = 2  # pictures from a cut or a gap that the clear picture keeps away, where it can


@dataclass(frozen=True, eq=False)
class FollowedFace:
    """One face through a film of N pictures; the fields of ``render.film.Film`` that following finds, and light.

    Attributes:
        times: [N] float64 seconds, rising.
        landmarks: [N, 478, 3] pixels, without tremor; bridged where the face is not seen.
        blendshapes: [N, 52].
        seen: [N] bool.
        shot: [N] int64.
        sharpness, light: [N] of the face, see ``Person``; 0 where it is not seen.
        size: (height, width) of the pictures.
    """

    times: Tensor
    landmarks: Tensor
    blendshapes: Tensor
    seen: Tensor
    shot: Tensor
    sharpness: Tensor
    light: Tensor
    size: tuple[int, int]


def follow_film(analyzer, pictures: Iterable[Tuple[float, Tensor]], fps: float, *, total: int | None = None,
                policy: str = "largest", index: int = 0, progress: Progress = None) -> FollowedFace:
    """Follows one face through a film.

    The first picture that shows a face decides which (``policy`` and ``index`` as in ``select_face``). It is known by
    its looks from then on (see ``Person``): pictures of a shot that shows only others are not seen, whoever crosses in
    front of it is not taken for it, and it is found again where it comes back.

    Args:
        analyzer: ``FaceAnalyzer``.
        pictures: ``(seconds, [H, W, 3])``.
        fps: pictures a second, the average where they vary.
        total: how many pictures will come, as far as that is known.
        progress: called with (pictures read, total).

    Raises:
        PlaymateError: no pictures, no face in any of them, or pictures of several sizes.
    """
    person, times, size = Person(), [], []

    def noted():
        for time, picture in pictures:
            shape = (picture.shape[0], picture.shape[1])
            if size and shape != size[0]:
                raise PlaymateError(f"The film's pictures change their size at {time:.2f} s; convert it to MP4 with "
                                    "H.264 and try again.")
            size[:] = [shape]
            times.append(float(time))
            yield picture

    landmarks, blendshapes = torch.empty(max(total or 0, 64), POINTS, 3), []
    seen: list[bool] = []
    for number, found in enumerate(analyzer.track(noted(), policy=policy, index=index, person=person)):
        report(progress, number + 1, max(total or 0, number + 1))
        if number == len(landmarks):
            landmarks = torch.cat([landmarks, torch.empty(max(number // 4, 64), POINTS, 3)])
        seen.append(found is not None)
        if found is not None:
            landmarks[number] = found.landmarks
            blendshapes.append(found.blendshapes)
    if not times:
        raise PlaymateError("The film holds no pictures; give one of at least one frame.")
    if not any(seen):
        raise PlaymateError(f"No face was found in any of the film's {len(times)} pictures; give one in which a face "
                            "is clearly visible, upright and large enough.")
    count, shown = len(times), torch.tensor(seen)
    landmarks = landmarks[:count]
    shot = numbered(person.cuts() + leaps(landmarks, shown), count)
    steady(landmarks, shown, shot, fps)
    scores = _spread(torch.stack(blendshapes), shown)
    for first, last in runs(shown, shot):
        scores[first:last] = gaussian_smooth(scores[first:last], BLENDSHAPE_SECONDS * fps).clamp(0, 1)
    sharpness, light = (_spread(torch.tensor(values, dtype=torch.float32), shown)
                        for values in (person.sharpness, person.light))
    bridge_gaps(landmarks, shown, shot)
    bridge_gaps(scores, shown, shot)
    shown = _sighted(shown, shot, round(BLINDNESS * fps))
    if not bool(shown.all()):
        logger.warning("%d of the film's %d pictures do not show the face; they are left as they are.",
                       int((~shown).sum()), count)
    return FollowedFace(rising(times, fps), landmarks, scores, shown, shot, sharpness, light, size[0])


def bridge_gaps(values: Tensor, seen: Tensor, shot: Tensor) -> None:
    """Fills [N, ...] where nothing was seen, in place: between neighbours of the same shot along a straight line, else
    as in the nearest picture, of the same shot where that shows the face at all."""
    known = seen.nonzero()[:, 0]
    hidden = (~seen).nonzero()[:, 0]
    if not len(hidden):
        return
    right = torch.searchsorted(known, hidden)
    before = known[(right - 1).clamp_min(0)]
    after = known[right.clamp_max(len(known) - 1)]
    before, after = torch.where(right == 0, after, before), torch.where(right == len(known), before, after)
    home, gone = shot[before] == shot[hidden], shot[after] == shot[hidden]
    nearer = (hidden - before).abs() <= (after - hidden).abs()
    share = (hidden - before).float() / (after - before).clamp_min(1).float()
    share = torch.where(home & gone, share, torch.where(home == gone, (~nearer).float(), gone.float()))
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    for rows in torch.arange(len(hidden)).split(512):
        low, high = values[before[rows]], values[after[rows]]
        values[hidden[rows]] = torch.lerp(low, high, share[rows].to(values))


def motion_of(face: FollowedFace, bridge: LatentBridge, fps: float) -> Motion:
    """What the face does in the film by itself, N frames at the times of the pictures."""
    whole = bool(face.seen.all())
    track = FilmedFace(face.landmarks if whole else face.landmarks[face.seen],
                       face.blendshapes if whole else face.blendshapes[face.seen],
                       face.seen.nonzero()[:, 0], face.times, fps)
    return motion_from_track(track, bridge, at=face.times)


def clear_picture(face: FollowedFace, bridge: LatentBridge) -> int:
    """The number of a picture that stands for the film: the face frontal, calm, sharp, well lit and large."""
    numbers = face.seen.nonzero()[:, 0]
    inner = torch.zeros(len(face.seen), dtype=torch.bool)
    for first, last in runs(face.seen, face.shot):
        inner[first + _LEAST_REACH:last - _LEAST_REACH] = True
    numbers = inner.nonzero()[:, 0] if bool(inner.any()) else numbers
    own = face.sharpness[numbers] > 0  # not bridged
    numbers = numbers[own] if bool(own.any()) else numbers
    blame, eyes, unit = [], [], []
    for part in numbers.split(512):
        points = face.landmarks[part]
        pose = geometry.head_pose(points) / torch.tensor([12.0, 12.0, 20.0])
        calm = bridge.mahalanobis(bridge.from_blendshapes(face.blendshapes[part]).flatten(1)) / 0.5
        gap = geometry.lip_gap(points) / 0.04
        blame.append(pose.square().sum(-1) + calm.square() + gap.square())
        eyes.append(geometry.eye_openness(points).mean(-1))
        unit.append(geometry.outer_eye_distance(points))
    total = torch.cat(blame).double()
    for values, weight in ((torch.cat(eyes), 5.0), (torch.cat(unit), 2.0), (face.sharpness[numbers], 4.0)):
        most = values.quantile(0.75).clamp_min(1e-6)
        total += (weight * (1 - values / most).clamp_min(0)).square()
    total += ((face.light[numbers] - 60).abs() / 30).square() * 0.5
    return int(numbers[int(total.argmin())])


def _spread(values: Tensor, seen: Tensor) -> Tensor:
    """[M, ...] of the pictures that show the face -> [N, ...], 0 elsewhere."""
    spread = values.new_zeros(len(seen), *values.shape[1:])
    spread[seen] = values
    return spread


def _sighted(seen: Tensor, shot: Tensor, longest: int) -> Tensor:
    """``seen`` with gaps of at most ``longest`` pictures within a shot closed."""
    closed = seen.clone()
    for first, last in runs(~seen, shot):
        inside = 0 < first and last < len(seen) and bool(shot[first - 1] == shot[first]) and \
            bool(shot[last] == shot[last - 1])
        if inside and last - first <= longest:
            closed[first:last] = True
    return closed
