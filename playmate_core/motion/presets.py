"""Ready-made head movements: still, nod, shake, slow turn, look around."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Mapping

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import monotone_cubic, smoothstep
from .keyframes import POSE_AXES

SHORTEST = 0.2
"""Seconds of the shortest period: five nods a second are more than any neck does."""


@dataclass(frozen=True)
class _Movement:
    """One period of a movement; ``knots`` are shares of it from 0 to 1, each axis ending where it began."""

    period: float
    knots: Mapping[str, tuple[tuple[float, float], ...]]


def _swing(low: float, high: float) -> tuple[tuple[float, float], ...]:
    return (0.0, 0.0), (0.25, high), (0.75, low), (1.0, 0.0)


_MOVEMENTS = {
    "still": _Movement(1.0, {}),
    "nod": _Movement(1.1, {"pitch": ((0.0, 0.0), (0.4, 9.0), (0.85, -1.5), (1.0, 0.0))}),
    "shake": _Movement(0.9, {"yaw": _swing(-11.0, 11.0)}),
    "slow turn": _Movement(8.0, {"yaw": _swing(-18.0, 18.0)}),
    "look around": _Movement(9.0, {
        "yaw": ((0.0, 0.0), (0.1, 14.0), (0.26, 14.0), (0.42, -3.0), (0.5, -3.0), (0.64, -16.0), (0.82, -16.0),
                (1.0, 0.0)),
        "pitch": ((0.0, 0.0), (0.1, 2.0), (0.26, 2.0), (0.42, -7.0), (0.5, -7.0), (0.64, 3.0), (0.82, 3.0), (1.0, 0.0)),
        "roll": ((0.0, 0.0), (0.1, -2.0), (0.26, -2.0), (0.42, 0.0), (0.5, 0.0), (0.64, 2.5), (0.82, 2.5), (1.0, 0.0)),
    }),
}

PRESETS = tuple(_MOVEMENTS)


@dataclass(frozen=True)
class PosePreset:
    """A movement that repeats, in degrees about the neutral pose: see PRESETS. Nods and shakes of people who mean
    them take about a second and go about ten degrees each way.

    Attributes:
        name: one of PRESETS. "still" directs all axes, the others pitch, yaw and roll.
        period: seconds of one repetition; None is the movement's own (nod 1.1, shake 0.9, slow turn 8, look around 9).

    Raises:
        PlaymateError: an unknown name, or a period below SHORTEST.
    """

    name: str
    period: float | None = None

    def __post_init__(self) -> None:
        if self.name not in _MOVEMENTS:
            raise PlaymateError(f"There is no pose preset {self.name!r}; choose one of {', '.join(PRESETS)}.")
        if self.period is not None and not (math.isfinite(self.period) and self.period >= SHORTEST):
            raise PlaymateError(f"The period of a pose preset is {self.period} s; give {SHORTEST} or more.")

    @property
    def axes(self) -> tuple[str, ...]:
        """What it directs."""
        return POSE_AXES if self.name == "still" else POSE_AXES[:3]

    def sample(self, frames: int, fps: float, start: float = 0.0) -> dict[str, Tensor]:
        """The value of every directed axis in every frame.

        Args:
            frames: how many.
            fps: frames a second.
            start: seconds at the first frame.

        Returns:
            For each axis [frames] float32: degrees, latent units, and 1 for the scale.
        """
        movement = _MOVEMENTS[self.name]
        period = movement.period if self.period is None else self.period
        phase = (start + torch.arange(frames, dtype=torch.float64) / fps) / period
        curves = {}
        for axis in self.axes:
            knots = movement.knots.get(axis)
            if knots is None:
                curves[axis] = torch.full((frames,), float(axis == "scale"))
                continue
            # Three periods in a row, of which the middle one is read: no corner where one joins the next.
            places = torch.tensor([turn + place for turn in (-1, 0, 1) for place, _ in knots[:-1]] + [2.0]).double()
            values = torch.tensor([value for _ in range(3) for _, value in knots[:-1]] + [0.0]).double()
            curve = monotone_cubic(places, values[:, None], phase % 1)[:, 0]
            # The first movement starts from rest.
            curves[axis] = (curve * smoothstep(phase / 0.15)).float()
        return curves
