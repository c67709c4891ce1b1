"""Generated motion at another frame rate, while it is still being generated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Iterator, Optional

import torch
from torch import Tensor

from ..motion.curves import monotone_cubic
from ..motion.features import FPS
from ..motion.geometry import slerp_degrees
from ..motion.types import KEYPOINTS, Motion

FIELDS = ("expression", "rotation", "translation", "scale")
MARGIN = 4
"""Frames that the interpolation may look to either side (a slope needs two)."""


def retimed(pieces: Iterator[Motion], fps: float, frames: int) -> Iterator[Motion]:
    """Pieces at 25 fps as pieces at ``fps``, ``frames`` in all, frame k at k / fps seconds.

    Same curves as ``motion.edits.resample``. A piece waits for the frames that its last curve needs, so the pieces
    together equal the whole motion resampled at once; frames after the last one hold it.
    """
    held: Optional[Motion] = None
    first, made = 0, 0  # 25 fps index of held's first frame; frames given out
    for piece in pieces:
        held = piece if held is None else _joined(held, piece)
        known = first + len(held) - 1 - MARGIN  # last 25 fps position whose surroundings are here
        ready = min(frames, math.floor(known * fps / FPS) + 1)
        if ready > made:
            yield _at(held, made, ready, fps, first)
            made = ready
            drop = max(0, math.floor(made * FPS / fps) - MARGIN - first)
            first, held = first + drop, _from(held, drop)
    if held is not None and made < frames:
        yield _at(held, made, frames, fps, first)


def _at(motion: Motion, start: int, stop: int, fps: float, first: int) -> Motion:
    positions = torch.arange(start, stop, dtype=torch.float64) * (FPS / fps) - first
    positions = positions.clamp(0, len(motion) - 1)
    values = torch.cat((motion.expression.flatten(1), motion.translation, motion.scale), 1)
    curve = monotone_cubic(torch.arange(len(motion)), values, positions).float()
    left = positions.floor().long()
    right = (left + 1).clamp(max=len(motion) - 1)
    share: Tensor = (positions - left).float()
    return replace(motion, expression=curve[:, :KEYPOINTS * 3].reshape(-1, KEYPOINTS, 3),
                   rotation=slerp_degrees(motion.rotation[left], motion.rotation[right], share),
                   translation=curve[:, -4:-1], scale=curve[:, -1:], fps=fps)


def _joined(a: Motion, b: Motion) -> Motion:
    return replace(a, **{n: torch.cat((getattr(a, n), getattr(b, n))) for n in FIELDS})


def _from(motion: Motion, start: int) -> Motion:
    return replace(motion, **{n: getattr(motion, n)[start:] for n in FIELDS})
