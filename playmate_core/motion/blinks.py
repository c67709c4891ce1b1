"""When people blink, and how their lids move meanwhile."""

from __future__ import annotations

import math
import random
from typing import Sequence

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import smoothstep

MAX_RATE = 60.0
"""Blinks a minute: 4 to 20 is usual, a nervous speaker reaches 40."""

FIRST = 0.3
"""No blink begins earlier, seconds: a viewer first needs to see the eyes."""
DOUBLE = 0.08
"""Share of blinks that are followed at once by another."""
SPREAD = 0.65
"""Standard deviation of the logarithm of the pause between two blinks: pauses are skewed, with some long ones."""
CLOSING, SHUT, OPENING = (0.06, 0.10), (0.01, 0.05), (0.12, 0.24)
"""Seconds that lids take, lowest and highest: they fall fast and rise at less than half that speed, 0.19 to 0.39 s in
all. In between every length is as likely."""
APART = 0.12
"""Seconds between the end of one blink and the begin of the next, at least."""

_LENGTH = CLOSING[1] + SHUT[1] + OPENING[1]
Blink = tuple[float, float, float, float]
"""Begin, shut, opens, open again: seconds."""


def plan_blinks(duration: float, rate: float, seed: int = 0,
                existing: Sequence[tuple[float, float]] = ()) -> list[Blink]:
    """Natural blinks over a stretch of time.

    Pauses are log-normal with the mean that the rate asks for; the first is cut at a random point, as when a camera is
    switched on. Blinks that are there already count: the next pause begins after them, and none is laid on them.

    Args:
        duration: seconds; every blink ends within them.
        rate: blinks a minute, 0 to MAX_RATE.
        seed: same seed, same blinks; a longer duration only adds some at its end.
        existing: (begin, end) of blinks that are there, seconds.

    Returns:
        Blinks in order of time.

    Raises:
        PlaymateError: a rate out of range.
    """
    if not 0 <= rate <= MAX_RATE:
        raise PlaymateError(f"The blink rate is {rate:g} a minute; give 0 to {MAX_RATE:g}.")
    if rate == 0:
        return []
    draw = random.Random(int(seed))
    mean = 60.0 / rate * (1 + DOUBLE)
    busy = sorted(existing)
    planned: list[Blink] = []
    at = max(FIRST, draw.random() * _pause(draw, mean))
    while at < duration:
        blink = _blink(draw, at)
        double = draw.random() < DOUBLE
        pause = 0.1 + 0.15 * draw.random() if double else _pause(draw, mean)
        near = [end for begin, end in busy if begin < blink[3] + APART and end + APART > blink[0]]
        if near:
            # Somebody else's blink stands here; after it the pause is drawn anew, so that the rate does not double.
            at = max(near) + max(pause, APART)
            continue
        if blink[3] <= duration:
            planned.append(blink)
        at = blink[3] + pause
    return planned


def blink_curve(blinks: Sequence[Blink], frames: int, fps: float) -> Tensor:
    """How far the blinks shut the lids in each frame.

    A blink is moved by less than a frame so that its lids are shut on one: none is missed between two frames.

    Args:
        blinks: as from :func:`plan_blinks`.
        frames: how many.
        fps: frames a second.

    Returns:
        [frames] float32, 0 open to 1 shut.
    """
    time = torch.arange(frames, dtype=torch.float64) / fps
    curve = torch.zeros(frames, dtype=torch.float64)
    for begin, shut, opens, end in blinks:
        late = round(shut * fps) / fps - shut
        falls = smoothstep((time - begin - late) / (shut - begin))
        # Lids start up briskly and arrive slowly.
        rises = smoothstep(((time - opens - late) / (end - opens)).clamp(0, 1) ** 0.8)
        curve = torch.maximum(curve, falls * (1 - rises))
    return curve.float()


def find_blinks(closure: Tensor, fps: float, depth: float = 0.35) -> list[tuple[int, int]]:
    """Blinks that a motion has: brief closings of both eyes, from lids that are more open before and after.

    Eyes that stay shut or narrowed for a second or more are no blink.

    Args:
        closure: [T, 2] how far each eye is shut, 0 to 1.
        fps: frames a second.
        depth: how much further than usual lids must come down.

    Returns:
        (first, last + 1) frame of each.
    """
    if not len(closure):
        return []
    excess = (closure - usual(closure, fps)).amin(dim=1)
    found, first = [], None
    for frame, moving in enumerate([*(excess > 0.02).tolist(), False]):
        if moving and first is None:
            first = frame
        elif not moving and first is not None:
            if float(excess[first:frame].max()) > depth:
                found.append((first, frame))
            first = None
    return found


def usual(closure: Tensor, fps: float) -> Tensor:
    """[T, C] running median over two seconds: the lids without their blinks."""
    reach = max(1, round(fps))
    padded = torch.cat([closure[:1].expand(reach, -1), closure, closure[-1:].expand(reach, -1)])
    return padded.unfold(0, 2 * reach + 1, 1).median(dim=-1).values


def _pause(draw: random.Random, mean: float) -> float:
    """Seconds between blinks, log-normal about ``mean`` (which counts from begin to begin), never endless."""
    free = max(mean - 0.27, APART)
    pause = draw.lognormvariate(math.log(free) - SPREAD**2 / 2, SPREAD)
    return min(max(pause, APART), 4 * free)


def _blink(draw: random.Random, begin: float) -> Blink:
    shut = begin + draw.uniform(*CLOSING)
    opens = shut + draw.uniform(*SHUT)
    return begin, shut, opens, opens + draw.uniform(*OPENING)
