"""Sounds to which a mouth stays at rest: silence, rooms, music, breath, knocks."""

from __future__ import annotations

import numpy as np

from .augmentation import RATE, band, coloured_noise, tones

KINDS = ("silence", "room", "music", "breath", "knocks", "hum")


def sound(kind: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """[N] float32 at 16 kHz of one of :data:`KINDS`; raises ValueError for another kind."""
    count = int(seconds * RATE)
    if kind == "silence":
        return np.zeros(count, np.float32)
    if kind == "room":
        return coloured_noise(count, rng.uniform(0.5, 2), rng) * np.float32(10 ** rng.uniform(-3.5, -1.3))
    if kind == "music":
        return tones(count, rng) * np.float32(10 ** rng.uniform(-2, -0.8))
    if kind == "hum":
        time = np.arange(count) / RATE
        base = rng.choice([50.0, 60.0, 100.0, 120.0])
        hum = sum(np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6)) / k for k in range(1, 5))
        return (hum * 10 ** rng.uniform(-3, -1.5)).astype(np.float32)
    if kind == "breath":
        time = np.arange(count) / RATE
        swell = np.clip(np.sin(2 * np.pi * rng.uniform(0.2, 0.4) * time + rng.uniform(0, 6)), 0, None) ** 2
        air = band(coloured_noise(count, 1.0, rng), 300.0, rng.uniform(2000, 6000))
        return (air * swell * 10 ** rng.uniform(-2.5, -1.5)).astype(np.float32)
    if kind == "knocks":
        knocks = coloured_noise(count, 1.0, rng) * np.float32(1e-3)
        for place in rng.integers(0, max(count - 3000, 1), max(1, int(seconds * 1.5))):
            hit = coloured_noise(3000, rng.uniform(0, 2), rng) * np.exp(-np.arange(3000) / rng.uniform(80, 700))
            knocks[place:place + 3000] += (hit * rng.uniform(0.03, 0.3)).astype(np.float32)[: count - place]
        return np.clip(knocks, -1, 1)
    raise ValueError(f"There is no sound of kind {kind!r}.")
