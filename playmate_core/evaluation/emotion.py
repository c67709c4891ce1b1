"""Whether emotions are distinct and right, measured on MediaPipe's 52 blendshapes of finished frames."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import combinations
from typing import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..emotion.curve import LABELS
from ..face.blendshapes import NAMES
from ..runtime.errors import PlaymateError
from .tracking import FaceTrack

FEATURES: dict[str, tuple[str, ...]] = {
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "cheek raise": ("cheekSquintLeft", "cheekSquintRight"),
    "lower lid raise": ("eyeSquintLeft", "eyeSquintRight"),
    "brow lowering": ("browDownLeft", "browDownRight"),
    "inner brow raise": ("browInnerUp",),
    "outer brow raise": ("browOuterUpLeft", "browOuterUpRight"),
    "brow raise": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "wide eyes": ("eyeWideLeft", "eyeWideRight"),
    "nose wrinkle": ("noseSneerLeft", "noseSneerRight"),
    "upper lip raise": ("mouthUpperUpLeft", "mouthUpperUpRight"),
}
"""What a face does, as the mean of the blendshapes that show it."""

ONE_SIDED: dict[str, tuple[str, str]] = {
    "one-sided smile": ("mouthSmileLeft", "mouthSmileRight"),
    "one-sided dimple": ("mouthDimpleLeft", "mouthDimpleRight"),
}
"""What a face does on one side only: (left, right) blendshapes."""

EXPECTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "happy": (("smile",), ("cheek raise", "lower lid raise")),
    "angry": (("brow lowering",),),
    "sad": (("inner brow raise",),),
    "fear": (("inner brow raise",), ("wide eyes",), ("brow raise",)),
    "surprised": (("wide eyes",), ("brow raise",)),
    "disgusted": (("nose wrinkle", "upper lip raise"),),
    "contempt": (("one-sided smile", "one-sided dimple"),),
}
"""What must rise over neutral in each emotion: every entry, by any of its alternatives. The action units are those of
the FACS investigator's guide (Ekman, Friesen and Hager 2002, table of emotion predictions: happy 6+12, angry 4, sad and
fear 1, fear and surprised 5 with 1+2, disgusted 9 or 10, contempt unilateral 12 or 14). Cheek raise (6) also shows in
the lower lid: MediaPipe's cheekSquint hardly leaves 0 on any face."""


def mean_blendshapes(track: FaceTrack | Tensor) -> Tensor:
    """[52] mean over the frames with a face, 0 to 1.

    Args:
        track: a track or its blendshapes [T, 52].

    Raises:
        PlaymateError: no frame with a face.
    """
    scores = track.blendshapes if isinstance(track, FaceTrack) else track
    seen = scores[torch.isfinite(scores).all(1)]
    if not len(seen):
        raise PlaymateError("No frame of the clip shows a face, so it has no blendshapes; check the video.")
    return seen.double().mean(0).float()


@dataclass(frozen=True)
class Separation:
    """How far emotions lie apart.

    Attributes:
        labels: their names, in the matrix' order.
        matrix: [N, N] Euclidean distances between the mean 52-blendshape vectors.
        mean: over all pairs.
        smallest: of all pairs; ``closest`` names it.
        closest: the pair that is hardest to tell apart.
    """

    labels: tuple[str, ...]
    matrix: Tensor
    mean: float
    smallest: float
    closest: tuple[str, str]

    def as_dict(self) -> dict:
        """Plain numbers by name."""
        return {"labels": list(self.labels), "mean": self.mean, "smallest": self.smallest,
                "closest": list(self.closest), "matrix": self.matrix.tolist()}


def separation(vectors: Mapping[str, Tensor]) -> Separation:
    """Pairwise distances between the mean blendshapes of clips.

    For scale: Playmate's published seven-emotion clips measure 0.85 to 1.13 (mean) and 0.39 to 0.47 (smallest), real
    actors at full strength 1.17 to 1.20 and 0.38 to 0.59 (issue 3).

    Args:
        vectors: for each label [52] of ``mean_blendshapes``; two at least. Leave neutral out to compare with these.

    Raises:
        PlaymateError: fewer than two, or vectors of other lengths.
    """
    labels = tuple(vectors)
    if len(labels) < 2:
        raise PlaymateError(f"Emotion separation needs at least two labelled clips, not {len(labels)}.")
    for label in labels:
        _check(vectors[label], label)
    stacked = torch.stack([vectors[label].double() for label in labels])
    matrix = (stacked[:, None] - stacked[None]).norm(dim=2)
    pairs = {(a, b): float(matrix[a, b]) for a, b in combinations(range(len(labels)), 2)}
    a, b = min(pairs, key=pairs.get)
    return Separation(labels, matrix, sum(pairs.values()) / len(pairs), pairs[a, b], (labels[a], labels[b]))


@dataclass(frozen=True)
class Direction:
    """One thing that an emotion must do to a face.

    Attributes:
        name: of ``FEATURES`` or ``ONE_SIDED``: the alternative that rises most.
        change: emotional minus neutral, of blendshape scores; for one-sided features how much more the leading side
            rises than the other.
        log_odds: the same as a change of log-odds, which also shows in scores that stay near 0 or 1.
        rank: place of the change among all of ``FEATURES`` and ``ONE_SIDED``, 1 the largest rise.
        holds: whether it rises by more than the threshold.
    """

    name: str
    change: float
    log_odds: float
    rank: int
    holds: bool

    def as_dict(self) -> dict:
        """Plain values by name."""
        return {"name": self.name, "change": self.change, "log_odds": self.log_odds, "rank": self.rank,
                "holds": self.holds}


def feature_changes(neutral: Tensor, emotional: Tensor) -> dict[str, tuple[float, float]]:
    """``(change, change of log-odds)`` of everything in ``FEATURES`` and ``ONE_SIDED``; inputs [52], 0 to 1."""
    for name, vector in (("neutral", neutral), ("emotional", emotional)):
        _check(vector, name)
    plain = (emotional - neutral).double()
    odds = (_logit(emotional) - _logit(neutral))
    changes = {}
    for name, shapes in FEATURES.items():
        columns = [NAMES.index(shape) for shape in shapes]
        changes[name] = (float(plain[columns].mean()), float(odds[columns].mean()))
    for name, sides in ONE_SIDED.items():
        left, right = (NAMES.index(side) for side in sides)
        lead, other = (left, right) if float(plain[left]) >= float(plain[right]) else (right, left)
        rise = float(plain[lead]) > 0
        # A corner that merely falls less than the other is no one-sided smile.
        changes[name] = tuple(float(x[lead] - x[other]) if rise else min(float(x[lead]), 0.0) for x in (plain, odds))
    return changes


def directions(neutral: Tensor, emotional: Tensor, label: str, threshold: float = 0.0) -> list[Direction]:
    """Whether an emotion changes the face as it should (``EXPECTED``).

    Args:
        neutral, emotional: [52] mean blendshapes of the same portrait and voice without and with the emotion.
        label: one of ``LABELS``; neutral expects nothing.
        threshold: least rise of the score that counts.

    Returns:
        One entry for each thing expected, in order.

    Raises:
        PlaymateError: an unknown label or vectors of other lengths.
    """
    if label not in LABELS:
        raise PlaymateError(f"Emotion {label!r} is unknown; use one of {', '.join(LABELS)}.")
    changes = feature_changes(neutral, emotional)
    order = sorted(changes, key=lambda name: -changes[name][0])
    found = []
    for alternatives in EXPECTED.get(label, ()):
        name = max(alternatives, key=lambda name: changes[name][0])
        found.append(Direction(name, *changes[name], order.index(name) + 1, changes[name][0] > threshold))
    return found


def monotone(neutral: Tensor, emotional: Sequence[tuple[float, Tensor]], label: str) -> dict[str, dict]:
    """Whether what an emotion does grows with its strength.

    Args:
        neutral: [52].
        emotional: (strength, [52]) of the same portrait and voice, two at least.
        label: one of ``LABELS``.

    Returns:
        For each thing expected of the label (of alternatives the one that changes most at the greatest strength):
        ``strengths``, ``changes`` and whether they ``rise`` strictly.
    """
    steps = sorted(emotional, key=lambda step: step[0])
    report = {}
    for direction in directions(neutral, steps[-1][1], label):
        changes = [feature_changes(neutral, vector)[direction.name][0] for _, vector in steps]
        rises = all(a < b for a, b in zip(changes, changes[1:], strict=False))
        report[direction.name] = {"strengths": [s for s, _ in steps], "changes": changes, "rises": rises}
    return report


def nearest_label(vector: Tensor, templates: Mapping[str, Tensor]) -> str:
    """The label whose mean vector lies nearest (Euclidean), for instance of real actors' clips.

    Args:
        vector: [52], or what is left of it after its neutral is taken off, if the templates are such differences.
    """
    if not templates:
        raise PlaymateError("There are no templates to classify by; give at least one label with 52 numbers.")
    return min(templates, key=lambda label: float((vector.double() - templates[label].double()).norm()))


def parse_label(text: str) -> tuple[str, float]:
    """``"happy"``, ``"happy 0.5"``, ``"happy_0.5"`` -> (label, strength); the strength is 1 if left out.

    Raises:
        PlaymateError: no label of ``LABELS`` in it, or more than one.
    """
    words = set(re.findall(r"[a-z]+", text.lower()))
    found = [label for label in LABELS if label in words]
    if len(found) != 1:
        what = "names no emotion" if not found else f"names {' and '.join(found)}"
        raise PlaymateError(f"The label {text!r} {what}; use one of {', '.join(LABELS)}, with a strength if you like "
                            "(happy 0.5).")
    after = re.search(rf"{found[0]}[\s_:=-]*(\d+\.\d+|\d+(?=$|[\s_-]))", text.lower())
    return found[0], float(after.group(1)) if after else 1.0


def labels_of(names: Iterable[str]) -> list[tuple[str, float] | None]:
    """``parse_label`` of file names; None where one names no emotion."""
    found: list[tuple[str, float] | None] = []
    for name in names:
        try:
            found.append(parse_label(name))
        except PlaymateError:
            found.append(None)
    return found


def _logit(scores: Tensor) -> Tensor:
    p = scores.double().clamp(1e-9, 1 - 1e-9)
    return (p / (1 - p)).log()


def _check(vector: Tensor, name: str) -> None:
    if tuple(vector.shape) != (len(NAMES),) or not math.isfinite(float(vector.sum())):
        raise PlaymateError(f"The blendshapes of {name} are no {len(NAMES)} finite numbers; "
                            "take them from mean_blendshapes.")
