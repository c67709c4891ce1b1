"""The mesh's tremor taken out of a film's landmarks, without lag and without softening fast lips.

Landmarks are taken apart into the head's place (a similarity) and its shape in its own frame. Each is smoothed by a
Gaussian that looks as far ahead as back, and what the Gaussian takes away is given back as far as it is more than
tremor: where a signal moves, the rest around it is larger than it ever is while it stands still. (A Wiener filter,
whose noise is what the calmest pictures show.) So a head at rest stands still, and a lip that snaps shut does so in
the same picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..face import geometry
from ..motion.geometry import euler_degrees, quaternion_from_degrees, quaternion_to_degrees, rotation_matrix
from ..motion.smoothing import gaussian_smooth

PLACE_SECONDS, MOUTH_SECONDS, EYES_SECONDS, REST_SECONDS = 0.08, 0.05, 0.05, 0.15
"""Standard deviations of the Gaussians for the head's place, the lower face, the eyes with their brows, and the rest of
the face's shape, which hardly ever changes."""
QUIET = 0.15
"""Share of the pictures of a run that are taken for calm ones."""
MOST_TREMOR = 0.008
"""Largest tremor of a landmark, root mean square in outer-eye distances: what is more is movement."""
MARGIN = 2.0
"""How much stronger than in calm pictures (in energy) tremor may be elsewhere."""
_AROUND = 1.5  # pictures, standard deviation, over which energies are averaged
_CHUNK = 512  # pictures that are turned at once
_AT_ONCE = 2  # landmarks that are smoothed at once: a convolution needs much more memory than its numbers
_SHAPE_FRAMES = 256


def steady(landmarks: Tensor, seen: Tensor, shot: Tensor, fps: float) -> None:
    """Smooths landmarks in place, every run of pictures that show the face within one shot by itself.

    Args:
        landmarks: [N, 478, 3] pixels, float32; those of pictures that do not show the face are left.
        seen: [N] bool.
        shot: [N].
        fps: pictures a second.
    """
    numbers = seen.nonzero()[:, 0]
    if not len(numbers):
        return
    every = numbers[torch.linspace(0, len(numbers) - 1, min(len(numbers), _SHAPE_FRAMES)).round().long()]
    shape = geometry.unit_shape(geometry.to_head_frame(landmarks[every]).median(dim=0).values).double()
    for first, last in runs(seen, shot):
        if last - first >= 3:
            _steady_run(landmarks[first:last], shape, fps)


def runs(seen: Tensor, shot: Tensor) -> list[tuple[int, int]]:
    """(first, one after the last) of the pictures in a row that show the face without a cut."""
    broken = torch.ones(len(seen) + 1, dtype=torch.bool)
    broken[1:-1] = (seen[1:] != seen[:-1]) | (shot[1:] != shot[:-1])
    edges = broken.nonzero()[:, 0].tolist()
    return [(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if bool(seen[a])]


def _steady_run(run: Tensor, shape: Tensor, fps: float) -> None:
    """One run [n, 478, 3], in place."""
    rigid = list(geometry.RIGID)
    centres, sizes, turns = [], [], []
    for part in run.split(_CHUNK):
        scale, rotation, shift = geometry.similarity(part[:, rigid], shape[rigid], rounds=3)
        # From the picture to the head's frame: x * scale @ rotation + shift; back: origin + size * y @ rotation'.
        centres.append((-(shift / scale[:, None])[:, None] @ rotation.transpose(1, 2))[:, 0])
        sizes.append(1.0 / scale)
        turns.append(rotation)
        part.copy_(part.double() * scale[:, None, None] @ rotation + shift[:, None])
    centre, size, turn = _steady_place(torch.cat(centres), torch.cat(sizes), torch.cat(turns), shape, fps)
    _steady_shape(run, fps)
    for index, part in enumerate(run.split(_CHUNK)):
        rows = slice(index * _CHUNK, index * _CHUNK + len(part))
        part.copy_(centre[rows, None] + size[rows, None, None] * (part.double() @ turn[rows].transpose(1, 2)))


def _steady_place(centre: Tensor, size: Tensor, turn: Tensor, shape: Tensor,
                  fps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Origins [n, 3] and sizes [n] in pixels and rotations [n, 3, 3] of the head, without tremor.

    One weight a picture for all of it: the fit's errors in place and in angle cancel at the landmarks, and must go on
    doing so.
    """
    quaternions = quaternion_from_degrees(euler_degrees(turn))
    dots = (quaternions[1:] * quaternions[:-1]).sum(-1)
    signs = torch.cat([dots.new_ones(1), torch.where(dots < 0, -1.0, 1.0).to(dots).cumprod(0)])
    values = torch.cat([centre, size.log()[:, None], quaternions * signs[:, None]], 1)
    calm = gaussian_smooth(values, PLACE_SECONDS * fps)
    anchors = shape[list(geometry.RIGID)[::4]]

    def laid(v: Tensor) -> Tensor:
        return v[:, None, :3] + v[:, 3, None, None].exp() * (anchors @ _matrix(v[:, 4:]).transpose(1, 2))

    off = (laid(values) - laid(calm))[..., :2].square().sum(-1).mean(1) / size.square()
    kept = calm + _movement(off)[:, None] * (values - calm)
    return kept[:, :3], kept[:, 3].exp(), _matrix(kept[:, 4:])


def _matrix(quaternions: Tensor) -> Tensor:
    return rotation_matrix(quaternion_to_degrees(quaternions))


def _steady_shape(run: Tensor, fps: float) -> None:
    """[n, 478, 3] in the head's frame, in place."""
    mean = geometry.mean_face()
    mouth = mean[:, 1] > mean[1, 1]  # below the tip of the nose
    lids = torch.zeros(len(mean), dtype=torch.bool)
    lids[[*(index for ring in (*geometry.EYES, *geometry.BROWS) for index in ring), *range(468, 478)]] = True
    for part, seconds in ((mouth, MOUTH_SECONDS), (lids & ~mouth, EYES_SECONDS), (~(mouth | lids), REST_SECONDS)):
        pieces = part.nonzero()[:, 0].split(_AT_ONCE)
        energy = torch.zeros(len(run), dtype=torch.float64)
        for some in pieces:
            off = run[:, some] - gaussian_smooth(run[:, some], seconds * fps)
            energy += off[..., :2].square().sum(-1).sum(1).double()
        weight = _movement(energy / int(part.sum())).float()[:, None, None]
        for some in pieces:  # smoothed a second time, which needs no room for a long film's smooth copy
            calm = gaussian_smooth(run[:, some], seconds * fps)
            run[:, some] = calm + weight * (run[:, some] - calm)


def _movement(energy: Tensor) -> Tensor:
    """[n] 0..1 how much of what smoothing takes away is movement and no tremor.

    Args:
        energy: [n] mean square of what it takes away, outer-eye distances.
    """
    local = gaussian_smooth(energy[:, None], _AROUND)[:, 0].clamp_min(0)
    # Where one picture leaps, the mean over its neighbours would let its own edge pass as tremor.
    local = torch.maximum(local, energy)
    tremor = min(float(local.quantile(QUIET)) * MARGIN, MOST_TREMOR ** 2)
    return (1 - tremor / local.clamp_min(1e-12)).clamp(0, 1)
