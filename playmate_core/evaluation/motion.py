"""How smoothly things move: jitter, and jumps where windows or emotions meet."""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from ..face.geometry import outer_eye_distance, to_head_frame
from .tracking import FaceTrack

WINDOW = 50
"""Frames at 25 a second that the bundled motion model makes in one piece (PAPER.md 1.5)."""
PERCENTILE = 99.5
"""Of the velocities inside windows; what lies above is a jump."""


def face_shape(track: FaceTrack) -> Tensor:
    """[T, 478, 3] the face without its head's pose, outer-eye distances; NaN without a face."""
    return to_head_frame(track.landmarks)


def picture_shape(track: FaceTrack) -> Tensor:
    """[T, 478, 2] the face where it is in the picture, in units of the clip's median outer-eye distance."""
    size = outer_eye_distance(track.landmarks).nanmedian()
    return track.landmarks[..., :2] / size


def jitter(values: Tensor) -> float:
    """Root mean square of the second difference over time.

    Args:
        values: [T, ...] landmarks or latents; a frame that is not finite leaves out the differences it is in.

    Returns:
        Unit of ``values`` per frame squared: 0 for whatever moves evenly. NaN below three frames in a row.
    """
    flat = values.double().flatten(1)
    second = flat[2:] - 2 * flat[1:-1] + flat[:-2]
    second = second[torch.isfinite(second).all(1)]
    return float(second.square().mean().sqrt()) if second.numel() else float("nan")


def velocity(values: Tensor) -> Tensor:
    """[T - 1] length of the step from each frame to the next, over all but the first dimension."""
    flat = values.double().flatten(1)
    return (flat[1:] - flat[:-1]).norm(dim=1)


def borders(frames: int, fps: float = 25.0, window: int = WINDOW) -> list[int]:
    """Steps (as ``velocity`` counts them) that lead from one window into the next.

    Args:
        window: frames at 25 a second; at another rate the borders lie at the same seconds.
    """
    found, number = [], 1
    while (step := round(number * window * fps / 25.0) - 1) < frames - 1:
        found.append(step)
        number += 1
    return found


def seam_velocity(values: Tensor, fps: float = 25.0, window: int = WINDOW, changes: Sequence[float] = (),
                  reach: int = 2) -> dict[str, float]:
    """Jumps at window borders and at emotion changes, against the movement inside windows.

    Args:
        values: [T, ...] latents (or landmarks where there are no latents).
        fps: frames a second.
        window: frames at 25 a second.
        changes: seconds at which the emotion changes.
        reach: steps either side of a change that count as the change.

    Returns:
        ``share``: share of the borders whose velocity lies above the 99.5th percentile of that inside windows (0.005
        is what chance gives); ``worst``: the largest border velocity over that percentile; ``borders``: how many; the
        same as ``change_share``, ``change_worst`` and ``changes`` (steps) where changes are given. NaN where a clip
        has no border.
    """
    speed = velocity(values)
    at_border = torch.zeros(len(speed), dtype=torch.bool)
    at_border[borders(len(values), fps, window)] = True
    at_change = torch.zeros(len(speed), dtype=torch.bool)
    for moment in changes:
        middle = round(moment * fps) - 1
        at_change[max(middle - reach, 0):max(middle + reach + 1, 0)] = True
    finite = torch.isfinite(speed)
    inside = speed[finite & ~at_border & ~at_change]
    limit = float(torch.quantile(inside, PERCENTILE / 100)) if len(inside) else float("nan")

    def against(which: Tensor) -> tuple[float, float, int]:
        chosen = speed[finite & which]
        if not len(chosen) or limit != limit:
            return float("nan"), float("nan"), len(chosen)
        worst = float(chosen.max()) / limit if limit > 0 else float("inf") if float(chosen.max()) > 0 else 0.0
        return float((chosen > limit).double().mean()), worst, len(chosen)

    share, worst, count = against(at_border)
    found = {"share": share, "worst": worst, "borders": count, "limit": limit}
    if changes:
        found["change_share"], found["change_worst"], found["changes"] = against(at_change)
    return found
