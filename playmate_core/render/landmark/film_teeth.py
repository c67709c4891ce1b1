"""The film's own teeth: looked for in the pictures that show them best, and kept as the rows that the mouth draws.

The upper row is fixed to the skull, so every picture that shows some of it shows it in one place of the head's frame.
The best picture gives its look; what it hides behind the lips is continued from there, and where it shows no teeth at
all the drawn row stays, in the film's colour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ...face import geometry
from . import mouth, teeth, topology
from .edges import blur, cheapest_path, luminance, read_bilinear
from .film_face import NOSE, Placed
from .film_reference import Piece, Reference, sharpness
from .grid import polygon_distance, smoothstep
from .opening import through
from .warp import Texture

STEP = 0.0035
"""Units between the places where teeth are looked at."""
HALF, ABOVE, BELOW = 0.30, 0.16, 0.10
"""How far to both sides, and above and below their usual edge, units."""
PALER = 1.12
"""How much more green a tooth has against its red than the lips: gums and tongues have not, in any light."""
BRIGHT = 0.66
"""Least light of a tooth, as a share of the brightest there."""
LEAST, COLUMNS = 0.022, 0.19
"""Height of tooth, units, that a column must show, and over what width, units, there must be such."""
DROP = 0.12
"""How much darker it must be below the biting edge than above it, as a share of the teeth's light."""
UNEVEN = 0.0045
"""Units by which a row's edge may leave a plain bow, on average: what is rougher is lower teeth or a lip."""
EDGES = (0.038, 0.066)
"""Where an upper row's edge may lie below the closed lips' line, units: the mesh reads a raised lip's place a little
wrongly, and a row that is hidden for it leaves the lower one alone in the dark."""
CUT = 0.015
"""A lip that covers the edge makes it seem higher: by how much, units, a row may lie above the lowest one seen."""


@dataclass(frozen=True)
class Seen:
    """What one picture shows between its lips, on places fixed to the skull: rows down, columns across.

    Attributes:
        colours: [h, w, 3]; tooth: [h, w] bool.
        top, edge: [w] where the teeth begin to show and where they end, y in units.
        first, last: the columns between which they show.
        level: where the front teeth end, y in units.
        score: how good it is; nothing where only the colour can be taken.
    """

    colours: np.ndarray
    tooth: np.ndarray
    top: np.ndarray
    edge: np.ndarray
    first: int
    last: int
    level: float
    score: float


def places() -> tuple[np.ndarray, np.ndarray]:
    """x [w] and y [h] of the places, units from the middle and from the row's usual edge."""
    return (np.arange(-HALF, HALF + STEP / 2, STEP), np.arange(-ABOVE, BELOW + STEP / 2, STEP))


def look(piece: Piece, reference: Reference) -> Seen | None:
    """The upper teeth in one picture; None where too little of them shows."""
    inside = reference.prepared.mouth
    frame = reference.prepared.frame
    x, y = places()
    across, down = inside.axes.double().numpy()
    points = (inside.origin.double().numpy() + x[None, :, None] * across
              + (y[:, None, None] + mouth.UPPER_EDGE) * down)
    start = reference.landmarks.double().numpy()[list(geometry.RIGID)].mean(0)
    head = torch.from_numpy((points - start) @ frame.rotation / frame.size).float()
    placed = Placed.of(piece.landmarks[None], reference.neutral)
    drift = (placed.own - reference.neutral)[:, list(NOSE)].mean(1)
    there = ((head.reshape(1, -1, 3) + drift) @ placed.axes + placed.origin)[0, :, :2]
    colours = Texture.of(piece.image).read(there.reshape(1, *head.shape[:2], 2))[0].permute(1, 2, 0).numpy()
    points = piece.landmarks.double().numpy()
    ring = np.concatenate([through(points[list(topology.LIPS_INNER_UPPER), :2], 33),
                           through(points[list(topology.LIPS_INNER_LOWER), :2], 33)[-2:0:-1]])
    size = float(geometry.outer_eye_distance(piece.landmarks))
    flat = there.double().numpy()
    hole = polygon_distance(flat, ring) == 0
    rim = np.full(len(flat), np.inf)
    rim[hole] = np.linalg.norm(flat[hole, None] - ring[None], axis=-1).min(1)
    hole = (hole & (rim > 0.010 * size)).reshape(colours.shape[:2])
    if hole.sum() < 50:
        return None
    light = luminance(colours)
    lips = read_bilinear(piece.image.numpy(), points[[0, 37, 267, 17, 84, 314], :2]).mean(0)
    hue = colours[..., 1] / np.maximum(colours[..., 0], 1e-3)
    pale = hole & (hue > PALER * lips[1] / max(lips[0], 1e-3))
    if pale.sum() < 60:
        return None
    bright = float(np.quantile(light[pale], 0.9))
    if bright < 0.9 * float(luminance(lips)):
        return None
    tooth = pale & (light > BRIGHT * bright)
    colour_alone = Seen(colours, tooth, x, x, 0, 0, 0.0, 0.0)
    enough = tooth.sum(0) * STEP >= LEAST
    centre = len(x) // 2
    if not enough[centre - 8:centre + 9].any():
        return colour_alone
    middle = centre - 8 + int(np.flatnonzero(enough[centre - 8:centre + 9])[0])
    # Narrow gaps in the row, where two teeth meet, are none.
    closed = blur(enough[:, None].astype(np.float64), 2.0, 1e-3)[:, 0] > 0.4
    first = middle - int(np.argmin(np.append(closed[middle::-1], False))) + 1
    last = middle + int(np.argmin(np.append(closed[middle:], False))) - 1
    if -x[first] < COLUMNS / 2 or x[last] < COLUMNS / 2:
        return colour_alone
    columns = np.arange(first, last + 1)
    top = np.array([np.flatnonzero(tooth[:, c])[0] if tooth[:, c].any() else -1 for c in columns])
    top = np.interp(np.arange(len(x)), columns[top >= 0], top[top >= 0])
    # The biting edge: the smoothest line along which it is bright above and darker below.
    total = np.concatenate([np.zeros((1, len(x))), np.cumsum(light, 0)])
    rows, over, under = np.arange(len(y)), 5, 4
    above = (total[rows + 1] - total[np.maximum(rows - over, 0)]) / np.minimum(rows + 1, over + 1)[:, None]
    stop = np.minimum(rows + 1 + under, len(y))
    below = (total[stop] - total[np.minimum(rows + 1, len(y) - 1)]) / np.maximum(stop - rows - 1, 1)[:, None]
    cost = (below - above) / bright
    high = rows[:, None] - top[None]
    cost = cost + 1.0 * (blur(hole.astype(np.float64), 1.0, 1e-3) < 0.3)
    cost = cost + 1.0 * ((high * STEP < LEAST) | (high * STEP > 0.125)) + 1.0 * (above < 0.8 * BRIGHT * bright)
    path = cheapest_path(cost[:, columns].T, 0.06)
    drop = -float(np.median(cost[path, columns]))
    bow = np.polyval(np.polyfit(x[columns], y[path], 2), x[columns])
    if drop < DROP or float(np.abs(y[path] - bow).mean()) > UNEVEN:
        return colour_alone
    edge = np.interp(np.arange(len(x)), columns, y[path])
    front = np.abs(x) < 0.08
    level = float(np.median(edge[front]))
    area = float((edge - y[np.round(top).astype(int)])[columns].sum()) * STEP
    return Seen(colours, tooth, y[0] + top * STEP, edge, first, last, level, area * drop * sharpness(piece))


def colour_of(seen: Seen) -> np.ndarray:
    """[3] of the lit front teeth."""
    x, _ = places()
    front = seen.tooth & (np.abs(x) < 0.12)[None]
    found = seen.colours[front]
    return np.quantile(found, 0.6, axis=0) if len(found) else np.quantile(seen.colours[seen.tooth], 0.6, axis=0)


def skin_light(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[3] mean colour of the skin about the mouth."""
    return read_bilinear(image, landmarks[[57, 287, 164, 167, 393, 186, 410, 18, 200], :2]).mean(0)


def given(reference: Reference, pieces: list[Piece]) -> Reference:
    """``reference`` with the teeth that the film's ``pieces`` show best; as it is where none shows any."""
    inside = reference.prepared.mouth
    if inside.own is not None:
        return reference
    found = [(seen, piece) for piece in pieces if (seen := look(piece, reference)) is not None]
    if not found:
        return reference
    rows = [pair for pair in found if pair[0].score > 0]
    if rows:
        lowest = max(seen.level for seen, _ in rows)
        seen, piece = max((pair for pair in rows if pair[0].level > lowest - CUT), key=lambda pair: pair[0].score)
    else:
        seen, piece = max(found, key=lambda pair: int(pair[0].tooth.sum()))
    here = skin_light(reference.image.numpy(), reference.landmarks.double().numpy())
    there = skin_light(piece.image.numpy(), piece.landmarks.double().numpy())
    gain = np.clip(here / np.maximum(there, 1e-3), 0.5, 2.0)
    colour = np.clip(colour_of(seen) * gain, 0, 1)
    upper, edge = _recoloured(inside.upper, colour), inside.edge
    if rows:
        upper, edge = _upper_row(seen, upper, gain)
    lower = _recoloured(inside.lower, 0.92 * colour)
    return replace(reference, prepared=replace(reference.prepared, mouth=replace(inside, upper=upper, lower=lower,
                                                                                 edge=edge)))


def _recoloured(row: torch.Tensor, colour: np.ndarray) -> torch.Tensor:
    """A drawn row [1, 4, h, w] in the film's ``colour`` of lit teeth; its gums stay."""
    rgb, alpha = row[:, :3], row[:, 3:]
    light = rgb.mean(1, keepdim=True)
    pale = ((rgb.amax(1, keepdim=True) - rgb.amin(1, keepdim=True)) < 0.35 * light) & (alpha > 0.9)
    if not bool(pale.any()):
        return row
    lit = torch.stack([channel[pale[0, 0]].quantile(0.8) for channel in rgb[0]])
    factor = (torch.from_numpy(colour).float() / lit.clamp_min(1e-3))[None, :, None, None]
    share = (1 - (rgb.amax(1, keepdim=True) - rgb.amin(1, keepdim=True)) / (0.5 * light.clamp_min(1e-3))).clamp(0, 1)
    return torch.cat([(rgb * (1 + (factor - 1) * share)).clamp(0, 1), alpha], 1)


def _upper_row(seen: Seen, row: torch.Tensor, gain: np.ndarray) -> tuple[torch.Tensor, float]:
    """(the film's upper teeth within the drawn ``row`` [1, 4, h, w] over ``teeth.UPPER_BOX``, where their edge lies in
    units below the line)."""
    x, y = places()
    edge, top, level = blur(seen.edge[:, None], 2.5, 1e-3)[:, 0], seen.top, seen.level
    drawn = row[0].permute(1, 2, 0).numpy().copy()
    height, width = drawn.shape[:2]
    x0, y0, x1, y1 = teeth.UPPER_BOX
    at_x = x0 + (np.arange(width) + 0.5) / width * (x1 - x0)
    at_y = y0 + (np.arange(height) + 0.5) / height * (y1 - y0)
    # What the lip hides is what shows below it, continued.
    place_y = np.broadcast_to(at_y[:, None] + level, (height, width))
    column = np.interp(at_x, x, np.arange(len(x)))
    first = np.interp(at_x, x, top) + 0.008
    last = np.interp(at_x, x, edge)
    reading = np.clip(place_y, first[None], np.maximum(last - 0.004, first)[None])
    reading = (reading - y[0]) / STEP
    points = np.stack([np.broadcast_to(column[None], reading.shape) + 0.5, reading + 0.5], -1)
    film = np.clip(read_bilinear(seen.colours, points) * gain, 0, 1)
    crown = smoothstep((last[None] - place_y) / 0.010 + 0.5)
    ends = (x[seen.first], x[seen.last])
    side = smoothstep((at_x - ends[0]) / 0.03) * smoothstep((ends[1] - at_x) / 0.03)
    # Where the drawn row goes on beside it, it has its light.
    body = (at_y > -0.05) & (at_y < -0.015)
    for sign, end in ((-1, ends[0]), (1, ends[1])):
        near = np.abs(at_x - end + sign * 0.035) < 0.02
        ratio = film[body][:, near].mean((0, 1)) / np.maximum(drawn[body][:, near, :3].mean((0, 1)), 1e-3)
        beside = smoothstep(sign * at_x / 0.05)[None, :, None]
        drawn[..., :3] = np.clip(drawn[..., :3] * (1 + beside * (np.clip(ratio, 0.4, 1.4) - 1)), 0, 1)
    # A tooth that goes on under the lip ends in its gum as the drawn one does.
    gums = smoothstep((teeth.UPPER_BOX[1] + 0.085 - at_y) / 0.02)[:, None]
    share = (side[None] * (1 - gums))[..., None]
    colour = drawn[..., :3] * (1 - share) + film * share
    alpha = drawn[..., 3] * (1 - side) + np.minimum(crown, smoothstep((at_y[:, None] + 0.19) / 0.03)) * side
    out = np.concatenate([colour, alpha[..., None]], -1)
    row = torch.from_numpy(out).permute(2, 0, 1)[None].float().contiguous()
    return row, float(np.clip(mouth.UPPER_EDGE + level, *EDGES))

