"""What real faces can do: the space of their movement, cleaned of what the mesh makes of a turned head.

A landmark network reads a face that turns a little differently, whatever it expresses: noses get wider, cheeks
narrower. Over dozens of speakers that error is the same function of the head's angles, so it is found beside their
expressions and taken off. What is left of all their movement has few dimensions: forty hold 99 % of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from playmate_core.face import geometry as geo

DIMENSIONS = 40
"""Principal movements kept: 99.2 % of the variance of 76 recordings of 50 people and eleven expressive clips."""
_LONGEST = 300
"""Frames up to which a recording counts in proportion to its length; long ones count no more."""
_ENOUGH = 20
"""Recordings from which on what a turn does can be told from what faces do."""
_SCORES_RIDGE, _POSE_RIDGE = 0.3, 0.3


def centred(value: Tensor) -> Tensor:
    """[T, ...] less its mean over the frames."""
    return value - value.mean(dim=0)


def share(frames: int) -> float:
    """Root of a recording's weight a frame."""
    return min(1.0, _LONGEST / max(frames, 1)) ** 0.5


def pose_terms(degrees: Tensor) -> Tensor:
    """[T, 3] pitch, yaw, roll -> [T, 10] the terms that the mesh's error is a sum of."""
    pitch, yaw, roll = (degrees / 10.0).unbind(1)
    return torch.stack([pitch, yaw, roll, pitch ** 2, yaw ** 2, pitch * yaw, pitch * roll, yaw * roll, yaw ** 3,
                        pitch * yaw ** 2], 1)


class Recordings:
    """Frames of many people laid on their own median: shape [T, 478, 3], degrees [T, 3], blendshapes [T, 52].

    Args:
        sources: by name, with ``landmarks`` [T, 478, 3] in pixels or any square unit and ``blendshapes`` [T, 52].
        mean: [478, 3] the mean face.
    """

    def __init__(self, sources: dict[str, dict[str, Tensor]], mean: Tensor) -> None:
        self.shape = {name: geo.lay_on_own_median(source["landmarks"], mean) for name, source in sources.items()}
        self.degrees = {name: geo.head_pose(source["landmarks"].float()).double() for name, source in sources.items()}
        self.scores = {name: source["blendshapes"].clamp_min(0.0) for name, source in sources.items()}
        self.pose_error = self._find_pose_error()

    def _find_pose_error(self) -> Tensor:
        """[10, 1434] displacement a pose term, found beside what the expressions explain; none from few recordings."""
        if len(self.shape) < _ENOUGH:
            return torch.zeros(10, 3 * geo.LANDMARKS, dtype=torch.float64)
        rows, moved = [], []
        for name, shape in self.shape.items():
            both = torch.cat([self.scores[name], pose_terms(self.degrees[name])], 1)
            rows.append(centred(both) * share(len(shape)))
            moved.append(centred(shape.flatten(1)) * share(len(shape)))
        x, y = torch.cat(rows), torch.cat(moved)
        penalty = torch.full((x.shape[1],), _SCORES_RIDGE, dtype=x.dtype)
        penalty[-10:] = _POSE_RIDGE
        return torch.linalg.solve(x.T @ x + torch.diag(penalty), x.T @ y)[-10:]

    def movement(self, name: str) -> Tensor:
        """[T, 478, 3] displacement from the recording's mean, without the mesh's error of pose."""
        error = centred(pose_terms(self.degrees[name])) @ self.pose_error
        return (centred(self.shape[name].flatten(1)) - error).unflatten(1, (geo.LANDMARKS, 3))

    def basis(self, mirror: Tensor, dimensions: int = DIMENSIONS, names: list[str] | None = None) -> Tensor:
        """[K, 1434] orthonormal principal movements of all recordings, or of ``names``, and their mirror images."""
        flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
        moment = torch.zeros(3 * geo.LANDMARKS, 3 * geo.LANDMARKS, dtype=torch.float64)
        for name in self.shape if names is None else names:
            moved = self.movement(name) * share(len(self.shape[name]))
            for side in (moved, moved[:, mirror] * flip):
                moment += side.flatten(1).T @ side.flatten(1)
        return torch.linalg.eigh(moment)[1].flip(1)[:, :dimensions].T.contiguous()
