"""The Kalman smoother over a clip's motion (SPEC.md section 11)."""

from __future__ import annotations

from torch import Tensor

PROCESS_VARIANCE = 1e-5


def smooth(sequence: Tensor, observation_variance: float = 3e-7) -> Tensor:
    """Rauch-Tung-Striebel smoothing of every number of a frame on its own.

    Rotation matrices are smoothed number by number and are then no longer exactly orthonormal, as published.

    Args:
        sequence: [T, ...]; frame 0 is where it starts from.
        observation_variance: larger is smoother; above 0.

    Returns:
        [T, ...] in the dtype of ``sequence``; computed in float64.
    """
    seen = sequence.cpu().double()  # in this order: Apple's GPUs have no float64
    if not len(seen):
        return sequence
    means, variances, forecasts = [], [], []
    mean, forecast = seen[0], 1.0
    for observation in seen:
        gain = forecast / (forecast + observation_variance)
        mean = mean + gain * (observation - mean)
        means.append(mean)
        variances.append(forecast * (1 - gain))
        forecasts.append(forecast)
        forecast = variances[-1] + PROCESS_VARIANCE
    result = seen.clone()
    result[-1] = means[-1]
    for t in range(len(seen) - 2, -1, -1):
        result[t] = means[t] + variances[t] / forecasts[t + 1] * (result[t + 1] - means[t])
    return result.to(sequence.device, sequence.dtype)
