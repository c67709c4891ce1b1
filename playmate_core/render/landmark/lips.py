"""The lips as they are once they have parted: without the dark line between them, which belongs to neither.

Shut lips leave a line of shadow where they meet, and a pool of it in either corner. Cut along its middle, each lip
carries half of it along, and every opening gets a black outline. So each lip has a second picture of itself, in which
that shadow is filled from the lip's own side; it is shown as far as the mouth is open.
"""

from __future__ import annotations

import numpy as np
import torch

from . import topology
from .edges import blur, luminance, read_bilinear
from .grid import smoothstep
from .opening import heights, through
from .warp import Texture

REACH = 0.055
"""How far from the line its shadow may reach, outer-eye distances."""
SHADOW = (0.90, 0.14)
"""Light of the lip nearby, as a share, below which a pixel begins to count as shadow, and over what range."""

BEYOND = 0.06
"""How far the shadow goes on beyond the corners, outer-eye distances: drawn mouths end in a stroke, photographs in a
dimple, and both are longer than the opening of the mesh."""
STROKE, DIMPLE = 0.024, 0.032
"""Widths of what is dark beyond the corners, outer-eye distances: up to the first it is a drawn stroke and is filled,
from the second a photograph's dimple, which goes along with the corner: filled, it leaves a pale ring."""
BRIGHTEST = 2.4
"""By what a shadow's own colour may be multiplied; blacker ones have none."""


def parted(image: np.ndarray, landmarks: np.ndarray, edges: np.ndarray, size: float) -> tuple[Texture, Texture]:
    """Pictures [h, w, 4] of the (upper, lower) lip and what lies beside them, free of the line between; the fourth
    channel is how far they count, nothing at their borders.

    Args:
        image: [H, W, 3].
        landmarks: [478, 3], pixels.
        edges: [2, K, 2] the lips' edges, pixels.
        size: outer-eye distance, pixels.
    """
    height, width = image.shape[:2]
    reach = 3 * REACH * size
    low, high = edges.reshape(-1, 2).min(0) - reach, edges.reshape(-1, 2).max(0) + reach
    c0, r0 = (int(np.clip(v, 0, top - 2)) for v, top in zip(low, (width, height), strict=True))
    c1, r1 = (int(np.clip(np.ceil(v), start + 2, top)) for v, start, top in
              zip(high, (c0, r0), (width, height), strict=True))
    piece = np.ascontiguousarray(image[r0:r1, c0:c1])
    y, x = np.mgrid[r0:r1, c0:c1]
    points = np.stack([x + 0.5, y + 0.5], -1).reshape(-1, 2).astype(np.float64)
    stroke = 1 - smoothstep((_width_beyond(image, edges.mean(0), size) - STROKE) / (DIMPLE - STROKE))
    out = []
    for part, sign in ((0, 1.0), (1, -1.0)):
        beyond = (heights(points, edges[part]) * sign).reshape(piece.shape[:2])
        distance = _distance(points, _drawn_on(edges[part], BEYOND * size)).reshape(piece.shape[:2])
        chord = edges[part][-1] - edges[part][0]
        length = max(float(np.linalg.norm(chord)), 1e-6)
        along = (points - edges[part][0]) @ chord / length
        inside = np.minimum(along, length - along).reshape(piece.shape[:2])
        outer = through(landmarks[list((topology.LIPS_OUTER_UPPER, topology.LIPS_OUTER_LOWER)[part]), :2])
        skin = heights(points, outer).reshape(piece.shape[:2]) * -sign
        out.append(Texture.of(torch.from_numpy(_filled(piece, beyond, skin, distance, inside, size, stroke)), c0, r0))
    return out[0], out[1]


def _drawn_on(curve: np.ndarray, length: float) -> np.ndarray:
    """``curve`` [K, 2] drawn on straight at both ends."""
    tenth = max(1, len(curve) // 10)
    first, last = curve[0] - curve[tenth], curve[-1] - curve[-1 - tenth]
    first, last = (d / max(float(np.linalg.norm(d)), 1e-6) * length for d in (first, last))
    return np.concatenate([curve[:1] + first, curve, curve[-1:] + last])


def _width_beyond(image: np.ndarray, line: np.ndarray, size: float) -> np.floating:
    """How wide the dark beyond the corners of ``line`` [K, 2] is at half its depth, outer-eye distances."""
    reach = np.linspace(-0.10, 0.10, 81)
    ends = _drawn_on(line, size)[[0, -1]]
    widths, depths = [], []
    for corner, end in zip(line[[0, -1]], ends, strict=True):
        along = (end - corner) / max(float(np.linalg.norm(end - corner)), 1e-6)
        for step in (0.020, 0.035, 0.050):
            across = np.array([-along[1], along[0]]) * reach[:, None]
            light = luminance(read_bilinear(image, corner + size * (along * step + across)))
            darkest = 20 + int(light[20:61].argmin())
            level = float(np.quantile(light, 0.7))
            clear = np.flatnonzero(light > (level + light[darkest]) / 2)
            before, after = clear[clear < darkest], clear[clear > darkest]
            first, last = (before[-1] if len(before) else 0), (after[0] if len(after) else len(reach) - 1)
            widths.append(reach[last] - reach[first])
            depths.append(max(level - light[darkest], 1e-3))
    return np.average(widths, weights=depths)


def _distance(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """[N] distance of ``points`` [N, 2] to the nearest piece of ``curve`` [K, 2]."""
    best = np.full(len(points), np.inf)
    for start, end in zip(curve[:-1], curve[1:], strict=True):
        along = end - start
        t = np.clip(((points - start) @ along) / max(float(along @ along), 1e-9), 0, 1)
        best = np.minimum(best, ((points - start - t[:, None] * along) ** 2).sum(1))
    return np.sqrt(best)


def _filled(piece: np.ndarray, beyond: np.ndarray, skin: np.ndarray, distance: np.ndarray,
            inside: np.ndarray, size: float, stroke: float) -> np.ndarray:
    """[h, w, 4] ``piece`` with the shadow at one lip's edge lit and the other side filled from that lip's, and how far
    that counts, 0..1, falling to nothing away from the edge.

    Args:
        beyond: [h, w] pixels by which a place lies on the other side of the edge; not finite beside its ends.
        skin: [h, w] pixels by which it lies beyond the lip's outer edge.
        distance: [h, w] pixels to the edge.
        inside: [h, w] pixels by which it lies between the edge's ends; negative beside them.
        stroke: how far what is dark beyond the corners is to be filled, 0..1.
    """
    beyond, skin, distance = beyond / size, skin / size, distance / size
    soft = max(0.010, 1.5 / size)
    other = np.where(np.isfinite(beyond), smoothstep((beyond + 0.006) / soft + 0.5), 0.0)
    # What is the lip's and not close to the line says what light and colour it has; and since a broad line darkens that
    # too, again without what the first look found to be shadow.
    own = np.where(np.isfinite(skin), 1 - 0.96 * smoothstep(skin / soft + 0.5), 1.0)
    clear, light = (1 - other) * own * (0.02 + smoothstep((distance - 0.010) / 0.015)), luminance(piece)
    start, over = SHADOW
    close = smoothstep((REACH - distance) / (0.5 * REACH))
    shadow = np.zeros_like(light)
    # A dimple begins within the corner.
    filled = 1 - 0.8 * (1 - stroke) * (1 - smoothstep((inside / size + 0.01) / 0.06))
    for _ in range(3):
        around = _spread(piece, clear * (1 - shadow) ** 2 + 1e-6, 0.030 * size)
        wanted = luminance(around)
        shadow = smoothstep((start * wanted - light) / np.maximum(over * wanted, 1e-3)) * close * filled
    shadow = shadow[..., None]
    # Lit, a shadow between the lips keeps half of its own hue: the red of thin painted lips is nowhere but in their
    # line. What is nearly black has none, and in the corners it is skin.
    gain = np.clip(start * wanted / np.maximum(light, 1e-3), 1.0, None)[..., None]
    hue = 0.5 * (1 - smoothstep((gain - 1.6) / (BRIGHTEST - 1.6))) * np.isfinite(beyond)[..., None]
    hue = blur(hue, 0.010 * size, 0.010 * size)
    lit = piece + shadow * (piece * gain.clip(None, BRIGHTEST) * hue + around * (1 - hue) - piece)
    known = (1 - other) * (1 - 0.8 * shadow[..., 0]) + 1e-4
    trust = smoothstep(blur(known, 0.008 * size, 0.008 * size) / 0.25)[..., None]
    fill = _spread(lit, known, 0.008 * size) * trust + around * (1 - trust)
    near = smoothstep((2 * REACH - distance) / REACH)
    return np.concatenate([lit + (fill - lit) * other[..., None], near[..., None]], -1).astype(np.float32)


def _spread(piece: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """[h, w, 3] mean colour round every pixel, each counted by ``weight`` [h, w]."""
    weighted = blur(piece * weight[..., None], sigma, sigma)
    return weighted / np.maximum(blur(weight, sigma, sigma), 1e-6)[..., None]
