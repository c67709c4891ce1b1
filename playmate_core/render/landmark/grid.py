"""Regular grids of nodes over a picture, and smooth weights that tie every node to the landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...runtime import sampling
from . import topology


@dataclass(frozen=True)
class Grid:
    """Nodes at ``origin + step * (column, row)``, pixels.

    Attributes:
        x0, y0: the first node.
        step: distance between nodes, pixels.
        rows, columns: number of nodes, at least 2 each.
    """

    x0: float
    y0: float
    step: float
    rows: int
    columns: int

    @staticmethod
    def cover(box, step: float) -> Grid:
        """The grid that covers ``box`` (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = (float(v) for v in box)
        rows, columns = (max(2, int(np.ceil(extent / step)) + 1) for extent in (y1 - y0, x1 - x0))
        return Grid(x0, y0, step, rows, columns)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the outermost nodes."""
        return self.x0, self.y0, self.x0 + self.step * (self.columns - 1), self.y0 + self.step * (self.rows - 1)

    def nodes(self) -> np.ndarray:
        """[rows * columns, 2] node positions, row by row."""
        y, x = np.mgrid[0:self.rows, 0:self.columns]
        return np.stack([self.x0 + self.step * x, self.y0 + self.step * y], -1).reshape(-1, 2).astype(np.float64)

    def nodes_tensor(self, device="cpu") -> Tensor:
        """[rows, columns, 2] node positions."""
        return torch.from_numpy(self.nodes().astype(np.float32)).reshape(self.rows, self.columns, 2).to(device)

    def sample(self, field: Tensor, points: Tensor) -> Tensor:
        """Bilinear value of ``field`` [B, C, rows, columns] at ``points`` [B, h, w, 2] pixels: [B, C, h, w].

        Points outside take the nearest border value.
        """
        return self.sample_at(field, self.places(points))

    def places(self, points: Tensor) -> Tensor:
        """``points`` [..., 2] pixels in the -1..1 coordinates that :meth:`sample_at` takes."""
        scale = points.new_tensor([2.0 / (self.step * (self.columns - 1)), 2.0 / (self.step * (self.rows - 1))])
        return (points - points.new_tensor([self.x0, self.y0])) * scale - 1

    @staticmethod
    def sample_at(field: Tensor, places: Tensor) -> Tensor:
        """As :meth:`sample`, at :meth:`places`."""
        return sampling.sample(field, places, "border", align_corners=True)


def gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    """[size, size] one-dimensional Gaussian smoothing with renormalised borders; ``sigma`` in nodes."""
    if sigma <= 0:
        return np.eye(size)
    offset = np.arange(size)[:, None] - np.arange(size)[None]
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    return kernel / kernel.sum(1, keepdims=True)


def smooth(field: np.ndarray, grid: Grid, sigma: float) -> np.ndarray:
    """Gaussian smoothing of ``field`` [rows * columns, C]; ``sigma`` in pixels."""
    rows = torch.from_numpy(gaussian_matrix(grid.rows, sigma / grid.step).astype(np.float32))
    columns = torch.from_numpy(gaussian_matrix(grid.columns, sigma / grid.step).astype(np.float32))
    cube = torch.from_numpy(np.ascontiguousarray(field, np.float32)).reshape(grid.rows, -1)
    cube = torch.mm(rows, cube).reshape(grid.rows, grid.columns, -1)
    return torch.matmul(columns, cube).reshape(field.shape[0], -1).numpy()


def locate(grid: Grid, points: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every node the frontmost of the ``chosen`` triangles over it.

    Args:
        points: [468+, 3] landmarks, pixels; smaller z is nearer.
        chosen: [898] which triangles take part.

    Returns:
        vertices [N, 3], barycentric weights [N, 3], covered [N].
    """
    count = grid.rows * grid.columns
    vertex, weight, covered = np.zeros((count, 3), np.int64), np.zeros((count, 3)), np.zeros(count, bool)
    depth = np.full(count, np.inf)
    for triangle in topology.triangles()[chosen]:
        a, b, c = points[triangle]
        twice_area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if abs(twice_area) < 1e-6:
            continue
        low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
        c0 = max(0, int(np.ceil((low[0] - grid.x0) / grid.step)))
        c1 = min(grid.columns - 1, int(np.floor((high[0] - grid.x0) / grid.step)))
        r0 = max(0, int(np.ceil((low[1] - grid.y0) / grid.step)))
        r1 = min(grid.rows - 1, int(np.floor((high[1] - grid.y0) / grid.step)))
        if c0 > c1 or r0 > r1:
            continue
        row, column = np.mgrid[r0:r1 + 1, c0:c1 + 1]
        x, y = grid.x0 + grid.step * column, grid.y0 + grid.step * row
        u = ((x - a[0]) * (c[1] - a[1]) - (y - a[1]) * (c[0] - a[0])) / twice_area
        v = ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])) / twice_area
        z = a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2])
        node = row * grid.columns + column
        hit = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & (z < depth[node])
        node = node[hit]
        vertex[node] = triangle
        weight[node] = np.stack([1 - u[hit] - v[hit], u[hit], v[hit]], 1)
        depth[node] = z[hit]
        covered[node] = True
    return vertex, weight, covered


def dense(vertex: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[N, 478] weights from vertices [N, 3] and their barycentric weights."""
    out = np.zeros((len(vertex), topology.LANDMARKS), np.float32)
    for corner in range(3):
        np.add.at(out, (np.arange(len(vertex)), vertex[:, corner]), weight[:, corner])
    return out


def nearest(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[N] index of the nearest of ``targets`` [M, 2] for every point [N, 2]."""
    found = np.empty(len(points), np.int64)
    reference = torch.from_numpy(np.ascontiguousarray(targets, np.float32))
    for start in range(0, len(points), 2048):
        chunk = torch.from_numpy(np.ascontiguousarray(points[start:start + 2048], np.float32))
        found[start:start + 2048] = torch.cdist(chunk, reference).argmin(1).numpy()
    return found


def ring_weights(points: np.ndarray, ring: np.ndarray, power: float = 3.0) -> np.ndarray:
    """[N, R] inverse-distance weights of ``points`` [N, 2] on the vertices of ``ring`` [R, 2]; rows sum to one."""
    distance = np.linalg.norm(points[:, None] - ring[None], axis=-1)
    weight = 1.0 / np.maximum(distance, 1e-3) ** power
    return weight / weight.sum(1, keepdims=True)


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    straddles = (a[:, 1] > y) != (b[:, 1] > y)
    slope = (b[:, 0] - a[:, 0]) / np.where(b[:, 1] == a[:, 1], 1e-12, b[:, 1] - a[:, 1])
    return (straddles & (x < a[:, 0] + slope * (y - a[:, 1]))).sum(1) % 2 == 1


def polygon_distance(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """[N] distance to a closed polygon's outline, zero inside it."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    edge = b - a
    best = np.full(len(points), np.inf)
    for start, along in zip(a, edge, strict=True):
        t = np.clip(((points - start) @ along) / max(float(along @ along), 1e-9), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - start - t[:, None] * along, axis=1))
    best[_inside(points, polygon)] = 0.0
    return best


def smoothstep(x):
    """0 below 0, 1 above 1, smooth between (numpy or torch)."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)
