"""Measures the bundled model's emotions on finished frames: are they distinct, right, and do the lips survive?

    python -m laboratory.measures.emotions [PORTRAIT ...] [--voice FILE] [--seconds 4] \\
        [--strengths 0.5 1 1.5] [--json FILE]

For every portrait the same voice is spoken with each emotion; every drawn frame is tracked anew, and
``playmate_core.evaluation`` does the arithmetic. Anatomy is measured by ``measures.anatomy``, pictures are made by
``laboratory.looks``: look before a figure of this is believed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from playmate_core import pipeline
from playmate_core.emotion.curve import EMOTIONS
from playmate_core.evaluation.emotion import directions, mean_blendshapes, monotone, separation
from playmate_core.evaluation.tracking import track_video
from playmate_core.face.geometry import lip_gap
from playmate_core.media.pictures import check_image, read_image
from playmate_core.media.sound import read_audio

from .. import ROOT
from ..training.validation import correlation

INPUTS = ROOT / "workflows" / "inputs"
SHUT = 0.02


def smaller(image: torch.Tensor, edge: int) -> torch.Tensor:
    """The picture with its longer edge at most ``edge`` pixels."""
    scale = edge / max(image.shape[:2])
    if scale >= 1:
        return image
    moved = torch.nn.functional.interpolate(image.movedim(-1, 0)[None], scale_factor=scale, mode="area")
    return moved[0].movedim(0, -1).contiguous()


def measure(models, image, features, strengths: list[float], seed: int) -> dict:
    """Figures of one portrait."""
    appearance = pipeline.extract_appearance(models, image)

    def speak(label: str, strength: float):
        motion = pipeline.generate_motion(models, features, appearance, seed=seed, emotion=f"{label} {strength:g}")
        pictures = (picture for batch in pipeline.render_frames(models, appearance, motion) for picture in batch)
        return track_video(pictures, models.face)

    calm = speak("neutral", 1.0)
    neutral = mean_blendshapes(calm)
    gap = lip_gap(calm.landmarks)
    # Frames that lips spend shut, but for the edges, where a frame earlier or later is open.
    shut = torch.nn.functional.max_pool1d((gap >= SHUT).float()[None, None], 3, 1, 1)[0, 0] == 0
    report: dict = {"emotions": {}}
    means = {}
    for label in EMOTIONS:
        steps = []
        for strength in strengths:
            track = speak(label, strength)
            steps.append((strength, mean_blendshapes(track)))
            if strength == 1.0:
                means[label] = steps[-1][1]
                felt_gap = lip_gap(track.landmarks)
                both = torch.isfinite(gap) & torch.isfinite(felt_gap)
                report["emotions"][label] = {
                    "lip gap r": correlation(felt_gap[both], gap[both]),
                    "shut frames kept": float((felt_gap[shut & both] <= SHUT).float().mean()),
                    "expected": [d.as_dict() for d in directions(neutral, means[label], label)]}
        if len(steps) > 1:
            report["emotions"][label]["monotone"] = monotone(neutral, steps, label)
    report["separation"] = separation(means).as_dict()
    report["shut frames"] = int(shut.sum())
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("portraits", nargs="*", default=[str(INPUTS / "portrait.jpg")])
    parser.add_argument("--voice", default=str(INPUTS / "voice.wav"))
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--strengths", type=float, nargs="+", default=[1.0])
    parser.add_argument("--size", type=int, default=512, help="longer edge of the portrait, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--motion-model", default=None)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    torch.set_num_threads(max(1, torch.get_num_threads()))
    models = pipeline.load_models(motion_model=args.motion_model)
    samples = read_audio(args.voice).samples[:int(16_000 * args.seconds)]
    features = pipeline.encode_audio(models, (samples[None], 16_000))
    reports = {}
    for path in args.portraits:
        image = smaller(check_image(read_image(path)), args.size)
        report = measure(models, image, features, args.strengths, args.seed)
        reports[Path(path).stem] = report
        apart = report["separation"]
        sys.stdout.write(f"{Path(path).name}: distance mean {apart['mean']:.2f}, smallest {apart['smallest']:.2f} "
                         f"({' - '.join(apart['closest'])}), {report['shut frames']} shut frames\n")
        for label, found in report["emotions"].items():
            said = ", ".join(f"{d['name']} {d['change']:+.2f} (rank {d['rank']})" for d in found["expected"])
            grows = "" if "monotone" not in found else "; grows with strength: " + ", ".join(
                f"{name} {'yes' if rise['rises'] else 'NO'}" for name, rise in found["monotone"].items())
            sys.stdout.write(f"  {label:10s} lip gap r {found['lip gap r']:.2f}, shut stays shut "
                             f"{found['shut frames kept']:.2f}; {said}{grows}\n")
        sys.stdout.flush()
    if args.json:
        Path(args.json).write_text(json.dumps(reports, indent=1))


if __name__ == "__main__":
    main()
