"""Weights of LivePortrait's networks by the reference's recipe: made up, the same everywhere, of useful size.

Also networks of the same structure with few channels, which draw in milliseconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch

GAINS = {
    "fc_kp.weight": 0.3, "fc_exp.weight": 0.05, "fc_t.weight": 0.1, "fc_scale.weight": 0.1, "fc_pitch.weight": 2.0,
    "fc_yaw.weight": 2.0, "fc_roll.weight": 2.0, "dense_motion_network.mask.weight": 4.0, "conv2.weight": 0.5,
    "occlusion.weight": 0.7, "mlp_gamma.weight": 0.5, "mlp_beta.weight": 0.5,
}


def recipe(tag: str, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights by recipe LP1 (SPEC.md section 17) for a network's keys and shapes."""
    return recipe_of(tag, {key: tuple(value.shape) for key, value in network.state_dict().items()})


def recipe_of(tag: str, shapes: dict[str, tuple]) -> dict[str, torch.Tensor]:
    weights = {key: _draw(tag, key, shape) for key, shape in shapes.items() if not key.endswith("weight_v")}
    for key in shapes:
        if key.endswith("weight_v"):
            matrix = weights[key[:-1] + "orig"].astype(np.float64)
            v = matrix.reshape(len(matrix), -1).T @ weights[key[:-1] + "u"].astype(np.float64)
            weights[key] = (v / np.linalg.norm(v)).astype(np.float32)
    return {key: torch.from_numpy(np.asarray(weights[key])) for key in shapes}


def _draw(tag: str, key: str, shape: tuple) -> np.ndarray:
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.array(1, dtype=np.int64)
    state = np.random.RandomState(zlib.crc32(f"{tag}/{key}".encode()))
    if last == "running_var":
        return (0.5 + state.random_sample(shape)).astype(np.float32)
    value = state.standard_normal(shape)
    if last == "running_mean":
        value *= 0.1
    elif last == "weight_u":
        value /= np.linalg.norm(value)
    elif last == "gamma":
        value *= 0.5
    elif last == "beta":
        value *= 0.1
    elif last == "bias":
        value = 0.05 * value + (1.2 if key.endswith("fc_scale.bias") else 0.0)
    elif len(shape) == 1:
        value = 1 + 0.1 * value
    else:
        gain = next((g for end, g in GAINS.items() if key.endswith(end)), 1.4)
        value = gain * value / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32)


def stitching_by_recipe():
    """S as the reference's geometry has it: by recipe, with the last layers small."""
    from playmate_core.render.liveportrait.stitching import Stitching

    network = Stitching()
    weights = {}
    for name in ("stitching", "eye", "lip"):
        own = recipe(f"S_{name}", getattr(network, name))
        last = max(int(key.split(".")[1]) for key in own)
        for key in own:
            weights[f"{name}.{key}"] = own[key] * (0.05 if key.startswith(f"mlp.{last}.") else 1.0)
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False)


def small_networks(halvings: int = 2) -> dict[str, torch.nn.Module]:
    """Networks of the real structure with few channels, by role; see ``small_kinds``."""
    return {role: make() for role, make in small_kinds(halvings).items()}


def small_kinds(halvings: int = 2) -> dict[str, Callable[[], torch.nn.Module]]:
    """What makes each network, by role; they see 256 and draw 512 pixels.

    More halvings than the published two make the volume and the drawn picture smaller: 128 pixels with four, which
    takes a sixteenth of the time.
    """
    from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
    from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
    from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
    from playmate_core.render.liveportrait.stitching import Stitching
    from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule

    dense = {"block_expansion": 4, "max_features": 16, "num_blocks": 4, "reshape_depth": 4, "compress": 2}
    return {
        "appearance": lambda: AppearanceExtractor(AppearanceConfig(3, 4, halvings, 16, 4, 4, 1)),
        "motion": lambda: MotionExtractor(MotionExtractorConfig(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))),
        "warping": lambda: WarpingModule(WarpingConfig(21, 2, 16, 2, 4, True, dense)),
        # Nearly all of its arithmetic lies between its norms' convolutions, unless that is small too.
        "generator": lambda: Generator(GeneratorConfig(2, 2, 16, 2, 4, hidden=16)),
        "stitching": Stitching,
    }


def small_weights(halvings: int = 2) -> dict[str, dict[str, torch.Tensor]]:
    """State dicts of ``small_networks`` by role; the stitching networks change little, as trained ones do."""
    weights = {role: recipe(role, network) for role, network in small_networks(halvings).items()}
    for key, value in weights["stitching"].items():
        if key.split(".")[2] == {"stitching": "6", "lip": "6", "eye": "10"}[key.split(".")[0]]:
            value *= 0.05
    return weights
