"""The head's angles as Live Link Face counts them, and as LivePortrait does.

ARKit's face anchor is right-handed: x to the viewer's right (the face's own left), y up, z out of the face. Unreal's
rotator takes yaw, pitch and roll off it with yaw outermost, then pitch, then roll. Which way each counts follows from
the programs that turn what the app sends and writes (radians) into such a right-handed rig that faces +z: they take
yaw and roll as they are and pitch negated.

    HeadYaw   above 0: the face turns to its own left, which is the right side of the picture
    HeadPitch above 0: the face looks up
    HeadRoll  above 0: the head tilts to its own right shoulder, counterclockwise as the viewer sees it

LivePortrait's pitch, yaw and roll are all three the other way round, and the head turns by pitch first, roll last.
Unreal's own plugin for ARKit agrees on yaw and roll (its source of 2019, face not mirrored) but counts pitch down, and
in units of 180 degrees.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..motion.geometry import euler_degrees, rotation_matrix, wide


def degrees_from_live_link(angles: Tensor) -> Tensor:
    """[..., 3] HeadYaw, HeadPitch, HeadRoll in radians -> [..., 3] pitch, yaw, roll, LivePortrait's degrees."""
    yaw, pitch, roll = (-wide(angles) * (180.0 / math.pi)).unbind(-1)
    # R is transposed, and so the order of its factors is, too.
    matrix = _turn(2, roll) @ _turn(0, pitch) @ _turn(1, yaw)
    return euler_degrees(matrix).to(angles.dtype)


def live_link_from_degrees(degrees: Tensor) -> Tensor:
    """The way back: [..., 3] pitch, yaw, roll in LivePortrait's degrees -> [..., 3] yaw, pitch, roll, radians."""
    head = rotation_matrix(wide(degrees)).transpose(-1, -2)
    pitch = torch.asin((-head[..., 1, 2]).clamp(-1.0, 1.0))
    yaw = torch.atan2(head[..., 0, 2], head[..., 2, 2])
    roll = torch.atan2(head[..., 1, 0], head[..., 1, 1])
    return -torch.stack([yaw, pitch, roll], dim=-1).to(degrees.dtype)


def _turn(axis: int, degrees: Tensor) -> Tensor:
    """LivePortrait's R of a turn by one of pitch (0), yaw (1) and roll (2)."""
    angles = torch.zeros(*degrees.shape, 3, dtype=degrees.dtype, device=degrees.device)
    angles[..., axis] = degrees
    return rotation_matrix(angles)
