"""A short motion as a long one, without a jump where it starts again."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..runtime.errors import PlaymateError
from .edits import concatenate, fit_length, slice_frames
from .types import Motion

SEAMS = ("crossfade", "ping-pong", "hard")
"""How the end meets the beginning: faded into it, played backwards from there, or not at all."""


def loop(motion: Motion, frames: int, seam: str = "crossfade", crossfade: int = 10) -> Motion:
    """Repeats a motion up to a length.

    Args:
        motion: at least one frame.
        frames: wanted length, 0 or more; a longer motion is cut.
        seam: one of SEAMS. "crossfade": the last frames fade into the first ones along an S-curve, rotations on the
            sphere, so that a round is ``crossfade`` frames shorter than the motion; "ping-pong" runs backwards and
            forwards without repeating the turning frames; "hard" starts again.
        crossfade: frames of the fade, 0 or more; no more than half of the motion is used.

    Returns:
        Motion of ``frames`` frames that begins as ``motion`` does.

    Raises:
        PlaymateError: an unknown seam, a negative length or fade, or no frames to repeat.
    """
    if seam not in SEAMS:
        raise PlaymateError(f"Unknown seam {seam!r}; choose one of {', '.join(SEAMS)}.")
    if frames < 0 or crossfade < 0:
        raise PlaymateError(f"A loop of {frames} frames with a fade of {crossfade} is not possible; give 0 or more.")
    if seam != "crossfade" or frames <= len(motion):
        return fit_length(motion, frames, "mirror" if seam == "ping-pong" else "cycle")
    fade = min(crossfade, len(motion) // 2)
    # One round from where the first fade has ended: the rest of the motion, then its end faded into its beginning.
    again = slice_frames(concatenate([motion, motion], fade), fade, len(motion))
    repeated = fit_length(again, frames - fade, "cycle")
    first = slice_frames(motion, 0, fade)
    return replace(motion, **{name: torch.cat([getattr(first, name), getattr(repeated, name)])
                              for name in ("expression", "rotation", "translation", "scale")})
