"""The eyeball behind the lids: it stays in its socket when they shut, and its iris turns with the gaze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import topology
from .edges import blur, read_bilinear
from .grid import polygon_distance, smoothstep
from .head import HeadFrame
from .opening import DrawnOpening, heights
from .warp import Pose, Texture, inverse_2x2, rigid


@dataclass(frozen=True)
class Eye:
    """One eyeball.

    Attributes:
        texture: the eyeball without lids, over a box of the portrait.
        iris: [2] centre, pixels; radius: pixels.
        anchor: [3, 3] a point on the eyeball and the ends of one unit across and down, pixels.
        size: outer-eye distance, pixels.
    """

    texture: Texture
    iris: Tensor
    radius: float
    anchor: Tensor
    size: float

    def to(self, device) -> Eye:
        return Eye(self.texture.to(device), self.iris.to(device), self.radius, self.anchor.to(device), self.size)


def prepare(image: np.ndarray, landmarks: np.ndarray, frame: HeadFrame, edges: np.ndarray, eye: int) -> Eye:
    """Takes the eyeball out of ``image`` [H, W, 3] and completes it under the lids."""
    size = frame.size
    ring = np.concatenate([edges[0], edges[1][::-1]])
    pad = 0.10 * size
    low = np.floor(np.maximum(ring.min(0) - pad, 0)).astype(int)
    high = np.ceil(np.minimum(ring.max(0) + pad, [image.shape[1], image.shape[0]])).astype(int)
    high = np.maximum(high, low + 2)
    low = np.minimum(low, np.array([image.shape[1], image.shape[0]]) - 2).clip(0)
    y, x = np.mgrid[low[1]:high[1], low[0]:high[0]]
    points = np.stack([x + 0.5, y + 0.5], -1).astype(np.float64)
    flat = points.reshape(-1, 2)
    iris = landmarks[topology.IRISES[eye][0], :2].astype(np.float64)
    radius = float(np.linalg.norm(landmarks[list(topology.IRISES[eye][1:]), :2] - iris, axis=1).mean())
    crop = image[low[1]:high[1], low[0]:high[0]].astype(np.float64)
    inset = 0.012 * size
    inside = (heights(flat, edges[0]) > inset) & (heights(flat, edges[1]) < -inset * 0.6)
    inside = np.nan_to_num(inside).reshape(x.shape)
    depth = landmarks[list(topology.EYES_UPPER[eye][1:-1]) + list(topology.EYES_LOWER[eye][1:-1]), 2].mean()
    point = np.append(ring.mean(0), depth)
    anchor = np.stack([point, point + frame.rotation[:, 0] * size, point + frame.rotation[:, 1] * size])
    filled = _complete(crop, points, inside, iris, radius) if inside.any() else crop
    texture = Texture.of(torch.from_numpy(filled.astype(np.float32)).clamp(0, 1), int(low[0]), int(low[1]))
    return Eye(texture, torch.from_numpy(iris).float(), max(radius, 1e-3), torch.from_numpy(anchor).float(), size)


def _complete(crop: np.ndarray, points: np.ndarray, inside: np.ndarray, iris: np.ndarray, radius: float) -> np.ndarray:
    """The eyeball under the lids: the iris by its own symmetry, the white by what lies nearest."""
    from scipy.ndimage import distance_transform_edt

    out = crop.copy()
    known = inside.copy()
    offset = points - iris
    distance = np.linalg.norm(offset, axis=-1)
    disc = distance <= radius * 1.08

    def look(place):
        column = np.clip((place[..., 0] - points[0, 0, 0]).round().astype(int), 0, crop.shape[1] - 1)
        row = np.clip((place[..., 1] - points[0, 0, 1]).round().astype(int), 0, crop.shape[0] - 1)
        return inside[row, column]

    for mirror in (np.array([1, -1]), np.array([-1, -1]), np.array([-1, 1])):
        place = iris + offset * mirror
        take = disc & ~known & look(place)
        out[take] = read_bilinear(crop, place[take] - points[0, 0] + 0.5)
        known |= take
    # Iris that no symmetry shows: the mean colour at its radius.
    missing = disc & ~known
    seen = disc & inside
    if missing.any() and seen.any():
        rings = np.minimum((distance / max(radius, 1e-6) * 6).astype(int), 6)
        fallback = crop[seen].mean(0)
        for ring in np.unique(rings[missing]):
            same = seen & (rings == ring)
            out[missing & (rings == ring)] = crop[same].mean(0) if same.any() else fallback
        known |= missing
    rest = ~known
    if rest.any():
        white = inside & ~(distance <= radius * 1.15)
        trusted = white if white.sum() >= 8 else known
        mask = ~trusted & rest
        row, column = distance_transform_edt(~trusted, return_distances=False, return_indices=True)
        softness = max(1.0, 0.15 * radius)
        out[mask] = blur(out[row, column], softness, softness)[mask]
    return out


def paint(eye: Eye, opened: DrawnOpening, pose: Pose, gaze: Tensor, shut: Tensor) -> Tensor:
    """[B, 3, h, w] the eyeball on the pixels of ``opened``.

    Args:
        gaze: [B, 2] shift of the iris, outer-eye distances.
        shut: [B] how far the lids are shut, for their shadow.
    """
    frames = gaze.shape[0]
    placed = rigid(eye.anchor.expand(frames, -1, -1), pose)
    basis = torch.stack([placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0]], -1)
    rest = torch.stack([eye.anchor[1] - eye.anchor[0], eye.anchor[2] - eye.anchor[0]], -1)[:2]
    relative = (opened.pixels - placed[:, 0][:, None, None]).unsqueeze(-1)
    units = inverse_2x2(basis)[:, None, None] @ relative
    place = (rest @ units).squeeze(-1) + eye.anchor[0, :2]
    shift = (gaze @ rest.T)[:, None, None]
    # The iris moves as one; the white round it gives way over one more radius and a half.
    away = (place - eye.iris - shift).norm(dim=-1, keepdim=True) / eye.radius
    follow = 1 - smoothstep((away - 1.15) / 1.5)
    colour = eye.texture.read(place - shift * follow)
    below_lid = torch.exp(-((opened.depth.clamp_min(0) / (0.03 * eye.size)) ** 2))
    return colour * (1 - 0.25 * (shut.clamp(0, 1)[:, None, None] * below_lid)[:, None])


__all__ = ["Eye", "paint", "polygon_distance", "prepare"]
