"""From JoyVASA's latents to LivePortrait's numbers, and what it does to the head's pose (SPEC.md sections 3 and 8)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Mapping

import torch
from torch import Tensor

from ...motion.types import KEYPOINTS
from ...runtime.errors import PlaymateError

ALPHA = 0.01
"""Weight of the newest frame in the released average over the head's pose: a time constant of four seconds."""

SIZES = {"mean_exp": 63, "std_exp": 63, "min_scale": 1, "max_scale": 1, "min_t": 3, "max_t": 3, "min_pitch": 1,
         "max_pitch": 1, "min_yaw": 1, "max_yaw": 1, "min_roll": 1, "max_roll": 1}
"""Arrays of the motion template that are used, by their published names."""


@dataclass(frozen=True)
class MotionTemplate:
    """Statistics of the training motion: expression by mean and deviation, pose by its range.

    Attributes:
        mean_exp, std_exp: [63] keypoint by keypoint, latent units.
        min_pose, max_pose: [7] scale, translation x y z, pitch, yaw, roll in degrees.
    """

    mean_exp: Tensor
    std_exp: Tensor
    min_pose: Tensor
    max_pose: Tensor

    @staticmethod
    def from_arrays(arrays: Mapping[str, object], where: str = "The motion template") -> MotionTemplate:
        """Checked construction from the published names (``SIZES``); others are left alone.

        Raises:
            PlaymateError: an array that is missing, of another size, or not finite.
        """
        found = {}
        for name, size in SIZES.items():
            if name not in arrays:
                raise PlaymateError(f"{where} lacks {name}; it is not JoyVASA's motion_template file.")
            try:
                value = torch.tensor(arrays[name], dtype=torch.float32).reshape(-1) \
                    if not isinstance(arrays[name], Tensor) else arrays[name].float().reshape(-1)
            except (TypeError, ValueError, RuntimeError):
                raise PlaymateError(f"{where}: {name} is no array of numbers; download it again.") from None
            if len(value) != size or not bool(torch.isfinite(value).all()):
                raise PlaymateError(f"{where}: {name} must be {size} finite numbers; download it again.")
            found[name] = value
        parts = ("scale", "t", "pitch", "yaw", "roll")
        return MotionTemplate(found["mean_exp"], found["std_exp"],
                              torch.cat([found[f"min_{p}"] for p in parts]),
                              torch.cat([found[f"max_{p}"] for p in parts]))

    def arrays(self) -> dict[str, Tensor]:
        """The published names again."""
        out = {"mean_exp": self.mean_exp, "std_exp": self.std_exp}
        for bound, pose in (("min", self.min_pose), ("max", self.max_pose)):
            parts = pose.split((1, 3, 1, 1, 1))
            out |= {f"{bound}_{name}": part for name, part in zip(("scale", "t", "pitch", "yaw", "roll"), parts,
                                                                  strict=True)}
        return out

    def to(self, device) -> MotionTemplate:
        """The same on ``device``."""
        return MotionTemplate(*(getattr(self, f.name).to(device) for f in fields(self)))

    def expression(self, latent: Tensor) -> Tensor:
        """[T, m] to [T, 21, 3], latent units."""
        return (latent[:, :63] * self.std_exp + self.mean_exp).reshape(-1, KEYPOINTS, 3)

    def pose(self, latent: Tensor) -> Tensor:
        """[T, m] to [T, 7]: scale, translation x y z, pitch, yaw, roll in degrees."""
        return latent[:, 63:70] * (self.max_pose - self.min_pose) + self.min_pose


class AveragedPose:
    """The head's pose over time under the released average: causal, piece by piece; expression is never smoothed."""

    def __init__(self, alpha: float = ALPHA) -> None:
        self.alpha = alpha
        self._state: Tensor | None = None

    def __call__(self, pose: Tensor) -> Tensor:
        """[T, 7] of the next frames, averaged with regard to all before."""
        rows = []
        for row in pose:
            self._state = row if self._state is None else self.alpha * row + (1 - self.alpha) * self._state
            rows.append(self._state)
        return torch.stack(rows) if rows else pose
