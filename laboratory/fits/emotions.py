"""Composes the seven emotions from what facial muscles do, and writes the latents that draw them.

    python -m laboratory.fits.emotions [--arkit FILE] [--out FILE]

Each emotion is a set of action units as people show them, written with ARKit's expressions at the amounts below. The
shapes were measured on a 3D head (``laboratory.fits.arkit``); no network judges them. What the amounts must keep is
anatomy, printed for the mean face at strengths 1 and 1.5 and measured on rendered films by
``laboratory.measures.anatomy``: noses and faces keep their width, brows their thickness, lids leave the pupil free.

Which units: the prototypes that more than 70 % of 230 people show, with their frequent companions (Du, Tao, Martinez
2014, Compound facial expressions of emotion, PNAS 111 (15), table 1); contempt: the one-sided lip corner puller and
dimpler (Ekman and Friesen 1986). The amounts are ours, chosen by eye beside published renderings.

Writes ``offsets`` [8, 63] in the order of ``emotion.curve.LABELS`` (neutral is 0).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from playmate_core.emotion.curve import LABELS
from playmate_core.face import geometry as geo
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import LatentBridge

from .. import ROOT
from .bridge import lengths

BUNDLED = ROOT / "playmate_core" / "weights" / "bundled"

EXPRESSIONS: dict[str, dict[str, float]] = {
    # 12 and 6: corners up and out, cheeks and lower lids up; lips part over the upper teeth.
    "happy": {"mouthSmile": 0.85, "cheekSquint": 0.25, "eyeSquint": 0.1, "mouthUpperUp": 0.2, "mouthLowerDown": 0.2,
              "mouthDimple": 0.15},
    # 1, 15 and 17: inner brows up, corners down, chin raised; heavy lids.
    "sad": {"browInnerUp": 1.7, "browDown": 0.2, "mouthFrown": 1.6, "mouthShrugLower": 0.5, "eyeBlink": 0.14,
            "eyeSquint": 0.1, "mouthPress": 0.2},
    # 4, 7 and 24: brows down and together, lids tense, lips pressed.
    "angry": {"browDown": 1.8, "eyeSquint": 0.3, "mouthPress": 0.7, "mouthFrown": 1.1, "mouthShrugLower": 0.2},
    # 1, 2, 4, 5 and 20: brows up and straight, eyes wide, lips drawn sideways.
    "fear": {"browInnerUp": 1.3, "browOuterUp": 0.35, "browDown": 0.45, "eyeWide": 1.1, "mouthStretch": 0.8,
             "mouthFrown": 0.4, "mouthLowerDown": 0.3, "jawOpen": 0.08},
    # 1, 2, 5 and 26: brows up in an arch, eyes wide, the jaw dropped.
    "surprised": {"browInnerUp": 0.9, "browOuterUp": 1.0, "eyeWide": 0.9, "jawOpen": 0.22, "mouthFunnel": 0.15},
    # 9, 10 and 4: nose wrinkled, upper lip raised.
    "disgusted": {"noseSneer": 0.9, "browDown": 0.35, "mouthUpperUp": 0.25, "eyeSquint": 0.1, "mouthFrown": 1.1},
    # 12 and 14 on the person's left alone.
    "contempt": {"mouthSmileLeft": 0.4, "mouthDimpleLeft": 1.3, "mouthPress": 0.6, "eyeSquint": 0.15,
                 "browOuterUpLeft": 0.35, "browDownRight": 0.3, "mouthShrugLower": 0.3, "mouthFrownRight": 0.5},
}
"""ARKit's expressions and their amounts at strength 1; a name without a side stands for both."""

RATIOS: dict[str, tuple[tuple[int, int], ...]] = {
    "nose width": ((48, 278),), "face width": ((234, 454), (172, 397)), "face height": ((10, 152),),
    "brow thickness": ((105, 52), (334, 282), (66, 65), (296, 295)), "eye opening": ((159, 145), (386, 374))}
"""The lengths that anatomy is held by, between landmarks."""
_log = logging.getLogger("fit_emotions")


def weights_of(expression: dict[str, float]) -> Tensor:
    """[52] weights in ARKit's order (MediaPipe's without the neutral face, the tongue last)."""
    names = (*NAMES[1:], "tongueOut")
    weights = torch.zeros(len(names))
    for name, amount in expression.items():
        sides = [i for i, full in enumerate(names) if full in (name, f"{name}Left", f"{name}Right")]
        if not sides:
            raise SystemExit(f"{name} is none of ARKit's expressions")
        weights[sides] = amount
    return weights


def ratios(displacement: Tensor) -> dict[str, list[float]]:
    """Lengths of the mean face with ``displacement`` [478, 3], over those at rest."""
    rest = geo.mean_face()
    found = {}
    for name, pairs in RATIOS.items():
        found[name] = [round(float(((rest + displacement)[a, :2] - (rest + displacement)[b, :2]).norm()
                                   / (rest[a, :2] - rest[b, :2]).norm()), 2) for a, b in pairs]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arkit", type=Path, default=BUNDLED / "arkit.safetensors")
    parser.add_argument("--out", type=Path, default=BUNDLED / "emotions.safetensors")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bridge, latents = LatentBridge.load(), load_file(str(arguments.arkit))["latents"]
    offsets = torch.zeros(len(LABELS), latents.shape[1])
    for label, expression in EXPRESSIONS.items():
        offset = weights_of(expression) @ latents
        offsets[LABELS.index(label)] = offset
        drawn = bridge.displacement(offset)
        seen = {name: round(float(value), 3) for name, value in lengths(drawn[None]).items()}
        _log.info("%s: length %.2f; strength 1 %s, 1.5 %s; %s", label, bridge.mahalanobis(offset), ratios(drawn),
                  ratios(1.5 * drawn), seen)
    part = arguments.out.with_suffix(".part")
    save_file({"offsets": offsets}, str(part), {"labels": " ".join(LABELS)})
    part.chmod(0o644)
    part.replace(arguments.out)


if __name__ == "__main__":
    main()
