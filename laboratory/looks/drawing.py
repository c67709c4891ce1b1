"""Single frames of a motion, drawn as they look in the whole clip, and the boxes of faces and mouths in a portrait."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Sequence

import torch
from torch import Tensor

from playmate_core import pipeline
from playmate_core.face.geometry import LIPS
from playmate_core.motion.types import FIELDS, Motion
from playmate_core.render.base import Appearance

log = logging.getLogger(__name__)

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as parts of the picture's width and height."""


def pick(motion: Motion, frames: Sequence[int]) -> Motion:
    """The motion of these frames alone, counted from the same neutral frame."""
    index = torch.as_tensor(list(frames), dtype=torch.long)
    return replace(motion, **{name: getattr(motion, name)[index] for name in FIELDS})


def decisive(motion: Motion, bridge) -> list[int]:
    """The frames by which a renderer judges a whole clip: the head moved farthest, the mouth moved most and least."""
    neutral = motion.neutral
    turn = (motion.rotation - neutral.rotation).norm(dim=1) * (math.pi / 180)
    shift = bridge.head_shift(motion.translation - neutral.translation, neutral.scale).norm(dim=1)
    # The crown lies about 1.6 outer-eye distances from the centre of turns.
    moved = 1.6 * turn + shift + 1.6 * (motion.scale[:, 0] / neutral.scale[0] - 1).abs()
    lips = bridge.displacement(motion.expression_offset)[:, list(LIPS)].norm(dim=-1).amax(1)
    return [int(moved.argmax()), int(lips.argmax()), int(lips.argmin())]


def draw(models: pipeline.Models, appearance: Appearance, motion: Motion, frames: Sequence[int],
         size: int = 0) -> list[Tensor]:
    """[H, W, 3] pictures of some frames of a motion, without drawing the others.

    How far a head's movement reaches and whether a clip speaks are decided for a clip as a whole, so the frames that
    decide it are drawn along and thrown away.

    Args:
        frames: numbers of frames, in any order.
        size: longest side of the pictures, pixels; 0 keeps the portrait's.
    """
    wanted = [*frames, *decisive(motion, models.bridge)]
    drawn = [picture for batch in pipeline.render_frames(models, appearance, pick(motion, wanted), size=size)
             for picture in batch]
    return drawn[:len(frames)]


def face_box(landmarks: Tensor, size: tuple[int, int], aspect: float = 1.0) -> Box:
    """The face with hair and chin, filling the tile.

    Args:
        landmarks: [478, 3] pixels.
        size: (height, width) of the picture.
        aspect: width over height of the tile.
    """
    points = landmarks[:, :2].double()
    low, high = points.amin(0), points.amax(0)
    height = float((points[10] - points[152]).norm())
    # Room above for hair, below for a jaw that drops.
    tall = max(1.42 * height, float(high[0] - low[0]) * 1.15 / aspect)
    middle = float(points[[10, 152], 1].mean()) - 0.03 * height
    return _inside(float((low[0] + high[0]) / 2), middle, tall * aspect, tall, size)


def mouth_box(landmarks: Tensor, size: tuple[int, int], aspect: float = 1.6) -> Box:
    """The lips with the skin around them; arguments as of :func:`face_box`."""
    lips = landmarks[list(LIPS), :2].double()
    eyes = float((landmarks[33, :2] - landmarks[263, :2]).norm())
    wide = max(1.5 * float(lips[:, 0].amax() - lips[:, 0].amin()), 0.95 * eyes)
    x, y = ((lips.amin(0) + lips.amax(0)) / 2).tolist()
    return _inside(x, y + 0.04 * eyes, wide, wide / aspect, size)


def _inside(x: float, y: float, wide: float, tall: float, size: tuple[int, int]) -> Box:
    """The box about (x, y), smaller and moved where it would leave the picture; its shape stays."""
    height, width = size
    share = min(1.0, width / wide, height / tall)
    wide, tall = wide * share, tall * share
    left = min(max(x - wide / 2, 0.0), width - wide)
    top = min(max(y - tall / 2, 0.0), height - tall)
    return left / width, top / height, (left + wide) / width, (top + tall) / height


def drawn_at(box: Box, size: tuple[int, int], tile: int) -> int:
    """Longest side to draw a portrait of ``size`` at so that ``box`` is ``tile`` pixels wide; at most its own."""
    longest = max(size)
    return min(longest, max(64, round(longest * tile / ((box[2] - box[0]) * size[1]))))
