"""Cutting, joining, blending and retiming motion. Nothing here changes its inputs.

Motions count from their own neutral frames, so whatever brings two together first re-bases the second onto the
neutral frame of the first (SPEC.md section 10.1): expression by difference, scale by ratio, rotation by the turn
R R_0^T, translation by difference in sizes of the head. Two motions that share a neutral frame are left bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Sequence, Union

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import smoothstep
from .geometry import apply_rotation, relative_rotation, slerp_degrees
from .regions import EXPRESSION_REGIONS, REGION_KEYPOINTS, REGIONS, check_regions, region_masks
from .resampling import joined, resample
from .smoothing import smooth
from .types import Motion, Neutral

__all__ = [
    "EXPRESSION_REGIONS", "LENGTH_POLICIES", "REGIONS", "REGION_KEYPOINTS", "blend", "concatenate", "continued",
    "fit_length", "keep_regions", "rebase", "region_masks", "resample", "retime", "slice_frames", "slice_seconds",
    "smooth", "still", "with_neutral_lead",
]

LENGTH_POLICIES = ("constant", "cycle", "mirror", "cut")
"""What a shorter motion does at its end: hold the last frame, start again, run backwards, or cut the longer one."""

Weight = Union[float, Tensor]


def slice_frames(motion: Motion, start: int = 0, stop: int | None = None) -> Motion:
    """Frames ``start`` to ``stop`` (not included; None or beyond the end: to the end).

    Raises:
        PlaymateError: start is negative or beyond the end, or stop lies before start.
    """
    stop = len(motion) if stop is None else min(stop, len(motion))
    if not 0 <= start <= len(motion) or stop < start:
        raise PlaymateError(f"Frames {start} to {stop} cannot be cut from a motion of {len(motion)} frames.")
    return _index(motion, torch.arange(start, stop))


def slice_seconds(motion: Motion, start: float = 0.0, end: float | None = None) -> Motion:
    """The frames from ``start`` to ``end`` seconds, to the nearest frame; end None or beyond the end: to the end.

    Raises:
        PlaymateError: as :func:`slice_frames`.
    """
    return slice_frames(motion, round(start * motion.fps), None if end is None else round(end * motion.fps))


def rebase(motion: Motion, neutral: Neutral) -> Motion:
    """The same movement, counted from (and added to) another neutral frame.

    Args:
        motion: any motion.
        neutral: where it shall rest.

    Returns:
        Motion whose ``neutral`` is the given one and whose offsets from it are those that ``motion`` had from its own.
        Where the neutral scales differ, so do the crops in whose halves translation is counted: it is converted, so
        that the head moves by as many of its own sizes as before.
    """
    old, new = motion.neutral, neutral.to(motion.expression.device)
    rotation = motion.rotation
    if not torch.equal(old.rotation, new.rotation):
        rotation = apply_rotation(relative_rotation(rotation, old.rotation), new.rotation)
    return replace(
        motion,
        expression=_shift(motion.expression, old.expression, new.expression),
        rotation=rotation,
        translation=_shift(motion.translation, old.translation, new.translation, new.scale / old.scale),
        scale=motion.scale if torch.equal(old.scale, new.scale) else motion.scale / old.scale * new.scale,
        neutral=new,
    )


def with_neutral_lead(motion: Motion) -> Motion:
    """The motion with its neutral frame put in front, for programs that count from the first frame."""
    n = motion.neutral
    return replace(
        motion,
        expression=torch.cat([n.expression[None], motion.expression]),
        rotation=torch.cat([n.rotation[None], motion.rotation]),
        translation=torch.cat([n.translation[None], motion.translation]),
        scale=torch.cat([n.scale[None], motion.scale]),
    )


def retime(motion: Motion, speed: float = 1.0, seconds: float | None = None) -> Motion:
    """The motion slower or faster, at the same frame rate, curves and rotations as :func:`resample` draws them.

    Args:
        motion: any motion.
        speed: above 0; 2 is twice as fast and half as long.
        seconds: the length to stretch to instead, after the speed; above 0.

    Returns:
        Motion of round(duration / speed * fps) or round(seconds * fps) frames, at least one if there were any.

    Raises:
        PlaymateError: a speed or length that is not above 0, or no frames to stretch.
    """
    if not 0 < speed < float("inf"):
        raise PlaymateError(f"A motion cannot be played at {speed} times its speed; give a number above 0.")
    frames = round(motion.duration / speed * motion.fps)
    if seconds is not None:
        if not 0 < seconds < float("inf"):
            raise PlaymateError(f"A motion cannot be stretched to {seconds} seconds; give a number above 0.")
        if not len(motion):
            raise PlaymateError("A motion without frames cannot be stretched; give one that has frames.")
        frames = round(seconds * motion.fps)
    frames = max(frames, min(len(motion), 1))
    if frames == len(motion):
        return motion
    # Read as if it had been sampled at another rate: the times fit when both last as long.
    stretched = replace(motion, fps=motion.fps * len(motion) / frames)
    return fit_length(resample(stretched, motion.fps), frames)


def fit_length(motion: Motion, frames: int, policy: str = "constant") -> Motion:
    """The motion cut or continued to ``frames`` frames.

    Args:
        motion: at least one frame if it has to be continued.
        frames: wanted length.
        policy: one of LENGTH_POLICIES. "constant" holds the last frame, "cycle" starts again, "mirror" runs
            backwards and forwards without repeating the turning frames, "cut" does not continue: a motion that is
            too short stays as it is. A motion that is too long is cut by all of them.

    Raises:
        PlaymateError: unknown policy, or an empty motion that cannot be continued.
    """
    return _index(motion, continued(len(motion), frames, policy))


def continued(count: int, frames: int, policy: str, what: str = "A motion without frames") -> Tensor:
    """[frames or fewer] which of ``count`` frames to show when: the rule of :func:`fit_length`, for anything."""
    if policy not in LENGTH_POLICIES:
        raise PlaymateError(f"Unknown length policy {policy!r}; choose one of {', '.join(LENGTH_POLICIES)}.")
    index = torch.arange(min(frames, count) if policy == "cut" else frames)
    if len(index) and not count:
        raise PlaymateError(f"{what} cannot be continued; give one that has frames.")
    if policy == "constant":
        index = index.clamp(max=count - 1) if count else index
    elif policy == "cycle":
        index = index % max(count, 1)
    elif policy == "mirror":
        period = max(2 * (count - 1), 1)
        index = index % period
        index = torch.where(index >= count, period - index, index)
    return index


def concatenate(motions: Sequence[Motion], crossfade: int = 0) -> Motion:
    """Motions one after another on the first one's neutral frame and frame rate.

    Args:
        motions: at least one; those at another frame rate are resampled.
        crossfade: frames by which neighbours overlap, fading from one into the next along an S-curve (rotations on
            the sphere). 0 joins hard.

    Returns:
        Motion of sum(lengths) - crossfade * (number of motions - 1) frames.

    Raises:
        PlaymateError: no motions, a negative cross-fade, or a motion shorter than it.
    """
    if not motions:
        raise PlaymateError("There is no motion to concatenate; give at least one.")
    if crossfade < 0:
        raise PlaymateError(f"A cross-fade of {crossfade} frames is not possible; give 0 or more.")
    result = motions[0]
    # Strictly between 0 and 1: the first and last frame of a fade are already part of it.
    ramp = smoothstep(torch.arange(1, crossfade + 1) / (crossfade + 1)).to(result.expression.device)
    for number, motion in enumerate(motions[1:], start=2):
        following = rebase(resample(motion.to(result.expression.device), result.fps), result.neutral)
        shorter = min(len(result), len(following))
        if shorter < crossfade:
            raise PlaymateError(
                f"Motion {number} cannot be joined with a cross-fade of {crossfade} frames: "
                f"one side has only {shorter}; shorten the cross-fade."
            )
        cut = len(result) - crossfade
        parts = [slice_frames(result, 0, cut), slice_frames(following, crossfade)]
        if crossfade:
            weights = {name: ramp for name in REGIONS}
            parts.insert(1, _mix(slice_frames(result, cut), slice_frames(following, 0, crossfade), weights))
        result = joined(parts)
    return result


def blend(a: Motion, b: Motion, weights: Weight | Mapping[str, Weight], length: str = "constant") -> Motion:
    """Goes from ``a`` towards ``b`` by region of the face.

    Each motion's offsets from its own neutral frame are blended and added to ``a``'s neutral frame. Rotations move on
    the sphere, translation and scale in a straight line; they make up the region "pose".

    Args:
        a: gives frame rate and neutral frame, and, unless ``length`` is "cut", the length.
        b: resampled to ``a``'s rate and brought to its length.
        weights: how much of ``b``: one number or [T] tensor for everything, or a mapping from REGIONS to them;
            0 is ``a``, 1 is ``b``. Regions left out stay ``a``'s.
        length: one of LENGTH_POLICIES for a ``b`` shorter than ``a``; "cut" ends with the shorter of the two.

    Returns:
        Motion.

    Raises:
        PlaymateError: unknown region or policy, a weight outside 0..1 or of another length than the result.
    """
    if not isinstance(weights, Mapping):
        weights = {name: weights for name in REGIONS}
    check_regions(weights)
    device = a.expression.device
    b = fit_length(rebase(resample(b.to(device), a.fps), a.neutral), len(a), length)
    a = slice_frames(a, 0, len(b))
    return _mix(a, b, {name: _weight(name, value, len(a)).to(device) for name, value in weights.items()})


def still(motion: Motion) -> Motion:
    """As many frames of ``motion``'s neutral frame."""
    n, frames = motion.neutral, len(motion)
    return replace(
        motion,
        expression=n.expression.expand(frames, -1, -1).clone(),
        rotation=n.rotation.expand(frames, -1).clone(),
        translation=n.translation.expand(frames, -1).clone(),
        scale=n.scale.expand(frames, -1).clone(),
    )


def keep_regions(motion: Motion, amounts: Mapping[str, Weight], background: Motion | None = None,
                 length: str = "constant") -> Motion:
    """Keeps some parts of a motion; the others come from its neutral frame or from another motion.

    Args:
        motion: gives frame rate, neutral frame and, unless ``length`` is "cut", the length.
        amounts: from REGIONS to how much of ``motion`` is kept, 0 to 1, a number or [T]; regions left out are not.
        background: what shows where ``motion`` is not kept; None is rest.
        length: as in :func:`blend`, for a shorter background.

    Raises:
        PlaymateError: as :func:`blend`.
    """
    check_regions(amounts)
    given = {name: 1.0 - torch.as_tensor(amounts.get(name, 0.0), dtype=torch.float32) for name in REGIONS}
    return blend(motion, still(motion) if background is None else background, given, length)


def _mix(a: Motion, b: Motion, weights: Mapping[str, Tensor]) -> Motion:
    """Two motions of equal length and neutral frame; weights [T] by region."""
    field = torch.zeros_like(a.expression)
    for name, mask in region_masks(a.expression.device).items():
        if name in weights:
            field = field + weights[name][:, None, None] * mask
    pose = weights.get("pose", field.new_zeros(len(a)))
    return replace(
        a,
        expression=torch.lerp(a.expression, b.expression, field),
        rotation=slerp_degrees(a.rotation, b.rotation, pose),
        translation=torch.lerp(a.translation, b.translation, pose[:, None].expand(-1, 3)),
        scale=torch.lerp(a.scale, b.scale, pose[:, None]),
    )


def _weight(name: str, value: Weight, frames: int) -> Tensor:
    weight = torch.as_tensor(value, dtype=torch.float32).detach()
    if weight.ndim == 0:
        weight = weight.expand(frames)
    if tuple(weight.shape) != (frames,):
        raise PlaymateError(
            f"The weight of {name} has shape {tuple(weight.shape)}; give one number or one for each of {frames} frames."
        )
    if not bool(((weight >= 0) & (weight <= 1)).all()):
        raise PlaymateError(f"The weight of {name} leaves the range 0 to 1.")
    return weight


def _shift(value: Tensor, old: Tensor, new: Tensor, factor: Tensor | float = 1.0) -> Tensor:
    same = torch.equal(old, new) and bool(torch.as_tensor(factor == 1.0).all())
    return value if same else (value - old) * factor + new


def _index(motion: Motion, index: Tensor) -> Motion:
    index = index.to(motion.expression.device)
    return replace(
        motion, expression=motion.expression[index], rotation=motion.rotation[index],
        translation=motion.translation[index], scale=motion.scale[index],
    )
