"""Head pose keyframes as one line of text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Mapping

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import monotone_cubic, smoothstep

POSE_AXES = ("pitch", "yaw", "roll", "x", "y", "scale")
"""pitch, yaw, roll: degrees in LivePortrait's signs; x, y: translation in latent units; scale: factor."""

EASINGS = ("ease", "linear", "step")
"""How a pose gets from one keyframe to the next: at rest in the first and the last and smooth through those between,
at even speed, or at once when the next one's time comes."""

EXAMPLE = "0 yaw=0 pitch=0; 1 yaw=15; 2.5 yaw=-10 roll=5"

EARLY = 1e-9
"""Seconds by which a step may come early: 0.28 s is frame 7 of 25, whatever the quotient's last digit says."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


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

        Keyframes are separated by semicolons or line ends; each is a time in seconds ("2.5" or "2.5s") and one or
        more axis=value, in any order of time.

        Raises:
            PlaymateError: anything else; the sentence quotes the piece that cannot be read.
        """
        found: dict[str, dict[float, float]] = {}
        for piece in re.split(r"[;\n]", text):
            words = re.sub(r"\s*=\s*", "=", piece).split()
            if not words:
                continue
            time = _number(words[0].removesuffix("s"))
            if time is None or time < 0:
                raise _unreadable(words[0], "is no time in seconds, 0 or later")
            if len(words) == 1:
                raise _unreadable(piece.strip(), "names no axis")
            for word in words[1:]:
                axis, equals, number = word.partition("=")
                axis, value = axis.lower(), _number(number)
                if not equals or axis not in POSE_AXES:
                    raise _unreadable(word, f"is not axis=value with an axis among {', '.join(POSE_AXES)}")
                if value is None:
                    raise _unreadable(word, "has no number after the =")
                if axis == "scale" and value <= 0:
                    raise _unreadable(word, "is a scale that is not above 0")
                if time in found.setdefault(axis, {}):
                    raise _unreadable(word, f"sets {axis} a second time at {time:g} s")
                found[axis][time] = value
        if not found:
            raise _unreadable(text.strip(), "holds no keyframe")
        return PoseKeyframes({axis: tuple(sorted(found[axis].items())) for axis in POSE_AXES if axis in found}, easing)

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


def _number(word: str) -> float | None:
    # float() alone would admit nan, inf and digits with underscores.
    value = float(word) if _NUMBER.match(word) else math.nan
    return value if math.isfinite(value) else None


def _unreadable(piece: str, why: str) -> PlaymateError:
    shown = piece if len(piece) <= 60 else piece[:57] + "..."
    return PlaymateError(f'Cannot read the pose keyframes: "{shown}" {why}; write them like "{EXAMPLE}".')
