"""Motion on disk: our safetensors files, and LivePortrait's template pickles (SPEC.md section 14)."""

from __future__ import annotations

import json
import math
import os
import pickle
import uuid
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor

from ..runtime.errors import PlaymateError
from ..weights.unpickle import read_arrays
from ..weights.unreadable import Unreadable
from .geometry import euler_degrees, rotation_matrix
from .types import KEYPOINTS, Motion, Neutral

FORMAT = "playmate-motion"
VERSION = 1
UNITS = {"expression": "latent", "rotation": "degrees pitch yaw roll", "translation": "latent", "scale": "factor"}

MAX_TEMPLATE_BYTES = 64 * 2**20
"""A template takes about 550 bytes a frame: room for more than an hour."""
MAX_TEMPLATE_FRAMES = 200_000

_FIELDS = {"expression": (KEYPOINTS, 3), "rotation": (3,), "translation": (3,), "scale": (1,)}
_TEMPLATE = {"exp": KEYPOINTS * 3, "R": 9, "t": 3, "scale": 1}
_OLD_NAMES = {"R": "R_d"}


def save_motion(motion: Motion, path: str | os.PathLike) -> Path:
    """Writes a motion and its neutral frame without loss as safetensors.

    Keys: expression [T,21,3], rotation [T,3], translation [T,3], scale [T,1], and the same with the prefix
    ``neutral.`` for the neutral frame; float32. Metadata (strings): format, version, fps, frames, units.

    Args:
        motion: any number of frames, also none.
        path: the suffix .safetensors is added where it is missing.

    Returns:
        The path written.

    Raises:
        PlaymateError: the file cannot be written.
    """
    from safetensors.torch import save

    path = _with_suffix(path, ".safetensors")
    tensors: dict[str, Tensor] = {}
    for name in _FIELDS:
        tensors[name] = getattr(motion, name)
        tensors[f"neutral.{name}"] = getattr(motion.neutral, name)
    tensors = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in tensors.items()}
    metadata = {
        "format": FORMAT, "version": str(VERSION), "fps": repr(float(motion.fps)), "frames": str(len(motion)),
        "units": json.dumps(UNITS),
    }
    return _write(path, save(tensors, metadata))


def load_motion(path: str | os.PathLike, neutral: Neutral | None = None) -> Motion:
    """Reads a motion from our .safetensors or from a LivePortrait template .pkl.

    A template has no neutral frame of its own: like LivePortrait, offsets count from its first frame. Its eye and lip
    ratios are not part of a motion and are left aside.

    Args:
        path: the file.
        neutral: the frame to count offsets from, instead of the file's own (safetensors) or the first (template).

    Returns:
        Motion on the CPU.

    Raises:
        PlaymateError: no such file, not one of the two kinds, damaged, foreign or with numbers that are not finite;
            a pickle that asks for more than numpy arrays.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".pkl"):
        raise PlaymateError(
            f"Cannot read motion from {path.name}: give a .safetensors written by Save Motion or a LivePortrait .pkl."
        )
    if not path.is_file():
        raise PlaymateError(f"Cannot read motion from {path}: there is no such file.")
    try:
        motion = _read_template(path) if suffix == ".pkl" else _read_safetensors(path)
    except OSError as error:
        raise _refused(path, f"it cannot be opened ({error.strerror or error})") from None
    if neutral is None:
        return motion
    return Motion(motion.expression, motion.rotation, motion.translation, motion.scale, motion.fps, neutral)


def save_template(
    motion: Motion,
    path: str | os.PathLike,
    eye_ratio: Tensor | None = None,
    lip_ratio: Tensor | None = None,
) -> Path:
    """Writes a template that LivePortrait and its ComfyUI port load (SPEC.md section 14).

    LivePortrait counts from the template's first frame; a motion whose first frame is not its neutral one should get
    that frame put in front (``edits.with_neutral_lead``). LivePortrait's human pipeline insists on eye and lip ratios,
    but uses them only for its optional eye and lip retargeting; where none are given, those of an open eye and closed
    lips are written.

    Args:
        motion: at least one frame; fps must be a whole number.
        path: the suffix .pkl is added where it is missing.
        eye_ratio: [T, 2] left and right, LivePortrait's 203-point ratio (SPEC.md section 9), or None.
        lip_ratio: [T, 1], likewise.

    Returns:
        The path written.

    Raises:
        PlaymateError: no frames, a broken frame rate, ratios of another length, or the file cannot be written.
    """
    path, frames = _with_suffix(path, ".pkl"), len(motion)
    if not frames:
        raise PlaymateError(f"Cannot write {path.name}: the motion has no frames.")
    if motion.fps != round(motion.fps):
        raise PlaymateError(
            f"Cannot write {path.name}: templates hold whole frame rates, the motion has {motion.fps:g}; resample it."
        )
    eyes = _ratios(eye_ratio, frames, 2, 0.3, "eye")
    lips = _ratios(lip_ratio, frames, 1, 0.0, "lip")
    parts = {
        "scale": _numpy(motion.scale).reshape(-1, 1, 1),
        "R": _numpy(rotation_matrix(motion.rotation)).reshape(-1, 1, 3, 3),
        "exp": _numpy(motion.expression).reshape(-1, 1, KEYPOINTS, 3),
        "t": _numpy(motion.translation).reshape(-1, 1, 3),
    }
    template = {
        "n_frames": frames,
        "output_fps": int(motion.fps),
        "motion": [{name: part[i].copy() for name, part in parts.items()} for i in range(frames)],
        "c_eyes_lst": [eyes[i : i + 1].copy() for i in range(frames)],
        "c_lip_lst": [lips[i : i + 1].copy() for i in range(frames)],
    }
    return _write(path, pickle.dumps(template, protocol=4))


def _read_safetensors(path: Path) -> Motion:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            metadata, present = file.metadata() or {}, set(file.keys())
            wanted = [prefix + name for name in _FIELDS for prefix in ("", "neutral.")]
            missing = [name for name in wanted if name not in present]
            if missing or metadata.get("format") != FORMAT:
                raise _refused(path, f"it is no Playmate motion ({_why_foreign(missing, metadata)})")
            if metadata.get("version") != str(VERSION):
                raise _refused(path, f"its format version is {metadata.get('version')!r} and this pack reads {VERSION}")
            tensors = {name: file.get_tensor(name) for name in wanted}
    except SafetensorError:
        raise _refused(path, "it is cut off or not a safetensors file") from None
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise _refused(path, f"{name} does not hold floating point numbers")
        shape = _FIELDS[name.removeprefix("neutral.")]
        if not name.startswith("neutral."):
            shape = (tensors["expression"].shape[0] if tensors["expression"].ndim else 0, *shape)
        if tuple(value.shape) != shape:
            raise _refused(path, f"{name} has shape {list(value.shape)} where {list(shape)} is needed")
    tensors = {name: value.float() for name, value in tensors.items()}
    for name in _FIELDS:
        if not bool(torch.isfinite(tensors[f"neutral.{name}"]).all()):
            raise _refused(path, f"neutral.{name} holds numbers that are not finite")
    neutral = Neutral(*(tensors[f"neutral.{name}"] for name in _FIELDS))
    return _motion(path, {name: tensors[name] for name in _FIELDS}, metadata.get("fps"), neutral)


def _why_foreign(missing: Sequence[str], metadata: dict[str, str]) -> str:
    return f"it lacks {missing[0]}" if missing else f"its format is {metadata.get('format', 'not given')[:40]!r}"


def _read_template(path: Path) -> Motion:
    size = path.stat().st_size
    if size > MAX_TEMPLATE_BYTES:
        raise _refused(path, f"a template of {size / 2**20:.0f} MB is larger than {MAX_TEMPLATE_BYTES >> 20} MB")
    try:
        content = read_arrays(path.read_bytes())
    except Unreadable as error:
        raise _refused(path, f"it {error}") from None
    frames = content.get("motion") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise _refused(path, "it is no LivePortrait template (a dictionary with a list 'motion' is needed)")
    if len(frames) > MAX_TEMPLATE_FRAMES:
        raise _refused(path, f"it has {len(frames)} frames and at most {MAX_TEMPLATE_FRAMES} are read")
    said = content.get("n_frames", len(frames))
    if not isinstance(said, int) or said != len(frames):
        raise _refused(path, f"it holds {len(frames)} frames and says {said!r:.20}")
    parts = {name: torch.from_numpy(_stack(path, frames, name, count)) for name, count in _TEMPLATE.items()}
    matrices = parts["R"].reshape(-1, 3, 3)
    off = (matrices @ matrices.transpose(-1, -2) - torch.eye(3)).abs().amax()
    if not bool(off < 1e-2) or not bool((torch.linalg.det(matrices) > 0).all()):
        raise _refused(path, "its R matrices are not rotations")
    tensors = {
        "expression": parts["exp"].reshape(-1, KEYPOINTS, 3),
        "rotation": euler_degrees(matrices),
        "translation": parts["t"],
        "scale": parts["scale"],
    }
    neutral = Neutral(*(tensors[name][0].clone() for name in _FIELDS))
    return _motion(path, tensors, content.get("output_fps", 25), neutral)


def _stack(path: Path, frames: list[dict], name: str, count: int) -> np.ndarray:
    """[T, count] float32 of one entry of every frame."""
    result = np.empty((len(frames), count), np.float32)
    for index, frame in enumerate(frames):
        value = frame.get(name, frame.get(_OLD_NAMES.get(name, name)))
        if not isinstance(value, np.ndarray):
            raise _refused(path, f"frame {index} has no array {name!r}")
        if value.size != count:
            raise _refused(path, f"frame {index} has {name} of shape {list(value.shape)}, not {count} numbers")
        with np.errstate(over="ignore"):  # what overflows is refused as not finite
            result[index] = value.reshape(-1)
    if not np.isfinite(result).all():
        raise _refused(path, f"{name} holds numbers that are not finite")
    return result


def _motion(path: Path, tensors: dict[str, Tensor], fps: Any, neutral: Neutral) -> Motion:
    try:
        fps = float(fps)
    except (TypeError, ValueError, OverflowError):
        raise _refused(path, f"its frame rate is {fps!r:.40}") from None
    if not (math.isfinite(fps) and fps > 0):
        raise _refused(path, f"its frame rate is {fps:g}")
    try:
        return Motion(**tensors, fps=fps, neutral=neutral)
    except PlaymateError as error:
        raise _refused(path, f"{str(error)[0].lower()}{str(error)[1:].rstrip('.')}") from None


def _refused(path: Path, reason: str) -> PlaymateError:
    return PlaymateError(f"Cannot read motion from {path.name}: {reason}.")


def _with_suffix(path: str | os.PathLike, suffix: str) -> Path:
    path = Path(path)
    return path if path.suffix.lower() == suffix else path.with_name(path.name + suffix)


def _numpy(value: Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float32).numpy()


def _ratios(value: Tensor | None, frames: int, columns: int, default: float, what: str) -> np.ndarray:
    if value is None:
        return np.full((frames, columns), default, np.float32)
    if tuple(value.shape) != (frames, columns):
        raise PlaymateError(f"The {what} ratios have shape {tuple(value.shape)} where {(frames, columns)} is needed.")
    return _numpy(value)


def _write(path: Path, content: bytes) -> Path:
    """All of it or nothing: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PlaymateError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path
