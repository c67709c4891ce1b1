"""Drawings of two rows of teeth, in outer-eye distances: the parts of a mouth that a portrait with closed lips hides.

Sizes are an adult's (central incisor 8.5 mm wide, 10 mm high; outer-eye distance 90 mm). x is measured from the middle,
y from the biting edge of the front teeth, downward.
"""

from __future__ import annotations

import numpy as np

HALF_WIDTH = 0.34
UPPER_WIDTHS = (0.094, 0.074, 0.084, 0.078, 0.078, 0.11)
UPPER_HEIGHTS = (0.108, 0.094, 0.106, 0.092, 0.085, 0.08)
UPPER_EDGES = (0.0, -0.011, -0.004, -0.014, -0.018, -0.024)
LOWER_WIDTHS = (0.060, 0.064, 0.074, 0.078, 0.078, 0.11)
LOWER_HEIGHTS = (0.088, 0.088, 0.10, 0.088, 0.082, 0.07)
LOWER_EDGES = (0.0, 0.002, -0.004, 0.006, 0.010, 0.014)
UPPER_BOX = (-HALF_WIDTH, -0.20, HALF_WIDTH, 0.06)
LOWER_BOX = (-HALF_WIDTH, -0.06, HALF_WIDTH, 0.20)
ARCH = 0.30
"""Radius of the dental arch: teeth run back along it, so they narrow and darken to the sides."""


def _smooth_step(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


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
    radius = ARCH if upper else ARCH * 0.93
    angle = np.arcsin(np.clip(np.abs(x) / radius, 0, 0.999))
    place = angle * radius
    bounds = np.concatenate([[0], np.cumsum(widths)])
    index = np.clip(np.searchsorted(bounds, place, side="right") - 1, 0, len(widths) - 1)
    within = (place - bounds[index]) / np.array(widths)[index]
    from_side = np.minimum(within, 1 - within) * np.array(widths)[index]
    bow = 2 * within - 1
    # Biting edge: rounded corners on every tooth, the arch as a whole rising to the sides (a smile's curve).
    edge = np.array(edges)[index] - 0.020 * np.abs(bow) ** 5 - 0.004 * bow ** 2 - 0.25 * x ** 2
    root = edge - np.array(tall)[index] * (0.90 + 0.10 * np.cos(np.pi * bow))
    pixel = 1.0 / per_unit
    soft = max(0.006, pixel)
    crown = _smooth_step((edge - y) / soft + 0.5)
    is_tooth = _smooth_step((y - root) / (2 * soft) + 0.5)
    height_in = np.clip((y - root) / np.maximum(edge - root, 1e-6), 0, 1)

    shade = 0.40 + 0.60 * np.cos(angle) ** 0.8
    shade = shade * (1 - 0.10 * bow ** 2) * (0.90 + 0.12 * np.sin(np.pi * np.clip(height_in, 0, 1) ** 0.8))
    gap = np.exp(-0.5 * (from_side / max(0.0045, 0.4 * pixel)) ** 2)
    shade = shade * (1 - (0.22 if upper else 0.26) * gap)
    warm = 1 - warmth * (np.array([0.0, 0.03, 0.09]) * (1 - height_in)[..., None] + np.array([0.0, 0.01, 0.02]))
    colour = tooth * shade[..., None] * warm
    gums = gum * (0.45 + 0.45 * np.cos(angle))[..., None] * (1 - 0.25 * gap[..., None])
    colour = colour * is_tooth[..., None] + gums * (1 - is_tooth[..., None])
    alpha = crown * _smooth_step((radius * 0.995 - np.abs(x)) / 0.03) * _smooth_step((y + 0.19) / 0.03)
    image = np.concatenate([colour * alpha[..., None], alpha[..., None]], -1)
    image = image.reshape(height, fine, width, fine, 4).mean((1, 3))
    image[..., :3] /= np.maximum(image[..., 3:], 1e-4)
    return np.clip(image, 0, 1).astype(np.float32)
