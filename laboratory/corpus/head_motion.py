"""Head, eye and brow motion for synthetic voices: statistics from the tracks, timing from the voice.

Head pose is a random signal with the cross-spectrum of real heads (so pitch, yaw, roll and shift move together as
necks let them), livelier while speaking, with nods on accents and a slow breath. Blinks follow the rates and the
quick-shut, slow-open shape known from people in conversation (Stern 1984: about 0.2 s).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .latents import BROWS, EYES, GAZE, Measures

FPS = 25.0
AXES = 6
_SEGMENT = 128  # frames of a spectrum: 5 s, the slowest movement that short tracks can show
_HIGHEST = 5.0  # Hz; above it tracks show the tracker, not the neck
_MOST = np.array([11.0, 12.0, 8.0, 0.16, 0.12, 0.06])
"""Largest excursion of pitch, yaw, roll (degrees), shift (outer-eye distances) and scale."""
NOD_DOWN, YAW_RIGHT = 1.0, -1.0
"""Sign of pitch when the face turns down and of yaw when the nose moves to the picture's right (SPEC.md section 8)."""
BLINKS = (14.0, 26.0)
"""Blinks a minute of people who talk (Bentivoglio et al. 1997: 26 in conversation, 17 at rest)."""
_DEGREE = 0.0023  # outer-eye distances that an iris moves when the eyeball turns by one degree
_TYPICAL = np.array([2.6, 3.0, 2.0, 0.040, 0.032, 0.010])


@dataclass(frozen=True)
class PoseStatistics:
    """How real heads move.

    Attributes:
        spectrum: [F, 6, 6] complex cross-spectrum over 0..5 Hz of pitch, yaw, roll, shift x, shift y, scale, each
            divided by its typical spread.
    """

    spectrum: np.ndarray

    @staticmethod
    def measure(poses: list[np.ndarray]) -> PoseStatistics:
        """From [T, 6] poses at 25 frames a second; each clip counts by its length, none more than 20 s."""
        window = np.hanning(_SEGMENT)
        bins = int(_HIGHEST * _SEGMENT / FPS) + 1
        total, weight = np.zeros((bins, AXES, AXES), complex), 0.0
        for pose in poses:
            # A head's own restlessness is its own: only how the movement is shared out is pooled.
            scaled = pose / _TYPICAL
            scaled = scaled / max(np.sqrt((scaled[:, :3] ** 2).mean()), 1e-3)
            if len(scaled) < _SEGMENT:
                scaled = np.pad(scaled, ((0, _SEGMENT - len(scaled)), (0, 0)), mode="reflect")
            for start in range(0, min(len(scaled) - _SEGMENT, 500) + 1, _SEGMENT // 2):
                part = scaled[start:start + _SEGMENT]
                spectrum = np.fft.rfft((part - part.mean(0)) * window[:, None], axis=0)[:bins]
                total += spectrum[:, :, None] * spectrum[:, None, :].conj()
                weight += 1
        return PoseStatistics(total / max(weight, 1.0))

    def sample(self, frames: int, rng: np.random.Generator) -> np.ndarray:
        """[frames, 6] a new head: random phases under the same cross-spectrum, each axis about its typical spread."""
        length = 1 << (max(frames, _SEGMENT) * 2 - 1).bit_length()
        frequency = np.arange(length // 2 + 1) * FPS / length
        grid = np.arange(len(self.spectrum)) * FPS / _SEGMENT
        series = np.zeros((length // 2 + 1, AXES), complex)
        roots = np.stack([np.linalg.cholesky(s + 1e-6 * np.trace(s).real * np.eye(AXES)) for s in self.spectrum])
        # Below the slowest measured bin the spectrum is held level, so heads drift but do not wander off.
        place = np.clip(frequency, grid[1], grid[-1]) / grid[1]
        low = np.minimum(place.astype(int), len(grid) - 2)
        share = (place - low)[:, None, None]
        root = roots[low] * (1 - share) + roots[low + 1] * share
        noise = rng.standard_normal((len(series), AXES)) + 1j * rng.standard_normal((len(series), AXES))
        series = np.einsum("fij,fj->fi", root, noise)
        series[(frequency > grid[-1]) | (frequency < 0.04)] = 0.0
        signal = np.fft.irfft(series, length, axis=0)
        signal /= np.sqrt((signal ** 2).mean(0)).clip(1e-9)
        first = int(rng.integers(0, length - frames + 1))
        return signal[first:first + frames] * _TYPICAL


def smooth(values: np.ndarray, seconds: float) -> np.ndarray:
    """[T] Gaussian smoothing with a standard deviation in seconds; the ends are held."""
    sigma = max(seconds * FPS, 1e-3)
    reach = int(4 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid")


def accents(loudness: np.ndarray, pitch: np.ndarray, speaking: np.ndarray) -> list[tuple[int, float]]:
    """Frames where the voice gives weight, with the weight 0..1: peaks of loudness, more so where pitch is high.

    Args:
        loudness: [T] decibels.
        pitch: [T] Hz, 0 unvoiced.
        speaking: [T] 0..1.
    """
    curve = smooth(np.maximum(loudness, -60.0), 0.08)
    base = smooth(curve, 0.8)
    voiced = pitch > 0
    middle = np.log(np.median(pitch[voiced])) if voiced.sum() > 5 else 0.0
    height = smooth(np.where(voiced, np.log(np.maximum(pitch, 1.0)) - middle, 0.0), 0.08)
    found: list[tuple[int, float]] = []
    for t in range(2, len(curve) - 2):
        rise = curve[t] - base[t]
        if curve[t] >= curve[t - 2:t + 3].max() and rise > 2.0 and speaking[t] > 0.5:
            weight = float(np.clip(0.4 * rise / 6.0 + 1.5 * height[t], 0.0, 1.0))
            if not found or t - found[-1][0] > 6:
                found.append((t, weight))
    return found


def _pulse(frames: int, centre: float, rise: float, hold: float, fall: float) -> np.ndarray:
    """[frames] 0..1 raised-cosine pulse; times in seconds, ``centre`` is where the top begins."""
    t = np.arange(frames) / FPS - centre
    up = 0.5 - 0.5 * np.cos(np.pi * np.clip((t + rise) / rise, 0, 1))
    down = 0.5 + 0.5 * np.cos(np.pi * np.clip((t - hold) / fall, 0, 1))
    return up * down


def head_pose(statistics: PoseStatistics, frames: int, speaking: np.ndarray, stress: list[tuple[int, float]],
              rng: np.random.Generator) -> np.ndarray:
    """[frames, 6] pitch, yaw, roll (degrees), shift x and y (outer-eye distances), scale, all about 0.

    Args:
        statistics: of real heads.
        frames: number of frames.
        speaking: [frames] 0..1.
        stress: of :func:`accents`.
        rng: generator.
    """
    restless = np.exp(rng.normal(0.0, 0.3))
    pose = statistics.sample(frames, rng) * restless * (0.4 + 0.6 * smooth(speaking, 0.5))[:, None]
    for frame, weight in stress:
        if rng.random() < 0.25 + 0.4 * weight:
            top = frame / FPS + rng.normal(0.0, 0.05)
            size = rng.uniform(1.0, 3.2) * (0.5 + weight) * min(restless, 1.3)
            nod = _pulse(frames, top, rng.uniform(0.14, 0.22), 0.02, rng.uniform(0.22, 0.4))
            pose[:, 0] += NOD_DOWN * size * nod
            pose[:, 4] += 0.006 * size * nod
            if rng.random() < 0.3:
                pose[:, 1 + int(rng.integers(0, 2))] += rng.normal(0.0, 0.7) * size * nod
    breath = np.sin(2 * np.pi * rng.uniform(0.2, 0.3) * np.arange(frames) / FPS + rng.uniform(0, 2 * np.pi))
    pose[:, 0] += -NOD_DOWN * 0.25 * breath
    pose[:, 4] -= 0.005 * breath
    pose[:, 5] += 0.001 * breath
    return _MOST * np.tanh(pose / _MOST)


def blinks(frames: int, stress: list[tuple[int, float]], rng: np.random.Generator) -> np.ndarray:
    """[frames] 0 open .. 1 shut: 14 to 26 blinks a minute, some drawn to an accent, now and then a double one."""
    curve = np.zeros(frames)
    gap = 60.0 / rng.uniform(*BLINKS)
    # A camera that is switched on at any time: what is left of a pause that it fell into, long ones more often.
    at = rng.random() * rng.gamma(3.5, gap / 2.5)
    marks = np.array([frame / FPS for frame, weight in stress if weight > 0.4])
    while at < frames / FPS:
        near = marks[np.abs(marks - at) < 0.35]
        top = float(near[0]) if len(near) and rng.random() < 0.5 else at
        # The top is laid on a frame, so that a short blink is not missed between two.
        top = round(top * FPS) / FPS
        depth = 1.0 if rng.random() < 0.88 else rng.uniform(0.5, 0.8)
        curve = np.maximum(curve, depth * _pulse(frames, top, rng.uniform(0.07, 0.10), rng.uniform(0.01, 0.045),
                                                 rng.uniform(0.11, 0.19)))
        at += 0.4 if rng.random() < 0.08 else max(0.6, rng.gamma(2.5, gap / 2.5))
    return curve


def gaze(frames: int, pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[frames, 2] iris shift right and down, outer-eye distances: eyes hold the listener while the head moves, with
    small jumps a second or so apart."""
    jumps = np.zeros((frames, 2))
    at = 0
    while at < frames:
        span = int(FPS * rng.uniform(0.4, 2.5))
        jumps[at:at + span] = rng.normal(0.0, [0.009, 0.004]) if rng.random() < 0.75 else 0.0
        at += span
    # About half of the head's turn is made up for by the eyes.
    counter = 0.5 * _DEGREE * np.stack([-YAW_RIGHT * pose[:, 1], -NOD_DOWN * pose[:, 0]], 1)
    return np.clip(jumps + counter, -0.03, 0.03)


def brows(frames: int, stress: list[tuple[int, float]], speaking: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[frames, 2] how far each brow is raised, outer-eye distances: flashes on accents over a slow drift."""
    lively = rng.uniform(0.4, 1.3)
    drift = smooth(rng.standard_normal(frames), 0.6)
    drift = 0.006 * drift / (drift.std() + 1e-9) * (0.4 + 0.6 * speaking)
    curve = np.stack([drift, drift + 0.15 * smooth(rng.standard_normal(frames), 0.5) * 0.02], 1)
    for frame, weight in stress:
        if rng.random() < 0.10 + 0.25 * weight:
            flash = _pulse(frames, frame / FPS - 0.04, rng.uniform(0.12, 0.2), rng.uniform(0.05, 0.5),
                           rng.uniform(0.25, 0.5))
            size = lively * rng.uniform(0.015, 0.045)
            curve += size * flash[:, None] * np.array([rng.uniform(0.8, 1.0), rng.uniform(0.8, 1.0)])
    return np.clip(curve, -0.02, 0.07)


def upper_face(measures: Measures, shut: np.ndarray, raised: np.ndarray, look: np.ndarray, openness: float,
               mouth: Tensor) -> Tensor:
    """Latents of lids, brows and eyes that leave the mouth where it is.

    Args:
        measures: of the bridge.
        shut: [T] blink 0..1.
        raised: [T, 2] brows.
        look: [T, 2] gaze.
        openness: mean distance of the lids at rest, outer-eye distances.
        mouth: [T, 63] the mouth's latents, whose side effect on the lids is taken back.

    Returns:
        [T, 63] to be added to ``mouth``.
    """
    frames = len(shut)
    lids = -measures.read(mouth, *EYES) * 0.7
    # Lids that look down come down a little; a shut eye is a little more than the distance of open lids.
    lids = lids - torch.from_numpy(0.5 * look[:, 1:2]).float()
    closing = torch.from_numpy(shut).float()[:, None]
    lids = lids * (1 - closing) + closing * (-1.02 * openness - measures.read(mouth, *EYES))
    upper = torch.zeros(frames, 63)
    still = ("gap", "gap-right", "gap-left", "width")
    upper = measures.move(upper, torch.from_numpy(raised).float(), BROWS, still + EYES)
    upper = measures.move(upper, torch.from_numpy(look).float(), GAZE, still + EYES + BROWS)
    return measures.move(upper, lids - measures.read(upper, *EYES), EYES, still + BROWS)
