"""Lays the mesh's irises and lids on the eyes that are drawn: large painted eyes reach beyond the mesh's."""

from __future__ import annotations

import numpy as np

from . import topology
from .edges import blur, luminance, read_bilinear, skin_beneath
from .grid import polygon_distance, smoothstep

IRIS_SHIFT, IRIS_LOWER, IRIS_RADII = 0.036, 0.040, (0.048, 0.128)
"""What is searched about the mesh's iris: sideways, downward, and radii; outer-eye distances."""
PRIOR = 0.03
"""What a circle that differs from the mesh's by 0.02 costs, in units of the eye's contrast."""
PLAINLY = 0.15
BEYOND = 0.095
"""How far outside the mesh's lids the drawn white is looked for, outer-eye distances."""
BLUNT = 0.5
"""How far beyond white that ends bluntly the lids' corner lies, as a share of what its height there exceeds."""
DRAWN_IRIS = 0.085
"""Radius, outer-eye distances, from which on an iris is a drawing's. About smaller ones the mesh's lids are right, and
what is greyer than skin there is paint, or pale skin."""
SHADED_WHITE = 0.62
"""How light the white is in the lid's shadow at least, as a share of the skin's light."""
UNCOVERED = 0.78
"""A drawn iris between whites shows up to this many radii above its centre, unless skin is seen there."""


def fit_iris(image: np.ndarray, landmarks: np.ndarray, size: float, eye: int) -> tuple[np.ndarray, float]:
    """(centre [2], radius), pixels: the circle near the mesh's with the sharpest step from dark to white.

    Only its flanks count: lids cover top and bottom.
    """
    ring = list(topology.IRISES[eye])
    centre = landmarks[ring[0], :2].astype(np.float64)
    radius = float(np.linalg.norm(landmarks[ring[1:], :2] - centre, axis=1).mean())
    left, right = landmarks[topology.EYES_UPPER[eye][0], :2], landmarks[topology.EYES_UPPER[eye][-1], :2]
    axis = (right - left) / max(np.linalg.norm(right - left), 1e-6)
    down = np.array([-axis[1], axis[0]])
    # From about 5 pixels an iris has flanks to measure.
    if radius < 2.5:
        return centre, radius
    softness = max(0.5, 0.006 * size)
    light = blur(luminance(_window(image, centre, 0.35 * size)[0]).astype(np.float64), softness, softness)
    origin = _window(image, centre, 0.35 * size)[1]
    contrast = max(float(np.quantile(light, 0.97) - np.quantile(light, 0.03)), 0.05)
    dx = np.arange(-IRIS_SHIFT, IRIS_SHIFT + 1e-9, 0.006)
    dy = np.arange(-0.5 * IRIS_LOWER, IRIS_LOWER + 1e-9, 0.006)
    radii = np.append(np.arange(*IRIS_RADII, 0.004), radius / size)
    angles = np.deg2rad(np.linspace(-32, 42, 13))
    flank = np.stack([np.cos(angles), np.sin(angles)], 1)
    sides = np.stack([flank, flank * [-1, 1]])
    directions = sides[..., :1] * axis + sides[..., 1:] * down
    shift = (dx[:, None, None] * axis + dy[None, :, None] * down).reshape(-1, 2)
    shift = np.concatenate([shift, np.zeros((1, 2))])
    steps = np.array([-0.010, 0.010])
    reach = (radii[:, None] + steps) * size
    points = (centre + shift * size)[:, None, None, None, None] + directions[None, :, :, None, None] * \
        reach[None, None, None, :, :, None]
    value = read_bilinear(light, points - origin)
    edge = (value[..., 1] - value[..., 0]).clip(-0.5 * contrast, 0.7 * contrast).mean(2) / contrast
    score = 0.6 * edge.min(1) + 0.4 * edge.mean(1)
    cost = (shift ** 2).sum(1)[:, None] / 0.02 ** 2 + ((radii - radius / size) / 0.02)[None] ** 2
    best = np.unravel_index(int((score - PRIOR * cost).argmax()), score.shape)
    # The mesh knows photographs' irises: another circle must be plainly better and larger, or it lies close by.
    if radii[best[1]] * size < 1.15 * radius or (score - PRIOR * cost)[best] < score[-1, -1] + PLAINLY:
        best = np.unravel_index(int((score - 6 * PRIOR * cost).argmax()), score.shape)
    return centre + shift[best[0]] * size, float(radii[best[1]] * size)


def _window(image: np.ndarray, centre: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """(piece of ``image`` about ``centre``, its origin [2])."""
    height, width = image.shape[:2]
    low = np.clip(np.floor(centre - reach).astype(int), 0, [width - 2, height - 2])
    high = np.clip(np.ceil(centre + reach).astype(int), low + 2, [width, height])
    return image[low[1]:high[1], low[0]:high[0]], low


def drawn_white(image: np.ndarray, landmarks: np.ndarray, size: float, eye: int, iris: np.ndarray,
                radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(white [h, w], disc [h, w], points [h, w, 2]): pixels of the drawn eyeball about one eye.

    White is what is brighter and greyer than the skin beneath the eye, connected to the iris.
    """
    from scipy.ndimage import binary_dilation, label

    ring = list(topology.EYES_UPPER[eye]) + list(topology.EYES_LOWER[eye][-2:0:-1])
    middle = landmarks[ring, :2].mean(0)
    piece, origin = _window(image, middle, 0.34 * size)
    y, x = np.mgrid[0:piece.shape[0], 0:piece.shape[1]]
    points = np.stack([x, y], -1) + origin + 0.5
    skin = skin_beneath(image, landmarks, eye)
    chroma = (piece.max(-1) - piece.min(-1)) / np.maximum(piece.max(-1), 1e-3)
    skin_chroma = float((skin.max() - skin.min()) / max(skin.max(), 1e-3))
    light, skin_light = luminance(piece), float(luminance(skin))
    distance = polygon_distance(points.reshape(-1, 2), landmarks[ring, :2]).reshape(light.shape)
    near = distance < BEYOND * size
    disc = np.linalg.norm(points - iris, axis=-1) <= radius
    rim = binary_dilation(disc, iterations=max(2, round(0.02 * size)))
    inner = distance < (BEYOND - 0.012) * size

    def connected(white):
        found, count = label(binary_dilation(white & ~disc, iterations=1))
        white = white & np.isin(found, [k for k in range(1, count + 1) if ((found == k) & rim).any()])
        # White that runs on to the border of the search is skin, and skin as grey as eyes tells nothing.
        return white, (white & ~inner).sum() > 0.06 * white.sum()

    white, leaks = connected(near & (chroma < 0.55 * skin_chroma) & (light > 0.92 * skin_light))
    # Under the lid and in the corners it lies in shadow.
    shaded, lost = connected(near & (chroma < 0.40 * skin_chroma) & (light > SHADED_WHITE * skin_light))
    if not (leaks or lost) and shaded.sum() < 1.5 * white.sum():
        white |= shaded
    return white & (not leaks and skin_chroma > 0.2), disc, points


def fit_lids(image: np.ndarray, landmarks: np.ndarray, size: float, eye: int, iris: np.ndarray,
             radius: float) -> np.ndarray | None:
    """[2, 9, 2] upper and lower lid on the drawn eye, where that plainly reaches beyond the mesh's; else None."""
    upper = landmarks[list(topology.EYES_UPPER[eye]), :2].astype(np.float64)
    lower = landmarks[list(topology.EYES_LOWER[eye]), :2].astype(np.float64)
    if radius < DRAWN_IRIS * size:
        return None
    white, disc, points = drawn_white(image, landmarks, size, eye, iris, radius)
    polygon = np.concatenate([upper, lower[-2:0:-1]])
    outside = polygon_distance(points.reshape(-1, 2), polygon).reshape(white.shape) > 0.012 * size
    area = 0.20 * radius * radius
    if (white & outside).sum() < area or white.sum() < 2 * area:
        return None
    skin = float(luminance(skin_beneath(image, landmarks, eye)))
    left, right = upper[0], upper[-1]
    length = max(np.linalg.norm(right - left), 1e-6)
    axis = (right - left) / length
    down = np.array([-axis[1], axis[0]])
    local = (points[white | disc] - left) @ np.stack([axis, down], 1)
    whites = (points[white] - left) @ np.stack([axis, down], 1)
    lowest, highest = np.quantile(whites[:, 0], [0.005, 0.995])
    # White that ends bluntly lies between the lids to its end: their corner is farther out.
    blunt = [max(float(np.ptp(np.quantile(whites[np.abs(whites[:, 0] - end) < 0.02 * size, 1], [0.05, 0.95])))
                 - 0.04 * size, 0.0) for end in (lowest, highest)]
    ends = np.array([min(0.0, max(lowest - 0.014 * size - BLUNT * blunt[0], -BEYOND * size)),
                     max(length, min(highest + 0.014 * size + BLUNT * blunt[1], length + BEYOND * size))])
    mesh = [(curve - left) @ np.stack([axis, down], 1) for curve in (upper, lower)]
    place = ends[0] + (mesh[0][:, 0] / length) * (ends[1] - ends[0])
    place = np.maximum.accumulate(place)
    out = []
    for part, curve in enumerate(mesh):
        stretched = ends[0] + curve[:, 0] / length * (ends[1] - ends[0])
        y = np.interp(place, stretched, curve[:, 1])
        middle = (iris - left) @ axis
        known, change, bounds = [0.0], [0.0], np.full(9, np.inf)
        for k in range(1, 8):
            # An iris runs on behind the upper lid, and down to the lower.
            seen = whites if part == 0 else local
            column = seen[np.abs(seen[:, 0] - place[k]) < 0.02 * size]
            if len(column) < 3 or (part == 0 and abs(place[k] - middle) < 0.9 * radius):
                continue
            bound = np.quantile(column[:, 1], 0.02 if part == 0 else 0.98)
            known.append(k)
            bounds[k] = bound
            change.append(bound - y[k] if part == 0 else max(bound - y[k], 0.0))
        y = y + np.interp(np.arange(9), [*known, 8.0], [*change, 0.0])
        if part == 0:
            y = np.minimum(y, _over_iris(image, left, axis, down, place, y, iris, radius, skin))
        limit = BEYOND * size
        y = np.clip(y, curve[:, 1] - limit, curve[:, 1] + limit)
        # edges.lid_edges lowers both: these lie on the drawn edge already. White that the lower left out would show
        # below a lid that is shut, and what is half white, half line is not counted as white.
        y = y + (-0.010, 0.002)[part] * size
        inner = np.convolve(np.pad(y, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        y[1:-1] = inner[1:-1]
        if part == 0:
            # No white stays above the lid, however round its end is.
            y = np.minimum(y, np.maximum(bounds, curve[:, 1] - limit) - 0.006 * size)
        out.append(y)
    for end in (0, -1):
        column = whites[np.abs(whites[:, 0] - place[end]) < 0.03 * size]
        height = float(np.median(column[:, 1])) if len(column) >= 3 else (out[0][end] + out[1][end]) / 2
        out[0][end] = out[1][end] = height
    return np.stack([left + place[:, None] * axis + y[:, None] * down for y in out])


def _over_iris(image: np.ndarray, left: np.ndarray, axis: np.ndarray, down: np.ndarray, place: np.ndarray,
               y: np.ndarray, iris: np.ndarray, radius: float, skin: float) -> np.ndarray:
    """[9] heights of the upper lid where it crosses the iris: an arch over it, not the straight way between the whites.

    What dark eyes show there is as black as the lashes, and no step tells one from the other.

    Args:
        left, axis, down: origin and axes in which ``place`` and ``y`` [9] are measured, pixels.
        skin: light of skin about the eye: where the iris would reach into it, the lid hangs lower.
    """
    centre = (iris - left) @ np.stack([axis, down], 1)
    reach = UNCOVERED * radius
    half = np.sqrt(np.maximum(reach ** 2 - (place - centre[0]) ** 2, 0))
    out = np.where(half > 0, centre[1] - half, y)
    for k in np.flatnonzero((half > 0) & (out < y - 1)):
        way = np.arange(y[k], out[k] - 1e-6, -1.0)
        light = luminance(read_bilinear(image, left + place[k] * axis + way[:, None] * down))
        lit = np.flatnonzero(light > 0.6 * skin)
        if len(lit):
            out[k] = way[lit[0]]
    return out


def fit_eyes(image: np.ndarray, landmarks: np.ndarray, size: float) -> np.ndarray:
    """[478, 3] landmarks with irises on the drawn ones, and lids on drawn lids that lie plainly elsewhere.

    Args:
        image: [H, W, 3] 0..1.
        landmarks: [478, 3] pixels.
        size: outer-eye distance, pixels.
    """
    out = landmarks.copy()
    for eye in (0, 1):
        iris, radius = fit_iris(image, landmarks, size, eye)
        lids = fit_lids(image, landmarks, size, eye, iris, radius)
        ring = list(topology.IRISES[eye])
        before = np.linalg.norm(landmarks[ring[1:], :2] - landmarks[ring[0], :2], axis=1).mean()
        out[ring, :2] = iris + (landmarks[ring, :2] - landmarks[ring[0], :2]) * (radius / max(before, 1e-6))
        if lids is None:
            continue
        order = list(topology.EYES_UPPER[eye]) + list(topology.EYES_LOWER[eye])[1:-1]
        target = np.concatenate([lids[0], lids[1][1:-1]])
        change = target - landmarks[order, :2]
        distance = np.linalg.norm(landmarks[:topology.MESH_POINTS, None, :2] - landmarks[None, order, :2], axis=-1)
        kernel = np.exp(-0.5 * (distance / (0.03 * size)) ** 2) + 1e-12
        carried = (kernel @ change) / kernel.sum(1, keepdims=True)
        share = 1 - smoothstep(distance.min(1) / (0.24 * size))
        out[:topology.MESH_POINTS, :2] += carried * share[:, None]
        out[order, :2] = target
    return out


__all__ = ["fit_eyes", "fit_iris", "fit_lids"]
