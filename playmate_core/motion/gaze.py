"""Where eyes look over time: targets as text, the jumps between them, and the small ones of eyes at rest."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise
from typing import Mapping, Sequence

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import monotone_cubic, smoothstep
from .schedule import DEGREES, PERCENT, Schedule, Unreadable, keyframes, measure

GAZE_AXES = ("x", "y")
"""x: to the right in the picture, y: up; -1 to 1 of GAZE_RANGE, counted from where the portrait looks."""

GAZE_RANGE = (25.0, 20.0)
"""Degrees that x = 1 and y = 1 turn the eyes; beyond it people turn their heads."""

STYLES = ("jump", "glide")
"""How eyes get from one target to the next: in a saccade when its time comes, as eyes do, or easing all the way, as
if they followed something that moves."""

EXAMPLE = "0 x=0 y=0; 1.5 x=0.5; 3 x=-0.3 y=0.2"

JUMP = 0.07
"""Seconds that a jump of the eyes takes."""
FIXATION = (0.4, 2.2)
"""Seconds that restless eyes stay in one place."""
RESTLESS = (2.0, 1.0)
"""Degrees (standard deviation, x and y) by which small saccades miss the target at amount 1."""

@dataclass(frozen=True)
class GazeKeyframes:
    """Targets of the eyes at points in time.

    Attributes:
        axes: for each directed axis of GAZE_AXES its (seconds, -1 to 1) pairs in order of time. An axis that is
            missing keeps the motion's own gaze.
    """

    axes: Mapping[str, tuple[tuple[float, float], ...]]

    @staticmethod
    def parse(text: str) -> GazeKeyframes:
        """Reads ``"0 x=0 y=0; 1.5 x=0.5"``: a time ("1.5", "1.5s", "0:01.5"), then x= or y= or both, keyframes
        separated by semicolons or line ends, in any order of time. Values are -1 to 1 of GAZE_RANGE, percent of it
        ("50%"), or degrees ("10°", "10 deg").

        Raises:
            PlaymateError: anything else, or a value beyond the range; the sentence quotes the piece and says where
                it stands.
        """
        schedule = Schedule.of(text, "gaze keyframes", EXAMPLE)
        return GazeKeyframes(keyframes(schedule, GAZE_AXES, _gaze_value, "names neither x nor y"))

    @staticmethod
    def constant(x: float = 0.0, y: float = 0.0) -> GazeKeyframes:
        """One target throughout.

        Raises:
            PlaymateError: a value beyond -1 to 1.
        """
        for axis, value in zip(GAZE_AXES, (x, y), strict=True):
            if not -1 <= value <= 1:
                raise PlaymateError(f"The gaze {axis} is {value}; give a number from -1 to 1.")
        return GazeKeyframes({"x": ((0.0, float(x)),), "y": ((0.0, float(y)),)})

    def sample(self, frames: int, fps: float, style: str = "jump",
               start: float = 0.0) -> dict[str, tuple[Tensor, Tensor]]:
        """Degrees in every frame.

        Args:
            frames: how many.
            fps: frames a second.
            style: one of STYLES.
            start: seconds at the first frame, for motion that is directed window by window.

        Returns:
            For each directed axis ``(degrees [frames], share [frames])`` float32: where it looks, to the right in the
            picture and up, and how far it has taken over from the motion. An axis that the text names only at a later
            keyframe takes over there (jump) or up to there (glide); any other from the start.

        Raises:
            PlaymateError: unknown style.
        """
        if style not in STYLES:
            raise PlaymateError(f"Unknown gaze style {style!r}; choose one of {', '.join(STYLES)}.")
        times = start + torch.arange(frames, dtype=torch.float64) / fps
        moments = sorted({moment for points in self.axes.values() for moment, _ in points})
        curves = {}
        for axis, points in self.axes.items():
            reach, entry = GAZE_RANGE[GAZE_AXES.index(axis)], points[0][0]
            before, share = [moment for moment in moments if moment < entry], torch.ones_like(times)
            if before:
                share = smoothstep((times - entry) / JUMP) if style == "jump" else \
                    smoothstep((times - before[-1]) / (entry - before[-1]))
            if style == "jump":
                curve = jumps(points, times)
            else:
                knots = torch.tensor(points, dtype=torch.float64)
                curve = monotone_cubic(knots[:, 0], knots[:, 1:], times, flat_ends=True)[:, 0]
            curves[axis] = (reach * curve).float(), share.float()
        return curves


def jumps(points: Sequence[tuple[float, float]], times: Tensor) -> Tensor:
    """Steps that take JUMP seconds each.

    Args:
        points: (seconds, value) in order of time; the first value also holds before its time.
        times: [M] seconds.

    Returns:
        [M] float64.
    """
    value = torch.full_like(times, points[0][1], dtype=torch.float64)
    for (_, before), (moment, after) in pairwise(points):
        value = value + (after - before) * smoothstep((times.double() - moment) / JUMP)
    return value


def small_saccades(frames: int, fps: float, amount: float, seed: int = 0) -> Tensor:
    """The restlessness of eyes that look at somebody: jumps of a degree or three, a second or so apart, mostly
    sideways, every third one back to the target.

    Args:
        frames: how many.
        fps: frames a second.
        amount: 0 none, 1 natural, at most 3.
        seed: same seed, same jumps; a longer motion only adds some at its end.

    Returns:
        [frames, 2] float32 degrees: to the right in the picture, up.

    Raises:
        PlaymateError: an amount out of range.
    """
    if not 0 <= amount <= 3:
        raise PlaymateError(f"The amount of small saccades is {amount}; give a number from 0 to 3.")
    if amount == 0 or not frames:
        return torch.zeros(frames, 2)
    draw = random.Random(f"saccades {int(seed)}")
    times = torch.arange(frames, dtype=torch.float64) / fps
    points, at = [(0.0, (0.0, 0.0))], 0.0
    while True:
        at += math.exp(draw.uniform(math.log(FIXATION[0]), math.log(FIXATION[1])))
        if at >= frames / fps:
            break
        back = draw.random() < 1 / 3
        # Two numbers are drawn either way, and cut at two deviations: nobody looks off by chance.
        aim = tuple(max(-2.0, min(2.0, draw.gauss(0.0, 1.0))) * size * amount for size in RESTLESS)
        points.append((at, (0.0, 0.0) if back else aim))
    axes = [jumps([(moment, aim[axis]) for moment, aim in points], times) for axis in (0, 1)]
    return torch.stack(axes, dim=1).float()


def _gaze_value(axis: str, written: str) -> float:
    """What ``axis=written`` stands for: -1 to 1 of GAZE_RANGE."""
    if not written:
        raise Unreadable("has no number after the =")
    value, unit = measure(written)
    reach = GAZE_RANGE[GAZE_AXES.index(axis)]
    value /= {DEGREES: reach, PERCENT: 100.0}.get(unit, 1.0)
    if not -1 <= value <= 1:
        raise Unreadable(f"is beyond {'-1 to 1' if not unit else f'{reach:g} degrees' if unit == DEGREES else '100%'}")
    return value
