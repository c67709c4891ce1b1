"""Expression by hand: the sliders that users of LivePortrait's editors know, as offsets of the latents."""

from __future__ import annotations

import logging
import math
import numbers
from dataclasses import replace
from typing import Mapping

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .curves import smoothstep
from .types import KEYPOINTS, Motion

log = logging.getLogger(__name__)

SLIDERS: dict[str, tuple[float, float]] = {
    "smile": (-0.3, 1.3),
    "eyebrow": (-10.0, 15.0),
    "blink": (-20.0, 5.0),
    "wink": (0.0, 25.0),
    "pupil_x": (-15.0, 15.0),
    "pupil_y": (-15.0, 15.0),
    "aaa": (-30.0, 120.0),
    "eee": (-20.0, 15.0),
    "woo": (-20.0, 15.0),
}
"""Lowest and highest value of each, as in the expression editor of ComfyUI-AdvancedLivePortrait; 0 is no change.

smile lifts the corners of the mouth; eyebrow above 0 raises, below 0 knits; blink below 0 shuts, above 0 widens; wink
shuts the person's right eye; pupil_x above 0 looks to the picture's right, pupil_y above 0 up; aaa opens the jaw (below
0 presses the lips together), eee widens the mouth, woo rounds it."""

APPLIES = ("whole", "range", "frame")
"""What an edit reaches: the whole motion, from a start to an end, or one frame."""

_X, _Y, _Z = range(3)
_UNIT: dict[str, tuple[tuple[int, int, float], ...]] = {
    "smile": ((20, _Y, -0.01), (14, _Y, -0.02), (17, _Y, 0.0065), (17, _Z, 0.003), (13, _Y, -0.00275),
              (16, _Y, -0.00275), (3, _Y, -0.0035), (7, _Y, -0.0035)),
    "blink": ((11, _Y, -0.001), (13, _Y, 0.0003), (15, _Y, -0.001), (16, _Y, 0.0003)),
    "wink": ((11, _Y, 0.001), (13, _Y, -0.0003), (17, _X, 0.0003), (17, _Y, 0.0003), (3, _Y, -0.0003)),
    # Looking up takes half of its effect on the upper lids back as a blink: -0.001 + 0.0005 and -0.00015.
    "pupil_y": ((11, _Y, -0.0005), (13, _Y, -0.00015), (15, _Y, -0.0005), (16, _Y, -0.00015)),
    "aaa": ((19, _Y, 0.001), (19, _Z, 0.0001), (17, _Y, -0.0001)),
    "eee": ((20, _Z, -0.001), (20, _Y, -0.001), (14, _Y, -0.001)),
    "woo": ((14, _Y, 0.001), (3, _Y, -0.0005), (7, _Y, -0.0005), (17, _Z, -0.0005)),
    "eyebrow raised": ((1, _Y, 0.001), (2, _Y, -0.001)),
    "eyebrow knit": ((1, _X, -0.001), (2, _X, 0.001), (1, _Y, 0.0003), (2, _Y, -0.0003)),
    "pupil_x right": ((11, _X, 0.0007), (15, _X, 0.001)),
    "pupil_x left": ((11, _X, 0.001), (15, _X, 0.0007)),
}
"""(keypoint, axis, latent units per unit of the slider), SPEC.md appendix A."""


def slider_offset(sliders: Mapping[str, float]) -> Tensor:
    """The change of the expression that a set of sliders asks for.

    The effects are LivePortrait's published ones (SPEC.md appendix A) without the head turns that its editors add to
    some of them: the head has its own controls. They add up.

    Args:
        sliders: values by name, see SLIDERS; what is left out is 0. Values beyond a slider's range are held at its
            end, and that is logged as a warning.

    Returns:
        [21, 3] float32, latent units.

    Raises:
        PlaymateError: an unknown slider, or a value that is not a finite number.
    """
    offset, held = torch.zeros(KEYPOINTS, 3), []
    for name, value in sliders.items():
        if name not in SLIDERS:
            raise PlaymateError(f"There is no expression slider {name!r}; choose from {', '.join(SLIDERS)}.")
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise PlaymateError(f"The slider {name} is {value!r}; give a number.")
        low, high = SLIDERS[name]
        amount = min(max(float(value), low), high)
        if amount != value:
            held.append(f"{name} {value:g} to {amount:g}")
        for keypoint, axis, unit in _UNIT[_side(name, amount)]:
            offset[keypoint, axis] += amount * unit
    if held:
        log.warning("Expression sliders held at the end of their range: %s.", "; ".join(held))
    return offset


def envelope(frames: int, fps: float, start: float = 0.0, end: float | None = None, fade: float = 0.0) -> Tensor:
    """How much an edit counts in each frame of a time range.

    Inside the range it rises from 0 to 1 and falls back along an S-curve. A range that ends with the motion (``end``
    None) does not fall; one that is too short for both fades shortens them alike.

    Args:
        frames: of the motion.
        fps: frames a second.
        start: seconds; frames from there on are inside.
        end: seconds; None or beyond the motion: to its end.
        fade: seconds that each fade takes; 0 switches hard.

    Returns:
        [frames] float32, 0 to 1.

    Raises:
        PlaymateError: a negative start or fade, or an end that is not after the start.
    """
    if start < 0 or fade < 0:
        raise PlaymateError(f"An edit cannot start at {start:g} s with a fade of {fade:g} s; give 0 or more.")
    if end is not None and end <= start:
        raise PlaymateError(f"The edit ends at {end:g} s, but it starts at {start:g} s; set its end later.")
    time = torch.arange(frames, dtype=torch.float64) / fps
    # A frame on the border may miss it by a rounding error.
    reached = time + 1e-9
    level = (reached >= start).double()
    rise = min(fade, (end - start) / 2) if end is not None else fade
    if rise > 0:
        level = level * smoothstep((time - start) / rise)
    if end is not None:
        level = level * (reached < end)
        if rise > 0:
            level = level * smoothstep((end - time) / rise)
    return level.float()


def frame_envelope(frames: int, fps: float, frame: int, fade: float = 0.0) -> Tensor:
    """One frame in full, and a rise to it and a fall from it of ``fade`` seconds each.

    Args:
        frames: of the motion.
        fps: frames a second.
        frame: counted from 0; below 0 from the end.
        fade: seconds; 0 leaves the neighbours alone.

    Returns:
        [frames] float32, 0 to 1.

    Raises:
        PlaymateError: the motion has no such frame, or a negative fade.
    """
    if not -frames <= frame < frames:
        raise PlaymateError(f"The motion has {frames} frames, so there is no frame {frame}; "
                            f"choose 0 to {max(frames - 1, 0)}, or below 0 to count from its end.")
    if fade < 0:
        raise PlaymateError(f"A fade of {fade:g} s is not possible; give 0 or more.")
    distance = (torch.arange(frames, dtype=torch.float64) - frame % frames).abs() / fps
    if fade == 0:
        return (distance == 0).float()
    return smoothstep(1 - distance / fade).float()


def edit_expression(motion: Motion, sliders: Mapping[str, float], amount: Tensor | float = 1.0,
                    further: Tensor | None = None) -> Motion:
    """Adds a set of sliders to a motion's expression.

    Args:
        motion: T frames.
        sliders: as for :func:`slider_offset`.
        amount: how much, one number or [T] as from :func:`envelope`.
        further: [21, 3] latent units, a change that was asked for in other terms and comes with the sliders'.

    Returns:
        Motion; frames where the amount is 0 are kept bit for bit.

    Raises:
        PlaymateError: as :func:`slider_offset`, or an amount or further change of another shape.
    """
    offset = slider_offset(sliders)
    if further is not None:
        if tuple(further.shape) != (KEYPOINTS, 3):
            raise PlaymateError(f"A change of the expression has shape {tuple(further.shape)} where "
                                f"{(KEYPOINTS, 3)} is needed.")
        offset = offset + further.to(offset)
    offset = offset.to(motion.expression.device)
    level = torch.as_tensor(amount, dtype=torch.float32, device=offset.device)
    if level.ndim > 1 or (level.ndim == 1 and len(level) != len(motion)):
        raise PlaymateError(
            f"The amount of an edit has shape {tuple(level.shape)}; give one number or one for each of "
            f"{len(motion)} frames.")
    level = level.expand(len(motion))[:, None, None]
    return replace(motion, expression=torch.where(level != 0, motion.expression + level * offset, motion.expression))


def _side(name: str, amount: float) -> str:
    """The two sliders whose way up differs from their way down."""
    if name == "eyebrow":
        return "eyebrow raised" if amount > 0 else "eyebrow knit"
    if name == "pupil_x":
        return "pupil_x right" if amount > 0 else "pupil_x left"
    return name
