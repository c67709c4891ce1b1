"""JoyVASA's motion generator on the inputs of the reference's files, on any device: {name in the file: result}.

Errors are those of ``tests/test_joyvasa_parity.py``: the norm of the difference over the norm of what is expected.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from playmate_core.diffusion.joyvasa import network, sampler
from playmate_core.diffusion.joyvasa.config import JoyVasaConfig
from playmate_core.diffusion.joyvasa.statistics import AveragedPose, MotionTemplate
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.speech import joyvasa as speech

BOUND = 1e-4
POSITIONS = ("per_frame", "legacy_constant")
POSE = ("scale", "t", "pitch", "yaw", "roll")
UNREACHED = ("dynamic_threshold", "flexibility")
"""Knobs of the published sampling that nobody can reach here; the file's cases with them are left out."""

Results = dict[str, Tensor]


def generator(tensors: Mapping[str, Tensor], device="cpu", **changes) -> network.MotionGenerator:
    made = network.MotionGenerator(JoyVasaConfig(n_motions=12, n_prev_motions=4, feature_dim=32, **changes))
    derived = ("denoising_net.TE.", "denoising_net.PE.", "denoising_net.alignment_mask", "diffusion_sched.")
    made.load_state_dict({key[3:]: value for key, value in tensors.items()
                          if key.startswith("sd.") and not key[3:].startswith(derived)})
    return made.eval().requires_grad_(False).to(device)


def template_of(tensors: Mapping[str, Tensor], device="cpu") -> MotionTemplate:
    prefix = "in.template."
    return MotionTemplate.from_arrays({key[len(prefix):]: value for key, value in tensors.items()
                                       if key.startswith(prefix)}).to(device)


@torch.no_grad()
def denoiser(tensors: Mapping[str, Tensor], spec: dict, device="cpu") -> Results:
    """One evaluation of three steps and a guided pair, in both ways of telling positions."""
    given = {key: value.to(device) for key, value in tensors.items() if key.startswith("in.")}
    found: Results = {}
    for positions in POSITIONS:
        net = generator(tensors, device, positions=positions)
        motion = torch.cat((given["in.prev_motion_feat"], given["in.motion_feat"]), 1)
        memory = torch.cat((given["in.prev_audio_feat"], given["in.audio_feat"]), 1)
        found[f"out.{positions}.target"] = net.denoising_net(motion, memory, given["in.step"])
        guided = sampler.guided_generator(net, given["in.audio_feat"][0], net.start_motion_feat[0],
                                          net.start_audio_feat[0], spec["cfg"]["scale"])
        found[f"out.{positions}.cfg_guided_2p8"] = guided(given["in.motion_feat"][0], spec["cfg"]["step"])[None]
    return found


@torch.no_grad()
def sampling(tensors: Mapping[str, Tensor], spec: dict, device="cpu") -> Results:
    """Fifty published steps in every setting of the file."""
    given = {key: value.to(device) for key, value in tensors.items() if key.startswith("in.")}
    found: Results = {}
    for case, told in spec["cases"].items():
        if any(told.get(knob) for knob in UNREACHED):
            continue
        net = generator(tensors, device, positions=told["pe"], target="noise" if "target" in told else "sample")
        carried = "prev_motion_feat" in told
        motion, audio = (given["in.prev_motion_feat"], given["in.prev_audio_feat"]) if carried else (
            net.start_motion_feat, net.start_audio_feat)
        how = sampler.Sampling(guidance=told.get("cfg_scale"))
        found[f"out.{case}.x0"] = sampler.sample_window(
            net, given["in.audio_feat"][0], motion[0], audio[0], given["in.x_T"][0],
            lambda draw: given["in.z"][draw, 0], how)[None]
    return found


@torch.no_grad()
def clips(tensors: Mapping[str, Tensor], spec: dict, device="cpu") -> Results:
    """Whole clips, window after window, with the head's pose as generated and smoothed."""
    found: Results = {}
    template = template_of(tensors, device)
    for clip, told in spec["cases"].items():
        source = told["inputs_from"]
        sound = tensors[f"in.{source}.audio"].to(device)
        plan = speech.plan_windows(len(sound), 12)
        frames = speech.cut_windows(sound, plan).reshape(plan.windows, 12, 640)
        rows = torch.tanh(4 * frames @ tensors["in.stub_audio_w"].to(device))
        noise = tensors[f"in.{source}.z"].to(device)
        latent = torch.cat(list(sampler.sample_windows(
            generator(tensors, device, positions=told["pe"]), rows, tensors[f"in.{source}.x_T"][0].to(device),
            lambda window, noise=noise: lambda draw: noise[window, draw, 0], sampler.Sampling())))
        latent = latent[:len(latent) - plan.padding]
        found[f"out.{clip}.latent"] = latent
        found[f"out.{clip}.raw.exp"] = template.expression(latent)
        raw, smooth = template.pose(latent), AveragedPose()
        smoothed = torch.cat([smooth(part) for part in raw.split(7)])
        for name, pose in (("raw", raw), ("smoothed", smoothed)):
            found |= _pose(f"out.{clip}.{name}", pose)
    return found


@torch.no_grad()
def motion(tensors: Mapping[str, Tensor], spec: dict, device="cpu") -> Results:
    """What latents mean under the file's smoothings."""
    found: Results = {}
    template, latent = template_of(tensors, device), tensors["in.latent"].to(device)
    for name, smooth in (("raw", lambda pose: pose), ("ema", AveragedPose())):
        found[f"out.{name}.exp"] = template.expression(latent)
        found |= _pose(f"out.{name}", torch.cat([smooth(part) for part in template.pose(latent).split(7)]))
    return found


@torch.no_grad()
def audio(tensors: Mapping[str, Tensor], spec: dict, device="cpu") -> Results:
    """The speech encoder's rows; needs transformers."""
    from playmate_core.speech.transformer_encoders import build_network

    prefix = "sd.audio_encoder."
    net = build_network("hubert", spec["hubert_config"], {key[len(prefix):]: value for key, value in tensors.items()
                                                          if key.startswith(prefix)}, "the fixture").to(device)
    sound = tensors["in.audio"].to(device)
    rows = speech.window_features(net, sound, 100)
    mapped = torch.nn.functional.linear(rows, tensors["sd.audio_feature_map.weight"].to(device),
                                        tensors["sd.audio_feature_map.bias"].to(device))
    return {"out.hidden_200": net(speech.pad_sides(sound)).last_hidden_state, "out.audio_feat_100": mapped}


def _pose(prefix: str, pose: Tensor) -> Results:
    return {f"{prefix}.R": rotation_matrix(pose[:, 4:]), f"{prefix}.pose": pose}


FILES = {"denoiser": denoiser, "sampling": sampling, "multiwindow": clips, "motion_dict": motion,
         "audio_frontend": audio}


def relative_errors(tensors: Mapping[str, Tensor], found: Results) -> dict[str, float]:
    """Norm of each array's difference over the norm of what is expected; a pose counts as one array."""
    errors = {}
    for name, value in found.items():
        stem, last = name.rsplit(".", 1)
        wanted = torch.cat([tensors[f"{stem}.{part}"] for part in POSE], 1) if last == "pose" else tensors[name]
        value, wanted = value.detach().double().cpu(), wanted.double()
        if value.shape != wanted.shape:
            raise ValueError(f"{name} has shape {list(value.shape)} where {list(wanted.shape)} is expected.")
        errors[name] = float((value - wanted).norm() / wanted.norm().clamp(min=1e-12))
    return errors
