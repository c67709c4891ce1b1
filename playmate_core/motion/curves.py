"""Curves through time for motion: monotone cubics and frame positions."""

from __future__ import annotations

import torch
from torch import Tensor

from .geometry import wide


def monotone_cubic(times: Tensor, values: Tensor, queries: Tensor, flat_ends: bool = False) -> Tensor:
    """Piecewise cubic through the knots that never overshoots them (Fritsch and Butland 1984).

    Between two knots the curve stays between their values, it is exact at the knots, its slope is continuous, and it
    is held before the first and after the last. A blink that is only a frame deep stays as deep and does not ring.

    Args:
        times: [N] strictly increasing, N at least 1.
        values: [N, C].
        queries: [M] in the units of ``times``.
        flat_ends: the curve starts and ends at rest (ease in, ease out); otherwise the end slopes are the end chords'.

    Returns:
        [M, C] in float64 (see ``geometry.wide``).
    """
    times, values, queries = wide(times).contiguous(), wide(values), wide(queries)
    if len(times) == 1:
        return values.expand(len(queries), -1).clone()
    steps = times.diff()[:, None]
    chords = values.diff(dim=0) / steps
    slopes = torch.zeros_like(values)
    if len(times) > 2:
        before, after = chords[:-1], chords[1:]
        near, far = steps[1:] + 2 * steps[:-1], 2 * steps[1:] + steps[:-1]
        same_way = before * after > 0
        safe = torch.where(same_way, near * after + far * before, torch.ones_like(before))
        # Weighted harmonic mean of the two chords; a turning point is flat.
        slopes[1:-1] = torch.where(same_way, before * after * (near + far) / safe, torch.zeros_like(before))
    if not flat_ends:
        slopes[0], slopes[-1] = chords[0], chords[-1]

    inside = queries.clamp(times[0], times[-1])
    index = (torch.searchsorted(times, inside, right=True) - 1).clamp(0, len(times) - 2)
    step = steps[index]
    u = (inside - times[index])[:, None] / step
    left, right = values[index], values[index + 1]
    ease = u * u * (3 - 2 * u)
    result = left + ease * (right - left)
    result = result + step * u * (1 - u) * ((1 - u) * slopes[index] - u * slopes[index + 1])
    return torch.where(u >= 1, right, result)


def smoothstep(x: Tensor) -> Tensor:
    """3x^2 - 2x^3 for x in 0..1, flat at both ends."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
