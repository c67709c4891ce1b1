"""MediaPipe's facial transform: a second reading of how a head is turned, by other means than ``geometry.head_pose``.

The landmarks are taken for what a pinhole camera sees, brought to metric space and laid on the canonical face by a
weighted similarity (MediaPipe's face geometry module). ``head_pose`` takes them for a parallel projection, weighs
other points and uses another mean face. The two err apart, so what both agree on is the head's and not the reader's.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..motion.geometry import euler_degrees
from ..runtime.errors import PlaymateError
from ..weights.tensors import bundled_tensors
from .geometry import LANDMARKS, mean_face, similarity

FIELD_OF_VIEW = 63.0
"""Vertical, degrees: what MediaPipe assumes of every camera."""
_MIRRORED = {33: 263, 54: 284, 67: 297, 117: 346, 119: 348, 121: 350, 127: 356, 129: 358, 132: 361, 133: 362,
             136: 365, 143: 372, 147: 376, 198: 420, 205: 425}
_WEIGHTS = {4: 0.070910, 6: 0.032100, 10: 0.008447, 33: 0.058724, 54: 0.007667, 67: 0.009078, 117: 0.009792,
            119: 0.014565, 121: 0.018591, 127: 0.005198, 129: 0.120625, 132: 0.005560, 133: 0.053286, 136: 0.066890,
            143: 0.014817, 147: 0.014263, 198: 0.025462, 205: 0.047252}
"""What each landmark counts (geometry_pipeline_metadata_landmarks, Apache-2.0); the left side as the right."""


@lru_cache(maxsize=1)
def _basis() -> tuple[list[int], Tensor, Tensor]:
    """(landmarks used, their weights [N], their canonical places [N, 3] with y up and z to the viewer), float64."""
    weights = _WEIGHTS | {_MIRRORED[point]: weight for point, weight in _WEIGHTS.items() if point in _MIRRORED}
    points = sorted(weights)
    canonical = bundled_tensors("face_mesh.safetensors", "face", {"vertices": (468, 3)})["vertices"].double()
    return points, torch.tensor([weights[p] for p in points]).double(), canonical[points] * _flip(canonical)


def _flip(like: Tensor) -> Tensor:
    return like.new_tensor([1.0, -1.0, -1.0])


def facial_angles(landmarks: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The angles of MediaPipe's facial transformation matrix.

    Args:
        landmarks: [..., 478, 3] in pixels of the whole picture: the perspective depends on the place in it.
        image_size: (height, width) of the picture.

    Returns:
        [..., 3] degrees: pitch, yaw, roll in LivePortrait's signs and order (SPEC.md section 8); NaN where landmarks
        are not finite.

    Raises:
        PlaymateError: another shape.
    """
    if landmarks.ndim < 2 or landmarks.shape[-2:] != (LANDMARKS, 3):
        raise PlaymateError(
            f"Face landmarks have shape {tuple(landmarks.shape)} where [..., {LANDMARKS}, 3] is needed.")
    height, width = image_size
    points, weight, canonical = _basis()
    seen = landmarks.reshape(-1, LANDMARKS, 3).double().cpu()[:, :468]
    bad = ~torch.isfinite(seen).flatten(1).all(1)
    seen = torch.where(bad[:, None, None], 100 * mean_face()[:468].double(), seen)
    # To the camera's near plane, one unit away.
    unit = 2 * math.tan(math.radians(FIELD_OF_VIEW) / 2) / height
    screen = (seen - seen.new_tensor([width / 2, height / 2, 0])) * unit * seen.new_tensor([1.0, -1.0, 1.0])
    middle = screen[..., 2].mean(1)
    screen = screen[:, points]
    canonical = canonical.expand_as(screen)
    scale, _, _ = similarity(canonical, screen * screen.new_tensor([1.0, 1.0, -1.0]), weights=weight)

    def metric(scale: Tensor) -> Tensor:
        z = (screen[..., 2] - middle[:, None] + 1) / scale[:, None]
        return torch.stack([screen[..., 0] * z, screen[..., 1] * z, -z], -1)

    second, _, _ = similarity(canonical, metric(scale), weights=weight)
    _, turn, _ = similarity(canonical, metric(scale * second), weights=weight)
    # MediaPipe's rotation turns columns; the one found here turns rows, as LivePortrait's does.
    degrees = euler_degrees(turn * _flip(turn)[:, None] * _flip(turn))
    degrees[bad] = float("nan")
    return degrees.reshape(*landmarks.shape[:-2], 3).to(landmarks.device, torch.float32)


def rigid_angles(landmarks: Tensor) -> Tensor:
    """The angles of the plain similarity between all 468 points of the mesh and the mean face: whatever moves counts.

    Args:
        landmarks: [..., 478, 3] in pixels.

    Returns:
        [..., 3] degrees as :func:`facial_angles`; NaN where landmarks are not finite.
    """
    points = landmarks.reshape(-1, LANDMARKS, 3)[:, :468].cpu()
    _, rotation, _ = similarity(points, mean_face()[:468])
    degrees = euler_degrees(rotation.transpose(-1, -2))
    return degrees.reshape(*landmarks.shape[:-2], 3).to(landmarks.device, torch.float32)


def head_angles(landmarks: Tensor, image_size: tuple[int, int]) -> Tensor:
    """The mean of a perspective and a parallel reading: :func:`facial_angles` and :func:`rigid_angles`.

    On true heads (ICT-FaceKit, 8 people, camera at half a metre, turned by 10 and 20 degrees) they read yaw with slopes
    0.92 and 1.03 and pitch with 0.88 and 0.96; on paintings and drawn faces they differ more, and on some
    ``geometry.head_pose``, whose outermost points a network makes up under hair, reads a third less pitch than both.

    Args:
        landmarks, image_size: as for :func:`facial_angles`.

    Returns:
        [..., 3] degrees: pitch, yaw, roll.
    """
    return (facial_angles(landmarks, image_size) + rigid_angles(landmarks)) / 2
