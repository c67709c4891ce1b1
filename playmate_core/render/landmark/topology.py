"""MediaPipe's face mesh as the renderer needs it: lip and lid curves, triangles without holes filled over.

Curves run from the picture's left to its right. The triangles and the canonical vertices come from MediaPipe's
canonical face model (Apache-2.0), converted by laboratory/conversions/face_mesh.py.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...face import geometry
from ...weights.tensors import bundled_tensors

LIPS_INNER_UPPER = geometry.LIPS_INNER[:11]
LIPS_INNER_LOWER = (geometry.LIPS_INNER[0], *geometry.LIPS_INNER[:10:-1], geometry.LIPS_INNER[10])
LIPS_OUTER_UPPER = geometry.LIPS_OUTER[:11]
LIPS_OUTER_LOWER = (geometry.LIPS_OUTER[0], *geometry.LIPS_OUTER[:10:-1], geometry.LIPS_OUTER[10])
LIPS_UPPER_ROWS = (LIPS_INNER_UPPER, (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
                   (76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306), LIPS_OUTER_UPPER)
"""The upper lip from its inner to its outer edge, point for point."""
LIPS_LOWER_ROWS = (LIPS_INNER_LOWER, (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
                   (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306), LIPS_OUTER_LOWER)
"""The lower lip, likewise."""
LIP_CORNERS = ((61, 76, 62, 78), (291, 306, 292, 308))
"""From the outer to the inner corner: where upper and lower lip part."""
EYES_UPPER = (geometry.EYES_UPPER[0], geometry.EYES_UPPER[1][::-1])
EYES_LOWER = (geometry.EYES_LOWER[0], geometry.EYES_LOWER[1][::-1])
IRISES = geometry.IRISES
OVAL = geometry.OVAL
CHEEKS = (50, 101, 118, 117, 205, 280, 330, 347, 346, 425)
CHIN = (152, 148, 377, 175, 199)
CHIN_TIP = 152
FOREHEAD_TOP = 10
EAR_SIDES = (234, 454)
MESH_POINTS = 468
LANDMARKS = geometry.LANDMARKS


@lru_cache(maxsize=1)
def _canonical() -> tuple[np.ndarray, np.ndarray]:
    data = bundled_tensors("face_mesh.safetensors", "face", {"vertices": (MESH_POINTS, 3), "triangles": (-1, 3)})
    return data["vertices"].numpy(), data["triangles"].numpy().astype(np.int64)


def canonical_vertices() -> np.ndarray:
    """[468, 3] MediaPipe's canonical face: x right, y down, z away from the viewer, centimetres."""
    return _canonical()[0]


def triangles() -> np.ndarray:
    """[898, 3] the whole mesh, mouth and eyes filled over."""
    return _canonical()[1]


def _edges(curve: tuple) -> set:
    return {tuple(sorted(pair)) for pair in zip(curve[:-1], curve[1:], strict=True)}


def enclosed(barriers: set) -> list[np.ndarray]:
    """Masks [898] of the pieces into which edges cut the mesh, but for the piece that holds the face's outline."""
    sheet = triangles()
    neighbours: dict = {}
    for index, (a, b, c) in enumerate(sheet.tolist()):
        for edge in ((a, b), (b, c), (c, a)):
            neighbours.setdefault(tuple(sorted(edge)), []).append(index)
    piece = np.full(len(sheet), -1)
    for seed in range(len(sheet)):
        if piece[seed] >= 0:
            continue
        waiting = [seed]
        piece[seed] = seed
        while waiting:
            a, b, c = sheet[waiting.pop()].tolist()
            for edge in ((a, b), (b, c), (c, a)):
                edge = tuple(sorted(edge))
                if edge in barriers:
                    continue
                for other in neighbours[edge]:
                    if piece[other] < 0:
                        piece[other] = seed
                        waiting.append(other)
    outside = piece[(sheet == OVAL[0]).any(1)][0]
    return [piece == label for label in np.unique(piece) if label != outside]


@lru_cache(maxsize=1)
def mouth_pieces() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks [898] of the triangles (between the lips, of the upper lip, of the lower lip)."""
    barriers = set().union(*(_edges(c) for c in (LIPS_INNER_UPPER, LIPS_INNER_LOWER, LIPS_OUTER_UPPER,
                                                 LIPS_OUTER_LOWER, *LIP_CORNERS)))
    holds = {12: None, 15: None}
    between = None
    for piece in enclosed(barriers):
        corners = set(triangles()[piece].reshape(-1).tolist())
        if corners <= set(LIPS_INNER_UPPER + LIPS_INNER_LOWER):
            between = piece
        for point in holds:
            if point in corners:
                holds[point] = piece
    return between, holds[12], holds[15]


@lru_cache(maxsize=2)
def eye_piece(eye: int) -> np.ndarray:
    """Mask [898] of the triangles between the lids."""
    return enclosed(_edges(EYES_UPPER[eye]) | _edges(EYES_LOWER[eye]))[0]
