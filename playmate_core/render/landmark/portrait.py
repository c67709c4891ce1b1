"""Everything about one portrait that no frame changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...face import geometry
from ...face.types import Face
from ...runtime.errors import PlaymateError
from . import edges, expression, eye, eye_fit, lids, lips, mouth, opening, palette, refine, skin, topology
from .head import HeadField, HeadFrame, build_field
from .warp import Texture

SMALLEST_FACE = 8.0
"""Outer-eye distance, pixels, below which there is nothing to animate."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """The payload of a landmark renderer's Appearance; compared by identity.

    Attributes:
        frame, field, shape: the head, its nodes and its proportions.
        texture: the part of the portrait that can move.
        mouth_opening, mouth: the lips' opening and what lies behind it.
        eye_openings, eyes: the same for both eyes, left to right in the picture.
        lids: the skin above both eyes as it is lit when they shut.
        parted: the upper and the lower lip without the line between them.
        skin: how it creases.
    """

    frame: HeadFrame
    field: HeadField
    shape: expression.FaceShape
    texture: Texture
    mouth_opening: opening.Opening
    mouth: mouth.Mouth
    eye_openings: tuple
    eyes: tuple
    lids: tuple
    parted: tuple
    skin: skin.Skin

    def to(self, device) -> Prepared:
        return Prepared(self.frame, self.field, self.shape, self.texture.to(device), self.mouth_opening.to(device),
                        self.mouth.to(device), tuple(s.to(device) for s in self.eye_openings),
                        tuple(e.to(device) for e in self.eyes), tuple(t.to(device) for t in self.lids),
                        tuple(p.to(device) for p in self.parted),
                        self.skin.to(device))


def head_frame_shape(landmarks: np.ndarray, frame: HeadFrame) -> np.ndarray:
    """[478, 3] landmarks in the head's own frame, outer-eye distances."""
    return (landmarks - landmarks[list(geometry.RIGID)].mean(0)) @ frame.rotation / frame.size


def prepare(image: Tensor, face: Face, bridge) -> Prepared:
    """Builds the payload, on the CPU.

    Args:
        image: [H, W, 3] float32 0..1.

    Raises:
        PlaymateError: a face too small to animate, or landmarks that are not finite.
    """
    landmarks = face.landmarks.detach().cpu().double().numpy()
    if not np.isfinite(landmarks).all():
        raise PlaymateError("The face's landmarks are not finite; find the face again with Extract Appearance.")
    frame = HeadFrame.of(landmarks)
    if frame.size < SMALLEST_FACE:
        raise PlaymateError(f"The face is only {frame.size:.0f} pixels wide between the eyes' outer corners; "
                            f"use a portrait in which they lie at least {SMALLEST_FACE:.0f} pixels apart.")
    pixels = image.detach().cpu().float().numpy()
    height, width = pixels.shape[:2]
    size = frame.size
    if float(geometry.lip_gap(face.landmarks)) <= expression.CLOSED_GAP:
        landmarks = refine.fit_mouth(pixels, landmarks, size)
    landmarks = eye_fit.fit_eyes(pixels, landmarks, size)
    shape = expression.read_shape(head_frame_shape(landmarks, frame), bridge)
    field = build_field(landmarks, frame, height, width)
    x0, y0, x1, y1 = field.grid.box
    c0, r0 = max(0, int(x0) - 1), max(0, int(y0) - 1)
    c1, r1 = min(width, int(np.ceil(x1)) + 2), min(height, int(np.ceil(y1)) + 2)
    texture = Texture.of(image.detach().cpu().float()[r0:r1, c0:c1], c0, r0)

    colours = palette.measure(pixels, landmarks, size)
    closing = None
    if shape.mouth_open:
        closing = shape.closing.numpy() @ frame.rotation.T * size
    lip_edges = edges.mouth_edges(pixels, landmarks, size, shape.mouth_open)
    upper, lower = topology.LIPS_INNER_UPPER, topology.LIPS_INNER_LOWER
    hole, *pieces = topology.mouth_pieces()
    mouth_opening = opening.build(landmarks, size, upper, lower, lip_edges, (0.30, 0.30, 0.42), 0.016, hole, pieces)
    if closing is not None:
        mouth_opening = _with_rest_gap(mouth_opening, closing)
    inside = mouth.prepare(pixels, landmarks, frame, colours, lip_edges, closing)
    eye_openings, eyes, lit = [], [], []
    for side in (0, 1):
        rims = edges.lid_edges(landmarks, size, side)
        lash = edges.lash_heights(pixels, rims, size)
        eye_openings.append(opening.build(landmarks, size, topology.EYES_UPPER[side], topology.EYES_LOWER[side], rims,
                                          (0.14, 0.20, 0.16), 0.012, topology.eye_piece(side), lash=lash))
        eyes.append(eye.prepare(pixels, landmarks, frame, rims, side))
        lit.append(lids.lit(pixels, landmarks, rims, lash, size, side))
    return Prepared(frame, field, shape, texture, mouth_opening, inside, tuple(eye_openings), tuple(eyes), tuple(lit),
                    lips.parted(pixels, landmarks, lip_edges, size), skin.prepare(pixels, landmarks, frame))


def _with_rest_gap(mouth: opening.Opening, closing: np.ndarray) -> opening.Opening:
    """Counts what is left of the portrait's own opening, once it is shut, as shut."""
    moved = torch.from_numpy(closing.astype(np.float32))[mouth.columns]
    grid = mouth.grid
    shift = torch.einsum("snc,cd->sdn", mouth.weights, moved[:, :2]).reshape(2, 2, grid.rows, grid.columns)
    ends = mouth.edges + grid.sample(shift, mouth.ring[:, None])[:, :, 0].transpose(1, 2)
    span = ends[:, -1].mean(0) - ends[:, 0].mean(0)
    axis = span / span.norm().clamp_min(1e-3)
    normal = torch.stack([-axis[1], axis[0]])
    return replace(mouth, rest_gap=(ends[1] - ends[0]) @ normal)
