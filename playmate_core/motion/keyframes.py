"""Head pose keyframes as one line of text."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Mapping

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import monotone_cubic, smoothstep
from .schedule import DEGREES, PERCENT, Schedule, Unreadable, keyframes, measure

POSE_AXES = ("pitch", "yaw", "roll", "x", "y", "scale")
"""pitch, yaw, roll: degrees in LivePortrait's signs; x, y: translation in latent units; scale: factor."""

EASINGS = ("ease", "linear", "step")
"""How a pose gets from one keyframe to the next: at rest in the first and the last and smooth through those between,
at even speed, or at once when the next one's time comes."""

EXAMPLE = "0 yaw=0 pitch=0; 1 yaw=15; 2.5 yaw=-10 roll=5"

EARLY = 1e-9
"""Seconds by which a step may come early: 0.28 s is frame 7 of 25, whatever the quotient's last digit says."""

@dataclass(frozen=True)
class PoseKeyframes:
    """Poses at points in time, counted from the neutral pose.

    Attributes:
        axes: for each axis of POSE_AXES that is directed, its (seconds, value) pairs in order of time. Axes that are
            missing keep whatever pose they are applied to.
        easing: one of EASINGS.

    Raises:
        PlaymateError: an unknown easing.
    """

    axes: Mapping[str, tuple[tuple[float, float], ...]]
    easing: str = "ease"

    def __post_init__(self) -> None:
        if self.easing not in EASINGS:
            raise PlaymateError(f"Unknown pose easing {self.easing!r}; choose one of {', '.join(EASINGS)}.")

    @staticmethod
    def parse(text: str, easing: str = "ease") -> PoseKeyframes:
        """Reads ``"0 yaw=0 pitch=0; 1 yaw=15; 2.5 yaw=-10 roll=5"``.

        Keyframes are separated by semicolons or line ends; each is a time ("2.5", "2.5s", "500 ms", "0:02.5") and one
        or more axis=value, in any order of time. Angles may say "15°" or "15 deg", a scale "110%".

        Raises:
            PlaymateError: anything else; the sentence quotes the piece that cannot be read and says where it stands.
        """
        schedule = Schedule.of(text, "pose keyframes", EXAMPLE)
        return PoseKeyframes(keyframes(schedule, POSE_AXES, _pose_value, "names no axis"), easing)

    def limited(self, limits: Mapping[str, tuple[float, float] | None]) -> tuple[PoseKeyframes, list[str]]:
        """The keyframes with every value inside its axis's (lowest, highest), where there is one.

        Returns:
            ``(keyframes, notes)``: a note for each value that was not, such as "yaw 60 to 25 at 1 s".
        """
        axes, notes = {}, []
        for axis, points in self.axes.items():
            low, high = limits.get(axis) or (-math.inf, math.inf)
            held = tuple((time, min(max(value, low), high)) for time, value in points)
            notes += [f"{axis} {value:g} to {inside:g} at {time:g} s"
                      for (time, value), (_, inside) in zip(points, held, strict=True) if value != inside]
            axes[axis] = held
        return replace(self, axes=axes), notes

    def sample(self, frames: int, fps: float, start: float = 0.0) -> dict[str, Tensor]:
        """The value of every directed axis in every frame.

        With easing "ease" an axis leaves its first keyframe and reaches its last at rest (between two keyframes that
        is 3u^2 - 2u^3) and passes through those between without overshooting; "linear" joins them by straight lines,
        "step" holds each until the next. All are held before the first and after the last. How much an axis counts
        before its first keyframe is told by ``presence``.

        Args:
            frames: how many.
            fps: frames a second.
            start: seconds at the first frame, for motion that is directed window by window.

        Returns:
            For each axis [frames] float32.
        """
        times = start + torch.arange(frames, dtype=torch.float64) / fps
        curves = {}
        for axis, points in self.axes.items():
            knots = torch.tensor(points, dtype=torch.float64)
            if self.easing == "ease":
                curve = monotone_cubic(knots[:, 0], knots[:, 1:], times, flat_ends=True)[:, 0]
            else:
                curve = _straight(knots[:, 0], knots[:, 1], times, held=self.easing == "step")
            curves[axis] = curve.float()
        return curves

    def presence(self, frames: int, fps: float, start: float = 0.0) -> dict[str, Tensor]:
        """How far every directed axis has taken over from the motion that it is applied to.

        An axis that the text names only at a later keyframe is left alone up to the keyframe before it and eased in
        between the two ("0 yaw=0; 2 roll=5" tilts the head from 0 s to 2 s); one named at the first keyframe counts
        from the start.

        Args:
            frames, fps, start: as for ``sample``.

        Returns:
            For each axis [frames] float32, 0 to 1.
        """
        times = start + torch.arange(frames, dtype=torch.float64) / fps
        moments = sorted({time for points in self.axes.values() for time, _ in points})
        shares = {}
        for axis, points in self.axes.items():
            entry = points[0][0]
            before = [moment for moment in moments if moment < entry]
            share = torch.ones_like(times)
            if before and self.easing == "step":
                share = (times >= entry - EARLY).to(times)
            elif before:
                share = ((times - before[-1]) / (entry - before[-1])).clamp(0, 1)
                share = smoothstep(share) if self.easing == "ease" else share
            shares[axis] = share.float()
        return shares


def _straight(knots: Tensor, values: Tensor, times: Tensor, held: bool) -> Tensor:
    """[M] straight lines, or steps, through (knots, values) [N] at ``times`` [M], held outside."""
    knots, early = knots.contiguous(), EARLY if held else 0.0
    index = (torch.searchsorted(knots, times + early, right=True) - 1).clamp(0, len(knots) - 1)
    if held or len(knots) == 1:
        return values[index]
    index = index.clamp(max=len(knots) - 2)
    part = ((times - knots[index]) / (knots[index + 1] - knots[index])).clamp(0, 1)
    return torch.lerp(values[index], values[index + 1], part)


def _pose_value(axis: str, written: str) -> float:
    """What ``axis=written`` stands for, in the units of POSE_AXES."""
    if not written:
        raise Unreadable("has no number after the =")
    value, unit = measure(written)
    if unit == DEGREES and axis not in ("pitch", "yaw", "roll"):
        raise Unreadable(f"gives degrees, but {axis} is no angle")
    if unit == PERCENT:
        if axis != "scale":
            raise Unreadable("gives percent, which only scale can")
        value /= 100
    if axis == "scale" and value <= 0:
        raise Unreadable("is a scale that is not above 0")
    return value
