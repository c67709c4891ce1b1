"""Smoothing motion over time without delaying it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Collection

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .geometry import (
    euler_degrees,
    nearest_rotation,
    quaternion_from_degrees,
    quaternion_to_degrees,
    rotation_matrix,
    wide,
)
from .regions import REGIONS, check_regions, region_masks
from .types import Motion

METHODS = ("gaussian", "kalman")


def gaussian_smooth(values: Tensor, sigma: float) -> Tensor:
    """Zero-phase Gaussian over the first dimension.

    Beyond its ends a sequence is continued by turning it about its end point (odd reflection), so that constants and
    straight lines come back unchanged and the ends are not drawn inwards.

    Args:
        values: [T, ...].
        sigma: standard deviation in frames, 0 or more; 0 returns the values.

    Returns:
        As ``values``, same dtype.
    """
    frames = values.shape[0]
    if sigma <= 0 or frames < 2:
        return values
    flat = wide(values).reshape(frames, -1)
    radius = max(1, math.ceil(4 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=flat.dtype, device=flat.device) / sigma) ** 2)
    reach = torch.arange(1, radius + 1, device=flat.device).clamp(max=frames - 1)
    before = 2 * flat[:1] - flat[reach.flip(0)]
    after = 2 * flat[-1:] - flat[frames - 1 - reach]
    padded = torch.cat([before, flat, after])
    smoothed = torch.nn.functional.conv1d(padded.T[:, None], (taps / taps.sum())[None, None])[:, 0].T
    return smoothed.reshape(values.shape).to(values.dtype)


def kalman_smooth(values: Tensor, observation_variance: float = 3e-7, process_variance: float = 1e-5) -> Tensor:
    """LivePortrait's smoother: a random walk seen through noise, filtered forwards and backwards (SPEC.md section 11).

    Args:
        values: [T, ...], latent units (rotations as matrices).
        observation_variance: r; larger is smoother.
        process_variance: q of the random walk, above 0.

    Returns:
        As ``values``, same dtype; computed in float64.

    Raises:
        PlaymateError: a variance that is not a number above 0.
    """
    q, r = process_variance, observation_variance
    if not (0 < q < math.inf and 0 < r < math.inf):
        raise PlaymateError(f"Smoothing variances must be above 0, got observation {r} and process {q}.")
    frames = values.shape[0]
    if not frames:
        return values
    z = wide(values)
    means, predicted_variance, variance = [], [], []
    mean, spread = z[0], 1.0
    for t in range(frames):
        gain = spread / (spread + r)
        mean = mean + gain * (z[t] - mean)
        means.append(mean)
        predicted_variance.append(spread)
        variance.append(spread * (1 - gain))
        spread = variance[-1] + q
    # The transition is the identity, so the prediction for t + 1 is the filtered mean at t.
    result = [means[-1]]
    for t in range(frames - 2, -1, -1):
        result.append(means[t] + (variance[t] / predicted_variance[t + 1]) * (result[-1] - means[t]))
    return torch.stack(result[::-1]).to(values.dtype)


def smooth(
    motion: Motion,
    seconds: float = 0.06,
    method: str = "gaussian",
    regions: Collection[str] | None = None,
    observation_variance: float = 3e-7,
) -> Motion:
    """Takes jitter out of a motion.

    Rotations are averaged as rotations: quaternions for the Gaussian, matrices brought back to the nearest rotation
    for the Kalman smoother (LivePortrait leaves them as they come out and does not smooth translation and scale).

    Args:
        motion: any motion.
        seconds: standard deviation of the Gaussian, 0 or more; 0.06 s calms tracking noise, 0.1 s already softens
            lip closures.
        method: "gaussian", or "kalman" for LivePortrait's smoother.
        regions: which of ``regions.REGIONS`` to smooth (mouth, eyes, brows, rest, pose); None is all.
        observation_variance: of the Kalman smoother; larger is smoother.

    Returns:
        Motion of the same length and rate.

    Raises:
        PlaymateError: unknown method or region, a negative time or a variance that is not above 0.
    """
    regions = REGIONS if regions is None else tuple(regions)
    check_regions(regions)
    if method == "gaussian":
        if not 0 <= seconds < math.inf:
            raise PlaymateError(f"Motion cannot be smoothed over {seconds} seconds; give 0 or more.")
        if seconds == 0:
            return motion
        sigma = seconds * motion.fps

        def calm(values: Tensor) -> Tensor:
            return gaussian_smooth(values, sigma)
    elif method == "kalman":
        def calm(values: Tensor) -> Tensor:
            return kalman_smooth(values, observation_variance)
    else:
        raise PlaymateError(f"Unknown smoothing method {method!r}; choose one of {', '.join(METHODS)}.")

    changes: dict[str, Tensor] = {}
    mask = sum((m for name, m in region_masks(motion.expression.device).items() if name in regions), torch.zeros(()))
    changes["expression"] = torch.where(mask.to(motion.expression) > 0, calm(motion.expression), motion.expression)
    if "pose" in regions:
        changes["rotation"] = _smooth_rotation(motion.rotation, calm, method)
        changes["translation"] = calm(motion.translation)
        # Scale is a factor: its logarithm is smoothed, which also keeps it above 0.
        changes["scale"] = calm(motion.scale.log()).exp()
    return replace(motion, **changes)


def _smooth_rotation(degrees: Tensor, calm, method: str) -> Tensor:
    if len(degrees) < 2:
        return degrees
    if method == "kalman":
        return euler_degrees(nearest_rotation(calm(rotation_matrix(wide(degrees))))).to(degrees.dtype)
    quaternions = quaternion_from_degrees(degrees)
    # q and -q are one rotation: keep every frame on the side of the one before.
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1)
    signs = torch.cat([dots.new_ones(1), torch.where(dots < 0, -1.0, 1.0).to(dots).cumprod(0)])
    return quaternion_to_degrees(calm(quaternions * signs[:, None])).to(degrees.dtype)
