"""How well a head obeys: angles tracked on finished frames against the angles that were asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Callable

import torch
from torch import Tensor

from ..face.geometry import head_pose
from ..face.transform import facial_angles, head_angles
from ..motion.edits import resample
from ..motion.keyframes import PoseKeyframes
from ..motion.pose import ANGLES, pose_offsets
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from .lips import correlation
from .tracking import FaceTrack

LEAST_MOVEMENT = 0.1
"""Degrees, standard deviation: a request that moves less has no correlation to speak of."""


READERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "pose": head_angles,
    "pose_by_facial_matrix": facial_angles,
    "pose_by_head_pose": lambda landmarks, size: head_pose(landmarks),
}
"""Readings of a head's angles from landmarks [..., 478, 3] in a picture of (height, width): the mean of a perspective
and a parallel one, MediaPipe's facial transformation matrix, and ``geometry.head_pose``. They err apart, so what all
agree on is the head's."""


@dataclass(frozen=True)
class AxisError:
    """One axis of a head's pose against the requested one.

    Attributes:
        correlation: Pearson's r, NaN where one of them does not move (``LEAST_MOVEMENT``).
        error: mean absolute difference after each clip's mean is removed, degrees: the pace and reach of the
            movement, whatever way the portrait looked to begin with.
        raw_error: mean absolute difference as it is, degrees.
        gain: slope of the tracked angle over the requested one; below 1 the head turns less than asked.
        frames: how many were compared.
    """

    correlation: float
    error: float
    raw_error: float
    gain: float
    frames: int

    def as_dict(self) -> dict[str, float]:
        """Plain numbers by name."""
        return asdict(self)


def tracked_angles(track: FaceTrack, reader: str = "pose") -> Tensor:
    """[T, 3] degrees by one of ``READERS``; the track's own where its pictures' size is not known.

    Frames without a face are NaN.
    """
    if not all(track.size):
        return track.rotation
    angles = torch.full((len(track), 3), float("nan"))
    if bool(track.valid.any()):
        angles[track.valid] = READERS[reader](track.landmarks[track.valid], track.size)
    return angles


def requested_angles(request: Motion | PoseKeyframes | str, frames: int, fps: float) -> Tensor:
    """What was asked for, frame by frame.

    Args:
        request: a motion (its pose counted from its neutral frame), keyframes or their text.
        frames, fps: of the video.

    Returns:
        [frames, 3] degrees pitch, yaw, roll from the portrait's own pose; NaN for axes that the request does not name
        (or not yet) and beyond a motion's end.
    """
    wanted = torch.full((frames, 3), float("nan"))
    if isinstance(request, Motion):
        angles = pose_offsets(resample(request, fps))[:frames, :3].cpu()
        wanted[:len(angles)] = angles
        return wanted
    if isinstance(request, str):
        request = PoseKeyframes.parse(request)
    counts = request.presence(frames, fps)
    for axis, curve in request.sample(frames, fps).items():
        if axis in ANGLES:
            # Where an axis is still being eased in, the head also does what nobody asked for.
            wanted[:, ANGLES.index(axis)] = torch.where(counts[axis] >= 1, curve.float(), float("nan"))
    return wanted


def on_base(asked: Tensor, base: Tensor | None) -> Tensor:
    """Requested angles [T, 3] degrees on top of the portrait's own pose [3], axis by axis as the renderer adds them
    (SPEC.md appendix A)."""
    return asked if base is None else asked + base.to(asked)


def pose_error(track: FaceTrack | Tensor, requested: Tensor, base: Tensor | None = None) -> dict[str, AxisError]:
    """Tracked head angles against requested ones, axis by axis.

    Args:
        track: a track or its rotation [T, 3] degrees; frames that are not finite are left out.
        requested: [T', 3] degrees; the shorter of the two counts. An axis that is NaN throughout is not reported.
        base: [3] degrees: the portrait's own tracked pose. With it the raw error compares the request on top of that
            pose, not the request alone.

    Returns:
        By the name of each axis.

    Raises:
        PlaymateError: other shapes.
    """
    rotation = track.rotation if isinstance(track, FaceTrack) else track
    for name, value in (("tracked", rotation), ("requested", requested)):
        if value.ndim != 2 or value.shape[1] != 3:
            raise PlaymateError(f"The {name} angles have shape {tuple(value.shape)} where [frames, 3] is needed.")
    length = min(len(rotation), len(requested))
    tracked, asked = rotation[:length].double().cpu(), requested[:length].double().cpu()
    named = torch.isfinite(asked)
    asked = on_base(asked, base)
    report = {}
    for column, axis in enumerate(ANGLES):
        both = named[:, column] & torch.isfinite(tracked[:, column])
        if not bool(named[:, column].any()):
            continue
        if not bool(both.any()):
            report[axis] = AxisError(float("nan"), float("nan"), float("nan"), float("nan"), 0)
            continue
        a, b = tracked[both, column], asked[both, column]
        difference, spread = a - b, (b - b.mean()).square().sum()
        moves = float(spread / len(b)) ** 0.5 > LEAST_MOVEMENT
        gain = float((a - a.mean()) @ (b - b.mean()) / spread) if moves else float("nan")
        report[axis] = AxisError(correlation(a, b) if moves else float("nan"),
                                 float((difference - difference.mean()).abs().mean()),
                                 float(difference.abs().mean()), gain, int(both.sum()))
    return report
