"""The paper's image measures (FID, FVD, LPIPS) by the field's usual networks, where their weights are given.

None of these weights ships with this package: each function says what it needs. Networks come as TorchScript (the
files that StyleGAN's and FVD's reference code load) or safetensors; no pickle is read.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ..runtime.errors import PlaymateError
from ..weights.tensors import load_weights
from ..weights.unreadable import Unreadable

CLIP_FRAMES = 16
"""Frames of a clip for FVD, as in its reference protocol."""


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared 2-Wasserstein distance of Gaussians fitted to two sets (Heusel et al. 2017).

    Args:
        a, b: [N, D] and [M, D] features; at least two rows each.

    Returns:
        |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)), 0 for equal sets.

    Raises:
        PlaymateError: fewer rows, or other columns.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise PlaymateError(f"A Frechet distance needs two sets of at least two feature vectors of one length, not "
                            f"{tuple(a.shape)} and {tuple(b.shape)}; give longer videos.")
    a, b = a.double(), b.double()
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    # trace((C_a C_b)^(1/2)) by the symmetric form C_a^(1/2) C_b C_a^(1/2), whose eigenvalues are the same.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(float(distance), 0.0)


def load_script(path: str | PathLike, what: str):
    """A TorchScript network.

    Raises:
        PlaymateError: the file is missing or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"There is no {what} at {path}; none ships with this package, so give your own file.")
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise PlaymateError(f"{path} is no TorchScript network; give a {what}.") from error


class Fid:
    """FID by the Inception network of StyleGAN (``inception-2015-12-05.pt``, TorchScript)."""

    def __init__(self, path: str | PathLike) -> None:
        self.network = load_script(path, "Inception network (inception-2015-12-05.pt, TorchScript), needed for FID")

    @torch.no_grad()
    def features(self, pictures: Iterable[Tensor]) -> Tensor:
        """[N, D] of pictures [H, W, 3] 0..1, one at a time."""
        found = []
        for picture in pictures:
            pixels = (picture[..., :3] * 255).round().clamp(0, 255).permute(2, 0, 1)[None]
            try:
                found.append(self.network(pixels.to(torch.uint8), return_features=True).float().cpu())
            except RuntimeError:  # scripts whose forward knows no such switch
                found.append(self.network(pixels).float().cpu())
        return torch.cat([f.flatten(1) for f in found]) if found else torch.zeros(0, 1)

    def __call__(self, a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
        """FID of two videos' frames."""
        return frechet_distance(self.features(a), self.features(b))


def clips_of(pictures: Iterable[Tensor], size: int = 224) -> Iterator[Tensor]:
    """[1, 3, 16, size, size], -1..1: the clips of 16 frames that follow one another without overlap."""
    held = []
    for picture in pictures:
        small = F.interpolate(picture[..., :3].permute(2, 0, 1)[None], (size, size), mode="bilinear", antialias=True)
        held.append(small[0] * 2 - 1)
        if len(held) == CLIP_FRAMES:
            yield torch.stack(held, 1)[None]
            held = []


class Fvd:
    """FVD by the I3D network of its reference code (``i3d_torchscript.pt``)."""

    def __init__(self, path: str | PathLike) -> None:
        self.network = load_script(path, "I3D network (i3d_torchscript.pt), needed for FVD")

    @torch.no_grad()
    def features(self, pictures: Iterable[Tensor]) -> Tensor:
        """[N, D], one row for each clip of 16 frames."""
        found = []
        for clip in clips_of(pictures):
            try:
                found.append(self.network(clip, rescale=False, resize=False, return_features=True).float().cpu())
            except RuntimeError:
                found.append(self.network(clip).float().cpu())
        return torch.cat([f.flatten(1) for f in found]) if found else torch.zeros(0, 1)

    def __call__(self, a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
        """FVD of two videos; each needs at least two clips of 16 frames."""
        return frechet_distance(self.features(a), self.features(b))


class Lpips:
    """LPIPS by its authors' package ``lpips`` (Zhang et al. 2018), AlexNet variant."""

    def __init__(self, path: str | PathLike) -> None:
        """``path``: AlexNet's ImageNet weights in torchvision's names, as safetensors.

        Raises:
            PlaymateError: no package or no such weights.
        """
        try:
            import lpips
        except ImportError as error:
            raise PlaymateError("LPIPS needs the package lpips, which is not installed; "
                                "run 'pip install lpips' in this environment.") from error
        path = Path(path)
        if not path.is_file():
            raise PlaymateError(f"There are no AlexNet weights (safetensors, torchvision's names) at {path}, needed "
                                "for LPIPS; none ship with this package, so give your own file.")
        try:
            weights = load_weights(path)
            self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
            # The package slices torchvision's "features" into five parts that keep its numbers.
            backbone = self.network.net.state_dict()
            self.network.net.load_state_dict(
                {name: weights["features." + name.split(".", 1)[1]] for name in backbone})
        except (Unreadable, KeyError, TypeError, RuntimeError) as error:
            raise PlaymateError(f"{path} does not hold AlexNet's weights in torchvision's names; save "
                                "torchvision.models.alexnet's state_dict with safetensors.") from error

    @torch.no_grad()
    def __call__(self, a: Iterable[Tensor], b: Iterable[Tensor]) -> float:
        """Mean over pairs of frames [H, W, 3] 0..1; the second of a pair is brought to the first one's size."""
        values = []
        for one, other in zip(a, b, strict=False):
            one, other = (x[..., :3].permute(2, 0, 1)[None] * 2 - 1 for x in (one, other))
            if one.shape != other.shape:
                other = F.interpolate(other, one.shape[-2:], mode="bilinear", antialias=True)
            values.append(float(self.network(one, other)))
        return sum(values) / len(values) if values else float("nan")
