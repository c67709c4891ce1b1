"""The motion latents that everything between the ear and the screen speaks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError

KEYPOINTS = 21
"""Implicit 3D keypoints of LivePortrait's motion extractor."""

FIELDS = ("expression", "rotation", "translation", "scale")
"""What a frame consists of, in the order of ``Neutral``."""


@dataclass(frozen=True)
class Neutral:
    """The frame from which a motion's offsets count.

    Attributes:
        expression: [21, 3], latent units.
        rotation: [3], degrees (pitch, yaw, roll).
        translation: [3], latent units.
        scale: [1], factor.
    """

    expression: Tensor
    rotation: Tensor
    translation: Tensor
    scale: Tensor

    @staticmethod
    def rest() -> Neutral:
        """No expression, head straight, no shift, scale one: the origin of generated motion."""
        return Neutral(torch.zeros(KEYPOINTS, 3), torch.zeros(3), torch.zeros(3), torch.ones(1))

    def to(self, device) -> Neutral:
        """The same on ``device``."""
        return Neutral(*(getattr(self, name).to(device) for name in FIELDS))


@dataclass(frozen=True)
class Motion:
    """LivePortrait's 70 numbers a frame, over time.

    All tensors are float32 on one device; T is the number of frames and may be zero.

    Attributes:
        expression: [T, 21, 3] expression of the implicit keypoints, latent units (|e| up to about 0.1).
        rotation: [T, 3] degrees: pitch, yaw, roll, in LivePortrait's signs (SPEC.md section 8).
        translation: [T, 3] latent units; z is stored but never drawn.
        scale: [T, 1] factor, positive.
        fps: frames a second, positive.
        neutral: the frame from which offsets count.

    Raises:
        PlaymateError: shapes that disagree, numbers that are not finite, an fps or scale that is not positive.
    """

    expression: Tensor
    rotation: Tensor
    translation: Tensor
    scale: Tensor
    fps: float
    neutral: Neutral

    def __post_init__(self) -> None:
        frames = self.expression.shape[0] if self.expression.ndim else -1
        wanted = {
            "expression": (frames, KEYPOINTS, 3),
            "rotation": (frames, 3),
            "translation": (frames, 3),
            "scale": (frames, 1),
        }
        for name, shape in wanted.items():
            value = getattr(self, name)
            if tuple(value.shape) != shape:
                raise PlaymateError(f"Motion {name} has shape {tuple(value.shape)} where {shape} is needed.")
            if not bool(torch.isfinite(value).all()):
                raise PlaymateError(f"Motion {name} holds numbers that are not finite; make the motion again.")
        if not self.fps > 0:
            raise PlaymateError(f"Motion fps is {self.fps}; it must be above 0.")
        if frames and not bool((self.scale > 0).all()):
            raise PlaymateError("Motion scale must be above 0 in every frame.")

    def __len__(self) -> int:
        return self.expression.shape[0]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self) / self.fps

    @property
    def expression_offset(self) -> Tensor:
        """[T, 21, 3] expression relative to the neutral frame."""
        return self.expression - self.neutral.expression

    def to(self, device) -> Motion:
        """The same on ``device``."""
        return replace(
            self,
            expression=self.expression.to(device),
            rotation=self.rotation.to(device),
            translation=self.translation.to(device),
            scale=self.scale.to(device),
            neutral=self.neutral.to(device),
        )

    @staticmethod
    def rest(frames: int, fps: float = 25.0) -> Motion:
        """``frames`` frames of a head at rest."""
        return Motion(
            torch.zeros(frames, KEYPOINTS, 3), torch.zeros(frames, 3), torch.zeros(frames, 3),
            torch.ones(frames, 1), fps, Neutral.rest(),
        )
