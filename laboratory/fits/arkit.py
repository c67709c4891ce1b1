"""ARKit's 52 expressions as landmark displacements and as the latents that draw them.

    python -m laboratory.fits.arkit --shapes SHAPES.safetensors [-o OUT.safetensors]

``SHAPES`` is what ``laboratory.fits.ict`` wrote: each expression of a 3D head on the 478 landmarks. Brows are made to
move as bodies (their two edges alike, so none gets thinner), noses to keep their width, and each shape is turned into
the most probable latents of the bridge that draw it, where brows, lids, corners of the mouth, nose and outline count
for more than the skin between them: those are what a face is read by. Since all of this is linear, the latents of any
mixture are the sum of its shapes' latents.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from playmate_core.face import geometry as geo
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import LatentBridge, _apertures

from .. import ROOT
from .bridge import lengths

OUT = ROOT / "playmate_core" / "weights" / "bundled" / "arkit.safetensors"
LICENCE = """arkit.safetensors was fitted by this project (laboratory/fits/arkit.py in its repository) and is
licensed like it, Apache-2.0.

It was fitted on the expression shapes of ICT-FaceKit (Copyright (c) 2020 USC Institute for Creative Technologies, MIT
licence) and on the latent bridge beside it. It holds latents; no mesh of that model.
"""
RIGID_BROWS = 0.9
"""How much of the difference between a brow's upper and lower edge is taken out of a shape."""

NOSE_WINGS = ((48, 278), (49, 279), (64, 294), (98, 327), (102, 331), (115, 344), (129, 358), (219, 439), (235, 455))
FACE_SIDES = ((234, 454), (93, 323), (132, 361), (58, 288), (172, 397), (136, 365), (150, 379))
STEADY = {NOSE_WINGS: 0.0, FACE_SIDES: 0.2}
"""How much of what a shape does to a width is drawn: the head's mesh widens more than speakers' noses and jaws do, and
a mesh that tracks a drawn smile sees a wider nose and jaw than are drawn."""

WITNESSES = {20.0: tuple(range(geo.LANDMARKS)), 300.0: sum(geo.BROWS, ()), 60.0: sum(geo.EYES, ()) + geo.OVAL
             + (48, 278, 49, 279, 64, 294, 98, 327, 2, 1, 4), 400.0: (61, 291, 78, 308, 185, 409, 146, 375)}
"""Trust in landmarks against tracked ones, later entries over earlier: drawn shapes are free of a tracker's noise."""
_log = logging.getLogger("fit_arkit")


def held_together(shapes: Tensor) -> Tensor:
    """[52, 478, 3] with both edges of each brow moving nearly alike, and with nose and jaw keeping their width."""
    out = shapes.clone()
    for pairs, kept in STEADY.items():
        for a, b in pairs:
            apart = (1.0 - kept) / 2 * (shapes[:, b, 0] - shapes[:, a, 0])
            out[:, a, 0], out[:, b, 0] = shapes[:, a, 0] + apart, shapes[:, b, 0] - apart
    for upper, lower in zip(geo.BROWS_UPPER, geo.BROWS_LOWER, strict=True):
        for a, b in zip(upper, lower, strict=True):
            middle = (shapes[:, a] + shapes[:, b]) / 2
            for edge in (a, b):
                out[:, edge] = middle + (1.0 - RIGID_BROWS) * (shapes[:, edge] - middle)
    return out


HELD = {(105, 52): 0.0005, (334, 282): 0.0005, (66, 65): 0.0005, (296, 295): 0.0005, (48, 278): 0.001,
        (234, 454): 0.001, (172, 397): 0.001, (136, 365): 0.003}
"""Distances that a shape must keep as its own landmarks have them, and how far they may be missed (standard deviations,
outer-eye distances): thickness of the brows, width of the nose, of the face and of the jaw."""


LOOK_NOISE = 0.0012
"""How far an iris may be missed within its eye, the same way."""


def latents_of(shapes: Tensor, bridge: LatentBridge) -> Tensor:
    """[N, 478, 3] displacements -> [N, 63] the most probable latents that draw them.

    As ``LatentBridge.expression``, with other witnesses: landmarks count by ``WITNESSES``, the lips' and lids'
    apertures and the distances ``HELD`` besides.
    """
    trust = torch.zeros(geo.LANDMARKS, dtype=torch.float64)
    for weight, landmarks in WITNESSES.items():
        trust[list(landmarks)] = weight
    forward = bridge.forward.double()
    precision = (trust[:, None] / bridge.noise.double() ** 2).flatten()
    rows, deviation, _ = _apertures(3)
    held = torch.zeros(len(HELD), geo.LANDMARKS, 3, dtype=torch.float64)
    for row, ((a, b), axis) in enumerate(zip(HELD, (1, 1, 1, 1, 0, 0, 0, 0), strict=True)):
        held[row, a, axis], held[row, b, axis] = -1.0, 1.0
    # Each iris within its own eye: latents that lift brows would make eyes squint towards the nose.
    looks = torch.zeros(4, geo.LANDMARKS, 3, dtype=torch.float64)
    for row, (eye, axis) in enumerate((eye, axis) for eye in (0, 1) for axis in (0, 1)):
        looks[row, geo.IRIS_CENTRES[eye], axis] = 1.0
        looks[row, [geo.EYES_UPPER[eye][0], geo.EYES_UPPER[eye][-1]], axis] = -0.5
    rows = torch.cat([rows, held.flatten(1), looks.flatten(1)])
    known = torch.cat([20.0 / deviation ** 2, torch.tensor(list(HELD.values()), dtype=torch.float64) ** -2,
                       torch.full((4,), LOOK_NOISE ** -2, dtype=torch.float64)])
    weighted = forward * precision + ((forward @ rows.T) * known) @ rows
    normal = weighted @ forward.T + torch.linalg.inv(bridge.covariance.double())
    return torch.linalg.solve(normal, weighted @ shapes.double().flatten(1).T).T.float()


def in_arkit_order(shapes: Tensor) -> Tensor:
    """[52, ...] in MediaPipe's order (a neutral face first, no tongue) -> ARKit's names, the tongue last."""
    return torch.cat([shapes[1:], torch.zeros_like(shapes[:1])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    bridge = LatentBridge.load()
    shapes = in_arkit_order(held_together(load_file(str(arguments.shapes))["shapes"].double()))
    latents = latents_of(shapes, bridge)
    drawn = bridge.displacement(latents).double()
    for name, wanted, got, z in zip((*NAMES[1:], "tongueOut"), shapes, drawn, latents, strict=True):
        if float(wanted.abs().max()) > 0:
            share = 1 - float((got - wanted)[:, :2].square().sum() / wanted[:, :2].square().sum())
            said = {key: f"{float(value):+.3f} ({float(lengths(got[None])[key]):+.3f})"
                    for key, value in lengths(wanted[None]).items() if abs(float(value)) > 0.015}
            _log.info("%s: R2 %.2f, length %.2f; %s", name, share, float(bridge.mahalanobis(z)), said)
    part = arguments.out.with_suffix(".part")
    save_file({"latents": latents.contiguous()}, str(part),
              {"names": " ".join((*NAMES[1:], "tongueOut")), "format": "playmate.arkit.1", "licence": "Apache-2.0"})
    part.chmod(0o644)
    part.replace(arguments.out)
    arguments.out.with_suffix(".LICENSE.txt").write_text(LICENCE)


if __name__ == "__main__":
    main()
