"""Head rotations and keypoints in LivePortrait's conventions (SPEC.md section 8).

Angles are degrees in the order pitch, yaw, roll. With Rx, Ry, Rz the usual right-handed rotations about x, y, z,
the head turns by H = Rz Ry Rx and the stored matrix is R = transpose(H), because keypoints are row vectors that
are multiplied from the left: ``x_c @ R``.

Quaternions are (w, x, y, z), unit length, and stand for H (not for R), so that they compose in the order in which
heads turn: ``H_ab = H_a H_b`` is ``quaternion_multiply(a, b)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..runtime.errors import PlaymateError

HEADPOSE_BINS = 66
"""Classes of LivePortrait's head pose heads, 3 degrees each, from -97.5."""


def wide(value: Tensor) -> Tensor:
    """``value`` in float64, or in float32 where the device may have nothing wider: Apple's and many of Intel's GPUs."""
    return value.double() if value.device.type in ("cpu", "cuda", "meta") else value.float()


def headpose_degrees(logits: Tensor) -> Tensor:
    """The angle that a head pose head predicts (SPEC.md section 8).

    Args:
        logits: [..., 66] bin logits, or anything whose last dimension is not 66, which is taken to be degrees.

    Returns:
        [...] degrees, -97.5 to 97.5; degrees are passed through unchanged.
    """
    if logits.ndim < 1 or logits.shape[-1] != HEADPOSE_BINS:
        return logits
    bins = torch.arange(HEADPOSE_BINS, dtype=torch.float32, device=logits.device)
    return 3.0 * (torch.softmax(logits.float(), dim=-1) * bins).sum(dim=-1) - 97.5


def rotation_matrix(degrees: Tensor) -> Tensor:
    """LivePortrait's R from head angles (SPEC.md section 8).

    Args:
        degrees: [..., 3] pitch, yaw, roll; any finite value.

    Returns:
        [..., 3, 3] R = transpose(Rz Ry Rx), to be used as ``x_c @ R``, in the dtype of ``degrees``.

    Raises:
        PlaymateError: the last dimension is not 3.
    """
    if degrees.ndim < 1 or degrees.shape[-1] != 3:
        raise PlaymateError(f"Head angles have shape {tuple(degrees.shape)}; [..., 3] (pitch, yaw, roll) is needed.")
    radians = wide(degrees) * (math.pi / 180.0)
    (sa, sb, sc), (ca, cb, cc) = radians.sin().unbind(-1), radians.cos().unbind(-1)
    # Rows of R are columns of H = Rz Ry Rx.
    rows = (
        (cc * cb, sc * cb, -sb),
        (cc * sb * sa - sc * ca, sc * sb * sa + cc * ca, cb * sa),
        (cc * sb * ca + sc * sa, sc * sb * ca - cc * sa, cb * ca),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2).to(degrees.dtype)


def euler_degrees(rotation: Tensor) -> Tensor:
    """Head angles from LivePortrait's R: the inverse of :func:`rotation_matrix`.

    Pitch is read first and taken out before roll is read, so the three angles give the matrix back also where yaw
    is near +-90 degrees and pitch and roll turn about the same axis.

    Args:
        rotation: [..., 3, 3] orthonormal, determinant 1.

    Returns:
        [..., 3] degrees: pitch and roll in -180..180, yaw in -90..90. Angles outside come back as the equal
        rotation inside.

    Raises:
        PlaymateError: the last dimensions are not 3, 3.
    """
    _check_matrix(rotation)
    head = wide(rotation).transpose(-1, -2)
    pitch = torch.atan2(head[..., 2, 1], head[..., 2, 2])
    yaw = torch.atan2(-head[..., 2, 0], torch.hypot(head[..., 2, 1], head[..., 2, 2]))
    sine, cosine = pitch.sin(), pitch.cos()
    roll = torch.atan2(
        sine * head[..., 0, 2] - cosine * head[..., 0, 1],
        cosine * head[..., 1, 1] - sine * head[..., 1, 2],
    )
    return (torch.stack([pitch, yaw, roll], dim=-1) * (180.0 / math.pi)).to(rotation.dtype)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotation closest to ``matrix`` [..., 3, 3] in the Frobenius norm (orthogonal Procrustes)."""
    _check_matrix(matrix)
    u, _, vh = torch.linalg.svd(wide(matrix))
    sign = torch.ones_like(u[..., 0])
    sign[..., 2] = torch.sign(torch.linalg.det(u @ vh))
    return ((u * sign.unsqueeze(-2)) @ vh).to(matrix.dtype)


def transform_keypoints(
    keypoints: Tensor, rotation: Tensor, expression: Tensor, scale: Tensor, translation: Tensor
) -> Tensor:
    """Canonical keypoints to keypoints in the picture: s (x_c @ R + exp) + (t_x, t_y, 0) (SPEC.md section 8).

    The expression is added before scaling and t_z is ignored, as LivePortrait does.

    Args:
        keypoints: [B, K, 3] or [B, 3K] canonical keypoints, latent units; B may be 1 and is then shared.
        rotation: [B, 3] degrees or [B, 3, 3] R.
        expression: [B, K, 3] or [B, 3K], latent units.
        scale: [B, 1] or [B], factor.
        translation: [B, 3], latent units.

    Returns:
        [B, K, 3].

    Raises:
        PlaymateError: keypoints and expression of different size.
    """
    keypoints = keypoints.reshape(keypoints.shape[0], -1, 3)
    expression = expression.reshape(expression.shape[0], -1, 3)
    if keypoints.shape[1] != expression.shape[1]:
        raise PlaymateError(f"{keypoints.shape[1]} keypoints cannot take the expression of {expression.shape[1]}.")
    matrix = rotation if rotation.ndim == 3 else rotation_matrix(rotation)
    shift = torch.cat([translation[:, :2], torch.zeros_like(translation[:, 2:])], dim=-1)
    return scale.reshape(-1, 1, 1) * (keypoints @ matrix + expression) + shift[:, None, :]


def relative_rotation(degrees: Tensor, reference: Tensor) -> Tensor:
    """The turn that leads from ``reference`` to ``degrees``: R R_0^T (SPEC.md section 10.1).

    Args:
        degrees: [..., 3] pitch, yaw, roll.
        reference: [..., 3] of a shape that broadcasts with ``degrees``.

    Returns:
        [..., 3] degrees; zero where both are the same.
    """
    return euler_degrees(_double_matrix(degrees) @ _double_matrix(reference).transpose(-1, -2)).to(degrees.dtype)


def apply_rotation(relative: Tensor, base: Tensor) -> Tensor:
    """Turns ``base`` by ``relative``: R_rel R_base (SPEC.md section 10.1); undoes :func:`relative_rotation`.

    Args:
        relative: [..., 3] degrees.
        base: [..., 3] degrees, of a shape that broadcasts with ``relative``.

    Returns:
        [..., 3] degrees.
    """
    return euler_degrees(_double_matrix(relative) @ _double_matrix(base)).to(relative.dtype)


def quaternion_from_degrees(degrees: Tensor) -> Tensor:
    """Unit quaternion (w, x, y, z) of the head rotation H = Rz Ry Rx.

    Args:
        degrees: [..., 3] pitch, yaw, roll.

    Returns:
        [..., 4], in float64 (see :func:`wide`) so that nothing is lost on the way back.
    """
    half = wide(degrees) * (math.pi / 360.0)
    (sa, sb, sc), (ca, cb, cc) = half.sin().unbind(-1), half.cos().unbind(-1)
    return torch.stack(
        [
            cc * cb * ca + sc * sb * sa,
            cc * cb * sa - sc * sb * ca,
            cc * sb * ca + sc * cb * sa,
            sc * cb * ca - cc * sb * sa,
        ],
        dim=-1,
    )


def quaternion_to_degrees(quaternion: Tensor) -> Tensor:
    """Head angles of a quaternion, which need not be of unit length.

    Args:
        quaternion: [..., 4] (w, x, y, z), not zero.

    Returns:
        [..., 3] degrees pitch, yaw, roll; ranges as :func:`euler_degrees`.
    """
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )
    return euler_degrees(torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2))


def quaternion_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of [..., 4] quaternions: the rotation b followed by a."""
    aw, av = a[..., :1], a[..., 1:]
    bw, bv = b[..., :1], b[..., 1:]
    av, bv = torch.broadcast_tensors(av, bv)
    vector = aw * bv + bw * av + torch.linalg.cross(av, bv, dim=-1)
    return torch.cat([aw * bw - (av * bv).sum(-1, keepdim=True), vector], dim=-1)


def quaternion_slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """The point at ``weight`` of the shorter great arc from ``a`` to ``b`` (Shoemake 1985).

    Args:
        a, b: [..., 4] unit quaternions; q and -q are the same rotation.
        weight: [...] 0 (a) to 1 (b).

    Returns:
        [..., 4] unit quaternions.
    """
    dot = (a * b).sum(-1, keepdim=True)
    b = torch.where(dot < 0, -b, b)
    # The angle by atan2 of chord and sum is exact for tiny angles, where acos(dot) is not.
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    weight = weight.to(a.dtype).unsqueeze(-1)
    small = angle < 1e-7
    sine = torch.where(small, torch.ones_like(angle), angle.sin())
    near = torch.where(small, 1 - weight, torch.sin((1 - weight) * angle) / sine)
    far = torch.where(small, weight, torch.sin(weight * angle) / sine)
    mixed = near * a + far * b
    return mixed / mixed.norm(dim=-1, keepdim=True)


def slerp_degrees(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Head angles between two poses, on the sphere.

    Args:
        a, b: [..., 3] degrees pitch, yaw, roll.
        weight: [...] or a scalar tensor, 0 (a, returned bit for bit) to 1 (b, likewise).

    Returns:
        [..., 3] degrees.
    """
    weight = weight.to(a.device).expand(torch.broadcast_shapes(a.shape, b.shape)[:-1])
    mixed = quaternion_slerp(quaternion_from_degrees(a), quaternion_from_degrees(b), weight)
    degrees = quaternion_to_degrees(mixed).to(a.dtype)
    end = weight.unsqueeze(-1)
    degrees = torch.where(end >= 1, b, degrees)
    # Equal poses stay untouched too: a still head must not gain rounding noise.
    return torch.where((end <= 0) | (a == b).all(dim=-1, keepdim=True), a, degrees)


def _double_matrix(degrees: Tensor) -> Tensor:
    return rotation_matrix(wide(degrees))


def _check_matrix(matrix: Tensor) -> None:
    if matrix.ndim < 2 or matrix.shape[-2:] != (3, 3):
        raise PlaymateError(f"A rotation has shape {tuple(matrix.shape)} where [..., 3, 3] is needed.")
