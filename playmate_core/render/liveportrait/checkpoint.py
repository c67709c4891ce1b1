"""Reads LivePortrait's five weight files in both public forms (SPEC.md section 7).

* KwaiVGI/LivePortrait: ``base_models/*.pth`` and ``retargeting_models/stitching_retargeting_module.pth``, torch's
  files, of which nothing but tensors is read (``weights.unpickle``).
* Kijai/LivePortrait_safetensors: the same names with ``.safetensors`` in one folder.

Sizes are read off the tensors, so a checkpoint needs no side-car file.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Callable, Mapping

import torch
from torch import Tensor, nn

from ...runtime.errors import PlaymateError
from ...weights.tensors import load_table
from .appearance import AppearanceConfig, AppearanceExtractor
from .generator import Generator, GeneratorConfig
from .motion_extractor import MotionExtractor, MotionExtractorConfig
from .stitching import MlpConfig, Stitching
from .warping import WarpingConfig, WarpingModule

FILES = {
    "appearance": "appearance_feature_extractor",
    "motion": "motion_extractor",
    "warping": "warping_module",
    "generator": "spade_generator",
    "stitching": "stitching_retargeting_module",
}
"""Role of each network and the name of its file, less the ending."""

FOLDERS = ("", "base_models", "retargeting_models", "liveportrait", "liveportrait/base_models",
           "liveportrait/retargeting_models")
"""Where below a folder the files are looked for: flat, or as the hub repository lays them out."""

S_ENTRIES = {"stitching": "retarget_shoulder", "eye": "retarget_eye", "lip": "retarget_mouth"}

_BUILDERS: dict[str, Callable[[dict[str, Tensor]], nn.Module]] = {
    "appearance": lambda weights: AppearanceExtractor(AppearanceConfig.of(weights)),
    "motion": lambda weights: MotionExtractor(MotionExtractorConfig.of(weights)),
    "warping": lambda weights: WarpingModule(WarpingConfig.of(weights)),
    "generator": lambda weights: Generator(GeneratorConfig.of(weights)),
    "stitching": lambda weights: Stitching(*(MlpConfig.of(part(weights, name)) for name in S_ENTRIES)),
}


class Networks(nn.Module):
    """The five networks, as one module that a host can move to a device.

    Args:
        appearance: F, picture to feature volume.
        motion: M, picture to motion latents.
        warping: W, volume and keypoints to warped features.
        generator: G, warped features to picture.
        stitching: S, keypoints to keypoints; float32 always.
    """

    def __init__(self, appearance: AppearanceExtractor, motion: MotionExtractor, warping: WarpingModule,
                 generator: Generator, stitching: Stitching) -> None:
        super().__init__()
        self.appearance = appearance
        self.motion = motion
        self.warping = warping
        self.generator = generator
        self.stitching = stitching
        self.eval()


def load_networks(weights: str | PathLike | Mapping[str, str | PathLike]) -> Networks:
    """The five networks, float32 on the CPU, not yet fused.

    Args:
        weights: a folder that holds the files in either public form (``FILES``, ``FOLDERS``; safetensors are
            preferred), or each file's path by role.

    Raises:
        PlaymateError: files that are missing, damaged, swapped, or not LivePortrait's.
    """
    files = dict(weights) if isinstance(weights, Mapping) else find_files(weights)
    missing = [name for role, name in FILES.items() if role not in files]
    if missing:
        raise PlaymateError(f"LivePortrait's weights are not complete: no file is given for {', '.join(missing)}.")
    return Networks(**{role: load_network(role, files[role]) for role in FILES})


def find_files(folder: str | PathLike) -> dict[str, Path]:
    """Paths of the five files by role.

    Raises:
        PlaymateError: some are missing; their names are in the sentence.
    """
    folder = Path(folder)
    found, missing = {}, []
    for role, name in FILES.items():
        tries = [folder / sub / (name + ending) for ending in (".safetensors", ".pth") for sub in FOLDERS]
        hit = next((path for path in tries if path.is_file()), None)
        if hit is None:
            missing.append(name)
        else:
            found[role] = hit
    if missing:
        raise PlaymateError(f"LivePortrait's weights are not complete in {folder}: {', '.join(missing)} "
                            "(.safetensors or .pth) cannot be found; put the files there.")
    return found


def load_network(role: str, path: str | PathLike) -> nn.Module:
    """One network of ``FILES`` from its file, float32 on the CPU, evaluation mode.

    Raises:
        PlaymateError: the file cannot be read or holds something else.
    """
    path = Path(path)
    weights = canonical(role, load_table(path))
    try:
        with torch.device("meta"):
            network = _BUILDERS[role](weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, RuntimeError, AttributeError) as error:
        raise PlaymateError(f"{path} does not hold LivePortrait's {FILES[role]}; "
                            "it may be another file under this name: download it again.") from error
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key.endswith("num_batches_tracked"):
            weights.setdefault(key, torch.ones((), dtype=tensor.dtype))
    wrong = [key for key in {**wanted, **weights} if key not in wanted or key not in weights
             or wanted[key].shape != weights[key].shape]
    if wrong:
        raise PlaymateError(f"{path} does not fit LivePortrait's {FILES[role]} in {len(wrong)} of {len(wanted)} "
                            f"tensors ({wrong[0]} first); download it again.")
    for key, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise PlaymateError(f"{path} is damaged: {key} holds numbers that are not finite; download it again.")
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def canonical(role: str, held: dict) -> dict[str, Tensor]:
    """A file's content under the names of our networks: float32, without data-parallel prefixes. Entries that bear no
    name are left out: S's pickle holds more than the networks (SPEC.md section 7)."""
    held = {key: value for key, value in held.items() if isinstance(key, str)}
    if role == "stitching":
        flat = {}
        for ours, entry in S_ENTRIES.items():
            if isinstance(held.get(entry), dict):
                flat.update({f"{ours}.{key.replace('module.', '')}": t for key, t in held[entry].items()
                             if isinstance(key, str)})
            cut = entry + "_module."
            flat.update({f"{ours}.{key[len(cut):]}": t for key, t in held.items() if key.startswith(cut)})
        held = flat
    weights = {}
    for key, tensor in held.items():
        if isinstance(tensor, Tensor):
            key = key.removeprefix("module.")
            weights[key] = tensor.float() if tensor.is_floating_point() else tensor
    if role == "generator":
        _wrap_plain(weights)
    return weights


def part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below ``name``, with that cut off."""
    return {key[len(name) + 1:]: tensor for key, tensor in weights.items() if key.startswith(name + ".")}


def _wrap_plain(weights: dict[str, Tensor]) -> None:
    """Convolutions saved after their spectral norm was folded get vectors that give a singular value of 1."""
    for key in [key for key in weights if key.split(".")[-2:-1] and key.split(".")[-2] in ("conv_0", "conv_1", "conv_s")
                and key.endswith(".weight")]:
        weight = weights.pop(key)
        u = torch.nn.functional.normalize(torch.ones(weight.shape[0]), dim=0)
        v = weight.flatten(1).T @ u
        weights.update({key + "_orig": weight, key + "_u": u, key + "_v": v / v.square().sum().clamp_min(1e-20)})
