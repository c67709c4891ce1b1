"""What lies between the lips: teeth on skull and jaw, tongue, darkness, or the portrait's own open mouth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...runtime.sampling import sample
from . import teeth, topology
from .edges import WIDE, luminance, read_bilinear
from .expression import USUAL_MOUTH_WIDTH
from .grid import polygon_distance, smoothstep
from .head import HeadFrame
from .opening import DrawnOpening, through
from .palette import Palette
from .warp import Pose, Texture, inverse_2x2, rigid

BEHIND = 0.07
"""How far the teeth lie behind the lips, outer-eye distances."""
UPPER_EDGE = 0.036
LOWER_EDGE = 0.022
"""Biting edges of the upper and lower front teeth below the closed lips' line; the lower with the jaw. The upper cover
the lower, so that a smile with a shut jaw has no dark slit between them, and lips at rest hide all but 3 mm of them."""
LOWER_SHOWN = 0.045
"""How much of the lower teeth a lower lip leaves in sight, about, outer-eye distances: lips are lowered away from teeth
less than chins say, and a mouth with a wall of lower teeth in it is seldom seen."""
BEND = 0.45
"""How much the upper row may rise to the sides with drawn-up corners, beyond its own curve, per distance from the
middle squared: so a grin shows teeth, not darkness, in its corners."""
GUMS = 0.004
"""How much gum a raised lip shows above the front teeth, units."""
OWN = 0.09
"""Gap between a portrait's lips, outer-eye distances, from which what shows there is kept: of less, a wider mouth would
show a slit with bits of lips round it, in the midst of drawn teeth."""
ROLL = 0.016
"""How far the moist inside of a lip is seen to roll back into the mouth, outer-eye distances."""


@dataclass(frozen=True)
class Mouth:
    """The inside of one portrait's mouth.

    Attributes:
        origin: [3] middle of the closed lips' line, at the teeth's depth, pixels.
        axes: [2, 3] one unit across and one unit down, pixels (head's axes in the portrait).
        upper, lower: [1, 4, h, w] the rows of teeth, RGBA.
        gum, lip, cavity: [3] colours.
        edge: where the upper biting edge lies, units below the line.
        own: [1, 1, h, w] where the portrait's own open mouth is to be used, on ``own_box``; None if it is hardly open.
        own_box: x0, y0, width, height, pixels.
        size: outer-eye distance, pixels.
        unit: one unit, pixels.
        noise: [1, 1, n, n] grain.
        light: [2] the picture's light at the mouth's left and right, as shares of their mean.
        apart: whether the portrait's lips are visibly apart.
    """

    origin: Tensor
    axes: Tensor
    upper: Tensor
    lower: Tensor
    gum: Tensor
    lip: Tensor
    cavity: Tensor
    edge: float
    own: Tensor | None
    own_box: tuple
    size: float
    unit: float
    noise: Tensor
    light: Tensor
    apart: bool

    def to(self, device) -> Mouth:
        moved = {name: getattr(self, name).to(device) for name in
                 ("origin", "axes", "upper", "lower", "gum", "lip", "cavity", "noise", "light")}
        own = None if self.own is None else self.own.to(device)
        return Mouth(**moved, edge=self.edge, own=own, own_box=self.own_box, size=self.size, unit=self.unit,
                     apart=self.apart)


def prepare(image: np.ndarray, landmarks: np.ndarray, frame: HeadFrame, palette: Palette, edges: np.ndarray,
            closing: np.ndarray | None) -> Mouth:
    """Builds the mouth.

    Args:
        image: [H, W, 3].
        edges: [2, K, 2] inner lips.
        closing: [478, 3] displacement that shuts the mouth, pixels; None if it is shut.
    """
    size = frame.size
    upper, lower = list(topology.LIPS_INNER_UPPER), list(topology.LIPS_INNER_LOWER)
    width = np.linalg.norm(landmarks[upper[0]] - landmarks[upper[-1]])
    unit = size * float(np.clip((width / size / USUAL_MOUTH_WIDTH) ** 0.6, 0.60, 1.10))
    points = landmarks[[upper[5], lower[5]]]
    if closing is not None:
        points = points + closing[[upper[5], lower[5]]]
        middle = points.mean(0)
    else:
        line = edges.mean(0)
        middle = np.append(line[len(line) // 2], points[:, 2].mean())
    corners = (landmarks[upper[0]] + landmarks[upper[-1]]) / 2
    # Lips bow to one side; the line is half-way between their middle and the corners' mean, sideways by the corners.
    across, down, away = frame.rotation.T * unit
    origin = middle + frame.rotation[:, 2] * BEHIND * size
    sideways = ((corners - middle) @ frame.rotation[:, 0]) * frame.rotation[:, 0]
    origin = origin + 0.5 * sideways
    per_unit = float(np.clip(1.5 * unit, 64, 420))
    tooth, gum = palette.teeth, palette.gum
    edge, own, own_box = UPPER_EDGE, None, (0, 0, 1, 1)
    # As edges.mouth_edges tells them: between lips that are hardly apart there is nothing of the portrait's own.
    mesh = np.linalg.norm(through(landmarks[lower, :2]) - through(landmarks[upper, :2]), axis=1).max()
    apart = closing is not None and bool(mesh >= WIDE * size)
    if apart:
        gap = np.linalg.norm(edges[1] - edges[0], axis=1).max()
        if gap > OWN * size:
            own, own_box = _own_mask(landmarks, edges, size, image.shape)
        seen = _own_teeth(image, edges) if gap > 0.05 * size else None
        if seen is not None:
            shaded, lowest = seen
            # Between lips that are hardly apart they lie in the shade, which is drawn on top.
            lighter = max(1.0, 0.95 * float(luminance(tooth)) / max(float(luminance(shaded)), 1e-3))
            tooth = np.clip(tooth + (shaded * lighter - tooth) * (1.0 if own is not None else 0.4), 0, 1)
            # Drawn teeth go on beside the portrait's own, not below them.
            edge = float(((lowest - origin[:2]) @ (down / unit)[:2]) / unit) - 0.012
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1, 1, 64, 64, generator=generator) * palette.grain * 0.6

    def picture(array):
        return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float()

    def tensor(value):
        return torch.from_numpy(np.asarray(value)).float()

    return Mouth(tensor(origin), tensor(np.stack([across, down])),
                 picture(teeth.row_of_teeth(True, per_unit, tooth, gum, palette.colourful)),
                 picture(teeth.row_of_teeth(False, per_unit, tooth * 0.92, gum, palette.colourful)),
                 tensor(gum), tensor(palette.lip), tensor(palette.cavity), edge,
                 None if own is None else tensor(own)[None, None], own_box, size, unit, noise,
                 tensor(palette.sides), apart)


def _own_mask(landmarks: np.ndarray, edges: np.ndarray, size: float, shape: tuple) -> tuple[np.ndarray, tuple]:
    """A soft mask of the portrait's own opening, a little inside the lips' edges."""
    ring = np.concatenate([edges[0], edges[1][::-1]])
    low = np.floor(np.maximum(ring.min(0) - 2, 0)).astype(int)
    high = np.ceil(np.minimum(ring.max(0) + 2, [shape[1], shape[0]])).astype(int)
    y, x = np.mgrid[low[1]:max(high[1], low[1] + 1), low[0]:max(high[0], low[0] + 1)]
    points = np.stack([x + 0.5, y + 0.5], -1).reshape(-1, 2).astype(np.float64)
    outside = polygon_distance(points, ring)
    a, b = ring, np.roll(ring, -1, axis=0)
    depth = np.full(len(points), np.inf)
    for start, along in zip(a, b - a, strict=True):
        t = np.clip(((points - start) @ along) / max(float(along @ along), 1e-9), 0, 1)
        depth = np.minimum(depth, np.linalg.norm(points - start - t[:, None] * along, axis=1))
    # The lower lip's wet rim often lies inside the mesh's edge: keep further away from it than from the upper.
    b = edges[1]
    rim = np.linalg.norm(points[:, None] - b[None], axis=-1).min(1)
    depth = np.minimum(depth, np.maximum(rim - 0.014 * size, 0))
    mask = np.where(outside > 0, 0.0, smoothstep((depth - 0.004 * size) / (0.014 * size)))
    # In the corners lips and cheeks come close, and a wider mouth would show them as teeth.
    chord = edges[:, -1].mean(0) - edges[:, 0].mean(0)
    along = (points - edges[:, 0].mean(0)) @ chord / max(float(chord @ chord), 1e-9)
    mask = mask * smoothstep((0.5 - np.abs(along - 0.5) - 0.07) / 0.13)
    return mask.reshape(x.shape), (int(low[0]), int(low[1]), x.shape[1], x.shape[0])


def _own_teeth(image: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(colour [3], where they end [2]) of the upper teeth in the portrait's open mouth, if it shows any."""
    third = len(edges[0]) // 3
    shares = np.linspace(0.1, 0.9, 17)
    points = (edges[0][None, third:2 * third] * (1 - shares[:, None, None])
              + edges[1][None, third:2 * third] * shares[:, None, None])
    colours = read_bilinear(image, points)
    light, spread = luminance(colours), colours.max(-1) - colours.min(-1)
    bright = light >= np.quantile(light, 0.7)
    colour = colours[bright].mean(0)
    lips = read_bilinear(image, np.concatenate([edges[0], edges[1]]))
    pale = float(spread[bright].mean()) < 0.45 * max(float(light[bright].mean()), 1e-3)
    if not pale or float(luminance(colour)) < 1.15 * float(luminance(lips).mean()):
        return None
    toothlike = light > 0.72 * float(luminance(colour))
    rows = np.array([np.flatnonzero(column).max() if column.any() else 0 for column in toothlike.T])
    share = shares[int(np.median(rows))]
    middle = len(edges[0]) // 2
    return colour, edges[0][middle] * (1 - share) + edges[1][middle] * share


def _layer(image: Tensor, box: tuple, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    x0, y0, x1, y1 = box
    place = torch.stack([(x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1], -1)
    value = sample(image.expand(x.shape[0], -1, -1, -1), place)
    return value[:, :3], value[:, 3:]


def openness(mouth: Mouth, opened: DrawnOpening) -> Tensor:
    """[B, 1, h, w] how far the lips have left each other, 0..1: here, and in the corners by most of the whole.

    Lips that are apart in the portrait already have what shows between them at their edges, never a line.
    """
    if mouth.apart:
        return torch.ones_like(opened.above)
    here = smoothstep(opened.gap / (0.045 * mouth.size))
    whole = smoothstep(opened.gap.amax((1, 2), keepdim=True) / (0.12 * mouth.size))
    return torch.maximum(here, 0.8 * whole)[:, None]


def meeting(mouth: Mouth, opened: DrawnOpening) -> Tensor | float:
    """[B, 3, h, w] factor on skin: the shadow where lips meet that are apart in the portrait."""
    if not mouth.apart:
        return 1.0
    shut = 1 - smoothstep(opened.gap / (0.02 * mouth.size))
    within = smoothstep((0.5 - (opened.along - 0.5).abs()) / 0.10)
    line = (shut * within * torch.exp(-((opened.depth / (0.010 * mouth.size)) ** 2)))[:, None]
    return 1 - line * opened.depth.new_tensor([0.30, 0.42, 0.42])[:, None, None]


def _mean(opened: DrawnOpening, values: Tensor, place: float) -> Tensor:
    """[B] mean of ``values`` [B, h, w] over the opening's height at ``place`` (0..1) of its length."""
    here = (opened.depth >= 0) & (opened.depth <= opened.gap)
    here = here * torch.exp(-(((opened.along - place) / 0.05) ** 2)) + 1e-9
    return (values * here).sum((1, 2)) / here.sum((1, 2))


def _smile(mouth: Mouth, opened: DrawnOpening, x: Tensor, y: Tensor) -> Tensor:
    """[B, h, w] by how much the upper row lies higher, units, at the pixels' places ``x``, ``y`` [B, h, w].

    A row that goes on beside the portrait's own teeth stays where they are.
    """
    if mouth.own is not None:
        return torch.zeros_like(x)
    middle = y - (opened.depth - opened.gap / 2) / mouth.unit
    mean = partial(_mean, opened)
    rise = torch.zeros_like(x)
    for place, side in ((0.12, x < 0), (0.88, x > 0)):
        reach = mean(x, place).abs()
        up = mean(middle, 0.5) - mean(middle, place)
        # Of a small mouth's corners a row of teeth knows nothing.
        bend = (up / reach.square().clamp_min(0.01) - 0.18).clamp(0, BEND) * smoothstep((reach - 0.14) / 0.10)
        rise = torch.where(side, bend[:, None, None] * x.square(), rise)
    # Lips that are drawn up as a whole would show gums and the teeth's tips: the row goes up with them instead.
    beyond = mouth.edge - teeth.UPPER_HEIGHTS[0] - GUMS - mean(y - opened.depth / mouth.unit, 0.5)
    lift = torch.where(beyond < 0.02, beyond.clamp_min(0).square() / 0.04, beyond - 0.01)
    return rise + lift[:, None, None]


def _arch(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """By how much teeth that are seen at ``x`` [B, h, w] lie aside and lower there than in a row that is flat.

    Teeth run back along an arch: of a turned head's they show on the near side as far as the corner, and hide behind
    the front teeth on the far side.

    Args:
        seen: [B, 2] where what lies one unit further back is seen, units.
    """
    tilt = seen.clamp(-0.6, 0.6)[:, :, None, None]
    place = x
    for _ in range(5):
        share = (place / teeth.ARCH_WIDTH).clamp(-0.92, 0.92)
        back = teeth.ARCH_DEPTH * (1 - (1 - share.square()).sqrt())
        place = 0.4 * place + 0.6 * (x - tilt[:, 0] * back)
    return x - place, 0.5 * tilt[:, 1] * back


def paint(mouth: Mouth, opened: DrawnOpening, pose: Pose, jaw: Tensor, source: Texture) -> Tensor:
    """[B, 3, h, w] the inside of the mouth on the pixels of ``opened``.

    Args:
        jaw: [B, 2] movement of the lower teeth, outer-eye distances.
    """
    frames = jaw.shape[0]
    inward = torch.linalg.cross(mouth.axes[0], mouth.axes[1]) / mouth.unit
    anchors = torch.stack([mouth.origin, *(mouth.origin + axis for axis in (*mouth.axes, inward))])
    placed = rigid(anchors.expand(frames, -1, -1), pose)
    origin = placed[:, 0]
    basis = torch.stack([placed[:, 1] - origin, placed[:, 2] - origin], -1)
    local = (opened.pixels - origin[:, None, None]).unsqueeze(-1)
    inverse = inverse_2x2(basis)
    local = (inverse[:, None, None] @ local).squeeze(-1)
    x, y = local.unbind(-1)
    seen = (inverse @ (placed[:, 3] - origin).unsqueeze(-1)).squeeze(-1)
    aside, lower = _arch(x, seen)
    drop = (jaw * (mouth.size / mouth.unit))[:, :, None, None]
    # Where the lower lip's edge would uncover more of them, the lower teeth go down with it.
    lip_edge = _mean(opened, y + (opened.gap - opened.depth) / mouth.unit, 0.5)[:, None, None]
    shown = LOWER_SHOWN * smoothstep(opened.gap.amax((1, 2)) / (0.16 * mouth.size)) * mouth.size / mouth.unit
    uncovered = (lip_edge - LOWER_EDGE - shown[:, None, None] - drop[:, 1]).clamp_min(0)
    jaw_y = y - drop[:, 1] - 0.8 * uncovered
    jaw_x = x - drop[:, 0]
    deep = drop[:, 1].clamp_min(0)

    gap = opened.gap / mouth.size
    depth = (opened.depth / mouth.size).clamp_min(0)
    rise = (gap - depth).clamp_min(0)
    # Light falls in from the front: between lips that have hardly parted it is dark, a wide mouth is lit, its corners
    # less, and the upper lip throws its shadow behind it.
    lit = 0.16 + 0.84 * smoothstep(torch.maximum(gap, 0.5 * gap.amax((1, 2), keepdim=True)) / 0.105)
    shadow = 1 - 0.42 * torch.exp(-((depth / (0.010 + 0.26 * gap).clamp_max(0.042)) ** 2))
    sides = smoothstep((0.5 - (opened.along - 0.5).abs() + 0.02) / 0.27)
    shade = (lit * shadow * (0.42 + 0.58 * sides))[:, None]
    across = smoothstep(opened.along)[:, None]
    shade = shade * (mouth.light[0] + (mouth.light[1] - mouth.light[0]) * across)

    cavity, gum, lip = mouth.cavity[:, None, None], mouth.gum[:, None, None], mouth.lip[:, None, None]
    # The palate and the cheeks' inside catch some light near the lips; the throat does not.
    inner = torch.exp(-((torch.minimum(rise, depth) / 0.11) ** 2))
    colour = cavity * (0.75 + 0.45 * smoothstep((y - 0.02) / 0.2))[:, None]
    colour = colour + (gum * 0.42 - colour) * (0.65 * inner)[:, None]
    tongue_top = 0.004 + 1.5 * jaw_x ** 2 - 0.50 * deep
    front = jaw_y + 0.5 * uncovered - tongue_top
    tongue = smoothstep(front / 0.05) * smoothstep((0.29 - jaw_x.abs()) / 0.12) * smoothstep(deep / 0.035)
    groove = 1 - 0.12 * torch.exp(-((jaw_x / 0.030) ** 2)) * smoothstep(front / 0.08)
    light = 0.55 + 0.55 * smoothstep(front / (0.05 + 0.40 * deep))
    colour = colour + (gum * (light * groove)[:, None] - colour) * (0.92 * tongue)[:, None]
    teeth_colour, alpha = _layer(mouth.lower, teeth.LOWER_BOX, jaw_x - aside, jaw_y - lower - LOWER_EDGE)
    colour = colour + (teeth_colour * 0.88 - colour) * alpha
    teeth_colour, alpha = _layer(mouth.upper, teeth.UPPER_BOX, x - aside,
                                 y - lower - mouth.edge + _smile(mouth, opened, x, y))
    # What is behind the upper row lies in its shadow.
    colour = colour * (1 - 0.35 * torch.exp(-(((y - mouth.edge) / 0.03).clamp_min(0) ** 2)))[:, None]
    colour = colour + (teeth_colour - colour) * alpha
    # Shade hides things; it does not make the dark darker.
    colour = cavity * 0.8 + (colour - cavity * 0.8) * shade
    clear = 1.0
    if mouth.own is not None:
        place = mouth.origin[:2] + x[..., None] * mouth.axes[0, :2] + y[..., None] * mouth.axes[1, :2]
        x0, y0, width, height = mouth.own_box
        at = torch.stack([(place[..., 0] - x0) / width * 2 - 1, (place[..., 1] - y0) / height * 2 - 1], -1)
        share = sample(mouth.own.expand(frames, -1, -1, -1), at)
        own = source.read(place) * (0.45 + 0.55 * shade / shade.detach().amax((2, 3), keepdim=True).clamp_min(0.3))
        colour = colour + (own - colour) * share
        clear = 1 - 0.7 * share
    # The lips roll back into the mouth: a moist rim in their own colour, lit below and shaded above.
    wide = smoothstep(gap / 0.09)
    below, above = torch.exp(-((rise / ROLL) ** 2)) * wide, torch.exp(-((depth / (0.5 * ROLL)) ** 2)) * wide
    colour = colour + (lip * 0.64 - colour) * (0.85 * below)[:, None] * clear
    colour = colour + (lip * 0.52 - colour) * (0.55 * above)[:, None] * clear
    noise = mouth.noise.expand(frames, -1, -1, -1)
    tiled = torch.stack([x * mouth.unit / 32, y * mouth.unit / 32], -1)
    grain = sample(noise, (tiled + 1) % 2 - 1, "border", align_corners=True)
    return (colour + grain).clamp(0, 1)
