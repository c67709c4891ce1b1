"""Maps between a film's picture and what is drawn on it: smooth, and the same smooth in every picture.

Each map says for a pixel of the result where it comes from. It is known at landmarks and interpolated between them by
their distance, so that no triangle's edge shows and nothing jumps when the mesh does.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import topology
from .grid import Grid, polygon_distance, smoothstep

SOFT = 0.035
"""Distance, outer-eye distances, within which a landmark's own value counts for everything."""
STEP = 0.035
"""Distance between nodes, outer-eye distances."""
SIDEWAYS, DOWNWARD = 0.30, 0.70
"""How far beyond the face the movement of its outline dies away, outer-eye distances."""
WHOLE = 0.85
"""The same to all sides where the head moves as a whole."""


def kernel(nodes: Tensor, points: Tensor, soft: float) -> Tensor:
    """[N, V] shares, rows adding up to one, of ``points`` [V, 2] at ``nodes`` [N, 2]; all in pixels."""
    middle = points.mean(0)
    nodes, points = nodes - middle, points - middle
    squared = (nodes.square().sum(1)[:, None] + points.square().sum(1)[None] - 2 * nodes @ points.T).clamp_min(0)
    share = (squared / (soft * soft) + 1).square().reciprocal()
    return share / share.sum(1, keepdim=True)


def affine(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(matrix [2, 2], shift [2]) with ``source @ matrix + shift`` closest to ``target``, both [V, 2]."""
    share = (weight / weight.sum())[:, None].double()
    a, b = source.double(), target.double()
    middle_a, middle_b = (share * a).sum(0), (share * b).sum(0)
    a, b = a - middle_a, b - middle_b
    matrix = torch.linalg.solve((share * a).T @ a, (share * a).T @ b)
    return matrix.float(), (middle_b - middle_a @ matrix).float()


def nodes_over(points: Tensor, margin: tuple, size: float, shape: tuple[int, int]) -> Grid | None:
    """Nodes over ``points`` [V, 2] and ``margin`` (left and right, above, below; outer-eye distances) about them, as
    far as they lie in a picture of ``shape`` (height, width); None if nothing does."""
    low, high = points.amin(0), points.amax(0)
    x0, x1 = float(low[0]) - margin[0] * size, float(high[0]) + margin[0] * size
    y0, y1 = float(low[1]) - margin[1] * size, float(high[1]) + margin[2] * size
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(shape[1])), min(y1, float(shape[0]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    return Grid.cover((x0, y0, x1, y1), max(STEP * size, 1.0))


def carried(nodes: Tensor, source: Tensor, target: Tensor, weight: Tensor, size: float, down: Tensor,
            scope: str) -> Tensor:
    """[N, 2] where ``nodes`` [N, 2] of the result come from in the film's picture, less where they are.

    Args:
        source, target: [468, 2] the mesh in the film's picture, and where it is wanted.
        weight: [468] how much of a landmark's movement counts; where it is nothing, nothing moves.
        down: [2] the head's downward direction.
        scope: one of render.film.SCOPES.
    """
    share = kernel(nodes, target, SOFT * size)
    offset = share @ (source - target)
    # What moves must not reach far into what does not: here the nearest landmarks decide alone.
    nearest = share.square()
    felt = (nearest @ weight) / nearest.sum(1)
    ring = target[list(topology.OVAL)].double().numpy()
    beyond = torch.from_numpy(polygon_distance(nodes.double().numpy(), ring)).float() / size
    aside = nodes - target[list(topology.OVAL)].mean(0)
    cosine = (aside @ down) / aside.norm(dim=1).clamp_min(1e-3)
    side, below = (WHOLE, WHOLE) if scope == "all" else (SIDEWAYS, DOWNWARD)
    reach = side + (below - side) * smoothstep((cosine - 0.4) / 0.5)
    fade = (1 - smoothstep(beyond / reach)) * smoothstep((felt - 0.03) / 0.12)
    if scope == "mouth":
        fade = fade * smoothstep(((nodes - target[1]) @ down / size + 0.04) / 0.12)
    return offset * fade[:, None]


def held(nodes: Tensor, bounds: tuple[int, int, int, int], size: float) -> Tensor:
    """[N, 2] factors on movement that keep the borders x0, y0, x1, y1 of what is shown where they are."""
    x0, y0, x1, y1 = bounds
    x, y = nodes.unbind(1)
    room = torch.stack([torch.minimum(x - x0, x1 - x), torch.minimum(y - y0, y1 - y)], 1)
    return smoothstep((room - 1) / (0.35 * size))


def eye_ring(landmarks: Tensor, side: int) -> np.ndarray:
    """[R, 2] the lids' edge as a closed ring, the left (0) or the right (1) one in the picture."""
    points = landmarks[:, :2].double().numpy()
    return np.concatenate([points[list(topology.EYES_UPPER[side])], points[list(topology.EYES_LOWER[side])][-2:0:-1]])


def lip_ring(landmarks: Tensor) -> np.ndarray:
    """[R, 2] the lips' outer edge as a closed ring, from ``landmarks`` [478, 2+]."""
    from .opening import through

    points = landmarks[:, :2].double().numpy()
    upper = through(points[list(topology.LIPS_OUTER_UPPER)], 21)
    lower = through(points[list(topology.LIPS_OUTER_LOWER)], 21)
    return np.concatenate([upper, lower[-2:0:-1]])


def signed_distance(points: Tensor, ring: np.ndarray) -> Tensor:
    """[N] distance of ``points`` [N, 2] to a closed ring [R, 2], negative inside."""
    places = points.double().numpy()
    outside = polygon_distance(places, ring)
    a, along = ring, np.roll(ring, -1, axis=0) - ring
    inside = np.flatnonzero(outside == 0)
    relative = places[inside, None] - a[None]
    share = np.clip((relative * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-9), 0, 1)
    outside[inside] = -np.linalg.norm(relative - share[..., None] * along, axis=-1).min(1) if len(inside) else 0
    return torch.from_numpy(outside).float()
