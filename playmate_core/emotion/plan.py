"""Emotions chained and combined: a plan has no length until it is sampled over a voice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence, Union

import torch
from torch import Tensor

from ..motion.curves import smoothstep
from ..runtime.errors import PlaymateError
from .curve import EMOTIONS, EmotionCurve, EmotionKey, amounts_at, limited, mixture, read_schedule

COMBINE = ("add", "replace")
"""add: on top of what was planned before. replace: instead of it, as long as the layer lasts."""


@dataclass(frozen=True)
class EmotionLayer:
    """Emotions, and when they count.

    Attributes:
        keys: the emotions at which second, eased in between (``curve.amounts_at``).
        start, end: seconds between which it counts; None for ``start``: from the beginning; for ``end``: for good.
        fade_in: seconds after ``start`` until it counts in full.
        fade_out: seconds before ``end`` from which it wanes. Fades that do not fit in are shortened alike.

    Raises:
        PlaymateError: no keys, a time or fade that is below 0 or no number, an end that is not after the start.
    """

    keys: tuple[EmotionKey, ...]
    start: float | None = None
    end: float | None = None
    fade_in: float = 0.0
    fade_out: float = 0.0

    def __post_init__(self) -> None:
        if not self.keys:
            raise PlaymateError("An emotion layer needs at least one key.")
        for name in ("start", "end", "fade_in", "fade_out"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise PlaymateError(f"The emotion's {name} is {value}; it must be 0 seconds or more.")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise PlaymateError(f"The emotion ends at {self.end:g} s, before it starts at {self.start or 0:g} s; set "
                                "end later, or to 0.")

    @staticmethod
    def held(parts: Sequence[tuple[str, float]], start: float | None = None, end: float | None = None,
             fade_in: float = 0.0, fade_out: float = 0.0) -> EmotionLayer:
        """A mixture of (label, strength) pairs, the same throughout its time.

        Raises:
            PlaymateError: as the class and ``curve.mixture``.
        """
        return EmotionLayer((EmotionKey(0.0, mixture(parts)),), start, end, fade_in, fade_out)

    @staticmethod
    def parse(text: str) -> EmotionLayer:
        """A schedule (``curve.read_schedule``) that counts throughout: its first entry holds from the beginning.

        Raises:
            PlaymateError: as ``curve.read_schedule``.
        """
        return EmotionLayer(read_schedule(text))

    @staticmethod
    def inserted(text: str, end: float | None = None, fade_in: float = 0.0, fade_out: float = 0.0) -> EmotionLayer:
        """A schedule that counts from its first entry on, for ``"replace"``: before it the earlier plan goes on.

        A schedule that starts at 0 seconds is there at once, without a fade.

        Raises:
            PlaymateError: as the class and ``curve.read_schedule``.
        """
        keys = read_schedule(text)
        return EmotionLayer(keys, keys[0].time or None, end, fade_in, fade_out)

    def presence(self, times: Tensor) -> Tensor:
        """[T] seconds -> [T] how much the layer counts, 0 to 1, eased; float64."""
        times = times.double()
        share = torch.ones_like(times)
        fade_in = self.fade_in if self.start is not None else 0.0
        fade_out = self.fade_out if self.end is not None else 0.0
        if self.end is not None:
            fit = min(1.0, (self.end - (self.start or 0.0)) / max(fade_in + fade_out, 1e-9))
            fade_in, fade_out = fade_in * fit, fade_out * fit
            share = share * _risen(self.end - times, fade_out, at_zero=False)
        if self.start is not None:
            share = share * _risen(times - self.start, fade_in, at_zero=True)
        return share


def _risen(since: Tensor, fade: float, at_zero: bool) -> Tensor:
    if fade > 0:
        return smoothstep(since / fade)
    # A frame that lies on the border belongs to what begins there; times are frame numbers over fps, so nearly exact.
    return (since > -1e-6 if at_zero else since > 1e-6).to(since)


@dataclass(frozen=True)
class EmotionPlan:
    """Layers of emotion, each combined with what the ones before it planned.

    Attributes:
        layers: (layer, how it combines: one of ``COMBINE``), bottom first. None at all is neutral.

    Raises:
        PlaymateError: an unknown way to combine.
    """

    layers: tuple[tuple[EmotionLayer, str], ...] = ()

    def __post_init__(self) -> None:
        for _, combine in self.layers:
            if combine not in COMBINE:
                raise PlaymateError(f"Emotions cannot be combined by {combine!r}; choose one of {', '.join(COMBINE)}.")

    @staticmethod
    def parse(text: str) -> EmotionPlan:
        """A plan of one schedule, such as ``happy 0.8`` or ``0.0 neutral; 1.5 happy; 3.0 sad 0.5 + fear 0.5``.

        Raises:
            PlaymateError: as ``curve.read_schedule``.
        """
        return EmotionPlan().then(EmotionLayer.parse(text))

    @staticmethod
    def of(value: Union[EmotionPlan, str, None]) -> EmotionPlan:
        """A plan of whatever may stand for one: itself, a schedule's text, or None for neutral.

        Raises:
            PlaymateError: something else, or a text that cannot be read.
        """
        if value is None or isinstance(value, EmotionPlan):
            return value or EmotionPlan()
        if isinstance(value, str):
            return EmotionPlan.parse(value)
        raise PlaymateError(f"An emotion plan or schedule is needed where {type(value).__name__} was given; "
                            "connect Emotion Control.")

    def then(self, layer: EmotionLayer, combine: str = "add") -> EmotionPlan:
        """This plan with one more layer.

        Args:
            layer: the emotions that are added.
            combine: ``"add"``: its strengths add to those before; where the emotions of a frame come to more than 2
                all are scaled down alike. ``"replace"``: in its time it stands instead of what was before, which
                its fades cross over from and to; outside of its time nothing changes.

        Raises:
            PlaymateError: another ``combine``.
        """
        return EmotionPlan((*self.layers, (layer, combine)))

    def curve(self, frames: int, fps: float = 25.0, start: float = 0.0) -> EmotionCurve:
        """The plan sampled: frame k at ``start`` + k / fps seconds.

        Args:
            frames: how many.
            fps: frames a second; the motion model needs 25.
            start: seconds at the first frame, for motion that is made window by window.

        Raises:
            PlaymateError: an fps that is not above 0.
        """
        if not fps > 0:
            raise PlaymateError(f"Emotion fps is {fps}; it must be above 0.")
        times = start + torch.arange(frames, dtype=torch.float64) / fps
        total = torch.zeros(frames, len(EMOTIONS), dtype=torch.float64)
        for layer, combine in self.layers:
            amounts, share = amounts_at(layer.keys, times), layer.presence(times)[:, None]
            if combine == "add":
                total = limited(total + share * amounts)
            else:
                total = torch.lerp(total, amounts, share)
        return EmotionCurve.from_amounts(total, fps)
