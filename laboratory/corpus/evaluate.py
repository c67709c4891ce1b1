"""How well the teacher follows real speakers that it was not fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from . import recipes, teacher
from .latents import Measures
from .tracks import Track


@dataclass(frozen=True)
class Agreement:
    """Of one unseen speaker: correlation of lip gap and width, and the predicted gap's spread against the usual."""

    name: str
    gap: float
    width: float
    amplitude: float


def agreement(taught: teacher.Teacher, track: Track, features: torch.Tensor, measures: Measures) -> Agreement:
    """Compare a teacher with a track that it was not fitted on; ``features`` [T, C] are the track's own."""
    frames = min(len(features), len(track.gap))
    said = measures.read(taught.mouth(features[:frames]), "gap", "width").numpy()
    gap, width = track.gap[:frames].numpy(), track.width[:frames].numpy()
    usual = float(measures.read(recipes.lesson_mouth(track), "gap").std())
    return Agreement(track.name, float(np.corrcoef(said[:, 0], gap)[0, 1]),
                     float(np.corrcoef(said[:, 1], width)[0, 1]), float(said[:, 0].std() / usual))


def leave_speakers_out(lessons: list[teacher.Lesson], tracks: list[Track], measures: Measures, groups: int = 6,
                       **options) -> list[Agreement]:
    """Fit without a group of speakers, ask about them, for every group.

    Args:
        lessons: the first of each speaker is the recording itself.
        tracks: of the same speakers.
        measures: of the bridge.
        groups: of speakers, left out one group at a time.
        options: of :func:`.teacher.fit`.
    """
    names = [track.name for track in tracks]
    found = []
    for group in range(min(groups, len(names))):
        asked = set(names[group::groups])
        taught = teacher.fit([x for x in lessons if x.speaker not in asked], **options)
        for track in tracks:
            if track.name in asked:
                own = next(x for x in lessons if x.speaker == track.name)
                found.append(agreement(taught, track, own.features, measures))
    return found


def median(found: list[Agreement]) -> dict[str, float]:
    """Median of each figure."""
    return {name: float(np.median([getattr(one, name) for one in found])) for name in ("gap", "width", "amplitude")}
