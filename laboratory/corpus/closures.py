"""Corrections by phone times, which are exact where a teacher is not: where lips meet, round, part and rest.

A teacher fitted on a few minutes of real speech blurs short events. Engines give the exact time of each phone, so its
event is laid over the teacher's curve, with an approach and a release of about 70 ms (less where a neighbouring sound
is near), as lip closures have in running speech.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playmate_core.evaluation.phones import (
    CLOSED,
    DENTAL_LIP,
    MID,
    OPEN,
    OPEN_ROUND,
    ROUND,
    SILENCE,
    SPREAD,
    Phone,
    merge,
)

from .latents import GAPS, Measures

FPS = 25.0


@dataclass(frozen=True)
class Targets:
    """Measures of the mouth in outer-eye distances, as change from rest.

    Attributes:
        closed: lip gap on p, b, m; slightly pressed, so that a model that softens it still closes.
        labiodental: lip gap on f, v: the lower lip at the teeth.
        open, open_round, mid, spread: least lip gap in the middle of these sounds.
        round, round_open: widest mouth on w, u, sh and on o.
        approach, release: seconds that the lips take to and from an event.
        silence: seconds of silence from which on the mouth rests.
        settle: seconds that the mouth takes to come to rest and to leave it.
    """

    closed: float = -0.008
    labiodental: float = 0.014
    open: float = 0.115
    open_round: float = 0.085
    mid: float = 0.070
    spread: float = 0.035
    round: float = -0.085
    round_open: float = -0.045
    approach: float = 0.075
    release: float = 0.065
    silence: float = 0.15
    settle: float = 0.14


def _ramp(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, a raised cosine between."""
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0.0, 1.0))


def bump(times: np.ndarray, start: float, end: float, approach: float, release: float) -> np.ndarray:
    """[T] weight: 1 from ``start`` to ``end``, raised-cosine flanks of the given lengths (seconds) outside."""
    return _ramp(1.0 + (times - start) / max(approach, 1e-6)) * _ramp(1.0 + (end - times) / max(release, 1e-6))


def envelope(phones: list[Phone], frames: int, kinds, targets: Targets, core: float, least: float) -> np.ndarray:
    """[frames] largest weight of the events of these kinds.

    Args:
        phones: times in seconds.
        frames: at 25 a second; frame t is judged in its middle, (t + 0.5) / 25.
        kinds: classes of :mod:`.phones`.
        targets: for the flanks.
        core: share of the phone that is held fully, 0..1.
        least: seconds held at least; one frame (0.04) makes sure that a frame meets the event.
    """
    times = (np.arange(frames) + 0.5) / FPS
    weight = np.zeros(frames)
    for phone in phones:
        if phone.kind in kinds:
            half = 0.5 * max(core * (phone.end - phone.start), least)
            weight = np.maximum(weight, bump(times, phone.centre - half, phone.centre + half,
                                             targets.approach, targets.release))
    return weight


def resting(phones: list[Phone], frames: int, targets: Targets) -> np.ndarray:
    """[frames] 1 where the mouth rests: in silences longer than ``targets.silence`` and outside the phones."""
    times = (np.arange(frames) + 0.5) / FPS
    end_of_sound = frames / FPS
    speech = [p for p in merge(phones) if p.kind != SILENCE]
    if not speech:
        return np.ones(frames)
    edges = [-10.0] + [t for p in speech for t in (p.start, p.end)] + [end_of_sound + 10.0]
    weight = np.zeros(frames)
    for start, end in zip(edges[0::2], edges[1::2], strict=False):
        if end - start >= targets.silence:
            # The mouth is still moving for a moment after the voice, and opens a little before it.
            settle = min(targets.settle, 0.45 * (end - start))
            weight = np.maximum(weight, bump(times, start + settle, end - 0.7 * settle, settle, 0.7 * settle))
    return weight


def apply_phones(latents: Tensor, phones: list[Phone], measures: Measures, targets: Targets = Targets()) -> Tensor:
    """The teacher's mouth, corrected by the phones.

    Args:
        latents: [T, 63] mouth latents from rest at 25 frames a second.
        phones: with times in seconds of the sound.
        measures: of the bridge that will draw them.
        targets: see :class:`Targets`.

    Returns:
        [T, 63]. Where p, b or m is held ``gap`` equals ``targets.closed``; in silence the latents are zero.
    """
    frames = len(latents)
    phones = merge(phones)

    def weight(kinds, core, least) -> Tensor:
        return torch.from_numpy(envelope(phones, frames, kinds, targets, core, least)).float()

    rest = torch.from_numpy(resting(phones, frames, targets)).float()
    mouth = latents * (1.0 - rest[:, None])
    for kinds, least_gap in (((OPEN,), targets.open), ((OPEN_ROUND,), targets.open_round), ((MID,), targets.mid),
                             ((SPREAD,), targets.spread)):
        lack = (least_gap - measures.read(mouth, "gap")[:, 0]).clamp_min(0.0)
        lift = lack * weight(kinds, 0.3, 0.02) * (1.0 - rest)
        mouth = measures.move(mouth, lift[:, None].expand(-1, 3) * torch.tensor([1.0, 0.75, 0.75]), GAPS, ("width",))
    for kinds, widest in (((ROUND,), targets.round), ((OPEN_ROUND,), targets.round_open)):
        excess = (measures.read(mouth, "width")[:, 0] - widest).clamp_min(0.0)
        mouth = measures.move(mouth, -(0.75 * excess * weight(kinds, 0.5, 0.03))[:, None], ("width",), ("gap",))
    for kinds, gap, hold in (((DENTAL_LIP,), targets.labiodental, ("width", "upper-lip")),
                             ((CLOSED,), targets.closed, ("width",))):
        w = weight(kinds, 0.8, 0.05)[:, None]
        if kinds == (DENTAL_LIP,):
            change = w * (gap - measures.read(mouth, "gap")).clamp_max(0.0)
            mouth = measures.move(mouth, change, ("gap",), hold)
        else:
            mouth = measures.move(mouth, w * (gap - measures.read(mouth, *GAPS)), GAPS, hold)
    return mouth
