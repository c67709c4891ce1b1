"""Motion at another frame rate, whole or piece by piece while it is still being made."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import monotone_cubic
from .geometry import slerp_degrees
from .types import FIELDS, KEYPOINTS, Motion

MARGIN = 4
"""Frames that the interpolation may look to either side (a slope needs two)."""


def resample(motion: Motion, fps: float) -> Motion:
    """The motion at another frame rate: round(duration * fps) frames, exactly, frame k at k / fps seconds.

    Rotations move on the sphere (slerp); expression, translation and scale on a monotone cubic that passes through
    every frame and never overshoots. The first frame is kept bit for bit; times after the last frame hold it.

    Args:
        motion: any motion.
        fps: frames a second, above 0.

    Returns:
        Motion at ``fps``; the input itself where it has that rate already.

    Raises:
        PlaymateError: fps is not above 0.
    """
    _check(fps)
    if fps == motion.fps:
        return motion
    frames = round(motion.duration * fps)
    return _interpolated(motion, 0, frames, fps, 0) if frames else replace(_sliced(motion, 0, 0), fps=fps)


def resampled(pieces: Iterable[Motion], fps: float, frames: int) -> Iterator[Motion]:
    """Pieces of one motion as pieces at ``fps``, ``frames`` in all, frame k at k / fps seconds.

    A piece waits for the frames that its last curve needs, so the pieces together equal the whole motion resampled at
    once; frames after the last one hold it.

    Raises:
        PlaymateError: fps is not above 0.
    """
    _check(fps)
    held: Motion | None = None
    first, made = 0, 0  # number of held's first frame in the whole motion; frames given out
    for piece in pieces:
        held = piece if held is None else joined((held, piece))
        known = first + len(held) - 1 - MARGIN  # last position whose surroundings are here
        ready = min(frames, math.floor(known * fps / held.fps) + 1)
        if ready > made:
            yield _interpolated(held, made, ready, fps, first)
            made = ready
            drop = max(0, math.floor(made * held.fps / fps) - MARGIN - first)
            first, held = first + drop, _sliced(held, drop, len(held))
    if held is not None and made < frames:
        yield _interpolated(held, made, frames, fps, first)


def at_times(motion: Motion, times: Tensor, fps: float) -> Motion:
    """The motion at any moments, interpolated as :func:`resample` does it; those beyond its ends hold its end frames.

    Args:
        motion: at least one frame.
        times: [T] seconds, frame k of ``motion`` is at k / fps.
        fps: what the result says of its rate, the average where ``times`` vary.

    Raises:
        PlaymateError: no frames, or fps is not above 0.
    """
    _check(fps)
    if not len(motion):
        raise PlaymateError("The motion has no frames; give one that lasts at least one frame.")
    # Moments that are frames' own, but for their rounding, get the frames themselves.
    positions = times.double() * motion.fps
    whole = positions.round()
    return _at(motion, torch.where((positions - whole).abs() < 1e-6, whole, positions), fps)


def joined(pieces: Sequence[Motion]) -> Motion:
    """Pieces of one motion, at least one, in a row: frame rate and neutral frame are the first piece's."""
    return replace(pieces[0], **{name: torch.cat([getattr(piece, name) for piece in pieces]) for name in FIELDS})


def _check(fps: float) -> None:
    if not 0 < fps < float("inf"):
        raise PlaymateError(f"Cannot resample motion to {fps} frames a second; give a rate above 0.")


def _interpolated(motion: Motion, start: int, stop: int, fps: float, first: int) -> Motion:
    """Frames ``start`` to ``stop`` at ``fps`` of a motion of which ``motion`` holds the frames from ``first`` on."""
    return _at(motion, torch.arange(start, stop, dtype=torch.float64) * (motion.fps / fps) - first, fps)


def _at(motion: Motion, positions: Tensor, fps: float) -> Motion:
    """``motion`` at ``positions`` [T], float64, in frames; ``fps`` is the result's."""
    device, count = motion.expression.device, len(motion)
    positions = positions.clamp(0, count - 1)
    values = torch.cat([motion.expression.flatten(1), motion.translation, motion.scale], dim=1)
    curve = monotone_cubic(torch.arange(count), values.cpu(), positions).float().to(device)
    left = positions.floor().long()
    right = (left + 1).clamp(max=count - 1)
    a, b = motion.rotation[left.to(device)], motion.rotation[right.to(device)]
    return replace(
        motion,
        expression=curve[:, : KEYPOINTS * 3].reshape(-1, KEYPOINTS, 3),
        rotation=slerp_degrees(a, b, (positions - left).float().to(device)),
        translation=curve[:, -4:-1],
        scale=curve[:, -1:],
        fps=fps,
    )


def _sliced(motion: Motion, start: int, stop: int) -> Motion:
    return replace(motion, **{name: getattr(motion, name)[start:stop] for name in FIELDS})
