"""Fits the latents of the seven emotions: action units -> blendshapes -> the most probable latents that show them.

    python -m laboratory.fits.emotions [PICTURE ...] [--out FILE]

The bundled fit saw the sample portrait and four pictures of the packages comfyui-workflow-templates-media-image and
-media-other: hidream_i1_dev-1, flux1_krea_dev-1, 2_pass_pose_worship-1 and flux_fill_inpaint_example-1, each scaled to
at most 900 pixels.

For every emotion the action units that actors show (below, with sources) are written as target scores of MediaPipe's
52 blendshapes. The latents are found by descending through the latent bridge and the blendshape network, both
differentiable, on the mean face and on the pictures' faces, under the covariance of LivePortrait's templates, so that
they stay where real latents lie. What a tracker sees again of a drawn movement is less than what was drawn (SEEN); the
latents make up for it, because the targets are what a viewer should see.

Everything is deterministic. Writes ``offsets`` [8, 63] in the order of ``emotion.curve.LABELS`` (neutral is 0).
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.emotion.curve import LABELS
from playmate_core.face.analyzer import FaceAnalyzer
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import LatentBridge, mirror_expression
from playmate_core.face.geometry import mean_face, to_head_frame
from playmate_core.media.pictures import check_image, read_image

from .. import ROOT
from ..corpus.latents import EYES, Measures

COMPOSITION: dict[str, dict[str, float]] = {
    "happy": {"6": 0.9, "12": 0.95, "25": 0.4},
    "sad": {"1": 0.6, "4": 0.3, "15": 1.0, "17": 0.9, "43": 0.8, "64": 0.5},
    "angry": {"4": 0.85, "7": 0.5, "10": 0.1, "17": 0.4, "23": 0.5, "24": 0.6},
    "fear": {"1": 0.9, "2": 0.35, "4": 0.3, "5": 0.9, "20": 0.9, "25": 0.5},
    "surprised": {"1": 0.95, "2": 0.95, "5": 0.7, "26": 0.5},
    "disgusted": {"4": 0.5, "7": 0.5, "9": 1.0, "10": 0.9, "15": 0.4, "17": 0.3},
    "contempt": {"L12": 0.7, "L14": 1.0, "L24": 0.6, "7": 0.3, "L2": 0.3},
}
"""Action units of each emotion with our strengths (0 to 1). Which units: the prototypes that more than 70 % of 230
people show, with their frequent companions (Du, Tao, Martinez 2014, Compound facial expressions of emotion, PNAS 111
(15), table 1); contempt: the one-sided lip corner puller and dimpler (Ekman and Friesen 1986). L is the person's left.
Sad looks down (64) under heavy lids (43)."""

BLENDSHAPES: dict[str, dict[str, float]] = {
    "1": {"browInnerUp": 0.9}, "2": {"browOuterUp": 0.85}, "4": {"browDown": 0.7}, "5": {"eyeWide": 0.45},
    "6": {"cheekSquint": 0.1, "eyeSquint": 0.75}, "7": {"eyeSquint": 0.8}, "9": {"noseSneer": 0.1, "eyeSquint": 0.15},
    "10": {"mouthUpperUp": 0.65, "mouthShrugUpper": 0.25}, "12": {"mouthSmile": 0.9}, "14": {"mouthDimple": 0.35},
    "15": {"mouthFrown": 0.5}, "17": {"mouthShrugLower": 0.5}, "20": {"mouthStretch": 0.55},
    "23": {"mouthRollLower": 0.4}, "24": {"mouthPress": 0.55}, "25": {"mouthLowerDown": 0.4, "mouthUpperUp": 0.4},
    "26": {"jawOpen": 0.5}, "43": {}, "64": {"eyeLookDown": 0.5},
}
"""What the network says of a unit at full strength (its scores of cheekSquint and noseSneer hardly ever rise)."""

LIDS = {"5": 0.055, "6": -0.028, "7": -0.035, "43": -0.02}
"""How far a unit parts the lids at full strength, outer-eye distances (0.08 at rest). Asked for outright: the network's
eyeWide hardly rises, and its eyeSquint would rather shut the eyes."""
LID_NOISE = 0.012

HELD = {"eyeBlink": 0.6, "mouthPucker": 0.4, "mouthLeft": 0.3, "mouthRight": 0.3, "jawOpen": 0.5, "jawLeft": 0.3,
        "jawRight": 0.3, "eyeLookIn": 0.4, "eyeLookOut": 0.4, "eyeLookUp": 0.4, "browInnerUp": 0.3, "browOuterUp": 0.3}
"""How firmly scores that no unit asks for stay those of the neutral face; others 0.15."""

HELD_FIRMER = {"sad": {"browOuterUp": 0.6}}
"""Where that is not enough: brows go up together in the templates, and outer brows raised make surprise of sadness."""

SEEN = {"lids": 0.5, "brows": 0.57, "rest": 0.73}
"""Share of a drawn displacement that the landmark network sees again on rendered frames, by region: medians over 14
expressions on five portraits."""

_BROWS = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107, 276, 282, 283, 285, 293, 295, 296, 300, 334, 336)
_LIDS = (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246, 249, 263, 362, 373, 374, 380,
         381, 382, 384, 385, 386, 387, 388, 390, 398, 466)
_PRIOR = 0.025
EMPHASIS, EMPHASIS_CONTEMPT = 1.12, 1.25
"""Factors on the fitted latents, because heads seen from the side show less of an expression than those fitted on;
contempt moves one corner of the mouth and is the first to be missed."""
_log = logging.getLogger("fit_emotions")


def indices(name: str, side: str = "") -> list[int]:
    """Both sides of a blendshape, or one."""
    sides = {"": ("Left", "Right", ""), "L": ("Left", ""), "R": ("Right", "")}[side]
    return [NAMES.index(name + s) for s in sides if name + s in NAMES]


def targets(label: str, neutral: Tensor) -> tuple[Tensor, Tensor]:
    """Wanted scores [F, 52] and weights [52] of an emotion on faces with the ``neutral`` scores [F, 52]."""
    wanted, weight = neutral.clone(), torch.full((len(NAMES),), 0.15)
    for name, firmness in {**HELD, **HELD_FIRMER.get(label, {})}.items():
        weight[indices(name)] = firmness
    raised = torch.zeros(len(NAMES))
    for unit, strength in COMPOSITION[label].items():
        side = unit[0] if unit[0] in "LR" else ""
        for name, score in BLENDSHAPES[unit.lstrip("LR")].items():
            for i in indices(name, side):
                raised[i] = max(float(raised[i]), strength * score)
    asked = raised > 0
    wanted[:, asked] = torch.maximum(neutral[:, asked], raised[asked].expand(len(neutral), -1))
    weight[asked] = 1.0
    return wanted, weight


def fit(label: str, faces: Tensor, network, bridge: LatentBridge, seen: Tensor, eyes: Tensor,
        steps: int = 300) -> Tensor:
    """[63] latents of an emotion; ``eyes`` [63, 2] reads how far they part the lids."""
    with torch.no_grad():
        wanted, weight = targets(label, network(faces))
    root = torch.linalg.cholesky(bridge.covariance.double()).float()
    lids = torch.full((2,), sum(LIDS.get(unit, 0.0) * strength for unit, strength in COMPOSITION[label].items()))
    one_sided = any(unit[0] in "LR" for unit in COMPOSITION[label])
    z = torch.zeros(63, requires_grad=True)
    optimiser = torch.optim.Adam([z], 0.1)
    for _ in range(steps):
        latents = root @ z
        if not one_sided:
            latents = 0.5 * (latents + mirror_expression(latents.reshape(21, 3)).flatten())
        scores = network(faces + seen[:, None] * bridge.displacement(latents))
        missed = (latents @ eyes - lids) / LID_NOISE
        loss = ((weight * (scores - wanted).square()).sum(1).mean() + _PRIOR * z.square().mean()
                + 0.05 * missed.square().mean())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return latents.detach()


def faces_of(pictures: list[str], analyzer: FaceAnalyzer, bridge: LatentBridge) -> Tensor:
    """[F, 478, 3] resting faces: the mean one, and the pictures' with their own expression taken out."""
    faces = [mean_face()]
    for path in pictures:
        picture = check_image(read_image(path))
        face = analyzer.analyze(picture[None])[0][0]
        own = bridge.from_blendshapes(torch.as_tensor(face.blendshapes))
        faces.append(to_head_frame(torch.as_tensor(face.landmarks)[None])[0].float() - bridge.displacement(own))
    return torch.stack(faces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = ROOT
    parser.add_argument("pictures", nargs="*", default=[str(root / "workflows" / "inputs" / "portrait.jpg")])
    parser.add_argument("--out", default=str(root / "playmate_core" / "weights" / "bundled" / "emotions.safetensors"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    analyzer, bridge = FaceAnalyzer.load(), LatentBridge.load()
    network = analyzer.networks["blendshapes"]
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    faces = faces_of(args.pictures, analyzer, bridge)
    seen = torch.full((478,), SEEN["rest"])
    seen[list(_BROWS)], seen[list(_LIDS)] = SEEN["brows"], SEEN["lids"]
    eyes = Measures(bridge, bridge.covariance).read(torch.eye(63), *EYES)
    neutral = network(faces).mean(0)
    offsets = torch.zeros(len(LABELS), 63)
    for label in COMPOSITION:
        offset = fit(label, faces, network, bridge, seen, eyes)
        offset = offset * (EMPHASIS_CONTEMPT if label == "contempt" else EMPHASIS)
        offsets[LABELS.index(label)] = offset
        shown = network(faces + seen[:, None] * bridge.displacement(offset)).mean(0) - neutral
        top = " ".join(f"{NAMES[i]} {shown[i]:+.2f}" for i in shown.abs().argsort(descending=True)[:9].tolist())
        _log.info("%s: length %.2f, lip gap %+.3f; %s", label, bridge.mahalanobis(offset), bridge.lip_gap(offset), top)

    from safetensors.torch import save_file

    part = Path(args.out).with_suffix(".part")
    save_file({"offsets": offsets}, str(part), {"labels": " ".join(LABELS)})
    part.replace(args.out)


if __name__ == "__main__":
    main()
