"""A drawn portrait whose landmarks are known, and motions of known effect, for the renderer's tests."""

from __future__ import annotations

import math

import numpy as np
import torch

from playmate_core.face import geometry
from playmate_core.face.types import Face
from playmate_core.motion.types import Motion, Neutral


def drawn_face(height: int = 256, width: int = 256, size: float = 60.0, centre=None, open_mouth: float = 0.0,
               turn=(0.0, 0.0, 0.0)) -> tuple[torch.Tensor, Face]:
    """(image [H, W, 3], face): skin, eyes and lips drawn where the mean face's landmarks lie.

    Args:
        size: outer-eye distance, pixels.
        centre: pixels of the landmarks' origin.
        open_mouth: lip gap, outer-eye distances.
    """
    import cv2

    from playmate_core.motion.geometry import rotation_matrix

    shape = geometry.mean_face().numpy().copy()
    upper, lower = list(geometry.LIPS_INNER[:11]), [78, *geometry.LIPS_INNER[:10:-1], 308]
    middle = (shape[upper] + shape[lower]) / 2
    bow = np.sin(np.linspace(0, np.pi, 11))[:, None] * np.array([0.0, open_mouth, 0.0])
    lower_lip = shape[[15, 16, 17]].copy()
    shape[upper], shape[lower] = middle - 0.3 * bow, middle + 0.7 * bow
    shape[[15, 16, 17]] = lower_lip + np.array([0, 0.6 * open_mouth, 0])
    shape = shape @ rotation_matrix(torch.tensor(turn, dtype=torch.float64)).numpy()
    x, y = (width / 2, height * 0.45) if centre is None else centre
    landmarks = shape * size + np.array([x, y, 0.0])

    rng = np.random.default_rng(0)
    ramp = np.linspace(0.25, 0.75, width)[None, :, None] * np.array([0.7, 0.9, 1.0])
    image = np.ascontiguousarray(np.broadcast_to(ramp, (height, width, 3)).astype(np.float32))
    image += cv2.GaussianBlur(rng.standard_normal((height, width, 3)).astype(np.float32), (0, 0), 2.0) * 0.1

    def fill(indices, colour):
        polygon = np.round(landmarks[list(indices), :2] * 16 - 8).astype(np.int32)
        cv2.fillPoly(image, [polygon], colour, cv2.LINE_AA, 4)

    fill(geometry.OVAL, (0.80, 0.62, 0.52))
    fill(geometry.LIPS_OUTER, (0.70, 0.35, 0.35))
    fill(geometry.LIPS_INNER, (0.25, 0.12, 0.12))
    for eye, iris in zip(geometry.EYES, geometry.IRISES, strict=True):
        fill(eye, (0.92, 0.92, 0.90))
        point = landmarks[iris[0], :2]
        radius = np.linalg.norm(landmarks[list(iris[1:]), :2] - point, axis=1).mean()
        opening, disc = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
        cv2.fillPoly(opening, [np.round(landmarks[list(eye), :2] * 16 - 8).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
        cv2.circle(disc, tuple(int(v * 16 - 8) for v in point), int(radius * 16), 1.0, -1, cv2.LINE_AA, 4)
        share = (opening * disc)[..., None]
        image += share * (np.array([0.2, 0.25, 0.3], np.float32) - image)
    box = torch.tensor([*landmarks[:, :2].min(0), *landmarks[:, :2].max(0)]).float()
    face = Face(torch.from_numpy(landmarks).float(), torch.zeros(52), box, 1.0, 1.0)
    return torch.from_numpy(image).clamp(0, 1), face


def _readout(bridge, readout: torch.Tensor, amount: float) -> torch.Tensor:
    """[21, 3] the most probable latent whose linear ``readout`` [63] is ``amount``."""
    direction = bridge.covariance @ readout
    return (direction * (amount / float(readout @ direction))).reshape(21, 3)


def gap_latent(bridge, gap: float) -> torch.Tensor:
    """[21, 3] latent that opens the lips by ``gap`` outer-eye distances."""
    forward = bridge.forward.reshape(63, 478, 3)
    return _readout(bridge, forward[:, 14, 1] - forward[:, 13, 1], gap)


def blink_latent(bridge, amount: float) -> torch.Tensor:
    """[21, 3] latent that brings the lids of both eyes together by ``amount`` outer-eye distances."""
    forward = bridge.forward.reshape(63, 478, 3)
    upper, lower = [160, 159, 158, 385, 386, 387], [144, 145, 153, 380, 374, 373]
    return _readout(bridge, (forward[:, upper, 1] - forward[:, lower, 1]).mean(1), amount)


def motion_of(expressions=None, rotation=None) -> Motion:
    """A generated-style motion from expression offsets [T, 21, 3] and head angles [T, 3] degrees."""
    frames = len(expressions) if expressions is not None else len(rotation)
    expressions = torch.zeros(frames, 21, 3) if expressions is None else torch.stack(list(expressions))
    rotation = torch.zeros(frames, 3) if rotation is None else torch.tensor(rotation, dtype=torch.float32)
    return Motion(expressions, rotation, torch.zeros(frames, 3), torch.ones(frames, 1), 25.0, Neutral.rest())


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Decibels; infinite for equal pictures."""
    error = float((a - b).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
