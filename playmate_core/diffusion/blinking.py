"""Blinks beside the diffusion model's own.

Blinks are rare and short, and a small network that has learned them from chance draws fewer and shallower ones than its
corpus has: 6 to 10 a minute of 15, half of that in a first window. What is missing is laid in by the plan of
``motion.blinks``, drawn from the take's seed; the model's own, which know the voice, come first and are shut fully.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..motion.blinks import Blink, blink_curve, find_blinks, plan_blinks, usual
from ..motion.eyes import eye_offset, read_eyes
from ..motion.features import FPS

APART = 0.8
"""Seconds from one of the model's own blinks within which none is added."""
REAL = 0.5
"""How far shut the lids must come for a blink that is made whole; less is a look downwards or a flutter."""


class Blinker:
    """For one take, window after window.

    Args:
        rate: planned blinks a minute; those near one of the model's own are left out.
        seed: of the take.
        frames: of the take.
    """

    def __init__(self, rate: float, seed: int, frames: int) -> None:
        self._planned = plan_blinks(frames / FPS, rate, seed)[::-1]
        self._laid: list[Blink] = []
        self._last = -APART

    def __call__(self, expression: Tensor, start: int) -> Tensor:
        """[W, 63] a window's expression from rest, which begins at frame ``start`` -> the same with its blinks."""
        frames, device = len(expression), expression.device
        # On the CPU: read_eyes counts in double precision, which Apple's GPUs lack.
        own = read_eyes(expression.cpu().reshape(frames, -1, 3))[0]
        closure = own.clone()
        found = find_blinks(own, FPS)
        for first, last in found:
            # One that a join cuts is not made deeper: the other half would have to be, too.
            if first > 0 and last < frames:
                closure[first:last] = _whole(own, usual(own, FPS), first, last)
        begin, end = start / FPS, (start + frames) / FPS
        near = [self._last] + [t for first, last in found for t in (begin + first / FPS, begin + last / FPS)]
        while self._planned and self._planned[-1][0] < end:
            blink = self._planned.pop()
            if min(abs(t - side) for t in near for side in (blink[0], blink[3])) >= APART:
                self._laid.append(blink)
        if found:
            self._last = begin + found[-1][1] / FPS
        self._laid = [blink for blink in self._laid if blink[3] + 1 / FPS > begin]
        shut = blink_curve([tuple(t - begin for t in blink) for blink in self._laid], frames, FPS)[:, None]
        closure = closure + (1 - closure).clamp_min(0) * shut
        change = eye_offset(closure - own, torch.zeros(frames, 2))
        return expression + change.reshape(frames, -1).to(device)


def _whole(closure: Tensor, calm: Tensor, first: int, last: int) -> Tensor:
    """[last - first, 2] a blink with lids that meet."""
    part, base = closure[first:last], calm[first:last]
    depth = part.amax(0)
    if float(depth.min()) < REAL:
        return part
    share = ((part - base) / (depth - base).clamp_min(1e-3)).clamp(0.0, 1.0)
    return part + share * (1.0 - depth).clamp_min(0.0)
