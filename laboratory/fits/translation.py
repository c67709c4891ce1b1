"""Carries a motion model over from one latent bridge to another.

    python -m laboratory.fits.translation --old BRIDGE --model MOTION [--new BRIDGE] [--emotions]
                                          [--livelier] [--blinks RATE] [--out FILE]

A motion model learns latents that were read off real faces by the bridge of its day. When the bridge is fitted anew,
the same latents draw another face; what must stay is the face. So each latent becomes the most probable one under the
new bridge of the landmarks that the old bridge drew of it. That is one matrix of 63 x 63, and since the network
works on linear axes of the expression, it goes into the checkpoint's axes: no weight of the network changes, and the
model draws the same motion to the accuracy of the new bridge's inverse (printed).

``--emotions`` sets the emotions' mean expressions to the bundled ones, which are given in the new bridge's latents,
with the lips held together as stage 2 learns them.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from playmate_core.face.bridge import LATENTS, LatentBridge

from .. import ROOT
from ..corpus.emotions import means
from ..corpus.latents import BROWS, EYES, GAPS, Measures

BUNDLED = ROOT / "playmate_core" / "weights" / "bundled"
TRUST = 30.0
"""How much more than tracked landmarks drawn ones are trusted."""
_log = logging.getLogger("translation")


def translation(old: LatentBridge, new: LatentBridge) -> Tensor:
    """[63, 63] float64: ``latents @ it`` draws under ``new`` what ``latents`` draw under ``old``."""
    drawn = old.displacement(torch.eye(LATENTS))
    # Drawn faces are free of a tracker's noise, so the prior need not shrink them.
    return new.expression(drawn, torch.full((drawn.shape[1],), TRUST)).flatten(1).double()


def translated(tensors: dict[str, Tensor], old: LatentBridge, new: LatentBridge) -> dict[str, Tensor]:
    """A checkpoint's tensors for the new bridge."""
    matrix = translation(old, new)
    out = dict(tensors)
    axes = tensors["statistics.axes"].double() @ matrix
    out["statistics.axes"] = axes.float().contiguous()
    out["statistics.mean"] = (tensors["statistics.mean"].double() @ matrix).float().contiguous()
    # Reading latents back into axes: least squares in the measure of what the latents draw.
    seen = new.displacement(axes.float()).flatten(1).double()
    per_latent = new.displacement(torch.eye(LATENTS)).flatten(1).double()
    out["statistics.inverse"] = (per_latent @ torch.linalg.pinv(seen)).float().contiguous()
    if "emotion.means" in tensors:
        out["emotion.means"] = (tensors["emotion.means"].double() @ matrix).float().contiguous()
    if "articulation.readout" in tensors:
        measures, moved = Measures(new, new.covariance), ("gap", "width")
        out["articulation.readout"] = measures.read(torch.eye(LATENTS), *moved).contiguous()
        out["articulation.direction"] = measures.direction(moved, (*EYES, *BROWS), 1e-6).contiguous()
    return out


LIVELIER = {"gap": 0.95, "brow-right": 1.7, "brow-left": 1.7, "lower-lids": 1.9}
"""Factors on what the model moves, by which its faces come within the quartiles of real speakers (the measure is
``laboratory.measures.liveliness``; a teacher's regression shrinks brows and lids, and learned labels stay shrunk)."""
HEADS = 1.06
"""The same for heads."""


def livelier(tensors: dict[str, Tensor], bridge: LatentBridge) -> dict[str, Tensor]:
    """A checkpoint's tensors with the amplitudes of ``LIVELIER`` and ``HEADS``: linear on the axes, as the mouth and
    the lids that are not named keep still."""
    measures, out = Measures(bridge, bridge.covariance), dict(tensors)
    axes, others = tensors["statistics.axes"], ("gap", "gap-right", "gap-left", "width", *EYES, *BROWS)
    for name, factor in LIVELIER.items():
        family = GAPS if name in GAPS else (name,)
        hold = [other for other in others if other not in family]
        axes = axes + (factor - 1.0) * measures.read(axes, *family) @ measures.direction(family, hold)
    out["statistics.axes"] = axes.contiguous()
    seen = bridge.displacement(axes).flatten(1).double()
    per_latent = bridge.displacement(torch.eye(LATENTS)).flatten(1).double()
    out["statistics.inverse"] = (per_latent @ torch.linalg.pinv(seen)).float().contiguous()
    out["statistics.pose_deviation"] = HEADS * tensors["statistics.pose_deviation"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--old", type=Path, required=True, help="the bridge whose latents the model has learned")
    parser.add_argument("--new", type=Path, default=BUNDLED / "bridge.safetensors")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--emotions", action="store_true", help="take the bundled emotions' mean expressions")
    parser.add_argument("--livelier", action="store_true", help="give brows, lids and heads real speakers' amplitudes")
    parser.add_argument("--blinks", type=float, help="plan this many blinks a minute beside the model's own")
    parser.add_argument("--out", type=Path, default=BUNDLED / "motion.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    old, new = LatentBridge.load(arguments.old), LatentBridge.load(arguments.new)
    with safe_open(str(arguments.model), "pt") as file:
        metadata = file.metadata()
    tensors = load_file(str(arguments.model))
    out = translated(tensors, old, new)
    before, after = (bridge.displacement(values["statistics.axes"]).flatten(1)
                     for bridge, values in ((old, tensors), (new, out)))
    _log.info("axes drawn as before: R2 %.4f", 1 - float((after - before).square().sum() / before.square().sum()))
    if arguments.emotions:
        out["emotion.means"] = means(Measures(new, new.covariance)).float().contiguous()

    if arguments.livelier:
        out = livelier(out, new)
    if arguments.blinks is not None:
        metadata["sampling"] = json.dumps({**json.loads(metadata["sampling"]), "blinks": arguments.blinks})

    part = arguments.out.with_suffix(".part")
    save_file(out, str(part), metadata)
    part.chmod(0o644)
    part.replace(arguments.out)


__all__ = ["translated", "translation"]

if __name__ == "__main__":
    main()
