"""What the head should feel, over time: the type and its text form. The controller itself is stage 2."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import PlaymateError

LABELS = ("angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised", "neutral")
"""The paper's seven emotions (PAPER.md 1.7) and neutral, in the order of ``EmotionCurve.weights``."""

NEUTRAL = LABELS.index("neutral")
MAX_STRENGTH = 2.0


@dataclass(frozen=True)
class EmotionCurve:
    """A mixture of emotions with a strength for every frame.

    Attributes:
        weights: [T, 8] share of each of ``LABELS``, 0 or more, each row sums to 1.
        strength: [T] 0 (none) to 2 (twice natural).
        fps: frames a second.

    Raises:
        PlaymateError: shapes that disagree, rows that do not sum to 1, strength outside 0 to 2.
    """

    weights: Tensor
    strength: Tensor
    fps: float

    def __post_init__(self) -> None:
        frames = len(self.strength) if self.strength.ndim == 1 else -1
        if tuple(self.weights.shape) != (frames, len(LABELS)):
            raise PlaymateError(f"Emotion weights have shape {tuple(self.weights.shape)} where "
                                f"[frames, {len(LABELS)}] with one strength a frame is needed.")
        if not self.fps > 0:
            raise PlaymateError(f"Emotion fps is {self.fps}; it must be above 0.")
        if frames and (not bool((self.weights >= 0).all())
                       or not bool(((self.weights.sum(1) - 1).abs() < 1e-4).all())):
            raise PlaymateError("Emotion weights must be 0 or more and sum to 1 in every frame.")
        if not bool(((self.strength >= 0) & (self.strength <= MAX_STRENGTH)).all()):
            raise PlaymateError(f"Emotion strength must be 0 to {MAX_STRENGTH:g}.")

    def __len__(self) -> int:
        return len(self.strength)

    @property
    def is_neutral(self) -> bool:
        """Whether it asks for nothing."""
        felt = self.strength * (1.0 - self.weights[:, NEUTRAL])
        return not bool((felt > 1e-6).any())

    @staticmethod
    def constant(label: str, strength: float, frames: int, fps: float) -> EmotionCurve:
        """``label`` held for all ``frames``.

        Raises:
            PlaymateError: an unknown label or strength.
        """
        key = _Key(0.0, _mixture([(label, strength)], f"{label} {strength:g}"))
        return _curve([key], frames, fps)

    @staticmethod
    def parse(text: str, frames: int, fps: float = 25.0) -> EmotionCurve:
        """``parse_schedule`` under the type's own name."""
        return parse_schedule(text, frames, fps)


@dataclass(frozen=True)
class _Key:
    time: float
    amounts: Tensor  # [8] strength of each label


def parse_schedule(text: str, frames: int, fps: float = 25.0) -> EmotionCurve:
    """A schedule such as ``0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5`` as a curve.

    Each entry is a time in seconds and labels with an optional strength (1 if left out), several joined by ``+``.
    Between entries the amounts go over linearly; before the first and after the last they hold. A bare label, or a
    mixture without a time, holds for the whole clip.

    Raises:
        PlaymateError: an empty text, an unknown label, a time or strength that is not a number in range, times out
            of order, or an entry without a time beside others.
    """
    entries = [e.strip() for e in text.split(";") if e.strip()]
    if not entries:
        raise PlaymateError("The emotion schedule is empty; write a label such as happy, or times and labels such as "
                            "0.0 neutral; 1.5 happy 0.8.")
    keys: list[_Key] = []
    for entry in entries:
        timed = re.match(r"^([+-]?(?:\d+\.?\d*|\.\d+))\s*s?\s+(.+)$", entry)
        if not timed and len(entries) > 1:
            raise PlaymateError(f"Emotion schedule entry {entry!r} has no time; write seconds first, such as "
                                "1.5 happy 0.8.")
        time, what = (float(timed.group(1)), timed.group(2)) if timed else (0.0, entry)
        if time < 0:
            raise PlaymateError(f"Emotion schedule entry {entry!r} lies before 0 seconds; times start at 0.")
        if keys and time <= keys[-1].time:
            raise PlaymateError(f"Emotion schedule entry {entry!r} is not later than the one before it; put the "
                                "entries in order of time.")
        keys.append(_Key(time, _mixture([_part(p, entry) for p in what.split("+")], entry)))
    return _curve(keys, frames, fps)


def _part(text: str, entry: str) -> tuple[str, float]:
    words = text.split()
    if not words or len(words) > 2:
        raise PlaymateError(f"Emotion schedule entry {entry!r} cannot be read; write a label and a strength, such as "
                            "happy 0.8, joined by + for mixtures.")
    try:
        strength = float(words[1]) if len(words) == 2 else 1.0
    except ValueError:
        raise PlaymateError(f"Emotion schedule entry {entry!r}: strength {words[1]!r} is not a number; "
                            "use 0 to 2.") from None
    return words[0].lower(), strength


def _mixture(parts: list[tuple[str, float]], entry: str) -> Tensor:
    amounts = torch.zeros(len(LABELS))
    for label, strength in parts:
        if label not in LABELS:
            raise PlaymateError(f"Emotion {label!r} is unknown; use one of {', '.join(LABELS)}.")
        if not (math.isfinite(strength) and 0 <= strength <= MAX_STRENGTH):
            raise PlaymateError(f"Emotion schedule entry {entry!r}: strength {strength:g} is outside 0 to "
                                f"{MAX_STRENGTH:g}.")
        amounts[LABELS.index(label)] += strength
    total = float(amounts.sum())
    if total > MAX_STRENGTH + 1e-6:
        raise PlaymateError(f"Emotion schedule entry {entry!r}: the strengths add up to {total:g}; at most "
                            f"{MAX_STRENGTH:g} is possible.")
    return amounts


def _curve(keys: list[_Key], frames: int, fps: float) -> EmotionCurve:
    if not fps > 0:
        raise PlaymateError(f"Emotion fps is {fps}; it must be above 0.")
    times = torch.tensor([k.time for k in keys], dtype=torch.float64)
    amounts = torch.stack([k.amounts for k in keys]).double()
    now = torch.arange(frames, dtype=torch.float64) / fps
    right = torch.searchsorted(times, now, right=True).clamp(1, max(len(keys) - 1, 1))
    left, right = right - 1, right.clamp(max=len(keys) - 1)
    span = (times[right] - times[left]).clamp(min=1e-9)
    share = ((now - times[left]) / span).clamp(0.0, 1.0)[:, None]
    mixed = amounts[left] * (1 - share) + amounts[right] * share
    strength = mixed.sum(1)
    weights = mixed / strength.clamp(min=1e-9)[:, None]
    weights[strength < 1e-9] = torch.eye(len(LABELS), dtype=torch.float64)[NEUTRAL]
    return EmotionCurve(weights.float(), strength.float().clamp(max=MAX_STRENGTH), float(fps))
