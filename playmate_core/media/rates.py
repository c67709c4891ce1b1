"""Frame rates as they are meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Tuple

from ..runtime.errors import PlaymateError

HIGHEST_FPS = 1000.0
Stamps = Tuple[Sequence[int], Fraction]
"""When each frame begins, in ticks, and the seconds of a tick."""
_CLOCKS = (90_000, 120_000, 12_800, 15_360, 16_000, 1_000_000)
"""Ticks a second: the usual one, one that holds all of television's rates, and those of FFmpeg's own films."""
_NEAR = 1e-6


def exact_rate(fps: float) -> Fraction:
    """Frames a second as a fraction: 29.97 and 23.976 are television's 30000/1001 and 24000/1001.

    Raises:
        PlaymateError: not above 0, or above ``HIGHEST_FPS``.
    """
    if not (math.isfinite(fps) and 0 < fps <= HIGHEST_FPS):
        raise PlaymateError(f"The frame rate is {fps}; it must be above 0 and at most {HIGHEST_FPS:g} frames a second.")
    whole = math.ceil(fps)
    television = Fraction(whole * 1000, 1001)
    if fps != whole and whole % 6 == 0 and abs(fps - television) < 6e-4:
        return television
    return Fraction(fps).limit_denominator(100_000)


def stamps(times: Sequence[Fraction | float], count: int) -> Stamps:
    """Times in a clock that holds them exactly, or to half a tick of 1/90000 s where the usual ones do not.

    Args:
        times: seconds since the beginning, 0 or more, rising.
        count: how many there must be.

    Raises:
        PlaymateError: another number of times, or times that do not rise.
    """
    exact = [time if isinstance(time, Fraction) else float(time) for time in times]
    if len(exact) != count:
        raise PlaymateError(f"There are {len(exact)} times for {count} frames; give one a frame.")
    if not all(math.isfinite(time) and time >= 0 for time in exact):
        raise PlaymateError("A frame's time is below 0 or no number; give seconds since the film's beginning.")
    rate = next((rate for rate in _CLOCKS if all(abs(round(time * rate) / rate - time) < _NEAR
                                                 for time in exact)), _CLOCKS[0])
    ticks = [round(time * rate) for time in exact]
    if any(after <= before for before, after in zip(ticks[:-1], ticks[1:], strict=True)):
        raise PlaymateError("The frames' times do not rise; give each frame a later time than the one before it.")
    return ticks, Fraction(1, rate)
