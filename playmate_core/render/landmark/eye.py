"""The eyeball behind the lids: it stays in its socket when they move, and its iris turns with the gaze.

It is kept in layers: the white as if there were no iris, the iris whole as if there were no lids, and what the lids do
to its light, which travels with them. Put together at rest the layers are as light as the portrait: a lid gets no line
and no shadow that its own eye does not show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...runtime.sampling import sample
from . import topology
from .edges import blur, luminance, read_bilinear, skin_beneath
from .grid import polygon_distance, smoothstep
from .head import HeadFrame
from .opening import DrawnOpening, heights
from .warp import Pose, Texture, inverse_2x2, rigid

SHADED = 0.042
"""How far from a lid's edge its lashes and shadow may lie on the eyeball, outer-eye distances."""
SHADES = ((0.35, 1.05), (0.75, 1.3))
"""(darkest, lightest) factor of the upper and the lower lid on the eyeball's light: the lower is wet and may shine."""
RIM, RIM_SOFTNESS = 1.02, 0.18
"""Where the iris' layer begins to fade and over what, radii: beyond the dark ring about it."""
SETTLED = 0.016
"""Movement of lid or iris, outer-eye distances, from which on an eye is drawn from its layers alone."""
TINT = 0.12
"""How much more than the others a channel may be darkened, as a logarithm."""
DRAWN_BACK, LOWERED = 0.12, 0.10
"""How much darker the eyeball gets close under an upper lid that is drawn back, or comes down."""
WHITENESS, CLEARED, HUE_KEPT = 0.95, 1.35, 0.65
"""How light the white of an eye that is laid open is at least, as a share of the skin's light beneath it; the largest
factor by which it is lit for that; and how much of its hue it keeps: between narrow lids the white that is seen is in
their shadow and takes the skin's colour, on small paintings most of all."""
LAID_OPEN = 0.10
"""Shift of the iris, outer-eye distances, at which as much white is laid open as by lids wide open."""
SHADE_ROWS, SHADE_COLUMNS = 12, 24
ANGLES, RADII = 96, 40


@dataclass(frozen=True)
class Eye:
    """One eyeball.

    Attributes:
        own: the eyeball as the portrait shows it, over a box of the portrait.
        ball: the same with iris and white completed and no shadow on it.
        white: the same without an iris.
        shade: [2, 3, SHADE_ROWS, SHADE_COLUMNS] factor on the light's colours by distance from the (upper, lower) lid's
            edge and place along it.
        reach: distance of the last row of ``shade``, pixels.
        iris: [2] centre, pixels; radius: pixels.
        anchor: [3, 3] a point on the eyeball and the ends of one unit across and down, pixels.
        size: outer-eye distance, pixels.
        clear: [3] factors on the colours of white that is laid open.
    """

    own: Texture
    ball: Texture
    white: Texture
    shade: Tensor
    reach: float
    iris: Tensor
    radius: float
    anchor: Tensor
    size: float
    clear: Tensor

    def to(self, device) -> Eye:
        return Eye(self.own.to(device), self.ball.to(device), self.white.to(device), self.shade.to(device), self.reach,
                   self.iris.to(device), self.radius, self.anchor.to(device), self.size, self.clear.to(device))


def prepare(image: np.ndarray, landmarks: np.ndarray, frame: HeadFrame, edges: np.ndarray, eye: int) -> Eye:
    """Takes the eyeball out of ``image`` [H, W, 3] and completes it under the lids and behind the iris."""
    size = frame.size
    ring = np.concatenate([edges[0], edges[1][::-1]])
    iris = landmarks[topology.IRISES[eye][0], :2].astype(np.float64)
    radius = float(np.linalg.norm(landmarks[list(topology.IRISES[eye][1:]), :2] - iris, axis=1).mean())
    radius = max(radius, 1e-3)
    reach = np.concatenate([ring, iris[None] - 1.4 * radius, iris[None] + 1.4 * radius])
    pad = 0.10 * size
    low = np.floor(np.maximum(reach.min(0) - pad, 0)).astype(int)
    high = np.ceil(np.minimum(reach.max(0) + pad, [image.shape[1], image.shape[0]])).astype(int)
    high = np.maximum(high, low + 2)
    low = np.minimum(low, np.array([image.shape[1], image.shape[0]]) - 2).clip(0)
    y, x = np.mgrid[low[1]:high[1], low[0]:high[0]]
    points = np.stack([x + 0.5, y + 0.5], -1).astype(np.float64)
    crop = image[low[1]:high[1], low[0]:high[0]].astype(np.float64)
    depth = landmarks[list(topology.EYES_UPPER[eye][1:-1]) + list(topology.EYES_LOWER[eye][1:-1]), 2].mean()
    point = np.append(ring.mean(0), depth)
    anchor = np.stack([point, point + frame.rotation[:, 0] * size, point + frame.rotation[:, 1] * size])
    below, above = (np.nan_to_num(heights(points.reshape(-1, 2), curve), posinf=-1.0).reshape(x.shape) * sign
                    for curve, sign in ((edges[0], 1), (edges[1], -1)))
    span = edges[0][-1] - edges[0][0]
    along = (points - edges[0][0]) @ span / max(float(span @ span), 1e-9)
    ball, white = _layers(crop, points, below, above, along, iris, radius, size)
    shade = _shade(crop, ball, below, above, along, size)
    # Behind the lids the eyeball as it is goes on as it would be seen there, in their shadow.
    own = ball.copy()
    for factor, distance in zip(shade, (below, above), strict=True):
        place = np.stack([along * (SHADE_COLUMNS - 1), distance / (SHADED * size) * (SHADE_ROWS - 1)], -1) + 0.5
        own *= read_bilinear(factor.transpose(1, 2, 0), place)
    own += (crop - own) * np.clip(np.minimum(below, above) / max(0.5, 0.0072 * size), 0, 1)[..., None]

    def texture(picture):
        return Texture.of(torch.from_numpy(picture.astype(np.float32)).clamp(0, 1), int(low[0]), int(low[1]))

    return Eye(texture(own), texture(ball), texture(white), torch.from_numpy(shade.astype(np.float32)),
               SHADED * size, torch.from_numpy(iris).float(), radius, torch.from_numpy(anchor).float(), size,
               torch.from_numpy(_clear(white, below, above, np.linalg.norm(points - iris, axis=-1) / radius,
                                       skin_beneath(image, landmarks, eye))).float())


def _clear(white: np.ndarray, below: np.ndarray, above: np.ndarray, distance: np.ndarray,
           skin: np.ndarray) -> np.ndarray:
    """[3] factors that make ``white`` [h, w, 3] as light as an eye's white beside ``skin`` [3], and greyer.

    Args:
        below, above: [h, w] pixels below the upper edge and above the lower.
        distance: [h, w] from the iris' centre, radii.
    """
    seen = (below > 0) & (above > 0) & (distance < 2.5)
    if not seen.any():
        return np.ones(3)
    usual = np.median(white[seen], 0).astype(np.float64)
    light = max(float(luminance(usual)), 1e-3)
    lit = np.clip(WHITENESS * float(luminance(skin)) / light, 1.0, CLEARED)
    return np.clip((light + (usual - light) * HUE_KEPT) * lit / np.maximum(usual, 1e-3), 0.8, 2.0)


def _layers(crop: np.ndarray, points: np.ndarray, below: np.ndarray, above: np.ndarray, along: np.ndarray,
            iris: np.ndarray, radius: float, size: float) -> tuple[np.ndarray, np.ndarray]:
    """(the eyeball completed, without iris) [h, w, 3] each.

    Args:
        below, above: [h, w] pixels below the upper edge and above the lower.
        along: [h, w] place along them, 0..1.
    """
    height = below + above
    inset = 0.012 * size
    seen = (below > inset * 0.6) & (above > inset * 0.6)
    # Lashes and the lid's shadow lie on the eyeball's upper part: what they darken is no witness.
    clear = (below > np.clip(0.45 * height, 0.5 * inset, SHADED * size)) & (above > inset * 0.8)
    if not clear.any():
        clear = seen
    if not clear.any():
        return crop, crop
    light = luminance(crop)
    distance = np.linalg.norm(points - iris, axis=-1) / radius
    white = _white(crop, light, clear, seen, distance, size)
    white = white * _along(light / np.maximum(luminance(white), 1e-3), clear, distance > 1.15, along)[..., None]
    # The iris by what is seen at the same distance from its centre, nearest angles first.
    reach = RIM + RIM_SOFTNESS
    angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
    radii = (np.arange(RADII) + 0.5) / RADII * reach
    polar = iris + radii[:, None, None] * radius * np.stack([np.cos(angles), np.sin(angles)], -1)[None]
    colours = read_bilinear(crop, polar - points[0, 0] + 0.5)
    known = read_bilinear(clear.astype(np.float64), polar - points[0, 0] + 0.5) > 0.7
    rings = luminance(colours)
    usual = np.array([np.median(row[k]) if k.any() else np.nan for row, k in zip(rings, known, strict=True)])
    glint = known & (rings > np.nan_to_num(usual, nan=1.0)[:, None] + 0.12) & (radii < 0.92)[:, None]
    from scipy.ndimage import binary_dilation

    known &= ~binary_dilation(glint, iterations=2)
    whole = _round_fill(colours, known) if known.any() else colours
    offset = points - iris
    angle = np.arctan2(offset[..., 1], offset[..., 0]) % (2 * np.pi) / (2 * np.pi) * ANGLES
    wrapped = np.concatenate([whole, whole[:, :1]], 1)
    place = np.stack([angle + 0.5, distance / reach * RADII], -1)
    disc = read_bilinear(wrapped, place)
    # What no lid covers says how light an iris is: what is completed must not outshine it.
    core = clear & (distance < 0.85)
    if core.sum() >= 4:
        limit = 1.15 * float(np.median(light[core])) + 0.01
        disc = disc * np.where(distance < 0.9, np.minimum(1, limit / np.maximum(luminance(disc), 1e-3)), 1)[..., None]
    fade = smoothstep((distance - RIM) / RIM_SOFTNESS)[..., None]
    complete = disc * (1 - fade) + white * fade
    # The portrait's own pixels where they are clear, and its highlights even close under the lid.
    bright = seen & (above > 0.4 * height) & (light > luminance(complete) + 0.06) & (distance < 0.8)
    softness = max(0.8, 0.006 * size)
    kept = np.clip(blur(clear.astype(np.float64), softness, softness) * 2 - 1, 0, 1)
    kept = np.maximum(kept, blur(bright.astype(np.float64), 0.5, 0.5))[..., None]
    ball = complete + (crop - complete) * np.where(fade > 0, kept * (1 - fade), kept)
    # Lashes' shadows in the middle of the white stay out of it; corners may be as dark as they are.
    middle = smoothstep((np.minimum(along, 1 - along) - 0.04) / 0.08)
    stain = middle * (1 - smoothstep((light / np.maximum(luminance(white), 1e-3) - 0.72) / 0.2))
    kept_white = kept * fade * (1 - stain)[..., None]
    ball = ball + (white + (crop - white) * kept_white - ball) * fade
    return ball, white + (crop - white) * kept_white


def _white(crop: np.ndarray, light: np.ndarray, clear: np.ndarray, seen: np.ndarray, distance: np.ndarray,
           size: float) -> np.ndarray:
    """[h, w, 3] the white of the eye everywhere, from what is seen of it beside the iris."""
    beside = distance > 1.12
    trusted = clear & beside
    if trusted.sum() < 8:
        trusted = seen & beside
    if trusted.sum() < 4:
        trusted = seen if seen.any() else np.ones_like(seen)
    # Lashes are darker than the white, wet corners and what is taken for eye by mistake lighter.
    near = trusted & (distance < 2.0)
    ratio = light / max(float(np.quantile(light[near if near.sum() >= 8 else trusted], 0.65)), 1e-3)
    # Of what is left the greyest is white; pink is corner and skin.
    chroma = (crop.max(-1) - crop.min(-1)) / np.maximum(crop.max(-1), 0.05)
    pink = smoothstep((chroma - float(np.quantile(chroma[trusted], 0.3)) - 0.03) / 0.12)
    usual = smoothstep((ratio - 0.6) / 0.3) * (1 - smoothstep((ratio - 1.15) / 0.25))
    weight = trusted * (1 - 0.95 * pink) * (0.01 + usual)
    out = None
    for sigma in (0.20, 0.09, 0.05):
        share = blur(weight, sigma * size, sigma * size)
        value = blur(crop * weight[..., None], sigma * size, sigma * size) / np.maximum(share, 1e-9)[..., None]
        if out is None:
            mean = (crop * weight[..., None]).sum((0, 1)) / weight.sum()
            out = mean + (value - mean) * smoothstep(share / 1e-4)[..., None]
        else:
            out = out + (value - out) * smoothstep((share - 0.01) / 0.15)[..., None]
    return out


def _along(ratio: np.ndarray, clear: np.ndarray, beside: np.ndarray, along: np.ndarray, bins: int = 14) -> np.ndarray:
    """[h, w] how much darker than the lightest the white is by its place ``along`` the lids: a side in shadow, a corner
    that turns away. A column counts by its lightest quarter, as lashes and lids darken only parts of it.

    Args:
        ratio: [h, w] the portrait's light against the white's.
        clear, beside: [h, w] where nothing covers the eyeball, and where it is not iris.
    """
    from scipy.ndimage import gaussian_filter1d

    column = (along * bins).astype(int)
    found = np.full(bins, np.nan)
    for k in range(bins):
        whole = clear & (column == k)
        white = whole & beside
        # Slivers above and below an iris say nothing.
        if white.sum() >= max(3, 0.5 * whole.sum()):
            found[k] = np.quantile(ratio[white], 0.75)
    known = np.isfinite(found)
    if not known.any():
        return np.ones_like(ratio)
    profile = np.interp(np.arange(bins), np.flatnonzero(known), found[known].clip(0.4, 1.0))
    profile = gaussian_filter1d(profile, 1.0, mode="nearest")
    return np.interp(along * bins - 0.5, np.arange(bins), profile)


def _round_fill(colours: np.ndarray, known: np.ndarray) -> np.ndarray:
    """``colours`` [R, A, 3] completed along the circles from ``known`` [R, A]: nearest angles, then whole rings."""
    from scipy.ndimage import gaussian_filter1d

    out = None
    share_of = known.astype(np.float64)
    for around, outward in ((ANGLES, 6.0), (ANGLES, 1.2), (ANGLES / 6, 0.8), (ANGLES / 18, 0.5)):
        packed = np.concatenate([colours * share_of[..., None], share_of[..., None]], -1)
        if around == ANGLES:
            packed = np.broadcast_to(packed.mean(1, keepdims=True), packed.shape)
        else:
            packed = gaussian_filter1d(packed, around, 1, mode="wrap")
        packed = gaussian_filter1d(packed, outward, 0, mode="nearest")
        share = packed[..., 3:]
        value = packed[..., :3] / np.maximum(share, 1e-9)
        out = value if out is None else out + (value - out) * smoothstep((share - 0.02) / 0.2)
    return out


def _shade(crop: np.ndarray, ball: np.ndarray, below: np.ndarray, above: np.ndarray, along: np.ndarray,
           size: float) -> np.ndarray:
    """[2, 3, SHADE_ROWS, SHADE_COLUMNS] how the light on the portrait's eyeball differs from a clear one's by each lid.

    The product of both is the portrait's own light, so what lies between the lids is shared out between them.
    """
    from scipy.ndimage import gaussian_filter

    inside = (below > 0.3) & (above > 0.3)
    rows = np.linspace(0, 1, SHADE_ROWS)[:, None]
    out = np.ones((2, 3, SHADE_ROWS, SHADE_COLUMNS))
    # Light may take its colour along, but the quotient of two blacks is no colour.
    grey = np.log((luminance(crop) + 0.02) / (luminance(ball) + 0.02))[..., None]
    ratio = grey + np.clip(np.log((crop + 0.06) / (ball + 0.06)) - grey, -TINT, TINT)
    upper = 1 - smoothstep((below / np.maximum(below + above, 1e-6) - 0.4) / 0.4)
    for part, (distance, share) in enumerate(((below, upper), (above, 1 - upper))):
        taken = inside & (distance < SHADED * size)
        if not taken.any():
            continue
        low, high = np.log(SHADES[part])
        row = (distance[taken] / (SHADED * size) * (SHADE_ROWS - 1)).round().astype(int).clip(0, SHADE_ROWS - 1)
        column = (along[taken] * (SHADE_COLUMNS - 1)).round().astype(int).clip(0, SHADE_COLUMNS - 1)
        total, count = np.zeros((SHADE_ROWS, SHADE_COLUMNS, 3)), np.zeros((SHADE_ROWS, SHADE_COLUMNS, 1))
        np.add.at(total, (row, column), np.clip(ratio[taken] * share[taken][:, None], low, high))
        np.add.at(count, (row, column), 1.0)
        wide, much = (gaussian_filter(v, (1.0, 2.0, 0), mode="nearest") for v in (total, count))
        shade = np.where(much > 1e-3, wide / np.maximum(much, 1e-9), 0.0).transpose(2, 0, 1)
        # Deep in the eye there is no shadow left.
        out[part] = np.exp(shade * (1 - smoothstep((rows - 0.75) / 0.25)))
    return out


def paint(eye: Eye, opened: DrawnOpening, pose: Pose, gaze: Tensor, shut: Tensor) -> Tensor:
    """[B, 3, h, w] the eyeball on the pixels of ``opened``.

    Args:
        gaze: [B, 2] shift of the iris, outer-eye distances.
        shut: [B] how far the lids are shut, for their shadow.
    """
    frames = gaze.shape[0]
    placed = rigid(eye.anchor.expand(frames, -1, -1), pose)
    basis = torch.stack([placed[:, 1] - placed[:, 0], placed[:, 2] - placed[:, 0]], -1)
    rest = torch.stack([eye.anchor[1] - eye.anchor[0], eye.anchor[2] - eye.anchor[0]], -1)[:2]
    relative = (opened.pixels - placed[:, 0][:, None, None]).unsqueeze(-1)
    units = inverse_2x2(basis)[:, None, None] @ relative
    place = (rest @ units).squeeze(-1) + eye.anchor[0, :2]
    shift = (gaze @ rest.T)[:, None, None]
    away = (place - eye.iris - shift).norm(dim=-1) / eye.radius
    rim = (1 - smoothstep((away - RIM) / RIM_SOFTNESS))[:, None]
    white = eye.white.read(place)
    # An iris brings its soft border along, and not the white that it came from.
    ball = eye.ball.read(place - shift) + (white - eye.white.read(place - shift)) * (1 - rim)
    drawn_back, lowered = (-shut / 0.4).clamp(0, 1), shut.clamp(0, 1)
    laid_open = torch.maximum(drawn_back, (gaze.norm(dim=-1) / LAID_OPEN).clamp(0, 1))[:, None, None, None]
    lit = (eye.clear[:, None, None] - 1) * laid_open
    # The light of the white ends where the iris begins: what is white about it in its own layer is lit as well.
    colour = (white + (ball - white) * rim) * (1 + lit * smoothstep((away - 0.96) / 0.14)[:, None])
    above = (opened.gap - opened.depth).clamp_min(0)
    for part, distance in enumerate((opened.depth, above)):
        where = torch.stack([opened.along * 2 - 1, distance / eye.reach * 2 - 1], -1)
        colour = colour * sample(eye.shade[part:part + 1].expand(frames, -1, -1, -1), where, "border",
                                 align_corners=True)
    # What a lid that draws back lays open lies deeper in its shadow; one that comes down throws a little more.
    # It begins softly: what lies right at the edge is drawn with the lid's skin.
    depth = opened.depth.clamp_min(0) / eye.size
    near = smoothstep(depth / 0.022) * torch.exp(-((depth / 0.046) ** 2))
    dimmed = 1 - (DRAWN_BACK * drawn_back + LOWERED * lowered)[:, None, None] * near
    colour = colour * dimmed[:, None]
    # An eye that hardly moves shows the portrait's own pixels.
    moved = torch.maximum(gaze.norm(dim=-1), 0.09 * shut.abs())
    layered = smoothstep(moved / SETTLED)[:, None, None, None]
    if bool((layered < 1).any()):
        colour = colour * layered + eye.own.read(place) * (1 - layered)
    return colour


__all__ = ["Eye", "paint", "polygon_distance", "prepare"]
