"""What the latent bridge is fitted on: LivePortrait's clips and pictures with their latents, and real speakers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

SINGLE = {"index4": (4,), "index33_45_48": (33, 45, 48)}
"""Pictures of single latents by the start of their name: which of the 63 numbers changes in them. Picture i has
-0.03 + 0.0006 i; all other latents are zero."""

LEFT_OUT = ("edtalk_radio", "retalking_1", "lp_d12")
"""Tracks that their README sets aside: a generator's result, and two whose sound and picture keep time badly."""


def clip_landmarks(path: Path, analyzer) -> tuple[Tensor, Tensor]:
    """Landmarks [T, 478, 3] and blendshapes [T, 52] of a clip, every frame looked at afresh."""
    from playmate_core.media.video_reader import open_video

    points, scores = [], []
    for _, picture in open_video(path):
        face = analyzer.analyze(picture.float() / 255.0)[0][0]
        points.append(face.landmarks)
        scores.append(face.blendshapes)
    return torch.stack(points), torch.stack(scores)


class Landmarks:
    """Landmarks and blendshapes by name, kept in ``cache`` between runs (finding them takes minutes)."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self.stored = load_file(str(cache)) if cache is not None and cache.is_file() else {}
        self._analyzer = None

    @property
    def analyzer(self):
        if self._analyzer is None:
            from playmate_core.face.analyzer import FaceAnalyzer

            self._analyzer = FaceAnalyzer.load()
        return self._analyzer

    def of(self, name: str, find) -> tuple[Tensor, Tensor]:
        """[T, 478, 3] and [T, 52] of ``name``, by ``find(analyzer)`` if they are not known yet; float64."""
        if f"{name}.landmarks" not in self.stored:
            self.stored[f"{name}.landmarks"], self.stored[f"{name}.blendshapes"] = find(self.analyzer)
            sys.stderr.write(f"{name}: {len(self.stored[f'{name}.landmarks'])} frames\n")
            if self.cache is not None:
                save_file(self.stored, str(self.cache))
        return self.stored[f"{name}.landmarks"].double(), self.stored[f"{name}.blendshapes"].double()


def read_clips(folder: Path, landmarks: Landmarks) -> dict[str, dict[str, Tensor]]:
    """Clips with latents by name: landmarks, blendshapes, exp [T, 63], R, t, scale, c_eyes, c_lip."""
    clips = {}
    for path in sorted(folder.glob("*.mp4")):
        clip = {key: value.double() for key, value in load_file(str(path.with_suffix(".safetensors"))).items()}
        clip["landmarks"], clip["blendshapes"] = landmarks.of(path.stem, lambda a, path=path: clip_landmarks(path, a))
        clips[path.stem] = clip
    return clips


def read_singles(folder: Path, landmarks: Landmarks) -> dict[str, tuple[Tensor, Tensor]]:
    """Latents [N, 63] and landmarks [N, 478, 3] of the pictures of single latents in ``folder``."""
    from playmate_core.media.pictures import check_image, read_image

    def find(analyzer, paths):
        faces = [analyzer.analyze(check_image(read_image(str(path)))[None])[0][0] for path in paths]
        return torch.stack([f.landmarks for f in faces]), torch.stack([f.blendshapes for f in faces])

    found = {}
    for name, latents in SINGLE.items():
        paths = sorted(path for path in folder.glob("*.jpg") if re.fullmatch(rf"{name}_\d+", path.stem))
        if not paths:
            continue
        steps = torch.tensor([int(path.stem.rsplit("_", 1)[1]) for path in paths], dtype=torch.float64)
        value = torch.zeros(len(paths), 63, dtype=torch.float64)
        value[:, latents] = (-0.03 + 0.0006 * steps)[:, None]
        found[name] = value, landmarks.of(f"single {name}", lambda a, paths=paths: find(a, paths))[0]
    return found


def read_templates(folder: Path) -> dict[str, Tensor]:
    """exp [T, 63] of every motion template."""
    files = {path.stem: load_file(str(path)) for path in sorted(folder.glob("*.safetensors"))}
    return {name: data["exp"].double().flatten(1) for name, data in files.items() if "R" in data}


def read_tracks(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Landmarks and blendshapes of real speakers, frames without a face and the tracks LEFT_OUT set aside."""
    tracks = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.stem in LEFT_OUT:
            continue
        with safe_open(str(path), "pt") as file:
            points, scores = (file.get_tensor(key).double() for key in ("landmarks", "blendshapes"))
        seen = torch.isfinite(points).flatten(1).all(dim=1)
        tracks[path.stem] = {"landmarks": points[seen], "blendshapes": scores[seen]}
    return tracks
