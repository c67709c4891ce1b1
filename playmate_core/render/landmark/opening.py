"""An opening in the face (the mouth or one eye): two edges that move apart, and skin that each edge carries along.

Above the opening the skin follows the upper lip or lid, below it the lower: two smooth fields of movement that agree
beyond the corners. Each is continued across the opening, so that it can be turned round there, and is shown on its own
side only. What lies between the edges is painted by somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import topology
from .grid import Grid, dense, locate, nearest, smooth, smoothstep
from .head import ClipField
from .warp import Pose, displacement, invert, unfold, with_slopes

SAMPLES = 65
"""Points along each edge."""
ROUND = (0.12, 0.36)
"""Height of a mouth, of its length, from which its corners are round, and at which they are so wholly."""
TABLE = 192
"""Steps of an edge's height table across the opening."""


def through(points: np.ndarray, count: int = SAMPLES) -> np.ndarray:
    """[count, 2] a Catmull-Rom curve through ``points`` [K, 2], evenly spaced in the parameter."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    at = np.linspace(0, len(points) - 1, count)
    k = np.minimum(at.astype(int), len(points) - 2)
    t = (at - k)[:, None]
    a, b, c, d = (padded[k + i] for i in range(4))
    return b + t * (c - a) / 2 + t * t * (a - 2.5 * b + 2 * c - d / 2) + t ** 3 * (1.5 * (b - c) + (d - a) / 2)


def heights(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """How far ``points`` [N, 2] lie below ``curve`` [K, 2] in its own axes (corner to corner); inf beside it."""
    origin, along = curve[0], curve[-1] - curve[0]
    length = max(np.linalg.norm(along), 1e-6)
    along = along / length
    down = np.array([-along[1], along[0]])
    x, y = (points - origin) @ along, (points - origin) @ down
    cx, cy = np.maximum.accumulate((curve - origin) @ along), (curve - origin) @ down
    below = y - np.interp(x, cx, cy)
    return np.where((x < 0) | (x > length), np.inf, below)


@dataclass(frozen=True)
class Opening:
    """One opening, prepared.

    Attributes:
        grid: fine nodes round it.
        columns: [C] the landmarks that move them.
        weights: [2, N, C] how nodes follow, upper and lower field.
        edges: [2, K, 2] upper and lower edge in the portrait, pixels, left to right.
        ring: [2, K, 2] where the mesh has them. Edges move as it does, so that lips part by what is asked.
        rest_gap: [K] opening that must be counted as none (what closing the portrait's mouth leaves), pixels.
    """

    grid: Grid
    columns: Tensor
    weights: Tensor
    edges: Tensor
    ring: Tensor
    rest_gap: Tensor

    def to(self, device) -> Opening:
        return Opening(self.grid, self.columns.to(device), self.weights.to(device), self.edges.to(device),
                       self.ring.to(device), self.rest_gap.to(device))


def build(landmarks: np.ndarray, size: float, upper: tuple, lower: tuple, edges: np.ndarray, margin: tuple,
          step: float, hole: np.ndarray, lips: tuple | None = None, lash: np.ndarray | None = None) -> Opening:
    """Prepares an opening.

    Args:
        landmarks: [478, 3] pixels.
        size: outer-eye distance, pixels.
        upper, lower: landmarks of the edges, both ends included.
        edges: [2, K, 2] the edges in the picture; equal if the opening is shut.
        margin: left and right, above, below: how far the nodes reach beyond the edges, outer-eye distances.
        step: distance between nodes, outer-eye distances.
        hole: [898] the triangles between the edges.
        lash: [K] height of the line of lashes on the upper edge, pixels: it moves as the edge does and keeps its
            thickness.
        lips: [898] the triangles of the (upper, lower) lip, for a mouth: each field leaves the other lip's skin out.
    """
    low, high = edges.reshape(-1, 2).min(0), edges.reshape(-1, 2).max(0)
    side, above, below = (m * size for m in margin)
    grid = Grid.cover((low[0] - side, low[1] - above, high[0] + side, high[1] + below), max(step * size, 0.5))
    nodes = grid.nodes()
    vertex, weight, covered = locate(grid, landmarks, np.ones(len(topology.triangles()), bool))
    beside = np.flatnonzero(~covered)
    if len(beside) and covered.any():
        index = np.flatnonzero(covered)
        found = index[nearest(nodes[beside], nodes[index])]
        vertex[beside], weight[beside] = vertex[found], weight[found]
    columns = np.unique(np.concatenate([vertex.reshape(-1), list(upper), list(lower)]))
    base = dense(vertex, weight)[:, columns]
    near = np.linalg.norm(nodes - edges.reshape(-1, 2)[nearest(nodes, edges.reshape(-1, 2))], axis=1) < 0.25 * size
    fields, ring, lashes = [], edges, lash is not None and float(lash.max()) > 0
    if lips is not None:
        ring = np.stack([through(landmarks[list(curve), :2], edges.shape[1]) for curve in (upper, lower)])
    for part in (0, 1):
        taken = ~hole
        if lips is not None:
            taken &= ~lips[1 - part]
        vertex, weight, covered = locate(grid, landmarks, taken)
        beyond = heights(nodes, edges[part]) * (1 if part == 0 else -1)
        across = np.isfinite(beyond) & (beyond > -0.25 * grid.step)
        known = covered & ~across
        rows = dense(vertex, weight)[:, columns]
        rows[~known] = 0
        # Far behind the opening the field is the face's own: nobody looks there, but it stays smooth.
        far = ~known & ~near
        rows[far], known = base[far], known | far
        rows = fill(rows, known, grid)
        if lips is not None:
            # Beyond its corners a mouth is one skin: there both fields are the face's own, or a seam would run on
            # from the corner wherever they differ.
            beside = (smoothstep(_beside(nodes, edges.mean(0)) / (0.07 * size)))[:, None]
            rows = rows * (1 - beside) + base * beside
        if lips is None:
            # Behind a lid's edge the field goes on as at the edge: a lid that comes down must not overrun what is
            # below. Lips part instead of overrunning, and their corners come out rounder without it.
            edge = nodes[across] - (beyond[across] + 0.5 * grid.step)[:, None] * _down(edges[part]) * (1 - 2 * part)
            kept = (1 - smoothstep((beyond[across] / size - 0.10) / 0.25))[:, None]
            rows[across] = rows[across] * (1 - kept) + read_nodes(rows, grid, edge) * kept
        if part == 0 and lashes:
            span = edges[part][-1] - edges[part][0]
            place = [(points - edges[part][0]) @ span / max(float(span @ span), 1e-9)
                     for points in (edges[part], nodes)]
            high = np.maximum(np.interp(place[1], np.maximum.accumulate(place[0]), lash), 1e-6)
            over = np.isfinite(beyond) & (beyond <= 0) & (beyond > -2.2 * high)
            edge = nodes[over] - beyond[over, None] * _down(edges[part])
            kept = (1 - smoothstep((-beyond[over] / high[over] - 1.1) / 1.1))[:, None]
            rows[over] = rows[over] * (1 - kept) + read_nodes(rows, grid, edge) * kept
        rows = smooth(rows, grid, (0.014 if lashes else 0.010) * size)
        if lips is not None:
            single = np.eye(topology.LANDMARKS)[:, columns]
            asked = through(single[list((upper, lower)[part])], edges.shape[1])
            rows = _anchored(rows, grid, nodes, ring[part], asked, 0.12 * size)
        fields.append(rows)
    return Opening(grid, torch.from_numpy(columns), torch.from_numpy(np.stack(fields)),
                   torch.from_numpy(edges.astype(np.float32)), torch.from_numpy(ring.astype(np.float32)),
                   torch.zeros(edges.shape[1]))


def _down(curve: np.ndarray) -> np.ndarray:
    """[2] the direction in which :func:`heights` are measured."""
    along = (curve[-1] - curve[0]) / max(np.linalg.norm(curve[-1] - curve[0]), 1e-6)
    return np.array([-along[1], along[0]])


def _beside(points: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """[N] how far ``points`` [N, 2] lie beyond the nearer end of ``curve`` [K, 2], along its chord; 0 between them."""
    along = curve[-1] - curve[0]
    length = max(np.linalg.norm(along), 1e-6)
    x = (points - curve[0]) @ along / length
    return np.maximum(np.maximum(-x, x - length), 0)


def _anchored(rows: np.ndarray, grid: Grid, nodes: np.ndarray, curve: np.ndarray, asked: np.ndarray,
              reach: float) -> np.ndarray:
    """``rows`` [N, C] changed within ``reach`` of ``curve`` [K, 2] so that there they are ``asked`` [K, C].

    A field that was continued from one side is on the curve itself a mean of what lies beside it: where skin is
    squeezed that is much too little, lips that purse stay wide and lips that meet gape.
    """
    distance = np.linalg.norm(nodes[:, None] - curve[None], axis=-1)
    spacing = max(float(np.linalg.norm(np.diff(curve, axis=0), axis=1).mean()), 0.6 * grid.step)
    least = distance.min(1, keepdims=True)
    kernel = np.exp(-0.5 * (distance ** 2 - least ** 2) / (2 * spacing + 0.3 * least) ** 2)
    kernel = kernel / kernel.sum(1, keepdims=True) * (1 - smoothstep(least / reach))
    for _ in range(3):
        rows = rows + (kernel @ (asked - read_nodes(rows, grid, curve))).astype(np.float32)
    return rows


def read_nodes(rows: np.ndarray, grid: Grid, points: np.ndarray) -> np.ndarray:
    """[M, C] bilinear values of ``rows`` [N, C] at ``points`` [M, 2] pixels."""
    x = np.clip((points[:, 0] - grid.x0) / grid.step, 0, grid.columns - 1.001)
    y = np.clip((points[:, 1] - grid.y0) / grid.step, 0, grid.rows - 1.001)
    column, row = x.astype(int), y.astype(int)
    fx, fy = (x - column)[:, None].astype(rows.dtype), (y - row)[:, None].astype(rows.dtype)
    at = row * grid.columns + column
    top = rows[at] * (1 - fx) + rows[at + 1] * fx
    return top * (1 - fy) + (rows[at + grid.columns] * (1 - fx) + rows[at + grid.columns + 1] * fx) * fy


def fill(rows: np.ndarray, known: np.ndarray, grid: Grid) -> np.ndarray:
    """Continues ``rows`` [N, C] smoothly from ``known`` nodes to all others (normalised blurs, from wide to narrow)."""
    known = known.astype(np.float32)[:, None]
    packed = np.concatenate([rows * known, known], 1)
    out = None
    for sigma in (20.0, 8.0, 3.5, 1.5):
        blurred = smooth(packed, grid, sigma * grid.step)
        share = blurred[:, -1:]
        value = blurred[:, :-1] / np.maximum(share, 1e-6)
        trust = smoothstep((share - 0.02) / 0.25)
        out = value if out is None else out + (value - out) * trust
    return rows * known + out * (1 - known)


@dataclass(frozen=True)
class Surround:
    """What the opening's nodes take over from the head's: constant through a clip.

    Attributes:
        nodes: [N, 2] pixels; depth, flat, weight: [N]; border: [2, N].
    """

    nodes: Tensor
    depth: Tensor
    flat: Tensor
    weight: Tensor
    border: Tensor

    @staticmethod
    def of(opening: Opening, field: ClipField) -> Surround:
        nodes = opening.grid.nodes_tensor(field.depth.device)
        head = torch.cat([field.depth[None], field.flat[None], field.weight[None], field.border])
        value = field.grid.sample(head.reshape(1, 5, field.grid.rows, field.grid.columns), nodes[None])[0].flatten(1)
        depth, flat, weight = value[:3]
        return Surround(nodes.reshape(-1, 2), depth, flat, weight, value[3:])


@dataclass(frozen=True)
class DrawnOpening:
    """The opening in B frames, looked at on a box of pixels.

    Attributes:
        corner: [B, 2] int, first pixel (column, row) of each frame's box.
        pixels: [B, h, w, 2] pixel centres.
        upper, lower: [B, h, w, 2] where the skin above and below comes from, portrait pixels.
        above, below, between: [B, 1, h, w] shares of upper skin, lower skin and opening; they add up to one.
        along: [B, h, w] place across the opening, 0 at the left corner, 1 at the right.
        depth: [B, h, w] pixels below the upper edge.
        gap: [B, h, w] height of the opening at this place, pixels (zero beside it).
        feather: [B, 1, h, w] share of this patch in the finished frame, falling to 0 at its border.
    """

    corner: Tensor
    pixels: Tensor
    upper: Tensor
    lower: Tensor
    above: Tensor
    below: Tensor
    between: Tensor
    along: Tensor
    depth: Tensor
    gap: Tensor
    feather: Tensor

    def hole(self, reach: float = 0.0) -> tuple[slice, slice]:
        """(rows, columns) of the box outside which nothing of the opening shows, in any frame; or ``reach`` pixels
        around it."""
        rows = self.between.amax((0, 1, 3)).nonzero().flatten().tolist()
        columns = self.between.amax((0, 1, 2)).nonzero().flatten().tolist()
        if not rows:
            return slice(0, 0), slice(0, 0)
        more, (height, width) = round(reach), self.between.shape[2:]
        return (slice(max(0, rows[0] - more), min(height, rows[-1] + 1 + more)),
                slice(max(0, columns[0] - more), min(width, columns[-1] + 1 + more)))

    def window(self, rows: slice, columns: slice) -> DrawnOpening:
        """The same on a part of the box."""
        cut = {name: getattr(self, name)[:, rows, columns]
               for name in ("pixels", "upper", "lower", "along", "depth", "gap")}
        cut |= {name: getattr(self, name)[:, :, rows, columns] for name in ("above", "below", "between", "feather")}
        corner = self.corner + self.corner.new_tensor([columns.start, rows.start])
        return DrawnOpening(corner=corner, **cut)


def open_up(opening: Opening, around: Surround, landmarks: Tensor, pose: Pose, back: Tensor, back_grid: Grid,
            size: float, softness: float, deadzone: float = 0.0) -> DrawnOpening:
    """Moves both edges and finds what every pixel near the opening shows.

    Args:
        landmarks: [B, 478, 3] displacement, pixels.
        back: [B, 2, rows, columns] the head's backward map on ``back_grid``: where a place comes from, less the place.
        size: outer-eye distance, pixels.
        softness: width of the edges' ramp, pixels.
        deadzone: openings up to this, pixels, are shut.
    """
    grid, frames = opening.grid, landmarks.shape[0]
    moved = landmarks[:, opening.columns].permute(1, 0, 2).reshape(len(opening.columns), -1)
    both = torch.matmul(opening.weights, moved).reshape(2, -1, frames, 3).transpose(1, 2).flatten(0, 1)
    twice = Pose(pose.turn.repeat(2, 1), pose.shift.repeat(2, 1), pose.scale.repeat(2), pose.pivot, pose.size)
    field = displacement(around.nodes, around.depth, around.flat, around.weight, around.border, both, twice)
    field = field.reshape(2 * frames, 2, grid.rows, grid.columns)
    field = with_slopes(unfold(field, grid.step), grid.step)
    edges, ring = (curve.repeat_interleave(frames, 0) for curve in (opening.edges, opening.ring))
    shift = grid.sample(field[:, :2], ring[:, None])[:, :, 0].transpose(1, 2)
    upper_edge, lower_edge = (edges + shift).split(frames)
    # How much further than that their own place carries the edges' skin.
    carried = grid.sample(field[:, :2], edges[:, None])[:, :, 0].transpose(1, 2) - shift

    x0, y0, x1, y1 = grid.box
    hull = torch.cat([upper_edge, lower_edge], 1)
    pad = hull.new_tensor([min(float(opening.edges[..., 0].min()) - x0, x1 - float(opening.edges[..., 0].max())),
                           max(float(opening.edges[..., 1].min()) - y0, y1 - float(opening.edges[..., 1].max()))])
    low, high = hull.amin(1) - pad, hull.amax(1) + pad
    corner = low.floor()
    # Coarser than pixels where the nodes are: the map between them is smooth.
    stride = max(1, round(0.018 * size))
    extent = (high - corner).amax(0)
    columns, rows = (int(-(-float(e) // stride)) + 1 for e in extent)
    nodes = Grid(0, 0, stride, rows + 1, columns + 1).nodes_tensor(hull.device) + 0.5
    coarse = corner[:, None, None] + nodes
    height, width = stride * rows + 1, stride * columns + 1
    pixels = corner[:, None, None] + Grid(0, 0, 1, height, width).nodes_tensor(hull.device) + 0.5

    start = coarse + back_grid.sample(back, coarse).permute(0, 2, 3, 1)
    found = invert(field, grid, coarse.repeat(2, 1, 1, 1), start.repeat(2, 1, 1, 1), steps=4)
    offset = (found - coarse.repeat(2, 1, 1, 1)).permute(0, 3, 1, 2)
    start_offset = (start - coarse).permute(0, 3, 1, 2)
    fine = F.interpolate(torch.cat([offset, start_offset]), size=(height, width), mode="bilinear", align_corners=True)
    fine = pixels.repeat(3, 1, 1, 1) + fine.permute(0, 2, 3, 1)
    upper, lower, origin = fine.split(frames)

    rim = 0.06 * size
    inside = torch.stack([origin[..., 0] - x0, x1 - origin[..., 0], origin[..., 1] - y0, y1 - origin[..., 1]]).amin(0)
    feather = smoothstep(inside / rim)[:, None]

    along, top, bottom, down, steep, normal, further = _frame(upper_edge, lower_edge, pixels, opening.rest_gap,
                                                              carried.split(frames) if deadzone > 0 else None)
    gap = bottom - top
    if deadzone > 0:
        skin = top + further[0], bottom + further[1]
        top, bottom = top + further[2], bottom + further[3]
        gap = bottom - top
        # Grows smoothly from nothing: a tiny gap in the numbers is a shut mouth, and no line flickers between lips.
        open_gap = torch.where(gap > 0, gap * gap / (gap + deadzone), gap)
        middle = (top + bottom) / 2
        top, bottom, gap = middle - open_gap / 2, middle + open_gap / 2, open_gap
    middle = (top + bottom) / 2
    shut = gap < 0
    top, bottom = torch.where(shut, middle, top), torch.where(shut, middle, bottom)
    if deadzone > 0:
        # Lips that overlap in the numbers meet in the middle, each with its own edge: without this both would be cut
        # short there, and thin lips and the line between them vanish. So is skin that goes another way than the edge.
        aside = (along - along.clamp(0, 1)) * (upper_edge[:, -1] - upper_edge[:, 0]).norm(dim=-1)[:, None, None]
        fall = torch.exp(-((down - middle) / (0.06 * size)).square() - (aside / (0.05 * size)).square())
        fall = fall[..., None] * normal[:, None, None]
        upper = upper + fall * (skin[0] - top)[..., None]
        lower = lower + fall * (skin[1] - bottom)[..., None]
    above = ((top - down) / (softness * steep) + 0.5).clamp(0, 1)
    below = ((down - bottom) / (softness * steep) + 0.5).clamp(0, 1)
    between = (1 - above - below).clamp_min(0)
    return DrawnOpening(corner.long(), pixels, upper, lower, above[:, None], below[:, None], between[:, None], along,
                  down - top, gap.clamp_min(0), feather)


def _frame(upper: Tensor, lower: Tensor, pixels: Tensor, rest_gap: Tensor, carried: tuple | None = None):
    """Pixels in the opening's own axes.

    Args:
        carried: [B, K, 2] each, for a mouth: how much further than the (upper, lower) edge its skin goes.

    Returns:
        place across (0..1), heights of upper and lower edge there, the pixel's own height, all [B, h, w] and but for
        the first in pixels; how much longer than their run the edges are there (to soften across them, not down);
        the direction [B, 2] of heights; and ``carried`` in it, two [B, h, w], with by how much a round mouth's edges
        lie elsewhere, two more.
    """
    left, right = (upper[:, 0] + lower[:, 0]) / 2, (upper[:, -1] + lower[:, -1]) / 2
    span = right - left
    length = span.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    axis = span / length
    normal = torch.stack([-axis[:, 1], axis[:, 0]], -1)
    relative = pixels - left[:, None, None]
    along = (relative * axis[:, None, None]).sum(-1) / length[..., None]
    down = (relative * normal[:, None, None]).sum(-1)
    place = torch.linspace(0, 1, TABLE, device=pixels.device)
    tables, further = [], []
    for part, (edge, share) in enumerate(((upper, 0.5), (lower, -0.5))):
        from_left = edge - left[:, None]
        x = running_maximum((from_left * axis[:, None]).sum(-1) / length)
        y = (from_left * normal[:, None]).sum(-1) + share * rest_gap
        tables.append(_interpolate(place, x, y))
        if carried is not None:
            further.append(_interpolate(place, x, (carried[part] * normal[:, None]).sum(-1)))
    if carried is not None:
        # Where a pursed lip's edge turns back below itself, its height would jump.
        tables, further = [_softened(table, 4.0) for table in tables], [_softened(table, 8.0) for table in further]
    # The edges meet at the corners, however the two fields were smoothed there.
    meeting = (torch.minimum(place, 1 - place) / 0.06).clamp(0, 1).sqrt()
    middle, half = (tables[0] + tables[1]) / 2, (tables[1] - tables[0]) / 2 * meeting
    tables = [middle - half, middle + half]
    if carried is not None:
        # In the corners skin is one.
        mean, half = (further[0] + further[1]) / 2, (further[1] - further[0]) / 2 * meeting
        further = [mean - half, mean + half, *_rounding(*tables, length, place)]
    # One softness for both edges: where they meet, their ramps must add up to one.
    drawn = tables if carried is None else [tables[0] + further[2], tables[1] + further[3]]
    slopes = [torch.gradient(table, dim=1)[0] * (TABLE - 1) / length for table in drawn]
    tables.append((1 + (slopes[0].square() + slopes[1].square()) / 2).sqrt().clamp_max(6.0))
    at = along.clamp(0, 1) * (TABLE - 1)
    index = at.long().clamp(0, TABLE - 2)
    part = at - index
    flat, shape = index.flatten(1), index.shape
    values = []
    for table in tables + further:
        a, b = table.gather(1, flat).reshape(shape), table.gather(1, flat + 1).reshape(shape)
        values.append(a + (b - a) * part)
    return along, values[0], values[1], down, values[2], normal, values[3:]


def _rounding(upper: Tensor, lower: Tensor, length: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """[B, Q] each: what brings the edges of a mouth, heights ``upper`` and ``lower`` [B, Q] in pixels, further apart.

    Eleven points with straight lines between them end in corners of two flat sides. That is right for a slit; a mouth
    that is wide open is round, nearly an ellipse: open by 0.37 of its height at 0.07 of its length and by 0.61 at 0.15
    in tracked speakers, whose eleven points cut the corners a little.

    Args:
        length: [B, 1] from corner to corner, pixels; place: [Q] where the heights are, as a share of it.
    """
    middle = slice(len(place) * 2 // 5, len(place) * 3 // 5)
    height = (lower - upper).amax(1, keepdim=True)
    share = smoothstep((height / length - ROUND[0]) / (ROUND[1] - ROUND[0]))
    profile = (4 * place * (1 - place)).clamp_min(0) ** 0.55
    found = []
    for edge in (upper, lower):
        # From the corners' own heights: at the ends nothing may open, or a bar goes on beside the mouth.
        chord = edge[:, :1] + (edge[:, -1:] - edge[:, :1]) * place
        rise = (edge - chord)[:, middle].mean(1, keepdim=True)
        found.append(chord + rise * profile - edge)
    return share * found[0].clamp_max(0), share * found[1].clamp_min(0)


def _softened(table: Tensor, sigma: float) -> Tensor:
    """[B, Q] rows softened by a Gaussian of ``sigma`` steps; their ends stay."""
    reach = round(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=table.device) / sigma) ** 2)
    first, last = table[:, :1], table[:, -1:]
    # Mirrored about its own end: a curve keeps its slope there.
    before, after = 2 * first - table[:, 1:reach + 1].flip(1), 2 * last - table[:, -reach - 1:-1].flip(1)
    padded = torch.cat([before, table, after], 1)
    return F.conv1d(padded[:, None], (kernel / kernel.sum())[None, None])[:, 0]


def running_maximum(x: Tensor) -> Tensor:
    """[B, K] the largest so far in each row; Apple's GPUs have no cummax."""
    reach = 1
    while reach < x.shape[1]:
        x = torch.cat([x[:, :reach], torch.maximum(x[:, reach:], x[:, :-reach])], 1)
        reach *= 2
    return x


def _interpolate(queries: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[B, Q] piecewise linear interpolation of rows (x, y) [B, K], x not falling, at ``queries`` [Q]."""
    # How many lie below: a search that every device has.
    index = (x[:, :, None] < queries).sum(1).clamp(1, x.shape[1] - 1)
    x0, x1, y0, y1 = x.gather(1, index - 1), x.gather(1, index), y.gather(1, index - 1), y.gather(1, index)
    t = ((queries - x0) / (x1 - x0).clamp_min(1e-6)).clamp(0, 1)
    return y0 + (y1 - y0) * t
