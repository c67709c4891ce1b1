"""A film as LivePortrait's networks know it, and the keypoints with which motion is drawn on it.

The published way from film to film (SPEC.md section 10.1) adds the driver's expression to what the film's own face
does. Here the film's expression is taken out first, so that lips that speak in the film say the new words alone:
M's numbers of the same face at rest stand in for it, wherever the published way would overwrite (``animate.SELECT``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Iterator

import torch
from torch import Tensor

from ...face.bridge import LatentBridge
from ...face.ratios import eye_ratio, lip_ratio
from ...motion.geometry import nearest_rotation
from ...motion.smoothing import gaussian_smooth
from ...runtime.errors import PlaymateError
from ..film import Film
from .animate import EYES_MASK, LIP_MASK, SELECT, Latents, Options, place, retargeted
from .crop import Square, square_of_mesh
from .stitching import Stitching

FOLLOW_SECONDS = 0.3
"""Standard deviation of the Gaussian that smooths the crop's way: slower than nods, as fast as walks. What the head
does within the crop, M reads."""
CALM_SHARE, CALM_FRAMES = 0.1, 5
"""Share and least number of the film's frames, the calmest, from which its face at rest is read."""


@dataclass(frozen=True)
class Reading:
    """What M says of a film's N pictures, on the CPU, float32; a few hundred numbers a picture.

    Attributes:
        squares: [N, 4] float64 x, y, size and angle of each picture's crop, see ``crop.Square``.
        source: N frames with the opening of eyes and lips. Pictures without the face repeat the one before.
        rest: [K, 3] the face's expression at rest, in M's numbers.
        rest_rotation: [N, 3, 3] R of the head as its shot mostly holds it, in each picture's own crop.
        rest_eyes: [2] how far the eyes are mostly open.
    """

    squares: Tensor
    source: Latents
    rest: Tensor
    rest_rotation: Tensor
    rest_eyes: Tensor

    def source_of(self, numbers: Tensor) -> Latents:
        """M's reading of the pictures ``numbers`` [B]."""
        return Latents(**{name: value[numbers] for name, value in vars(self.source).items()})

    def rest_of(self, numbers: Tensor) -> Latents:
        """The same pictures' face at rest: expression, rotation and how far the eyes are open."""
        count = len(numbers)
        return replace(self.source_of(numbers), exp=self.rest.expand(count, -1, -1),
                       rotation=self.rest_rotation[numbers], eyes=self.rest_eyes.expand(count, -1))

    def square(self, number: int) -> Square:
        """The crop of a picture."""
        return Square(*self.squares[number].tolist())


def squares_through(film: Film) -> Tensor:
    """[N, 4] float64: each picture's crop by itself, smoothed over every shot."""
    found = []
    for landmarks in film.landmarks:
        square = square_of_mesh(landmarks)
        found.append([square.x, square.y, math.log(square.size), square.angle])
    way = torch.tensor(found, dtype=torch.float64).reshape(-1, 4)
    for shot in film.shot.unique().tolist():
        of_shot = film.shot == shot
        own = way[of_shot]
        # Turning on past half a turn, rather than jumping back.
        step = torch.diff(own[:, 3])
        own[1:, 3] -= 2 * math.pi * torch.round(step / (2 * math.pi)).cumsum(0)
        way[of_shot] = gaussian_smooth(own, FOLLOW_SECONDS * film.fps)
    way[:, 2] = way[:, 2].exp()
    return way


def reading_of(film: Film, squares: Tensor, motion: dict[str, Tensor], bridge: LatentBridge) -> Reading:
    """From M's numbers of the pictures that show the face.

    Args:
        squares: [N, 4], see :class:`Reading`.
        motion: as ``MotionExtractor.motion`` gives it, S rows: one a picture that shows the face.
        bridge: tells how calm a frame is.
    """
    seen = film.seen.nonzero()[:, 0]
    # Which row stands for each picture: of those that show nothing, the last before it.
    rows = (torch.searchsorted(seen, torch.arange(len(film)), right=True) - 1).clamp_min(0)
    flat = film.landmarks.float()
    source = Latents.of({name: value.float().cpu()[rows] for name, value in motion.items()},
                        eye_ratio(flat), lip_ratio(flat))
    rest = rest_expression(source.exp[seen], film.motion.expression_offset.cpu()[seen], bridge)
    return Reading(squares, source, rest, _rest_rotation(source.rotation, squares[:, 3], film.shot, film.seen),
                   source.eyes[seen].median(0).values)


def rest_expression(exp: Tensor, offset: Tensor, bridge: LatentBridge) -> Tensor:
    """[K, 3] what M says of the face when it is at rest.

    Args:
        exp: [S, K, 3] what it says of the frames.
        offset: [S, K, 3] how far the face is from rest in them, as the film's motion knows it; the calmest count.
    """
    calm = bridge.mahalanobis(offset).argsort()[:max(round(CALM_SHARE * len(offset)), min(CALM_FRAMES, len(offset)))]
    return (exp[calm] - offset[calm]).median(0).values


def _rest_rotation(rotation: Tensor, angles: Tensor, shots: Tensor, seen: Tensor) -> Tensor:
    """[N, 3, 3] the mean rotation of each shot, as every picture's crop, turned by ``angles`` [N], shows it."""
    turn = _turns(angles).to(rotation)
    upright = rotation @ turn
    rest = torch.empty_like(rotation)
    for shot in shots.unique().tolist():
        of_shot = shots == shot
        known = of_shot & seen if bool((of_shot & seen).any()) else of_shot
        rest[of_shot] = nearest_rotation(upright[known].mean(0))
    return rest @ turn.transpose(1, 2)


def _turns(angles: Tensor) -> Tensor:
    """[N, 3, 3] by which keypoints of a crop, as rows, are turned into the picture's axes."""
    cos, sin, zero, one = angles.cos(), angles.sin(), torch.zeros_like(angles), torch.ones_like(angles)
    return torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], -1).reshape(-1, 3, 3)


def numbered(pictures: Iterator[tuple[int, Tensor]], film: Film) -> Iterator[tuple[int, Tensor]]:
    """The same, checked: pictures that the film has, of its size."""
    for number, picture in pictures:
        if not 0 <= number < len(film):
            raise PlaymateError(f"Picture {number} of the film was asked for, which has {len(film)}.")
        if tuple(picture.shape) != (*film.size, 3):
            raise PlaymateError(f"Picture {number} of the film has shape {tuple(picture.shape)} where "
                                f"{(*film.size, 3)} is needed; convert the film to one size.")
        yield number, picture


def film_keypoints(source: Latents, rest: Latents, driving: Latents, reference: Latents, scope: str,
                   options: Options, stitching: Stitching | None) -> Tensor:
    """Driving keypoints of B frames of a film.

    Args:
        source: what M says of each picture.
        rest: the same with the film's expression at rest and its head as it mostly is, B frames.
        driving: B frames of the motion.
        reference: one frame from which it counts.
        scope: one of ``render.film.SCOPES``.
        options: see ``animate.Options``; lips are shut by taking the film's out. In scope mouth nothing is stitched:
            the network would move what is to stay, and shoulders have no cause to move.
        stitching: S; needed for stitching and retargeting.

    Returns:
        [B, K, 3] float32.
    """
    head = scope == "all" and options.region in ("all", "pose")
    free = _driven(scope, options).to(source.exp.device)
    # What the published way leaves to the film holds the head's place as well; there the motion is added.
    still = torch.where(free & SELECT.to(free.device), rest.exp, source.exp)
    calm = replace(source, exp=still, rotation=rest.rotation if head else source.rotation)
    moved = calm
    if options.relative:
        moved = replace(calm, exp=torch.where(free, still + driving.exp - reference.exp, still))
        if head:
            scale = driving.scale / reference.scale if options.region == "all" else 1.0
            moved = replace(moved, rotation=driving.rotation @ reference.rotation.transpose(-1, -2) @ rest.rotation,
                            scale=source.scale * scale, t=source.t + driving.t - reference.t)
    else:
        calm = source
        moved = replace(source, exp=torch.where(free & SELECT.to(free.device), driving.exp, source.exp))
        if head:
            moved = replace(moved, rotation=driving.rotation, t=driving.t)
    mouth = scope == "mouth"
    chosen = replace(options, normalise_lip=False, stitching=options.stitching and not mouth,
                     retarget_eyes=options.retarget_eyes and not mouth)
    x_s, x_n = source.keypoints(), place(source.kp, calm)
    x_d = retargeted(source, driving, moved, x_s, place(source.kp, moved), chosen, stitching)
    return x_n + (x_d - x_n) * options.multiplier


def _driven(scope: str, options: Options) -> Tensor:
    """[K, 3] which numbers of the expression are the motion's."""
    everything = torch.ones_like(LIP_MASK)
    of_scope = LIP_MASK if scope == "mouth" else everything
    regions = {"lip": LIP_MASK, "eyes": EYES_MASK, "pose": ~everything}
    return of_scope & regions.get(options.region, everything)
