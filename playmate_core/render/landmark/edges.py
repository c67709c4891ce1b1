"""Where the lips meet and the lids end in this very picture: the mesh's curves, drawn to the dark line beside them."""

from __future__ import annotations

import numpy as np

from . import topology
from .opening import SAMPLES, through

SEARCH = 0.035
"""How far from the mesh's curve the line may lie, outer-eye distances."""
SLIVER = 0.009
"""How far into each lip the edges of a hardly open mouth are moved, outer-eye distances."""
WING = 0.15
"""How far above the lid's edge the dark of lashes is looked for, outer-eye distances."""
WIDE = 0.04
"""Opening, outer-eye distances, from which an open mouth's edges are looked for in the picture."""


def luminance(image: np.ndarray) -> np.ndarray:
    """[H, W] of [H, W, 3]."""
    return image @ np.array([0.299, 0.587, 0.114], image.dtype)


def blur(image: np.ndarray, down: float, across: float) -> np.ndarray:
    """[H, W] or [H, W, C] softened by a Gaussian of so many pixels down and across."""
    from scipy.ndimage import gaussian_filter1d

    for axis, sigma in enumerate((down, across)):
        image = gaussian_filter1d(image, sigma, axis, mode="mirror", radius=round(4 * sigma))
    return image


def read_bilinear(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Values of ``image`` [H, W] or [H, W, C] at ``points`` [..., 2], pixels with centres at + 0.5."""
    height, width = image.shape[:2]
    x = np.clip(points[..., 0] - 0.5, 0, width - 1)
    y = np.clip(points[..., 1] - 0.5, 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = x - x0, y - y0
    if image.ndim == 3:
        fx, fy = fx[..., None], fy[..., None]
    top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
    return top * (1 - fy) + (image[y1, x0] * (1 - fx) + image[y1, x1] * fx) * fy


def cheapest_path(cost: np.ndarray, stiffness: float) -> np.ndarray:
    """The smooth path of least cost from the first step to the last (Viterbi's dynamic programming).

    Args:
        cost: [K, R] of being in row r at step k.
        stiffness: cost of a change by n rows, divided by n ** 1.5.

    Returns:
        [K] rows.
    """
    steps, rows = cost.shape
    jump = stiffness * np.abs(np.arange(rows)[:, None] - np.arange(rows)[None]) ** 1.5
    total, before = cost[0].copy(), np.zeros((steps, rows), int)
    for k in range(1, steps):
        ways = total[None] + jump
        before[k] = ways.argmin(1)
        total = ways.min(1) + cost[k]
    path = np.zeros(steps, int)
    path[-1] = int(total.argmin())
    for k in range(steps - 1, 0, -1):
        path[k - 1] = before[k, path[k]]
    return path


def lip_line(image: np.ndarray, landmarks: np.ndarray, size: float) -> np.ndarray:
    """[K, 2] the line between closed lips: the smoothest dark path near the mesh's inner lips."""
    upper = through(landmarks[list(topology.LIPS_INNER_UPPER), :2])
    lower = through(landmarks[list(topology.LIPS_INNER_LOWER), :2])
    middle = (upper + lower) / 2
    tangent = np.gradient(middle, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / np.maximum(np.linalg.norm(tangent, axis=1), 1e-6)[:, None]
    offsets = np.linspace(-SEARCH, SEARCH, 29) * size
    # The corners are where they are; towards them the search narrows.
    width = np.sin(np.linspace(0, np.pi, len(middle))) ** 0.5
    points = middle[:, None] + normal[:, None] * (offsets[None] * width[:, None])[..., None]
    light = read_bilinear(luminance(image), points)
    spread = max(float(light.max() - light.min()), 1e-3)
    cost = light / spread + 0.15 * (offsets / (SEARCH * size)) ** 2
    shift = offsets[cheapest_path(cost, 0.0625)] * width
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    shift = np.convolve(np.pad(shift, 6, mode="edge"), kernel / kernel.sum(), mode="valid")
    line = middle + normal * shift[:, None]
    line[0], line[-1] = middle[0], middle[-1]
    return line


def mouth_edges(image: np.ndarray, landmarks: np.ndarray, size: float, is_open: bool) -> np.ndarray:
    """[2, K, 2] the lips' inner edges."""
    if not is_open:
        line = lip_line(image, landmarks, size)
        return np.stack([line, line])
    upper = through(landmarks[list(topology.LIPS_INNER_UPPER), :2])
    lower = through(landmarks[list(topology.LIPS_INNER_LOWER), :2])
    outer = (through(landmarks[list(topology.LIPS_OUTER_UPPER), :2]),
             through(landmarks[list(topology.LIPS_OUTER_LOWER), :2]))
    if np.linalg.norm(lower - upper, axis=1).max() < WIDE * size:
        # What shows between lips that are hardly apart, a sliver of teeth, must not stay on either's edge.
        taper = SLIVER * size * np.sin(np.linspace(0, np.pi, len(upper)))[:, None] ** 0.5
        across = [(rim - inner) / np.maximum(np.linalg.norm(rim - inner, axis=1, keepdims=True), 1e-6)
                  for inner, rim in zip((upper, lower), outer, strict=True)]
        return np.stack([upper + taper * across[0], lower + taper * across[1]])
    return _to_the_corners(image, np.stack([_onto_lip(image, inner, rim, size)
                                            for inner, rim in zip((upper, lower), outer, strict=True)]), size)


def _onto_lip(image: np.ndarray, inner: np.ndarray, outer: np.ndarray, size: float) -> np.ndarray:
    """[K, 2] an open mouth's edge, moved to where the lip's own colour begins.

    Args:
        inner, outer: [K, 2] the mesh's curves on both sides of the lip.
    """
    across = outer - inner
    thick = np.linalg.norm(across, axis=1, keepdims=True)
    across = across / np.maximum(thick, 1e-6)
    # The lip's colour here: over the middle of its height, and of its neighbourhood.
    within = inner[:, None] + (outer - inner)[:, None] * np.linspace(0.4, 0.8, 5)[None, :, None]
    colour = blur(read_bilinear(image, within).mean(1)[:, None], 4.0, 1e-3)[:, 0]
    offsets = np.linspace(-0.8, 1.0, 37) * SEARCH * size
    taper = np.sin(np.linspace(0, np.pi, len(inner))) ** 0.5
    points = inner[:, None] + across[:, None] * (offsets[None] * taper[:, None])[..., None]
    unlike = np.linalg.norm(read_bilinear(image, points) - colour[:, None], axis=-1)
    # Most unlike before it, alike after it.
    total = np.concatenate([np.zeros((len(inner), 1)), np.cumsum(unlike, 1)], 1)
    reach, index = 5, np.arange(len(offsets))
    before = (total[:, index] - total[:, np.maximum(index - reach, 0)]) / np.maximum(np.minimum(index, reach), 1)
    stop = np.minimum(index + reach, len(offsets))
    after = (total[:, stop] - total[:, index]) / (stop - index)
    spread = max(float(np.quantile(unlike, 0.95)), 1e-3)
    cost = (after - before) / spread + 0.35 * (offsets / (SEARCH * size)) ** 2
    cost[:, :2] += 1.0
    shift = offsets[cheapest_path(cost, 0.03)] * taper
    kernel = np.exp(-0.5 * (np.arange(-10, 11) / 4.0) ** 2)
    shift = np.convolve(np.pad(shift, 10, mode="edge"), kernel / kernel.sum(), mode="valid")
    shift[0] = shift[-1] = 0
    return inner + across * shift[:, None]


def _to_the_corners(image: np.ndarray, edges: np.ndarray, size: float) -> np.ndarray:
    """[2, K, 2] an open mouth's edges, drawn out to where the darkness in its corners ends."""
    light = luminance(image)
    out = edges.copy()
    steps = np.arange(1, 15) * 0.006 * size
    part = np.linspace(0, 1, edges.shape[1])[:, None]
    chord = edges[0, -1] - edges[0, 0]
    chord = chord / max(float(np.linalg.norm(chord)), 1e-6)
    lips = float(np.median(read_bilinear(light, edges[:, ::4] + np.array([[[0, -1.0]], [[0, 1.0]]]) * 0.035 * size)))
    for end, sign in ((0, -1.0), (-1, 1.0)):
        path = read_bilinear(light, edges[0, end] + sign * chord * steps[:, None])
        dark = path < 0.72 * lips
        if not dark[:3].any():
            continue
        first_light = np.flatnonzero(~dark & (np.arange(len(dark)) > np.flatnonzero(dark)[0]))
        if not len(first_light):
            continue
        ramp = (1 - part if end == 0 else part).clip(0.8, 1) * 5 - 4
        out += sign * chord * steps[first_light[0]] * (ramp ** 2)[None]
    return out


def lid_edges(landmarks: np.ndarray, size: float, eye: int) -> np.ndarray:
    """[2, K, 2] the lids' edges.

    Both a little low: lashes and the upper lid's own line travel with it, and no white stays on the lower lid.
    """
    upper = through(landmarks[list(topology.EYES_UPPER[eye]), :2])
    lower = through(landmarks[list(topology.EYES_LOWER[eye]), :2])
    opening = lower - upper
    height = np.linalg.norm(opening, axis=1, keepdims=True)
    direction = opening / np.maximum(height, 1e-6)
    upper = upper + direction * np.minimum(0.010 * size, 0.25 * height)
    lower = lower + direction * np.minimum(0.008 * size, 0.15 * height)
    return np.stack([upper, lower])


def lash_heights(image: np.ndarray, edges: np.ndarray, size: float) -> np.ndarray:
    """[K] how far the dark of lashes and lid line rises above the upper lid's edge (``edges`` [2, K, 2]), pixels.

    Thick on painted eyes, where a lid that comes down would else draw it out to a black patch, and a wing at their
    outer ends.
    """
    upper, down = edges[0], edges[1] - edges[0]
    down = down.mean(0) / max(np.linalg.norm(down.mean(0)), 1e-6)
    offsets = np.linspace(0.004, WING, round(0.32e3 * WING)) * size
    first, last = len(upper) // 5, len(upper) - len(upper) // 5
    light = luminance(read_bilinear(image, upper[:, None] - offsets[None, :, None] * down))
    near = light[:, offsets <= 0.13 * size]
    skin, black = np.quantile(near, 0.8, axis=1, keepdims=True), near.min(1, keepdims=True)
    dark = (light < black + 0.4 * (skin - black)) & (skin - black > 0.08)
    run = np.where(dark.any(1), (np.cumprod(dark | (offsets < 0.012 * size), 1)).sum(1) - 1, 0)
    # Dark up to the end of the search is hair or shadow.
    found = offsets[np.maximum(run, 0)] * ((run > 0) & (run < len(offsets) - 1))
    usual = float(np.clip(np.quantile(found[first:last], 0.75), 0, 0.09 * size))
    kernel = np.exp(-0.5 * (np.arange(-9, 10) / 3.0) ** 2)
    single = np.convolve(np.pad(found, 9, mode="edge"), kernel / kernel.sum(), mode="valid")
    # Single lashes are no wing.
    return usual + (np.maximum(single, usual) - usual) * (1.0 if usual > 0.03 * size else 0.0)


def skin_beneath(image: np.ndarray, landmarks: np.ndarray, eye: int) -> np.ndarray:
    """[3] the colour of skin beneath an eye."""
    below = landmarks[list(((23, 110, 22), (253, 339, 252))[eye]), :2]
    cheek = landmarks[list(((118, 119, 101), (347, 348, 330))[eye]), :2]
    return np.median(read_bilinear(image, np.concatenate([below, cheek])), 0).astype(np.float64)


__all__ = ["SAMPLES", "cheapest_path", "lash_heights", "lid_edges", "lip_line", "luminance", "mouth_edges",
           "read_bilinear", "skin_beneath"]
