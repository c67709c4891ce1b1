"""A face through a video, as numbers: one streaming pass, after which the pictures are gone.

Every measure on rendered frames starts here, so that all of them see the same landmarks, blendshapes and angles.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..face.blendshapes import NAMES
from ..face.geometry import LANDMARKS, head_pose
from ..face.transform import head_angles
from ..media.video_reader import open_video
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report

if TYPE_CHECKING:
    from ..face.analyzer import FaceAnalyzer
    from ..face.types import Face

Observer = Callable[[int, Tensor, "Face | None"], None]
"""Told (frame number, picture [H, W, 3], face or None) of each frame in order; for measures that need pixels."""

DEFAULT_FPS = 25.0
"""Frames a second of pictures that come without a rate."""

_KIND = "playmate face track 1"


@dataclass(frozen=True)
class FaceTrack:
    """What is known of one face in every frame of a clip. Frames without a face are NaN.

    Attributes:
        landmarks: [T, 478, 3] pixels (x right, y down, z away in the unit of x).
        blendshapes: [T, 52] 0 to 1, in the order of ``face.blendshapes.NAMES``.
        rotation: [T, 3] degrees pitch, yaw, roll in LivePortrait's signs.
        valid: [T] bool, whether a face was found.
        fps: frames a second.
        size: (height, width) of the pictures, pixels; (0, 0) where there were none.

    Raises:
        PlaymateError: shapes that disagree, or an fps that is not positive.
    """

    landmarks: Tensor
    blendshapes: Tensor
    rotation: Tensor
    valid: Tensor
    fps: float
    size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        frames = len(self.landmarks)
        wanted = {"landmarks": (frames, LANDMARKS, 3), "blendshapes": (frames, len(NAMES)), "rotation": (frames, 3),
                  "valid": (frames,)}
        for name, shape in wanted.items():
            if tuple(getattr(self, name).shape) != shape:
                raise PlaymateError(f"The face track's {name} has shape {tuple(getattr(self, name).shape)} where "
                                    f"{shape} is needed.")
        if not self.fps > 0:
            raise PlaymateError(f"The face track's fps is {self.fps}; it must be above 0.")

    def __len__(self) -> int:
        return len(self.landmarks)

    @staticmethod
    def of(landmarks: Tensor, blendshapes: Tensor, fps: float, size: tuple[int, int] = (0, 0)) -> FaceTrack:
        """From landmarks [T, 478, 3] and blendshapes [T, 52]; angles are read off the landmarks.

        In pixels of pictures of a known ``size`` they are ``face.transform.head_angles``; without it (any square
        unit) ``face.geometry.head_pose``.
        """
        landmarks, blendshapes = landmarks.float().cpu(), blendshapes.float().cpu()
        valid = torch.isfinite(landmarks).flatten(1).all(1) & torch.isfinite(blendshapes).all(1)
        rotation = torch.full((len(landmarks), 3), float("nan"))
        if bool(valid.any()):
            known = min(size) > 0
            rotation[valid] = head_angles(landmarks[valid], size) if known else head_pose(landmarks[valid])
        return FaceTrack(landmarks, blendshapes, rotation, valid, float(fps), size)

    def between(self, start: float, end: float | None = None) -> FaceTrack:
        """The frames from ``start`` to ``end`` seconds (to the last one without ``end``)."""
        first = round(start * self.fps)
        last = len(self) if end is None else round(end * self.fps)
        return FaceTrack(self.landmarks[first:last], self.blendshapes[first:last], self.rotation[first:last],
                         self.valid[first:last], self.fps, self.size)

    def save(self, path: str | PathLike) -> Path:
        """Writes a safetensors file that ``load_track`` reads; it appears under its name only when it is whole."""
        from safetensors.torch import save_file

        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({"landmarks": self.landmarks.contiguous(), "blendshapes": self.blendshapes.contiguous(),
                       "rotation": self.rotation.contiguous(), "valid": self.valid.to(torch.uint8)}, str(temporary),
                      metadata={"kind": _KIND, "fps": repr(self.fps), "size": f"{self.size[0]} {self.size[1]}"})
            os.replace(temporary, path)
        except OSError as error:
            raise PlaymateError(f"The face track {path} could not be written ({error.strerror or error}); "
                                "check the folder and the free space.") from error
        finally:
            temporary.unlink(missing_ok=True)
        return path


def is_track(path: str | PathLike) -> bool:
    """Whether a safetensors file holds landmarks and blendshapes (a ``FaceTrack`` or tracks of others)."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            return {"landmarks", "blendshapes"} <= set(file.keys())
    except (OSError, SafetensorError):
        return False


def load_track(path: str | PathLike) -> FaceTrack:
    """A track from a safetensors file: what ``FaceTrack.save`` wrote, or any ``landmarks`` [T, 478, 3] in a square
    unit and ``blendshapes`` [T, 52] with ``fps`` in the metadata.

    Raises:
        PlaymateError: the file is missing or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            notes = file.metadata() or {}
            landmarks, blendshapes = file.get_tensor("landmarks"), file.get_tensor("blendshapes")
            if notes.get("kind") == _KIND:
                height, width = (int(word) for word in notes["size"].split())
                return FaceTrack(landmarks, blendshapes, file.get_tensor("rotation"),
                                 file.get_tensor("valid").bool(), float(notes["fps"]), (height, width))
            return FaceTrack.of(landmarks, blendshapes, float(notes.get("fps", DEFAULT_FPS)))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, PlaymateError):
            raise
        raise PlaymateError(f"{path} holds no face track ({error}); give a video, or a file that "
                            "'evaluate --cache' has written.") from error


def track_video(source: str | PathLike | Iterable[Tensor], analyzer: FaceAnalyzer, *, fps: float | None = None,
                cache: str | PathLike | None = None, observers: Sequence[Observer] = (), policy: str = "largest",
                index: int = 0, progress: Progress = None, total: int = 0) -> FaceTrack:
    """Follows one face through a clip in one streaming pass.

    Args:
        source: a video file, or pictures [H, W, C] or batches [B, H, W, C] of them, float 0..1, in order (what
            ``pipeline.render_frames`` yields).
        analyzer: finds the face.
        fps: frames a second; by default the file's own, 25 for pictures.
        cache: folder in which tracks of files are kept by their content; a clip tracked before is read from there.
            Left alone when there are observers, since they must see the pictures.
        observers: see ``Observer``; they hold what they measured.
        policy, index: which face, as for ``face.select_face``.
        progress: frames done, of ``total`` (or of what the file announces).
        total: number of frames, for progress only.

    Raises:
        PlaymateError: no such file, no video, or no frame in it.
    """
    kept = None
    if isinstance(source, (str, PathLike)):
        video = open_video(source)
        if cache is not None:
            kept = Path(cache) / f"{_digest(Path(source))}-{policy}{index}.track"
        fps, total = fps or video.fps, total or video.total
        source = (picture.float() / 255.0 for picture in video.steady())
    if kept is not None and not observers and kept.is_file():
        return load_track(kept)
    track = _track(source, analyzer, fps or DEFAULT_FPS, observers, policy, index, progress, total)
    if kept is not None:
        track.save(kept)
    return track


def _track(frames: Iterable[Tensor], analyzer: FaceAnalyzer, fps: float, observers: Sequence[Observer], policy: str,
           index: int, progress: Progress, total: int) -> FaceTrack:
    # The analyzer reads a few frames ahead of the faces that it gives, so observers' pictures wait for theirs.
    ahead: deque[Tensor] = deque()
    size = (0, 0)

    def read() -> Iterator[Tensor]:
        nonlocal size
        for item in frames:
            for picture in item if item.ndim == 4 else [item]:
                size = tuple(picture.shape[:2])
                if observers:
                    ahead.append(picture)
                yield picture

    nothing = torch.full((LANDMARKS, 3), float("nan")), torch.full((len(NAMES),), float("nan"))
    landmarks, blendshapes = [], []
    for number, face in enumerate(analyzer.track(read(), policy=policy, index=index)):
        if observers:
            picture = ahead.popleft()
            for observer in observers:
                observer(number, picture, face)
        points, scores = nothing if face is None else (face.landmarks.float().cpu(), face.blendshapes.float().cpu())
        landmarks.append(points)
        blendshapes.append(scores)
        report(progress, number + 1, max(total, number + 1))
    if not landmarks:
        raise PlaymateError("There are no frames to track; give a clip of at least one frame.")
    return FaceTrack.of(torch.stack(landmarks), torch.stack(blendshapes), fps, size)


def _digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()[:32]
