"""Whether our renderer draws what is asked: tracked amplitudes against LivePortrait's pictures of the same latents.

    python -m laboratory.measures.amplitude [CLIP ...] [--every 3] [--landmarks FILE] [--json FILE]

LivePortrait's renderings lie in the shared folder (``PLAYMATE_SHARED``). Both drawings are tracked by the package's own
face mesh. For every quantity and clip: Pearson's r, the ratio of standard deviations (ours / LivePortrait's) and the
slope of ours on LivePortrait's. ``--landmarks`` is a safetensors file of LivePortrait's frames tracked before
(``r_CLIP.landmarks`` [T, 478, 3] and ``r_CLIP.blendshapes`` [T, 52], every frame).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from safetensors import safe_open
from torch import Tensor

from playmate_core import pipeline
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.geometry import IRIS_CENTRES, eye_openness, lip_gap, lip_width

from ..looks import published
from ..looks.drawing import draw
from ..training.validation import correlation
from .anatomy import Tracked, look

CORNERS = ((33, 133), (362, 263))
"""Each eye's corners from left to right in the picture."""
WANTED_R, WANTED_RATIO = 0.9, (0.8, 1.25)
LEAST = {"lip gap": 0.02, "lip width": 0.02, "smile": 0.05, "upper lip": 0.03, "jaw open": 0.02, "gaze": 0.02,
         "eye opening": 0.008, "lower lip": 0.03, "pucker": 0.05}
"""Standard deviation in LivePortrait's pictures below which a clip says nothing of a quantity."""


def gaze(landmarks: Tensor) -> Tensor:
    """[..., 478, 3] -> [...] how far the irises stand to the picture's right of the eyes' middles, eye widths."""
    sides = []
    for iris, (left, right) in zip(IRIS_CENTRES, CORNERS, strict=True):
        a, b, point = (landmarks[..., index, :2] for index in (left, right, iris))
        along = b - a
        sides.append(((point - (a + b) / 2) * along).sum(-1) / along.square().sum(-1))
    return torch.stack(sides).mean(0)


def quantities(clip: Tracked) -> dict[str, Tensor]:
    """[T] each, NaN where no face was found."""
    def shape(name: str) -> Tensor:
        columns = [NAMES.index(side) for side in (name + "Left", name + "Right", name) if side in NAMES]
        return clip.blendshapes[:, columns].mean(1)

    points = clip.landmarks
    return {"lip gap": lip_gap(points), "lip width": lip_width(points), "smile": shape("mouthSmile"),
            "upper lip": shape("mouthUpperUp"), "lower lip": shape("mouthLowerDown"), "jaw open": shape("jawOpen"),
            "pucker": shape("mouthPucker"), "gaze": gaze(points), "eye opening": eye_openness(points).mean(-1)}


def compare(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """r, ratio of standard deviations, slope of ``ours`` [T] on ``theirs`` [T], and the deviation of ``theirs``."""
    both = torch.isfinite(ours) & torch.isfinite(theirs)
    a, b = ours[both].double(), theirs[both].double()
    spread = float(b.std())
    if spread < 1e-9:
        return {"r": 0.0, "ratio": 0.0, "slope": 0.0, "spread": spread}
    r = correlation(a, b)
    ratio = float(a.std()) / spread
    return {"r": r, "ratio": ratio, "slope": r * ratio, "spread": spread}


def holds(found: dict[str, float]) -> bool:
    """Whether a quantity is drawn as it was asked."""
    return found["r"] >= WANTED_R and WANTED_RATIO[0] <= found["ratio"] <= WANTED_RATIO[1]


def measure(models: pipeline.Models, name: str, every: int, cache: Path | None = None) -> dict[str, dict[str, float]]:
    """Figures of one of ``published.CLIPS``."""
    numbers = list(range(0, len(published.motion_of(name)), every))
    theirs = None if cache is None else _cached(cache, name, numbers)
    clip = published.read_clip(name, numbers if theirs is None else [])
    if theirs is None:
        theirs = look(models, (frame.float() / 255 for frame in clip.frames))
    appearance = pipeline.extract_appearance(models, clip.source)
    ours = quantities(look(models, draw(models, appearance, clip.motion, numbers)))
    return {key: compare(ours[key], value) for key, value in quantities(theirs).items()}


def _cached(cache: Path, name: str, numbers: list[int]) -> Tracked | None:
    with safe_open(str(cache), "pt") as file:
        if f"r_{name}.landmarks" not in file.keys():  # noqa: SIM118  (not a dictionary)
            return None
        parts = [file.get_tensor(f"r_{name}.{what}") for what in ("landmarks", "blendshapes")]
    return Tracked(*(part[numbers] for part in parts)) if len(parts[0]) > numbers[-1] else None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", metavar="CLIP", help=f"of {', '.join(published.CLIPS)}; by default all")
    parser.add_argument("--every", type=int, default=3, help="compare every n-th frame")
    parser.add_argument("--landmarks", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args(arguments)
    for name in args.clips:
        if name not in published.CLIPS:
            parser.error(f"there is no clip {name!r}; choose from {', '.join(published.CLIPS)}")
    if not published.rendered().is_dir():
        parser.error(f"LivePortrait's renderings are not in {published.rendered()}; PLAYMATE_SHARED names the folder")
    models = pipeline.load_models()
    report = {}
    for name in args.clips or published.CLIPS:
        report[name] = found = measure(models, name, args.every, args.landmarks)
        sys.stdout.write(f"{name}{'':20s} r  ratio  slope  LivePortrait's deviation\n")
        for key, value in found.items():
            mark = "(hardly moves)" if value["spread"] < LEAST[key] else "" if holds(value) else "*"
            sys.stdout.write(f"  {key:14s} {value['r']:6.3f} {value['ratio']:6.2f} {value['slope']:6.2f} "
                             f"{value['spread']:8.3f}  {mark}\n")
        sys.stdout.flush()
    judged = [holds(value) for found in report.values() for key, value in found.items()
              if value["spread"] >= LEAST[key]]
    sys.stdout.write(f"{sum(judged)} of {len(judged)} drawn as asked (r at least {WANTED_R}, "
                     f"ratio {WANTED_RATIO[0]} to {WANTED_RATIO[1]})\n")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
