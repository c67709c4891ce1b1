"""Real speakers: sound and landmarks become articulation latents and head motion at 25 frames a second."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from playmate_core.face import geometry
from playmate_core.runtime.errors import PlaymateError

from .latents import EYES, GAPS, Measures

FPS = 25.0
LONGEST_LOSS = 3
"""Frames that the tracker may lose the face for and be bridged by a line; a longer stretch ends the clip."""
_CLOSED_GAP = 0.006  # mean lip gap of lips that touch, outer-eye distances: the mesh's inner edges never quite meet
_REST_SHARE = 0.12
TYPICAL_GAP_STD = 0.060
"""Standard deviation of the lip gap over a clip: the median of the tracks."""


@dataclass(frozen=True)
class Track:
    """One clip of a real speaker.

    Attributes:
        name: file name without its ending.
        samples: [N] float32 at 16 kHz.
        latents: [T, 63] expression offsets from the speaker's own rest (mouth closed, eyes open).
        mouth: [T, 63] the part of ``latents`` that the lower face asks for; lids and brows are at rest.
        gap, width: [T] lip gap and width from rest, outer-eye distances, as measured.
        pose: [T, 6] pitch, yaw, roll (degrees), shift right and down (outer-eye distances), scale; less the mean.
        identity: [63] identity feature.
        speaker: who speaks; empty where the name of the clip is the speaker's.
    """

    name: str
    samples: np.ndarray
    latents: Tensor
    mouth: Tensor
    gap: Tensor
    width: Tensor
    pose: Tensor
    identity: Tensor
    speaker: str = ""

    @property
    def person(self) -> str:
        """Who speaks."""
        return self.speaker or self.name


def resample_rows(rows: np.ndarray, times: np.ndarray, rate: float) -> np.ndarray:
    """[T, D] rows at ``rate`` a second, read linearly at ``times`` (seconds); ends are held."""
    place = np.clip(times * rate, 0, len(rows) - 1)
    low = np.minimum(place.astype(int), max(len(rows) - 2, 0))
    high = np.minimum(low + 1, len(rows) - 1)
    share = (place - low)[:, None]
    return rows[low] * (1 - share) + rows[high] * share


def longest_seen(seen: np.ndarray) -> tuple[int, int]:
    """First and last + 1 frame of the longest stretch in which the face is never lost for more than ``LONGEST_LOSS``
    frames; [T] bool, at least one of them true."""
    places = np.flatnonzero(seen)
    breaks = np.flatnonzero(np.diff(places) > LONGEST_LOSS + 1)
    starts, ends = np.append(places[0], places[breaks + 1]), np.append(places[breaks], places[-1])
    widest = int((ends - starts).argmax())
    return int(starts[widest]), int(ends[widest]) + 1


def rest_frames(gap: Tensor, eyes: Tensor) -> Tensor:
    """[T] bool: the frames with the least lip gap whose eyes are open."""
    low = gap <= torch.quantile(gap, _REST_SHARE)
    awake = low & (eyes >= 0.7 * eyes.median())
    return awake if int(awake.sum()) >= 3 else low


def head_motion(landmarks: Tensor) -> Tensor:
    """[T, 478, 3] landmarks in the picture -> [T, 6] pose, see :class:`Track`."""
    from playmate_core.face.bridge import HEAD_ORIGIN

    rigid = list(geometry.RIGID)
    size, rotation, move = geometry.similarity(landmarks[:, rigid], geometry.mean_face()[rigid], rounds=3)
    origin = torch.tensor(HEAD_ORIGIN, dtype=torch.float64)
    place = ((origin - move) / size[:, None])[:, None] @ rotation.transpose(1, 2)
    unit = geometry.outer_eye_distance(landmarks).double().median()
    shift = (place[:, 0, :2] - place[:, 0, :2].mean(0)) / unit
    scale = (1.0 / size) / (1.0 / size).mean()
    angles = geometry.head_pose(landmarks).double()
    return torch.cat([angles - angles.mean(0), shift, scale[:, None] - 1.0], 1).float()


def lower_face() -> Tensor:
    """[478] 1 for landmarks below the eyes that speech moves, 0 for lids, irises, brows and forehead."""
    mask = (geometry.mean_face()[:, 1] > geometry.mean_face()[2, 1]).float()
    mask[list(geometry.LIPS)] = 1.0
    return mask


def articulation(displacement: Tensor, bridge, measures: Measures, eyes: Tensor | None) -> Tensor:
    """Landmark displacement from rest -> latents whose drawn lips (and lids) equal the measured ones.

    Args:
        displacement: [T, 478, 3] in the head frame, outer-eye distances.
        bridge: LatentBridge.
        measures: of that bridge.
        eyes: [T, 2] change of eye openness; None keeps lids and brows at rest, from the lower face alone.

    Returns:
        [T, 63].
    """
    if eyes is None:
        latents = bridge.expression(displacement, bridge.evidence * lower_face()).flatten(1)
        eyes = displacement.new_zeros(len(displacement), 2)
    else:
        latents = bridge.expression(displacement).flatten(1)
    y, x = displacement[..., 1], displacement[..., 0]
    gaps = torch.stack([y[:, 14] - y[:, 13], y[:, 178] - y[:, 81], y[:, 402] - y[:, 311]], 1)
    width = (x[:, 291] - x[:, 61])[:, None]
    wanted, names = torch.cat([gaps, width, eyes], 1), GAPS + ("width",) + EYES
    return measures.move(latents, wanted - measures.read(latents, *names), names)


def load_track(path: Path, bridge, measures: Measures) -> Track:
    """Read one track.

    Raises:
        PlaymateError: the file is no talking track.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np") as stored:
            samples = stored.get_tensor("audio").astype(np.float32) / 32768.0
            points = stored.get_tensor("landmarks").astype(np.float32)
            rate, speaker = float(stored.metadata()["fps"]), stored.metadata().get("speaker", "")
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise PlaymateError(f"{path} is no talking track ({error}); give the folder of the tracks.") from error
    # Sound and picture of the files are in step: shift_applied_frames_25fps says what was done to them.
    start, end = longest_seen(np.isfinite(points).all((1, 2)))
    samples, points = samples[round(start / rate * 16000):], points[start:end]
    seen = np.isfinite(points).all((1, 2))
    index = np.arange(len(points))
    flat = points.reshape(len(points), -1)
    filled = resample_rows(flat[seen], np.interp(index, index[seen], np.arange(int(seen.sum()))), 1.0)
    frames = int(min(round(len(samples) / 16000 * FPS), len(points) / rate * FPS))
    filled = resample_rows(filled, np.arange(frames) / FPS, rate)
    landmarks = torch.from_numpy(filled.reshape(frames, geometry.LANDMARKS, 3)).float()

    shape = geometry.to_head_frame(landmarks)
    gap, openness = geometry.lip_gap(shape), geometry.eye_openness(shape)
    rest = shape[rest_frames(gap, openness.mean(1))].median(dim=0).values
    # A speaker who hardly ever shuts the mouth still has a rest: lips that touch.
    ajar = max(float(geometry.lip_gap(rest)) - _CLOSED_GAP, 0.0)
    displacement = shape - rest
    eyes = openness - torch.quantile(openness, 0.6, dim=0)
    latents = articulation(displacement, bridge, measures, eyes)
    mouth = articulation(displacement, bridge, measures, None)
    if ajar > 0:
        step = torch.full((1, 3), ajar) * torch.tensor([1.0, 0.75, 0.75])
        latents, mouth = (measures.move(e, step.expand(len(e), 3), GAPS, ("width",)) for e in (latents, mouth))
    width = geometry.lip_width(shape[..., :2]) - geometry.lip_width(rest[..., :2])
    return Track(path.stem, samples[: int(frames / FPS * 16000)], latents, mouth, gap - _CLOSED_GAP, width,
                 head_motion(landmarks), geometry.identity_feature(rest), speaker)
