"""What a regression leaves over, given back as pieces of real movement.

The teacher says the mean mouth for a sound; real faces move about that mean, and in brows, lids and cheeks have no such
mean at all. A library keeps, frame by frame, what real speakers did beyond the teacher's word on them (from a teacher
that had not seen them). For a synthetic voice a path of pieces of 0.6 to 1.5 s is laid through it: each among the
nearest by speech features, loudness and the teacher's own mouth, chosen at random, joined where the movements meet
(Viterbi) and cross-faded. Mouth and upper face come from the same piece, so that they belong together; a few speakers
are drawn for each voice, so that it keeps a manner. Blinks and gaze are taken out: they are whole events, which a
cross-fade would halve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from playmate_core.face.blendshapes import NAMES
from playmate_core.motion.blinks import find_blinks
from playmate_core.runtime.errors import PlaymateError

from .head_motion import smooth
from .latents import BROWS, EYES, GAPS, GAZE, Measures

FPS = 25.0
_TYPICAL = {"browInnerUp": 0.15, "browOuterUpLeft": 0.13, "eyeSquintLeft": 0.1, "mouthSmileLeft": 0.14,
            "mouthUpperUpLeft": 0.1, "mouthLowerDownLeft": 0.075, "mouthPressLeft": 0.05, "mouthPucker": 0.2}
"""Medians of the standard deviation of scores over clips of real speakers."""
PIECE = (15, 37)
"""Least and most frames of a piece, without its flanks."""
FADE = 8
"""Frames of a cross-fade."""
POOL_FRAMES = 2500
"""Frames of the speakers that are drawn for a voice, at least: 100 s, or all there is."""
POOL_SPEAKERS = 5
LIVELY = 5.0
"""Power of a speaker's own movement in the chance that it is drawn."""
NEAREST, CHOICES = 36, 18
"""Pieces that match best, and how many of them, drawn at random, the path may go through."""
JOIN, STRANGER = 1.0, 0.6
"""Weight of a step at a join, and what it costs to go on with another speaker, beside a match's mean cost of 1."""
_FEATURES = 24
_SMOOTHING = 0.06  # seconds that features are smoothed by: pieces are matched by what is said, not by frames
_WEIGHTS = {"features": 1.0, "said": 1.0, "loudness": 0.6, "pause": 1.5}
_MOST_WIDE, _MOST_NARROW = 0.035, 0.6  # lids beyond rest (outer-eye distances), and shut by a share of it, no blink


@dataclass(frozen=True)
class Source:
    """A real clip, for the library.

    Attributes:
        speaker: who speaks.
        features: [T, C] encoder features of the recording as it is.
        loudness: [T] decibels.
        pause: [T] 0..1.
        said: [T, 63] the mouth by a teacher that has not seen the speaker.
        mouth: [T, 63] the mouth as it was, of typical amplitude.
        upper: [T, 63] the rest of the face, without blinks and gaze (:func:`upper_of`).
        lively: how much the face moves (:func:`liveliness`).
    """

    speaker: str
    features: Tensor
    loudness: Tensor
    pause: Tensor
    said: Tensor
    mouth: Tensor
    upper: Tensor
    lively: float = 1.0


def liveliness(scores: Tensor) -> float:
    """How alive a face is, about 0 to 1.5, from blendshape scores [T, 52]: the mean of its movements beside the jaw's,
    each against what people in conversation show, none more than one and a half times."""
    spread = scores.std(0)
    shares = [float(spread[NAMES.index(name)]) / typical for name, typical in _TYPICAL.items()]
    return float(np.mean(np.minimum(shares, 1.5)))


def upper_of(latents: Tensor, mouth: Tensor, measures: Measures, openness: float) -> Tensor:
    """[T, 63] what a face does beside its mouth, blinks and gaze taken out.

    Args:
        latents, mouth: of a track.
        measures: of the bridge.
        openness: distance of the lids at rest, outer-eye distances.
    """
    upper = latents - mouth
    closure = (-measures.read(latents, *EYES) / openness).clamp(0.0, 1.0)
    frames = len(upper)
    for first, last in find_blinks(closure, FPS, 0.3):
        before, after = max(first - 2, 0), min(last + 1, frames - 1)
        share = torch.linspace(0.0, 1.0, after - before + 1)[:, None]
        upper[before:after + 1] = upper[before] * (1 - share) + upper[after] * share
    still = (*GAPS, "width")
    upper = measures.move(upper, -measures.read(upper, *GAZE), GAZE, still + EYES + BROWS)
    lids = measures.read(upper, *EYES)
    lids = lids.clamp(-_MOST_NARROW * openness, _MOST_WIDE) - lids
    upper = measures.move(upper, lids, EYES, still + BROWS)
    # The lips are the mouth's alone: closures must hold on the whole face.
    return measures.move(upper, -measures.read(upper, *still), still, EYES + BROWS)


class Library:
    """Frames of real movement; ``tensors`` is all of its state.

    Attributes:
        tensors: key [N, D], lower [N, 63] and upper [N, 63] residuals, clip [N] and speaker [N] numbers, lively [N]
            of the clip, posture [clips, 63] their mean mouth while they speak, feature_mean [C],
            feature_basis [C, 24], said_basis [63, 4].
    """

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self._clip, self._speaker = tensors["clip"].numpy(), tensors["speaker"].numpy()
        # Where the clip of each frame ends: a piece must lie in one clip.
        edges = np.flatnonzero(np.diff(self._clip)) + 1
        self._end = np.append(edges, len(self._clip))[np.searchsorted(edges, np.arange(len(self._clip)), "right")]
        face = (tensors["lower"] + tensors["upper"]).double()
        self._face = tensors["lower"] + tensors["upper"]
        self._power = float((face - face.mean(0)).square().sum(1).mean()) + 1e-12
        self._odds = self._manners()

    def __len__(self) -> int:
        return len(self._clip)

    @staticmethod
    def build(sources: list[Source]) -> Library:
        """From real clips of at least a piece's length.

        Raises:
            PlaymateError: none is long enough.
        """
        sources = [s for s in sources if len(s.features) >= PIECE[1] + 2 * FADE]
        if not sources:
            raise PlaymateError("No talking track is long enough for pieces of real movement; give longer ones.")
        smoothed = torch.cat([_smoothed(s.features) for s in sources])
        mean = smoothed.mean(0)
        basis = torch.linalg.svd((smoothed - mean)[:: max(1, len(smoothed) // 8000)],
                                 full_matrices=False).Vh[:_FEATURES].T
        basis = basis * (_WEIGHTS["features"] / ((smoothed - mean) @ basis).square().sum(1).mean().sqrt())
        said = torch.cat([s.said for s in sources])
        shapes = torch.linalg.svd((said - said.mean(0))[:: max(1, len(said) // 8000)], full_matrices=False).Vh[:4].T
        size = ((said - said.mean(0)) @ shapes).square().sum(1).mean().sqrt().clamp_min(1e-9)
        names = sorted({s.speaker for s in sources})
        talking = [(s.mouth * (1.0 - s.pause[:, None])).sum(0) / (1.0 - s.pause).sum().clamp_min(1.0) for s in sources]
        tensors = {"posture": torch.stack(talking), "feature_mean": mean, "feature_basis": basis.contiguous(),
                   "said_basis": shapes * (_WEIGHTS["said"] / size),
                   "lower": torch.cat([s.mouth - s.said for s in sources]),
                   "upper": torch.cat([s.upper for s in sources]),
                   "lively": torch.cat([torch.full((len(s.features),), s.lively) for s in sources]),
                   "clip": torch.cat([torch.full((len(s.features),), i) for i, s in enumerate(sources)]),
                   "speaker": torch.cat([torch.full((len(s.features),), names.index(s.speaker)) for s in sources])}
        tensors["key"] = torch.cat([_key(tensors, s.features, s.loudness, s.pause, s.said) for s in sources])
        return Library({k: v.contiguous() for k, v in tensors.items()})

    def save(self, path: Path) -> None:
        """Written under a temporary name, then moved into place."""
        from safetensors.torch import save_file

        part = Path(path).with_suffix(".part")
        save_file(self.tensors, str(part))
        part.replace(path)

    @staticmethod
    def load(path: Path) -> Library:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        return Library(load_file(str(path)))

    def draw(self, features: Tensor, loudness: Tensor, pause: Tensor, said: Tensor,
             rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What a face does beyond the teacher's mean.

        Args:
            features: [T, C] of the clean voice.
            loudness: [T] decibels.
            pause: [T] 0..1, where nobody speaks.
            said: [T, 63] the teacher's mean mouth.
            rng: generator; another one, another face.

        Returns:
            ``(lower, upper, posture)``: residuals [T, 63] each, to be added to ``said``, and beside the mouth; and
            [63] the mean mouth of one of these speakers while he speaks.
        """
        frames = len(features)
        key = _key(self.tensors, features, loudness, pause, said).numpy()
        slots = _slots(frames, rng)
        pool = self._pool(rng)
        chosen = self._path(key, slots, pool, rng)
        posture = self.tensors["posture"][self._clip[int(rng.choice(np.flatnonzero(pool)))]]
        lower, upper, weight = torch.zeros(frames, 63), torch.zeros(frames, 63), torch.zeros(frames, 1)
        for (start, length), place in zip(slots, chosen, strict=True):
            end = min(start + length + FADE, frames)
            count = min(end - start, int(self._end[place]) - place)
            share = torch.ones(count)
            ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(FADE) + 0.5) / FADE)
            if start:
                share[:FADE] *= ramp[:count]
            if end < frames:
                share[-FADE:] *= ramp.flip(0)[-count:]
            rows = slice(start, start + count)
            lower[rows] += share[:, None] * self.tensors["lower"][place:place + count]
            upper[rows] += share[:, None] * self.tensors["upper"][place:place + count]
            weight[rows] += share[:, None]
        return lower / weight.clamp_min(1e-6), upper / weight.clamp_min(1e-6), posture

    def _manners(self) -> np.ndarray:
        """Chance of each speaker: the root of what there is of it, and more for a face that lives.

        Half of the tracks are of people who read sentences off a screen with a still face, and clips of three seconds
        hardly show one move; a talking face at large is livelier than their mean.
        """
        counts = np.bincount(self._speaker)
        lively = np.bincount(self._speaker, self.tensors["lively"].numpy()) / counts
        odds = counts ** 0.5 * (lively / max(np.median(lively), 1e-12)).clip(0.2, 5.0) ** LIVELY
        return odds / odds.sum()

    def _pool(self, rng: np.random.Generator) -> np.ndarray:
        """[N] bool: frames of the speakers whose manner this voice has."""
        counts = np.bincount(self._speaker)
        order = rng.choice(len(counts), len(counts), replace=False, p=self._odds)
        enough = int(np.searchsorted(np.cumsum(counts[order]), POOL_FRAMES)) + 1
        return np.isin(self._speaker, order[:max(enough, POOL_SPEAKERS)])

    def _path(self, key: np.ndarray, slots: list[tuple[int, int]], pool: np.ndarray,
              rng: np.random.Generator) -> list[int]:
        """First frame in the library of the piece for each slot."""
        frames, library, face = len(key), self.tensors["key"].numpy(), self._face.numpy()
        costs: list[np.ndarray] = []
        places: list[np.ndarray] = []
        back: list[np.ndarray] = []
        for number, (start, length) in enumerate(slots):
            span = min(length + FADE, frames - start)
            fitting = np.flatnonzero(pool & (self._end - np.arange(len(self)) >= span))
            if not len(fitting):
                fitting = np.flatnonzero(self._end - np.arange(len(self)) >= span)
            fitting = fitting[int(rng.integers(2))::2] if len(fitting) > 2 * NEAREST else fitting
            # Every third frame tells enough of what is said.
            match = np.mean([((library[fitting + i] - key[start + i]) ** 2).sum(1) for i in range(0, span, 3)], 0)
            near = _apart(fitting, match, NEAREST)
            near = near[np.sort(rng.choice(len(near), min(CHOICES, len(near)), replace=False))]
            own = match[near] / max(float(match[near].mean()), 1e-9)
            place = fitting[near]
            if not number:
                costs.append(own)
                back.append(np.zeros(len(place), int))
            else:
                length_before = slots[number - 1][1]
                ahead = np.arange(min(FADE, span))
                ends = face[np.minimum(places[-1][:, None] + length_before + ahead, len(self) - 1)]
                begins = face[place[:, None] + ahead]
                step = ((ends[:, None] - begins[None]) ** 2).sum(-1).mean(-1) / self._power
                other = self._speaker[places[-1]][:, None] != self._speaker[place][None]
                whole = costs[-1][:, None] + JOIN * step + STRANGER * other
                back.append(whole.argmin(0))
                costs.append(whole.min(0) + own)
            places.append(place)
        at = int(costs[-1].argmin())
        chosen = []
        for number in range(len(slots) - 1, -1, -1):
            chosen.append(int(places[number][at]))
            at = int(back[number][at])
        return chosen[::-1]


def _smoothed(features: Tensor) -> Tensor:
    """[T, C] features with their neighbours, Gaussian weights."""
    reach = max(1, round(3 * _SMOOTHING * FPS))
    weight = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / (_SMOOTHING * FPS)) ** 2)
    features = features.float()
    padded = torch.cat([features[:1].expand(reach, -1), features, features[-1:].expand(reach, -1)])
    weight = weight / weight.sum()
    return sum(w * padded[i:i + len(features)] for i, w in enumerate(weight))


def _key(tensors: dict[str, Tensor], features: Tensor, loudness: Tensor, pause: Tensor, said: Tensor) -> Tensor:
    """[T, D] by which stretches of speech are compared."""
    level = loudness.float() - torch.quantile(loudness.float(), 0.9)
    level = torch.from_numpy(smooth(level.clamp(-40.0, 0.0).numpy() / 20.0, 0.08)).float()
    return torch.cat([(_smoothed(features) - tensors["feature_mean"]) @ tensors["feature_basis"],
                      said.float() @ tensors["said_basis"], _WEIGHTS["loudness"] * level[:, None],
                      _WEIGHTS["pause"] * pause.float()[:, None]], 1)


def _slots(frames: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(start, frames without the flank behind) of the pieces of a clip."""
    slots, start = [], 0
    while start < frames:
        length = int(rng.integers(PIECE[0], PIECE[1] + 1))
        slots.append((start, length))
        start += length
    if len(slots) > 1 and frames - slots[-1][0] < FADE:
        # A last piece that is all flank belongs to the one before.
        slots.pop()
        slots[-1] = (slots[-1][0], frames - slots[-1][0])
    return slots


def _apart(fitting: np.ndarray, match: np.ndarray, most: int) -> np.ndarray:
    """Numbers of the best matches, none within five frames of a better one."""
    taken: list[int] = []
    used = np.zeros(int(fitting.max()) + 11, bool)
    for number in np.argsort(match, kind="stable"):
        place = int(fitting[number]) + 5
        if not used[place]:
            used[place - 5:place + 6] = True
            taken.append(int(number))
            if len(taken) == most:
                break
    return np.array(taken)
