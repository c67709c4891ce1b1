"""Drawings of two rows of teeth, in outer-eye distances: the parts of a mouth that a portrait with closed lips hides.

Sizes are an adult's (central incisor 8.5 mm wide, 10 mm high; outer-eye distance 90 mm). x is measured from the middle,
y from the biting edge of the front teeth, downward.
"""

from __future__ import annotations

import numpy as np

HALF_WIDTH = 0.39
UPPER_WIDTHS = (0.094, 0.074, 0.084, 0.080, 0.080, 0.11, 0.11)
UPPER_HEIGHTS = (0.112, 0.098, 0.108, 0.094, 0.086, 0.08, 0.075)
UPPER_EDGES = (0.0, -0.008, -0.002, -0.010, -0.014, -0.020, -0.026)
LOWER_WIDTHS = (0.060, 0.064, 0.074, 0.078, 0.078, 0.11, 0.11)
LOWER_HEIGHTS = (0.088, 0.088, 0.10, 0.088, 0.082, 0.07, 0.065)
LOWER_EDGES = (0.0, 0.002, -0.003, 0.005, 0.008, 0.012, 0.016)
UPPER_BOX = (-HALF_WIDTH, -0.20, HALF_WIDTH, 0.06)
LOWER_BOX = (-HALF_WIDTH, -0.06, HALF_WIDTH, 0.20)
ARCH_WIDTH, ARCH_DEPTH = 0.340, 0.38
"""Half axes of the upper dental arch seen from below, an ellipse: teeth run back along it, so that from the front they
get narrower and darker to the sides."""


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _along_arch(x: np.ndarray, width: float, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """(length along the arch from its middle, cosine of the angle by which it faces the side) at ``x``, same shape."""
    angles = np.linspace(0, np.pi / 2 - 0.03, 400)
    steps = np.hypot(width * np.cos(angles), depth * np.sin(angles)) * (angles[1] - angles[0])
    lengths = np.concatenate([[0], np.cumsum((steps[1:] + steps[:-1]) / 2)])
    angle = np.arcsin(np.clip(np.abs(x) / width, 0, np.sin(angles[-1])))
    facing = width * np.cos(angle) / np.hypot(width * np.cos(angle), depth * np.sin(angle))
    return np.interp(angle, angles, lengths), facing


def row_of_teeth(upper: bool, per_unit: float, tooth: np.ndarray, gum: np.ndarray, warmth: float = 1.0) -> np.ndarray:
    """[h, w, 4] RGBA (straight alpha) of a row over ``UPPER_BOX`` or ``LOWER_BOX``, ``per_unit`` pixels a unit.

    ``warmth`` 0..1 is how much yellower teeth are towards their roots.
    """
    x0, y0, x1, y1 = UPPER_BOX if upper else LOWER_BOX
    fine = 4
    width, height = (max(8, int(round((b - a) * per_unit))) for a, b in ((x0, x1), (y0, y1)))
    x = x0 + (np.arange(width * fine) + 0.5) / (width * fine) * (x1 - x0)
    y = y0 + (np.arange(height * fine) + 0.5) / (height * fine) * (y1 - y0)
    x, y = np.meshgrid(x, y)
    if not upper:
        y = -y
    widths, tall, edges = ((UPPER_WIDTHS, UPPER_HEIGHTS, UPPER_EDGES) if upper
                           else (LOWER_WIDTHS, LOWER_HEIGHTS, LOWER_EDGES))
    arch = ARCH_WIDTH * (1.0 if upper else 0.93)
    place, facing = _along_arch(x, arch, ARCH_DEPTH)
    bounds = np.concatenate([[0], np.cumsum(widths)])
    index = np.clip(np.searchsorted(bounds, place, side="right") - 1, 0, len(widths) - 1)
    within = (place - bounds[index]) / np.array(widths)[index]
    from_side = np.minimum(within, 1 - within) * np.array(widths)[index]
    bow = 2 * within - 1
    # Biting edge: nearly straight with small rounded corners (large ones make a comb), canines pointed, the arch as a
    # whole rising to the sides (a smile's curve).
    pointed = np.where(index == 2, 0.012, 0.0) * np.abs(bow)
    edge = np.array(edges)[index] - 0.010 * np.abs(bow) ** 7 - 0.003 * bow ** 2 - pointed - 0.18 * x ** 2
    # Gums arch over every tooth and come down between two of them to one height.
    papilla = -0.080 - 0.18 * x ** 2 - 0.05 * place
    root = papilla + (np.array(edges)[index] - np.array(tall)[index] - 0.18 * x ** 2 - papilla) * (1 - np.abs(bow) ** 3)
    pixel = 1.0 / per_unit
    soft = max(0.006, pixel)
    crown = _smooth_step((edge - y) / soft + 0.5)
    is_tooth = _smooth_step((y - root) / (2 * soft) + 0.5)
    height_in = np.clip((y - root) / np.maximum(edge - root, 1e-6), 0, 1)

    # Light from the front: what faces the side gets less of it, smoothly along the arch, and a little less at the
    # sides of every tooth and at its neck.
    shade = 0.36 + 0.64 * facing ** 0.85
    shade = shade * (1 - 0.07 * np.abs(bow) ** 2.5) * (0.92 + 0.09 * np.sin(np.pi * height_in ** 0.8))
    gap = np.exp(-0.5 * (from_side / max(0.0032, 0.35 * pixel)) ** 2)
    # Neighbours touch near the biting edge and leave a darker wedge towards it and the gum.
    touch = 0.55 + 0.45 * np.abs(2 * np.clip(height_in, 0, 1) - 1.2)
    shade = shade * (1 - (0.20 if upper else 0.24) * gap * touch)
    warm = 1 - warmth * (np.array([0.0, 0.03, 0.09]) * (1 - height_in)[..., None] + np.array([0.0, 0.01, 0.02]))
    colour = tooth * shade[..., None] * warm
    gums = gum * (0.60 + 0.34 * facing)[..., None] * (1 - 0.12 * gap[..., None])
    colour = colour * is_tooth[..., None] + gums * (1 - is_tooth[..., None])
    alpha = crown * _smooth_step((arch * 0.995 - np.abs(x)) / 0.05) * _smooth_step((y + 0.19) / 0.03)
    image = np.concatenate([colour * alpha[..., None], alpha[..., None]], -1)
    image = image.reshape(height, fine, width, fine, 4).mean((1, 3))
    image[..., :3] /= np.maximum(image[..., 3:], 1e-4)
    return np.clip(image, 0, 1).astype(np.float32)
