"""The skin of the upper lid as it shows when the eye shuts: what an open eye folds away into the shadow of its socket.

Stretched down over the eye, the strip of skin between lashes and brow would bring its shadow along as a dark patch.
Skin that comes out of the fold is lit as the skin about the eye is; make-up and lids that are a little darker stay.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import topology
from .edges import blur, luminance, read_bilinear, skin_beneath
from .grid import smoothstep
from .opening import heights, through
from .warp import Texture

LOWER_BROWS = ((46, 53, 52, 65, 55), (285, 295, 282, 283, 276))
"""The brows' lower edges, from the picture's left to its right."""
UPPER_BROWS = ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300))
LIT, PLAINLY = 0.74, 0.35
"""How light a lid's skin is at least, as a share of the skin above the brow and beneath the eye; and
by how much more a skin must be darkened than that to count as shadow rather than make-up."""
BRIGHTEST, ROUGHEST = 4.0, 1.8
"""Largest factors on the skin's light, and on its grain."""
HEAVY = 0.045
"""Height of lashes, outer-eye distances, from which on they are a drawing's line."""
COMES_OUT = (0.12, 0.75)
"""How far shut an eye is when its folded skin begins to show, and when all of it does."""


def lit(image: np.ndarray, landmarks: np.ndarray, edges: np.ndarray, lash: np.ndarray, size: float,
        eye: int) -> Texture:
    """[h, w, 4] the skin above one eye without the socket's shadow, and how far that counts, 0..1.

    Args:
        image: [H, W, 3] 0..1.
        landmarks: [478, 3] pixels.
        edges: [2, K, 2] the lids' edges, pixels; lash: [K] height of the lashes above the upper, pixels.
        size: outer-eye distance, pixels.
    """
    brow = through(landmarks[list(LOWER_BROWS[eye]), :2])
    around = np.concatenate([edges.reshape(-1, 2), brow])
    height, width = image.shape[:2]
    low = np.clip(np.floor(around.min(0) - 0.12 * size).astype(int), 0, [width - 2, height - 2])
    high = np.clip(np.ceil(around.max(0) + 0.12 * size).astype(int), low + 2, [width, height])
    piece = image[low[1]:high[1], low[0]:high[0]].astype(np.float64)
    y, x = np.mgrid[low[1]:high[1], low[0]:high[0]]
    points = np.stack([x, y], -1).reshape(-1, 2) + 0.5
    edge = _drawn_on(edges[0], 0.08 * size)
    above = -np.nan_to_num(heights(points, edge), posinf=1e6)
    span = edges[0][-1] - edges[0][0]
    along = (points - edges[0][0]) @ span / max(float(span @ span), 1e-9)
    lashes = np.interp(along, np.linspace(0, 1, len(lash)), lash)
    below = np.nan_to_num(heights(points, _drawn_on(brow, 0.25 * size)), posinf=-1e6)
    free = above - lashes
    soft = max(0.018 * size, 1.0)
    # Where it counts: whole above the lashes, fading towards the brow and beyond the corners.
    part = free / np.maximum(free + below, 1e-3)
    counts = smoothstep(free / soft) * (1 - smoothstep((part - 0.30) / 0.60)) * smoothstep(below / soft)
    counts = counts * (1 - smoothstep((np.abs(along - 0.5) - 0.42) / 0.16))
    # Under a drawn lid's heavy line no skin lies in shadow.
    counts = counts.reshape(piece.shape[:2]) * (1 - smoothstep((np.median(lash) / size - HEAVY) / 0.02))
    # The skin's own light without lashes and brow, and the light that falls about the eye.
    skin = (smoothstep(free / soft) * smoothstep(below / soft + 0.5)).reshape(piece.shape[:2]) + 1e-6
    sigma = 0.030 * size
    own = blur(piece * skin[..., None], sigma, sigma) / np.maximum(blur(skin, sigma, sigma), 1e-9)[..., None]
    wanted = LIT * _light(image, landmarks, size, eye)
    darkened = float(luminance(wanted)) / np.maximum(luminance(own), 1e-3)[..., None]
    # The colour too is that of the skin about it: of hair that hangs there, shadow would keep the hue.
    gain = np.clip(wanted / np.maximum(own, 1e-3), 0.6, BRIGHTEST)
    # What is nearly black is drawn lash, not skin.
    shadow = smoothstep((darkened - 1) / PLAINLY) * smoothstep((1 / darkened - 0.18) / 0.20)
    gain = 1 + (gain - 1) * shadow
    grain = piece - own
    grey = luminance(grain)[..., None]
    out = own * gain + grain + (grey - grain) * shadow + grey * (gain.clip(1.0, ROUGHEST) - 1)
    out = np.concatenate([out.clip(0, 1), counts[..., None]], -1)
    return Texture.of(torch.from_numpy(out.astype(np.float32)), int(low[0]), int(low[1]))


def comes_out(shut: Tensor) -> Tensor:
    """[B] how much of the folded skin shows in eyes that are ``shut`` [B] so far."""
    start, whole = COMES_OUT
    return smoothstep((shut - start) / (whole - start))


def _light(image: np.ndarray, landmarks: np.ndarray, size: float, eye: int) -> np.ndarray:
    """[3] the colour of skin about an eye: between what lies above its brow and what lies beneath it."""
    brow = landmarks[list(UPPER_BROWS[eye][1:4]), :2]
    up = landmarks[topology.FOREHEAD_TOP, :2] - landmarks[topology.CHIN_TIP, :2]
    over = read_bilinear(image, brow[:, None] + np.linspace(0.06, 0.14, 5)[None, :, None] * size
                         * up / max(np.linalg.norm(up), 1e-6))
    over, beneath = np.median(over.reshape(-1, 3), 0), skin_beneath(image, landmarks, eye)
    # Hair may hang over one of them, and the lesser light is the likelier in a socket.
    pair = sorted((over.astype(np.float64), beneath), key=luminance)
    return pair[1] if luminance(pair[0]) < 0.6 * luminance(pair[1]) else pair[0]


def _drawn_on(curve: np.ndarray, length: float) -> np.ndarray:
    """``curve`` [K, 2] drawn on at both ends along its chord."""
    along = curve[-1] - curve[0]
    along = along / max(float(np.linalg.norm(along)), 1e-6) * length
    return np.concatenate([curve[:1] - along, curve, curve[-1:] + along])
