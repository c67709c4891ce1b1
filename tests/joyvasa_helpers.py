"""Small random JoyVASA checkpoints and speech encoders, written in the formats that are published."""

import argparse
import json
import pathlib
import pickle
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import torch

from playmate_core.diffusion.joyvasa.config import JoyVasaConfig
from playmate_core.diffusion.joyvasa.network import MotionGenerator, alignment_mask, sinusoids
from playmate_core.diffusion.joyvasa.schedule import tables
from playmate_core.diffusion.joyvasa.statistics import SIZES

CONFIG = JoyVasaConfig(n_motions=20, n_prev_motions=4, feature_dim=32, features_dim=64, n_layers=2)
HUBERT = dict(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=64, conv_dim=[16] * 7,
    conv_kernel=[10, 3, 3, 3, 3, 2, 2], conv_stride=[5, 2, 2, 2, 2, 2, 2], num_feat_extract_layers=7, conv_bias=False,
    feat_extract_norm="group", do_stable_layer_norm=False, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)


def audio_network(kind="hubert", seed=3, **changes):
    """A random network of transformers' own making."""
    import transformers

    make_config, make = {"hubert": (transformers.HubertConfig, transformers.HubertModel),
                         "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model)}[kind]
    torch.manual_seed(seed)
    return make(make_config(**(HUBERT | changes))).eval()


def published_tensors(config=CONFIG, seed=1):
    """A whole checkpoint's tensors as they are published: derived tables and the speech encoder among them."""
    torch.manual_seed(seed)
    tensors = OrderedDict(MotionGenerator(config).state_dict())
    tensors["denoising_net.TE.pe"] = sinusoids(501, config.feature_dim)[None]
    tensors["denoising_net.PE.pe"] = sinusoids(600, config.feature_dim)[None]
    tensors["denoising_net.alignment_mask"] = alignment_mask(config.length, 1)
    table = tables(config.n_diff_steps)
    tensors |= {f"diffusion_sched.{name}": getattr(table, name) for name in vars(table)}
    for name, value in audio_network().state_dict().items():
        old = name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v")
        tensors[f"audio_encoder.{old}"] = value
    return tensors


def template_arrays(seed=2):
    """Statistics like the real ones: a head near scale 1.2, some degrees either way."""
    random = np.random.default_rng(seed)
    arrays = {"mean_exp": random.normal(0, 0.01, 63), "std_exp": np.full(63, 0.01), "mean_R": np.zeros(9),
              "min_scale": [1.1], "max_scale": [1.4], "min_t": [-0.1, -0.1, 0.0], "max_t": [0.1, 0.1, 0.1]}
    for angle in ("pitch", "yaw", "roll"):
        arrays |= {f"min_{angle}": [-15.0], f"max_{angle}": [15.0]}
    assert set(SIZES) <= set(arrays)
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def write_checkpoint(folder, config=CONFIG, model=None, args=None, template=True):
    """The published layout: motion_generator/*.pt and motion_template/motion_template.pkl. Returns the .pt's path."""
    path = folder / "motion_generator" / "motion_generator_hubert_chinese.pt"
    path.parent.mkdir(parents=True)
    names = ("motion_feat_dim", "n_motions", "n_prev_motions", "feature_dim", "n_diff_steps")
    # Six layers and an indicator channel are what the published args say, against the network.
    told = {name: getattr(config, name) for name in names} | dict(
        audio_model="hubert_zh_ori", n_layers=6, use_indicator=True, fps=25, pad_mode="zero", lr=1e-4,
        data_root=pathlib.PosixPath("/data/talking/faces")) | (args or {})
    torch.save({"args": argparse.Namespace(**told), "model": published_tensors(config) if model is None else model,
                "iter": 20000}, path)
    if template:
        (folder / "motion_template").mkdir()
        (folder / "motion_template" / "motion_template.pkl").write_bytes(pickle.dumps(template_arrays()))
    return path


def write_encoder(folder, kind="wav2vec2", headed=True, weights="safetensors", normalise=True, seed=3, **changes):
    """A folder in transformers' format: config.json, weights, preprocessor_config.json. Returns the network."""
    network = audio_network(kind, seed, **changes)
    folder.mkdir(parents=True)
    config = json.loads(network.config.to_json_string(use_diff=False)) | {"model_type": kind}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise, "sampling_rate": 16000}))
    tensors = {(f"{kind}." if headed else "") + name: value.contiguous()
               for name, value in network.state_dict().items()}
    if headed:
        tensors |= {"lm_head.weight": torch.zeros(5, 64), "lm_head.bias": torch.zeros(5)}
    if weights == "safetensors":
        from safetensors.torch import save_file
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return network


def other(config=CONFIG, **changes):
    return replace(config, **changes)
