"""From latents to the keypoints that W is given (SPEC.md section 10).

The published code has ways that its users report as faults. Here they are mended, and ``Options.as_published``
brings them back (SPEC.md section 18):

* Eye and lip retargeting with relative motion discards the whole driven motion, head turns included. Here the head
  and the rest of the face go on moving, and only the eyes' and lips' own driven expression gives way.
* The wanted opening of both eyes is the driver's left one alone. Here it is the mean of both.
* One driving picture and the region "eyes": with a picture as source, offsets count from zero, with a video from the
  closed-mouth expression. Here they count from zero in both.
* "Expression-friendly" does nothing for relative motion, since the first frame always equals the source. That is
  left as it is: it can only do what it says when the driver's size is known (``animate_animal``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...motion.geometry import rotation_matrix
from ...runtime.errors import PlaymateError
from .hull import expression_multiplier
from .smoothing import smooth
from .stitching import Stitching

LIP = (6, 12, 14, 17, 19, 20)
EYES = (11, 13, 15, 16, 18)
KEYPOINTS = 21
REGIONS = ("all", "exp", "pose", "lip", "eyes")
OPEN_EYES = 0.39
SHUT_EYES = 0.18


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
        lip_threshold: lip ratio from which lips count as open.
        retarget_eyes, retarget_lips: follow the driver's opening ratios.
        retarget_source_eyes: a source video's eyes are held at the opening of its first frame.
        expression_friendly: see the module's head.
        multiplier: factor on the whole motion, last of all.
        observation_variance: smoothing of a source video's motion; larger is smoother.
        as_published: the published code's ways in everything.
    """

    relative: bool = True
    region: str = "all"
    stitching: bool = True
    normalise_lip: bool = False
    lip_threshold: float = 0.03
    retarget_eyes: bool = False
    retarget_lips: bool = False
    retarget_source_eyes: bool = False
    expression_friendly: bool = False
    multiplier: float = 1.0
    observation_variance: float = 3e-7
    as_published: bool = False

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

    def __getitem__(self, frames: slice) -> Latents:
        return replace(self, **{name: value[frames] for name, value in vars(self).items() if value is not None})

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


def animate(source: Latents, driving: Latents, options: Options = Options(), *,  # noqa: B008
            stitching: Stitching | None = None, reference: Latents | None = None, closed_lips: Tensor | None = None,
            source_is_video: bool = False) -> Tensor:
    """Driving keypoints for every frame.

    Args:
        source: one frame of a picture, or a video's frames.
        driving: the driving frames; a single one stands for the whole of a source video.
        options: see :class:`Options`.
        stitching: S; needed for stitching, lip normalisation and retargeting.
        reference: one frame from which relative motion counts. None takes the first driving frame, or, where there
            is only one, ``closed_lips`` for the expression and the frame itself for the rest.
        closed_lips: [1, 21, 3] expression of a closed mouth, for a single driving frame (upstream's lip_array); zero
            if None.
        source_is_video: take the source frame by frame.

    Returns:
        [T, K, 3] float32, T the number of frames to draw.

    Raises:
        PlaymateError: retargeting without ratios or without S.
    """
    single = len(driving) == 1 and reference is None
    if source_is_video:
        count = len(source) if single else min(len(source), len(driving))
        source, driving = source[:count], driving if single else driving[:count]
    x_s = source.keypoints()
    moved = _moved(source, driving, options, reference, closed_lips, single, source_is_video)
    x_d = place(source.kp, moved)
    if options.relative and options.expression_friendly and not (source_is_video or single):
        x_d = x_s + (x_d - x_d[:1]) * expression_multiplier(x_s[0], x_d[0])
    x_d = _retargeted(source, driving, moved, x_s, x_d, options, stitching, source_is_video)
    return x_s + (x_d - x_s) * options.multiplier


def animate_animal(source: Latents, driving: Latents, options: Options = Options(), *,  # noqa: B008
                   stitching: Stitching | None = None, reference: Latents | None = None) -> Tensor:
    """Keypoints of an animal driven by a template, [T, K, 3] (SPEC.md section 10.5): the driver's expression, angles
    and shift replace the source's, and the motion from the reference on (one frame; the first if None) is laid on the
    source by head size."""
    x_s = source.keypoints()
    first = driving[:1] if reference is None else reference
    x_d, x_0 = (place(source.kp, replace(frames, scale=source.scale.expand(len(frames), 1)))
                for frames in (driving, first))
    x_d = x_s + (x_d - x_0) * expression_multiplier(x_s[0], x_0[0])
    if options.stitching:
        x_d = _needed(stitching).stitch(x_s, x_d)
    return x_s + (x_d - x_s) * options.multiplier


def _moved(source: Latents, driving: Latents, options: Options, reference: Latents | None,
           closed_lips: Tensor | None, single: bool, video: bool) -> Latents:
    """The source's latents with the driver's put in or on."""
    count = len(source) if video else len(driving)
    first = driving[:1] if reference is None else reference
    base = (torch.zeros_like(first.exp) if closed_lips is None else closed_lips.to(first.exp)) if single else first.exp
    region, whole = options.region, options.region in ("all", "exp")
    own = source.exp.expand(count, -1, -1)
    eyes_from_zero = single and region == "eyes" and not (video and options.as_published)
    if options.relative:
        wanted = own + driving.exp - (0 if eyes_from_zero else base)
        if video and not single:
            wanted = smooth(wanted, options.observation_variance)
    else:
        wanted = driving.exp if single or not video else smooth(driving.exp, options.observation_variance)
    if region == "pose":
        exp = own
    elif whole and options.relative and not video:
        exp = wanted
    else:
        mask = SELECT if whole else LIP_MASK if region == "lip" else EYES_MASK
        exp = torch.where(mask.to(own.device), wanted, own)

    rotation, scale, t = (value.expand(count, *value.shape[1:]) for value in (source.rotation, source.scale, source.t))
    if region in ("all", "pose"):
        turn = driving.rotation
        if options.relative:
            turn = turn @ first.rotation.transpose(-1, -2) @ source.rotation
        if video and not single:
            turn = smooth(turn, options.observation_variance)
        rotation = turn.expand(count, -1, -1)
        if not options.relative:
            t = driving.t.expand(count, -1)
        elif not video:
            t = source.t + (driving.t - first.t)
            if region == "all":
                scale = source.scale * (driving.scale / first.scale)
    return Latents(exp, rotation, scale, t)


def _retargeted(source: Latents, driving: Latents, moved: Latents, x_s: Tensor, x_d: Tensor, options: Options,
                stitching: Stitching | None, video: bool) -> Tensor:
    if options.retarget_eyes or options.retarget_lips:
        if options.relative:
            x_d = x_s.expand_as(x_d) if options.as_published else _without_driven(source, moved, options)
        for wanted, delta in ((options.retarget_eyes, eye_offsets), (options.retarget_lips, lip_offsets)):
            if wanted:
                x_d = x_d + delta(_needed(stitching), source, driving, x_s, options)
        return _needed(stitching).stitch(x_s, x_d) if options.stitching else x_d
    if options.stitching:
        x_d = _needed(stitching).stitch(x_s, x_d)
    if options.normalise_lip and options.relative:
        x_d = x_d + shut_lips(_needed(stitching), source, x_s, options.lip_threshold)
    if video and options.retarget_source_eyes:
        wanted = _ratios(source.eyes, "source").mean(dim=1)[0]
        wanted = torch.where(wanted < SHUT_EYES, torch.full_like(wanted, OPEN_EYES), wanted)
        ratios = torch.cat([source.eyes, wanted.expand(len(source), 1)], dim=1)
        x_d = x_d + _needed(stitching).eye_delta(x_s, ratios)
    return x_d


def _without_driven(source: Latents, moved: Latents, options: Options) -> Tensor:
    """The driven keypoints with the source's own expression where a network is about to set it."""
    mask = torch.zeros_like(EYES_MASK)
    mask |= EYES_MASK if options.retarget_eyes else mask
    mask |= LIP_MASK if options.retarget_lips else mask
    exp = torch.where(mask.to(moved.exp.device), source.exp, moved.exp)
    return place(source.kp, replace(moved, exp=exp))


def shut_lips(stitching: Stitching, source: Latents, x_s: Tensor, threshold: float = 0.03) -> Tensor:
    """[T or 1, K, 3] offsets that shut the source's own lips; zero in frames where they are below ``threshold``."""
    lip = _ratios(source.lip, "source")
    delta = stitching.lip_delta(x_s, torch.cat([lip, torch.zeros_like(lip)], dim=1))
    return delta * (lip >= threshold)[:, :, None]


def eye_offsets(stitching: Stitching, source: Latents, driving: Latents, x_s: Tensor, options: Options) -> Tensor:
    """[T, K, 3] offsets that open the source's eyes as far as the driver's."""
    eyes = _ratios(driving.eyes, "driving")
    wanted = eyes[:, :1] if options.as_published else eyes.mean(dim=1, keepdim=True)
    return stitching.eye_delta(x_s, _beside(_ratios(source.eyes, "source"), wanted))


def lip_offsets(stitching: Stitching, source: Latents, driving: Latents, x_s: Tensor, options: Options) -> Tensor:
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
