"""Small LivePortrait networks with made-up weights, written as the public files are."""

from __future__ import annotations

import pytest
import torch

from laboratory.parity.files import Watched, below, fixture, kept_outputs, relative_error
from laboratory.parity.recipe import recipe, recipe_of, small_networks, small_weights, stitching_by_recipe

__all__ = ["Watched", "below", "fixture", "kept_outputs", "recipe", "recipe_of", "relative_error",
           "skip_unless_the_whole_file_runs", "small_networks", "small_weights", "stitching_by_recipe",
           "write_pickles", "write_safetensors"]


def skip_unless_the_whole_file_runs(request) -> None:
    """For a test that asks what the tests before it in its file have looked at."""
    names = {name for name in vars(request.module) if name.startswith("test_")}
    if names - {item.function.__name__ for item in request.session.items if item.path == request.path}:
        pytest.skip("only some of this file's tests were chosen")


def write_safetensors(folder, weights=None) -> None:
    """Files as in Kijai/LivePortrait_safetensors."""
    from safetensors.torch import save_file

    from playmate_core.render.liveportrait.checkpoint import FILES, S_ENTRIES

    folder.mkdir(parents=True, exist_ok=True)
    for role, held in (weights or small_weights()).items():
        if role == "stitching":
            held = {f"{S_ENTRIES[key.split('.')[0]]}_module.{key.split('.', 1)[1]}": v for key, v in held.items()}
        save_file(held, str(folder / f"{FILES[role]}.safetensors"), {"format": "pt"})


def write_pickles(folder, weights=None) -> None:
    """Files as in KwaiVGI/LivePortrait."""
    from playmate_core.render.liveportrait.checkpoint import FILES, S_ENTRIES

    for role, held in (weights or small_weights()).items():
        below = folder / ("retargeting_models" if role == "stitching" else "base_models")
        below.mkdir(parents=True, exist_ok=True)
        if role == "stitching":
            nested = {entry: {} for entry in S_ENTRIES.values()}
            for key, value in held.items():
                name, rest = key.split(".", 1)
                nested[S_ENTRIES[name]][f"module.{rest}"] = value
            held = {**nested, "epoch": 7}
        torch.save(held, below / f"{FILES[role]}.pth")
