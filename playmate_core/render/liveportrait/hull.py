"""How much larger the source's head is than the driver's, by the volume of their keypoints (SPEC.md section 10.2)."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

JITTER = 1e-9


def hull_volume(points: Tensor) -> float:
    """Volume of the convex hull of [N, 3] points, N small: every triangle of points is tried.

    The points are moved by a billionth of their spread, so that no four lie in one plane; the volume changes by about
    as little.
    """
    points = points.detach().cpu().double()  # in this order: Apple's GPUs have no float64
    spread = (points - points.mean(dim=0)).norm(dim=-1).max().clamp_min(1e-30)
    points = (points - points.mean(dim=0)) / spread
    points = points + JITTER * torch.randn(points.shape, generator=torch.Generator().manual_seed(0),
                                           dtype=torch.float64)
    triangles = torch.tensor(list(combinations(range(len(points)), 3)))
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    normal = torch.linalg.cross(b - a, c - a)
    height = points @ normal.T - (a * normal).sum(dim=-1)
    for corner in range(3):
        height.scatter_(0, triangles[:, corner][None], 0.0)
    outside = (height <= 0).all(dim=0) | (height >= 0).all(dim=0)
    centre = points.mean(dim=0)
    volume = ((a - centre) * normal).sum(dim=-1).abs()[outside].sum() / 6
    return float(volume * spread**3)


def expression_multiplier(kp_source: Tensor, kp_driving: Tensor) -> float:
    """sqrt(V(source)) / sqrt(V(driving)) of [K, 3] keypoints; 1 if the driver's have no volume."""
    driving = hull_volume(kp_driving)
    return (hull_volume(kp_source) / driving) ** 0.5 if driving > 0 else 1.0
