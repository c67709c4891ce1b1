"""Frame rates as they are meant."""

from __future__ import annotations

import math
from fractions import Fraction

from ..runtime.errors import PlaymateError

HIGHEST_FPS = 1000.0


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
