"""Lays the mesh's mouth on the mouth that is drawn: small painted mouths lie elsewhere than the mesh believes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import topology
from .edges import blur, cheapest_path, luminance, read_bilinear
from .grid import smoothstep

COLUMNS, ROWS = 121, 61
HALF_WIDTH, HALF_HEIGHT = 0.52, 0.13
"""What is searched about the mesh's mouth, outer-eye distances."""
ON_LINE = 0.028
"""How far off the mesh's line the rest of a broken line may end, outer-eye distances."""
LARGEST_SHIFT = 0.22


@dataclass(frozen=True)
class Line:
    """A dark stroke near the mesh's mouth.

    Attributes:
        left, right: its ends [2] less the mesh line's own bow, outer-eye distances from the middle of the mesh's inner
            corners, x along them, y down.
        strength: how dark it is on the whole, 0..1 of the darkest stroke there.
        on_mesh: share of the mesh's own line that a dark stroke accompanies.
    """

    left: np.ndarray
    right: np.ndarray
    strength: float
    on_mesh: float


def mouth_line(image: np.ndarray, landmarks: np.ndarray, size: float) -> Line | None:
    """The drawn line between the lips; None if nothing stands out."""
    left, right = landmarks[topology.LIPS_INNER_UPPER[0], :2], landmarks[topology.LIPS_INNER_UPPER[-1], :2]
    axis = (right - left) / max(np.linalg.norm(right - left), 1e-6)
    down = np.array([-axis[1], axis[0]])
    x = np.linspace(-HALF_WIDTH, HALF_WIDTH, COLUMNS)
    y = np.linspace(-HALF_HEIGHT, HALF_HEIGHT, ROWS)
    grid_x, grid_y = np.meshgrid(x, y)
    points = (left + right) / 2 + (grid_x[..., None] * axis + grid_y[..., None] * down) * size
    patch = read_bilinear(image, points)
    light = (0.5 * luminance(patch) + 0.5 * patch[..., 1]).astype(np.float32)
    per_unit = (ROWS - 1) / (2 * HALF_HEIGHT)
    fine = blur(light, 0.006 * per_unit, 0.006 * per_unit)
    wide = blur(light, 0.035 * per_unit, 0.02 * per_unit)
    ridge = np.maximum(wide - fine, 0)
    top = float(np.quantile(ridge, 0.995))
    if top < 0.012:
        return None
    # Far from the mesh's line a dark stroke must be darker to count: nostrils, beards and chins have strokes too.
    evidence = np.minimum(ridge / top, 1.0) * (1 - 0.5 * (grid_y / HALF_HEIGHT) ** 2)
    path = cheapest_path(-evidence.T, 0.06)
    strength = _running_mean(evidence[path, np.arange(COLUMNS)])
    runs, start = [], None
    for k in range(COLUMNS + 1):
        if k < COLUMNS and strength[k] > 0.33:
            start = k if start is None else start
        elif start is not None:
            runs.append((strength[start:k].sum() - 0.02 * abs((start + k) / 2 - COLUMNS / 2), start, k - 1))
            start = None
    if not runs:
        return None
    _, first, last = max(runs)
    middle = (landmarks[list(topology.LIPS_INNER_UPPER), :2] + landmarks[list(topology.LIPS_INNER_LOWER), :2]) / 2
    mesh = np.stack([(middle - (left + right) / 2) @ axis, (middle - (left + right) / 2) @ down], 1) / size
    span = (x > mesh[0, 0] * 0.9) & (x < mesh[-1, 0] * 0.9)
    row = np.interp(x, mesh[:, 0], mesh[:, 1])
    near = np.abs(grid_y - row[None]) < 0.022
    on_mesh = _running_mean(np.where(near, evidence, 0).max(0))[span]
    # A smile's ends lie high: what the line as a whole is off by is what its middle is off by too.
    part = np.linspace(0, 1, last - first + 1)
    shrink = (x[last] - x[first]) / max(mesh[-1, 0] - mesh[0, 0], 1e-6)
    bow = np.interp(part, np.linspace(0, 1, len(mesh)), mesh[:, 1]) * shrink
    stroke = y[path[first:last + 1]]
    tilt = float(np.polyfit(part, stroke - bow, 1)[0])
    height = float((stroke - bow).mean())
    return Line(np.array([x[first], height - tilt / 2]), np.array([x[last], height + tilt / 2]),
                float(strength[first:last + 1].mean()), float((on_mesh > 0.25).mean()))


def _running_mean(values: np.ndarray) -> np.ndarray:
    return np.convolve(np.pad(values, 3, mode="edge"), np.ones(7) / 7, mode="valid")


def fit_mouth(image: np.ndarray, landmarks: np.ndarray, size: float) -> np.ndarray:
    """[478, 3] landmarks with a closed mouth moved onto the drawn line, where that is plainly another place.

    A mesh whose own line is dark in the picture fits, and is returned untouched.
    """
    found = mouth_line(image, landmarks, size)
    if found is None or found.on_mesh > 0.75 or found.strength < 0.45:
        return landmarks
    a, b = found.left, found.right
    left, right = landmarks[topology.LIPS_INNER_UPPER[0], :2], landmarks[topology.LIPS_INNER_UPPER[-1], :2]
    width = float(np.linalg.norm(right - left)) / size
    ratio = float(np.linalg.norm(b - a)) / max(width, 1e-6)
    shift = (a + b) / 2
    if not 0.35 < ratio < 1.05 or np.linalg.norm(shift) > LARGEST_SHIFT or abs(shift[1]) > 0.07:
        return landmarks
    # Where teeth show or half the face lies in shadow, the dark line breaks off: what is left of it ends in the mesh's
    # corner and lies on its line.
    ends_there = max(a[0] / -width, b[0] / width) > 0.5 - 0.04 / max(width, 1e-6)
    if ends_there and max(abs(a[1]), abs(b[1])) < ON_LINE and found.on_mesh > 0.4 and ratio < 0.75:
        return landmarks
    axis = (right - left) / max(np.linalg.norm(right - left), 1e-6)
    down = np.array([-axis[1], axis[0]])
    centre = (left + right) / 2
    local = (landmarks[:, :2] - centre) @ np.stack([axis, down], 1) / size
    tilt = np.arctan2(b[1] - a[1], b[0] - a[0])
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    target = (local * np.array([ratio, 0.5 + 0.5 * ratio])) @ turn.T + shift
    lips = local[list(topology.LIPS_OUTER_UPPER + topology.LIPS_OUTER_LOWER)]
    beyond = np.linalg.norm(local[:, None] - lips[None], axis=-1).min(1)
    inside = np.linalg.norm(local / np.array([0.5 * width + 0.02, 0.12]), axis=1) < 1
    share = np.where(inside, 1.0, 1 - smoothstep(beyond / 0.22))[:, None]
    share[topology.MESH_POINTS:] = 0
    moved = local + (target - local) * share
    out = landmarks.copy()
    out[:, :2] = centre + (moved[:, :1] * axis + moved[:, 1:] * down) * size
    return out
