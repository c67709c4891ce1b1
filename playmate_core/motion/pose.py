"""Directing the head: another pose in the place of, added to, or mixed with a motion's own."""

from __future__ import annotations

import logging
import math
import numbers
from dataclasses import replace
from typing import Collection, Mapping, Union

import torch
from torch import Tensor

from ..errors import PlaymateError
from .edits import fit_length, rebase, resample, slice_frames
from .geometry import apply_rotation, slerp_degrees
from .keyframes import POSE_AXES, PoseKeyframes
from .types import Motion, Neutral

__all__ = [
    "ANGLES", "MODES", "POSE_AXES", "POSE_LIMITS", "PoseKeyframes", "PoseSource", "override_pose", "pose_offsets",
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

PoseSource = Union[Mapping[str, float], PoseKeyframes, Motion]


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
    mode: str = "replace",
    axes: Collection[str] | None = None,
    amount: float = 1.0,
    limits: Mapping[str, tuple[float, float] | None] | None = None,
    length: str = "constant",
    start: float = 0.0,
) -> Motion:
    """Directs the head of a motion; the face is left alone.

    All poses count from the neutral one, so "yaw=15" is 15 degrees away from where the portrait looks. Angles are
    combined axis by axis, as LivePortrait's own head pose sliders do (SPEC.md appendix A), except that mixing all
    three with another motion follows the sphere. Scale is combined by factors.

    The result is clamped axis by axis, hard: values inside the limits are exact. What is clamped is logged as a
    warning. Axes that are not directed are neither changed nor clamped.

    Args:
        motion: what to direct.
        source: a constant per axis ({"yaw": 10}), keyframes, or a motion whose pose is taken (resampled to the rate
            of ``motion``).
        mode: "replace": the source's pose times ``amount``; "add": the motion's pose plus the source's times
            ``amount``; "mix": ``amount`` of the way from the motion's pose to the source's.
        axes: which of POSE_AXES to direct; None is all that the source has.
        amount: 0 to 1.
        limits: per axis (lowest, highest) relative to neutral, or None for no limit; axes left out keep POSE_LIMITS.
        length: policy for a source motion that is shorter, see ``edits.fit_length``; "cut" shortens the result.
        start: seconds at the first frame, for keyframes over motion that arrives window by window.

    Returns:
        Motion with the neutral frame and the expression of ``motion``.

    Raises:
        PlaymateError: unknown mode, axis or policy, an amount outside 0..1, a constant that is not a finite number, a
            scale that is not above 0, limits the wrong way round, a source without any of the axes or without frames.
    """
    if mode not in MODES:
        raise PlaymateError(f"Unknown pose mode {mode!r}; choose one of {', '.join(MODES)}.")
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

    own, shares = pose_offsets(motion), {}
    if isinstance(source, Motion):
        given = dict(zip(POSE_AXES, pose_offsets(fitted).unbind(1), strict=True))
    elif isinstance(source, PoseKeyframes):
        given = {axis: curve.to(own) for axis, curve in source.sample(len(motion), motion.fps, start).items()}
        shares = {axis: share.to(own) for axis, share in source.presence(len(motion), motion.fps, start).items()}
    else:
        given = {axis: own.new_full((len(motion),), float(value)) for axis, value in source.items()}

    result = own.clone()
    for axis in chosen:
        column = POSE_AXES.index(axis)
        directed = _combine(own[:, column], given[axis], mode, amount, axis == "scale")
        result[:, column] = torch.lerp(own[:, column], directed, shares[axis]) if axis in shares else directed
    if mode == "mix" and isinstance(source, Motion) and all(axis in chosen for axis in ANGLES):
        target = torch.stack([given[axis] for axis in ANGLES], dim=1)
        result[:, :3] = slerp_degrees(own[:, :3], target, own.new_tensor(amount))
    return _with_pose(motion, _clamp(result, chosen, allowed), chosen)


def _combine(own: Tensor, given: Tensor, mode: str, amount: float, factor: bool) -> Tensor:
    if mode == "replace":
        return given**amount if factor else amount * given
    if mode == "add":
        return own * given**amount if factor else own + amount * given
    return own ** (1 - amount) * given**amount if factor else torch.lerp(own, given, amount)


def _clamp(pose: Tensor, axes: Collection[str], limits: Mapping[str, tuple[float, float] | None]) -> Tensor:
    """Columns of ``axes`` held inside their limits, with one warning for all that were not."""
    held, notes = pose.clone(), []
    for axis in axes:
        span, column = limits[axis], POSE_AXES.index(axis)
        if span is None:
            continue
        before = pose[:, column]
        held[:, column] = before.clamp(*span)
        outside = (before < span[0]) | (before > span[1])
        if bool(outside.any()):
            far = before[outside]
            notes.append(
                f"{axis} {far[far.abs().argmax()]:g} to {span[0]:g}..{span[1]:g} in {int(outside.sum())} frames"
            )
    if notes:
        log.warning("Pose limited to what can be drawn: %s.", "; ".join(notes))
    return held


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
    if isinstance(source, PoseKeyframes):
        return tuple(axis for axis in POSE_AXES if axis in source.axes)
    for axis, value in source.items():
        if axis in POSE_AXES and not (isinstance(value, numbers.Real) and math.isfinite(value)):
            raise PlaymateError(f"The pose constant {axis} is {value!r}; give a finite number.")
        if axis == "scale" and value <= 0:
            raise PlaymateError(f"The pose constant scale is {value}; it must be above 0.")
    return _known(source)


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
