"""The face of a film in numbers: which of its pictures shows the person's own closed mouth best, where the head is in
every picture, and by how much each has to change.

Everything is in the head's own frame (units of the outer-eye distance; x right, y down, z away) unless it says pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face import geometry
from ...motion.geometry import euler_degrees, rotation_matrix
from ...motion.types import Motion
from ..film import Film
from . import topology
from .clip import requested_turn
from .expression import CLOSED_GAP
from .grid import smoothstep

PIECE = 256
"""Pictures whose numbers are worked out at once."""
NOSE = (1, 2, 98, 327, 4, 5)
"""What stands still over a mouth that speaks: where the mesh sees it beside the head's pose, the mouth is too."""
FARTHEST = 18.0
"""Degrees by which a head turns at most from where its picture shows it."""
LIPS = sorted(set(sum((list(row) for row in topology.LIPS_UPPER_ROWS + topology.LIPS_LOWER_ROWS), [])))
SMOOTHING = 1.0
"""Standard deviation, pictures, by which the film's own movement of jaw and cheeks is evened out."""


def lower_face(shape: Tensor) -> Tensor:
    """[478] how much of a landmark's movement is the mouth's, 0..1: all of it from the upper lip down, none from the
    nose's tip up and none at the ears; ``shape`` [478, 3]."""
    tip, lip = float(shape[1, 1]), float(shape[0, 1])
    weight = smoothstep((shape[:, 1] - tip) / max(lip - tip, 0.05))
    ears = [127, 234, 93, 132, 356, 454, 323, 361]
    away = (shape[:, None, :2] - shape[None, ears, :2]).norm(dim=-1).amin(1)
    weight = weight * smoothstep(away / 0.30)
    weight[topology.MESH_POINTS:] = 0
    return weight


def weights(shape: Tensor, scope: str) -> Tensor:
    """[478] how much of a landmark's movement is the motion's, 0..1, in one of ``render.film.SCOPES``."""
    low = lower_face(shape)
    if scope == "mouth":
        return low
    if scope == "all":
        return torch.ones(topology.LANDMARKS)
    # The face's outline above the jaw is the head's.
    rim = list(topology.OVAL[:9] + topology.OVAL[-9:])
    inner = smoothstep((shape[:, None, :2] - shape[None, rim, :2]).norm(dim=-1).amin(1) / 0.20)
    return torch.maximum(low, inner)


@dataclass(frozen=True)
class Placed:
    """T pictures' faces against the neutral one.

    Attributes:
        own: [T, 478, 3] shapes laid on the neutral one by what is rigid.
        axes: [T, 3, 3] takes a displacement (row vector) from the head's frame to pixels.
        origin: [T, 3] where the head frame's origin lies, pixels.
    """

    own: Tensor
    axes: Tensor
    origin: Tensor

    @staticmethod
    def of(landmarks: Tensor, neutral: Tensor) -> Placed:
        """``landmarks`` [T, 478, 3] pixels, laid on ``neutral`` [478, 3]."""
        rigid = list(geometry.RIGID)
        points = landmarks.double()
        scale, rotation, shift = geometry.similarity(points[:, rigid], neutral.double()[rigid], rounds=1)
        own = scale[:, None, None] * (points @ rotation) + shift[:, None]
        axes = rotation.transpose(-1, -2) / scale[:, None, None]
        return Placed(own.float(), axes.float(), -(shift[:, None] @ axes)[:, 0].float())

    def pixels(self, shapes: Tensor) -> Tensor:
        """``shapes`` [T, 478, 3] in the head's frame, where they lie in the pictures."""
        return shapes @ self.axes + self.origin[:, None]


def movement(film: Film, numbers: Tensor, neutral: Tensor, bridge) -> tuple[Tensor, Tensor, Placed]:
    """What the film's face does by itself in some of its pictures.

    The mesh's tremble is no movement: what the expressions of the bridge do not explain is left out, but for the lips,
    which are drawn over anyway, and what is left is evened out over neighbouring pictures of the same shot.

    Args:
        numbers: [T] int64, pictures of the film.

    Returns:
        (displacement from the neutral face [T, 478, 3], by how much the mesh is beside the head [T, 1, 3], the
        pictures' faces without tremble).
    """
    reach = round(3 * SMOOTHING)
    needed, place = torch.unique(torch.cat([(numbers + k).clamp(0, len(film) - 1) for k in range(-reach, reach + 1)]),
                                 return_inverse=True)
    placed = Placed.of(film.landmarks[needed], neutral)
    moved = placed.own - neutral
    # Where the nose is seen beside its place, the whole mesh is.
    drift = moved[:, list(NOSE)].mean(1, keepdim=True)
    moved = moved - drift
    plain = bridge.displacement(bridge.expression(moved)).cpu()
    plain[:, LIPS] = moved[:, LIPS]
    place = place.reshape(2 * reach + 1, len(numbers))
    offset = torch.arange(-reach, reach + 1)[:, None]
    share = torch.exp(-0.5 * (offset / SMOOTHING) ** 2) * (film.shot[needed][place] == film.shot[numbers])
    share = share / share.sum(0)
    plain, drift = (torch.einsum("kt,ktnc->tnc", share, table[place]) for table in (plain, drift))
    now = place[reach]
    return plain, drift, Placed(neutral + plain + drift, placed.axes[now], placed.origin[now])


def velocity(film: Film, numbers: Tensor) -> Tensor:
    """[T, 2] pixels by which the head moves from one picture to the next, nothing across cuts; ``numbers`` [T]."""
    rigid = list(geometry.RIGID)
    here = film.landmarks[numbers][:, rigid, :2].mean(1)
    steps = []
    for step in (-1, 1):
        there = (numbers + step).clamp(0, len(film) - 1)
        same = (film.shot[there] == film.shot[numbers]) & film.seen[there] & film.seen[numbers]
        steps.append(step * (film.landmarks[there][:, rigid, :2].mean(1) - here) * same[:, None])
    return (steps[0] + steps[1]) / 2


@dataclass(frozen=True)
class Survey:
    """What every picture's face looks like, in few numbers.

    Attributes:
        numbers: [S] the pictures that show the face.
        gap: [S] between the lips.
        teeth: [S] how much of the teeth may show.
        cost: [S] how little the picture shows a calm closed mouth in the head's usual pose.
        angles: [S, 3] degrees of the head.
    """

    numbers: Tensor
    gap: Tensor
    teeth: Tensor
    cost: Tensor
    angles: Tensor


def survey(film: Film) -> Survey:
    """Looks the film's numbers through, in pieces."""
    numbers = torch.nonzero(film.seen).flatten()
    some = numbers[torch.linspace(0, len(numbers) - 1, min(len(numbers), 400)).round().long()]
    middle = geometry.unit_shape(geometry.lay_on_own_median(film.landmarks[some], geometry.mean_face())
                                 .median(0).values).float()
    gaps, mouths, eyes, angles, places = [], [], [], [], []
    for start in range(0, len(numbers), PIECE):
        landmarks = film.landmarks[numbers[start:start + PIECE]]
        own = Placed.of(landmarks, middle).own
        gaps.append((own[:, 14, :2] - own[:, 13, :2]).norm(dim=-1))
        mouths.append(own[:, list(geometry.LIPS_OUTER), :2] - own[:, list(NOSE), :2].mean(1, keepdim=True))
        eyes.append(geometry.eye_openness(landmarks).mean(-1))
        angles.append(geometry.head_pose(landmarks))
        places.append(landmarks[:, list(geometry.RIGID), :2].mean(1) / geometry.outer_eye_distance(landmarks)[:, None])
    gap, mouth, eye, angle, place = (torch.cat(part) for part in (gaps, mouths, eyes, angles, places))
    shut = gap <= max(float(gap.quantile(0.15)), CLOSED_GAP)
    usual = mouth[shut].median(0).values
    unlike = (mouth - usual).norm(dim=-1).mean(1)
    turned = (angle - angle.median(0).values).norm(dim=-1)
    # Frontal is better than usual where the head is often turned.
    turned = torch.minimum(turned, 0.5 * turned + 0.5 * angle[:, :2].norm(dim=-1))
    speed = torch.zeros(len(numbers))
    if len(numbers) > 2:
        step = (mouth[1:] - mouth[:-1]).norm(dim=-1).mean(1) + 0.5 * (place[1:] - place[:-1]).norm(dim=-1)
        speed[1:] += step
        speed[:-1] += step
    cost = ((gap - CLOSED_GAP).clamp_min(0) / 0.01 + unlike / 0.02 + turned / 10 + speed / 0.02
            + (eye.quantile(0.75) - eye).clamp_min(0) / 0.04)
    width = (mouth[:, 0] - mouth[:, 10]).norm(dim=-1)
    teeth = gap.clamp_max(0.16) + 0.5 * (width - width.median()).clamp(-0.1, 0.1) - turned / 200 - speed
    return Survey(numbers, gap, teeth, cost, angle)


@dataclass(frozen=True)
class Stance:
    """How the head stands in the film by and large.

    Attributes:
        angles: [3] degrees; size: pixels of a unit; origin: [3] pixels.
    """

    angles: Tensor
    size: float
    origin: Tensor


def stance(film: Film, neutral: Tensor) -> Stance:
    """The medians over at most 400 pictures."""
    numbers = torch.nonzero(film.seen).flatten()
    some = numbers[torch.linspace(0, len(numbers) - 1, min(len(numbers), 400)).round().long()]
    placed = Placed.of(film.landmarks[some], neutral)
    size = placed.axes.norm(dim=-1).mean(-1)
    angles = euler_degrees((placed.axes / size[:, None, None]).double())
    return Stance(angles.median(0).values, float(size.median()), placed.origin.median(0).values)


def turned(placed: Placed, stand: Stance, motion: Motion, bridge) -> Placed:
    """Faces whose heads stand as the film's does by and large and move as ``motion`` says.

    A head can only be turned so far from where its picture shows it; what is asked beyond eases off.
    """
    size = placed.axes.norm(dim=-1).mean(-1)
    own = euler_degrees((placed.axes / size[:, None, None]).double())
    asked = stand.angles + requested_turn(motion).double() - own
    angles = own + FARTHEST * torch.tanh(asked / FARTHEST)
    shift = bridge.head_shift(motion.translation - motion.neutral.translation, motion.neutral.scale) * stand.size
    scale = motion.scale[:, 0] / motion.neutral.scale[0] * stand.size / size
    scale = torch.exp(0.2 * torch.tanh(scale.log() / 0.2)) * size
    away = stand.origin[:2] + shift - placed.origin[:, :2]
    far = away.norm(dim=-1, keepdim=True).clamp_min(1e-6) / (0.5 * size[:, None])
    origin = placed.origin.clone()
    origin[:, :2] += away * torch.tanh(far) / far
    return Placed(placed.own, rotation_matrix(angles).float() * scale[:, None, None], origin)


def best(values: Tensor, count: int, apart: int) -> list[int]:
    """Indices of the ``count`` smallest ``values`` [S] that lie ``apart`` from each other."""
    found: list[int] = []
    for index in values.argsort().tolist():
        if all(abs(index - other) >= apart for other in found):
            found.append(index)
        if len(found) == count:
            break
    return found


def fades(film: Film, over: int = 2) -> np.ndarray:
    """[N] how far a picture is drawn on, 0..1: nothing where the face is not seen, and in steps beside that.

    A cut is no border: on its other side everything starts anew.
    """
    seen, shot = film.seen.cpu().numpy().astype(bool), film.shot.cpu().numpy()
    out = seen.astype(np.float64)
    for away in range(1, over + 1):
        level = away / (over + 1)
        for step in (-away, away):
            there = np.clip(np.arange(len(seen)) + step, 0, len(seen) - 1)
            beside = ~seen[there] & (shot[there] == shot)
            out[beside] = np.minimum(out[beside], level)
    return out
