"""One video file to training clips: parts in which one face is seen without a cut, their motion and their sound.

Time is the video's own, as a player shows it, for pictures and sound alike (``playmate_core.media.clock``).
Landmarks are read from every frame and brought to 25 a second as motion, not as pictures; LivePortrait's motion
extractor, which sees pictures, is shown the frame nearest to each 25th of a second, all of a part through one fixed
crop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.driving.extraction import driving_crop, extract, neutral_latents
from playmate_core.driving.film import FilmedFace, motion_from_track, track_face
from playmate_core.face import geometry
from playmate_core.face.crop import Roi, as_rgb, sample
from playmate_core.media.audio import SAMPLE_RATE, Audio
from playmate_core.media.video_reader import open_video

from ..corpus.shards import Clip
from ..corpus.tracks import rest_frames
from .crops import FOLDER as CROPS
from .crops import write_crops
from .labels import Label

FPS = 25.0
GAP = 0.2
"""Seconds for which a face may be out of sight without ending a part."""
JUMP, GROWTH = 0.5, 1.3
"""Of a face between two frames: shift in sizes of the face, and factor of its size, that mean another shot."""
CUT = 0.15
"""Mean change of a small picture between two frames that means another shot, of full scale."""
SUDDEN, SPIKE, AROUND = 0.03, 5.0, 0.5
"""A smaller change does too if it stands out: at least the first, and this many times what nine of ten frames within so
many seconds of it change (two speakers framed alike differ by no more than 0.07)."""
LOOK = 2.0
"""Seconds between looks for other faces."""
BYSTANDER = 0.25
"""Size of another face, of the followed one's, from which it may be the one that speaks."""
CALM = 0.1
"""Share of a part's frames, those nearest to a neutral face, on which extracted latents are anchored."""


@dataclass(frozen=True)
class Filters:
    """Which parts are kept. The seconds are the paper's clips', the rest is ours.

    Attributes:
        least_seconds, most_seconds: longer parts are divided evenly.
        least_face: pixels, larger side of the landmarks' box, median over the part.
        most_yaw: degrees, median of the absolute angle.
        least_voiced: share of frames with a pitch.
        least_loudness: dB relative to full scale, level that a tenth of the frames reach.
    """

    least_seconds: float = 3.0
    most_seconds: float = 30.0
    least_face: float = 100.0
    most_yaw: float = 45.0
    least_voiced: float = 0.15
    least_loudness: float = -50.0


@dataclass(frozen=True)
class Kit:
    """What turns footage into numbers.

    Attributes:
        analyzer, bridge, encoder: ``FaceAnalyzer``, ``LatentBridge``, a speech encoder.
        extractor: LivePortrait's M (``.motion([B, 3, 256, 256])``), or None for the latent bridge.
    """

    analyzer: object
    bridge: object
    encoder: object
    extractor: object = None


class Unusable(Exception):
    """A part that is left out, and why."""


def clips_of(path: Path, name: str, kit: Kit, filters: Filters, label: Label, split: str, *,
             crops: Path | None = None, crop_size: int = 512) -> tuple[list[Clip], list[str]]:
    """The clips of a file.

    Args:
        name: of the file, for descriptions.
        split: "train" or "heldout".
        crops: corpus folder below which pictures are kept; None keeps none.
        crop_size: side of these pictures, pixels.

    Returns:
        the clips, and a sentence for every part that is left out.

    Raises:
        PlaymateError: no picture, no face, or no sound in the file.
    """
    from playmate_core.media.sound import read_audio

    sound = read_audio(path)
    reader = open_video(path)
    changes: list[tuple[float, float]] = []
    crowded: list[float] = []
    track = track_face(kit.analyzer, _watched(reader, kit.analyzer, changes, crowded), reader.fps, total=reader.total)
    clips, left_out = [], []
    for number, part in enumerate(divide(track, find_cuts(changes), filters)):
        start = float(part.times[0])
        try:
            if any(start <= time < start + part.duration for time in crowded):
                raise Unusable("several faces")
            _check_face(part, filters)
            clip = _clip(path, part, sound, kit, filters)
        except Unusable as reason:
            left_out.append(f"{start:.1f} to {start + part.duration:.1f} s: {reason}")
            continue
        about = dict(source="video", file=name, start=round(start, 3), seconds=round(len(clip.features) / FPS, 3),
                     split=split, encoder=kit.encoder.name,
                     extractor="landmarks" if kit.extractor is None else "liveportrait", **label.about())
        if crops is not None:
            stem = f"{Path(name).stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{number:03d}"
            about["crops"] = f"{CROPS}/{stem}.safetensors"
            pictures = _crops_at(path, part, len(clip.features), crop_size)
            write_crops(crops / about["crops"], pictures, about)
        clips.append(Clip(clip.features, clip.loudness, clip.pitch, clip.expression, clip.pose, clip.identity, about))
    return clips, left_out


def _watched(reader, analyzer, changes: list[tuple[float, float]],
             crowded: list[float]) -> Iterator[tuple[float, Tensor]]:
    """The reader's frames; on the way it is noted how much each changes, and moments with several faces, by times."""
    before, looked = None, -LOOK
    for time, picture in reader:
        rows, columns = max(picture.shape[0] // 32, 1), max(picture.shape[1] // 32, 1)
        small = as_rgb(picture[::rows, ::columns])
        if before is not None:
            same = small.shape == before.shape
            changes.append((time, float((small - before).abs().mean()) if same else 1.0))
        before = small
        if time - looked >= LOOK:
            looked = time
            sizes = sorted((float((f.box[2:] - f.box[:2]).max()) for f in analyzer.analyze(picture, "short")[0]),
                           reverse=True)
            if len(sizes) > 1 and sizes[1] > BYSTANDER * sizes[0]:
                crowded.append(time)
        yield time, picture


def find_cuts(changes: list[tuple[float, float]]) -> list[float]:
    """Times of the frames that begin another shot, from (time, change since the frame before) of all frames."""
    if not changes:
        return []
    times, change = torch.tensor(changes, dtype=torch.float64).T
    cuts = []
    for k in (change > SUDDEN).nonzero()[:, 0].tolist():
        others = change[((times - times[k]).abs() <= AROUND) & (torch.arange(len(times)) != k)]
        usual = float(others.quantile(0.9)) if len(others) else 0.0
        if change[k] > CUT or change[k] > SPIKE * usual:
            cuts.append(float(times[k]))
    return cuts


def divide(track: FilmedFace, cuts: Iterable[float], filters: Filters) -> list[FilmedFace]:
    """Parts of a track in which one face is seen without a cut, none longer than ``filters.most_seconds``.

    Parts are returned however short they are, so that what is left out can be listed with its reason.
    """
    times = track.times[track.seen]
    low, high = track.landmarks[..., :2].amin(1), track.landmarks[..., :2].amax(1)
    size, middle = (high - low).amax(1), (low + high) / 2
    apart = times.diff() > GAP + 1.0 / track.fps
    apart |= (middle.diff(dim=0).norm(dim=1) > JUMP * torch.minimum(size[1:], size[:-1]))
    ratio = size[1:] / size[:-1]
    apart |= (ratio > GROWTH) | (ratio < 1 / GROWTH)
    for cut in cuts:
        apart |= (times[:-1] < cut - 1e-6) & (times[1:] >= cut - 1e-6)
    bounds = [0, *(apart.nonzero()[:, 0] + 1).tolist(), len(times)]
    parts = []
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        seconds = float(times[end - 1] - times[begin]) + 1.0 / track.fps
        pieces = max(1, -(-round(seconds * 1000) // round(filters.most_seconds * 1000)))
        edges = torch.linspace(begin, end, pieces + 1).round().long().tolist()
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            first, last = int(track.seen[a]), int(track.seen[b - 1])
            parts.append(FilmedFace(track.landmarks[a:b], track.blendshapes[a:b], track.seen[a:b] - first,
                                   track.times[first:last + 1], track.fps))
    return parts


def _check_face(part: FilmedFace, filters: Filters) -> None:
    if part.duration < filters.least_seconds:
        raise Unusable(f"{part.duration:.1f} s is too short")
    points = part.landmarks[..., :2]
    side = float((points.amax(1) - points.amin(1)).amax(1).median())
    if side < filters.least_face:
        raise Unusable(f"the face is {side:.0f} pixels large")


def _clip(path: Path, part: FilmedFace, sound: Audio, kit: Kit, filters: Filters) -> Clip:
    start = float(part.times[0])
    begin = round(start * SAMPLE_RATE)
    heard = min(part.duration, len(sound.samples) / SAMPLE_RATE - start)
    frames = int(heard * FPS + 1e-3)
    if frames < filters.least_seconds * FPS:
        raise Unusable("the sound does not cover it")
    samples = sound.samples[begin:begin + round(frames / FPS * SAMPLE_RATE)]
    speech = kit.encoder.encode(Audio(samples, frames / FPS))
    level = float(torch.quantile(speech.loudness, 0.9))
    if level < filters.least_loudness:
        raise Unusable(f"silence ({level:.0f} dB)")
    voiced = float((speech.pitch > 0).float().mean())
    if voiced < filters.least_voiced:
        raise Unusable(f"hardly any voice ({100 * voiced:.0f} % of the frames)")
    motion = motion_from_track(part, kit.bridge, output_fps=FPS)
    expression, rotation = motion.expression.flatten(1), motion.rotation
    translation, scale = motion.translation, motion.scale
    if kit.extractor is not None:
        frames = min(frames, len(motion))
        told = extract(kit.extractor, _crops_at(path, part, frames, 256))
        frames = min(frames, len(told["exp"]))
        expression = anchored(told["exp"].flatten(1), expression[:frames], kit.bridge)
        rotation, translation, scale = told["rotation"], told["t"], told["scale"]
    frames = min(frames, len(expression), len(speech.features))
    yaw = float(motion.rotation[:, 1].abs().median())
    if yaw > filters.most_yaw:
        raise Unusable(f"the head is turned by {yaw:.0f} degrees")
    shape = geometry.to_head_frame(part.landmarks)
    rest = shape[rest_frames(geometry.lip_gap(shape), geometry.eye_openness(shape).mean(1))].median(dim=0).values
    pose = torch.cat((rotation - rotation.median(0).values, translation - translation.median(0).values,
                      scale / scale.median()), 1)
    return Clip(speech.features[:frames], speech.loudness[:frames], speech.pitch[:frames], expression[:frames],
                pose[:frames], geometry.identity_feature(rest))


def anchored(latents: Tensor, bridged: Tensor, bridge) -> Tensor:
    """Extracted latents [T, 63] as offsets from a neutral face.

    ``bridged`` [T, 63] is the same motion through the latent bridge; see ``neutral_latents``.
    """
    return latents - neutral_latents(latents, bridged, bridge, CALM)


def _crops_at(path: Path, part: FilmedFace, frames: int, side: int) -> Iterator[Tensor]:
    """[3, side, side] the part's fixed crop in the frame nearest to each of ``frames`` 25ths of a second."""
    (x, y), size = driving_crop(part.landmarks)
    roi = Roi(float(x), float(y), size)
    start = float(part.times[0])
    given, before = 0, None
    for time, picture in open_video(path, start, part.duration + 1.0 / part.fps):
        while before is not None and given < frames and given / FPS <= (before[0] + time) / 2:
            yield sample(as_rgb(before[1]), roi, side, "zeros")
            given += 1
        if given == frames:
            return
        before = time, picture
    while before is not None and given < frames:
        yield sample(as_rgb(before[1]), roi, side, "zeros")
        given += 1
