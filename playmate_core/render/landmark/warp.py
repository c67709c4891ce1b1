"""Moving nodes forward, turning the movement round into a backward map, and reading the picture sharply."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...runtime.sampling import sample
from .grid import Grid, smoothstep

MAX_SLOPE = 1.5
"""Steepest relief (depth a pixel) of a prepared head. A turn by t folds it where slope > 1 / tan(t)."""
LARGEST_DOUBLED = 4_500_000
"""Pixels of the largest picture that is kept at twice its resolution (four times the memory)."""
FLAT_SLOPE = 0.85
"""Steepest relief that far turns use: sides of the nose are flattened first, and the head as a whole, which is what a
turn is seen by, keeps its depth."""
CAMERA = 5.0
"""Distance of the camera, outer-eye distances: half a metre, where portraits and selfies are taken. With a parallel
projection a nod hides nothing and brings nothing nearer, and reads a sixth smaller on true heads."""
CLEARANCE = 0.32
"""The least to which a turn may squeeze a piece of skin: a fold would be below zero."""


TIGHT, UNFOLDING = 0.24, 24
"""Area to which an expression may squeeze a piece of skin freely, and how often what is tighter is evened out."""


@dataclass(frozen=True)
class Pose:
    """Head movement of B frames relative to the portrait.

    Attributes:
        turn: [B, 3] rotation vectors in the picture's axes (x right, y down, z away), radians.
        shift: [B, 2] pixels.
        scale: [B] factor.
        pivot: [3] what the head turns about, pixels.
        size: the portrait's outer-eye distance, pixels.
    """

    turn: Tensor
    shift: Tensor
    scale: Tensor
    pivot: Tensor
    size: float

    def __getitem__(self, frames) -> Pose:
        return Pose(self.turn[frames], self.shift[frames], self.scale[frames], self.pivot, self.size)

    def to(self, device) -> Pose:
        moved = (value.to(device) for value in (self.turn, self.shift, self.scale, self.pivot))
        return Pose(*moved, self.size)


def rigid(points: Tensor, pose: Pose, weight: Tensor | None = None) -> Tensor:
    """Where points [B, N, 3] come to lie in the picture: [B, N, 2].

    ``weight`` [N] scales the turn's angle, not the displacement: a turn that fades with the distance from its pivot
    shears but cannot fold. The picture is a camera's in front of the pivot, ``CAMERA`` away.
    """
    angle = pose.turn.norm(dim=-1, keepdim=True)
    axis = pose.turn / angle.clamp_min(1e-9)
    weight = points.new_ones(points.shape[1]) if weight is None else weight
    theta = angle * weight
    sine, cosine = theta.sin(), theta.cos()
    p = points - pose.pivot
    x, y, z = p.unbind(-1)
    camera = CAMERA * pose.size
    nearness = 1 + z / camera
    x, y = x * nearness, y * nearness
    kx, ky, kz = (axis[:, i:i + 1] for i in range(3))
    along = (kx * x + ky * y + kz * z) * (1 - cosine)
    new_z = z * cosine + (kx * y - ky * x) * sine + kz * along
    scale = (1 + (pose.scale[:, None] - 1) * weight) / (1 + new_z / camera)
    new_x = (x * cosine + (ky * z - kz * y) * sine + kx * along) * scale + pose.pivot[0]
    new_y = (y * cosine + (kz * x - kx * z) * sine + ky * along) * scale + pose.pivot[1]
    return torch.stack([new_x, new_y], -1) + pose.shift[:, None] * weight[:, None]


def displacement(nodes: Tensor, depth: Tensor, flat: Tensor, weight: Tensor, border: Tensor, expression: Tensor,
                 pose: Pose) -> Tensor:
    """[B, 2, N] how far nodes move, pixels.

    Args:
        nodes: [N, 2] pixels.
        depth, flat, weight: [N] relief, the same without what is steep, and share of the head's movement.
        border: [2, N] factors that keep the picture's edge filled.
        expression: [B, N, 3] expression displacement in the picture's axes before the head turns, pixels.
    """
    frames = expression.shape[0]
    steep, share = (value[:, None] for value in relief_shares(pose))
    depth = pose.pivot[2] + (flat + (depth - flat) * steep - pose.pivot[2]) * share
    rest = torch.cat([nodes.expand(frames, -1, -1), depth[..., None]], -1)
    return (rigid(rest + expression, pose, weight) - nodes).transpose(1, 2) * border


def relief_shares(pose: Pose) -> tuple[Tensor, Tensor]:
    """(steep [B], all [B]): how much a frame may use of what is steep in the relief, and of the relief as a whole: all
    of it until the steepest slope would hide behind itself, and no more than that of what is steep."""
    tilt = pose.turn[:, :2].norm(dim=-1).clamp(1e-3, 1.2)
    steepest = (tilt.cos() - CLEARANCE) / tilt.sin()
    steep = ((steepest - FLAT_SLOPE) / (MAX_SLOPE - FLAT_SLOPE)).clamp(0.0, 1.0)
    return steep, (steepest / FLAT_SLOPE).clamp(0.1, 1.0)


def with_slopes(field: Tensor, step: float) -> Tensor:
    """[B, 2, h, w] displacement to [B, 6, h, w]: itself, d/dx and d/dy by central differences."""
    padded = F.pad(field, (1, 1, 1, 1), mode="replicate")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / (2 * step)
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / (2 * step)
    return torch.cat([field, dx, dy], 1)


def unfold(field: Tensor, step: float) -> Tensor:
    """``field`` [B, 2, h, w] of displacements evened out where it squeezes skin to less than ``TIGHT``, and round it.

    A piece that folds over has no inverse: Newton's steps find whichever layer is nearest, and the picture tears.
    What is nowhere so tight is returned as it is.
    """
    for _ in range(UNFOLDING):
        slopes = with_slopes(field, step)
        area = (1 + slopes[:, 2]) * (1 + slopes[:, 5]) - slopes[:, 3] * slopes[:, 4]
        tight = smoothstep((TIGHT - area) / TIGHT)[:, None]
        if not bool((tight > 0).any()):
            return field
        # Its neighbourhood gives way too, or the fold only moves aside.
        share = _even(F.max_pool2d(tight, 3, 1, 1))
        field = field + share * (_even(field) - field)
    return field


def _even(field: Tensor) -> Tensor:
    """[B, C, h, w] softened over a few nodes."""
    kernel = field.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    channels = field.shape[1]
    for axis in (2, 3):
        shape, pad = [channels, 1, 1, 1], [0, 0, 0, 0]
        shape[axis] = 5
        pad[2 * (3 - axis)] = pad[2 * (3 - axis) + 1] = 2
        padded = F.pad(field, pad, mode="replicate")
        field = F.conv2d(padded, kernel.view(*(5 if n == axis else 1 for n in range(4))).expand(shape),
                         groups=channels)
    return field


def invert(field: Tensor, grid: Grid, targets: Tensor, start: Tensor | None = None, steps: int = 6) -> Tensor:
    """Newton's method for u in u + d(u) = y.

    Where a raised brow squeezes the skin above it to a quarter, plain steps fly off at single nodes, which makes
    rings. A frame in which a node is still off by more than a pixel before the last step is done again, damped.

    Args:
        field: [B, 6, h, w] displacement d on ``grid`` with its slopes.
        targets: [B, H, W, 2] or [H, W, 2] pixels y.
        start: [B, H, W, 2] first guess; y itself if left out.

    Returns:
        [B, H, W, 2] pixels u.
    """
    y = targets.expand(field.shape[0], -1, -1, -1)
    first = y if start is None else start
    found, missed = _newton(field, grid, y, first, steps, damped=False)
    failed = missed.amax((1, 2)) > 1.0
    if bool(failed.any()):
        found[failed], _ = _newton(field[failed], grid, y[failed], first[failed], steps, damped=True)
    return found


def _newton(field: Tensor, grid: Grid, y: Tensor, u: Tensor, steps: int, damped: bool) -> tuple[Tensor, Tensor]:
    """(u [B, H, W, 2], squared pixels [B, H, W] by which the last step but one missed). Damped, a step that misses
    by more than the best before it is taken back half."""
    limit = 12.0 * grid.step
    best, least = u, y.new_full(u.shape[:-1], float("inf"))
    for _ in range(steps):
        value = grid.sample(field, u)
        rx = u[..., 0] + value[:, 0] - y[..., 0]
        ry = u[..., 1] + value[:, 1] - y[..., 1]
        a, b, c, d = 1 + value[:, 2], value[:, 4], value[:, 3], 1 + value[:, 5]
        determinant = (a * d - b * c).clamp_min(0.2)
        move = torch.stack([d * rx - b * ry, a * ry - c * rx], -1) / determinant[..., None]
        following = u - move.clamp(-limit, limit)
        if damped:
            missed = rx * rx + ry * ry
            nearer = (missed <= least)[..., None]
            least = torch.minimum(missed, least)
            following = torch.where(nearer, following, (u + best) / 2)
            best = torch.where(nearer, u, best)
        u = following
    return u, rx * rx + ry * ry


def inverse_2x2(matrix: Tensor) -> Tensor:
    """[..., 2, 2] inverted by hand: not every device has torch.linalg, and some wait for the CPU there."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    rows = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return rows / (a * d - b * c)[..., None, None]


@dataclass(frozen=True)
class Texture:
    """A piece of a picture at twice its resolution, so that a bilinear look-up is sharp.

    Attributes:
        pixels: [1, C, 2h - 1, 2w - 1]; even rows and columns hold the picture's own pixels, untouched. Huge pictures,
            whose detail spans many pixels anyway, are kept as they are: [1, C, h, w].
        x0, y0: pixel column and row of the first.
        factor: 2 or 1.
    """

    pixels: Tensor
    x0: int
    y0: int
    factor: int = 2

    @staticmethod
    def of(image: Tensor, x0: int = 0, y0: int = 0) -> Texture:
        """From ``image`` [h, w, C]; pixels between are cubic (-1, 9, 9, -1) / 16 midpoints."""
        pixels = image.permute(2, 0, 1)[None]
        if image.shape[0] * image.shape[1] > LARGEST_DOUBLED:
            return Texture(pixels.contiguous(), x0, y0, 1)
        for axis in (2, 3):
            pixels = _twice(pixels, axis)
        return Texture(pixels.clamp(0, 1).contiguous(), x0, y0)

    def read(self, points: Tensor) -> Tensor:
        """Colours [B, C, H, W] at ``points`` [B, H, W, 2] in the whole picture's pixels (centres at + 0.5)."""
        scale, origin = self.scale(points)
        return self.read_at((points - origin) * scale - 1)

    def to(self, device) -> Texture:
        """The same on ``device``."""
        return Texture(self.pixels.to(device), self.x0, self.y0, self.factor)

    def scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(scale [2], origin [2]): ``(pixels - origin) * scale - 1`` is what :meth:`read_at` takes."""
        height, width = self.pixels.shape[2:]
        return (like.new_tensor([2.0 * self.factor / max(width - 1, 1), 2.0 * self.factor / max(height - 1, 1)]),
                like.new_tensor([self.x0 + 0.5, self.y0 + 0.5]))

    def read_at(self, places: Tensor) -> Tensor:
        """As :meth:`read`, at [B, H, W, 2] in -1..1."""
        return sample(self.pixels.expand(places.shape[0], -1, -1, -1), places, "border", align_corners=True)


def _twice(pixels: Tensor, axis: int) -> Tensor:
    size = pixels.shape[axis]
    if size == 1:
        return pixels
    index = torch.arange(size - 1, device=pixels.device)
    a, b, c, d = (pixels.index_select(axis, (index + k).clamp(0, size - 1)) for k in (-1, 0, 1, 2))
    middle = (9 * (b + c) - a - d) / 16
    shape = list(pixels.shape)
    shape[axis] = 2 * size - 1
    out = pixels.new_empty(shape)
    even, odd = ([slice(None)] * axis + [slice(first, None, 2)] for first in (0, 1))
    out[tuple(even)], out[tuple(odd)] = pixels, middle
    return out
