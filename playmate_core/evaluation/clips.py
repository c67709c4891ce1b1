"""What is to be measured, whatever it comes from: a video, a kept face track, or a motion that nobody has drawn."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor

from ..face.geometry import lip_gap, lip_width, mean_face
from ..face.views import upright
from ..motion.files import load_motion
from ..motion.geometry import rotation_matrix
from ..motion.pose import pose_offsets
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from .tracking import FaceTrack, Observer, is_track, load_track, track_video

if TYPE_CHECKING:
    from ..face.analyzer import FaceAnalyzer
    from ..face.bridge import LatentBridge

_CHUNK = 512


@dataclass(frozen=True)
class Clip:
    """One thing to measure.

    Attributes:
        path: where it came from.
        kind: "video", "track" or "motion".
        track: its face, frame by frame. Of a motion: the mean face moved by the latent bridge, in outer-eye distances.
        gap, width: [T] of the lips, outer-eye distances.
        motion: the latents, for a motion.
    """

    path: Path
    kind: str
    track: FaceTrack
    gap: Tensor
    width: Tensor
    motion: Motion | None = None

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.track.fps

    def __len__(self) -> int:
        return len(self.track)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self) / self.fps


def motion_track(motion: Motion, analyzer: FaceAnalyzer, bridge: LatentBridge) -> FaceTrack:
    """What a motion does to the mean face: landmarks by the bridge, blendshapes by MediaPipe's network on these.

    Angles count from the motion's neutral frame.
    """
    offsets, pose = motion.expression_offset.cpu(), pose_offsets(motion).cpu()
    landmarks, blendshapes = [], []
    for first in range(0, len(motion), _CHUNK):
        shapes = mean_face() + bridge.displacement(offsets[first:first + _CHUNK])
        with torch.no_grad():
            level = torch.stack([upright(shape) for shape in shapes]).to(analyzer.device)
            blendshapes.append(analyzer.networks["blendshapes"](level).cpu())
        landmarks.append(shapes @ rotation_matrix(pose[first:first + _CHUNK, :3]))
    track = FaceTrack.of(torch.cat(landmarks), torch.cat(blendshapes), motion.fps)
    return FaceTrack(track.landmarks, track.blendshapes, pose[:, :3].float(), track.valid, motion.fps)


def open_clip(path: str | PathLike, analyzer: FaceAnalyzer, bridge: LatentBridge, *, observers: Sequence[Observer] = (),
              cache: str | PathLike | None = None, policy: str = "largest", index: int = 0,
              progress: Progress = None) -> Clip:
    """A clip from a file: a video, a motion (.safetensors, .pkl) or a face track (.safetensors).

    Raises:
        PlaymateError: none of these, or nothing in it.
    """
    path = Path(path)
    if path.suffix.lower() in (".safetensors", ".pkl") and not is_track(path):
        motion = load_motion(path)
        if not len(motion):
            raise PlaymateError(f"The motion {path} has no frames, so there is nothing to measure.")
        track = motion_track(motion, analyzer, bridge)
        gap = (lip_gap(mean_face()) + bridge.lip_gap(motion.expression_offset.cpu())).clamp_min(0.0)
        return Clip(path, "motion", track, gap, lip_width(track.landmarks), motion)
    if path.suffix.lower() in (".safetensors", ".track"):
        kind, track = "track", load_track(path)
    else:
        kind = "video"
        track = track_video(path, analyzer, cache=cache, observers=observers, policy=policy, index=index,
                            progress=progress)
    if not bool(track.valid.any()):
        raise PlaymateError(f"No frame of {path} shows a face, so there is nothing to measure; check the clip.")
    return Clip(path, kind, track, lip_gap(track.landmarks), lip_width(track.landmarks))
