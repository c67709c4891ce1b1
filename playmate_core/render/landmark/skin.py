"""Creases and rounded cheeks: what skin does where a movement pushes it together, as shading in the portrait's light.

Every crease has a place on the mesh, a shape (a narrow valley with raised flanks) and a measure: by how much lengths
between landmarks shrink. Its shading is worked out once a portrait, as the logarithm of a factor, from the direction
that the face's own shading says its light comes from; a frame adds them up in their amounts. Multiplying keeps hue and
grain. Faces without texture of their own, and faces with a cartoon's eyes, get none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import topology
from .edges import blur, luminance, read_bilinear
from .grid import Grid, polygon_distance, smoothstep
from .head import HeadFrame
from .opening import through

CELLS = 200
"""Cells of the shading's grid an outer-eye distance, at most; never finer than pixels."""
SMOOTH_SKIN, SKIN_TEXTURE = 0.0008, 0.0028
"""Contrast of cheeks and forehead in detail of about a hundredth of the eyes' distance, beyond the whole picture's own
grain: none below, all above."""
FINE_GRAIN, ROUGH_GRAIN = 0.0042, 0.0072
"""Contrast from pixel to pixel: photographed skin has up to the first; canvas, cracks, noise and film have more."""
SOFTER, FAINTER = 0.9, 0.40
"""How much wider and how much shallower creases are where a picture's grain hides what its skin is like."""
HUMAN_IRIS, CARTOON_IRIS = 0.086, 0.104
"""Radius of an iris, outer-eye distances: people's are 0.06 to 0.08."""
LARGEST = 2.0


@dataclass(frozen=True)
class Crease:
    """One line.

    Attributes:
        points: what it runs through: (landmark, landmark, share of the way, right, down), the last two in outer-eye
            distances of the head's own axes.
        width: standard deviation of the valley, outer-eye distances.
        depth: how dark it gets, as a logarithm.
        fold: how much of it is a fold: one flank bulges (to the left of its run where positive).
    """

    points: tuple
    width: float
    depth: float
    fold: float = 0.0


@dataclass(frozen=True)
class Feature:
    """Creases that come and go together.

    Attributes:
        pairs: ((landmark, landmark), weight): lengths whose shrinking (a share of themselves) adds up.
        start, full: sums at which the feature begins and is complete.
        creases: its lines.
        bump: (landmark, landmark, radius across, radius down, height) a rounding, or None.
        needs: index of another feature whose amount this one is multiplied by, or None.
        part: of the face that its creases are cut to: -1 left, 0 middle, 1 right; None for all of it.
    """

    pairs: tuple
    start: float
    full: float
    creases: tuple
    bump: tuple | None = None
    needs: int | None = None
    part: int | None = None


def _both(pairs: tuple, weight: float) -> tuple:
    return tuple((pair, weight / len(pairs)) for pair in pairs)


def _side(first: bool) -> dict:
    """Landmarks of the picture's left (``first``) or right half of the face, by what they are."""
    names = ("outer", "inner", "lid", "under", "cheek", "corner", "wing", "root", "apple", "side", "lip",
             "fold_a", "fold_b", "fold_c", "fold_d", "fold_e", "lip_a", "lip_b")
    left = (33, 133, 145, 118, 50, 61, 49, 122, 205, 123, 37, 129, 203, 206, 216, 212, 92, 186)
    right = (263, 362, 374, 347, 280, 291, 279, 351, 425, 352, 267, 358, 423, 426, 436, 432, 322, 410)
    return dict(zip(names, left if first else right, strict=True))


def _features() -> tuple[Feature, ...]:
    left, right = _side(True), _side(False)
    out = []
    knit = _both(((55, 285), (107, 336)), 1.0) + (((9, 168), 0.3),) + _both(((55, 133), (285, 362)), 0.35)
    lines = []
    for share, lean in ((0.29, -0.012), (0.71, 0.012)):
        lines.append(Crease(((107, 336, share, lean, -0.035), (55, 285, share, 0.0, -0.02),
                             (55, 285, share, -0.4 * lean, 0.045)), 0.014, 0.15))
    out.append(Feature(knit, 0.05, 0.17, tuple(lines)))
    root = ((168, 168, 0, -0.062, 0.004), (168, 168, 0, 0.0, -0.006), (168, 168, 0, 0.062, 0.004))
    second = ((6, 6, 0, -0.05, -0.020), (6, 6, 0, 0.0, -0.026), (6, 6, 0, 0.05, -0.020))
    out.append(Feature((((9, 168), 1.0), ((8, 6), 0.6)) + _both(((55, 133), (285, 362)), 0.4), 0.10, 0.30,
                       (Crease(root, 0.012, 0.08), Crease(second, 0.010, 0.05))))
    # The forehead: its middle and its halves, which rise one by one, take their parts of the same lines.
    lines, ends = [], ((105, 103), (66, 67), (107, 109), (336, 338), (296, 297), (334, 332))
    for number, (height, depth, inset) in enumerate(((0.27, 0.085, 0.10), (0.50, 0.115, 0.0), (0.72, 0.06, 0.06))):
        wave = (0.010, 0.004, -0.005, 0.003, -0.006, 0.006)
        lines.append(Crease(tuple((a, b, height + (0.04, 0.0, -0.05, -0.04, 0.0, 0.04)[k],
                                   inset * (1, 0, 0, 0, 0, -1)[k], wave[(k + 2 * number) % 6])
                                  for k, (a, b) in enumerate(ends)), 0.016, depth))
    for part, pairs in ((-1, ((105, 103), (66, 67))), (0, ((107, 109), (336, 338))), (1, ((334, 332), (296, 297)))):
        out.append(Feature(_both(pairs, 1.0), 0.06, 0.28, tuple(lines), part=part))
    for side, sign in ((left, -1.0), (right, 1.0)):
        smile = (((side["corner"], side["outer"]), 1.0),)
        cheek = len(out)
        corner, wing = side["corner"], side["wing"]
        fold = ((side["fold_a"], side["fold_b"], 0.1, 0, -0.01), (side["fold_b"], side["fold_c"], 0.35, 0, 0),
                (side["fold_c"], side["lip_a"], 0.3, 0, 0), (side["fold_d"], side["lip_b"], 0.45, 0, 0),
                (side["fold_e"], corner, 0.3, 0, 0.01))
        out.append(Feature((((corner, side["side"]), 0.5), ((corner, side["apple"]), 0.4), ((wing, side["inner"]), 0.5),
                            ((side["lip"], side["fold_a"]), 0.5)), 0.04, 0.24,
                           (Crease(fold, 0.030, 0.100, -sign * 0.5),)))
        out.append(Feature(smile, 0.05, 0.19, (), (side["cheek"], side["apple"], 0.13, 0.10, 0.30)))
        crow = []
        for angle, length, depth in ((-0.42, 0.10, 0.09), (0.02, 0.13, 0.13), (0.45, 0.12, 0.11)):
            way = np.array([np.cos(angle) * sign, np.sin(angle)])
            crow.append(Crease(tuple((side["outer"], side["outer"], 0, *(way * at + [0, 0.10 * at * at / 0.1])) for at
                                     in (0.055, 0.055 + length / 2, 0.055 + length)), 0.0065, depth))
        lids = topology.EYES_UPPER[0 if side is left else 1][4], topology.EYES_LOWER[0 if side is left else 1][4]
        out.append(Feature(((lids, 1.0),), 0.03, 0.28, tuple(crow), needs=cheek + 1))
        ring = (229, 230, 231, 232) if side is left else (452, 451, 450, 449)
        out.append(Feature((((side["lid"], side["under"]), 1.0), (lids, 0.06), ((corner, side["outer"]), 0.25)),
                           0.06, 0.16,
                           (Crease(tuple((mark, mark, 0, 0.0, -0.012) for mark in ring), 0.010, 0.12),)))
        bunny = tuple(Crease(((6, 6, 0, 0.035 * sign, 0.03 + down), (6, 6, 0, 0.062 * sign, 0.055 + down),
                              (6, 6, 0, 0.085 * sign, 0.095 + down)), 0.0075, depth)
                      for down, depth in ((0.0, 0.13), (0.05, 0.10)))
        out.append(Feature((((wing, side["inner"]), 0.6), ((wing, side["root"]), 1.0)), 0.08, 0.22, bunny))
    return tuple(out)


FEATURES = _features()


@dataclass(frozen=True)
class Skin:
    """What one portrait's skin does.

    Attributes:
        shading: [1, F, h, w] logarithm of the factor on the light at amount 1, by feature, on ``grid``.
        grid: its cells, over the portrait.
        rest: [478, 2] landmarks in the head's own axes, outer-eye distances.
        axes: [3, 2] picture's axes to the head's x and y, divided by the outer-eye distance.
    """

    shading: Tensor
    grid: Grid
    rest: Tensor
    axes: Tensor

    def to(self, device) -> Skin:
        return Skin(self.shading.to(device), self.grid, self.rest.to(device), self.axes.to(device))

    def amounts(self, landmarks: Tensor) -> Tensor:
        """[B, F] how complete each feature is, 0..1, given landmark displacement [B, 478, 3] in pixels.

        Exactly 0 where nothing is pushed together.
        """
        moved = self.rest + landmarks @ self.axes
        out = []
        for feature in FEATURES:
            total = moved.new_zeros(len(moved))
            for (a, b), weight in feature.pairs:
                length = (self.rest[a] - self.rest[b]).norm().clamp_min(1e-3)
                total = total + weight * (1 - (moved[:, a] - moved[:, b]).norm(dim=-1) / length).clamp(-0.3, 0.6)
            out.append(smoothstep((total - feature.start) / (feature.full - feature.start)))
        for k, feature in enumerate(FEATURES):
            if feature.needs is not None:
                out[k] = out[feature.needs] * (0.35 + 0.65 * out[k])
        return torch.stack(out, 1)

    def shade(self, picture: Tensor, landmarks: Tensor, offset: Tensor, corner: tuple[int, int], reach: float,
              strength: float) -> None:
        """Creases ``picture`` [B, 3, h, w] in place.

        Args:
            landmarks: [B, 478, 3] displacement, pixels.
            offset: [B, h, w, 2] where in the portrait its pixels come from, less where they are.
            corner: the portrait's column and row of its first pixel.
            reach: the largest offset, pixels.
            strength: the knob, 0 to 2.
        """
        amounts = self.amounts(landmarks) * strength
        used = (amounts > 0).any(0).nonzero().flatten()
        if strength <= 0 or not len(used):
            return
        x0, y0, x1, y1 = self.grid.box
        height, width = picture.shape[2:]
        c0, c1 = (min(max(int(v - corner[0]), 0), width) for v in (x0 - reach, x1 + reach + 2))
        r0, r1 = (min(max(int(v - corner[1]), 0), height) for v in (y0 - reach, y1 + reach + 2))
        if c0 >= c1 or r0 >= r1:
            return
        log = torch.einsum("bf,fhw->bhw", amounts[:, used], self.shading[0, used])
        # What gets lighter keeps its distance from white, so that nothing burns out. At 0 both are exactly nothing.
        change = torch.stack([torch.expm1(-log.abs()), -torch.expm1(-log.clamp_min(0))], 1)
        pixels = Grid(corner[0] + c0 + 0.5, corner[1] + r0 + 0.5, 1, r1 - r0, c1 - c0).nodes_tensor(picture.device)
        change = self.grid.sample(change, pixels + offset[:, r0:r1, c0:c1])
        part = picture[:, :, r0:r1, c0:c1]
        part += part * change[:, :1] + change[:, 1:]


def light_direction(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[2] where the face's light comes from in the picture (x right, y down), at most 1 long: 0 for flat light.

    The regression of its luminance at the mesh's points on the mesh's normals there.
    """
    sheet = topology.triangles()
    points = landmarks[:topology.MESH_POINTS]
    a, b, c = (points[sheet[:, k]] for k in range(3))
    faces = np.cross(b - a, c - a)
    faces *= -np.sign(faces[:, 2:] + 1e-12)
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, sheet[:, k], faces)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    dark = {k for curves in (topology.EYES_UPPER, topology.EYES_LOWER) for curve in curves for k in curve}
    dark |= set(topology.LIPS_INNER_UPPER + topology.LIPS_INNER_LOWER + topology.LIPS_OUTER_UPPER
                + topology.LIPS_OUTER_LOWER)
    kept = np.array([k for k in range(topology.MESH_POINTS) if k not in dark and normals[k, 2] < -0.3])
    light = luminance(read_bilinear(image, points[kept, :2]))
    low, high = np.quantile(light, [0.15, 0.98])
    kept, light = kept[(light > low) & (light < high)], light[(light > low) & (light < high)]
    if len(kept) < 20:
        return np.array([0.0, -0.35])
    matrix = np.concatenate([normals[kept, :2], np.ones((len(kept), 1))], 1)
    slope = np.linalg.lstsq(matrix, light, rcond=None)[0]
    found = slope[:2] / max(float(light.mean()), 0.05)
    # Light comes from above more often than not, and a regression on a face is a rough guess.
    found = 0.7 * found + np.array([0.0, -0.2])
    return found / max(1.0, float(np.linalg.norm(found)) / 0.8)


def texture_of(image: np.ndarray, landmarks: np.ndarray, size: float) -> float:
    """Contrast of the skin's fine detail against its own light, less what the whole picture has even where it is
    smoothest: about 0.002 to 0.02 on photographs, next to 0 on flat paint, on canvas and under noise alone."""
    found, reach = [], max(4, int(0.07 * size))
    softness = max(0.6, 0.005 * size)
    light = luminance(image).astype(np.float64)
    fine = blur(light, softness, softness) - blur(light, 0.02 * size, 0.02 * size)
    for patch, own in zip(_patches(fine, landmarks, reach), _patches(light, landmarks, reach), strict=True):
        found.append((_contrast(patch), max(float(own.mean()), 0.05)))
    if not found:
        return 0.0
    # Nothing is smoother than the grain that lies over all of it. Black and white hide it.
    grain = [_contrast(fine[y:y + 2 * reach, x:x + 2 * reach])
             for y in range(0, light.shape[0] - 2 * reach + 1, reach)
             for x in range(0, light.shape[1] - 2 * reach + 1, reach)
             if 0.06 < light[y:y + 2 * reach, x:x + 2 * reach].mean() < 0.94]
    grain = 1.1 * float(np.quantile(grain, 0.1)) if len(grain) >= 20 else 0.0
    return float(np.median([np.sqrt(max(value ** 2 - grain ** 2, 0.0)) / mean for value, mean in found]))


def roughness_of(image: np.ndarray, landmarks: np.ndarray, size: float) -> float:
    """0..1 how much the face's grain, from pixel to pixel, is coarser than skin's."""
    found = []
    for patch in _patches(luminance(image).astype(np.float64), landmarks, max(4, int(0.07 * size))):
        found.append(_contrast(patch - blur(patch, 0.6, 0.6)) / max(float(patch.mean()), 0.05))
    value = np.median(found) if found else 0.0
    return float(smoothstep(np.float64((value - FINE_GRAIN) / (ROUGH_GRAIN - FINE_GRAIN))))


def _patches(light: np.ndarray, landmarks: np.ndarray, reach: int) -> list[np.ndarray]:
    """Pieces of ``light`` [H, W] on cheeks and forehead."""
    out = []
    for landmark in (50, 280, 101, 330, 205, 425, 151, 108, 337):
        x, y = (int(v) for v in landmarks[landmark, :2])
        patch = light[max(0, y - reach):max(0, y + reach), max(0, x - reach):max(0, x + reach)]
        if min(patch.shape) >= 6:
            out.append(patch)
    return out


def _contrast(patch: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(patch[2:-2, 2:-2])))


def prepare(image: np.ndarray, landmarks: np.ndarray, frame: HeadFrame) -> Skin:
    """The shading of every feature on the face ``landmarks`` [478, 3] in ``image`` [H, W, 3]."""
    size = frame.size
    height, width = image.shape[:2]
    oval = landmarks[list(topology.OVAL), :2]
    low = np.maximum(oval.min(0) - 0.02 * size, 0)
    high = np.minimum(oval.max(0) + 0.02 * size, [width, height])
    high = np.maximum(high, low + 2)
    grid = Grid.cover((*low, *high), max(1.0, size / CELLS))
    across, down = (frame.rotation[:2, k] * size for k in (0, 1))
    nodes = grid.nodes()
    light = light_direction(image, landmarks)
    strength = smoothstep(np.float64((texture_of(image, landmarks, size) - SMOOTH_SKIN)
                                     / (SKIN_TEXTURE - SMOOTH_SKIN)))
    irises = [np.linalg.norm(landmarks[list(ring[1:]), :2] - landmarks[ring[0], :2], axis=1).mean() / size
              for ring in topology.IRISES]
    strength *= 1 - smoothstep(np.float64((np.mean(irises) - HUMAN_IRIS) / (CARTOON_IRIS - HUMAN_IRIS)))
    shading = np.zeros((len(FEATURES), len(nodes)))
    if strength > 0:
        own, rough = _own_lines(image, nodes, size), roughness_of(image, landmarks, size)
        for k, feature in enumerate(FEATURES):
            for number, crease in enumerate(feature.creases):
                shading[k] += _valley(crease, landmarks, grid, across, down, size, light, 7 * k + number, own, rough)
            if feature.part is not None:
                shading[k] *= _part(feature.part, landmarks, nodes, across)
            if feature.bump is not None:
                shading[k] += _bump(feature.bump, landmarks, nodes, across, down, size, light)
        shading *= strength * _bare(image, landmarks, nodes, size)
        ends = np.minimum(nodes - low, high - nodes).min(1) / (0.05 * size)
        shading *= smoothstep(ends)
    rotation = frame.rotation[:, :2]
    centre = landmarks[list(topology.OVAL)].mean(0)
    rest = torch.from_numpy(((landmarks - centre) @ rotation / size).astype(np.float32))
    return Skin(torch.from_numpy(shading.astype(np.float32)).reshape(1, len(FEATURES), grid.rows, grid.columns), grid,
                rest, torch.from_numpy((rotation / size).astype(np.float32)))


def _part(part: int, landmarks: np.ndarray, nodes: np.ndarray, across: np.ndarray) -> np.ndarray:
    """[N] share 0..1 of the left (-1), middle (0) or right (1) of the face; the three add up to one."""
    x = (nodes - landmarks[168, :2]) @ across / float(across @ across)
    left, right = 1 - smoothstep((x + 0.30) / 0.25), smoothstep((x - 0.05) / 0.25)
    return {-1: left, 0: 1 - left - right, 1: right}[part]


def _valley(crease: Crease, landmarks: np.ndarray, grid: Grid, across: np.ndarray, down: np.ndarray, size: float,
            light: np.ndarray, seed: int, own: np.ndarray, rough: float) -> np.ndarray:
    """[N] shading of one crease.

    Args:
        own: [N] the portrait's own fine dark lines: what runs along the crease deepens with it.
        rough: 0..1, see roughness_of: the crease is soft and follows none of the portrait's lines.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.spatial import cKDTree

    nodes = grid.nodes()

    points = np.stack([(1 - share) * landmarks[a, :2] + share * landmarks[b, :2] + right * across + lower * down
                       for a, b, share, right, lower in crease.points])
    line = through(points, 97)
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-6)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    # No hand draws it: it wanders a little, and is deeper here and shallower there.
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, len(line))
    waves = [sum(rng.normal() * np.sin(2 * np.pi * (f * at + rng.random())) / f for f in (1, 2, 3.7)) for _ in range(2)]
    line = line + normal * (0.0022 * size * waves[0])[:, None]
    taper = np.sin(np.pi * np.clip(at * 0.94 + 0.03, 0, 1)) ** (1.1 if crease.fold else 0.8)
    strong = taper * np.clip(1 + 0.35 * waves[1], 0.35, 1.4)
    sigma = max(crease.width * size, 0.75) * (1 + SOFTER * rough)
    reach = 8 * sigma
    box = (nodes >= line.min(0) - reach).all(1) & (nodes <= line.max(0) + reach).all(1)
    value = np.zeros(len(nodes))
    index = np.flatnonzero(box)
    if not len(index):
        return value
    nearest = cKDTree(line).query(nodes[index])[1]
    offset = nodes[index] - line[nearest]
    beside = (offset * normal[nearest]).sum(1)
    along = (offset * tangent[nearest]).sum(1)
    depth = crease.depth * (1 - FAINTER * rough) * strong[nearest] * np.exp(-0.5 * (along / sigma) ** 2)
    near = np.exp(-0.5 * (beside / sigma) ** 2)
    wide = np.exp(-0.5 * (beside / (2.6 * sigma)) ** 2)
    lit = normal[nearest] @ light
    # Darkness in the valley, the flank towards the light darker, the other lighter, a soft ridge on both sides.
    shade = -0.75 * near - 0.9 * lit * (beside / sigma) * near + 0.24 * (wide - near)
    if crease.fold:
        # One side swells over the other: light on its crown, shadow where it turns down.
        outward = beside * np.sign(crease.fold) / sigma
        swell = np.exp(-0.5 * ((outward - 2.4) / 1.7) ** 2)
        shade += abs(crease.fold) * (0.32 * swell - 0.30 * np.exp(-0.5 * ((outward - 0.2) / 1.3) ** 2))
    value[index] = depth * shade
    if rough < 1:
        # Averaged along its run: pores, cracks and noise cross it here and there, a line of the skin goes with it.
        steps = np.linspace(-3, 3, 25) * sigma
        beside_line = line[:, None] + normal[:, None] * steps[None, :, None]
        run = read_bilinear(own.reshape(grid.rows, grid.columns),
                            (beside_line - [grid.x0, grid.y0]) / grid.step + 0.5)
        length = np.linalg.norm(np.diff(line, axis=0), axis=1).sum() / (len(line) - 1)
        run = gaussian_filter1d(run, 0.035 * size / max(length, 1e-6), 0, mode="nearest")
        kept = read_bilinear(run, np.stack([(beside / sigma + 3) * 4 + 0.5, nearest + 0.5], -1))
        nearness = np.exp(-0.5 * (beside / (1.6 * sigma)) ** 2 - 0.5 * (along / (2 * sigma)) ** 2)
        value[index] += 0.5 * (1 - rough) * nearness * kept
    return value


def _bump(bump: tuple, landmarks: np.ndarray, nodes: np.ndarray, across: np.ndarray, down: np.ndarray, size: float,
          light: np.ndarray) -> np.ndarray:
    """[N] shading of a rounded cheek."""
    a, b, right, lower, height = bump
    centre = 0.6 * landmarks[a, :2] + 0.4 * landmarks[b, :2]
    # On a turned head the cheek is as narrow as its axes are in the picture.
    basis = np.stack([across * right, down * lower], 1)
    u = np.linalg.solve(basis, (nodes - centre).T).T
    hill = np.exp(-0.5 * (u ** 2).sum(1))
    towards = np.linalg.solve(np.stack([across, down], 1) / size, light)
    facing = (u * towards).sum(1) * hill
    return height * (0.30 * hill + 0.9 * facing - 0.30 * np.exp(-0.5 * (u[:, 0] ** 2 + (u[:, 1] - 1.7) ** 2 / 0.5)))


def _own_lines(image: np.ndarray, nodes: np.ndarray, size: float) -> np.ndarray:
    """[N] the logarithm of the portrait's own fine dark lines: skin that creases, creases there first."""
    low, high = np.floor(nodes.min(0) - 4).astype(int).clip(0), np.ceil(nodes.max(0) + 4).astype(int)
    light = luminance(image[low[1]:high[1], low[0]:high[0]]).astype(np.float64) + 0.02
    fine = blur(light, max(0.5, 0.004 * size), max(0.5, 0.004 * size))
    wide = blur(light, 0.022 * size, 0.022 * size)
    return np.clip(read_bilinear(np.log(fine / wide), nodes - low), -0.10, 0.03)


def _bare(image: np.ndarray, landmarks: np.ndarray, nodes: np.ndarray, size: float) -> np.ndarray:
    """[N] 0..1 where skin is bare: no hair over the forehead, nothing within lids and lips."""
    low, high = np.floor(nodes.min(0) - 4).astype(int).clip(0), np.ceil(nodes.max(0) + 4).astype(int)
    light = blur(luminance(image[low[1]:high[1], low[0]:high[0]]).astype(np.float64), 0.012 * size, 0.012 * size)
    usual = blur(light, 0.10 * size, 0.10 * size)
    bare = smoothstep((read_bilinear(light / np.maximum(usual, 0.02), nodes - low) - 0.62) / 0.2)
    rings = [list(topology.EYES_UPPER[eye]) + list(topology.EYES_LOWER[eye][-2:0:-1]) for eye in (0, 1)]
    rings.append(list(topology.LIPS_OUTER_UPPER) + list(topology.LIPS_OUTER_LOWER[-2:0:-1]))
    for ring in rings:
        polygon, reach = landmarks[ring, :2], 0.03 * size
        near = (nodes > polygon.min(0) - reach).all(1) & (nodes < polygon.max(0) + reach).all(1)
        bare[near] *= smoothstep(polygon_distance(nodes[near], polygon) / reach)
    return bare


__all__ = ["FEATURES", "Skin", "light_direction", "prepare", "texture_of"]
