"""Whether something covers a portrait's mouth or eyes, and whether its eyes are shut.

The mesh draws a mouth into a microphone and eyes into dark glasses, and its confidence stays near 1. Colours tell:
lips are redder or darker than the skin around them, whatever the complexion, and lie in skin of the face's own colour;
around an eye there is skin, and in it the white beside the iris. All limits were set so that none of 95 clean portraits
(photographs, paintings and cartoons; beards, make-up, clear glasses, every light) is accused; what a picture leaves
open is not told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..media.colours import lab
from . import geometry
from .blendshapes import NAMES
from .crop import Roi, sample
from .mesh import SIZE
from .types import Face
from .views import landmark_roi

if TYPE_CHECKING:
    from .analyzer import FaceAnalyzer

MOUTH = "Something seems to cover the mouth in this portrait, so the lips will not look right; use a portrait that " \
        "shows the mouth."
EYES = "Something seems to cover the eyes in this portrait, so they will not look right when they move or blink; use " \
       "a portrait that shows the eyes."
EYE = "Something seems to cover one eye in this portrait, so it will not look right when it moves or blinks; use a " \
      "portrait that shows both eyes."
SHUT = "The eyes are shut in this portrait, so they stay shut; use a portrait with open eyes."
WINK = "One eye is shut in this portrait, so it stays shut; use a portrait with open eyes."

_SMALLEST = 32.0  # outer-eye distance, pixels, below which colours tell nothing
# Landmarks at which colours are read:
_SKIN = (151, 9, 108, 337, 195, 5, 50, 280, 101, 330, 117, 346)  # forehead, nose, upper cheeks
_AROUND_LIPS = (164, 167, 393, 165, 391, 18, 200, 199, 201, 421, 43, 273, 106, 335, 204, 424, 194, 418)
_UNDER_EYES = ((110, 24, 23, 22, 119, 120), (339, 254, 253, 252, 348, 349))
_OVER_EYES = ((27, 28, 29, 223, 222), (257, 258, 259, 443, 442))
_CHEEKS = ((50, 101, 36, 205), (280, 330, 266, 425))
_LIPS = tuple(zip(geometry.LIPS_OUTER[1:10] + geometry.LIPS_OUTER[11:],
                  geometry.LIPS_INNER[1:10] + geometry.LIPS_INNER[11:], strict=True))

# Lightness as shares of the skin's; distances in CIELAB. In brackets, the nearest that a clean portrait came.
_BLACK_LIPS, _BLACK_AROUND = 0.36, 0.45  # (0.41 under dark lipstick, in white skin)
_PLAIN = 5.5  # lips that differ from what is around them by less are not seen
_FOREIGN = 18.0  # around them, colour without lightness that is not the skin's (16 on a blue elf)
_WHITE, _PALE = 1.25, 8.0  # lightness and colour of paper masks
_GARISH, _RED = 35.0, 6.0  # so foreign a colour needs not be plain if the lips are no redder than it (25)
_FLAT, _ASTRAY = 3.0, 2.4  # where no lips are seen at all, how far the mesh goes astray there (2.1)
_DULL, _LOST = 8.0, 3.2  # the same for a trace of lips (2.9)
_DARK_EYES, _CALM = 0.45, 12.0  # lightness around both eyes, and its spread within them (0.56 in deep shadow)
_DARK_EYE, _STILL = 0.30, 8.0  # the same for one eye
_EVEN, _OPEN = 2.0, 0.05  # spread within eyes that should be open (3.5)
_SHUT, _BLINK = 0.03, 0.5  # distance of the lids, and MediaPipe's blink

# How the mesh's crop is moved to see whether its landmarks stay: sides of the crop, zoom, radians.
_SHAKES = ((0.05, 0, 1, 0), (-0.05, 0, 1, 0), (0, 0.05, 1, 0), (0, -0.05, 1, 0), (0, 0, 1.1, 0), (0, 0, 0.92, 0),
           (0, 0, 1, 0.12), (0, 0, 1, -0.12), (0.03, 0.03, 1.18, 0.06), (-0.03, -0.03, 1.18, -0.06))


@dataclass(frozen=True)
class _Colours:
    """Colours of a face in CIELAB (lightness 0 to 100), read off its upright crop of ``SIZE`` pixels."""

    lab: Tensor
    points: Tensor

    @classmethod
    def of(cls, image: Tensor, face: Face) -> _Colours:
        roi = landmark_roi(face.landmarks)
        crop = sample(image.cpu().float(), roi, SIZE, "border").permute(1, 2, 0)
        matrix = roi.matrix()
        points = torch.linalg.solve(matrix[:, :2], (face.landmarks[:, :2].cpu() - matrix[:, 2]).T).T * SIZE
        return cls(lab(crop), points)

    def at(self, places: Tensor, reach: int) -> Tensor:
        """[N, 3] medians of the squares of ``2 * reach + 1`` pixels around places [N, 2] of the crop."""
        step = torch.arange(-reach, reach + 1)
        corner = places.long().clamp(reach, SIZE - 1 - reach)
        rows, columns = corner[:, 1, None, None] + step[:, None], corner[:, 0, None, None] + step
        return self.lab[rows, columns].flatten(1, 2).median(1).values

    def landmarks(self, indices: tuple[int, ...], reach: int = 2) -> Tensor:
        return self.at(self.points[list(indices)], reach)

    def spread_within(self, ring: tuple[int, ...]) -> float:
        """Standard deviation of lightness within a ring of landmarks; 0 where that holds no pixel."""
        import numpy as np
        from PIL import Image, ImageDraw

        mask = Image.new("L", (SIZE, SIZE))
        ImageDraw.Draw(mask).polygon([tuple(point) for point in self.points[list(ring)].round().tolist()], 1, 1)
        inside = self.lab[..., 0][torch.from_numpy(np.array(mask)) > 0]
        return float(inside.std(correction=0)) if len(inside) else 0.0


def notes(analyzer: FaceAnalyzer, image: Tensor, face: Face) -> list[str]:
    """Sentences for the user about what will not look right in a portrait; an empty list for most.

    Args:
        analyzer: asked again where the colours leave a doubt.
        image: [H, W, 3], 0 to 1.
        face: the face in it.
    """
    said = []
    if float(geometry.outer_eye_distance(face.landmarks[:, :2])) >= _SMALLEST:
        colours = _Colours.of(image, face)
        if _mouth_is_covered(colours, analyzer, image, face):
            said.append(MOUTH)
        covered = _covered_eyes(colours, face)
        if covered:
            return [*said, EYES if covered == 2 else EYE]
    shut = _shut_eyes(face)
    return [*said, *([] if not shut else [SHUT] if shut == 2 else [WINK])]


def _mouth_is_covered(colours: _Colours, analyzer: FaceAnalyzer, image: Tensor, face: Face) -> bool:
    skin = colours.landmarks(_SKIN).median(0).values
    around = colours.landmarks(_AROUND_LIPS)
    outer, inner = (colours.points[[pair[side] for pair in _LIPS]] for side in (0, 1))
    lips = colours.at((outer + inner) / 2, 1)
    black = [float((part[:, 0] < share * skin[0]).float().mean())
             for part, share in ((lips, _BLACK_LIPS), (around, _BLACK_AROUND))]
    if skin[0] > 20 and black[0] > 0.4 and black[1] > 0.25:
        return True
    middle, lip = around.median(0).values, lips.median(0).values
    plain, redder = float((lip - middle).norm()), float(lip[1] - middle[1])
    foreign, lightness = float((middle - skin)[1:].norm()), float(middle[0] / skin[0].clamp_min(1))
    if plain < _PLAIN and (foreign > _FOREIGN or (lightness > _WHITE and foreign > _PALE)):
        return True
    if foreign > _GARISH and float((lip - skin)[1:].norm()) > _GARISH and redder < _RED:
        return True
    if plain < _FLAT or (plain < _DULL and redder < _FLAT):
        return _astray(analyzer, image, face) > (_ASTRAY if plain < _FLAT else _LOST)
    return False


def _astray(analyzer: FaceAnalyzer, image: Tensor, face: Face) -> float:
    """How much more the mesh's lips move than its skull when its crop is shaken a little, as a ratio."""
    roi = landmark_roi(face.landmarks)
    rois = [Roi(roi.x + x * roi.size, roi.y + y * roi.size, roi.size * zoom, roi.angle + angle)
            for x, y, zoom, angle in _SHAKES]
    seen = geometry.lay_on(analyzer.landmarks_in(image, rois), face.landmarks)[..., :2]
    moved = (seen - seen.mean(0)).norm(dim=-1).square().mean(0).sqrt() / geometry.outer_eye_distance(face.landmarks)
    return float(moved[list(geometry.LIPS)].mean() / moved[list(geometry.RIGID)].mean().clamp_min(0.005))


def _covered_eyes(colours: _Colours, face: Face) -> int:
    """How many eyes are covered."""
    dark, darker, even = [], [], []
    skin = colours.landmarks(_SKIN)[:, 0].median()
    for side in (0, 1):
        # The cheek on the same side, because half of a face may lie in shadow; no more than the rest of the skin, in
        # case a white mask covers the cheek.
        beside = torch.minimum(colours.landmarks(_CHEEKS[side])[:, 0].median(), skin).clamp_min(1)
        light = max(float(colours.landmarks(part[side], 1)[:, 0].median() / beside)
                    for part in (_UNDER_EYES, _OVER_EYES))
        spread = colours.spread_within(geometry.EYES[side])
        dark.append(light < _DARK_EYES and spread < _CALM)
        darker.append(light < _DARK_EYE and spread < _STILL)
        even.append(spread < _EVEN and float(geometry.eye_openness(face.landmarks)[side]) > _OPEN)
    return 2 if all(dark) or all(even) else int(any(darker))


def _shut_eyes(face: Face) -> int:
    """How many eyes are shut."""
    openness = geometry.eye_openness(face.landmarks)
    blinks = face.blendshapes[[NAMES.index("eyeBlinkRight"), NAMES.index("eyeBlinkLeft")]]
    return int(((openness < _SHUT) & (blinks > _BLINK)).sum())
