"""How well lips follow speech, measured on landmarks tracked on a finished video.

Gap and width are in units of the outer-eye distance, so that portraits of any size compare.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..face.geometry import lip_gap, lip_width


def lip_curves(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Lip gap [T] and lip width [T] of landmarks [T, 478, 3], units of the outer-eye distance."""
    return lip_gap(landmarks), lip_width(landmarks)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r of two series [T] over the frames where both are finite; NaN if either is constant."""
    length = min(len(a), len(b))
    a, b = a[:length].double(), b[:length].double()
    both = torch.isfinite(a) & torch.isfinite(b)
    if int(both.sum()) < 3:
        return float("nan")
    a, b = a[both] - a[both].mean(), b[both] - b[both].mean()
    scale = a.norm() * b.norm()
    return float(a @ b / scale) if float(scale) > 1e-12 else float("nan")


def best_lag(a: Tensor, b: Tensor, furthest: int = 5) -> tuple[float, int]:
    """The highest correlation of ``a`` with ``b`` shifted by up to ``furthest`` frames, and that shift.

    Returns:
        ``(r, lag)``: a positive lag means that ``a`` comes later than ``b``.
    """
    shifts = sorted(range(-furthest, furthest + 1), key=abs)
    scores = {lag: correlation(a[max(lag, 0):], b[max(-lag, 0):]) for lag in shifts}
    finite = {lag: r for lag, r in scores.items() if r == r}
    if not finite:
        return float("nan"), 0
    lag = max(finite, key=finite.get)
    return finite[lag], lag


def closure_rate(gap: Tensor, times: Sequence[tuple[float, float]], fps: float, threshold: float = 0.02) -> float:
    """Share of closures (p, b, m) in which the lips meet.

    Args:
        gap: [T] lip gap, units of the outer-eye distance.
        times: start and end of each closure, seconds.
        fps: frames a second of ``gap``.
        threshold: largest gap that counts as closed.

    Returns:
        0 to 1; NaN without closures. A closure is reached if any frame that it touches, or the one on
        either side (articulation and picture are only in step to a frame), is at or below the threshold.
    """
    if not times:
        return float("nan")
    reached = 0
    for start, end in times:
        first = max(int(start * fps) - 1, 0)
        window = gap[first:int(end * fps) + 2]
        window = window[torch.isfinite(window)]
        reached += bool(len(window)) and bool(window.min() <= threshold)
    return reached / len(times)


def on_frames(curve: Tensor, fps: float, frames: int, frames_fps: float) -> Tensor:
    """A curve [T] at ``fps`` read at the times of ``frames`` frames at ``frames_fps``; NaN beyond its end."""
    if fps == frames_fps:
        read = curve[:frames]
        return torch.cat([read, read.new_full((frames - len(read),), float("nan"))])
    position = torch.arange(frames) * (fps / frames_fps)
    low = position.long().clamp(max=len(curve) - 1)
    high = (low + 1).clamp(max=len(curve) - 1)
    read = curve[low] + (curve[high] - curve[low]) * (position - low).to(curve)
    return torch.where(position <= len(curve) - 0.5, read, torch.full_like(read, float("nan")))


def spread(curve: Tensor) -> float:
    """Standard deviation of a curve [T] over its finite frames; NaN below two of them."""
    finite = curve[torch.isfinite(curve)]
    return float(finite.std()) if len(finite) > 1 else float("nan")


def compare(curve: Tensor, other: Tensor, fps: float, furthest: float = 0.2) -> dict[str, float]:
    """A curve [T] against what it should follow [T].

    Args:
        furthest: largest lag tried either way, seconds.

    Returns:
        ``correlation`` at the best lag, that ``lag_ms`` (positive: the curve comes later), ``correlation_at_0``, and
        ``amplitude``: the ratio of their standard deviations.
    """
    best, lag = best_lag(curve, other, max(round(furthest * fps), 1))
    size = spread(other)
    return {"correlation": best, "lag_ms": 1000.0 * lag / fps, "correlation_at_0": correlation(curve, other),
            "amplitude": spread(curve) / size if size > 1e-9 else float("nan")}


def mean_over(series: Tensor, times: Sequence[tuple[float, float]], fps: float) -> float:
    """Mean of ``series`` [T] over the frames whose centre lies in any of ``times`` (seconds); NaN if none does."""
    centres = (torch.arange(len(series)) + 0.5) / fps
    inside = torch.zeros(len(series), dtype=torch.bool)
    for start, end in times:
        inside |= (centres >= start) & (centres < end)
    inside &= torch.isfinite(series)
    return float(series[inside].mean()) if bool(inside.any()) else float("nan")
