"""Emotion accuracy by an open image classifier, where its weights are given. None ships with this package."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..emotion.curve import LABELS
from ..runtime import sampling
from ..runtime.errors import PlaymateError
from .image import read_onnx

if TYPE_CHECKING:
    from ..face.types import Face

_STEMS = {"ang": "angry", "disg": "disgusted", "contempt": "contempt", "fear": "fear", "afraid": "fear",
          "happ": "happy", "joy": "happy", "sad": "sad", "surpris": "surprised", "neutral": "neutral"}
HSEMOTION_LABELS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
"""Order of the eight classes of the HSEmotion networks (Savchenko 2022 and 2023; the paper's Emo-A)."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MARGIN = 0.12
"""The crop is the landmarks' box and this share of its side more on each side."""


def own_label(name: str) -> str | None:
    """A classifier's class name as one of ``LABELS`` ("Anger" -> angry); None for classes that are none of them."""
    return next((label for stem, label in _STEMS.items() if name.lower().startswith(stem)), None)


def face_crop(picture: Tensor, landmarks: Tensor, size: int) -> Tensor:
    """[1, 3, size, size] the square around a face; picture [H, W, 3], landmarks [478, 2 or 3] pixels."""
    low, high = landmarks[:, :2].min(0).values, landmarks[:, :2].max(0).values
    return square(picture, (low + high) / 2, float((high - low).max()) * (0.5 + MARGIN), size)


def square(picture: Tensor, middle: Tensor, half: float, size: int) -> Tensor:
    """[1, 3, size, size] of picture [H, W, 3]: the square about ``middle`` [2] (x, y) of half side ``half``, pixels."""
    height, width = picture.shape[:2]
    # Smoothed before it is reduced, or fine texture turns into noise.
    pixels = picture[..., :3].permute(2, 0, 1)[None].float()
    shrink = size / (2 * half)
    if shrink < 0.75:
        pixels = F.interpolate(pixels, (max(round(height * shrink), 1), max(round(width * shrink), 1)),
                               mode="bilinear", antialias=True)
    steps = ((torch.arange(size) + 0.5) / size * 2 - 1) * half
    x = (middle[0] + steps) / width * 2 - 1
    y = (middle[1] + steps) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None].float()
    return sampling.sample(pixels, grid, "border")


class EmotionClassifier:
    """Probabilities of ``LABELS`` for a face."""

    def __init__(self, network: Callable[[Tensor], Tensor], labels: list[str | None], size: int,
                 mean: tuple[float, ...] = _MEAN, std: tuple[float, ...] = _STD) -> None:
        """``network`` maps [1, 3, size, size], normalised, to logits in the order of ``labels``."""
        self.network, self.labels, self.size = network, labels, size
        self.mean, self.std = (torch.tensor(x).view(1, -1, 1, 1) for x in (mean, std))
        if sum(label is not None for label in labels) < 2:
            raise PlaymateError("The emotion classifier's classes are none of " + ", ".join(LABELS) +
                                "; give one that was trained on facial expressions.")

    @staticmethod
    def load(path: str | PathLike) -> EmotionClassifier:
        """A classifier from files on this machine; nothing is downloaded and no pickle is read.

        Args:
            path: a folder with config.json and model.safetensors of a transformers image classifier, or an .onnx file
                of the HSEmotion family (224 pixels, 8 classes).

        Raises:
            PlaymateError: nothing there, or something else.
        """
        path = Path(path)
        if path.is_dir():
            return _from_folder(path)
        if path.suffix.lower() == ".onnx":
            return _from_onnx(path)
        raise PlaymateError(f"There is no emotion classifier at {path}; none ships with this package, so give a "
                            "transformers folder (config.json, model.safetensors) or an HSEmotion .onnx file.")

    @torch.no_grad()
    def __call__(self, picture: Tensor, landmarks: Tensor) -> Tensor:
        """[8] probabilities of ``LABELS``; classes that are none of them are left out before the softmax."""
        crop = (face_crop(picture, landmarks, self.size) - self.mean) / self.std
        logits = self.network(crop).double().reshape(-1)
        scores = torch.full((len(LABELS),), float("-inf"), dtype=torch.float64)
        for label, logit in zip(self.labels, logits, strict=True):
            if label is not None:
                place = LABELS.index(label)
                scores[place] = torch.logaddexp(scores[place], logit)
        return scores.softmax(0)


def _from_folder(path: Path) -> EmotionClassifier:
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise PlaymateError(f"The emotion classifier {path} has no {name}; give a transformers image classifier "
                                "saved with safetensors.")
    from safetensors import SafetensorError
    from transformers import AutoModelForImageClassification

    try:
        model = AutoModelForImageClassification.from_pretrained(path, use_safetensors=True, local_files_only=True)
        model.eval()
        notes = path / "preprocessor_config.json"
        prepare = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    except (OSError, ValueError, SafetensorError) as error:
        raise PlaymateError(f"The emotion classifier {path} cannot be loaded ({str(error).splitlines()[0]}); "
                            "save it again with transformers.") from error
    size = prepare.get("size", getattr(model.config, "image_size", 224))
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge", 224))
    mean = prepare.get("image_mean") if prepare.get("do_normalize", True) else (0.0, 0.0, 0.0)
    std = prepare.get("image_std") if prepare.get("do_normalize", True) else (1.0, 1.0, 1.0)
    labels = [own_label(model.config.id2label[i]) for i in range(model.config.num_labels)]
    return EmotionClassifier(lambda crop: model(pixel_values=crop).logits, labels, int(size),
                             tuple(mean or _MEAN), tuple(std or _STD))


def _from_onnx(path: Path) -> EmotionClassifier:
    network = read_onnx(path, "emotion classifier (HSEmotion, ONNX)")

    def run(crop: Tensor) -> Tensor:
        network.setInput(crop.numpy())
        logits = torch.from_numpy(network.forward().reshape(-1))
        if len(logits) < len(HSEMOTION_LABELS):
            raise PlaymateError(f"{path} gives {len(logits)} numbers where the {len(HSEMOTION_LABELS)} classes of "
                                "HSEmotion are needed; give one of its 8-class networks.")
        # Multi-task variants append valence and arousal.
        return logits[:len(HSEMOTION_LABELS)]

    return EmotionClassifier(run, list(HSEMOTION_LABELS), 224)


class EmotionAccuracy:
    """An observer: how often the classifier sees the emotion that was asked for, on every ``stride``-th frame."""

    def __init__(self, classifier: EmotionClassifier, label: str, stride: int = 5) -> None:
        self.classifier, self.label, self.stride = classifier, label, stride
        self.seen: list[str] = []
        self.total = torch.zeros(len(LABELS), dtype=torch.float64)

    def __call__(self, index: int, picture: Tensor, face: Face | None) -> None:
        if face is not None and index % self.stride == 0:
            probabilities = self.classifier(picture, face.landmarks)
            self.seen.append(LABELS[int(probabilities.argmax())])
            self.total += probabilities

    def result(self) -> dict:
        """``accuracy`` over frames, the clip's ``verdict`` by mean probability, the ``probabilities`` by label."""
        count = len(self.seen)
        mean = self.total / max(count, 1)
        return {"accuracy": sum(seen == self.label for seen in self.seen) / count if count else float("nan"),
                "verdict": LABELS[int(mean.argmax())] if count else None, "frames": count,
                "probabilities": dict(zip(LABELS, mean.tolist(), strict=True))}
