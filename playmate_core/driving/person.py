"""Who is followed through a film: found again after a cut or behind somebody, and never taken for another.

Places do not tell people apart: a cut puts another face where the first was, and two who cross change places. So the
look of the face is kept: light and shade of its skin at the mesh's landmarks, less their slope, since the light may
come from elsewhere; the skin's colour; and the hair's against it, which a darker or warmer shot leaves as it is. In
eleven clips the second half of each is nearer than 1.32 to pictures of the first, and other people are farther than
1.5; the same pictures a third darker, or yellow as lamps make them, are nearer than 1.28 (see ``SAME``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face import geometry
from ..face.crop import sample
from ..face.types import Face
from ..face.views import landmark_roi, nearest
from ..media.colours import lab
from ..runtime import sampling
from .shots import CutFinder

SAME = 1.35
"""Largest distance to a kept look at which a face is the same person's."""
STEADY, STILL = 1.6, 0.3
"""The same for a face that was followed without a break and hardly changed since the picture before: its distance to
the kept looks, and to the picture before."""
_NEW = 0.35  # a look farther than this from the kept ones is worth keeping
_HOME = 0.5  # and it is kept for good once the face is seen again this near to one that was
_MOST = 48  # looks that are kept
_SIDE = 64  # pixels of the crop in which looks are read
_MOVES = (*geometry.LIPS, *(index for eye in geometry.EYES for index in eye), *range(468, 478))
_SKIN = tuple(index for index in range(468) if index not in _MOVES)
_HAIR = (10, 338, 297, 332, 284, 251, 21, 54, 103, 67, 109)
_OVER = 1.25  # how much farther from the glabella than the upper outline hair is looked for
_SPREAD = (0.25, 9.0, 18.0)  # what counts as one: of 1 - correlation, of skin's and of hair's colour in CIELAB
_LIGHT = 60.0  # lightness of the skin against which the hair's is seen


@dataclass(frozen=True)
class Look:
    """What of a face tells whose it is, and how good its picture is.

    Attributes:
        shade: [N] lightness of the skin at its landmarks without its slope, unit length.
        skin: [2] the skin's median colour in CIELAB.
        hair: [M, 3] the hair's against the skin's.
        light: the skin's lightness, 0 to 100.
        sharpness: spread of what changes from pixel to pixel.
    """

    shade: Tensor
    skin: Tensor
    hair: Tensor
    light: float
    sharpness: float

    def distance(self, other: Look) -> float:
        parts = (1 - float(self.shade @ other.shade), float((self.skin - other.skin).norm()),
                 float((self.hair - other.hair).square().sum(-1).mean().sqrt()))
        return sum((part / spread) ** 2 for part, spread in zip(parts, _SPREAD, strict=True)) ** 0.5


class Person:
    """Judges the faces of a film's pictures, which come in order; ``FaceAnalyzer.track`` asks it.

    Attributes:
        sharpness, light: of every face that was accepted, in order: spread of what changes from pixel to pixel of its
            crop, and lightness of the skin, 0 to 100.
    """

    def __init__(self) -> None:
        self.sharpness: list[float] = []
        self.light: list[float] = []
        self._finder = CutFinder()
        self._number = -1
        self._picture: Tensor | None = None
        self._kept: list[Look] = []
        self._waiting: list[Look] = []
        self._before: tuple[int, Look] | None = None
        self._judged: tuple[Face, Look] | None = None

    def look(self, picture: Tensor) -> bool:
        """Takes the next picture [H, W, 3], 0 to 1; whether the film may have been cut before it."""
        self._number += 1
        self._picture = picture
        cut = self._finder.may_be_cut(picture)
        if cut:
            self._before, self._waiting = None, []
        return cut

    def same(self, face: Face) -> bool:
        """Whether a face that was followed from the picture before is still the person's."""
        look = self._look_of(face)
        far = self._distance(look)
        if far <= SAME:
            return True
        unbroken = self._before is not None and self._before[0] == self._number - 1
        return unbroken and far <= STEADY and self._before[1].distance(look) <= STILL

    def among(self, faces: Sequence[Face], last: Face) -> Face | None:
        """The person's face of those in the picture: of faces that look like it, the one nearest to ``last``."""
        return nearest([face for face in faces if self._distance(self._look_of(face)) <= SAME], last)

    def accept(self, face: Face) -> None:
        """Takes a face for the person's."""
        look = self._look_of(face)
        far = self._distance(look)
        if not self._kept:
            self._kept.append(look)
        elif far <= _HOME and self._waiting:
            # What the face looked like on its way was its own.
            self._kept = (self._kept + self._waiting)[:_MOST]
            self._waiting = []
        elif _NEW < far <= SAME and len(self._kept) + len(self._waiting) < _MOST and \
                all(look.distance(other) > _NEW for other in self._waiting):
            self._waiting.append(look)
        self._before = self._number, look
        self.sharpness.append(look.sharpness)
        self.light.append(look.light)

    def cuts(self) -> list[int]:
        """The numbers of the pictures before which the film was cut; known when all were looked at."""
        return self._finder.cuts()

    def _distance(self, look: Look) -> float:
        return min((look.distance(other) for other in self._kept), default=0.0)

    def _look_of(self, face: Face) -> Look:
        if self._judged is None or self._judged[0] is not face:
            self._judged = face, look_of(self._picture, face)
        return self._judged[1]


def look_of(picture: Tensor, face: Face) -> Look:
    """How a face in a picture [H, W, 3], 0 to 1, looks."""
    roi = landmark_roi(face.landmarks)
    fine = sample(picture, roi, 2 * _SIDE, "border").cpu()
    crop = F.avg_pool2d(fine[None], 2)[0]
    edges = fine.mean(0)[_SIDE // 2:-_SIDE // 2, _SIDE // 2:-_SIDE // 2]
    sharpness = float(edges.diff(dim=0).square().mean() + edges.diff(dim=1).square().mean()) ** 0.5
    colours = lab(crop.permute(1, 2, 0)).permute(2, 0, 1)[None]
    colours = F.avg_pool2d(colours, 5, 1, 2, count_include_pad=False)
    matrix = roi.matrix()
    points = torch.linalg.solve(matrix[:, :2], (face.landmarks[:, :2].cpu() - matrix[:, 2]).T).T
    skin = _at(colours, points[list(_SKIN)])
    plane, fit = _slope()
    shade = skin[:, 0] - plane @ (fit @ skin[:, 0])
    middle = points[168]
    hair = _at(colours, middle + (points[list(_HAIR)] - middle) * _OVER)
    usual = skin.median(0).values
    against = torch.cat([hair[:, :1] / usual[0].clamp_min(5) * _LIGHT, hair[:, 1:] - usual[1:]], 1)
    return Look(shade / shade.norm().clamp_min(1e-6), usual[1:], against, float(usual[0]), sharpness)


@lru_cache(maxsize=1)
def _slope() -> tuple[Tensor, Tensor]:
    """[N, 3] and [3, N] that find the plane through lightness over the face: where the light comes from."""
    places = geometry.mean_face()[list(_SKIN), :2]
    plane = torch.cat([torch.ones(len(places), 1), places], 1)
    return plane, torch.linalg.pinv(plane)


def _at(colours: Tensor, points: Tensor) -> Tensor:
    """[N, 3] of [1, 3, S, S] at points [N, 2] in fractions of it."""
    grid = (points * 2 - 1)[None, None].float()
    return sampling.sample(colours, grid, padding="border")[0, :, 0].T
