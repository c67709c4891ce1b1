"""How far eyes and lips are open, in the ratios that the retargeting networks know (SPEC.md section 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from . import geometry

EPSILON = 1e-6

_MESH_LIDS = tuple((upper[4], lower[4], upper[0], upper[-1])
                   for upper, lower in zip(geometry.EYES_UPPER, geometry.EYES_LOWER, strict=True))
_MESH_LIPS = (13, 14, 61, 291)


def eye_ratio(landmarks: Tensor) -> Tensor:
    """Height over width of both eyes.

    Args:
        landmarks: [..., 203, 2] LivePortrait's landmarks, or [..., 478, 2 or 3] the face mesh, where the same places
            are taken; any unit.

    Returns:
        [..., 2]: the eye on the picture's left, then on its right.

    Raises:
        PlaymateError: another number of landmarks.
    """
    lids = {203: ((6, 18, 0, 12), (30, 42, 24, 36)), geometry.LANDMARKS: _MESH_LIDS}
    return torch.stack([_ratio(landmarks, four) for four in _known(landmarks, lids)], dim=-1)


def lip_ratio(landmarks: Tensor) -> Tensor:
    """Gap of the inner lips over the mouth's width, [..., 203 or 478, 2 or 3] -> [..., 1]; see :func:`eye_ratio`."""
    lips = {203: (90, 102, 48, 66), geometry.LANDMARKS: _MESH_LIPS}
    return _ratio(landmarks, _known(landmarks, lips))[..., None]


def openings(displacement: Tensor) -> tuple[Tensor, Tensor]:
    """How far a displacement of the mesh opens eyes and lips, on a mean face.

    Args:
        displacement: [T, 478, 3] from rest, head's own frame, units of the outer-eye distance, y down.

    Returns:
        ``(eyes [T, 2], lips [T, 1])``: each eye's ratio as a factor of that at rest (0 is shut), and by how much the
        lips' ratio is above that at rest. Lids and lips that cross, as linear maps make them, are shut.
    """
    rest = geometry.mean_face().to(displacement)[None]
    eyes, lips = [], []
    for face in (rest + displacement, rest):
        signs = [torch.sign(face[..., four[1], 1] - face[..., four[0], 1]) for four in (*_MESH_LIDS, _MESH_LIPS)]
        eyes.append((eye_ratio(face) * torch.stack(signs[:2], -1)).clamp_min(0))
        lips.append((lip_ratio(face) * signs[2][..., None]).clamp_min(0))
    return eyes[0] / eyes[1], (lips[0] - lips[1]).clamp_min(0)


def _known(landmarks: Tensor, table: dict):
    count = landmarks.shape[-2] if landmarks.ndim >= 2 else 0
    if count not in table:
        raise PlaymateError(f"Eye and lip ratios need 203 or {geometry.LANDMARKS} landmarks; there are {count}.")
    return table[count]


def _ratio(landmarks: Tensor, four: tuple[int, ...]) -> Tensor:
    a, b, c, d = (landmarks[..., index, :2] for index in four)
    return (a - b).norm(dim=-1) / ((c - d).norm(dim=-1) + EPSILON)
