"""Sync-C and Sync-D (LSE-C, LSE-D): SyncNet's confidence and distance, where its weights are given.

Chung and Zisserman 2016, "Out of time"; the protocol of the public syncnet_python: five frames of the face against
0.2 s of sound, distances over 31 lags, Sync-D the smallest mean distance, Sync-C the median less it. The face is cut
out by this package's landmarks, not by S3FD, so compare only figures of this command with each other.
"""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..media.audio import SAMPLE_RATE
from ..runtime.errors import PlaymateError
from ..weights.tensors import load_weights
from ..weights.unreadable import Unreadable

if TYPE_CHECKING:
    from ..face.types import Face

FPS, FRAMES, LAGS, SIZE = 25.0, 5, 15, 224
_MARGIN, _DROP = 1.4, 0.4  # half side of the crop over the face's, and its shift down, as syncnet_python cuts
_BATCH = 16

_SOUND = (((1, 64), 3, 1, 1, None), ((64, 192), 3, 1, 1, (3, (1, 2), 0)), ((192, 384), 3, 1, 1, None),
          ((384, 256), 3, 1, 1, None), ((256, 256), 3, 1, 1, (3, 2, 0)), ((256, 512), (5, 4), 1, 0, None))
_FACE = (((3, 96), (5, 7, 7), (1, 2, 2), 0, ((1, 3, 3), (1, 2, 2), 0)),
         ((96, 256), (1, 5, 5), (1, 2, 2), (0, 1, 1), ((1, 3, 3), (1, 2, 2), (0, 1, 1))),
         ((256, 256), (1, 3, 3), 1, (0, 1, 1), None), ((256, 256), (1, 3, 3), 1, (0, 1, 1), None),
         ((256, 256), (1, 3, 3), 1, (0, 1, 1), ((1, 3, 3), (1, 2, 2), 0)), ((256, 512), (1, 6, 6), 1, 0, None))
"""(channels, kernel, stride, padding, pool (kernel, stride, padding)) of each layer, as the published weights ask."""


def _tower(layers, convolution, normalisation, pooling) -> nn.Sequential:
    parts: list[nn.Module] = []
    for number, ((inner, outer), kernel, stride, padding, pool) in enumerate(layers):
        parts += [convolution(inner, outer, kernel, stride, padding), normalisation(outer), nn.ReLU()]
        if pool is not None:
            parts.append(pooling(*pool))
        elif number == 0:
            parts.append(nn.Identity())  # a pool of one pixel in the published network, which counts in its names
    return nn.Sequential(*parts)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """The two towers, by the published parameter names."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = _tower(_SOUND, nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
        self.netcnnlip = _tower(_FACE, nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d)
        self.netfcaud, self.netfclip = _head(), _head()

    def sound(self, mfcc: Tensor) -> Tensor:
        """[B, 1, 13, 20] -> [B, 1024]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def face(self, pictures: Tensor) -> Tensor:
        """[B, 3, 5, 224, 224] BGR 0..255 -> [B, 1024]."""
        return self.netfclip(self.netcnnlip(pictures).flatten(1))


def load_syncnet(path: str | PathLike) -> SyncNet:
    """The network from a safetensors file with syncnet_python's parameter names.

    Raises:
        PlaymateError: no such file, or something else in it.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"There are no SyncNet weights at {path}, needed for Sync-C and Sync-D; none ship with "
                            "this package, so convert syncnet_v2.model to safetensors under its own names and give it.")
    network = SyncNet()
    try:
        network.load_state_dict(load_weights(path))
    except (Unreadable, RuntimeError, TypeError) as error:
        raise PlaymateError(f"{path} does not hold SyncNet's weights; convert syncnet_v2.model to safetensors under "
                            "its own parameter names.") from error
    return network.eval()


def mfcc(samples: Tensor) -> Tensor:
    """Mel cepstra as SyncNet was trained on (python_speech_features' defaults).

    Args:
        samples: [N] at 16 kHz, -1..1.

    Returns:
        [13, M], 100 columns a second: 25 ms windows, 26 mel bands, lifter 22, the first coefficient the log energy.
    """
    size, hop, points, bands = 400, 160, 512, 26
    signal = samples.double() * 32768
    signal = torch.cat([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    count = 1 + max(math.ceil((len(signal) - size) / hop), 0)
    windows = F.pad(signal, (0, max((count - 1) * hop + size - len(signal), 0))).unfold(0, size, hop)
    tiny = torch.finfo(torch.float64).eps
    power = torch.fft.rfft(windows, points).abs().square() / points
    energy = power.sum(1).clamp_min(tiny)
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2595) - 1)
    edges = ((points + 1) * edges / SAMPLE_RATE).floor()
    bins = torch.arange(points // 2 + 1, dtype=torch.float64)
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    filters = torch.minimum(rise, fall).clamp_min(0)
    levels = (power @ filters.T).clamp_min(tiny).log()
    order, place = torch.arange(13, dtype=torch.float64), torch.arange(bands, dtype=torch.float64) + 0.5
    cosines = (math.pi * order[:, None] * place / bands).cos() * math.sqrt(2 / bands)
    cosines[0] /= math.sqrt(2)
    cepstra = levels @ cosines.T * (1 + 11 * (math.pi * order / 22).sin())
    cepstra[:, 0] = energy.log()
    return cepstra.T.float()


def sync_scores(faces: Tensor, sounds: Tensor, lags: int = LAGS) -> dict[str, float]:
    """SyncNet's scores of embeddings [T, D] and [T, D] (one per frame, in step).

    Returns:
        ``confidence`` (Sync-C), ``distance`` (Sync-D) and ``offset`` in frames, positive where the sound comes later.
    """
    padded = F.pad(sounds, (0, 0, lags, lags))
    each = torch.stack([(faces - padded[k:k + len(faces)] + 1e-6).norm(dim=1) for k in range(2 * lags + 1)])
    mean = each.mean(1)
    best = int(mean.argmin())
    return {"confidence": float(mean.median() - mean[best]), "distance": float(mean[best]), "offset": best - lags}


class SyncScore:
    """An observer that embeds the face of each frame; ``result`` holds it against the sound."""

    def __init__(self, network: SyncNet, fps: float) -> None:
        if abs(fps - FPS) > 0.01:
            raise PlaymateError(f"SyncNet is made for {FPS:g} frames a second and the video has {fps:g}; "
                                "render it at 25.")
        self.network = network
        self.crops: list[Tensor] = []
        self.embeddings: list[Tensor] = []
        self.waiting: list[Tensor] = []

    def __call__(self, index: int, picture: Tensor, face: Face | None) -> None:
        from .classifier import square

        if face is not None:
            low, high = face.landmarks[:, :2].min(0).values, face.landmarks[:, :2].max(0).values
            half = float((high - low).max()) / 2
            middle = (low + high) / 2 + torch.tensor([0.0, _DROP * half])
            crop = square(picture, middle, _MARGIN * half, SIZE)[0].flip(0) * 255.0
        else:
            crop = self.crops[-1] if self.crops else torch.zeros(3, SIZE, SIZE)
        self.crops = [*self.crops[-(FRAMES - 1):], crop]
        if len(self.crops) == FRAMES:
            self.waiting.append(torch.stack(self.crops, 1))
            if len(self.waiting) == _BATCH:
                self._embed()

    @torch.no_grad()
    def _embed(self) -> None:
        if self.waiting:
            self.embeddings.append(self.network.face(torch.stack(self.waiting)))
            self.waiting = []

    @torch.no_grad()
    def result(self, samples: Tensor) -> dict[str, float]:
        """``sync_scores`` against samples [N] at 16 kHz.

        Raises:
            PlaymateError: fewer than six frames or that much sound.
        """
        self._embed()
        columns = mfcc(samples)
        count = min(sum(len(part) for part in self.embeddings), (columns.shape[1] - 20) // 4 + 1)
        if count < 2:
            raise PlaymateError("The video is too short for SyncNet; give at least six frames with sound.")
        windows = columns.unfold(1, 20, 4)[:, :count].permute(1, 0, 2)[:, None]
        sounds = torch.cat([self.network.sound(part) for part in windows.split(_BATCH * 4)])
        return sync_scores(torch.cat(self.embeddings)[:count], sounds)
