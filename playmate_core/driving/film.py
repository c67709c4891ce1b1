"""Driving video to motion, through the landmarks and the latent bridge, or by LivePortrait's motion extractor.

What is kept of a clip is its landmarks; they become latents when the last frame is seen, because three things are
only known then: the crop, which is one for the whole clip as LivePortrait's is (SPEC.md section 12), the face's own
shape, and how it looks at rest. A person who smiles from beginning to end has no resting frame, so the rest is not
simply the median: the blendshapes, which know faces in general, say how far the calmest frames are from a neutral one.

A motion extractor (``extraction``) looks at the pictures themselves, a second time, when the crop is known.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Tuple, Union

import torch
from torch import Tensor

from ..face import geometry
from ..face.bridge import EYE_DISTANCE, HEAD_ORIGIN, LatentBridge
from ..motion.curves import monotone_cubic
from ..motion.geometry import slerp_degrees
from ..motion.smoothing import smooth
from ..motion.types import KEYPOINTS, Motion, Neutral
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .extraction import MotionExtractor, Readings, driving_crop, neutral_latents, read_clip

logger = logging.getLogger(__name__)

Frames = Iterable[Union[Tensor, Tuple[float, Tensor]]]
"""Pictures [H, W, C], batches of them [B, H, W, C], or ``(seconds, picture)``."""

EXTRACTORS = ("auto", "landmarks", "motion extractor")
"""Ways from pictures to latents: LivePortrait's motion extractor M, the face's landmarks, or M where there is one."""
MISSING = ("interpolate", "hold", "fail")
"""What frames without a face become: a bridge between their neighbours, the last one seen, or an error."""
NEUTRALS = ("auto", "first frame", "median")
"""The face from which expressions count: a neutral one, that of the first frame, or the most usual one."""
USES = ("pose and expression", "pose", "expression")

CALM_SHARE = 0.1
"""Share of the frames that stand for the face at rest."""
STRANGENESS = 0.2
"""Root mean square Mahalanobis length of what blendshapes say of 23 speakers' calmest frames, which is mostly the
speakers' own looks. What is found in a clip is weighed against it."""

_CHUNK = 512  # frames that become latents at once
_SHAPE_FRAMES = 512  # frames from which the face's own shape is taken


@dataclass(frozen=True)
class FilmedFace:
    """One face through a clip.

    Attributes:
        landmarks: [N, 478, 3] of the frames that show it, pixels.
        blendshapes: [N, 52] scores, 0 to 1.
        seen: [N] int64 numbers of these frames.
        times: [T] float64 seconds of all frames, increasing.
        fps: frames a second, the usual rate where it varies.
        start: seconds at which the motion begins; None: with the first frame.
    """

    landmarks: Tensor
    blendshapes: Tensor
    seen: Tensor
    times: Tensor
    fps: float
    start: float | None = None

    @property
    def begin(self) -> float:
        """Seconds at which the motion begins."""
        return float(self.times[0]) if self.start is None else self.start

    @property
    def duration(self) -> float:
        """Seconds from there to the end of the last frame."""
        return float(self.times[-1]) - self.begin + 1.0 / self.fps


def motion_from_frames(analyzer, bridge: LatentBridge, frames: Frames, fps: float, *, total: int | None = None,
                       face: str = "largest", face_index: int = 0, missing: str = "interpolate",
                       neutral: str = "auto", use: str = "pose and expression", smoothing: float = 0.0,
                       output_fps: float | None = None, extractor: str = "auto",
                       motion_extractor: MotionExtractor | None = None, progress: Progress = None) -> Motion:
    """The motion of one face in a clip. Pictures are read as they are needed; only landmarks are kept.

    Args:
        analyzer: ``FaceAnalyzer``.
        bridge: from landmarks to latents.
        frames: see ``Frames``; without times picture k is at k / fps seconds. A motion extractor needs frames that
            can be iterated over twice.
        fps: frames a second of ``frames``, the average where they vary.
        total: how many pictures will come, for progress.
        face, face_index: which face is followed, as in ``select_face``, in the first frame that shows any.
        missing: one of ``MISSING``.
        neutral: one of ``NEUTRALS``.
        use: one of ``USES``; what is not used stays at the neutral frame.
        smoothing: seconds, standard deviation of a Gaussian over time; 0 leaves the motion as it was found.
        output_fps: frames a second of the result; None keeps ``fps``.
        extractor: one of ``EXTRACTORS``.
        motion_extractor: LivePortrait's M, where it is loaded.
        progress: called with (frames read, total), twice as many where pictures are looked at twice.

    Returns:
        Motion of round(duration * output_fps) frames on the CPU. Expression counts from zero, the neutral face, or
        from M's latents of it; rotation is the camera's view of the head; translation and scale are LivePortrait's in
        a crop that stands still. The pose's neutral is the clip's median, or its first frame with neutral "first
        frame".

    Raises:
        PlaymateError: an unknown choice, no motion extractor where one is wanted, no pictures, no face, or, with
            missing "fail", a frame without one.
    """
    check_choices(missing=missing, neutral=neutral, use=use)
    track, readings = follow_clip(analyzer, frames, fps, total=total, face=face, face_index=face_index,
                                  strict=missing == "fail", extractor=extractor, motion_extractor=motion_extractor,
                                  progress=progress)
    return motion_from_track(track, bridge, readings=readings, missing=missing, neutral=neutral, use=use,
                             smoothing=smoothing, output_fps=output_fps)


def follow_clip(analyzer, frames: Frames, fps: float, *, total: int | None = None, face: str = "largest",
                face_index: int = 0, strict: bool = False, extractor: str = "auto",
                motion_extractor: MotionExtractor | None = None,
                progress: Progress = None) -> tuple[FilmedFace, Readings | None]:
    """What is seen in a clip, for :func:`motion_from_track`: the face's landmarks, and M's latents where M is used.

    Arguments and errors as in :func:`motion_from_frames` and :func:`track_face`.
    """
    check_choices(extractor=extractor)
    if extractor == "motion extractor" and motion_extractor is None:
        raise PlaymateError("The loaded pack has no motion extractor; load the pack liveportrait, or choose the "
                            "extractor auto or landmarks.")
    follow = dict(face=face, face_index=face_index, strict=strict, progress=progress)
    if extractor == "landmarks" or motion_extractor is None:
        return track_face(analyzer, frames, fps, total=total, **follow), None
    if iter(frames) is frames:
        raise PlaymateError("The motion extractor looks at a clip twice, and these frames come only once; give a "
                            "list, a batch or a VideoReader, or choose the extractor landmarks.")
    track = track_face(analyzer, frames, fps, total=None if total is None else 2 * total, **follow)
    count = len(track.times)
    return track, read_clip(motion_extractor, _pictures(frames, fps, []), track.landmarks, track.seen, fps,
                            lambda number: report(progress, count + number, 2 * count))


def check_choices(**choices: str) -> None:
    """Raises PlaymateError for an ``extractor``, ``missing``, ``neutral`` or ``use`` that there is not."""
    known = {"extractor": EXTRACTORS, "missing": MISSING, "neutral": NEUTRALS, "use": USES}
    for name, value in choices.items():
        if value not in known[name]:
            raise PlaymateError(f"{name} is {value!r}; choose one of: {', '.join(known[name])}.")


def track_face(analyzer, frames: Frames, fps: float, *, total: int | None = None, face: str = "largest",
               face_index: int = 0, strict: bool = False, progress: Progress = None) -> FilmedFace:
    """Follows one face through a clip; arguments as in :func:`motion_from_frames`.

    Args:
        strict: a frame without the face is an error.

    Raises:
        PlaymateError: no pictures, no face in any of them, or a rate that is not above 0.
    """
    if not 0 < fps < float("inf"):
        raise PlaymateError(f"The clip's frame rate is {fps}; give the frames a second that it was filmed at.")
    times: list[float] = []
    landmarks, blendshapes, seen = [], [], []
    faces = analyzer.track(_pictures(frames, fps, times), policy=face, index=face_index)
    for number, found in enumerate(faces):
        report(progress, number + 1, max(total or 0, number + 1))
        if found is not None:
            landmarks.append(found.landmarks)
            blendshapes.append(found.blendshapes)
            seen.append(number)
        elif strict:
            raise PlaymateError(f"Frame {number} of the clip, at {times[number]:.2f} s, shows no face that can be "
                                "followed; cut the clip there, or let missing frames be held or interpolated.")
    if not times:
        raise PlaymateError("The clip holds no pictures; give one of at least one frame.")
    if not seen:
        raise PlaymateError(f"No face was found in any of the clip's {len(times)} frames; give one in which a face "
                            "is clearly visible, upright and large enough.")
    if len(seen) < len(times):
        logger.warning("%d of the clip's %d frames show no face; they are bridged.", len(times) - len(seen), len(times))
    clock = rising(times, fps)
    # A part of a clip may begin between two frames; its sound does.
    start = 0.0 if abs(float(clock[0])) < 1.0 / fps else None
    return FilmedFace(torch.stack(landmarks), torch.stack(blendshapes), torch.tensor(seen), clock, float(fps), start)


def rising(times: list[float], fps: float) -> Tensor:
    """[N] float64 stamps in seconds that rise: those of damaged files repeat or run backwards; time must not."""
    clock = torch.tensor(times, dtype=torch.float64)
    step = torch.arange(len(clock), dtype=torch.float64) * 1e-4 / fps
    return (clock - step).cummax(0).values + step


def motion_from_track(track: FilmedFace, bridge: LatentBridge, *, readings: Readings | None = None,
                      missing: str = "interpolate", neutral: str = "auto", use: str = "pose and expression",
                      smoothing: float = 0.0, output_fps: float | None = None, at: Tensor | None = None) -> Motion:
    """Landmarks to latents; arguments and result as in :func:`motion_from_frames`.

    Args:
        readings: what a motion extractor saw in the same frames, in place of what the landmarks say.
        at: [T] seconds of the motion's frames, in place of a steady rate.

    Raises:
        PlaymateError: an unknown choice, or a rate that is not above 0.
    """
    check_choices(missing=missing, neutral=neutral, use=use)
    fps = track.fps if output_fps is None else float(output_fps)
    if not 0 < fps < float("inf"):
        raise PlaymateError(f"Motion cannot be made at {fps} frames a second; give a rate above 0.")
    resting = torch.zeros(3 * KEYPOINTS)
    if readings is None:
        values = torch.cat([expressions(track, bridge, neutral), *head_place(track.landmarks)], dim=1)
        rotation = torch.cat([geometry.head_pose(part) for part in track.landmarks.split(_CHUNK)])
    else:
        resting = _neutral_of(readings.expression, track, bridge, neutral)
        values = torch.cat([readings.expression, readings.translation, readings.scale], dim=1)
        rotation = readings.rotation
    values, rotation = _on_a_grid(track, values, rotation, missing, fps, at)
    flat, shift, scale = values.split([3 * KEYPOINTS, 2, 1], dim=1)
    expression = flat.unflatten(1, (KEYPOINTS, 3))
    translation = torch.cat([shift, torch.zeros_like(scale)], dim=1)
    rest = Neutral(resting.unflatten(0, (KEYPOINTS, 3)), *(
        value[0].clone() if neutral == "first frame" else value.median(dim=0).values
        for value in (rotation, translation, scale)))
    if use == "pose":
        expression = rest.expression.expand_as(expression).clone()
    if use == "expression":
        rotation, translation, scale = (value.expand(len(values), -1).clone()
                                        for value in (rest.rotation, rest.translation, rest.scale))
    return smooth(Motion(expression, rotation, translation, scale, fps, rest), smoothing)


# ---- expression


def expressions(track: FilmedFace, bridge: LatentBridge, neutral: str = "auto") -> Tensor:
    """[N, 63] expression offsets of the frames that show the face, from one of ``NEUTRALS``.

    With "auto" the offsets are measured from the calmest frames, and what the blendshapes see in those is added: all
    of it where it is far from what they see in any calm face (``STRANGENESS``), the less the nearer. The lip gap is
    added whole, so that lips that are shut in the clip are shut in the latents.
    """
    every = torch.linspace(0, len(track.landmarks) - 1, min(len(track.landmarks), _SHAPE_FRAMES)).round().long()
    shape = geometry.unit_shape(geometry.to_head_frame(track.landmarks[every]).median(dim=0).values)
    latents, gaps = [], []
    for part in track.landmarks.split(_CHUNK):
        laid = geometry.to_head_frame(part, shape)
        # Depth is left out: on clips whose latents are known it makes the inverse worse.
        latents.append(bridge.expression((laid - shape)[..., :2]).flatten(1))
        gaps.append(geometry.lip_gap(laid))
    latents, gap = torch.cat(latents), torch.cat(gaps)
    if neutral == "first frame":
        return latents - latents[0]
    if neutral == "median":
        return latents - latents.median(dim=0).values
    own = bridge.from_blendshapes(track.blendshapes, gap).flatten(1)
    calm = bridge.mahalanobis(own).argsort()[:max(round(CALM_SHARE * len(own)), min(5, len(own)))]
    return latents - latents[calm].median(dim=0).values + _believed(own[calm].median(dim=0).values, bridge)


def _neutral_of(latents: Tensor, track: FilmedFace, bridge: LatentBridge, neutral: str) -> Tensor:
    """[63] from which a motion extractor's latents [N, 63] count, by one of ``NEUTRALS``."""
    if neutral == "first frame":
        return latents[0].clone()
    if neutral == "median":
        return latents.median(dim=0).values
    return neutral_latents(latents, expressions(track, bridge), bridge, CALM_SHARE)


def _believed(own: Tensor, bridge: LatentBridge) -> Tensor:
    """[63] an expression that is held all the time, shrunk as far as it may be the person's looks instead."""
    strength = bridge.mahalanobis(own).square()
    kept = own * strength / (strength + STRANGENESS**2)
    readout = bridge.lip_gap(torch.eye(len(own)))
    spread = bridge.covariance @ readout
    return kept + (readout @ (own - kept)) * (spread / (readout @ spread))


# ---- pose


def head_place(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """LivePortrait's translation and scale of a head in the clip's crop, read off the landmarks.

    Args:
        landmarks: [N, 478, 3] pixels.

    Returns:
        ``(translation [N, 2], scale [N, 1])`` float32: the head's origin in halves of the crop's side from its
        middle, x right and y down; its size as a factor of LivePortrait's canonical head.
    """
    rigid = list(geometry.RIGID)
    target, origin = geometry.mean_face()[rigid], torch.tensor(HEAD_ORIGIN, dtype=torch.float64)
    centre, side = driving_crop(landmarks)
    shifts, scales = [], []
    for part in landmarks.split(_CHUNK):
        shrink, rotation, move = geometry.similarity(part[:, rigid], target, rounds=3)
        # The similarity takes the picture to the head's frame; the origin goes the other way.
        place = ((origin - move) / shrink[:, None])[:, None] @ rotation.transpose(1, 2)
        shifts.append((place[:, 0, :2] - centre) / (side / 2))
        scales.append(1.0 / shrink[:, None] / (side / 2) / EYE_DISTANCE)
    return torch.cat(shifts).float(), torch.cat(scales).float()


# ---- time


def at_steady_rate(track: FilmedFace, values: Tensor, fps: float, missing: str = "interpolate") -> Tensor:
    """Anything that was measured in the frames that show the face, in the frames of the motion.

    Args:
        values: [N, C].
        fps, missing: as the motion's.

    Returns:
        [T, C] float32.
    """
    return _on_a_grid(track, values, torch.zeros(len(values), 3), missing, fps)[0]


def _on_a_grid(track: FilmedFace, values: Tensor, rotation: Tensor, missing: str, fps: float,
               at: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Values [N, C] and angles [N, 3] of the frames that were seen -> of every frame at a steady ``fps``, or ``at``."""
    knots = track.times[track.seen]
    if missing == "hold":
        # Every frame is a knot, with what was seen last; before the first that is the first.
        last = (torch.searchsorted(track.seen, torch.arange(len(track.times)), right=True) - 1).clamp_min(0)
        values, rotation, knots = values[last], rotation[last], track.times
    frames = max(round(track.duration * fps), 1)
    clock = track.begin + torch.arange(frames, dtype=torch.float64) / fps if at is None else at
    result = monotone_cubic(knots, values, clock).float()
    right = torch.searchsorted(knots, clock).clamp(1, max(len(knots) - 1, 1))
    left = right - 1
    right = right.clamp(max=len(knots) - 1)
    span = (knots[right] - knots[left]).clamp_min(1e-9)
    weight = ((clock - knots[left]) / span).clamp(0, 1).float()
    return result, slerp_degrees(rotation[left], rotation[right], weight)


def _pictures(frames: Frames, fps: float, times: list[float]) -> Iterator[Tensor]:
    """Single pictures; the time of each is noted before it is given."""
    for item in frames:
        stamp, picture = item if isinstance(item, tuple) else (None, item)
        for one in picture if picture.ndim == 4 else [picture]:
            times.append(len(times) / fps if stamp is None else float(stamp))
            yield one
