"""Emotions over time: the type and its text form. ``emotion.plan`` chains and combines them.

Inside, emotions are amounts: [T, 7], the strength of each of ``EMOTIONS`` in every frame, 0 or more, 2 in all at most.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Sequence

import torch
from torch import Tensor

from ..motion.curves import monotone_cubic
from ..motion.schedule import DEGREES, PERCENT, Schedule, Unreadable, Word, measure
from ..runtime.errors import PlaymateError

LABELS = ("angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised", "neutral")
"""The paper's seven emotions (PAPER.md 1.7) and neutral, in the order of ``EmotionCurve.weights``."""

EMOTIONS = LABELS[:-1]
"""The seven labels that move the face, in the order of amounts."""

NEUTRAL = LABELS.index("neutral")
MAX_STRENGTH = 2.0
EXAMPLE = "0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5"


@dataclass(frozen=True)
class EmotionCurve:
    """A mixture of emotions with a strength for every frame.

    What counts is ``amounts``, the product of the two: it changes without a jump, whereas the shares of a neutral face
    are arbitrary. Curves that this package makes hold neutral only where there is no emotion.

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
        return not bool((self.strength * (1.0 - self.weights[:, NEUTRAL]) > 1e-6).any())

    @property
    def amounts(self) -> Tensor:
        """[T, 7] strength of each of ``EMOTIONS``: weights times strength."""
        return self.weights[:, :NEUTRAL] * self.strength[:, None]

    @staticmethod
    def from_amounts(amounts: Tensor, fps: float) -> EmotionCurve:
        """The curve with these strengths.

        Args:
            amounts: [T, 7] in the order of ``EMOTIONS``, 0 or more.
            fps: frames a second.

        Raises:
            PlaymateError: another shape, an amount below 0, or frames whose emotions add up to more than 2.
        """
        if amounts.ndim != 2 or amounts.shape[1] != len(EMOTIONS):
            raise PlaymateError(f"Emotion amounts have shape {tuple(amounts.shape)} where [frames, {len(EMOTIONS)}] is "
                                "needed.")
        if not bool((amounts >= 0).all()):
            raise PlaymateError("Emotion amounts must be 0 or more.")
        amounts = amounts.double()
        strength = amounts.sum(1)
        none = (strength < 1e-9).to(amounts)[:, None]
        weights = torch.cat((amounts / strength.clamp(min=1e-9)[:, None] * (1 - none), none), 1)
        # Sums of rounded numbers may pass the limit by a hair; more than that is the caller's mistake.
        strength = torch.where(strength < MAX_STRENGTH + 1e-5, strength.clamp(max=MAX_STRENGTH), strength)
        return EmotionCurve(weights.float(), strength.float(), float(fps))

    def resampled(self, frames: int, fps: float) -> EmotionCurve:
        """The same emotions at another rate, for ``frames`` frames: frame k is taken at k / fps seconds.

        Amounts are interpolated linearly (curves are smooth already) and held after the last frame.

        Raises:
            PlaymateError: an fps that is not above 0, or frames asked of a curve that has none.
        """
        if not fps > 0:
            raise PlaymateError(f"Emotion fps is {fps}; it must be above 0.")
        if fps == self.fps and frames == len(self):
            return self
        if frames and not len(self):
            raise PlaymateError("The emotion curve holds no frame, so it cannot be laid over a motion.")
        place = (torch.arange(frames, dtype=torch.float64) * (self.fps / fps)).clamp(max=max(len(self) - 1, 0))
        left = place.floor().long()
        right = (left + 1).clamp(max=max(len(self) - 1, 0))
        share = (place - left).to(self.strength.device)[:, None]
        amounts = self.amounts.double()
        return EmotionCurve.from_amounts(amounts[left] * (1 - share) + amounts[right] * share, fps)

    @staticmethod
    def constant(label: str, strength: float, frames: int, fps: float) -> EmotionCurve:
        """``label`` held for all ``frames``.

        Raises:
            PlaymateError: an unknown label or strength.
        """
        key = EmotionKey(0.0, mixture([(label, strength)]))
        return EmotionCurve.from_amounts(amounts_at([key], _times(frames, fps)), fps)

    @staticmethod
    def parse(text: str, frames: int, fps: float = 25.0) -> EmotionCurve:
        """``read_schedule`` sampled: frame k at k / fps seconds.

        Raises:
            PlaymateError: as ``read_schedule``, or an fps that is not above 0.
        """
        return EmotionCurve.from_amounts(amounts_at(read_schedule(text), _times(frames, fps)), fps)


@dataclass(frozen=True)
class EmotionKey:
    """The emotions of one moment.

    Attributes:
        time: seconds, 0 or later.
        amounts: strength of each of ``EMOTIONS``, as ``mixture`` gives them.
    """

    time: float
    amounts: tuple[float, ...]


def mixture(parts: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """(label, strength) pairs as the strength of each of ``EMOTIONS``; a label may come twice.

    Neutral may be named too; however strong, it changes nothing.

    Raises:
        PlaymateError: an unknown label, a strength outside 0 to 2, or emotions that add up to more than 2.
    """
    amounts = dict.fromkeys(LABELS, 0.0)
    for label, strength in parts:
        if label not in LABELS:
            raise PlaymateError(f"Emotion {label!r} is unknown; use one of {', '.join(LABELS)}.")
        if not (math.isfinite(strength) and 0 <= strength <= MAX_STRENGTH):
            raise PlaymateError(f"Emotion {label}: strength {strength:g} is outside 0 to {MAX_STRENGTH:g}.")
        amounts[label] += strength
    total = sum(amounts[label] for label in EMOTIONS)
    if total > MAX_STRENGTH + 1e-6:
        said = " + ".join(f"{label} {strength:g}" for label, strength in parts)
        raise PlaymateError(f"Emotion {said}: the strengths add up to {total:g}; at most {MAX_STRENGTH:g} is "
                            "possible.")
    return tuple(amounts[label] for label in EMOTIONS)


def read_schedule(text: str) -> tuple[EmotionKey, ...]:
    """A schedule such as ``0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5`` as keys in order of time.

    Entries are separated by semicolons or line ends. Each is a time ("1.5", "1.5s", "500 ms", "0:01.5") and labels
    with an optional strength ("0.8" or "80%"; 1 if left out), several joined by ``+``. A bare label, or a mixture
    without a time, holds for the whole clip.

    Raises:
        PlaymateError: an empty text, an unknown label, a time or strength that is not a number in range, times out
            of order, or an entry without a time beside others; the sentence says where in the text it is.
    """
    schedule = Schedule.of(text, "emotion schedule", EXAMPLE)
    entries = list(schedule.entries())
    if not entries:
        raise PlaymateError("The emotion schedule is empty; write a label such as happy, or times and labels such as "
                            f"{EXAMPLE}.")
    keys: list[EmotionKey] = []
    for entry in entries:
        whole = Word(entry.text, entry.at)
        if entry.seconds is None and len(entries) > 1:
            raise schedule.mistake(whole, "has no time; write it first")
        time = entry.seconds or 0.0
        if time < 0:
            raise schedule.mistake(whole, "lies before 0 seconds")
        if keys and time <= keys[-1].time:
            raise schedule.mistake(whole, "is not later than the entry before it; put them in order of time")
        parts = [_part(schedule, Word(part[0], entry.rest.at + part.start()))
                 for part in re.finditer(r"[^+]+|(?<=\+)$|^$", entry.rest.text)]
        try:
            keys.append(EmotionKey(time, mixture(parts)))
        except PlaymateError as error:
            raise schedule.mistake(whole, f"cannot be felt ({str(error).rstrip('.')})") from error
    return tuple(keys)


def amounts_at(keys: Sequence[EmotionKey], times: Tensor) -> Tensor:
    """Strengths between and around keys.

    They ease from one key to the next as faces do, without a corner at a key and without overshooting it; before the
    first and after the last they hold.

    Args:
        keys: one or more, in order of time.
        times: [T] seconds.

    Returns:
        [T, 7] float64; the emotions add up to 2 at most.
    """
    knots = torch.tensor([k.time for k in keys], dtype=torch.float64)
    amounts = torch.tensor([k.amounts for k in keys], dtype=torch.float64)
    return limited(monotone_cubic(knots, amounts, times.double(), flat_ends=True).clamp(min=0.0))


def limited(amounts: Tensor) -> Tensor:
    """[T, 7] amounts with the frames whose emotions add up to more than 2 scaled down to 2, their mixture kept."""
    total = amounts.sum(1, keepdim=True)
    return amounts * (MAX_STRENGTH / total.clamp(min=MAX_STRENGTH))


def _part(schedule: Schedule, part: Word) -> tuple[str, float]:
    """Label and strength of one emotion of a mixture: ``happy``, ``happy 0.8``, ``happy 80%``, ``80% happy``."""
    spaced = re.sub(r"\s+(?=(?:%|percent)(?:\s|$))", "", re.sub(r"[=:()]", " ", part.text))
    words = spaced.split()
    shown = Word(part.text.strip() or schedule.text[max(part.at - 10, 0):part.at + 1].strip(),
                 part.at + len(part.text) - len(part.text.lstrip()))
    if not words or len(words) > 2:
        raise schedule.mistake(shown, "cannot be read as a label and a strength, joined by + for mixtures")
    if len(words) == 2 and not words[0][0].isalpha():
        words.reverse()
    label, strength = words[0].lower(), 1.0
    if label not in LABELS:
        raise schedule.mistake(shown, f"names an unknown emotion; use one of {', '.join(LABELS)}")
    if len(words) == 2:
        try:
            strength, unit = measure(words[1])
        except Unreadable as why:
            reason = f"{str(why).replace('is no number', 'is not a number')}, or one outside 0 to {MAX_STRENGTH:g}"
            raise schedule.mistake(shown, f"has a strength that {reason}") from None
        if unit == DEGREES:
            raise schedule.mistake(shown, "gives degrees where a strength is needed")
        strength /= 100 if unit == PERCENT else 1
        if not 0 <= strength <= MAX_STRENGTH:
            raise schedule.mistake(shown, f"has a strength outside 0 to {MAX_STRENGTH:g}")
    return label, strength


def _times(frames: int, fps: float) -> Tensor:
    if not fps > 0:
        raise PlaymateError(f"Emotion fps is {fps}; it must be above 0.")
    return torch.arange(frames, dtype=torch.float64) / fps
