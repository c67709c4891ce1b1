"""Fits the regression that stands beside a motion model (``diffusion.articulation``) and puts it into its checkpoint.

    python -m laboratory.fits.articulation --corpus corpus --model run/motion_stage1.safetensors \\
        --out stage1.safetensors

Ridge regressions from seven frames of speech features to the lip gap and the lip width of the corpus' real clips of
the split "train", each about its own mean and brought to a common amplitude: a voice does not tell how wide its speaker
opens the mouth (on speakers left out in four groups that raises r from 0.66 to 0.68; less or more ridge lowers it). A
regression shrinks towards the mean; it gets the clips' deviation back, and the mean that the model itself has. Prints
what both reach, alone and together, on the split "heldout".
"""

from __future__ import annotations

import argparse
import logging

import torch
from torch import Tensor

from playmate_core.diffusion.articulation import REACH, Articulation
from playmate_core.diffusion.checkpoint import load_checkpoint, save_checkpoint
from playmate_core.diffusion.model import PlaymateMotionModel
from playmate_core.face.bridge import LatentBridge

from ..corpus.latents import BROWS, EYES, Measures
from ..training.dataset import Clip, load_corpus
from ..training.validation import correlation, features_of

RIDGE = 3.0
MOST_GAIN = 2.2
_log = logging.getLogger("fit_articulation")


def stacked(features: Tensor) -> Tensor:
    """[T, C] -> [T, 7 C]."""
    padded = torch.cat([features[:1].expand(REACH, -1), features, features[-1:].expand(REACH, -1)])
    return torch.cat([padded[i:i + len(features)] for i in range(2 * REACH + 1)], 1)


def fit_one(clips: list[Clip], measures: Measures, name: str) -> tuple[Tensor, Tensor]:
    """Weight [7, C] and bias [1] for one measure of the lips."""
    width = 7 * clips[0].tensors["features"].shape[1]
    wanted = [measures.read(clip.tensors["expression"], name)[:, 0] for clip in clips]
    usual = float(torch.stack([one.std() for one in wanted]).median())
    inner, outer, power = torch.zeros(width, width), torch.zeros(width), 0.0
    said_power, count, mean = 0.0, 0, torch.zeros(width)
    for clip, one in zip(clips, wanted, strict=True):
        x = stacked(clip.tensors["features"].float())
        mean += x.sum(0)
        x = x - x.mean(0)
        inner.addmm_(x.T, x)
        outer += x.T @ (one - one.mean()) * (usual / one.std().clamp(min=1e-4))
        power += float(x.square().sum()) / width
        count += len(x)
    ridge = RIDGE * power * torch.eye(width, dtype=torch.float64)
    weight = torch.linalg.solve(inner.double() + ridge, outer.double()).float()
    mean /= count
    for clip in clips:
        x = stacked(clip.tensors["features"].float())
        said_power += float(((x - x.mean(0)) @ weight).square().sum())
    gain = min(usual / (said_power / count) ** 0.5, MOST_GAIN)
    level = float(torch.cat(wanted).mean())
    _log.info("%s: gain against shrinkage %.2f, mean %.3f", name, gain, level)
    weight = gain * weight
    return weight.reshape(7, -1), torch.tensor([level - float(mean @ weight)])


def fit(clips: list[Clip], measures: Measures, share: float, width_share: float, width_gain: float) -> Articulation:
    """Fit on clips."""
    weight, bias = fit_one(clips, measures, "gap")
    width_weight, width_bias = fit_one(clips, measures, "width")
    moved = ("gap", "width")
    readout = torch.stack([measures._rows[name] for name in moved], 1).float()
    return Articulation(weight, bias, readout, measures.direction(moved, (*EYES, *BROWS), 1e-6),
                        torch.tensor([share]), torch.tensor([width_gain]), width_weight, width_bias,
                        torch.tensor([width_share]))


def report(label: str, rows: list[tuple[float, ...]]) -> None:
    mean = torch.tensor(rows).mean(0).tolist()
    _log.info("%-24s gap r %.3f, width r %.3f, gap spread %.2f, width spread %.2f of the speakers'", label, *mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--share", type=float, default=0.6)
    parser.add_argument("--width-share", type=float, default=0.3)
    parser.add_argument("--width-gain", type=float, default=1.5)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(0)
    clips = [clip for clip in load_corpus(args.corpus) if clip.info.get("source") == "real"]
    learned = [clip for clip in clips if clip.split == "train"]
    held_out = [clip for clip in clips if clip.split == "heldout" and clip.info.get("variant") == 0]
    bridge = LatentBridge.load()
    measures = Measures(bridge, bridge.covariance)
    denoiser, statistics, extra = load_checkpoint(args.model)
    plain = PlaymateMotionModel(denoiser, statistics, extra["sampling"])
    fitted = fit(learned, measures, args.share, args.width_share, args.width_gain)
    # A regression knows speakers' means; the model knows its own, and the two must not pull at each other.
    shift, count = torch.zeros(2), 0
    for clip in learned[::23]:
        own = measures.read(plain.sample(features_of(clip, plain.encoder)).expression.flatten(1), "gap", "width")
        there = own[:, 0] > 0.03
        shift += (own - fitted.expected(clip.tensors["features"].float()))[there].sum(0)
        count += int(there.sum())
    shift /= max(count, 1)
    fitted.bias.add_(shift[0])
    fitted.width_bias.add_(shift[1])
    _log.info("biases moved by %.4f and %.4f", *shift.tolist())
    rows: dict[str, list] = {"regression": [], "model": [], "both": []}
    for clip in held_out:
        real = measures.read(clip.tensors["expression"], "gap", "width")
        features = clip.tensors["features"].float()
        own = plain.sample(features_of(clip, plain.encoder), clip.tensors["identity"]).expression.flatten(1)
        expected = fitted.expected(features)
        for label, drawn in (("regression", expected),
                             ("model", measures.read(own, "gap", "width")),
                             ("both", measures.read(fitted(own, expected), "gap", "width"))):
            rows[label].append((correlation(drawn[:, 0], real[:, 0]), correlation(drawn[:, 1], real[:, 1]),
                                float(drawn[:, 0].std() / real[:, 0].std()),
                                float(drawn[:, 1].std() / real[:, 1].std())))
    for label, values in rows.items():
        report(label, values)
    save_checkpoint(args.out, denoiser, statistics, extra["sampling"], extra["reached"], extra.get("controller"),
                    extra.get("emotion_means"), fitted)


if __name__ == "__main__":
    main()
