"""Directing the head: another pose in the place of, added to, or mixed with a motion's own."""

from __future__ import annotations

import logging
import math
import numbers
import re
from dataclasses import replace
from typing import Callable, Collection, Mapping, Sequence, Union

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .edits import LENGTH_POLICIES, continued, fit_length, rebase, resample, slice_frames
from .geometry import apply_rotation, slerp_degrees
from .keyframes import EASINGS, POSE_AXES, PoseKeyframes
from .presets import PRESETS, PosePreset
from .schedule import plain
from .types import Motion, Neutral

__all__ = [
    "ANGLES", "EASINGS", "MODES", "POSE_AXES", "POSE_LIMITS", "PRESETS", "PoseKeyframes", "PosePreset", "PoseSource",
    "override_pose", "parse_axes", "pose_offsets",
]

log = logging.getLogger(__name__)

ANGLES = ("pitch", "yaw", "roll")
MODES = ("replace", "add", "mix")

POSE_LIMITS: dict[str, tuple[float, float]] = {
    "pitch": (-20.0, 20.0),
    "yaw": (-25.0, 25.0),
    "roll": (-20.0, 20.0),
    "x": (-0.25, 0.25),
    "y": (-0.25, 0.25),
    "scale": (0.75, 1.35),
}
"""How far from the neutral pose a renderer is asked to go. Angles: what the landmark renderer draws without folds.
Translation and scale: just beyond what LivePortrait's own templates reach (SPEC.md section 8)."""

ROUNDING = 1e-4
"""Beyond a limit by so little nothing needs to be said: a value at the limit that was rounded on its way."""

FAR = 70.0
"""Powers of e beyond which a small amount's reach is cut: float32 ends soon after."""

Values = Union[float, Sequence[float], Tensor]
"""A number, or one for each frame."""

PoseSource = Union[Mapping[str, Values], PoseKeyframes, PosePreset, Motion]


def pose_offsets(motion: Motion) -> Tensor:
    """Pose relative to the motion's neutral frame.

    Args:
        motion: T frames.

    Returns:
        [T, 6] in the order of POSE_AXES: pitch, yaw, roll in degrees, x and y by difference for a neutral scale of
            1 (see ``edits.rebase``), scale by ratio.
    """
    moved = rebase(motion, Neutral.rest())
    return torch.cat([moved.rotation, moved.translation[:, :2], moved.scale], dim=1)


def override_pose(
    motion: Motion,
    source: PoseSource,
    mode: str | Mapping[str, str] = "replace",
    axes: Collection[str] | None = None,
    amount: float = 1.0,
    limits: Mapping[str, tuple[float, float] | None] | None = None,
    length: str = "constant",
    start: float = 0.0,
    notify: Callable[[str], None] = log.warning,
) -> Motion:
    """Directs the head of a motion; the face is left alone.

    All poses count from the neutral one, so "yaw=15" is 15 degrees away from where the portrait looks. Angles are
    combined axis by axis, as LivePortrait's own head pose sliders do (SPEC.md appendix A), except that mixing all
    three with another motion follows the sphere. Scale is combined by factors.

    What is beyond the limits is held at them, axis by axis: first what is given, before anything is interpolated
    between keyframes or mixed, so that a head that is sent too far arrives at the limit in time instead of early; then
    the result. Values inside the limits are exact. Axes that are not directed are neither changed nor held.

    Args:
        motion: what to direct.
        source: per axis a constant or one value a frame ({"yaw": 10, "pitch": [0, 1, 2]}), keyframes, a preset, or a
            motion whose pose is taken (resampled to the rate of ``motion``).
        mode: "replace": the source's pose times ``amount``; "add": the motion's pose plus the source's times
            ``amount``; "mix": ``amount`` of the way from the motion's pose to the source's. Or a mode for each axis;
            those left out are replaced.
        axes: which of POSE_AXES to direct; None is all that the source has.
        amount: 0 to 1.
        limits: per axis (lowest, highest) relative to neutral, or None for no limit; axes left out keep POSE_LIMITS.
        length: policy for a source motion or a list of values that is shorter, see ``edits.fit_length``; "cut"
            shortens the result.
        start: seconds at the first frame, for keyframes, presets and lists over motion that arrives window by window.
        notify: gets a sentence about what had to be held at the limits.

    Returns:
        Motion with the neutral frame and the expression of ``motion``.

    Raises:
        PlaymateError: unknown mode, axis or policy, an amount outside 0..1, a value that is not a finite number, an
            empty list of values, a scale that is not above 0, limits the wrong way round, a source without any of the
            axes or without frames.
    """
    modes = _modes(mode)
    if length not in LENGTH_POLICIES:
        raise PlaymateError(f"Unknown length policy {length!r}; choose one of {', '.join(LENGTH_POLICIES)}.")
    if not 0 <= amount <= 1:
        raise PlaymateError(f"The pose amount is {amount}; give a number from 0 to 1.")
    allowed = _limits(limits)
    if isinstance(source, Motion):
        fitted = fit_length(resample(source.to(motion.expression.device), motion.fps), len(motion), length)
        motion = slice_frames(motion, 0, len(fitted))
    available = _axes(source)
    chosen = available if axes is None else _known(axes)
    chosen = tuple(axis for axis in available if axis in chosen)
    if not chosen:
        wanted = "any axis" if axes is None else ", ".join(axes) or "no axis"
        raise PlaymateError(f"The pose source has {', '.join(available) or 'no axis'} but {wanted} shall be directed.")

    if isinstance(source, Mapping):
        listed = {axis: value for axis in chosen if (value := _values(axis, source[axis])).ndim}
        skipped = round(start * motion.fps)
        places = {axis: continued(len(value), skipped + len(motion), length, f"The pose list {axis}")[skipped:]
                  for axis, value in listed.items()}
        motion = slice_frames(motion, 0, min([len(motion), *(len(place) for place in places.values())]))
    own, shares, notes = pose_offsets(motion), {}, []
    reach = {axis: _reach(allowed[axis], modes[axis], amount, axis == "scale") for axis in chosen}
    if isinstance(source, Motion):
        given = dict(zip(POSE_AXES, pose_offsets(fitted).unbind(1), strict=True))
    elif isinstance(source, PosePreset):
        given = {axis: curve.to(own) for axis, curve in source.sample(len(motion), motion.fps, start).items()}
    elif isinstance(source, PoseKeyframes):
        source, notes = source.limited(reach)
        given = {axis: curve.to(own) for axis, curve in source.sample(len(motion), motion.fps, start).items()}
        shares = {axis: share.to(own) for axis, share in source.presence(len(motion), motion.fps, start).items()}
    else:
        wanted = {axis: listed[axis][places[axis][:len(motion)]].to(own) if axis in listed
                  else own.new_full((len(motion),), float(source[axis])) for axis in chosen}
        given = {axis: _held(axis, values, reach[axis], notes) for axis, values in wanted.items()}

    result = own.clone()
    for axis in chosen:
        column = POSE_AXES.index(axis)
        directed = _combine(own[:, column], given[axis], modes[axis], amount, axis == "scale")
        result[:, column] = torch.lerp(own[:, column], directed, shares[axis]) if axis in shares else directed
    if isinstance(source, Motion) and all(axis in chosen and modes[axis] == "mix" for axis in ANGLES):
        target = torch.stack([given[axis] for axis in ANGLES], dim=1)
        result[:, :3] = slerp_degrees(own[:, :3], target, own.new_tensor(amount))
    for axis in chosen:
        column = POSE_AXES.index(axis)
        result[:, column] = _held(axis, result[:, column], allowed[axis], notes)
    if notes:
        notify(f"The pose goes further than can be drawn and is held at the limit: {'; '.join(notes)}.")
    return _with_pose(motion, result, chosen)


def _combine(own: Tensor, given: Tensor, mode: str, amount: float, factor: bool) -> Tensor:
    if mode == "replace":
        return given**amount if factor else amount * given
    if mode == "add":
        return own * given**amount if factor else own + amount * given
    return own ** (1 - amount) * given**amount if factor else torch.lerp(own, given, amount)


def _reach(span: tuple[float, float] | None, mode: str, amount: float, factor: bool) -> tuple[float, float] | None:
    """How far a source's own values may go so that, by themselves, they end inside ``span``; None for any distance."""
    if span is None or mode == "mix":
        return span
    if amount == 0:
        return None
    if factor:
        low, high = (math.exp(min(max(math.log(max(end, 1e-30)) / amount, -FAR), FAR)) for end in span)
        return low, high
    return span[0] / max(amount, 1e-30), span[1] / max(amount, 1e-30)


def _held(axis: str, values: Tensor, span: tuple[float, float] | None, notes: list[str]) -> Tensor:
    """[T] values inside ``span``; ``notes`` gets one about those that were not."""
    if span is None:
        return values
    outside = (values < span[0] - ROUNDING) | (values > span[1] + ROUNDING)
    if bool(outside.any()):
        far, count = values[outside], int(outside.sum())
        notes.append(f"{axis} {float(far[far.abs().argmax()]):g} to {span[0]:g}..{span[1]:g} in {count} "
                     f"frame{'s' if count > 1 else ''}")
    return values.clamp(*span)


def _with_pose(motion: Motion, pose: Tensor, axes: Collection[str]) -> Motion:
    """Only what ``axes`` name is written back, so that the rest stays bit for bit."""
    changes: dict[str, Tensor] = {}
    neutral = motion.neutral
    if any(axis in axes for axis in ANGLES):
        still = not bool(neutral.rotation.any())
        changes["rotation"] = pose[:, :3] if still else apply_rotation(pose[:, :3], neutral.rotation)
    translation = motion.translation.clone()
    for column, axis in enumerate(("x", "y")):
        if axis in axes:
            translation[:, column] = pose[:, 3 + column] * neutral.scale + neutral.translation[column]
    changes["translation"] = translation
    if "scale" in axes:
        changes["scale"] = pose[:, 5:] * neutral.scale
    return replace(motion, **changes)


def _axes(source: PoseSource) -> tuple[str, ...]:
    if isinstance(source, Motion):
        return POSE_AXES
    if isinstance(source, (PoseKeyframes, PosePreset)):
        return tuple(axis for axis in POSE_AXES if axis in source.axes)
    for axis, value in source.items():
        if axis in POSE_AXES:
            _values(axis, value)
    return _known(source)


def _values(axis: str, value: Values) -> Tensor:
    """A number as a float64 scalar tensor, numbers for each frame as [N].

    Raises:
        PlaymateError: something else, or numbers that no pose can have.
    """
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise PlaymateError(f"The pose constant {axis} is {value!r}; give a finite number.")
        if axis == "scale" and value <= 0:
            raise PlaymateError(f"The pose constant scale is {value}; it must be above 0.")
        return torch.tensor(float(value), dtype=torch.float64)
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        found = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise PlaymateError(f"The pose constant {axis} is {shown}; give a finite number or a list of them.") from error
    if not found.numel():
        raise PlaymateError(f"The list of values for {axis} is empty; give one number for each frame.")
    found = found.reshape(-1)
    bad = ~torch.isfinite(found) | ((found <= 0) if axis == "scale" else torch.zeros_like(found, dtype=torch.bool))
    if bool(bad.any()):
        wanted = "finite numbers above 0" if axis == "scale" else "finite numbers"
        place = int(bad.nonzero()[0])
        raise PlaymateError(f"Value {place} of the list for {axis} is {float(found[place])}; give {wanted}.")
    return found


def _modes(mode: str | Mapping[str, str]) -> dict[str, str]:
    """The mode of every axis."""
    modes = dict.fromkeys(POSE_AXES, mode) if isinstance(mode, str) else dict.fromkeys(POSE_AXES, "replace")
    if not isinstance(mode, str):
        _known(mode)
        modes.update(mode)
    for value in modes.values():
        if value not in MODES:
            raise PlaymateError(f"Unknown pose mode {value!r}; choose one of {', '.join(MODES)}.")
    return modes


def parse_axes(text: str, mode: str = "replace") -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """Axes as text, each with a mode of its own if wanted: ``"yaw, pitch=add, roll=mix"``.

    Args:
        text: names separated by spaces, commas, semicolons or plus signs; empty is all.
        mode: of the axes that name none.

    Returns:
        (the axes, None for all that the source has; the mode of every axis).

    Raises:
        PlaymateError: an unknown axis or mode.
    """
    modes, named = dict.fromkeys(POSE_AXES, mode), []
    for word in re.split(r"[\s,;+]+", re.sub(r"\s*[=:]\s*", "=", plain(text).strip().lower())):
        if not word:
            continue
        axis, equals, own = word.partition("=")
        if axis not in POSE_AXES:
            raise PlaymateError(f"axes names {axis!r}; choose from {', '.join(POSE_AXES)}.")
        if equals and own not in MODES:
            raise PlaymateError(f"axes asks for {axis} by {own!r}; the modes are {', '.join(MODES)}.")
        named.append(axis)
        if equals:
            modes[axis] = own
    return tuple(named) or None, modes


def _known(axes: Collection[str]) -> tuple[str, ...]:
    for axis in axes:
        if axis not in POSE_AXES:
            raise PlaymateError(f"There is no pose axis {axis!r}; choose from {', '.join(POSE_AXES)}.")
    return tuple(axis for axis in POSE_AXES if axis in axes)


def _limits(given: Mapping[str, tuple[float, float] | None] | None) -> dict[str, tuple[float, float] | None]:
    limits: dict[str, tuple[float, float] | None] = dict(POSE_LIMITS)
    for axis, span in (given or {}).items():
        _known([axis])
        if span is not None and not span[0] <= span[1]:
            raise PlaymateError(f"The limits of {axis} are {span[0]} to {span[1]}; the lower one must come first.")
        limits[axis] = span
    return limits
