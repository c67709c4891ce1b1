"""What is drawn in place of the portrait's own picture: the face upright, and no larger than the film is to be.

Renderers know upright heads, and a phone's picture has ten times the pixels of a film. So a portrait that lies or is
large is turned by quarters, which loses nothing, and made smaller once; frames are turned back as they come.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Iterator

import torch
from torch import Tensor

from ..face.types import Face
from ..face.views import bounds, eye_angle
from ..media.pictures import smaller
from ..media.sizes import SIZE, check_size
from .base import Appearance, Renderer, Stage


def prepare(renderer: Renderer, image: Tensor, face: Face, size: int = SIZE, alpha: Tensor | None = None,
            colours: Tensor | None = None) -> Appearance:
    """A portrait made ready for ``renderer`` at ``size``; another size may still be asked of :func:`stage_of`.

    Args:
        image: [H, W, 3] float32 sRGB 0..1.
        face: the face to animate.
        size: longest side of what is drawn, pixels; 0 keeps the portrait's.
        alpha, colours: [H, W] and [H, W, 3] of a portrait with a transparent ground, see ``render.base``.

    Raises:
        PlaymateError: as the renderer's ``prepare``.
    """
    turns, longest = _quarters(face), _longest(image, size)
    if alpha is None and not turns and longest == max(image.shape[:2]):
        return renderer.prepare(image, face)
    stage = _set(renderer, image if alpha is None else colours, face, turns, longest, alpha)
    return replace(stage.appearance, image=image, face=face, payload=None, stage=stage, alpha=alpha)


def stage_of(renderer: Renderer, appearance: Appearance, size: int = SIZE) -> Stage:
    """What ``renderer`` draws of an appearance at ``size``; prepared anew where it was prepared for another one.

    Raises:
        PlaymateError: as ``media.sizes.check_size`` and the renderer's ``prepare``.
    """
    longest = _longest(appearance.image, check_size(size))
    ready = Stage(appearance, 0) if appearance.stage is None else appearance.stage
    if max(ready.appearance.image.shape[:2]) == longest:
        return ready
    image = appearance.image if ready.colours is None else ready.colours
    return _set(renderer, image, appearance.face, ready.turns, longest, appearance.alpha)


def drawn_size(image: Tensor, size: int) -> tuple[int, int]:
    """(height, width) of the frames of a portrait [H, W, 3] at ``size``."""
    height, width = image.shape[:2]
    share = _longest(image, size) / max(height, width)
    return max(2, round(height * share)), max(2, round(width * share))


def turned_back(batches: Iterator[Tensor], turns: int) -> Iterator[Tensor]:
    """Frames [B, h, w, C] of a stage as they belong to the portrait, [B, H, W, C]."""
    for frames in batches:
        yield torch.rot90(frames, -turns, (1, 2)).contiguous() if turns else frames


def _longest(image: Tensor, size: int) -> int:
    own = max(image.shape[:2])
    return min(own, size) if size else own


def _quarters(face: Face) -> int:
    """Quarter turns against the clock that set a face upright, 0 to 3."""
    return round(eye_angle(face.landmarks) / (math.pi / 2)) % 4


def _set(renderer: Renderer, image: Tensor, face: Face, turns: int, longest: int,
         alpha: Tensor | None = None) -> Stage:
    height, width = image.shape[:2]
    colours = None if alpha is None else image
    if longest != max(height, width):
        rows, columns = drawn_size(image, longest)
        image = smaller(image, rows, columns)
        alpha = None if alpha is None else smaller(alpha[..., None], rows, columns)[..., 0]
        face = _moved(face, torch.diag(torch.tensor([columns / width, rows / height])), longest / max(height, width))
    for _ in range(turns):
        # To the left: x becomes y, y the distance from what was the right edge.
        face = _moved(face, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), 1.0, (0.0, float(image.shape[1])))
        image = torch.rot90(image, 1, (0, 1)).contiguous()
        alpha = None if alpha is None else torch.rot90(alpha, 1, (0, 1)).contiguous()
    made = renderer.prepare(image, face)
    return Stage(made if alpha is None else replace(made, alpha=alpha), turns, colours)


def _moved(face: Face, matrix: Tensor, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> Face:
    """A face under ``matrix`` [2, 2] and ``shift``, its depth under ``scale``."""
    flat = face.landmarks[:, :2] @ matrix.T + torch.tensor(shift)
    corners = face.box.reshape(2, 2).float().cpu() @ matrix.T + torch.tensor(shift)
    return replace(face, landmarks=torch.cat([flat, face.landmarks[:, 2:] * scale], -1), box=bounds(corners))
