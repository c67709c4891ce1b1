"""Several people of one picture, each with a motion of their own: who they are, and how their drawings become one.

Every renderer draws one face and whatever around it moves along, which may reach as far as the next head. So the
picture is shared out between the faces: each pixel belongs to the nearest one, or, where faces overlap, to the larger
one, which is in front; with a soft border. What a drawing changes counts only as far as the pixel is
its own. Pixels that no drawing changes stay what they are, bit for bit; and where one face owns a pixel alone, it is
exactly what is drawn of that face by itself.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..face import geometry
from ..face.types import Face
from ..motion.edits import resample
from ..motion.listening import Look, Looks, listens_on, look_towards, pauses, seen_speaking, speaking, who_is_heard
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from .base import Appearance
from .film import Film, FilmRenderer

BORDER = 0.35
"""Outer-eye distances over which one face's share passes into another's, on either side of the border."""
HAIR = 0.3
"""Outer-eye distances of hair and ears around a face: so much further reaches what is its own."""
IN_FRONT = (1.15, 1.5)
"""How many times larger than another a face must be to lie in front of it where both overlap: begins, surely."""
SAME_FACE = 0.5
"""Outer-eye distances between the middles of two faces up to which they are the same one."""
_CELLS = 14
"""Cells of the grid on which shares are worked out, to an outer-eye distance; shares change over several of them."""


@dataclass(frozen=True)
class Cast:
    """People of the same picture or film, in the order in which they are drawn.

    Attributes:
        members: (appearance, motion) each, one at least.
    """

    members: tuple[tuple[Appearance, Motion], ...]

    @staticmethod
    def of(appearance: Appearance, motion: Motion, cast: Cast | None = None) -> Cast:
        """One more person, added to ``cast`` if there is one.

        Raises:
            PlaymateError: another picture, another renderer, or a face that is in the cast already.
        """
        members = () if cast is None else cast.members
        for other, _ in members:
            check_together(other, appearance)
        return Cast((*members, (appearance, motion)))

    def __len__(self) -> int:
        return len(self.members)

    @property
    def fps(self) -> float:
        """Frames a second: the first one's."""
        return self.members[0][1].fps

    @property
    def frames(self) -> int:
        """How many the longest motion has, at ``fps``."""
        return max(round(len(motion) * self.fps / motion.fps) for _, motion in self.members)

    @property
    def appearance(self) -> Appearance:
        """The first one's, for what all of them share: the picture."""
        return self.members[0][0]

    def holds(self, appearance: Appearance) -> bool:
        """Whether somebody with this face is in it."""
        return any(same_picture(other, appearance) and same_face(other.face, appearance.face)
                   for other, _ in self.members)

    def in_step(self, seed: int = 0) -> Cast:
        """The same with motions of one rate and length: whoever's ends first goes on listening to the others."""
        motions = [resample(motion, self.fps) for _, motion in self.members]
        frames = max(len(motion) for motion in motions)
        if all(len(motion) == frames for motion in motions):
            return replace(self, members=tuple(zip(self.appearances, motions, strict=True)))
        heard = [seen_speaking(motion) for motion in motions]
        active = [speaking(F.pad(one, (0, frames - len(one)), value=-80.0), self.fps) for one in heard]
        faces = [appearance.face for appearance in self.appearances]
        going_on = []
        for number, motion in enumerate(motions):
            attended = who_is_heard(active, number)
            nods = [at for other, one in enumerate(heard) if other != number for at in pauses(one, self.fps)]
            going_on.append(listens_on(motion, frames, looks_at(faces, number, attended, self.fps), sorted(nods),
                                       seed + number))
        return replace(self, members=tuple(zip(self.appearances, going_on, strict=True)))

    @property
    def appearances(self) -> tuple[Appearance, ...]:
        """Everybody's."""
        return tuple(appearance for appearance, _ in self.members)


def same_picture(one: Appearance, other: Appearance) -> bool:
    """Whether two appearances are of the same picture, or of the same film."""
    if one.film is not None or other.film is not None:
        return one.film is not None and other.film is not None and \
            (one.film.pictures is other.film.pictures
             or one.film.size == other.film.size and torch.equal(one.film.times, other.film.times)
             and one.image.shape == other.image.shape)
    if one.image is other.image:
        return True
    return one.image.shape == other.image.shape and torch.equal(one.image, other.image.to(one.image.device))


def same_face(one: Face, other: Face) -> bool:
    """Whether two faces of a picture are one."""
    apart = (_middle(one.landmarks) - _middle(other.landmarks)).norm()
    size = max(float(geometry.outer_eye_distance(face.landmarks.float())) for face in (one, other))
    return float(apart) < SAME_FACE * size


def check_together(one: Appearance, other: Appearance) -> None:
    """That two people can be drawn in one picture.

    Raises:
        PlaymateError: they cannot.
    """
    if one.renderer != other.renderer:
        raise PlaymateError(f"One person of the cast was prepared for the {one.renderer} renderer and another for "
                            f"{other.renderer}; extract both with the same models.")
    if not same_picture(one, other):
        sizes = [" x ".join(str(side) for side in reversed(each.image.shape[:2])) for each in (one, other)]
        which = f" ({sizes[0]} and {sizes[1]} pixels)" if sizes[0] != sizes[1] else ""
        raise PlaymateError(f"The people of a cast must be faces of the same picture, but these are of two different "
                            f"ones{which}; extract them from one picture, each with another face.")
    if one.film is None and same_face(one.face, other.face):
        raise PlaymateError("The same face is in the cast twice; choose another face for one of the two in Extract "
                            "Appearance, such as left and right.")


def look_at(own: Face, other: Face) -> Look:
    """How somebody in a picture looks at somebody else in it."""
    size = float(geometry.outer_eye_distance(own.landmarks.float()))
    across, down = ((_eyes(other.landmarks) - _eyes(own.landmarks)) / size).tolist()
    pitch, yaw, _ = geometry.head_pose(own.landmarks.float()).tolist()
    return look_towards(across, down, yaw, pitch)


def looks_at(faces: Sequence[Face], listener: int, attended: Sequence[tuple[int, int]], fps: float) -> Looks:
    """At whom ``listener`` looks over time, from :func:`motion.listening.who_is_heard`."""
    looks = {speaker: look_at(faces[listener], faces[speaker]) for _, speaker in attended}
    return [(frame / fps, looks[speaker]) for frame, speaker in attended]


def shares(landmarks: Sequence[Tensor], height: int, width: int) -> Tensor:
    """How far each pixel belongs to each face.

    Args:
        landmarks: [478, 3] of each face, pixels.
        height, width: of the picture.

    Returns:
        [faces, height, width] float32, exactly 1 and 0 away from borders; they add up to 1.
    """
    if len(landmarks) == 1:
        return torch.ones(1, height, width)
    sizes = [float(geometry.outer_eye_distance(points.float().cpu())) for points in landmarks]
    step = max(1.0, min(sizes) / _CELLS)
    rows, columns = max(2, round(height / step)), max(2, round(width / step))
    y = (torch.arange(rows) + 0.5) * (height / rows)
    x = (torch.arange(columns) + 0.5) * (width / columns)
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    away = [_beyond(places, points[list(geometry.OVAL), :2].float().cpu()) for points in landmarks]
    owned = []
    for number, own in enumerate(away):
        share = torch.ones_like(own)
        for other, theirs in enumerate(away):
            if other != number:
                share = share * _nearer(own, theirs, sizes[number], sizes[other])
        owned.append(share)
    grid = torch.stack(owned)
    grid = (grid / grid.sum(0, keepdim=True).clamp_min(1e-6)).reshape(1, len(owned), rows, columns)
    full = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)[0]
    # Where interpolation leaves a trace of another, nobody sees it, and alone is meant to be alone.
    full = torch.where(full > 1 - 1e-4, torch.ones_like(full), full)
    return torch.where(full < 1e-4, torch.zeros_like(full), full)


def composed(picture: Tensor, layers: Sequence[Iterator[Tensor]], owned: Tensor) -> Iterator[Tensor]:
    """Drawings of several faces of one picture as one.

    Args:
        picture: [H, W, 3] what all of them were drawn on.
        layers: of each face batches [B, H, W, 3], as many frames each; batches may be of different sizes.
        owned: [faces, H, W] from :func:`shares`.

    Yields:
        [B, H, W, 3] frames in order.
    """
    waiting: list[Tensor | None] = [None] * len(layers)
    cut = [_cut(share) for share in owned]
    try:
        while True:
            for number, layer in enumerate(layers):
                if waiting[number] is None:
                    waiting[number] = next(layer, None)
            ready = [batch for batch in waiting if batch is not None]
            if len(ready) < len(layers):
                return
            count = min(len(batch) for batch in ready)
            base = picture.to(ready[0].device)
            out = base.expand(count, -1, -1, -1).clone()
            for batch, share in zip(ready, cut, strict=True):
                _lay_over(out, base, batch[:count].to(out.device), share)
            waiting = [batch[count:] if len(batch) > count else None for batch in ready]
            del ready
            yield out
    finally:
        for layer in layers:
            close = getattr(layer, "close", None)
            if close is not None:
                close()


def drawn_on_film(renderer: FilmRenderer, films: Sequence[Film], motions: Sequence[Motion],
                  pictures: Iterator[tuple[int, Tensor]], scope: str,
                  batch_size: int | None = None) -> Iterator[Tensor]:
    """People of one film, each drawn on the frames of the one before.

    Args:
        renderer: of all of them.
        films: the same film once for each person, from ``prepare_film``.
        motions: theirs, as long as each other.
        pictures: (number in the film, [H, W, 3]), as many as the motions have frames.
        scope: one of ``film.SCOPES``.
        batch_size: frames at once.

    Yields:
        [1, H, W, 3] float32 frames in order.
    """
    fed = pictures
    for number, motion in enumerate(motions):
        fed = _drawn(renderer, films, number, motion, fed, scope, batch_size)
    for _, picture in fed:
        yield picture[None]


def _drawn(renderer: FilmRenderer, films: Sequence[Film], number: int, motion: Motion,
           pictures: Iterator[tuple[int, Tensor]], scope: str,
           batch_size: int | None) -> Iterator[tuple[int, Tensor]]:
    """One person's pass: (number in the film, [H, W, 3] float32)."""
    read: deque[tuple[int, Tensor]] = deque()

    def reading() -> Iterator[tuple[int, Tensor]]:
        for place, picture in pictures:
            read.append((place, picture))
            yield place, picture

    for batch in renderer.render_film(films[number], reading(), motion, scope, batch_size):
        for frame in batch:
            place, before = read.popleft()
            before = before.to(frame.device)
            before = before.float() / 255.0 if before.dtype == torch.uint8 else before
            there = [film.landmarks[place] for film in films]
            out = before[None].clone()
            _lay_over(out, before, frame[None], _cut(shares(there, *before.shape[:2])[number]))
            yield place, out[0]


def _lay_over(out: Tensor, base: Tensor, drawn: Tensor, owned: tuple[slice, slice, Tensor]) -> None:
    """Adds to ``out`` [B, H, W, 3] what ``drawn`` changes of ``base`` [H, W, 3], by a share from ``_cut``; in place."""
    rows, columns, share = owned
    base, drawn, part, share = base[rows, columns], drawn[:, rows, columns], out[:, rows, columns], share.to(out.device)
    # Whose pixel it is alone sets it: adding a difference would round.
    part.copy_(torch.where(share == 1, drawn, torch.addcmul(part, share, drawn - base)))


def _cut(share: Tensor) -> tuple[slice, slice, Tensor]:
    """Rows and columns that hold all that is above 0 of ``share`` [H, W], and that part of it, [h, w, 1]."""
    found = []
    for axis in (1, 0):
        there = torch.nonzero((share > 0).any(axis))[:, 0]
        found.append(slice(int(there[0]), int(there[-1]) + 1) if len(there) else slice(0, 0))
    return found[0], found[1], share[found[0], found[1], None]


def _nearer(own: Tensor, theirs: Tensor, size: float, their_size: float) -> Tensor:
    """0..1 how far places at distances ``own`` and ``theirs`` from two faces (pixels, below 0 inside) are one's own.

    Args:
        size, their_size: outer-eye distances, pixels. The larger face has more hair around it, and where both overlap,
            it lies in front.
    """
    unit, ratio = (size * their_size) ** 0.5, size / their_size
    own, theirs = own / unit, theirs / unit
    low, high = IN_FRONT
    ahead = min(max((max(ratio, 1 / ratio) - low) / (high - low), 0.0), 1.0)
    if ratio > 1:
        theirs = _hidden(theirs, own, ahead)
    else:
        own = _hidden(own, theirs, ahead)
    hair = HAIR * (size - their_size) / unit
    outside = (torch.minimum(own, theirs) / BORDER).clamp(0, 1)
    t = ((theirs - own + hair * outside) / (2 * BORDER) + 0.5).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _hidden(away: Tensor, front: Tensor, ahead: float) -> Tensor:
    """[N] distances ``away`` from a face that one at distances ``front`` hides as far as ``ahead`` (0..1) says: what
    lies inside of both, or close to the border of the one in front, counts as outside of the hidden one."""
    near = (1 - front / BORDER).clamp(0, 1) * ahead
    return torch.where(away < 0, away * (1 - near) + near * BORDER * (-away / 0.15).clamp(0, 1), away)


def _beyond(places: Tensor, ring: Tensor) -> Tensor:
    """[N] distance of places [N, 2] from a polygon [K, 2], below 0 inside."""
    ahead = ring.roll(-1, 0)
    along = ahead - ring
    offset = places[:, None] - ring
    t = ((offset * along).sum(-1) / along.square().sum(-1).clamp_min(1e-9)).clamp(0, 1)
    nearest = (offset - t[..., None] * along).norm(dim=-1).amin(1)
    crosses = (ring[:, 1] > places[:, None, 1]) != (ahead[:, 1] > places[:, None, 1])
    slope = torch.where(along[:, 1] == 0, torch.ones_like(along[:, 1]), along[:, 1])
    at = ring[:, 0] + (places[:, None, 1] - ring[:, 1]) * along[:, 0] / slope
    inside = (crosses & (places[:, None, 0] < at)).sum(1) % 2 == 1
    return torch.where(inside, -nearest, nearest)


def _eyes(landmarks: Tensor) -> Tensor:
    """[2] the middle between the eyes, pixels."""
    return landmarks[list(geometry.OUTER_EYE_CORNERS), :2].float().cpu().mean(0)


def _middle(landmarks: Tensor) -> Tensor:
    """[2] the middle of the face, pixels."""
    return landmarks[list(geometry.OVAL), :2].float().cpu().mean(0)
