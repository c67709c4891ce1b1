"""The ICT-FaceKit head (MIT licence): its surface, paths along its rims, and a drawing of it.

The archive holds ``base`` [N, 3] (centimetres, x to the picture's right, y up, z to the camera), ``faces`` [M, 3],
``mat`` [M] and ``mats`` (the part that a triangle belongs to), ``expr_names`` and ``expr`` [57, N, 3].
"""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

# The head's vertices at those of iBUG's 68 points that are used (ICT-FaceKit's vertex_indices.json). Lips from the
# right corner to the left, lids from the outer corner to the inner, brows from the outer end to the inner.
LIP_OUTER = ((5708, 5695, 2081, 0, 4275, 6200, 6213), (5708, 5841, 5957, 5518, 6461, 6346, 6213))
LIP_INNER = ((5702, 5711, 5533, 6216, 6207), (5702, 5966, 5517, 6470, 6207))
LIDS_UPPER = ((1507, 1542, 1537, 1528), (3721, 3756, 3751, 3742))
LIDS_LOWER = ((1507, 1511, 1518, 1528), (3721, 3725, 3732, 3742))
BROWS = ((268, 493, 1914, 2044, 1401), (2509, 2734, 4114, 4240, 3615))

IRIS_RADIUS = 0.58
"""Centimetres; human irises are 11.7 mm wide."""
EYE_RADIUS = 1.25
"""Centimetres from an eyeball's centre to its front."""
PICTURE = 640
"""Edge of the drawing in pixels."""


class Head:
    """The archive in the axes of the head frame: x to the picture's right, y down, z away from the viewer; cm."""

    def __init__(self, path: Path) -> None:
        data = np.load(path)
        flip = np.array([1.0, -1.0, -1.0])
        self.points = data["base"].astype(np.float64) * flip
        self.moves = {str(name): move.astype(np.float64) * flip
                      for name, move in zip(data["expr_names"], data["expr"], strict=True)}
        part = np.array(data["mats"])[data["mat"]]
        # Two axes flipped are a half turn: triangles keep their sense.
        self.triangles, self.part = data["faces"].astype(np.int64), part
        self.skin = self.triangles[part == "M_Face"]
        corners = self.points[self.skin]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normal = normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        self.front = self.normal[:, 2] < 0
        self.eyes = []
        for side in ("Right", "Left"):
            ball = self.points[np.unique(self.triangles[part == f"M_Sclera{side}"])]
            # The sculpted balls are a quarter too large; their fronts are where eyes are.
            self.eyes.append(np.r_[(ball[:, :2].min(0) + ball[:, :2].max(0)) / 2, ball[:, 2].min() + EYE_RADIUS])
        self._links: dict[int, dict[int, float]] = {}
        for a, b in np.concatenate([self.skin[:, [0, 1]], self.skin[:, [1, 2]], self.skin[:, [2, 0]]]).tolist():
            length = float(np.linalg.norm(self.points[a] - self.points[b]))
            self._links.setdefault(a, {})[b] = length
            self._links.setdefault(b, {})[a] = length

    def path(self, stops: tuple[int, ...]) -> list[int]:
        """Vertices of the shortest way over edges of the skin through ``stops``: a rim, if the stops lie on one."""
        way = [stops[0]]
        for start, end in zip(stops[:-1], stops[1:], strict=True):
            best, waiting, come = {start: 0.0}, [(0.0, start)], {}
            while waiting:
                length, here = heapq.heappop(waiting)
                if here == end:
                    break
                for there, step in self._links[here].items():
                    if length + step < best.get(there, np.inf):
                        best[there], come[there] = length + step, here
                        heapq.heappush(waiting, (length + step, there))
            back = [end]
            while back[-1] != start:
                back.append(come[back[-1]])
            way += back[-2::-1]
        return way

    def seen(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Skin in front of the viewer at ``places`` [N, 2]: vertices [N, 3] (-1: none), weights [N, 3], facing [N]."""
        vertices, weights = np.full((len(places), 3), -1), np.zeros((len(places), 3))
        facing = np.zeros(len(places))
        a, b, c = np.moveaxis(self.points[self.skin], 1, 0)
        u, v = (b - a)[:, :2], (c - a)[:, :2]
        area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
        area = np.where(np.abs(area) < 1e-12, np.inf, area)
        for i, place in enumerate(places):
            w = place - a[:, :2]
            s = (w[:, 0] * v[:, 1] - w[:, 1] * v[:, 0]) / area
            t = (u[:, 0] * w[:, 1] - u[:, 1] * w[:, 0]) / area
            hit = np.flatnonzero((s >= 0) & (t >= 0) & (s + t <= 1) & self.front & np.isfinite(area))
            if len(hit):
                depth = a[hit, 2] + s[hit] * (b - a)[hit, 2] + t[hit] * (c - a)[hit, 2]
                k = hit[depth.argmin()]
                vertices[i], weights[i], facing[i] = self.skin[k], (1 - s[k] - t[k], s[k], t[k]), -self.normal[k, 2]
        return vertices, weights, facing

    def nearest(self, places: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest points of the skin's triangles ``allowed`` (a mask): vertices [N, 3] and weights [N, 3]."""
        sheet = self.skin[allowed]
        corners = self.points[sheet]
        vertices, weights = np.zeros((len(places), 3), np.int64), np.zeros((len(places), 3))
        for i, place in enumerate(places):
            near = np.argsort(np.linalg.norm(corners.mean(1) - place, axis=1), kind="stable")[:60]
            best = np.inf
            for k in near:
                share = _closest(corners[k], place)
                distance = np.linalg.norm(share @ corners[k] - place)
                if distance < best:
                    best, vertices[i], weights[i] = distance, sheet[k], share
        return vertices, weights


def _closest(corners: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[3] weights of the point of a triangle [3, 3] that is nearest to ``place``."""
    edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], 1)
    s, t = np.linalg.lstsq(edges, place - corners[0], rcond=None)[0]
    if s >= 0 and t >= 0 and s + t <= 1:
        return np.array([1 - s - t, s, t])
    best = (np.inf, np.zeros(3))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        along = corners[j] - corners[i]
        r = float(np.clip((place - corners[i]) @ along / max(along @ along, 1e-12), 0, 1))
        share = np.zeros(3)
        share[i], share[j] = 1 - r, r
        best = min(best, (float(np.linalg.norm(share @ corners - place)), share), key=lambda pair: pair[0])
    return best[1]


def draw(head: Head) -> tuple[torch.Tensor, float]:
    """[PICTURE, PICTURE, 3] the head from the front, brows, lips and irises painted on; and pixels a centimetre."""
    scale = PICTURE / 34.0
    flat = head.points[:, :2] * scale + PICTURE / 2
    corners = head.points[head.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
    light = 0.25 + 0.75 * np.clip(normal @ np.array([0.1, -0.45, -0.89]), 0, 1)
    colour = np.tile(np.array([215.0, 165.0, 140.0]), (len(corners), 1))
    middle = corners.mean(1)
    rim = head.points[list(LIP_OUTER[0] + LIP_OUTER[1][-2:0:-1]), :2] * scale + PICTURE / 2
    stencil = Image.new("L", (PICTURE, PICTURE))
    ImageDraw.Draw(stencil).polygon([tuple(p) for p in rim], fill=1)
    inside = np.array(stencil)[tuple(np.clip(middle[:, 1::-1] * scale + PICTURE / 2, 0, PICTURE - 1).astype(int).T)]
    colour[(inside > 0) & (head.part == "M_Face")] = (170, 85, 85)
    colour[head.part == "M_Teeth"] = (90, 40, 40)
    colour[head.part == "M_GumsTongue"] = (90, 40, 40)
    for side, eye in zip(("Right", "Left"), head.eyes, strict=True):
        for name in ("Sclera", "Iris"):
            ball = head.part == f"M_{name}{side}"
            off = np.linalg.norm((middle - eye)[:, :2], axis=1)
            colour[ball] = np.where(off < 0.25, 10.0, np.where(off < IRIS_RADIUS, 70.0, 235.0))[ball][:, None]
    drawn = ~np.isin(head.part, ("M_LacrimalFluid", "M_EyeBlend", "M_EyeOcclusion", "M_EyeLashes"))
    order = np.argsort(-middle[:, 2], kind="stable")
    picture = Image.new("RGB", (PICTURE, PICTURE), (150, 150, 150))
    pen = ImageDraw.Draw(picture)
    for k in order[drawn[order] & (normal[order, 2] < 0)]:
        shade = tuple((colour[k] * light[k]).astype(int).tolist())
        pen.polygon([tuple(p) for p in flat[head.triangles[k]]], fill=shade)
    for brow in BROWS:
        edge = head.points[list(brow), :2]
        width = np.array([0.1, 0.3, 0.35, 0.4, 0.4])[:, None] * np.array([0.0, 1.0])
        ring = np.concatenate([edge - width, (edge + width)[::-1]]) * scale + PICTURE / 2
        pen.polygon([tuple(p) for p in ring], fill=(70, 50, 40))
    return torch.from_numpy(np.array(picture)).float() / 255, scale
