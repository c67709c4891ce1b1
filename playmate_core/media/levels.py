"""What H.264 asks of a player."""

from __future__ import annotations

MACROBLOCKS, MACROBLOCKS_A_SECOND = 36_864, 2_073_600
"""Most macroblocks of 16 x 16 pixels in a frame and a second at level 5.2, the highest that hardware commonly has."""
LONGEST = 8688
"""Longest side at that level, pixels."""


def plays_everywhere(width: int, height: int, fps: float) -> bool:
    """Whether a film stays within H.264's level 5.2."""
    blocks = -(-width // 16) * -(-height // 16)
    return blocks <= MACROBLOCKS and blocks * fps <= MACROBLOCKS_A_SECOND and max(width, height) <= LONGEST
