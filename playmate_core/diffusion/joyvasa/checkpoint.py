"""JoyVASA checkpoints: the published .pt with its motion template, and the same as one safetensors file.

The .pt holds ``args``, ``model`` and ``iter`` (SPEC.md section 1); the statistics lie in a second file,
``motion_template.pkl``, which is looked for beside it and where the hub keeps it. The safetensors form holds everything
under the published names, the template as ``template.*``, and the sizes as JSON in its metadata.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Mapping

import torch
from torch import Tensor

from ...runtime.errors import PlaymateError
from ...weights.tensors import list_tensors, load_safetensors, load_weights
from ...weights.unpickle import read_arrays
from ...weights.unreadable import Unreadable
from .config import JoyVasaConfig
from .network import MotionGenerator
from .statistics import MotionTemplate

FORMAT = "joyvasa-motion"
AUDIO = "audio_encoder."
MARK = "denoising_net."
DERIVED = ("denoising_net.TE.pe", "denoising_net.PE.pe", "denoising_net.alignment_mask", "diffusion_sched.")
"""Tables that are worked out anew (manifest.json, ``optional_or_derived``)."""
FROM_ARGS = ("motion_feat_dim", "n_motions", "n_prev_motions", "feature_dim", "n_diff_steps")
TEMPLATE = "motion_template"
LARGEST_TEMPLATE = 16 << 20
HUBERT = dict(conv_stride=[5, 2, 2, 2, 2, 2, 2], feat_extract_norm="group", do_stable_layer_norm=False,
              feat_proj_layer_norm=True)
"""What the shapes of a HuBERT base do not tell (SPEC.md 6.2)."""


@dataclass
class Checkpoint:
    """A file's parts.

    Attributes:
        generator: float32, evaluating, on the CPU.
        template: statistics.
        audio_config: settings of the HuBERT.
        audio: its tensors by their names inside ``audio_encoder.``.
    """

    generator: MotionGenerator
    template: MotionTemplate
    audio_config: dict
    audio: dict[str, Tensor]


def is_joyvasa(path: str | os.PathLike) -> bool:
    """Whether a file is meant for this module: torch's .pt or .pth, or a safetensors file with JoyVASA's names."""
    path = Path(path)
    if path.suffix.lower() in (".pt", ".pth"):
        return True
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    try:
        return any(key.startswith(MARK) for key in list_tensors(path))
    except Unreadable:
        return False


def load_joyvasa(path: str | os.PathLike, positions: str | None = None) -> Checkpoint:
    """Reads a checkpoint in either form.

    Args:
        path: .pt, .pth or .safetensors.
        positions: one of ``config.POSITIONS``; None takes what the file says, else ``legacy_constant``, with which
            the published weights were trained.

    Raises:
        PlaymateError: a file that is missing, damaged, hostile, of another model, or without its motion template.
    """
    path = Path(path)
    if not path.is_file():
        raise PlaymateError(f"There is no motion model at {path}; give the path of a JoyVASA checkpoint.")
    args, tensors, template, audio_config = _parts(path)
    config = _config(path.name, args, tensors, audio_config, positions)
    audio = {k[len(AUDIO):]: v for k, v in tensors.items() if k.startswith(AUDIO)}
    generator = _generator(path.name, config, {k: v for k, v in tensors.items() if not k.startswith(AUDIO)})
    return Checkpoint(generator, template or find_template(path), audio_config or _hubert(path.name, audio), audio)


def save_joyvasa(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Writes everything as one safetensors file that ``load_joyvasa`` reads: no pickle is needed from then on."""
    from safetensors.torch import save_file

    tensors = dict(checkpoint.generator.state_dict())
    tensors |= {AUDIO + k: v for k, v in checkpoint.audio.items()}
    tensors |= {f"template.{k}": v for k, v in checkpoint.template.arrays().items()}
    metadata = dict(format=FORMAT, config=json.dumps(asdict(checkpoint.generator.config)),
                    audio_config=json.dumps(checkpoint.audio_config))
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, temporary, metadata)
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def find_template(path: Path) -> MotionTemplate:
    """The statistics that belong to the checkpoint at ``path``.

    Raises:
        PlaymateError: they are nowhere near, or no such file.
    """
    place = template_place(path)
    if place is not None:
        return read_template(place)
    raise PlaymateError(f"JoyVASA's motion template is missing: put {TEMPLATE}.pkl from the same repository into "
                        f"{path.parent}, beside {path.name}.")


def template_place(path: Path) -> Path | None:
    """The file of statistics that belongs to the checkpoint at ``path``, if it is there."""
    folders = (path.parent, path.parent / TEMPLATE, path.parent.parent / TEMPLATE)
    places = (folder / f"{TEMPLATE}{suffix}" for folder in folders for suffix in (".safetensors", ".pkl"))
    return next((place for place in places if place.is_file()), None)


def read_template(path: Path) -> MotionTemplate:
    """Statistics from motion_template.pkl (arrays alone are admitted) or a safetensors file of the same names."""
    try:
        if path.stat().st_size > LARGEST_TEMPLATE:
            raise Unreadable("is far larger than a motion template")
        arrays = load_safetensors(path)[0] if path.suffix == ".safetensors" else read_arrays(path.read_bytes())
        if not isinstance(arrays, dict):
            raise Unreadable("holds no dictionary of arrays")
    except Unreadable as error:
        raise PlaymateError(f"{path.name} was not loaded, because it {error}; download it again.") from None
    return MotionTemplate.from_arrays(arrays, path.name)


def _parts(path: Path) -> tuple[dict, dict[str, Tensor], MotionTemplate | None, dict | None]:
    """(args, tensors, template, audio config) of either form; the last two where the file holds them."""
    try:
        if path.suffix.lower() == ".safetensors":
            tensors, metadata = load_safetensors(path)
        else:
            content = load_weights(path)
    except Unreadable as error:
        raise PlaymateError(f"{path.name} was not loaded, because it {error}; download it again from where it is "
                            "published.") from None
    if path.suffix.lower() != ".safetensors":
        args, model = (content.get(k) for k in ("args", "model")) if isinstance(content, dict) else (None, None)
        if not isinstance(model, dict) or not isinstance(args, dict) \
                or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in model.items()) \
                or not any(k.startswith(MARK) for k in model):
            raise PlaymateError(f"{path.name} is no JoyVASA motion generator; choose the file from JoyVASA's "
                                "motion_generator folder, or a Playmate motion model (.safetensors).")
        return args, model, None, None
    try:
        own = metadata.get("format") == FORMAT
        args, audio = (json.loads(metadata[k]) if own else None for k in ("config", "audio_config"))
    except (ValueError, KeyError):
        raise PlaymateError(f"{path.name} lacks its sizes, or they are damaged; convert it again.") from None
    statistics = {k[len("template."):]: tensors.pop(k) for k in list(tensors) if k.startswith("template.")}
    template = MotionTemplate.from_arrays(statistics, path.name) if statistics else None
    return args if isinstance(args, dict) else {}, tensors, template, audio if isinstance(audio, dict) else None


def _config(name: str, args: Mapping[str, Any], tensors: Mapping[str, Tensor], audio_config: Mapping | None,
            positions: str | None) -> JoyVasaConfig:
    """Sizes from ``args``; what they leave out (a conversion without them) from the tensors' shapes."""
    if args.get("audio_model") not in (None, "hubert", "hubert_zh", "hubert_zh_ori"):
        raise PlaymateError(f"{name} listens through {str(args['audio_model'])[:40]!r}; only HuBERT checkpoints of "
                            "JoyVASA can be read.")
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    try:
        _, carried, motion = shapes["start_motion_feat"]
        width, hidden = shapes["audio_feature_map.weight"]
        layers = len({k.split(".")[3] for k in shapes if k.startswith(f"{MARK}transformer.layers.")})
        ratio = shapes[f"{MARK}transformer.layers.0.linear1.weight"][0] // width
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        raise PlaymateError(f"{name} lacks tensors of a JoyVASA motion generator; download it again.") from None
    window = args.get("n_motions", 100)
    mask = shapes.get(f"{MARK}alignment_mask", (carried + window if isinstance(window, int) else 0,))[0]
    read = dict(motion_feat_dim=motion, n_motions=mask - carried, n_prev_motions=carried, feature_dim=width,
                n_diff_steps=shapes.get("diffusion_sched.betas", (51,))[0] - 1)
    # The layers of ``args`` are not those of the network (SPEC.md section 0).
    read |= {key: args[key] for key in FROM_ARGS if key in args}
    read |= dict(n_layers=layers, mlp_ratio=ratio, features_dim=hidden)
    if audio_config is not None:  # our own form: every field was written
        read |= {f.name: args[f.name] for f in fields(JoyVasaConfig) if f.name in args}
    if positions is not None:
        read["positions"] = positions
    config = JoyVasaConfig(**read)
    # Before a network of any size that a file may claim is built.
    told = (config.n_prev_motions, config.motion_feat_dim, config.feature_dim, config.features_dim, config.length,
            config.n_layers, config.mlp_ratio)
    if told != (carried, motion, width, hidden, mask, layers, ratio):
        raise PlaymateError(f"{name}: the sizes in its args are not those of its tensors; download it again.")
    return config


def _generator(name: str, config: JoyVasaConfig, tensors: Mapping[str, Tensor]) -> MotionGenerator:
    generator = MotionGenerator(config)
    wanted = generator.state_dict()
    found = {k: v for k, v in tensors.items() if not k.startswith(DERIVED)}
    for key, value in wanted.items():
        if key not in found:
            raise PlaymateError(f"{name} lacks {key}; download it again.")
        if found[key].shape != value.shape:
            raise PlaymateError(f"{name}: {key} has shape {tuple(found[key].shape)} where its args say "
                                f"{tuple(value.shape)}; download it again.")
        if not bool(torch.isfinite(found[key]).all()):
            raise PlaymateError(f"{name}: {key} holds numbers that are not finite; download it again.")
    extra = sorted(set(found) - set(wanted))
    if extra:
        raise PlaymateError(f"{name} holds {extra[0]}, which belongs to no JoyVASA motion generator.")
    generator.load_state_dict({k: v.float() for k, v in found.items()})
    return generator.eval().requires_grad_(False)


def _hubert(name: str, audio: Mapping[str, Tensor]) -> dict:
    """Settings of the HuBERT whose tensors these are; heads are 64 wide in every HuBERT."""
    try:
        shapes = {k: tuple(v.shape) for k, v in audio.items()}
        count = 1 + max(int(k.split(".")[2]) for k in shapes if k.startswith("feature_extractor.conv_layers."))
        convs = [shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] for i in range(count)]
        layers = 1 + max(int(k.split(".")[2]) for k in shapes if k.startswith("encoder.layers."))
        inner, width = shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"]
        place = next(v for k, v in shapes.items() if k.endswith(("conv.weight_v", "weight.original1")))
        return dict(HUBERT, conv_dim=[c[0] for c in convs], conv_kernel=[c[2] for c in convs],
                    num_feat_extract_layers=count, hidden_size=width, intermediate_size=inner,
                    num_hidden_layers=layers, num_attention_heads=max(width // 64, 1),
                    conv_bias="feature_extractor.conv_layers.0.conv.bias" in shapes,
                    num_conv_pos_embeddings=place[2], num_conv_pos_embedding_groups=width // place[1])
    except (KeyError, ValueError, IndexError, ZeroDivisionError, StopIteration):
        raise PlaymateError(f"{name} lacks the tensors of its speech encoder (HuBERT); download it again.") from None
