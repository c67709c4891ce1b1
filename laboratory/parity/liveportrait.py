"""LivePortrait's networks on the inputs of the reference's files, on any device: {name in the file: result}."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from playmate_core.motion.geometry import transform_keypoints
from playmate_core.render.liveportrait.appearance import AppearanceConfig, AppearanceExtractor
from playmate_core.render.liveportrait.generator import Generator, GeneratorConfig
from playmate_core.render.liveportrait.motion_extractor import MotionExtractor, MotionExtractorConfig
from playmate_core.render.liveportrait.stitching import Stitching
from playmate_core.render.liveportrait.warping import WarpingConfig, WarpingModule

from .files import below, kept_outputs
from .recipe import recipe

SMALL = 1e-4
"""Largest difference that the small files allow, in units of the largest expected number."""
IMAGE, ISOLATED_IMAGE, WARPED, KEYPOINTS, ANGLES = 5e-4, 2e-5, 2e-4, 2e-5, 1e-4
"""Largest differences that the large file's description allows: pictures, G alone, W, keypoints, degrees."""
HALF = (5.0, 0.5)
"""Grey levels of 255 by which half precision may differ: at most, and in the mean."""
WARPING_WAYS = ("plain", "fused", "stacked planes")
GENERATOR_WAYS = ("plain", "fused", "channels last")

Results = dict[str, Tensor]


def ready(network: nn.Module, weights: Mapping[str, Tensor], device="cpu") -> nn.Module:
    """``network`` with ``weights``, frozen, on ``device``."""
    network.load_state_dict(weights, strict=True)
    return network.eval().requires_grad_(False).to(device)


def laid_out(network: nn.Module, way: str) -> nn.Module:
    """W or G as published ("plain"), as the CPU runs it ("fused") or as graphics cards do."""
    if way == "stacked planes":
        network.fold(stacked_planes=True)
    elif way != "plain":
        network.fold()
    if way == "channels last":
        network.to(memory_format=torch.channels_last)
    return network


@torch.no_grad()
def stitching(tensors: Mapping[str, Tensor], metadata: dict, device="cpu") -> Results:
    network = ready(Stitching(), below(tensors, "sd."), device)
    source, driving = tensors["in.kp_source"].to(device), tensors["in.kp_driving"].to(device)
    return {"out.stitching_raw": network.stitching(torch.cat([source.flatten(1), driving.flatten(1)], 1)),
            "out.stitching_kp": network.stitch(source, driving),
            "out.eye_delta": network.eye_delta(source, tensors["in.eye_ratio"].to(device)),
            "out.lip_delta": network.lip_delta(source, tensors["in.lip_ratio"].to(device))}


@torch.no_grad()
def motion_extractor(tensors: Mapping[str, Tensor], metadata: dict, device="cpu") -> Results:
    network = ready(MotionExtractor(MotionExtractorConfig(**metadata["constructor_args"])), below(tensors, "sd."),
                    device)
    inner = {"mid.stem": "downsample_layers.0", "mid.stages.0.0": "stages.0.0", "mid.stages.3": "stages.3",
             "mid.pooled_norm": "norm"}
    kept = kept_outputs(network.detector, inner.values())
    found = {f"out.{name}": value for name, value in network(tensors["in.image"].to(device)).items()}
    return found | {name: kept[part] for name, part in inner.items()}


@torch.no_grad()
def appearance_extractor(tensors: Mapping[str, Tensor], metadata: dict, device="cpu") -> Results:
    network = ready(AppearanceExtractor(AppearanceConfig(**metadata["constructor_args"])), below(tensors, "sd."),
                    device)
    inner = ("first", "second", "resblocks_3d.3dr0")
    kept = kept_outputs(network, inner)
    found = {"out.f_s": network(tensors["in.image"].to(device))}
    return found | {f"mid.{name}": kept[name] for name in inner}


@torch.no_grad()
def warping(tensors: Mapping[str, Tensor], metadata: dict, device="cpu", way: str = "plain",
            dtype: torch.dtype = torch.float32) -> Results:
    """Laid out in planes it takes one portrait: the file's first, of which only that row is returned."""
    network = laid_out(ready(WarpingModule(WarpingConfig(**metadata["constructor_args"])), below(tensors, "sd."),
                             device), way).to(dtype)
    inner = {"compress_norm": "dense_motion_network.norm", "hourglass_input": "dense_motion_network.hourglass (in)",
             "hourglass": "dense_motion_network.hourglass", "warped_flat": "third (in)", "third": "third",
             "fourth": "fourth"}
    if way == "fused":
        inner.pop("compress_norm")
    if way == "stacked planes":
        inner = {}
    kept = kept_outputs(network, {part.removesuffix(" (in)") for part in inner.values()})
    rows = slice(0, 1 if way == "stacked planes" else None)
    volume, kp_source, kp_driving = (tensors[f"in.{name}"][rows].to(device)
                                     for name in ("feature_3d", "kp_source", "kp_driving"))
    found = network(network.source(volume.to(dtype), kp_source), kp_driving)
    return {f"mid.{name}": kept[part] for name, part in inner.items()} | {
        f"out.{name}": found[name] for name in ("mask", "deformation", "occlusion_map", "out")}


@torch.no_grad()
def generator(tensors: Mapping[str, Tensor], metadata: dict, device="cpu", way: str = "plain",
              dtype: torch.dtype = torch.float32) -> Results:
    network = laid_out(ready(Generator(GeneratorConfig(**metadata["constructor_args"])), below(tensors, "sd."),
                             device), way).to(dtype)
    inner = ("fc", "G_middle_0", "G_middle_5", "up_0", "up_1", "conv_img")
    kept = kept_outputs(network, inner)
    found = {"out.image": network(tensors["in.feature"].to(device, dtype))}
    return found | {f"mid.{name}": kept[name] for name in inner}


def relative_errors(tensors: Mapping[str, Tensor], found: Results) -> dict[str, float]:
    """Largest difference of each array in units of its largest expected number."""
    errors = {}
    for name, value in found.items():
        value = value.detach().double().cpu()
        wanted = tensors[name][:len(value)].double()
        if value.shape != wanted.shape:
            raise ValueError(f"{name} has shape {list(value.shape)} where {list(wanted.shape)} is expected.")
        errors[name] = float((value - wanted).abs().max() / wanted.abs().max())
    return errors


PUBLISHED: dict[str, Callable[[], nn.Module]] = {
    "F": AppearanceExtractor, "M": MotionExtractor, "W": WarpingModule, "G": Generator}


class FullSize:
    """The networks of ``parity_full`` with weights by recipe, each drawn once.

    Args:
        kinds: makes a network by its letter; at their published sizes unless given.
    """

    def __init__(self, kinds: Mapping[str, Callable[[], nn.Module]] = PUBLISHED) -> None:
        self.kinds = dict(kinds)
        self.weights: dict[str, dict[str, Tensor]] = {}

    def build(self, tag: str, device="cpu", way: str = "plain") -> nn.Module:
        """The network called F, M, W or G."""
        with torch.device("meta"):  # it is told its weights anyway
            network = self.kinds[tag]()
        if tag not in self.weights:
            self.weights[tag] = recipe(tag, network)
        network.load_state_dict({key: value.clone() for key, value in self.weights[tag].items()}, strict=True,
                                assign=True)
        return laid_out(network.eval().requires_grad_(False).to(device), way)

    @staticmethod
    def stitching(device="cpu") -> Stitching:
        network = Stitching()
        return ready(network, {f"{name}.{key}": value for name in ("stitching", "eye", "lip")
                               for key, value in recipe(f"S_{name}", getattr(network, name)).items()}, device)


def drawn(name: str, shape) -> Tensor:
    """Gaussians by the recipe of the file's isolated inputs."""
    state = np.random.RandomState(zlib.crc32(f"full/{name}".encode()))
    return torch.from_numpy(state.standard_normal(tuple(shape)).astype(np.float32))


def source_picture(tensors: Mapping[str, Tensor], name: str, device="cpu") -> Tensor:
    """[1, 3, H, W] 0..1."""
    return tensors[f"in.{name}_u8"][None].to(device).float() / 255


@torch.no_grad()
def chain(networks: FullSize, tensors: Mapping[str, Tensor], device="cpu", way: str = "fused") -> Results:
    """From two pictures to a picture, with everything on the way; W and G laid out as ``way`` says."""
    found: Results = {}
    extractor, points = networks.build("M", device), {}
    for name in ("source", "driving"):
        image = source_picture(tensors, name, device)
        motion = extractor.motion(image)
        found |= {f"M.{name}.raw.{key}": value for key, value in extractor(image).items()}
        found |= {f"M.{name}.{key}": motion["rotation"][:, axis:axis + 1]
                  for axis, key in enumerate(("pitch", "yaw", "roll"))}
        found |= {f"M.{name}.{key}": motion[key] for key in ("kp", "exp", "t", "scale")}
        points[name] = transform_keypoints(motion["kp"], motion["rotation"], motion["exp"], motion["scale"],
                                           motion["t"])
    kp_source, kp_driving = points["source"], points["source"] + 0.5 * (points["driving"] - points["source"])
    found |= {"kp_source": kp_source, "kp_driving_raw": points["driving"], "kp_driving": kp_driving,
              "kp_driving_stitched": networks.stitching(device).stitch(kp_source, kp_driving)}
    volume = networks.build("F", device)(source_picture(tensors, "source", device))
    network = networks.build("W", device, way)
    warped = network(network.source(volume, kp_source), kp_driving)
    found |= {"F.f_s": volume} | {f"W.{key}": warped[key] for key in ("occlusion_map", "deformation", "out")}
    drawing = networks.build("G", device, "channels last" if way == "stacked planes" else way)
    return found | {"G.image": drawing(warped["out"])}


@torch.no_grad()
def chain_in_half(networks: FullSize, tensors: Mapping[str, Tensor], device="cpu",
                  dtype: torch.dtype = torch.float16) -> Tensor:
    """The chain's picture with W and G as graphics cards run them and all else in float32, from the file's
    keypoints."""
    volume = networks.build("F", device)(source_picture(tensors, "source", device))
    network, drawing = networks.build("W", device, "stacked planes"), networks.build("G", device, "channels last")
    source = network.to(dtype).source(volume.to(dtype), tensors["out.kp_source"].to(device))
    warped = network(source, tensors["out.kp_driving"].to(device))
    if warped["deformation"].dtype != torch.float32:
        raise ValueError("The deformation must stay float32.")
    return drawing.to(dtype)(warped["out"])


@torch.no_grad()
def warping_alone(networks: FullSize, tensors: Mapping[str, Tensor], metadata: dict, device="cpu",
                  way: str = "plain") -> Results:
    network = networks.build("W", device, way)
    shape = metadata["stats"]["isoW.deformation"]["shape"][:-1]
    volume = drawn("iso.feature_3d", [1, network.config.reshape_channel, *shape[1:]]).to(device)
    found = network(network.source(volume, tensors["iso.kp_source"].to(device)), tensors["iso.kp_driving"].to(device))
    return {f"isoW.{key}": found[key] for key in ("occlusion_map", "deformation", "out")}


@torch.no_grad()
def generator_alone(networks: FullSize, metadata: dict, device="cpu", way: str = "plain",
                    dtype: torch.dtype = torch.float32) -> Results:
    network = networks.build("G", device, way)
    shrunk = 4 * network.config.upscale
    height, width = metadata["stats"]["isoG.image"]["shape"][2:]
    feature = drawn("iso.feature", [1, network.config.in_channels, height // shrunk, width // shrunk])
    return {"isoG.image": network.to(dtype)(feature.to(device, dtype))}


def allowed(name: str) -> float:
    """Largest absolute difference that the file's description grants an array of :func:`chain` and the two alone."""
    if name in ("G.image", "isoG.image"):
        return IMAGE if name == "G.image" else ISOLATED_IMAGE
    if name.split(".")[0] in ("W", "isoW"):
        return WARPED
    return ANGLES if name.startswith("M.") and name.split(".")[-1] in ("pitch", "yaw", "roll") \
        and ".raw." not in name else KEYPOINTS


def difference(tensors: Mapping[str, Tensor], metadata: dict, name: str, found: Tensor) -> Tensor:
    """Absolute differences from the stored array, or from every n-th number of it where not all are stored."""
    found = found.detach().float().cpu()
    if f"out.{name}" in tensors:
        wanted = tensors[f"out.{name}"]
    else:
        wanted, stat = tensors[f"sub.{name}"], metadata["stats"][name]
        if list(found.shape) != stat["shape"]:
            raise ValueError(f"{name} has shape {list(found.shape)} where {stat['shape']} is expected.")
        found = found.flatten()[::stat["stride"]]
    if found.shape != wanted.shape:
        raise ValueError(f"{name} has shape {list(found.shape)} where {list(wanted.shape)} is expected.")
    return (found - wanted).abs()
