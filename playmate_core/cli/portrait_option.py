"""Which portrait, and which face in it, for every command that looks at one."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from ..runtime.errors import PlaymateError

if TYPE_CHECKING:
    from ..pipeline import Appearance, Models

MASK = "mask"
"""In place of a box: that of the painted mask."""


@dataclass(frozen=True)
class PortraitRequest:
    """A portrait that was read, and where its face is.

    Attributes:
        image: as ``media.pictures.read_image`` gives it.
        policy, index: as ``pipeline.extract_appearance``.
        mask: [H, W] over the face, or None.
        box, points: where the face is, or None.
        size: longest side of the frames.
        ground: [h, w] 1 where the portrait's ground is transparent, or None.
    """

    image: Tensor
    policy: str
    index: int
    mask: Tensor | None
    box: Tensor | None
    points: Tensor | None
    size: int
    ground: Tensor | None = None

    @staticmethod
    def parse(args: argparse.Namespace) -> PortraitRequest:
        """Reads and checks what the user typed.

        Raises:
            PlaymateError: a picture that cannot be read, or marks that cannot be understood.
        """
        from ..face.manual import mask_box, parse_box, parse_points
        from ..media.pictures import read_image

        painted = args.face_box is not None and args.face_box.strip().lower() == MASK
        box = None if args.face_box is None or painted else parse_box(args.face_box)
        points = None if args.face_points is None else parse_points(args.face_points)
        policy, index = parse_face(args.face)
        image = read_image(args.portrait, args.image_index)
        mask = None if args.mask is None else read_mask(args.mask, tuple(image.shape[:2]))
        if painted and points is None:
            if mask is None:
                raise PlaymateError("--face-box is mask, but there is no --mask; give one, or the box in pixels.")
            box = mask_box(mask)
        ground = getattr(args, "ground", None)
        return PortraitRequest(image, policy, index, mask, box, points, args.size,
                               None if ground is None else read_ground(ground))

    def appearance(self, models: Models) -> Appearance:
        """The face, ready to be drawn.

        Raises:
            PlaymateError: no such face.
        """
        from .. import pipeline

        return pipeline.extract_appearance(models, self.image, policy=self.policy, index=self.index, mask=self.mask,
                                           box=self.box, points=self.points, size=self.size, ground=self.ground)


def parse_face(text: str) -> tuple[str, int]:
    """``(policy, index)`` of ``--face``."""
    return ("index", int(text)) if text.lstrip("-").isdigit() else (text, 0)


def read_ground(path: str) -> Tensor:
    """[h, w] of a ground's picture: its alpha where it has one, else its brightness.

    Raises:
        PlaymateError: no picture.
    """
    from ..media.pictures import read_image

    picture = read_image(path)
    return picture[..., 3] if picture.shape[-1] == 4 else picture.mean(-1)


def read_mask(path: str, size: tuple[int, int]) -> Tensor | None:
    """[H, W] of a mask's picture at ``size``: its alpha where it has one, else its brightness; None for an empty one.

    Raises:
        PlaymateError: no picture.
    """
    from torch.nn.functional import interpolate

    from ..media.pictures import read_image

    picture = read_image(path)
    mask = picture[..., 3] if picture.shape[-1] == 4 else picture.mean(-1)
    mask = interpolate(mask[None, None], size, mode="nearest")[0, 0]
    return mask if bool((mask > 0).any()) else None
