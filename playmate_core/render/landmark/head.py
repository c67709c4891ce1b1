"""The head in the picture: size, pose and relief, and how far its movement carries into hair, neck and background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face import geometry
from ...face.bridge import HEAD_ORIGIN
from ...motion.geometry import euler_degrees
from . import topology
from .grid import Grid, dense, locate, nearest, polygon_distance, ring_weights, smooth, smoothstep
from .warp import FLAT_SLOPE, MAX_SLOPE

NODES_PER_EYE_DISTANCE = 24
MAX_REACH = 2.0
"""Outer-eye distances beyond the head over which its movement dies away, at most."""
EXPRESSION_REACH = 0.9


@dataclass(frozen=True)
class HeadFrame:
    """Where the head is.

    Attributes:
        size: outer-eye distance in three dimensions, pixels.
        rotation: [3, 3] head axes to picture axes (columns: the head's x, y, z in the picture).
        pivot: [3] centre of head turns, pixels (x, y, z).
        centre: [2] middle of the face, pixels.
    """

    size: float
    rotation: np.ndarray
    pivot: np.ndarray
    centre: np.ndarray

    def angles(self) -> torch.Tensor:
        """[3] degrees: pitch, yaw, roll of the portrait in LivePortrait's signs (SPEC.md section 8)."""
        return euler_degrees(torch.from_numpy(self.rotation.T.copy()))

    @staticmethod
    def of(landmarks: np.ndarray) -> HeadFrame:
        """The frame of ``landmarks`` [478, 3]: the pose lays the mean face's rigid points on theirs."""
        rigid = list(geometry.RIGID)
        points = torch.from_numpy(landmarks.astype(np.float64))
        _, rotation, _ = geometry.similarity(points[None, rigid], geometry.mean_face()[rigid], rounds=3)
        # It takes row vectors from picture to head; as a matrix for columns it is the way back.
        rotation = rotation[0].numpy()
        size = float(np.linalg.norm(landmarks[33] - landmarks[263]))
        pivot = landmarks[rigid].mean(0) + rotation @ np.array(HEAD_ORIGIN) * size
        centre = (landmarks[topology.FOREHEAD_TOP, :2] + landmarks[topology.CHIN_TIP, :2]) / 2
        return HeadFrame(size, rotation, pivot, centre)


@dataclass(frozen=True)
class HeadField:
    """Nodes over the part of the picture that can move.

    Attributes:
        grid: the nodes.
        depth: [N] relief, pixels, smaller is nearer (numpy, as all below).
        flat: [N] the same without what is steep, for far turns.
        distance: [N] outer-eye distances beyond the head's outline.
        neckness: [N] 0..1, how much a node lies in the neck's direction.
        border: [N, 2] pixels to the nearest vertical and horizontal border of the picture.
        expression_rows: [M] the nodes that expressions move.
        expression_weights: [M, 478] float32 their weights on the landmarks' displacements.
    """

    grid: Grid
    depth: np.ndarray
    flat: np.ndarray
    distance: np.ndarray
    neckness: np.ndarray
    border: np.ndarray
    expression_rows: np.ndarray
    expression_weights: np.ndarray


def head_outline(landmarks: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """[K, 2] the head with hair and ears: the face's oval joined to an ellipse about it, pixels."""
    top, chin = landmarks[topology.FOREHEAD_TOP, :2], landmarks[topology.CHIN_TIP, :2]
    sides = landmarks[list(topology.EAR_SIDES), :2]
    down = (chin - top) / max(np.linalg.norm(chin - top), 1e-6)
    across = np.array([down[1], -down[0]])
    half_height = np.linalg.norm(chin - top) / 2 + 0.30 * frame.size
    half_width = np.linalg.norm(sides[1] - sides[0]) / 2 + 0.30 * frame.size
    centre = frame.centre - down * 0.32 * frame.size
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    ellipse = centre + np.cos(angle)[:, None] * across * half_width + np.sin(angle)[:, None] * down * half_height
    from scipy.spatial import ConvexHull

    points = np.concatenate([ellipse, landmarks[list(topology.OVAL), :2]]).astype(np.float32).astype(np.float64)
    return points[ConvexHull(points).vertices]


def limit_slope(depth: np.ndarray, grid: Grid, slope: float) -> np.ndarray:
    """The middle of the tightest surfaces above and below ``depth`` [N] that are nowhere steeper than ``slope``."""
    def grow(z):
        z = z.reshape(grid.rows, grid.columns).copy()
        for _ in range(grid.rows + grid.columns):
            before = z.copy()
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                cost = slope * grid.step * np.hypot(dy, dx)
                here = z[:grid.rows - dy, max(0, -dx):grid.columns - max(0, dx)]
                there = z[dy:, max(0, dx):grid.columns - max(0, -dx)]
                np.minimum(there, here + cost, out=there)
                np.minimum(here, there + cost, out=here)
            if np.array_equal(before, z):
                break
        return z.reshape(-1)

    return (grow(depth) - grow(-depth)) / 2


def relief(grid: Grid, landmarks: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """[N] depth of every node: the face's own, running back to the ears' depth over hair, ears and neck."""
    nodes = grid.nodes()
    vertex, weight, covered = locate(grid, landmarks, np.ones(len(topology.triangles()), bool))
    depth = (landmarks[vertex, 2] * weight).sum(1)
    ring = landmarks[list(topology.OVAL)]
    outside = ~covered
    edge = ring_weights(nodes[outside], ring[:, :2]) @ ring[:, 2]
    away = smoothstep(polygon_distance(nodes[outside], ring[:, :2]) / (0.8 * frame.size))
    depth[outside] = edge + (frame.pivot[2] - edge) * away
    # Where the turned-away cheek hides behind the nose the mesh is steep: what is left smooth never folds.
    depth = smooth(depth[:, None], grid, 0.05 * frame.size)[:, 0]
    depth = limit_slope(depth, grid, MAX_SLOPE)
    return smooth(depth[:, None], grid, 0.03 * frame.size)[:, 0]


def flattened(depth: np.ndarray, grid: Grid, frame: HeadFrame) -> np.ndarray:
    """[N] the relief ``depth`` [N] with its steep pieces eased: the nose is lower, the head is as deep as before."""
    return smooth(limit_slope(depth, grid, FLAT_SLOPE)[:, None], grid, 0.03 * frame.size)[:, 0]


def expression_weights(grid: Grid, landmarks: np.ndarray, frame: HeadFrame) -> tuple[np.ndarray, np.ndarray]:
    """(rows [M], weights [M, 478]): how nodes follow the landmarks; outside the face the oval's movement fades."""
    nodes = grid.nodes()
    vertex, weight, covered = locate(grid, landmarks, np.ones(len(topology.triangles()), bool))
    ring = np.array(topology.OVAL)
    away = polygon_distance(nodes, landmarks[ring, :2]) / frame.size
    # Only the window that matters is filled and smoothed.
    table = (away < EXPRESSION_REACH).reshape(grid.rows, grid.columns)
    row, column = np.flatnonzero(table.any(1)), np.flatnonzero(table.any(0))
    r0, r1, c0, c1 = row[0], max(row[-1] + 1, row[0] + 2), column[0], max(column[-1] + 1, column[0] + 2)
    index = np.arange(grid.rows * grid.columns).reshape(grid.rows, grid.columns)[r0:r1, c0:c1]
    window = Grid(grid.x0 + c0 * grid.step, grid.y0 + r0 * grid.step, grid.step, *index.shape)
    index = index.reshape(-1)
    vertex, weight, covered, away, nodes = vertex[index], weight[index], covered[index], away[index], nodes[index]
    weights = dense(vertex, weight)
    near = ~covered & (away < EXPRESSION_REACH)
    fade = 1 - smoothstep(away[near] / EXPRESSION_REACH)
    weights[~covered] = 0
    weights[np.ix_(near, ring)] = ring_weights(nodes[near], landmarks[ring, :2]) * fade[:, None]
    weights = smooth(weights, window, 0.03 * frame.size)
    weights[away >= EXPRESSION_REACH] = 0
    kept = np.flatnonzero(np.abs(weights).sum(1) > 1e-5)
    return index[kept], np.ascontiguousarray(weights[kept])


def build_field(landmarks: np.ndarray, frame: HeadFrame, height: int, width: int) -> HeadField:
    """The nodes over everything that a head in a ``height`` x ``width`` picture can move."""
    outline = head_outline(landmarks, frame)
    margin = (MAX_REACH + 0.1) * frame.size
    low, high = outline.min(0) - margin, outline.max(0) + margin
    box = (max(0.0, low[0]), max(0.0, low[1]), min(float(width), high[0]), min(float(height), high[1]))
    grid = Grid.cover(box, frame.size / NODES_PER_EYE_DISTANCE)
    nodes = grid.nodes()
    down = frame.rotation[:2, 1] / max(np.linalg.norm(frame.rotation[:2, 1]), 1e-6)
    from_centre = nodes - frame.centre
    cosine = (from_centre @ down) / np.maximum(np.linalg.norm(from_centre, axis=1), 1e-6)
    border = np.stack([np.minimum(nodes[:, 0], width - nodes[:, 0]), np.minimum(nodes[:, 1], height - nodes[:, 1])], 1)
    rows, weights = expression_weights(grid, landmarks, frame)
    depth = relief(grid, landmarks, frame)
    return HeadField(grid, depth, flattened(depth, grid, frame), polygon_distance(nodes, outline) / frame.size,
                     smoothstep((cosine - 0.3) / 0.5), np.maximum(border, 0.0), rows, weights)


@dataclass(frozen=True)
class ClipField:
    """A HeadField cut down to what one clip moves; tensors on the renderer's device.

    Attributes:
        grid: the nodes, a window of the head's.
        depth, flat, weight: [N] relief, the same without what is steep, and the share of the head's movement that a
            node follows.
        border: [2, N] factors on the x and y displacement that keep the picture's edge filled.
        rows, weights: nodes that expressions move, and how.
    """

    grid: Grid
    depth: Tensor
    flat: Tensor
    weight: Tensor
    border: Tensor
    rows: Tensor
    weights: Tensor


def cut(field: HeadField, frame: HeadFrame, reach: float, device) -> ClipField:
    """The part of ``field`` that moves when the head's movement reaches ``reach`` outer-eye distances beyond it."""
    reach = float(np.clip(reach, 0.5, MAX_REACH))
    span = reach + (max(reach, 1.2) - reach) * field.neckness
    weight = 1 - smoothstep(field.distance / span)
    grid = field.grid
    moves = weight > 0
    moves[field.expression_rows] = True
    table = moves.reshape(grid.rows, grid.columns)
    row, column = np.flatnonzero(table.any(1)), np.flatnonzero(table.any(0))
    r0, r1 = max(0, row[0] - 1), min(grid.rows, row[-1] + 2)
    c0, c1 = max(0, column[0] - 1), min(grid.columns, column[-1] + 2)
    if r1 - r0 < 2 or c1 - c0 < 2:
        r0, r1, c0, c1 = 0, grid.rows, 0, grid.columns
    window = Grid(grid.x0 + c0 * grid.step, grid.y0 + r0 * grid.step, grid.step, r1 - r0, c1 - c0)
    index = np.arange(grid.rows * grid.columns).reshape(grid.rows, grid.columns)[r0:r1, c0:c1].reshape(-1)
    place = np.full(grid.rows * grid.columns, -1)
    place[index] = np.arange(len(index))
    kept = place[field.expression_rows] >= 0
    margin = (0.3 + 0.4 * reach) * frame.size
    border = smoothstep(field.border[index] / margin).T

    def tensor(a):
        return torch.from_numpy(np.ascontiguousarray(a)).to(device)

    return ClipField(window, tensor(field.depth[index].astype(np.float32)),
                     tensor(field.flat[index].astype(np.float32)), tensor(weight[index].astype(np.float32)),
                     tensor(border.astype(np.float32)), tensor(place[field.expression_rows[kept]]),
                     tensor(field.expression_weights[kept]))


__all__ = ["ClipField", "HeadField", "HeadFrame", "build_field", "cut", "nearest"]
