"""From latents to the keypoints that W is given (SPEC.md section 10), for one picture that motion drives.

The published code has ways that its users report as faults; here they are mended (SPEC.md section 18):

* Eye and lip retargeting with relative motion discards the whole driven motion, head turns included. Here the head
  and the rest of the face go on moving, and only the eyes' and lips' own driven expression gives way.
* The wanted opening of both eyes is the driver's left one alone. Here it is the mean of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...motion.geometry import rotation_matrix
from ...runtime.errors import PlaymateError
from .hull import expression_multiplier
from .stitching import Stitching

LIP = (6, 12, 14, 17, 19, 20)
EYES = (11, 13, 15, 16, 18)
KEYPOINTS = 21
OPEN_LIPS = 0.03
"""Lip ratio from which lips count as open."""
REGIONS = ("all", "exp", "pose", "lip", "eyes")


def _select() -> Tensor:
    kept = torch.zeros(KEYPOINTS, 3, dtype=torch.bool)
    kept[[1, 2, 6, *range(11, 21)]] = True
    kept[[3, 4], 1] = True
    kept[5, 2] = kept[8, 2] = kept[9, 1] = kept[9, 2] = True
    return kept


def _points(indices: tuple[int, ...]) -> Tensor:
    kept = torch.zeros(KEYPOINTS, 3, dtype=torch.bool)
    kept[list(indices)] = True
    return kept


SELECT, LIP_MASK, EYES_MASK = _select(), _points(LIP), _points(EYES)
"""[21, 3] which numbers of the expression a mode copies."""


@dataclass(frozen=True)
class Options:
    """How driving motion is applied; defaults as the published command line, where not said otherwise.

    Attributes:
        relative: driving motion counts from its reference frame; otherwise it replaces the source's.
        region: one of ``REGIONS``.
        stitching: keep the shoulders in place.
        normalise_lip: shut the portrait's own lips first (relative only).
        retarget_eyes, retarget_lips: follow the driver's opening ratios.
        multiplier: factor on the whole motion, last of all.
    """

    relative: bool = True
    region: str = "all"
    stitching: bool = True
    normalise_lip: bool = False
    retarget_eyes: bool = False
    retarget_lips: bool = False
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.region not in REGIONS:
            raise PlaymateError(f"There is no region called {self.region!r}; use one of: {', '.join(REGIONS)}.")


@dataclass(frozen=True)
class Latents:
    """M's reading of T frames, float32.

    Attributes:
        exp: [T, K, 3]; rotation: [T, 3, 3] R; scale: [T, 1]; t: [T, 3].
        kp: [T, K, 3] canonical keypoints; needed of a source.
        eyes: [T, 2], lip: [T, 1] opening ratios, where something follows them.
    """

    exp: Tensor
    rotation: Tensor
    scale: Tensor
    t: Tensor
    kp: Tensor | None = None
    eyes: Tensor | None = None
    lip: Tensor | None = None

    @staticmethod
    def of(motion: dict[str, Tensor], eyes: Tensor | None = None, lip: Tensor | None = None) -> Latents:
        """From ``MotionExtractor.motion``."""
        return Latents(motion["exp"], rotation_matrix(motion["rotation"]), motion["scale"], motion["t"],
                       motion["kp"], eyes, lip)

    def __len__(self) -> int:
        return len(self.exp)

    def to(self, device) -> Latents:
        """The same on ``device``."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items() if value is not None})

    def keypoints(self) -> Tensor:
        """[T, K, 3] s (x_c R + exp) + (t_x, t_y, 0)."""
        return place(self.kp, self)


def place(kp: Tensor, latents: Latents) -> Tensor:
    """[T, K, 3] canonical keypoints ``kp`` [T or 1, K, 3] as ``latents`` move them; t_z is not drawn."""
    shift = torch.cat([latents.t[:, :2], torch.zeros_like(latents.t[:, 2:])], dim=-1)
    return latents.scale[:, :, None] * (kp @ latents.rotation + latents.exp) + shift[:, None]


def animate(source: Latents, driving: Latents, reference: Latents, options: Options = Options(), *,  # noqa: B008
            stitching: Stitching | None = None) -> Tensor:
    """Driving keypoints for every frame.

    Args:
        source: the portrait, one frame.
        driving: the driving frames.
        reference: one frame from which relative motion counts.
        options: see :class:`Options`.
        stitching: S; needed for stitching, lip normalisation and retargeting.

    Returns:
        [T, K, 3] float32.

    Raises:
        PlaymateError: retargeting without ratios or without S.
    """
    x_s = source.keypoints()
    moved = _moved(source, driving, reference, options)
    x_d = retargeted(source, driving, moved, x_s, place(source.kp, moved), options, stitching)
    return x_s + (x_d - x_s) * options.multiplier


def animate_animal(source: Latents, driving: Latents, reference: Latents, options: Options = Options(),  # noqa: B008
                   *, stitching: Stitching | None = None) -> Tensor:
    """Keypoints of an animal driven by a template, [T, K, 3] (SPEC.md section 10.5): the driver's expression, angles
    and shift replace the source's, and the motion from the reference on (one frame) is laid on the source by head
    size."""
    x_s = source.keypoints()
    x_d, x_0 = (place(source.kp, replace(frames, scale=source.scale.expand(len(frames), 1)))
                for frames in (driving, reference))
    x_d = x_s + (x_d - x_0) * expression_multiplier(x_s[0], x_d[0])
    if options.stitching:
        x_d = _needed(stitching).stitch(x_s, x_d)
    return x_s + (x_d - x_s) * options.multiplier


def _moved(source: Latents, driving: Latents, reference: Latents, options: Options) -> Latents:
    """The source's latents with the driver's put in or on."""
    count, region, whole = len(driving), options.region, options.region in ("all", "exp")
    own = source.exp.expand(count, -1, -1)
    wanted = own + driving.exp - reference.exp if options.relative else driving.exp
    if region == "pose":
        exp = own
    elif whole and options.relative:
        exp = wanted
    else:
        mask = SELECT if whole else LIP_MASK if region == "lip" else EYES_MASK
        exp = torch.where(mask.to(own.device), wanted, own)

    rotation, scale, t = (value.expand(count, *value.shape[1:]) for value in (source.rotation, source.scale, source.t))
    if region in ("all", "pose"):
        rotation = driving.rotation
        if options.relative:
            rotation = rotation @ reference.rotation.transpose(-1, -2) @ source.rotation
            t = source.t + (driving.t - reference.t)
            if region == "all":
                scale = source.scale * (driving.scale / reference.scale)
        else:
            t = driving.t
    return Latents(exp, rotation, scale, t)


def retargeted(source: Latents, driving: Latents, moved: Latents, x_s: Tensor, x_d: Tensor, options: Options,
                stitching: Stitching | None) -> Tensor:
    if options.retarget_eyes or options.retarget_lips:
        if options.relative:
            x_d = _without_driven(source, moved, options)
        for wanted, delta in ((options.retarget_eyes, eye_offsets), (options.retarget_lips, lip_offsets)):
            if wanted:
                x_d = x_d + delta(_needed(stitching), source, driving, x_s)
        return _needed(stitching).stitch(x_s, x_d) if options.stitching else x_d
    if options.stitching:
        x_d = _needed(stitching).stitch(x_s, x_d)
    if options.normalise_lip and options.relative:
        x_d = x_d + shut_lips(_needed(stitching), source, x_s)
    return x_d


def _without_driven(source: Latents, moved: Latents, options: Options) -> Tensor:
    """The driven keypoints with the source's own expression where a network is about to set it."""
    mask = torch.zeros_like(EYES_MASK)
    mask |= EYES_MASK if options.retarget_eyes else mask
    mask |= LIP_MASK if options.retarget_lips else mask
    exp = torch.where(mask.to(moved.exp.device), source.exp, moved.exp)
    return place(source.kp, replace(moved, exp=exp))


def shut_lips(stitching: Stitching, source: Latents, x_s: Tensor) -> Tensor:
    """[1, K, 3] offsets that shut the source's own lips; zero where they are below ``OPEN_LIPS``."""
    lip = _ratios(source.lip, "source")
    delta = stitching.lip_delta(x_s, torch.cat([lip, torch.zeros_like(lip)], dim=1))
    return delta * (lip >= OPEN_LIPS)[:, :, None]


def eye_offsets(stitching: Stitching, source: Latents, driving: Latents, x_s: Tensor) -> Tensor:
    """[T, K, 3] offsets that open the source's eyes as far as the driver's are on average."""
    wanted = _ratios(driving.eyes, "driving").mean(dim=1, keepdim=True)
    return stitching.eye_delta(x_s, _beside(_ratios(source.eyes, "source"), wanted))


def lip_offsets(stitching: Stitching, source: Latents, driving: Latents, x_s: Tensor) -> Tensor:
    """[T, K, 3] offsets that open the source's lips as far as the driver's."""
    return stitching.lip_delta(x_s, _beside(_ratios(source.lip, "source"), _ratios(driving.lip, "driving")))


def _beside(own: Tensor, wanted: Tensor) -> Tensor:
    count = max(len(own), len(wanted))
    return torch.cat([own.expand(count, -1), wanted.expand(count, -1)], dim=1)


def _ratios(ratios: Tensor | None, whose: str) -> Tensor:
    if ratios is None:
        raise PlaymateError(f"Eye and lip retargeting needs the {whose} opening ratios, which this motion lacks.")
    return ratios


def _needed(stitching: Stitching | None) -> Stitching:
    if stitching is None:
        raise PlaymateError("Stitching and retargeting need the stitching networks, which are not loaded.")
    return stitching
