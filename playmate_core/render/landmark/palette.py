"""The picture's own light: colours for what it does not show, sampled from what it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import topology
from .edges import luminance, read_bilinear

BESIDE_MOUTH = (57, 186, 43, 212, 216, 92), (287, 410, 273, 432, 436, 322)
"""Skin left and right of the mouth."""
UNEQUAL = 0.30
"""By how much light beside the mouth may differ from the mean of both sides within it."""
AROUND_MOUTH = (57, 287, 164, 167, 393, 186, 410, 43, 273, 106, 335, 18, 200)


@dataclass(frozen=True)
class Palette:
    """Colours [3] in 0..1 sRGB.

    Attributes:
        teeth: a lit front tooth.
        gum: gums and tongue.
        lip: the lips' own colour.
        cavity: the dark at the back of the mouth.
        skin: the lit cheek.
        sides: [2] light on the skin left and right of the mouth, as shares of their mean.
        colourful: 0 for a picture in greys, 1 for one with colours.
        grain: standard deviation of the finest detail of the face, 0..1.
    """

    teeth: np.ndarray
    gum: np.ndarray
    lip: np.ndarray
    cavity: np.ndarray
    skin: np.ndarray
    sides: np.ndarray
    colourful: float
    grain: float


def _polygon_samples(image: np.ndarray, polygon: np.ndarray, count: int = 24) -> np.ndarray:
    """[N, 3] colours inside a convex-ish polygon [K, 2], drawn towards its middle."""
    centre = polygon.mean(0)
    shares = np.linspace(0.1, 0.75, count // 4)
    points = centre + (polygon[None] - centre) * shares[:, None, None]
    return read_bilinear(image, points.reshape(-1, 2))


def measure(image: np.ndarray, landmarks: np.ndarray, size: float) -> Palette:
    """The palette of the face ``landmarks`` [478, 3] in ``image`` [H, W, 3]."""
    cheeks = read_bilinear(image, landmarks[list(topology.CHEEKS), :2])
    light = luminance(cheeks)
    skin = cheeks[light >= np.median(light)].mean(0)
    face = read_bilinear(image, landmarks[:topology.MESH_POINTS, :2])
    face_light = luminance(face)
    black = face[face_light <= np.quantile(face_light, 0.02)].mean(0)
    bright = float(np.quantile(face_light, 0.9))

    sclera = []
    for eye in (0, 1):
        ring = list(topology.EYES_UPPER[eye]) + list(topology.EYES_LOWER[eye][-2:0:-1])
        sclera.append(_polygon_samples(image, landmarks[ring, :2]))
    sclera = np.concatenate(sclera)
    white = sclera[luminance(sclera) >= np.quantile(luminance(sclera), 0.85)].mean(0)

    lips = read_bilinear(image, landmarks[[0, 37, 267, 17, 84, 314, 11, 16, 12, 15], :2]).mean(0)

    both = np.stack([skin, lips])
    chroma = float(((both.max(-1) - both.min(-1)) / np.maximum(both.max(-1), 1e-3)).mean())
    colourful = float(np.clip(chroma / 0.15, 0, 1))

    def tinted(*factors):
        return 1 + (np.array(factors) - 1) * colourful

    # Teeth: as white as the eyes' white allows, under the light that the skin shows, never brighter than the face.
    tint = skin / max(float(luminance(skin)), 1e-3)
    tint = 1 + 0.46 * (tint - 1)
    from_skin = tint * np.clip(0.15 + 0.95 * max(float(luminance(skin)), 0.6 * bright), 0, 1)
    teeth = 0.6 * from_skin + 0.4 * white
    # Light where the mouth is counts for more than light on the cheeks.
    near = read_bilinear(image, landmarks[list(AROUND_MOUTH), :2])
    local = float(np.quantile(luminance(near), 0.7))
    local = min(local, float(luminance(skin)))
    # About as light as the skin: what is white lies deeper in the shade.
    wanted = np.clip(1.10 * local + 0.08, 0.38 * bright, 1.08 * bright + 0.05)
    teeth = teeth * (wanted / max(float(luminance(teeth)), 1e-3)) * tinted(1.0, 0.978, 0.935)
    cavity = 0.5 * black + 0.5 * lips * 0.3 * tinted(1.5, 0.8, 0.73)
    wanted = np.clip(0.19 * float(luminance(skin)), 0.8 * float(luminance(black)), 0.25)
    cavity = cavity * wanted / max(float(luminance(cavity)), 1e-3)
    gum = 0.75 * lips * tinted(1.0, 0.82, 0.82) + 0.10 * skin
    teeth, gum, lip, cavity = (np.clip(colour, 0, 1) for colour in (teeth, gum, lips, cavity))
    beside = np.array([float(luminance(read_bilinear(image, landmarks[list(side), :2])).mean())
                       for side in BESIDE_MOUTH]) + 0.02
    uneven = float(np.clip(0.5 * np.log(beside[1] / beside[0]), -UNEQUAL, UNEQUAL))
    return Palette(teeth, gum, lip, cavity, skin, np.array([1 - uneven, 1 + uneven]), colourful,
                   _grain(image, landmarks, size))


def _grain(image: np.ndarray, landmarks: np.ndarray, size: float) -> float:
    """Median absolute second difference on the cheeks, as a standard deviation."""
    found = []
    for landmark in (50, 280, 101, 330):
        x, y = (int(v) for v in landmarks[landmark, :2])
        r = max(2, int(0.06 * size))
        patch = luminance(image[max(0, y - r):y + r + 1, max(0, x - r):x + r + 1])
        if min(patch.shape) >= 3:
            second = patch[:, :-2] - 2 * patch[:, 1:-1] + patch[:, 2:]
            found.append(float(np.median(np.abs(second))) * 1.4826 / np.sqrt(6))
    return float(np.clip(np.median(found), 0, 0.012)) if found else 0.0
