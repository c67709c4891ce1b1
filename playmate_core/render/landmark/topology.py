"""MediaPipe's face mesh as the renderer needs it: lip and lid curves, triangles without holes filled over.

Curves run from the picture's left to its right. The triangles and the canonical vertices come from MediaPipe's
canonical face model (Apache-2.0), converted by tools/convert_face_mesh.py.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...face import geometry
from ...weights import bundled

LIPS_INNER_UPPER = geometry.LIPS_INNER[:11]
LIPS_INNER_LOWER = (geometry.LIPS_INNER[0], *geometry.LIPS_INNER[:10:-1], geometry.LIPS_INNER[10])
LIPS_OUTER_UPPER = geometry.LIPS_OUTER[:11]
LIPS_OUTER_LOWER = (geometry.LIPS_OUTER[0], *geometry.LIPS_OUTER[:10:-1], geometry.LIPS_OUTER[10])
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
    from safetensors.numpy import load_file

    data = load_file(str(bundled("face_mesh.safetensors")))
    return data["vertices"], data["triangles"].astype(np.int64)


def canonical_vertices() -> np.ndarray:
    """[468, 3] MediaPipe's canonical face: x right, y down, z away from the viewer, centimetres."""
    return _canonical()[0]


def triangles() -> np.ndarray:
    """[898, 3] the whole mesh, mouth and eyes filled over."""
    return _canonical()[1]


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    a, b = polygon, np.roll(polygon, -1, axis=0)
    x, y = points[:, :1], points[:, 1:]
    straddles = (a[:, 1] > y) != (b[:, 1] > y)
    slope = (b[:, 0] - a[:, 0]) / np.where(b[:, 1] == a[:, 1], 1e-12, b[:, 1] - a[:, 1])
    return (straddles & (x < a[:, 0] + slope * (y - a[:, 1]))).sum(1) % 2 == 1


def triangles_between(upper: tuple, lower: tuple) -> np.ndarray:
    """[898] which triangles lie between two curves that share their ends (a lip, or the opening inside them)."""
    flat = canonical_vertices()[:, :2]
    loop = list(upper) + [i for i in reversed(lower) if i not in (upper[0], upper[-1])]
    return _inside(flat[triangles()].mean(1), flat[loop])
