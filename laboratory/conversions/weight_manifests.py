"""Writes playmate_core/weights/data/manifests.json: names and shapes of the tensors in every published file.

    python -m laboratory.conversions.weight_manifests ../shared/reference

LivePortrait's and JoyVASA's come from the reference material's manifest.json; those of the speech encoders from
transformers' own networks of base size, whose state dicts are what the hub's files hold.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import ROOT

TARGET = ROOT / "playmate_core" / "weights" / "data" / "manifests.json"
NETWORKS = {"F": "appearance_feature_extractor", "M": "motion_extractor", "W": "warping_module", "G": "spade_generator"}
MLPS = {"S_stitching": "retarget_shoulder", "S_lip": "retarget_mouth", "S_eye": "retarget_eye"}
POSITIONS = "encoder.pos_conv_embed.conv."
WEIGHT_NORM = {f"{POSITIONS}parametrizations.weight.original0": f"{POSITIONS}weight_g",
               f"{POSITIONS}parametrizations.weight.original1": f"{POSITIONS}weight_v"}


def liveportrait(folder: Path) -> dict[str, dict]:
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    made = {}
    for key, name in NETWORKS.items():
        made[f"liveportrait/{name}"] = {"tensors": content[key], "dtypes": {"num_batches_tracked": "I64"},
                                        "optional": ["num_batches_tracked"], "prefixes": ["module."]}
    tensors = {f"{entry}_module.{key}": shape for part, entry in MLPS.items() for key, shape in content[part].items()}
    made["liveportrait/stitching_retargeting_module"] = {
        "tensors": tensors, "extra": True,
        # The .pth file nests its dictionaries: retarget_eye.module.mlp.0.weight.
        "aliases": {name: name.replace("_module.", ".module.") for name in tensors}}
    return made


def joyvasa(folder: Path) -> dict[str, dict]:
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    tensors = {f"model.{name}": entry["shape"] for name, entry in content["keys"].items()}
    free = content["retrained_with_script_defaults"]["changed_shapes"]
    return {
        "joyvasa/motion_generator": {
            "tensors": tensors, "extra": True, "dtypes": {"alignment_mask": "BOOL"},
            "optional": content["optional_or_derived"],
            "aliases": {f"model.{new}": f"model.{old}" for new, old in content["aliases"].items()},
            "sizes_vary": [f"model.{name}" for name in free]},
        "joyvasa/motion_template": {
            "tensors": {name: content["motion_template"]["keys"][name]
                        for name in content["motion_template"]["used_at_inference"]}, "extra": True},
    }


def encoders() -> dict[str, dict]:
    import torch
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

    made = {}
    for name, network, config in (("hubert-base", HubertModel, HubertConfig()),
                                  ("wav2vec2-base", Wav2Vec2Model, Wav2Vec2Config())):
        with torch.device("meta"):
            tensors = {key: list(value.shape) for key, value in network(config).state_dict().items()}
        made[name] = {"tensors": tensors, "extra": True, "optional": ["masked_spec_embed"], "aliases": WEIGHT_NORM,
                      "prefixes": ["wav2vec2.", "hubert."]}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="folder with liveportrait/ and joyvasa/")
    folder = parser.parse_args().reference
    made = {**liveportrait(folder / "liveportrait"), **joyvasa(folder / "joyvasa"), **encoders()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}"
                       for name, entry in made.items())
    TARGET.write_text("{\n" + lines + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
