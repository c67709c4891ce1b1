"""A reference of toy size: the real files' layout, with what our own networks compute on the CPU as expected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule

from ..parity import liveportrait
from ..parity.recipe import recipe
from .setup import Setup

DENSE = {"block_expansion": 4, "max_features": 14, "num_blocks": 2, "reshape_depth": 4, "compress": 2}


def write_reference(folder: Path, setup: Setup, real: Path | None = None) -> Path:
    """Writes liveportrait/ into ``folder`` and copies joyvasa/ from the real reference where it is at hand: its
    networks are toys already."""
    below = folder / "liveportrait"
    below.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(0)

    def points(count: int, rows: int = 2) -> torch.Tensor:
        return torch.rand(rows, count, 3, generator=random) - 0.5

    def picture(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=random)

    for letter, network, arguments, given, compute in (
            ("S", Stitching(), {}, {"kp_source": points(21), "kp_driving": points(21), "eye_ratio": picture(2, 3),
                                    "lip_ratio": picture(2, 2)}, liveportrait.stitching),
            ("M", *_made(MotionExtractor, MotionExtractorConfig, depths=[1, 1, 1, 1], dims=[8, 8, 16, 16]),
             {"image": picture(2, 3, 64, 64)}, liveportrait.motion_extractor),
            ("F", *_made(AppearanceExtractor, AppearanceConfig, block_expansion=4, num_down_blocks=2, max_features=16,
                         reshape_channel=4, reshape_depth=4, num_resblocks=1),
             {"image": picture(2, 3, 32, 32)}, liveportrait.appearance_extractor),
            ("W", *_made(WarpingModule, WarpingConfig, num_kp=5, block_expansion=4, max_features=16,
                         num_down_blocks=1, reshape_channel=4, dense_motion_params=DENSE),
             {"feature_3d": picture(2, 4, 4, 8, 8), "kp_source": points(5), "kp_driving": points(5)},
             liveportrait.warping),
            ("G", *_made(Generator, GeneratorConfig, block_expansion=2, max_features=16, out_channels=4,
                         hidden=16),
             {"feature": picture(2, 8, 8, 8)}, liveportrait.generator)):
        tensors = {f"in.{name}": value for name, value in given.items()}
        tensors |= {f"sd.{name}": value for name, value in recipe(f"r{letter}", network).items()}
        metadata = {"constructor_args": arguments}
        _save(below / f"parity_{letter}.safetensors", tensors | compute(tensors, metadata), metadata)
    _write_full(below / "parity_full.safetensors", setup, picture, points)
    if real is not None and (real / "joyvasa").is_dir():
        shutil.copytree(real / "joyvasa", folder / "joyvasa", dirs_exist_ok=True)
        for path in (folder / "joyvasa").rglob("*"):
            path.chmod(0o644)
    return folder


def _made(network, config, **arguments):
    return network(config(**arguments)), arguments


def _write_full(path: Path, setup: Setup, picture, points) -> None:
    """Some arrays whole and some thinned out, as in the real file."""
    networks = setup.full_size
    tensors = {f"in.{name}_u8": (picture(3, 256, 256) * 255).to(torch.uint8) for name in ("source", "driving")}
    tensors |= {"iso.kp_source": points(21, 1), "iso.kp_driving": points(21, 1)}
    found = liveportrait.chain(networks, tensors)
    stats = {"isoW.deformation": {"shape": list(found["W.deformation"].shape)},
             "isoG.image": {"shape": list(found["G.image"].shape)}}
    metadata = {"stats": stats}
    found |= liveportrait.warping_alone(networks, tensors, metadata) | liveportrait.generator_alone(networks, metadata)
    for name, value in found.items():
        stats[name] = {"shape": list(value.shape), "stride": 7}
        if value.numel() > 4096:
            tensors[f"sub.{name}"] = value.flatten()[::7]
        else:
            tensors[f"out.{name}"] = value
    _save(path, tensors, metadata)


def _save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    save_file({name: value.detach().contiguous().clone() for name, value in tensors.items()}, str(path),
              {name: json.dumps(value) for name, value in metadata.items()})
