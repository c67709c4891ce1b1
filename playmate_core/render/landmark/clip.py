"""A Motion on one portrait: the movement of the head and of every landmark, frame by frame, in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...motion.geometry import quaternion_from_degrees, quaternion_multiply, relative_rotation
from ...motion.types import Motion
from . import expression
from .head import HeadFrame
from .obedience import Response
from .warp import Pose

FREE_VIEW = (26.0, 34.0)
"""Pitch and yaw from a frontal view, degrees, up to which heads turn as asked."""
EASED_VIEW = (8.0, 5.0)
"""How much further pitch and yaw ease off, at most. Beyond 40 degrees the far side of nose and mouth, which a true head
would hide, is squeezed to a line in the open."""


@dataclass(frozen=True)
class Clip:
    """Everything about T frames but their pictures.

    Attributes:
        landmarks: [T, 478, 3] displacement before the head turns, picture's axes, pixels.
        pose: the head's movement.
        shut: [T, 2] how far each eye is shut.
        gaze: [T, 2, 2] shift of each iris, head's axes, outer-eye distances.
        jaw: [T, 2] movement of the lower teeth from the closed mouth, head's axes, outer-eye distances.
        speaks: the clip animates the mouth.
        moves: [T] whether anything in the frame differs from the portrait.
    """

    landmarks: Tensor
    pose: Pose
    shut: Tensor
    gaze: Tensor
    jaw: Tensor
    speaks: bool
    moves: Tensor

    def __getitem__(self, frames: slice) -> Clip:
        return Clip(self.landmarks[frames], self.pose[frames], self.shut[frames], self.gaze[frames], self.jaw[frames],
                    self.speaks, self.moves[frames])

    def to(self, device) -> Clip:
        return Clip(self.landmarks.to(device), self.pose.to(device), self.shut.to(device), self.gaze.to(device),
                    self.jaw.to(device), self.speaks, self.moves.to(device))


@dataclass(frozen=True)
class Plan:
    """What must be the same in every frame of a clip, so that clips can be drawn piece by piece.

    Attributes:
        speaks: the clip animates the mouth.
        reach: how far beyond the head its movement fades, outer-eye distances.
        closes: the portrait's own mouth opening is taken out.
    """

    speaks: bool
    reach: float
    closes: bool = True


def plan(motion: Motion, bridge, frame: HeadFrame, response: Response | None = None) -> Plan:
    """Looks a whole motion through in pieces: memory does not grow with its length."""
    motion = motion.to("cpu")
    offsets = motion.expression_offset
    speaks, least, most = False, [], []
    for start in range(0, len(offsets), 256):
        displacement = bridge.displacement(offsets[start:start + 256]).cpu()
        speaks = speaks or expression.mouth_moves(displacement)
        parted = expression.parting(displacement)
        least.append(parted.amin(0))
        most.append(parted.amax(0))
    held = bool(least) and expression.is_held(torch.stack(least).amin(0), torch.stack(most).amax(0))
    # The crown lies about 1.6 outer-eye distances from the centre of turns; a smooth fall from 1 to 0 over a width w
    # is 1.5 / w steep at most, so 2.4 times the largest shift leaves creases far away.
    pose = head_movement(motion, bridge, frame, response)
    shift = pose.shift.norm(dim=-1) / pose.size + (pose.scale - 1).abs() * 1.6
    reach = float((pose.turn.norm(dim=-1) * 1.6 + shift).max()) * 2.4 if len(motion) else 0.0
    return Plan(speaks, reach, speaks and not held)


def _rotation_vector(quaternion: Tensor) -> Tensor:
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return torch.where(sine > 1e-12, quaternion[..., 1:] / sine.clamp_min(1e-12) * angle, torch.zeros_like(sine))


def _within_view(angles: Tensor, own: Tensor) -> Tensor:
    """Pitch, yaw and roll [T, 3] degrees of the head, eased off where it would turn its far side to the viewer.

    A face seen from 26 degrees cannot be turned by 25 more: its far side is not in the picture. Angles within
    ``FREE_VIEW`` of a frontal view, or nearer to it than the portrait's ``own`` [3], pass unchanged.
    """
    out = angles.clone()
    for axis, (free, more) in enumerate(zip(FREE_VIEW, EASED_VIEW, strict=True)):
        free, total = max(free, abs(float(own[axis]))), angles[:, axis]
        eased = total.sign() * (free + more * torch.tanh((total.abs() - free) / more))
        out[:, axis] = torch.where(total.abs() > free, eased, total)
    return out


def requested_turn(motion: Motion) -> Tensor:
    """[T, 3] degrees: pitch, yaw, roll relative to the neutral frame, exactly zero where both are the same."""
    neutral = motion.neutral.rotation
    relative = relative_rotation(motion.rotation, neutral) if bool(neutral.any()) else motion.rotation
    return torch.where((motion.rotation == neutral).all(-1, keepdim=True), torch.zeros_like(relative), relative)


def head_movement(motion: Motion, bridge, frame: HeadFrame, response: Response | None = None) -> Pose:
    """Where the head turns, and how far it shifts.

    The angles count on top of the portrait's own, axis by axis, as LivePortrait's head pose sliders do (SPEC.md
    appendix A): "yaw 15" is 15 degrees more yaw and nothing else, however the portrait is tilted. On a frontal
    portrait that is the composition of rotations of SPEC.md 10.1.

    Args:
        response: what the portrait makes of a turn, if it was tested; see obedience.py.
    """
    neutral, own = motion.neutral, frame.angles()
    asked = requested_turn(motion)
    turns = asked.double() if response is None else response.turn(asked.double())
    angles = _within_view(own + turns, own)
    still = quaternion_from_degrees(own) * torch.tensor([1.0, -1.0, -1.0, -1.0])
    turned = quaternion_multiply(quaternion_from_degrees(angles), still.expand(len(motion), 4))
    vector = torch.where((asked == 0).all(-1, keepdim=True), 0.0, _rotation_vector(turned)).float()
    shift = bridge.head_shift(motion.translation - neutral.translation, neutral.scale)
    return Pose(vector, shift * frame.size, motion.scale[:, 0] / neutral.scale[0],
                torch.from_numpy(frame.pivot).float(), frame.size)


def perform(motion: Motion, bridge, frame: HeadFrame, shape: expression.FaceShape, speaks: bool,
            response: Response | None = None, closes: bool | None = None) -> Clip:
    """What ``motion`` does to the portrait; computed on the CPU, whose arithmetic is the same everywhere.

    Args:
        speaks, closes: see :class:`Plan`; what speaks closes unless told otherwise.
    """
    motion = motion.to("cpu")
    raw = bridge.displacement(motion.expression_offset).cpu()
    shut = expression.closure(raw, shape)
    adapted = expression.adapt(raw, shape, shut, close_mouth=speaks if closes is None else closes)
    pose = head_movement(motion, bridge, frame, response)
    jaw = expression.jaw(raw, shape)
    axes = torch.from_numpy(frame.rotation).float()
    pixels = adapted @ axes.T * frame.size
    gaze = expression.gaze(raw, shape)
    moves = ((pixels.abs().amax((1, 2)) > 0) | (pose.turn.abs().amax(1) > 0) | (pose.shift.abs().amax(1) > 0)
             | (pose.scale != 1))
    return Clip(pixels, pose, shut, gaze, jaw, speaks, moves)
