"""Measures and frames of MediaPipe's 478 face landmarks.

Coordinates are the picture's: x right, y down, z away from the camera (MediaPipe's sign, in the unit of x). "Right"
and "left" are the person's own, as in the blendshapes' names, so the right eye lies on the picture's left. Pairs are
ordered right, left: that is left to right in the picture. Lengths are in units of the outer-eye distance, the
distance between landmarks 33 and 263, because it changes least with expression and identity.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..motion.geometry import euler_degrees
from ..runtime.errors import PlaymateError
from ..weights import bundled

LANDMARKS = 478
OUTER_EYE_CORNERS = (33, 263)

LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""Outer edge of the lips as a ring: right corner, over the upper lip to the left corner, back along the lower lip."""
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
"""Inner edge of the lips, a ring in the same order: entry i lies inside of ``LIPS_OUTER[i]``."""
LIPS = LIPS_OUTER + LIPS_INNER
INNER_LIP_PAIRS = tuple((LIPS_INNER[i], LIPS_INNER[20 - i]) for i in range(1, 10))
"""(upper, lower) points of the inner edge that meet when the mouth shuts, from the right corner to the left."""

EYES_UPPER = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
"""Edge of each upper lid from the outer to the inner corner, both included."""
EYES_LOWER = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (263, 249, 390, 373, 374, 380, 381, 382, 362))
"""Edge of each lower lid, entry i facing ``EYES_UPPER[.][i]``."""
EYES = tuple(upper + lower[-2:0:-1] for upper, lower in zip(EYES_UPPER, EYES_LOWER, strict=True))
"""Each eye's opening as a ring of 16 from the outer corner, over the upper lid and back along the lower."""
EYELID_PAIRS = tuple(tuple(zip(upper, lower, strict=True)) for upper, lower in zip(EYES_UPPER, EYES_LOWER, strict=True))
"""(upper, lower) points of each eye's lids from the outer to the inner corner."""
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))
"""Centre, then four points of the iris' edge."""
IRIS_CENTRES = (468, 473)

BROWS_UPPER = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))
"""Upper edge of each brow from its outer to its inner end."""
BROWS_LOWER = ((46, 53, 52, 65, 55), (276, 283, 282, 295, 285))
BROWS = tuple(upper + lower[::-1] for upper, lower in zip(BROWS_UPPER, BROWS_LOWER, strict=True))
"""Each brow as a ring of 10 from the outer end."""

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
"""The face's outline as a ring from the top of the forehead by the picture's right to the chin and back."""

RIGID = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 127, 356, 234, 454, 162, 389, 21, 251, 54, 284, 103, 332, 10)
"""Points that move with the skull: eye corners, the ridge of the nose, temples, forehead. A wide set on purpose:
against a narrow one around the eyes and nose it lowers the error of rotation, which every other point inherits."""

IDENTITY = (10, 152, 127, 356, 234, 454, 132, 361, 172, 397, 33, 133, 362, 263, 168, 1, 98, 327, 61, 291, 9)
"""Landmarks of ``identity_feature``: outline, eye corners, nose, mouth corners, glabella."""


@lru_cache(maxsize=1)
def _constants() -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(str(bundled("bridge.safetensors")))


def mean_face() -> Tensor:
    """[478, 3] the mean resting face: frontal, symmetric, mean of RIGID at 0, outer-eye distance 1."""
    return _constants()["mean_face"].float().clone()


def mirror_index() -> Tensor:
    """[478] int64: landmark i of a mirrored picture is landmark ``mirror_index()[i]`` of the picture."""
    return _constants()["mirror"].long()


def mirror(landmarks: Tensor) -> Tensor:
    """[..., 478, 2 or 3] shape or displacement about x = 0 with left and right exchanged."""
    swapped = landmarks[..., mirror_index().to(landmarks.device), :].clone()
    swapped[..., 0] = -swapped[..., 0]
    return swapped


def _distance(landmarks: Tensor, a: int, b: int) -> Tensor:
    return (landmarks[..., a, :] - landmarks[..., b, :]).norm(dim=-1)


def outer_eye_distance(landmarks: Tensor) -> Tensor:
    """[..., 478, 2 or 3] -> [...], unit of ``landmarks``. With z the head's yaw does not shorten it."""
    return _distance(landmarks, *OUTER_EYE_CORNERS)


def lip_gap(landmarks: Tensor) -> Tensor:
    """Distance between the middles of the inner lips (13, 14) in the picture's plane.

    z is left out: on closed lips it is noise as large as the gap.

    Args:
        landmarks: [..., 478, 2 or 3], any unit.

    Returns:
        [...] units of the outer-eye distance: below about 0.02 closed, 0.1 to 0.2 speech, up to 0.5 wide open.
    """
    return _distance(landmarks[..., :2], 13, 14) / outer_eye_distance(landmarks)


def lip_width(landmarks: Tensor) -> Tensor:
    """Distance between the corners of the mouth (61, 291), [..., 478, 2 or 3] -> [...], outer-eye distances."""
    return _distance(landmarks, 61, 291) / outer_eye_distance(landmarks)


def eye_openness(landmarks: Tensor) -> Tensor:
    """Mean distance of the lids over the middle of each eye.

    Args:
        landmarks: [..., 478, 2 or 3], any unit.

    Returns:
        [..., 2] right, left, units of the outer-eye distance: about 0.01 to 0.03 shut, 0.08 to 0.15 open.
    """
    eyes = []
    for upper, lower in zip(EYES_UPPER, EYES_LOWER, strict=True):
        a, b = landmarks[..., list(upper[3:6]), :2], landmarks[..., list(lower[3:6]), :2]
        eyes.append((a - b).norm(dim=-1).mean(dim=-1))
    return torch.stack(eyes, dim=-1) / outer_eye_distance(landmarks)[..., None]


def _check(landmarks: Tensor) -> None:
    if landmarks.ndim < 2 or landmarks.shape[-2:] != (LANDMARKS, 3):
        raise PlaymateError(
            f"Face landmarks have shape {tuple(landmarks.shape)} where [..., {LANDMARKS}, 3] is needed.")


def similarity(source: Tensor, target: Tensor, rounds: int = 0,
               weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The similarity that lays ``source`` on ``target`` (Umeyama 1991).

    Args:
        source: [T, N, 3]. Frames with numbers that are not finite give NaN.
        target: [N, 3] or [T, N, 3].
        rounds: reweighting passes (Cauchy weights) after the plain fit, against points that do not follow.
        weights: [N] what each point counts in the plain fit; by default all the same.

    Returns:
        ``(scale [T], rotation [T, 3, 3], translation [T, 3])`` in float64 such that
        ``scale * source @ rotation + translation`` is close to ``target``.
    """
    source = source.double()
    target = target.double().expand_as(source)
    bad = ~torch.isfinite(source).flatten(1).all(dim=1)
    clean = torch.where(bad[:, None, None], target, source)
    weight = torch.ones_like(clean[..., :1])
    if weights is not None:
        weight = weight * weights.to(weight)[:, None]
    for step in range(rounds + 1):
        total = weight.sum(dim=1, keepdim=True)
        centre_a = (weight * clean).sum(dim=1, keepdim=True) / total
        centre_b = (weight * target).sum(dim=1, keepdim=True) / total
        a, b = clean - centre_a, target - centre_b
        u, singular, vh = torch.linalg.svd((weight * a).transpose(-1, -2) @ b)
        sign = torch.ones_like(singular)
        sign[:, 2] = torch.sign(torch.linalg.det(u @ vh))
        rotation = (u * sign[:, None, :]) @ vh
        scale = (singular * sign).sum(dim=-1) / (weight * a * a).sum(dim=(1, 2)).clamp_min(1e-12)
        translation = (centre_b - scale[:, None, None] * (centre_a @ rotation))[:, 0]
        if step < rounds:
            error = (scale[:, None, None] * (clean @ rotation) + translation[:, None] - target).norm(dim=-1)
            spread = 1.5 * error.median(dim=1, keepdim=True).values.clamp_min(1e-9)
            weight = (1.0 / (1.0 + (error / spread) ** 2))[..., None]
    scale, rotation, translation = scale.clone(), rotation.clone(), translation.clone()
    scale[bad], rotation[bad], translation[bad] = float("nan"), float("nan"), float("nan")
    return scale, rotation, translation


def lay_on(landmarks: Tensor, shape: Tensor, rounds: int = 0) -> Tensor:
    """[T, 478, 3] float64: every frame laid on ``shape`` [478, 3] by the similarity of its RIGID points."""
    rigid = list(RIGID)
    points = landmarks.double().cpu()
    scale, rotation, translation = similarity(points[:, rigid], shape.double().cpu()[rigid], rounds)
    return scale[:, None, None] * (points @ rotation) + translation[:, None]


def unit_shape(shape: Tensor) -> Tensor:
    """[478, 3] moved and scaled, not turned: mean of RIGID at 0, outer-eye distance 1."""
    shape = shape - shape[list(RIGID)].mean(dim=0)
    return shape / outer_eye_distance(shape)


def lay_on_own_median(landmarks: Tensor, start: Tensor, rounds: int = 3) -> Tensor:
    """[T, 478, 3] float64: frames laid on their own median shape, which is found from ``start`` [478, 3] in passes."""
    aligned = lay_on(landmarks, start)
    if bool(torch.isfinite(aligned).any()):
        for _ in range(rounds):
            aligned = lay_on(landmarks, unit_shape(aligned.nanmedian(dim=0).values))
    return aligned


def to_head_frame(landmarks: Tensor, reference: Tensor | None = None) -> Tensor:
    """Takes head pose, position and size out of landmarks: what is left is expression (and the mesh's noise).

    Every frame is laid on the reference by a similarity of the RIGID points.

    Args:
        landmarks: [T, 478, 3], any unit; frames that are not finite stay so.
        reference: [478, 3] shape to lay them on, for instance a neutral frame's that this function returned. Without
            it the clip's own median shape is found, laid on ``mean_face()``.

    Returns:
        [T, 478, 3] float32: units of the reference's outer-eye distance, axes of a frontal picture (x right, y down,
        z away), the reference's mean of RIGID at 0.

    Raises:
        PlaymateError: another shape.
    """
    _check(landmarks)
    if reference is None:
        aligned = lay_on_own_median(landmarks, mean_face())
    else:
        aligned = lay_on(landmarks, unit_shape(reference.double().cpu()))
    return aligned.to(landmarks.device, torch.float32)


def head_pose(landmarks: Tensor) -> Tensor:
    """How the head is turned, read off the landmarks.

    The robust similarity between the RIGID points and ``mean_face()``; its angles are calibrated against
    LivePortrait's own on the template clips (``laboratory/fits/bridge.py``).

    Args:
        landmarks: [..., 478, 3] in pixels (a square unit), not in a head frame.

    Returns:
        [..., 3] degrees: pitch, yaw, roll in LivePortrait's signs (SPEC.md section 8).

    Raises:
        PlaymateError: another shape.
    """
    _check(landmarks)
    rigid = list(RIGID)
    points = landmarks.reshape(-1, LANDMARKS, 3)[:, rigid].cpu()
    _, rotation, _ = similarity(points, mean_face()[rigid], rounds=3)
    # ``rotation`` takes the pose out of row vectors; LivePortrait's R puts it in.
    degrees = euler_degrees(rotation.transpose(-1, -2))
    slope, offset = _constants()["pose_calibration"].double()
    return (degrees * slope + offset).reshape(*landmarks.shape[:-2], 3).to(landmarks.device, torch.float32)


def identity_feature(landmarks: Tensor) -> Tensor:
    """Shape of a face: 21 landmarks in the head's own frame, less the mean face.

    Args:
        landmarks: [478, 3] in any pose, any square unit.

    Returns:
        [63] float32, units of the outer-eye distance, within about ±0.3; zeros for the mean face.

    Raises:
        PlaymateError: another shape.
    """
    _check(landmarks)
    shape = to_head_frame(landmarks.reshape(1, LANDMARKS, 3), mean_face())[0]
    chosen = list(IDENTITY)
    return (shape[chosen] - mean_face().to(shape.device)[chosen]).flatten()
