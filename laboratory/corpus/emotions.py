"""Feeling faces for stage 2: a neutral clip of the corpus and a curve of emotions become an emotional clip.

The action units' latents (``emotion.offsets``) give the expression; here it gets its dynamics: onset and
offset at each emotion's own pace, an apex that lives, another articulation, blinks and gaze. What a voice needs its
lips for comes first: they shut on p, b, m in every emotion, and lids that blink shut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playmate_core.emotion.curve import EMOTIONS
from playmate_core.emotion.offsets import emotion_table, expression_factors, onset

from .head_motion import FPS, _pulse, smooth
from .latents import BROWS, EYES, GAPS, GAZE, Measures

OPEN_GAP = 0.05
"""Lip gap (outer-eye distances) from which an emotion's own parting of the lips is shown in full."""
MOST_GAP = 0.09
"""Widest parting of the lips by an emotion: jaws that hang further would drown the speech."""
QUIET_SHARE = 0.35
"""Share of that parting in a pause, where nothing says that the lips are shut for a sound."""


@dataclass(frozen=True)
class Temper:
    """How an emotion moves; the figures are ours where no source is named.

    Attributes:
        gap, width: factors on the articulation: larger movements in anger, smaller in sadness (Lee et al. 2005, An
            articulatory study of emotional speech production, Interspeech).
        blinks: more blinks a minute.
        look: mean gaze right and down and its spread, outer-eye distances.
    """

    gap: float
    width: float
    blinks: float
    look: tuple[float, float, float]


TEMPER: dict[str, Temper] = {
    "angry": Temper(1.15, 1.10, 0.0, (0.0, 0.0, 0.002)),
    "disgusted": Temper(0.95, 1.00, 2.0, (0.005, 0.003, 0.003)),
    "contempt": Temper(0.90, 0.95, 1.0, (0.006, 0.002, 0.003)),
    "fear": Temper(1.00, 1.00, 4.0, (0.0, 0.0, 0.007)),
    "happy": Temper(1.05, 1.05, 2.0, (0.0, 0.0, 0.002)),
    "sad": Temper(0.85, 0.90, 3.0, (0.0, 0.008, 0.003)),
    "surprised": Temper(1.12, 1.00, 0.0, (0.0, 0.0, 0.002)),
}


def random_curve(frames: int, rng: np.random.Generator) -> np.ndarray:
    """[frames, 7] amounts for training: nothing, one emotion, two, or several in turn with ramps."""
    kind = rng.random()
    if kind < 0.15:
        return np.zeros((frames, len(EMOTIONS)))
    if kind < 0.7:
        return np.repeat(_mixture(rng, 2 if kind > 0.55 else 1)[None], frames, 0)
    times, states = [0], [_mixture(rng, 1) if rng.random() < 0.6 else np.zeros(len(EMOTIONS))]
    while times[-1] < frames:
        start = times[-1] + int(FPS * rng.uniform(1.0, 3.5))
        state = np.zeros(len(EMOTIONS)) if rng.random() < 0.25 else _mixture(rng, 1 if rng.random() < 0.75 else 2)
        times += [start, start + int(FPS * rng.uniform(0.0, 1.0)) + 1]
        states += [states[-1], state]
    steps = np.arange(frames)
    return np.stack([np.interp(steps, times, column) for column in np.array(states).T], 1)


def _mixture(rng: np.random.Generator, parts: int) -> np.ndarray:
    total = 1.0 if rng.random() < 0.2 else rng.uniform(0.25, 1.0) if rng.random() < 0.55 else rng.uniform(1.0, 2.0)
    share = np.zeros(len(EMOTIONS))
    share[rng.choice(len(EMOTIONS), parts, replace=False)] = rng.dirichlet([2.0] * parts)
    return total * share


def feel(expression: Tensor, loudness: Tensor, amounts: np.ndarray, measures: Measures, openness: float,
         rng: np.random.Generator) -> Tensor:
    """A neutral clip with an emotion.

    Args:
        expression: [T, 63] neutral latents from rest, at 25 frames a second.
        loudness: [T] dB.
        amounts: [T, 7] amounts of ``EMOTIONS``, 0 to 2 in all.
        measures: of the bridge.
        openness: distance of the lids at rest, outer-eye distances.
        rng: generator.

    Returns:
        [T, 63].
    """
    amounts = torch.as_tensor(np.asarray(amounts), dtype=torch.float32)
    if not bool(amounts.any()):
        return expression
    frames = len(expression)
    shown = expression_factors(onset(amounts, FPS))
    swing = smooth(rng.standard_normal(frames), 0.5)
    shown = shown * torch.from_numpy(1.0 + 0.07 * swing / (swing.std() + 1e-9)).float()[:, None].clamp(0.7, 1.3)
    emotion = shown @ emotion_table()

    gap, width = measures.read(expression, "gap", "width").unbind(1)
    factor = {name: 1.0 + shown @ torch.tensor([getattr(TEMPER[label], name) - 1.0 for label in EMOTIONS])
              for name in ("gap", "width")}
    spoken = measures.move(expression, torch.stack((gap.clamp(min=0) * (factor["gap"] - 1.0),
                                                    width * (factor["width"] - 1.0)), 1), ("gap", "width"), EYES)
    emotion = _lips_first(emotion, gap, loudness, measures)
    blink = (-measures.read(expression, *EYES) / openness).clamp(0.0, 1.0)
    more = torch.from_numpy(_more_blinks(shown, rng)).float()
    shut = torch.maximum(blink, more[:, None])
    # What an emotion does to the lids fades as they shut, and added blinks shut what is open.
    lids = measures.read(emotion, *EYES)
    still = (*GAPS, "width", *BROWS)
    emotion = measures.move(emotion, -lids * shut - openness * (shut - blink), EYES, still)
    look = torch.from_numpy(_look(shown, rng)).float()
    return spoken + measures.move(emotion, look, GAZE, (*GAPS, "width", *EYES, *BROWS))


def means(measures: Measures) -> Tensor:
    """[7, 63] each emotion's expression with the lips held together: what stage 2 learns to move about."""
    table = emotion_table()
    return measures.move(table, -measures.read(table, *GAPS), GAPS, ("width", *EYES, *BROWS))


def _lips_first(emotion: Tensor, gap: Tensor, loudness: Tensor, measures: Measures) -> Tensor:
    """The emotion's latents with its own parting of the lips only where speech has them open."""
    apart = (gap / OPEN_GAP).clamp(0.0, 1.0)
    apart = apart * apart * (3 - 2 * apart)
    level = float(torch.quantile(loudness, 0.9))
    quiet = torch.from_numpy(smooth((loudness < level - 30.0).double().numpy(), 0.12)).float()
    quiet = ((quiet - 0.6) / 0.4).clamp(0.0, 1.0)
    share = torch.maximum(apart, QUIET_SHARE * quiet)[:, None]
    own = measures.read(emotion, *GAPS)
    # An emotion may part the lips of a speaker; one that presses them together does so in pauses, not in vowels.
    share = torch.where(own < 0, torch.zeros_like(own), share)
    share = share * (MOST_GAP / own[:, :1].abs().clamp(min=MOST_GAP))
    return measures.move(emotion, -(1.0 - share) * own, GAPS, ("width", *EYES, *BROWS))


def _more_blinks(shown: Tensor, rng: np.random.Generator) -> np.ndarray:
    frames = len(shown)
    rate = (shown @ torch.tensor([TEMPER[label].blinks for label in EMOTIONS])).numpy().clip(0.0) / 60.0 / FPS
    curve = np.zeros(frames)
    for frame in np.flatnonzero(rng.random(frames) < rate):
        curve = np.maximum(curve, _pulse(frames, frame / FPS, 0.09, 0.03, 0.15))
    return curve


def _look(shown: Tensor, rng: np.random.Generator) -> np.ndarray:
    """[T, 2] gaze: a mean place, and jumps a second or so apart."""
    table = np.array([TEMPER[label].look for label in EMOTIONS])
    strength = shown.numpy()
    jumps = np.zeros((len(strength), 2))
    at = 0
    while at < len(jumps):
        span = int(FPS * rng.uniform(0.3, 1.5))
        jumps[at:at + span] = rng.standard_normal(2) * (1.0, 0.5)
        at += span
    return strength @ table[:, :2] + (strength @ table[:, 2])[:, None] * jumps
