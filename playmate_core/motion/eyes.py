"""Directing the eyes: blinks, lids and gaze, written into the latents of the keypoints that move them.

Latents are read and written along three directions a pair of eyes has: how far its lids are shut, and where it looks,
across and up. The three are independent of each other, so that what a motion has can be measured, kept or replaced.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from .blinks import blink_curve, find_blinks, plan_blinks, usual
from .gaze import GAZE_AXES, GAZE_RANGE, GazeKeyframes, small_saccades
from .pose import pose_offsets
from .types import KEYPOINTS, Motion

BLINK_MODES = ("add", "replace", "keep")
"""add: blinks where the motion has none; replace: the motion's own are taken out first; keep: none are made."""
GAZE_MODES = ("add", "replace")
"""add: the target is counted from wherever the motion looks; replace: the motion's own gaze is taken out first."""

UPPER, LOWER = (11, 15), (13, 16)
"""Keypoints above and below the person's right and left eye."""

SHUT = (0.0130, -0.0026)
"""What shuts a lid: y of UPPER and LOWER, latent units. In the blinks of LivePortrait's template clips eyes go from
open to shut by +0.0145 and -0.0027 on average; its published blink slider moves +0.013 and -0.0039 at -13. Through
the latent bridge this is a change of 0.08 outer-eye distances, which is what open eyes measure."""

LOOK_DOWN = (0.0008, 0.0005)
"""y of UPPER and LOWER for a degree of looking down. The published slider has +0.0005 and +0.00015 a unit; these keep
more of the lower lid, as the templates' most probable latents behind a gaze do (+0.0096 and +0.0050 for 15 degrees),
so that lids follow the eyes instead of closing over them. Through the bridge they turn the eyes by half a degree."""

LOOK_RIGHT = ((0.00035, 0.00050), (0.00050, 0.00035))
"""x of the right and left eye's UPPER for a degree of looking to the picture's right, and to its left: half a unit of
the published slider (SPEC.md appendix A), by which the bridge turns the eyes by 0.84 of a degree."""

EYEBALL = 0.133
"""Radius of an eyeball, outer-eye distances (24 mm across, between corners that are 90 mm apart): a degree is a shift
of the iris by 0.0023."""

DITTO_GAIN = (0.26, 0.28)
"""Ditto holds the gaze with this many units of the published sliders per degree of yaw and pitch (PAPER.md 5.3): in
degrees of the eyes 0.5 of the yaw; of the pitch, whose slider is weaker, less. ``keep_gaze`` 0.5 does about as much."""

WIDEST = -0.35
"""Lids are not opened further than by this share of their opening."""


def read_eyes(expression_offset: Tensor) -> tuple[Tensor, Tensor]:
    """What the eyes do in a motion's latents.

    Args:
        expression_offset: [T, 21, 3] latent offsets from neutral.

    Returns:
        ``(closure [T, 2], gaze [T, 2])``: how far the person's right and left eye are shut (0 as in the neutral face,
        1 shut, below 0 wider); degrees to the right in the picture and up.
    """
    y = torch.stack([expression_offset[:, list(UPPER), 1], expression_offset[:, list(LOWER), 1]], dim=-1)
    basis = torch.tensor([SHUT, LOOK_DOWN], dtype=torch.float64)
    found = (y.double() @ torch.linalg.inv(basis).to(y.device)).float()
    across = expression_offset[:, list(UPPER), 0].mean(dim=1) / (sum(LOOK_RIGHT[0]) / 2)
    return found[..., 0], torch.stack([across, -found[..., 1].mean(dim=1)], dim=1)


def eye_offset(closure: Tensor, gaze: Tensor) -> Tensor:
    """Latents that shut and turn the eyes: the inverse of :func:`read_eyes`.

    Args:
        closure: [T, 2] by how much more the right and left eye are shut.
        gaze: [T, 2] degrees to the right in the picture and up.

    Returns:
        [T, 21, 3] latent offsets, zero but for the eyes' keypoints.
    """
    offset = closure.new_zeros(len(closure), KEYPOINTS, 3)
    for keypoints, shut, down in zip((UPPER, LOWER), SHUT, LOOK_DOWN, strict=True):
        offset[:, list(keypoints), 1] = shut * closure - down * gaze[:, 1:]
    right, left = gaze.new_tensor(LOOK_RIGHT[0]), gaze.new_tensor(LOOK_RIGHT[1])
    offset[:, list(UPPER), 0] = torch.where(gaze[:, :1] > 0, right, left) * gaze[:, :1]
    return offset


def direct_eyes(
    motion: Motion,
    *,
    blink_mode: str = "keep",
    blink_rate: float = 15.0,
    seed: int = 0,
    gaze_mode: str = "add",
    gaze: GazeKeyframes | None = None,
    gaze_style: str = "jump",
    saccades: float = 0.0,
    keep_gaze: float = 0.0,
    openness: float = 1.0,
) -> Motion:
    """Blinks, lids and gaze of a motion; mouth, brows and head are left alone.

    A blink shuts what is still open: on lids that are lowered it goes on from there, on shut ones it does nothing.

    Args:
        motion: T frames.
        blink_mode: one of BLINK_MODES.
        blink_rate: blinks a minute, 0 to 60. With "add" the motion's own count.
        seed: of blinks and saccades; same seed, same eyes.
        gaze_mode: one of GAZE_MODES; concerns the axes that ``gaze`` directs.
        gaze: where to look; None leaves that to the motion.
        gaze_style: "jump" or "glide", see ``gaze.STYLES``.
        saccades: small restless jumps, 0 to 3; 1 is natural.
        keep_gaze: how much of the head's turn and nod the eyes make up for: 0 they turn with it, 1 they stay on the
            viewer, about 0.5 is what speakers do and what Ditto's figures give (see DITTO_GAIN).
        openness: of the lids: 0 shut, 0.5 half, 1 the motion's own, 1.3 wide.

    Returns:
        Motion; the gaze it is given, head's turn and saccades together, is held within GAZE_RANGE.

    Raises:
        PlaymateError: an unknown mode or style, or a number out of its range.
    """
    _check(blink_mode, BLINK_MODES, "blink mode")
    _check(gaze_mode, GAZE_MODES, "gaze mode")
    for name, value, most in (("keep_gaze", keep_gaze, 1.0), ("openness", openness, 1.3)):
        if not 0 <= value <= most:
            raise PlaymateError(f"The eyes' {name} is {value}; give a number from 0 to {most:g}.")
    own_closure, own_gaze = read_eyes(motion.expression_offset)
    device, frames, fps = own_closure.device, len(motion), motion.fps

    closure = own_closure
    blinks = [] if blink_mode == "keep" else find_blinks(own_closure.cpu(), fps)
    if blink_mode == "replace":
        closure, blinks = _without(own_closure, blinks, fps), []
    if openness != 1:
        closure = (1 - openness * (1 - closure)).clamp_min(WIDEST)
    if blink_mode != "keep":
        planned = plan_blinks(frames / fps, blink_rate, seed, [(first / fps, last / fps) for first, last in blinks])
        shut = blink_curve(planned, frames, fps).to(device)[:, None]
        closure = closure + (1 - closure).clamp_min(0) * shut

    look = small_saccades(frames, fps, saccades, seed).to(device)
    taken = torch.zeros_like(own_gaze)
    for axis, (degrees, share) in ({} if gaze is None else gaze.sample(frames, fps, gaze_style)).items():
        column = GAZE_AXES.index(axis)
        look[:, column] += (degrees * share).to(device)
        if gaze_mode == "replace":
            taken[:, column] = own_gaze[:, column] * share.to(device)
    if keep_gaze:
        # Yaw above 0 turns the face to the picture's left, pitch above 0 lowers it: eyes go right, and up.
        look = look + keep_gaze * pose_offsets(motion)[:, [1, 0]].to(device)
    limit = look.new_tensor(GAZE_RANGE)
    change = eye_offset(closure - own_closure, torch.maximum(torch.minimum(look, limit), -limit))
    change = change - eye_offset(torch.zeros_like(closure), taken)
    return replace(motion, expression=torch.where(change != 0, motion.expression + change, motion.expression))


def _without(closure: Tensor, blinks: list[tuple[int, int]], fps: float) -> Tensor:
    """[T, 2] the lids as they were between the blinks."""
    calm, still = usual(closure.cpu(), fps).to(closure.device), closure.clone()
    for first, last in blinks:
        still[first:last] = torch.minimum(closure[first:last], calm[first:last])
    return still


def _check(value: str, options: tuple[str, ...], name: str) -> None:
    if value not in options:
        raise PlaymateError(f"Unknown {name} {value!r}; choose one of {', '.join(options)}.")
