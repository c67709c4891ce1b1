"""The reference's files: inputs, weights and expected results by name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from safetensors import safe_open


class Watched(Mapping):
    """Tensors of a reference file by name, which remembers the names that were asked for."""

    def __init__(self, tensors: dict[str, torch.Tensor], prefix: str = "", seen: set | None = None) -> None:
        self.tensors, self.prefix = tensors, prefix
        self.seen: set[str] = set() if seen is None else seen

    def __getitem__(self, key: str) -> torch.Tensor:
        value = self.tensors[self.prefix + key]
        self.seen.add(self.prefix + key)
        return value

    def __contains__(self, key) -> bool:
        return self.prefix + key in self.tensors

    def __iter__(self):
        return (key[len(self.prefix):] for key in self.tensors if key.startswith(self.prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def below(self, prefix: str) -> Watched:
        return Watched(self.tensors, self.prefix + prefix, self.seen)

    @property
    def unseen(self) -> list[str]:
        return sorted(set(self.tensors) - self.seen)


def fixture(path) -> tuple[Watched, dict]:
    """Tensors and metadata of a reference file, JSON entries decoded."""
    with safe_open(str(path), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        metadata = dict(file.metadata())
    for key, value in metadata.items():
        if value[:1] in "[{":
            metadata[key] = json.loads(value)
    return Watched(tensors), metadata


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Mapping[str, torch.Tensor]:
    if isinstance(tensors, Watched):
        return tensors.below(prefix)
    return {key[len(prefix):]: value for key, value in tensors.items() if key.startswith(prefix)}


def kept_outputs(network: torch.nn.Module, names) -> dict[str, torch.Tensor]:
    """Fills with what the parts of ``network`` named so return, and under "NAME (in)" with what they are given."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(_, given, found):
            kept[name], kept[f"{name} (in)"] = found, given[0]
        return hook

    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    return kept


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference, in units of the largest wanted number."""
    assert found.shape == wanted.shape
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).abs().max() / wanted.abs().max())
