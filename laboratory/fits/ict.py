"""ARKit's 52 expressions as displacements of the 478 landmarks, read off the ICT-FaceKit head.

    python -m laboratory.fits.ict --ict ict.npz -o shapes.safetensors [--neutral]

ICT-FaceKit (USC Institute for Creative Technologies, MIT licence) is a 3D head with sculpted shapes of ARKit's
names; ``ict_head.py`` reads and draws it. Nothing of it ships.

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
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from playmate_core.face import geometry as geo
from playmate_core.face.analyzer import FaceAnalyzer
from playmate_core.face.blendshapes import NAMES

from .ict_head import (
    EYE_RADIUS,
    IRIS_RADIUS,
    LIDS_LOWER,
    LIDS_UPPER,
    LIP_INNER,
    LIP_OUTER,
    PICTURE,
    Head,
    draw,
)

LIP_BETWEEN = (
    ((76, 184, 74, 73, 72, 11, 302, 303, 304, 408, 306), (76, 77, 90, 180, 85, 16, 315, 404, 320, 307, 306)),
    ((62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292), (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292)))
"""The two curves of landmarks between the lips' outer and inner edge, upper and lower, right corner to left."""

GAZE = {"Up": (1, -25.0), "Down": (1, 30.0), "In": (0, 30.0), "Out": (0, 30.0)}
"""How far eyeballs turn at weight 1, degrees. The head's own shapes of gaze move the lids alone. About the range of
human eyes in comfort; ARKit documents no angle."""

STILL = 0.3
"""What is left of the lower lid's movement in a blink."""
FACING = 0.2
"""A landmark seen from the front is trusted where the skin's normal points to the viewer by at least this cosine."""


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
    """Where the landmarks lie: ``rows`` gives each but the irises its vertices [K] and their weights [K]."""

    def __init__(self, head: Head) -> None:
        self.head, mean = head, geo.mean_face().double().numpy()
        self.mean = mean
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
        around = self.mean[list(geo.IRISES[side]), :2] - self.mean[geo.IRISES[side][0], :2]
        around *= IRIS_RADIUS / np.linalg.norm(around, axis=1).max()
        depth = np.sqrt(EYE_RADIUS**2 - (around**2).sum(1))
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
        share = 1.0
        if stem == "cheekSquint":
            # The head tells the upper cheek from the lower; both whole would shut the eye.
            wanted, share = [f"cheekSquint{side}", f"cheekRaiser{side}"], 0.5
        for source in wanted:
            if source in head.moves:
                shapes[k, skin] += share * places.at(skin, head.moves[source])
        if stem.startswith("eyeLook"):
            axis, degrees = GAZE[stem.removeprefix("eyeLook")]
            eye = 1 if side == "_L" else 0
            # In: the left eye to the picture's left, the right eye to its right.
            if axis == 0 and (stem.endswith("In") == (eye == 1)):
                degrees = -degrees
            shapes[k, list(geo.IRISES[eye])] = places.iris(eye, _turn(axis, degrees)) - neutral[list(geo.IRISES[eye])]
    return torch.from_numpy(neutral), torch.from_numpy(shapes)


def shut_eyes(unit: torch.Tensor, shapes: torch.Tensor) -> None:
    """Lets the lids meet in a blink, in place: the head leaves a millimetre for its lashes."""
    for name, upper, lower in zip(("eyeBlinkRight", "eyeBlinkLeft"), geo.EYES_UPPER, geo.EYES_LOWER, strict=True):
        shape, upper, lower = shapes[NAMES.index(name)], list(upper[1:-1]), list(lower[1:-1])
        # The sculpted lower lid slips along itself by 3 mm, which no tracker sees.
        shape[lower] *= STILL
        shape[upper] = unit[lower] + shape[lower] - unit[upper]


def shut_lips(unit: torch.Tensor, shapes: torch.Tensor) -> None:
    """Lets the lips meet in mouthClose with jawOpen, in place: the head's lower lip goes through the upper."""
    close = shapes[NAMES.index("mouthClose")]
    face = unit + shapes[NAMES.index("jawOpen")] + close
    upper, lower = (torch.tensor(pair) for pair in zip(*geo.INNER_LIP_PAIRS, strict=True))
    rest = unit[lower, 1] - unit[upper, 1]
    through = rest - (face[lower, 1] - face[upper, 1])
    rows = [geo.LIPS_INNER[:10:-1]] + [between[1][1:-1] for between in LIP_BETWEEN[::-1]] + [geo.LIPS_OUTER[:10:-1]]
    for row, part in zip(rows, (1.0, 0.9, 0.75, 0.5), strict=True):
        close[list(row), 1] += part * through


def keep_brows(shapes: torch.Tensor) -> None:
    """Halves how far the edges of each brow move apart or together, in place: the head is sculpted without hair."""
    for upper, lower in zip(geo.BROWS_UPPER, geo.BROWS_LOWER, strict=True):
        a, b = shapes[:, list(upper)], shapes[:, list(lower)]
        shapes[:, list(upper)], shapes[:, list(lower)] = (3 * a + b) / 4, (a + 3 * b) / 4


def finish(neutral: torch.Tensor, shapes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric, in the head frame, without rigid movement; lids and lips meet, brows keep their thickness.

    Args:
        neutral: [478, 3] and ``shapes`` [52, 478, 3], centimetres.

    Returns:
        Both in outer-eye distances.
    """
    pair = [NAMES.index(n[:-4] + "Right" if n.endswith("Left") else n[:-5] + "Left" if n.endswith("Right") else n)
            for n in NAMES]
    unit = geo.unit_shape((neutral + geo.mirror(neutral)) / 2)
    shapes = (shapes + geo.mirror(shapes[pair])) / 2 / geo.outer_eye_distance(neutral)
    keep_brows(shapes)
    shut_eyes(unit, shapes)
    shut_lips(unit, shapes)
    for k, shape in enumerate(shapes):
        # What a shape moves by itself (brows, the forehead over them, lids) must not count as a turned skull.
        still = 1 / (1 + (shape[list(geo.RIGID)].norm(dim=-1) / 0.002) ** 2)
        scale, rotation, shift = geo.similarity((unit + shape)[None, list(geo.RIGID)], unit[list(geo.RIGID)],
                                                weights=still)
        shapes[k] = scale * ((unit + shape) @ rotation[0]) + shift - unit
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
