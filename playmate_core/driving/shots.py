"""Where a film is cut: the whole picture changes, or the face jumps, from one picture to the next."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face import geometry

_ROWS, _COLUMNS = 18, 32  # of the small picture in which changes are measured
_CHANGE = 0.04  # least mean change of a cut, 0 to 1: the most that talking heads with moving cameras had was 0.02
_TIMES = 3.5  # and how many times that of the pictures before
_AROUND = 6  # pictures to either side that are compared with
_LEAP = 0.25  # least way of a face that jumps, outer-eye distances,
_LEAPS = 5.0  # and how many times that of the pictures around it


class CutFinder:
    """Finds cuts in pictures that come one after another: at once, when a fast movement that begins looks the same, and
    for certain when those that follow are known."""

    def __init__(self) -> None:
        self._last: Tensor | None = None
        self._changes: list[float] = []

    def may_be_cut(self, picture: Tensor) -> bool:
        """Takes the next picture [H, W, 3], 0 to 1; whether the film may have been cut before it."""
        # Some pixels of a large picture tell as much as all.
        step = max(min(picture.shape[0] // _ROWS, picture.shape[1] // _COLUMNS) // 4, 1)
        small = F.adaptive_avg_pool2d(picture[::step, ::step].permute(2, 0, 1)[None], (_ROWS, _COLUMNS))[0].cpu()
        last, self._last = self._last, small
        if last is None:
            return False
        self._changes.append(float((small - last).abs().mean()))
        return self._stands_out(len(self._changes) - 1)

    def cuts(self) -> list[int]:
        """The numbers of the pictures before which the film was cut."""
        return [index + 1 for index in range(len(self._changes)) if self._stands_out(index)]

    def _stands_out(self, index: int) -> bool:
        change = self._changes[index]
        if change <= _CHANGE:
            return False
        around = sorted(self._changes[max(index - _AROUND, 0):index] + self._changes[index + 1:index + 1 + _AROUND])
        return not around or change > _TIMES * around[len(around) // 2]


def leaps(landmarks: Tensor, seen: Tensor) -> list[int]:
    """Pictures before which the face jumps though the picture as a whole does not: a part of a shot was cut out.

    Args:
        landmarks: [N, 478, 3] pixels.
        seen: [N] bool.
    """
    middle = landmarks[:, list(geometry.RIGID), :2].mean(1)
    unit = geometry.outer_eye_distance(landmarks).clamp_min(1e-6)
    way = (middle[1:] - middle[:-1]).norm(dim=-1) / torch.minimum(unit[1:], unit[:-1])
    way = torch.where(seen[1:] & seen[:-1], way, torch.zeros(()))
    found = []
    for index in (way > _LEAP).nonzero()[:, 0].tolist():
        around = torch.cat([way[max(index - _AROUND, 0):index], way[index + 1:index + 1 + _AROUND]])
        if float(way[index]) > _LEAPS * (float(around.max()) if len(around) else 0.0):
            found.append(index + 1)
    return found


def numbered(cuts: list[int], count: int) -> Tensor:
    """[count] int64 the shot of every picture, rising by one at each of ``cuts``."""
    steps = torch.zeros(count, dtype=torch.int64)
    steps[[cut for cut in set(cuts) if 0 < cut < count]] = 1
    return steps.cumsum(0)
