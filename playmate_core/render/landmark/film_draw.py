"""Draws motion on a film.

The film's own picture is bent so that jaw and cheeks stand where the new speech wants them. Over it, about the lips
only, comes the mouth of one reference picture, which speaks as a portrait does, seen from where the film's picture
sees it and in its light. So lips, their edges and what lies behind them are the same in every picture, and everything
else is the film's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...motion.edits import slice_frames
from ...motion.types import Motion
from ...runtime.errors import PlaymateError
from ...runtime.progress import Progress, report
from ..film import Film
from . import expression, film_teeth, film_warp, topology
from .clip import Clip
from .film_face import best, fades, movement, stance, survey, turned, velocity, weights
from .film_reference import APART, CANDIDATES, Reference, as_float, build, choose, pictures_of
from .grid import Grid, smoothstep
from .head import cut
from .warp import Pose, Texture

FRAMES = 8
"""Pictures that are worked on together."""
CORE, RIM, BESIDE = 0.045, 0.16, 0.30
"""How far about the lips the reference covers the film wholly, at all, and at all beside the mouth's corners, where the
film's own smile would leave its folds; outer-eye distances."""
EYES = (0.03, 0.10)
"""The same about the lids."""
ASTRAY = 0.10
"""How far beyond the wanted lips some of the film's own may be left, outer-eye distances."""
SHUTTER = 0.35
"""Share of the time between two pictures during which one is taken."""
WITHIN = 0.10
"""Over what width the reference gives way to the film inside of the face's outline."""
LIGHT = 0.07
"""Over what distance the film's light is evened out before the reference takes it on."""
BRIGHTER = (0.4, 2.5)
"""By how much its light may differ."""


@dataclass(frozen=True, eq=False)
class FilmFace:
    """A film's payload.

    Attributes:
        reference: the picture that its mouth is drawn from.
        fade: [N] how far each picture is drawn on.
        bounds: x0, y0, x1, y1 of what the pictures show, pixels, without black bars.
    """

    reference: Reference
    fade: Tensor
    bounds: tuple[int, int, int, int]


def prepare(film: Film, bridge, progress: Progress = None) -> Film:
    """The film with what all of its pictures share."""
    if not bool(film.seen.any()):
        return replace(film, payload=None)
    found = survey(film)
    calm, showing = best(found.cost, CANDIDATES, APART), best(-found.teeth, CANDIDATES, APART)
    numbers = {k: int(found.numbers[k]) for k in calm + showing}
    pieces, bounds = pictures_of(film, list(numbers.values()), progress)
    reference = build(pieces[numbers[choose(found, pieces, calm)]], bridge)
    reference = film_teeth.given(reference, [pieces[numbers[k]] for k in showing])
    return replace(film, payload=FilmFace(reference, torch.from_numpy(fades(film)), bounds))


def draw(renderer, film: Film, pictures: Iterator[tuple[int, Tensor]], motion: Motion, scope: str,
         batch_size: int | None, progress: Progress) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 frames; see ``render.film.FilmRenderer``.

    Raises:
        PlaymateError: a film that this renderer has not prepared.
    """
    total, done = len(motion), 0
    report(progress, 0, total)
    face: FilmFace | None = film.payload
    if not isinstance(face, FilmFace) and (face is not None or bool(film.seen.any())):
        raise PlaymateError("This film was prepared for another renderer; prepare it again for the one that draws it.")
    device, bridge = renderer.device, renderer.bridge
    motion = motion.to("cpu")
    if face is not None:
        stage, weight = _staged(renderer, face.reference, scope), weights(face.reference.neutral, scope)
        neutral, drawn = face.reference.neutral, face.reference.landmarks
        stand = stance(film, neutral) if scope == "all" else None
    while done < total:
        batch = list(islice(pictures, min(batch_size or FRAMES, total - done)))
        if not batch:
            return
        numbers = torch.tensor([number for number, _ in batch])
        frames = torch.stack([as_float(picture.to(device)) for _, picture in batch])
        if face is not None and bool((face.fade[numbers] > 0).any()):
            part = slice_frames(motion, done, done + len(batch))
            clip, speech = spoken(part, bridge, face.reference, weight)
            plain, drift, seen = movement(film, numbers, neutral, bridge)
            to = seen if stand is None else turned(seen, stand, part, bridge)
            wanted = to.pixels(neutral + drift + weight[:, None] * speech + (1 - weight[:, None]) * plain)
            source, speaking = seen.pixels(seen.own), drawn + clip.landmarks
            moving = renderer.moving_part(stage, clip.to(device), mouth_only=scope == "mouth")
            smears = SHUTTER * velocity(film, numbers)
            for k, share in enumerate(face.fade[numbers].tolist()):
                if share > 0:
                    actor = Actor(moving[k], (stage.x0, stage.y0), speaking[k], smears[k])
                    dub(frames[k], actor, source[k], wanted[k], weight, to.axes[k], scope, share, face.bounds)
        done += len(batch)
        yield frames
        report(progress, done, total)


def _staged(renderer, reference: Reference, scope: str):
    prepared, device = reference.prepared.to(renderer.device), renderer.device
    field = reference.field if scope == "mouth" else cut(prepared.field, prepared.frame, 0.5, device)
    return renderer.staged(reference.image.to(device), prepared, _on(field, device))


def _on(field, device):
    moved = {name: getattr(field, name).to(device) for name in ("depth", "flat", "weight", "border", "rows", "weights")}
    return replace(field, **moved)


def spoken(motion: Motion, bridge, reference: Reference, weight: Tensor) -> tuple[Clip, Tensor]:
    """What the motion does to the reference: the clip, in which ``weight`` [478] says how much of it every landmark
    does, and the displacement [T, 478, 3] in the head's frame, as if all did all of it."""
    shape, frame = reference.prepared.shape, reference.prepared.frame
    raw = bridge.displacement(motion.expression_offset).cpu()
    shut = expression.closure(raw, shape)
    adapted = expression.adapt(raw, shape, shut, close_mouth=True)
    pixels = (adapted * weight[:, None]) @ torch.from_numpy(frame.rotation).float().T * frame.size
    still = torch.zeros(len(motion), 3)
    pose = Pose(still, still[:, :2], torch.ones(len(motion)), torch.from_numpy(frame.pivot).float(), frame.size)
    return Clip(pixels, pose, shut, expression.gaze(raw, shape), expression.jaw(raw, shape), True,
                torch.ones(len(motion), dtype=torch.bool)), adapted


@dataclass(frozen=True)
class Actor:
    """The reference as it speaks in one frame.

    Attributes:
        picture: [3, h, w]; corner: its first column and row in the reference.
        landmarks: [478, 3] the face in it, pixels of the reference.
        smear: [2] how far the film's head moves while its picture is taken, pixels of the film.
    """

    picture: Tensor
    corner: tuple[int, int]
    landmarks: Tensor
    smear: Tensor


def dub(picture: Tensor, actor: Actor, source: Tensor, wanted: Tensor, weight: Tensor, axes: Tensor, scope: str,
        share: float, bounds: tuple[int, int, int, int]) -> None:
    """Draws one frame on one picture, in place.

    Args:
        picture: [H, W, 3].
        source, wanted: [478, 3] the face in the picture, and where it is to be, pixels.
        weight: [478] how much of a landmark's movement is the motion's.
        axes: [3, 3] the wanted head's axes in the picture, pixels.
        share: how far the result replaces the picture, 0..1.
        bounds: x0, y0, x1, y1 of what it shows: nothing moves across these.
    """
    size = float(axes.norm(dim=1).mean())
    mesh = slice(0, topology.MESH_POINTS)
    moving = weight[mesh] > 0
    both = torch.cat([source[mesh][moving], wanted[mesh][moving]])[:, :2]
    margin = (film_warp.WHOLE,) * 3 if scope == "all" else (film_warp.SIDEWAYS, 0.15, film_warp.DOWNWARD)
    grid = film_warp.nodes_over(both, margin, size, picture.shape[:2])
    if grid is None:
        return
    nodes = grid.nodes_tensor().reshape(-1, 2)
    down = axes[1, :2] / axes[1, :2].norm().clamp_min(1e-6)
    offset = film_warp.carried(nodes, source[mesh, :2], wanted[mesh, :2], weight[mesh], size, down, scope)
    offset = offset * film_warp.held(nodes, bounds, size)
    x0, y0, x1, y1 = grid.box
    c0, r0 = max(0, int(x0)), max(0, int(y0))
    c1, r1 = min(picture.shape[1], int(x1)), min(picture.shape[0], int(y1))
    device = picture.device
    pixels = Grid(c0 + 0.5, r0 + 0.5, 1, r1 - r0, c1 - c0).nodes_tensor(device)[None]
    table = offset.T.reshape(1, 2, grid.rows, grid.columns).to(device)
    away = grid.sample_at(table, grid.places(pixels)).permute(0, 2, 3, 1)
    reach = int(float(offset.abs().max())) + 3
    top, left = max(0, r0 - reach), max(0, c0 - reach)
    around = Texture.of(picture[top:r1 + reach, left:c1 + reach], left, top)
    under = picture[r0:r1, c0:c1]
    moved = (away.abs().amax(-1) > 1e-3)[..., None]
    result = torch.where(moved[0], around.read(pixels + away)[0].permute(1, 2, 0), under)

    def left_of(ring):
        return grid, film_warp.signed_distance(nodes + offset, ring) / size

    canvas = Canvas(result, (c0, r0), wanted, weight, size, down)
    if scope != "mouth":
        for side in (0, 1):
            ring = film_warp.eye_ring(wanted, side)
            _cover(canvas, actor, ring, left_of(film_warp.eye_ring(source, side)), EYES[0], EYES[1], EYES[1])
    _cover(canvas, actor, film_warp.lip_ring(wanted), left_of(film_warp.lip_ring(source)), CORE, RIM, BESIDE,
           wanted[1, :2])
    if share < 1:
        result = under + share * (result - under)
    picture[r0:r1, c0:c1] = result


@dataclass(frozen=True)
class Canvas:
    """A part of a picture that is drawn on.

    Attributes:
        picture: [h, w, 3]; first: its first column and row in the whole.
        landmarks: [478, 3] the face that is wanted there; weight: [478] how much of its movement is the motion's.
        size: its outer-eye distance; down: [2] its downward direction.
    """

    picture: Tensor
    first: tuple[int, int]
    landmarks: Tensor
    weight: Tensor
    size: float
    down: Tensor


def _cover(canvas: Canvas, actor: Actor, ring: np.ndarray, left: tuple[Grid, Tensor], core: float, rim: float,
           beside: float, below: Tensor | None = None) -> None:
    """Lays the reference over the canvas about ``ring`` [R, 2], in place.

    Args:
        left: nodes, and how far they are from what is left of the film's own lips or lids: wherever these come to lie,
            they are covered too.
        core, rim, beside: how far about the ring it covers the film wholly, at all, and at all to both sides.
        below: [2] a point above which it covers nothing.
    """
    size, wanted, first = canvas.size, canvas.landmarks, canvas.first
    outline = torch.from_numpy(ring).float()
    reach = (beside + ASTRAY) * size
    c0, r0 = (max(0, int(float(v) - reach) - 1 - o) for v, o in zip(outline.amin(0), first, strict=True))
    c1, r1 = (min(n, int(float(v) + reach) + 2 - o) for v, o, n in
              zip(outline.amax(0), first, (canvas.picture.shape[1], canvas.picture.shape[0]), strict=True))
    if c1 - c0 < 4 or r1 - r0 < 4:
        return
    box = (first[0] + c0, first[1] + r0, first[0] + c1, first[1] + r1)
    grid = Grid.cover(box, max(0.025 * size, 1.0))
    nodes = grid.nodes_tensor().reshape(-1, 2)
    middle = outline.mean(0)
    near = torch.nonzero((wanted[:topology.MESH_POINTS, :2] - middle).norm(dim=1) < 0.9 * size).flatten()
    there, here = actor.landmarks[near, :2], wanted[near, :2]
    matrix, shift = film_warp.affine(here, there, 1e-3 + canvas.weight[near])
    rest = there - (here @ matrix + shift)
    origin = nodes @ matrix + shift + film_warp.kernel(nodes, here, film_warp.SOFT * size) @ rest

    distance = film_warp.signed_distance(nodes, ring) / size
    around, own = left
    own = around.sample(own.reshape(1, 1, around.rows, around.columns), nodes[None, None])[0, 0, 0]
    distance = torch.minimum(distance, own)
    half = float((outline - middle).norm(dim=1).max()) / size
    across = torch.stack([canvas.down[1], -canvas.down[0]])
    aside = smoothstep((((nodes - middle) @ across / size).abs() - 0.5 * half) / (0.5 * half))
    width = rim + (beside - rim) * aside
    cover = 1 - smoothstep((distance - core) / (width - core))
    oval = wanted[list(topology.OVAL), :2].double().numpy()
    cover = cover * smoothstep(-film_warp.signed_distance(nodes, oval) / size / WITHIN)
    if below is not None:
        cover = cover * smoothstep(((nodes - below) @ canvas.down / size + 0.02) / 0.10)
    fields = torch.cat([origin.T, cover[None], distance[None]]).reshape(1, 4, grid.rows, grid.columns)
    device = canvas.picture.device
    pixels = Grid(box[0] + 0.5, box[1] + 0.5, 1, r1 - r0, c1 - c0).nodes_tensor(device)[None]
    found = grid.sample_at(fields.to(device), grid.places(pixels))[0]
    texture = Texture.of(actor.picture.permute(1, 2, 0), *actor.corner)
    # In a picture that is blurred by a fast head, the mouth is too.
    steps = int(float(actor.smear.norm()) / 1.2) + 1
    along = torch.linspace(-0.5, 0.5, 2 * min(steps, 6) + 1)[1::2] if steps > 1 else torch.zeros(1)
    at = found[:2].permute(1, 2, 0)
    reference = torch.stack([texture.read((at + share * (actor.smear @ matrix).to(device))[None])[0]
                             for share in along.tolist()]).mean(0)
    part = canvas.picture[r0:r1, c0:c1]
    film = part.permute(2, 0, 1)
    skin = smoothstep((found[3] - 0.02) / 0.02) * smoothstep((beside - found[3]) / 0.03) * (found[2] > 0)
    reference = reference * light(film, reference, skin, LIGHT * size)
    part += (found[2] * (reference - film)).permute(1, 2, 0)


def light(film: Tensor, reference: Tensor, skin: Tensor, sigma: float) -> Tensor:
    """[3, h, w] factor that gives ``reference`` [3, h, w] the film's light, as the skin [h, w] of both shows it."""
    stride = max(1, int(sigma / 4))
    values = torch.cat([film * skin, reference * skin, skin[None]])[None]
    small = F.avg_pool2d(values, stride, stride, ceil_mode=True, count_include_pad=False)
    wide = _blurred(small, 3 * sigma / stride)
    near = _blurred(small, sigma / stride)
    near = near + 0.03 * wide + 1e-4 * small.mean((2, 3), keepdim=True)
    ratio = (near[:, :3] / near[:, 3:6].clamp_min(1e-6)).clamp(*BRIGHTER)
    return F.interpolate(ratio, size=film.shape[1:], mode="bilinear", align_corners=False)[0]


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """[1, C, h, w] softened by a Gaussian of ``sigma`` cells, as if there were nothing beyond."""
    for axis in (2, 3):
        place = torch.arange(values.shape[axis], device=values.device)
        shares = torch.exp(-0.5 * ((place[:, None] - place[None]) / max(sigma, 0.3)) ** 2)
        values = shares @ values if axis == 2 else values @ shares
    return values

