"""How large films are drawn, and what H.264 asks of a player. Imports no torch: the command line's help needs it."""

from __future__ import annotations

from ..runtime.errors import PlaymateError

SIZE = 2048
"""Longest side of what is drawn, pixels, if nothing else is asked: phones and televisions decode it in either format,
up to 126 frames a second."""

SMALLEST = 64
"""Least longest side that can be asked for, pixels."""

MACROBLOCKS, MACROBLOCKS_A_SECOND = 36_864, 2_073_600
"""Most macroblocks of 16 x 16 pixels in a frame and a second at level 5.2, the highest that hardware commonly has."""
LONGEST = 8688
"""Longest side at that level, pixels."""


def check_size(size: int) -> int:
    """``size`` if it is 0, the portrait's own, or a longest side that can be drawn.

    Raises:
        PlaymateError: another number.
    """
    if size != 0 and size < SMALLEST:
        raise PlaymateError(f"The size is {size}; give the longest side in pixels, at least {SMALLEST}, or 0 for the "
                            "portrait's own.")
    return size


def plays_everywhere(width: int, height: int, fps: float) -> bool:
    """Whether a film stays within H.264's level 5.2."""
    blocks = -(-width // 16) * -(-height // 16)
    return blocks <= MACROBLOCKS and blocks * fps <= MACROBLOCKS_A_SECOND and max(width, height) <= LONGEST
