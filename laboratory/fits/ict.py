"""ARKit's 52 expressions as displacements of the 478 landmarks, read off the ICT-FaceKit head.

    python -m laboratory.fits.ict --ict ict.npz -o shapes.safetensors [--neutral]

ICT-FaceKit (USC Institute for Creative Technologies, MIT licence) is a 3D head with sculpted shapes of ARKit's names.
The archive holds ``base`` [N, 3] (centimetres, x to the picture's right, y up, z to the camera), ``faces`` [M, 3],
``mat`` [M] and ``mats`` (which part a triangle belongs to), ``expr_names`` and ``expr`` [57, N, 3]. Nothing of it ships.

Where a landmark lies on that head is found in three ways:

- Lips' inner edges and lids: along the head's own rims, paths over mesh edges through the 68 known vertices, at the
  same share of the length from corner to corner as on the mean face. A nearest vertex would often belong to the other
  lip or lid. The lips' outer edges: along curves through the known vertices, laid on the skin.
- The rest: our own face mesh looks at a drawing of the head from the front (with brows, lips and irises painted on),
  and what it finds is laid on the skin along the line of sight.
- Where the skin turns away from the viewer that is uncertain: there the mean face, bent smoothly onto all the other
  points (thin-plate spline), is laid on the nearest skin.

Irises turn with the eyeballs. Writes ``shapes`` [52, 478, 3] float32 in the order of ``face.blendshapes.NAMES``, in
the head frame of ``face.geometry`` (unit: the neutral head's outer-eye distance). What the head lacks is zero.
"""

from __future__ import annotations

import argparse
import heapq
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from playmate_core.face import geometry as geo
from playmate_core.face.analyzer import FaceAnalyzer
from playmate_core.face.blendshapes import NAMES

# The head's vertices at those of iBUG's 68 points that are used (ICT-FaceKit's vertex_indices.json). Lips from the
# right corner to the left, lids from the outer corner to the inner, brows from the outer end to the inner.
LIP_OUTER = ((5708, 5695, 2081, 0, 4275, 6200, 6213), (5708, 5841, 5957, 5518, 6461, 6346, 6213))
LIP_INNER = ((5702, 5711, 5533, 6216, 6207), (5702, 5966, 5517, 6470, 6207))
LIDS_UPPER = ((1507, 1542, 1537, 1528), (3721, 3756, 3751, 3742))
LIDS_LOWER = ((1507, 1511, 1518, 1528), (3721, 3725, 3732, 3742))
BROWS = ((268, 493, 1914, 2044, 1401), (2509, 2734, 4114, 4240, 3615))

LIP_BETWEEN = (
    ((76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306), (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)),
    ((62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292), (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292)))
"""The two curves of landmarks between the lips' outer and inner edge, upper and lower, right corner to left."""

IRIS_RADIUS = 0.58
"""Centimetres; human irises are 11.7 mm wide."""
GAZE = {"Up": (1, -25.0), "Down": (1, 30.0), "In": (0, 30.0), "Out": (0, 30.0)}
"""How far eyeballs turn at weight 1, degrees. The head's own shapes of gaze move the lids alone. About the range of
human eyes in comfort; ARKit documents no angle."""

FACING = 0.45
"""A landmark seen from the front is trusted where the skin's normal points to the viewer by at least this cosine."""
PICTURE = 640


class Head:
    """The archive in the axes of the head frame: x to the picture's right, y down, z away from the viewer; cm."""

    def __init__(self, path: Path) -> None:
        data = np.load(path)
        flip = np.array([1.0, -1.0, -1.0])
        self.points = data["base"].astype(np.float64) * flip
        self.moves = {str(name): move.astype(np.float64) * flip
                      for name, move in zip(data["expr_names"], data["expr"], strict=True)}
        part = np.array(data["mats"])[data["mat"]]
        # Turned about by the flip of one axis too many? Two axes flip: triangles keep their sense.
        self.triangles, self.part = data["faces"].astype(np.int64), part
        self.skin = self.triangles[part == "M_Face"]
        corners = self.points[self.skin]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normal = normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        self.front = self.normal[:, 2] < 0
        self.eyes = []
        for side in ("Right", "Left"):
            ball = self.points[np.unique(self.triangles[part == f"M_Sclera{side}"])]
            self.eyes.append(np.linalg.lstsq(np.c_[2 * ball, np.ones(len(ball))], (ball**2).sum(1), rcond=None)[0][:3])
        self.radius = float(np.abs(ball - self.eyes[1])[:, 2].max())
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
    """[PICTURE, PICTURE, 3] the head from the front, with brows, lips and irises painted on; and pixels a centimetre."""
    scale = PICTURE / 34.0
    flat = head.points[:, :2] * scale + PICTURE / 2
    corners = head.points[head.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
    light = 0.25 + 0.75 * np.clip(normal @ np.array([0.1, -0.45, -0.89]), 0, 1)
    colour = np.tile(np.array([215.0, 165.0, 140.0]), (len(corners), 1))
    middle = corners.mean(1)
    rim = [head.points[list(LIP_OUTER[0] + LIP_OUTER[1][-2:0:-1]), :2]]
    stencil = Image.new("L", (PICTURE, PICTURE))
    ImageDraw.Draw(stencil).polygon([tuple(p) for p in rim[0] * scale + PICTURE / 2], fill=1)
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
        pen.polygon([tuple(p) for p in flat[head.triangles[k]]], fill=tuple((colour[k] * light[k]).astype(int).tolist()))
    for brow in BROWS:
        edge = head.points[list(brow), :2]
        width = np.array([0.1, 0.3, 0.35, 0.4, 0.4])[:, None] * np.array([0.0, 1.0])
        ring = np.concatenate([edge - width, (edge + width)[::-1]]) * scale + PICTURE / 2
        pen.polygon([tuple(p) for p in ring], fill=(70, 50, 40))
    return torch.from_numpy(np.array(picture)).float() / 255, scale


def _share(curve: np.ndarray) -> np.ndarray:
    """[N] 0 to 1: length along a curve [N, 3] up to each of its points."""
    run = np.r_[0.0, np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum()]
    return run / run[-1]


def _along(curve: np.ndarray, values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """``values`` [N, D] on a curve [N, 3], read at ``shares`` [K] of its length."""
    run = _share(curve)
    return np.stack([np.interp(shares, run, column) for column in values.T], 1)


def spline(source: np.ndarray, target: np.ndarray, places: np.ndarray, ease: float = 1e-3) -> np.ndarray:
    """``places`` [K, 3] moved by the smooth map (thin-plate in space) that takes ``source`` [N, 3] to ``target``."""
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a[:, None] - b[None], axis=-1)
    count = len(source)
    flat = np.c_[np.ones(count), source]
    left = np.block([[kernel(source, source) + ease * np.eye(count), flat], [flat.T, np.zeros((4, 4))]])
    solved = np.linalg.solve(left, np.r_[target, np.zeros((4, 3))])
    return kernel(places, source) @ solved[:count] + np.c_[np.ones(len(places)), places] @ solved[count:]


class Places:
    """Where the landmarks lie: each a weighted mean of vertices, ``vertices`` and ``weights`` [478, K]."""

    def __init__(self, head: Head) -> None:
        self.head, mean = head, geo.mean_face().double().numpy()
        self.rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        lips = [geo.LIPS_INNER[:11], geo.LIPS_INNER[:1] + geo.LIPS_INNER[:9:-1]]
        for landmarks, stops in zip(lips, LIP_INNER, strict=True):
            self._rim(landmarks, stops, mean)
        for upper, lower, a, b in zip(geo.EYES_UPPER, geo.EYES_LOWER, LIDS_UPPER, LIDS_LOWER, strict=True):
            self._rim(upper, a, mean)
            self._rim(lower, b, mean)
        move = {name: sum(np.linalg.norm(head.moves[f"{name}_{side}"], axis=1) for side in "LR")
                for name in ("mouthUpperUp", "mouthLowerDown")}
        upper = (move["mouthUpperUp"] > move["mouthLowerDown"])[head.skin].all(1)
        lower = (move["mouthUpperUp"] <= move["mouthLowerDown"])[head.skin].all(1)
        outer = [geo.LIPS_OUTER[:11], geo.LIPS_OUTER[:1] + geo.LIPS_OUTER[:9:-1]]
        for k, sheet in enumerate((upper & head.front, lower & head.front)):
            curve = head.points[list(LIP_OUTER[k])]
            edge = _along(curve, curve, _share(mean[list(outer[k])]))
            rim = self.at(lips[k])
            for landmarks, places in [(outer[k], edge)] + [
                    (between[k], edge + _part(mean, outer[k], between[k], lips[k]) * (rim - edge))
                    for between in LIP_BETWEEN]:
                vertices, weights = head.nearest(places, sheet)
                for i, landmark in enumerate(landmarks):
                    self.rows.setdefault(landmark, (vertices[i], weights[i]))
        self._rest(mean)

    def _rim(self, landmarks: tuple[int, ...], stops: tuple[int, ...], mean: np.ndarray) -> None:
        way = self.head.path(stops)
        run = _share(self.head.points[way])
        for landmark, share in zip(landmarks, _share(mean[list(landmarks)]), strict=True):
            # A short stretch of the rim rather than a point: single vertices jut out where lids meet.
            weight = np.clip(1 - np.abs(run - share) / 0.045, 0, None) * np.gradient(run)
            if weight.sum() < 1e-9 or share in (0.0, 1.0):
                weight = (np.abs(run - share) == np.abs(run - share).min()).astype(float)
            self.rows.setdefault(landmark, (np.array(way), weight / weight.sum()))

    def _rest(self, mean: np.ndarray) -> None:
        picture, scale = draw(self.head)
        face = FaceAnalyzer.load().analyze(picture)[0][0].landmarks.double().numpy()
        self.seen_at = (face[:, :2] - PICTURE / 2) / scale
        # The head is symmetric; what the network finds is made so.
        mirrored = self.seen_at[geo.mirror_index().numpy()] * (-1, 1)
        places = (self.seen_at + mirrored) / 2
        vertices, weights, facing = self.head.seen(places)
        eyes = set(sum(geo.IRISES, ()))
        rest = [i for i in range(geo.LANDMARKS) if i not in self.rows and i not in eyes]
        trusted = [i for i in rest if facing[i] >= FACING]
        for i in trusted:
            self.rows[i] = (vertices[i], weights[i])
        anchors = sorted(self.rows)
        guess = spline(mean[anchors], self.at(anchors), mean[[i for i in rest if i not in self.rows]], 0.02)
        away = [i for i in rest if i not in self.rows]
        for i, corners, share in zip(away, *self.head.nearest(guess, self.head.normal[:, 2] < 0.3), strict=True):
            self.rows[i] = (corners, share)
        self.away = away

    def at(self, landmarks, field: np.ndarray | None = None) -> np.ndarray:
        """[N, 3] the points, or what ``field`` [vertices, 3] holds there."""
        field = self.head.points if field is None else field
        return np.stack([self.rows[i][1] @ field[self.rows[i][0]] for i in landmarks])

    def iris(self, side: int, turn: np.ndarray | None = None) -> np.ndarray:
        """[5, 3] centre and edge of an iris (``IRISES``), its eyeball turned."""
        around = np.array([[0, 0], [1, 0], [0, -1], [-1, 0], [0, 1]]) * IRIS_RADIUS
        if side == 1:
            around = around * (-1, 1)
        depth = np.sqrt(self.head.radius**2 - (around**2).sum(1))
        local = np.c_[around, -depth]
        return self.head.eyes[side] + (local if turn is None else local @ turn.T)


def _part(mean: np.ndarray, outer, between, inner) -> np.ndarray:
    """[N, 1] how far from the outer to the inner edge the mean face's ``between`` lies."""
    edge, way = mean[list(outer)], mean[list(inner)] - mean[list(outer)]
    return np.clip(((mean[list(between)] - edge) * way).sum(1) / (way**2).sum(1), 0, 1)[:, None]


def _turn(axis: int, degrees: float) -> np.ndarray:
    """Rotation about the vertical (0: positive to the picture's right) or the horizontal (1: positive down)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    if axis == 0:
        return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def raw_shapes(head: Head, places: Places) -> tuple[torch.Tensor, torch.Tensor]:
    """Neutral landmarks [478, 3] and displacements [52, 478, 3], centimetres, as the head has them."""
    skin = sorted(places.rows)
    neutral = np.zeros((geo.LANDMARKS, 3))
    neutral[skin] = places.at(skin)
    for side, iris in enumerate(geo.IRISES):
        neutral[list(iris)] = places.iris(side)
    shapes = np.zeros((len(NAMES), geo.LANDMARKS, 3))
    for k, name in enumerate(NAMES):
        side = {"Left": "_L", "Right": "_R"}.get(name[-4:] if name.endswith("Left") else name[-5:])
        stem = name.removesuffix("Left").removesuffix("Right")
        wanted = [name] if name in head.moves else [stem + side] if side else [f"{name}_L", f"{name}_R"]
        if stem == "cheekSquint":
            wanted.append(f"cheekRaiser{side}")
        for source in wanted:
            if source in head.moves:
                shapes[k, skin] += places.at(skin, head.moves[source])
        if stem.startswith("eyeLook"):
            axis, degrees = GAZE[stem.removeprefix("eyeLook")]
            eye = 1 if side == "_L" else 0
            # In: the left eye to the picture's left, the right eye to its right.
            if axis == 0 and (stem.endswith("In") == (eye == 1)):
                degrees = -degrees
            shapes[k, list(geo.IRISES[eye])] = places.iris(eye, _turn(axis, degrees)) - neutral[list(geo.IRISES[eye])]
    return torch.from_numpy(neutral), torch.from_numpy(shapes)


def finish(neutral: torch.Tensor, shapes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric, in the head frame, without rigid movement; eyes shut when they blink."""
    pair = [NAMES.index(n[:-4] + "Right" if n.endswith("Left") else n[:-5] + "Left" if n.endswith("Right") else n)
            for n in NAMES]
    unit = geo.unit_shape((neutral + geo.mirror(neutral)) / 2)
    shapes = (shapes + geo.mirror(shapes[pair])) / 2 / geo.outer_eye_distance(neutral)
    for k, name in enumerate(NAMES):
        if name.startswith("eyeBlink"):
            side = 0 if name.endswith("Right") else 1
            upper, lower = list(geo.EYES_UPPER[side][1:-1]), list(geo.EYES_LOWER[side][1:-1])
            # The head leaves a millimetre for its lashes.
            shapes[k, upper] = unit[lower] + shapes[k, lower] - unit[upper]
    # Robust, so that brows that move do not count as a turned skull.
    laid = geo.lay_on(unit + shapes, unit, rounds=3)
    shapes = laid - unit
    shapes[NAMES.index("_neutral")] = 0.0
    return unit, shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ict", type=Path, required=True, help="the packed head (npz)")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--neutral", action="store_true", help="write the head's own landmarks [478, 3] too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head = Head(arguments.ict)
    neutral, shapes = finish(*raw_shapes(head, Places(head)))
    tensors = {"shapes": shapes.float().contiguous()}
    if arguments.neutral:
        tensors["neutral"] = neutral.float().contiguous()
    save_file(tensors, str(arguments.out), metadata={"format": "playmate.arkit.1", "licence": "MIT"})


if __name__ == "__main__":
    main()
