"""Motion from blendshapes, and blendshapes from motion."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..motion.geometry import relative_rotation
from ..motion.resampling import resample
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from .arkit import ArkitShapes
from .blendshape_files import LIVE_LINK_FPS, BlendshapeTrack
from .blendshape_names import HIGHEST, NAMES

HEADS = ("centred", "as recorded", "ignore")
"""What becomes of a recorded head: counted from where it mostly was, from the camera, or left out."""
STRONGEST = 2.0


def motion_from_blendshapes(track: BlendshapeTrack, shapes: ArkitShapes, fps: float | None = None,
                            head: str = "centred", strength: float = 1.0) -> Motion:
    """The face, and where wanted the head, of a track.

    Args:
        track: as ``read_blendshapes`` gives it.
        shapes: what each shape does to the latents.
        fps: frames a second of the motion; None keeps the track's.
        head: one of HEADS. A phone is rarely held at eye level, so "centred" takes the head's middle pose for the
            portrait's own.
        strength: factor on all weights, 0 to 2; what comes beyond 1.5 is held there.

    Returns:
        Motion that counts from rest.

    Raises:
        PlaymateError: a choice or strength that there is not.
    """
    if head not in HEADS:
        raise PlaymateError(f"head is {head!r}; choose one of: {', '.join(HEADS)}.")
    if not 0 <= strength <= STRONGEST:
        raise PlaymateError(f"The strength of blendshapes is {strength:g}; give 0 to {STRONGEST:g}.")
    order = [NAMES.index(name) for name in shapes.names]
    weights = (track.weights[:, order] * strength).clamp(0.0, HIGHEST)
    motion = replace(Motion.rest(len(track), track.fps), expression=shapes.expression(weights).cpu())
    if track.head is not None and head != "ignore":
        turned = track.head if head == "as recorded" else relative_rotation(track.head, track.head.median(0).values)
        motion = replace(motion, rotation=turned)
    return motion if fps is None else resample(motion, fps)


def blendshapes_from_motion(motion: Motion, shapes: ArkitShapes, fps: float | None = None) -> BlendshapeTrack:
    """A motion as blendshapes and angles of the head, both from its neutral frame.

    Args:
        motion: any motion.
        shapes: what each shape does to the latents.
        fps: frames a second of the track; None keeps the motion's.

    Raises:
        PlaymateError: fps is not above 0.
    """
    motion = motion if fps is None else resample(motion, fps)
    found = shapes.weights(motion.expression_offset).cpu()
    order = [shapes.names.index(name) for name in NAMES]
    head = motion.rotation
    if bool(motion.neutral.rotation.any()):
        head = relative_rotation(head, motion.neutral.rotation)
    return BlendshapeTrack(found[:, order], head.cpu(), motion.fps)


def written_rate(motion: Motion, form: str, fps: float = 0.0) -> float:
    """Frames a second to write a motion at: ``fps``, or for 0 the app's 60 in its own form, else the motion's."""
    return fps or (LIVE_LINK_FPS if form == "live_link_face" else motion.fps)


def expression_of(shapes: ArkitShapes, weights: dict[str, float]) -> torch.Tensor:
    """[21, 3] latent offset of a face with some shapes, by ARKit's names; none: zeros."""
    return shapes.expression(torch.tensor([float(weights.get(name, 0.0)) for name in shapes.names]))
