"""One picture of a film that shows the person's own closed mouth, made ready to speak.

It is an ordinary portrait, of which only the mouth and what lies about it is ever drawn: all that is estimated from
pictures (where the lips' edges run, how thick they are, what colour lies behind them) is found in it once, and every
picture of the film gets the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...face import geometry
from ...face.types import Face
from ...runtime.progress import Progress, report
from ..film import Film
from . import portrait, refine
from .edges import luminance
from .expression import CLOSED_GAP
from .film_face import Survey
from .grid import Grid
from .head import ClipField, HeadFrame, cut

CANDIDATES, APART = 10, 4
"""Pictures that are looked at, and how many lie between two of them."""
ROOM = 1.0
"""Outer-eye distances about the face that the reference keeps."""
BLACK = 0.11
"""Light up to which a row of pixels belongs to a black bar."""
AROUND = (0.46, 0.36, 0.36)
"""What is drawn about the lips: left and right, above, below."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a film's mouth is drawn from.

    Attributes:
        number: of the film's picture.
        image: [h, w, 3] float32 0..1, the piece of it that holds the head.
        prepared: the portrait.
        field: its nodes about the mouth.
        landmarks: [478, 3] the face in it as drawn, pixels.
        neutral: [478, 3] the face with its mouth as the mesh saw it, head's frame; the mouth's own opening is in it.
    """

    number: int
    image: Tensor
    prepared: portrait.Prepared
    field: ClipField
    landmarks: Tensor
    neutral: Tensor


@dataclass(frozen=True)
class Piece:
    """A face cut out of a film's picture: [h, w, 3] float32, its landmarks [478, 3] in it, and its number."""

    number: int
    image: Tensor
    landmarks: Tensor


def pictures_of(film: Film, wanted: list[int], progress: Progress = None) -> tuple[dict[int, Piece], tuple]:
    """The faces of some of the film's pictures, and the box (x0, y0, x1, y1; pixels) in which these show anything: what
    lies beyond is black bars. The film is read up to the last of them."""
    found: dict[int, Piece] = {}
    rows, columns = torch.zeros(film.size[0]), torch.zeros(film.size[1])
    last = max(wanted)
    for number, (_, picture) in enumerate(film.pictures):
        report(progress, number, last + 1)
        if number in wanted:
            found[number] = _cut_out(number, picture, film.landmarks[number])
            light = as_float(picture).cpu().amax(-1)
            rows, columns = torch.maximum(rows, light.amax(1)), torch.maximum(columns, light.amax(0))
        if number >= last:
            break
    rows, columns = torch.nonzero(rows > BLACK).flatten(), torch.nonzero(columns > BLACK).flatten()
    if not len(rows) or not len(columns):
        return found, (0, 0, film.size[1], film.size[0])
    return found, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _cut_out(number: int, picture: Tensor, landmarks: Tensor) -> Piece:
    room = ROOM * float(geometry.outer_eye_distance(landmarks))
    height, width = picture.shape[:2]
    low, high = landmarks[:, :2].amin(0) - room, landmarks[:, :2].amax(0) + room
    c0, r0 = max(0, int(low[0])), max(0, int(low[1]))
    c1, r1 = min(width, int(high[0]) + 1), min(height, int(high[1]) + 1)
    image = as_float(picture[r0:r1, c0:c1]).cpu().clone()
    return Piece(number, image, landmarks.cpu() - torch.tensor([c0, r0, 0.0]))


def as_float(picture: Tensor) -> Tensor:
    """[H, W, 3] float32 0..1; a byte is exactly its value / 255."""
    return picture.float() / 255 if picture.dtype == torch.uint8 else picture.float()


def sharpness(piece: Piece) -> float:
    """How much fine detail the lower face has, against its light."""
    points = piece.landmarks[list(geometry.LIPS_OUTER), :2].numpy()
    size = float(geometry.outer_eye_distance(piece.landmarks))
    low, high = (points.min(0) - 0.15 * size).astype(int), (points.max(0) + 0.15 * size).astype(int)
    part = piece.image[max(0, low[1]):high[1], max(0, low[0]):high[0]].numpy()
    if min(part.shape[:2]) < 4:
        return 0.0
    light = luminance(part)
    fine = np.abs(light[1:-1, 1:-1] * 4 - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:])
    return float(fine.mean() / max(light.mean(), 1e-3))


def choose(found: Survey, pieces: dict[int, Piece], candidates: list[int]) -> int:
    """Which of the candidates (indices into the survey) is the calmest, most usual and sharpest."""
    sharp = np.array([sharpness(pieces[int(found.numbers[k])]) for k in candidates])
    cost = found.cost[candidates].numpy() + 2.0 * np.clip(1 - sharp / max(float(np.median(sharp)), 1e-6), -0.5, 1)
    return candidates[int(cost.argmin())]


def build(piece: Piece, bridge) -> Reference:
    """Prepares a picture of a film as its reference, on the CPU."""
    face = Face(piece.landmarks, torch.zeros(52), torch.zeros(4), 1.0, 1.0)
    prepared = portrait.prepare(piece.image, face, bridge)
    frame = prepared.frame
    points = piece.landmarks.double().numpy()
    drawn = points
    if float(geometry.lip_gap(piece.landmarks)) <= CLOSED_GAP:
        drawn = refine.fit_mouth(piece.image.numpy(), points, frame.size)
    neutral = torch.from_numpy(portrait.head_frame_shape(points, frame)).float()
    field = around_the_mouth(cut(prepared.field, frame, 0.5, "cpu"), drawn, frame)
    return Reference(piece.number, piece.image, prepared, field, torch.from_numpy(drawn).float(), neutral)


def around_the_mouth(field: ClipField, landmarks: np.ndarray, frame: HeadFrame) -> ClipField:
    """The nodes of ``field`` about the lips of ``landmarks`` [478, 3]."""
    lips = landmarks[list(geometry.LIPS_OUTER), :2]
    side, above, below = (m * frame.size for m in AROUND)
    low, high = lips.min(0) - [side, above], lips.max(0) + [side, below]
    grid = field.grid
    c0, r0 = (int(np.clip((v - o) / grid.step, 0, n - 2)) for v, o, n in
              zip(low, (grid.x0, grid.y0), (grid.columns, grid.rows), strict=True))
    c1, r1 = (int(np.clip(np.ceil((v - o) / grid.step) + 1, first + 2, n)) for v, o, first, n in
              zip(high, (grid.x0, grid.y0), (c0, r0), (grid.columns, grid.rows), strict=True))
    window = Grid(grid.x0 + c0 * grid.step, grid.y0 + r0 * grid.step, grid.step, r1 - r0, c1 - c0)
    index = torch.arange(grid.rows * grid.columns).reshape(grid.rows, grid.columns)[r0:r1, c0:c1].reshape(-1)
    place = torch.full((grid.rows * grid.columns,), -1)
    place[index] = torch.arange(len(index))
    rows = place[field.rows]
    kept = rows >= 0
    return replace(field, grid=window, depth=field.depth[index], flat=field.flat[index], weight=field.weight[index],
                   border=field.border[:, index], rows=rows[kept], weights=field.weights[kept].contiguous())
