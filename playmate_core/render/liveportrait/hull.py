"""How much larger the source's head is than the driver's, by the volume of their keypoints (SPEC.md section 10.2)."""

from __future__ import annotations

from torch import Tensor


def hull_volume(points: Tensor) -> float:
    """Volume of the convex hull of [N, 3] points; 0 where all lie in one plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return float(ConvexHull(points.detach().cpu().double().numpy()).volume)  # Apple's GPUs have no float64
    except QhullError:
        return 0.0


def expression_multiplier(kp_source: Tensor, kp_driving: Tensor) -> float:
    """sqrt(V(source)) / sqrt(V(driving)) of [K, 3] keypoints; 1 if the driver's have no volume."""
    driving = hull_volume(kp_driving)
    return (hull_volume(kp_source) / driving) ** 0.5 if driving > 0 else 1.0
