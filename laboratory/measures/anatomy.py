"""Whether emotions leave a face's anatomy alone: lengths on drawn frames against the portrait itself, within bounds.

    python -m laboratory.measures.anatomy PORTRAIT ... [--voice FILE] [--strengths 1] [--json FILE]
    python -m laboratory.measures.anatomy CLIP ... --portrait FILE [--seconds 3]

A portrait speaks with every emotion; every third frame is drawn and tracked afresh. Finished clips (video files or
folders of pictures, whose names tell the emotion, one of them neutral at best) are measured the same way. Lengths are
taken in space, in outer-eye distances, their medians as a share of the portrait's own. A length with several parts
lies outside when one part does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from playmate_core import pipeline
from playmate_core.emotion.curve import EMOTIONS
from playmate_core.evaluation.emotion import mean_blendshapes, monotone, parse_label, separation
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.geometry import LANDMARKS, lip_gap, outer_eye_distance
from playmate_core.media.pictures import check_image, read_image
from playmate_core.media.video_reader import open_video
from playmate_core.motion.types import Motion

from .. import ROOT
from ..looks.drawing import draw
from ..looks.published import shared
from ..looks.sheets import hear, speak
from ..training.validation import correlation

INPUTS = ROOT / "workflows" / "inputs"
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SHUT = 0.02
"""Lip gap up to which lips are shut, outer-eye distances."""

LENGTHS: dict[str, tuple[tuple[int, int], ...]] = {
    "nose width": ((48, 278),),
    "face width": ((234, 454), (172, 397)),
    "face height": ((10, 152),),
    "brow thickness": ((105, 52), (334, 282), (66, 65), (296, 295)),
    "eye opening": ((159, 145), (386, 374)),
}
"""Pairs of landmarks: the parts of each length."""
ANY = float("inf")
BOUNDS: dict[str, tuple[float, float]] = {"nose width": (0.90, 1.10), "face width": (0.97, 1.035),
                                          "face height": (0.97, 1.12), "brow thickness": (0.93, 1.15)}
"""Least and greatest share of the portrait's own that a human face shows in any emotion."""
EYE_BOUNDS: dict[str, tuple[float, float]] = {
    "happy": (0.75, ANY), "angry": (0.80, ANY), "disgusted": (0.75, ANY), "sad": (0.70, ANY), "contempt": (0.80, ANY),
    "fear": (1.0, 1.7), "surprised": (1.0, 1.7)}
"""The same of the eye opening."""


@dataclass(frozen=True)
class Tracked:
    """A clip's face in the frames that were looked at; frames without a face are NaN.

    Attributes:
        landmarks: [T, 478, 3] pixels.
        blendshapes: [T, 52].
    """

    landmarks: Tensor
    blendshapes: Tensor


def look(models: pipeline.Models, pictures: Iterable[Tensor]) -> Tracked:
    """The largest face of every picture [H, W, 3] 0..1, each looked at afresh."""
    points, scores = [], []
    for picture in pictures:
        faces = models.face.analyze(picture, max_faces=1)[0]
        points.append(faces[0].landmarks if faces else torch.full((LANDMARKS, 3), float("nan")))
        scores.append(faces[0].blendshapes if faces else torch.full((len(NAMES),), float("nan")))
    return Tracked(torch.stack(points), torch.stack(scores))


def lengths(landmarks: Tensor) -> dict[str, Tensor]:
    """[..., 478, 3] any square unit -> [..., parts] of each of ``LENGTHS``, outer-eye distances."""
    unit = outer_eye_distance(landmarks)[..., None]
    return {name: torch.stack([(landmarks[..., a, :] - landmarks[..., b, :]).norm(dim=-1) for a, b in pairs], -1) / unit
            for name, pairs in LENGTHS.items()}


def shares(landmarks: Tensor, portrait: Tensor) -> dict[str, list[float]]:
    """Medians of a clip's lengths as shares of the portrait's own.

    Args:
        landmarks: [T, 478, 3]; frames that are not finite are left out.
        portrait: [478, 3].
    """
    seen = landmarks[torch.isfinite(landmarks).flatten(1).all(1)]
    own = lengths(portrait)
    return {name: (parts.median(0).values / own[name]).tolist() for name, parts in lengths(seen).items()}


def bounds_of(label: str, length: str) -> tuple[float, float]:
    """Least and greatest share of a length in an emotion; neutral speech may do to eyes what any emotion may."""
    return EYE_BOUNDS.get(label, (0.70, 1.7)) if length == "eye opening" else BOUNDS[length]


def outside(label: str, parts: Mapping[str, Sequence[float]]) -> dict[str, bool]:
    """Whether each length lies outside its bounds: one part is enough."""
    judged = {}
    for length, values in parts.items():
        low, high = bounds_of(label, length)
        judged[length] = any(not low <= value <= high for value in values)
    return judged


def judge(portrait: Tensor, clips: Mapping[tuple[str, float], Tracked]) -> dict:
    """All figures of one portrait.

    Args:
        portrait: [478, 3] landmarks of the still portrait.
        clips: by emotion and strength; ``("neutral", 1.0)`` may be left out, and with it what compares with it.
    """
    neutral = clips.get(("neutral", 1.0))
    report: dict = {"rows": [], "strengths": {}}
    for (label, strength), clip in clips.items():
        parts = shares(clip.landmarks, portrait)
        row = {"emotion": label, "strength": strength, "shares": parts, "outside": outside(label, parts),
               "outside by means": outside(label, {k: [sum(v) / len(v)] for k, v in parts.items()}),
               "frames": len(clip.landmarks)}
        if neutral is not None and label != "neutral" and len(neutral.landmarks) == len(clip.landmarks):
            row.update(_lips(neutral, clip))
        report["rows"].append(row)
    for strength in sorted({strength for _, strength in clips}):
        rows = [row for row in report["rows"] if row["strength"] == strength and row["emotion"] != "neutral"]
        if not rows:
            continue
        found = {"judged": sum(len(row["outside"]) for row in rows)}
        found |= {key: sum(sum(row[key].values()) for row in rows) for key in ("outside", "outside by means")}
        if len(rows) > 1:
            means = {row["emotion"]: mean_blendshapes(clips[row["emotion"], strength].blendshapes) for row in rows}
            found["separation"] = separation(means).as_dict()
        report["strengths"][f"{strength:g}"] = found
    if neutral is not None:
        rest = mean_blendshapes(neutral.blendshapes)
        for label in dict.fromkeys(label for label, _ in clips if label != "neutral"):
            steps = [(s, mean_blendshapes(clip.blendshapes)) for (other, s), clip in clips.items() if other == label]
            if len(steps) > 1:
                report.setdefault("growth", {})[label] = monotone(rest, steps, label)
    return report


def _lips(neutral: Tracked, clip: Tracked) -> dict:
    calm, felt = lip_gap(neutral.landmarks), lip_gap(clip.landmarks)
    both = torch.isfinite(calm) & torch.isfinite(felt)
    shut = both & (calm <= SHUT)
    kept = float((felt[shut] <= SHUT).float().mean()) if bool(shut.any()) else None
    return {"lip gap r": correlation(felt[both], calm[both]), "shut frames": int(shut.sum()), "shut frames kept": kept}


def drawn_clips(models: pipeline.Models, path: Path, voice: Path, strengths: Sequence[float], *,
                labels: Sequence[str] = EMOTIONS, seconds: float = 3.0, every: int = 3, seed: int = 1,
                size: int = 512) -> tuple[Tensor, dict[tuple[str, float], Tracked]]:
    """A portrait's landmarks [478, 3], and its clips in neutral and in every emotion, drawn and tracked."""
    appearance = pipeline.extract_appearance(models, check_image(read_image(path)))
    features = hear(models, voice, seconds)
    still = draw(models, appearance, Motion.rest(1), [0], size)
    clips = {}
    for label, strength in [("neutral", 1.0), *((label, s) for label in labels for s in strengths)]:
        motion = speak(models, features, appearance, label, strength, seed)
        clips[label, strength] = look(models, draw(models, appearance, motion, range(0, len(motion), every), size))
    return look(models, still).landmarks[0], clips


def finished_clip(models: pipeline.Models, path: Path, seconds: float, every: int) -> Tracked:
    """A video file or a folder of pictures (25 a second)."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        return look(models, (check_image(read_image(file)) for file in files[:round(seconds * 25):every]))
    video = open_video(path)
    return look(models, (picture.float() / 255 for number, (time, picture) in enumerate(video)
                         if time < seconds and number % every == 0))


def table(name: str, report: dict) -> str:
    """The figures as text; lengths outside their bounds are marked with a star."""
    lines = [name, f"  {'':16s}" + "".join(f"{length:>24s}" for length in LENGTHS)]
    for row in report["rows"]:
        cells = []
        for length, values in row["shares"].items():
            low, high = bounds_of(row["emotion"], length)
            cells.append(" ".join(f"{v:.2f}" + (" " if low <= v <= high else "*") for v in values))
        lines.append(f"  {row['emotion']:10s} {row['strength']:<5g}" + "".join(f"{cell:>24s}" for cell in cells))
    for strength, found in report["strengths"].items():
        apart = found.get("separation")
        lines.append(f"  strength {strength}: {found['outside']} of {found['judged']} outside (by the means of parts "
                     f"{found['outside by means']})" + ("" if apart is None else
                     f"; blendshapes apart {apart['mean']:.2f} on average, {apart['smallest']:.2f} at least "
                     f"({' - '.join(apart['closest'])})"))
    spoken = [row for row in report["rows"] if "lip gap r" in row]
    if spoken:
        lines.append("  lip gap r, shut frames kept: " + ", ".join(
            f"{row['emotion']} {row['strength']:g} {row['lip gap r']:.2f} "
            + ("-" if row["shut frames kept"] is None else f"{row['shut frames kept']:.2f}") for row in spoken)
            + f" (of {max(row['shut frames'] for row in spoken)} shut frames)")
    if "growth" in report:
        lines.append("  rises with strength: " + "; ".join(
            f"{label}: " + ", ".join(f"{name} {' '.join(f'{c:+.2f}' for c in grown['changes'])}"
                                     + ("" if grown["rises"] else " NO") for name, grown in features.items())
            for label, features in report["growth"].items()))
    return "\n".join(lines) + "\n"


def is_picture(path: Path) -> bool:
    """Whether it is a portrait rather than a finished clip."""
    return path.is_file() and path.suffix.lower() in PICTURES


def main(arguments: list[str] | None = None) -> int:
    voice = next(path for path in (shared() / "looks" / "voice_46.wav", INPUTS / "voice.wav") if path.is_file())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", type=Path, default=[INPUTS / "portrait.jpg"], metavar="PORTRAIT or CLIP")
    parser.add_argument("--portrait", type=Path, help="the still portrait of finished clips")
    parser.add_argument("--voice", type=Path, default=voice)
    parser.add_argument("--strengths", "--strength", type=float, nargs="+", default=[1.0])
    parser.add_argument("--emotions", nargs="+", choices=EMOTIONS, default=EMOTIONS, help="these alone")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--every", type=int, default=3, help="draw and track every n-th frame")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=512, help="longest side of frames, pixels; 0: the portrait's")
    parser.add_argument("--motion-model", default=None)
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args(arguments)
    portraits = [path for path in args.inputs if is_picture(path)]
    films = [path for path in args.inputs if not is_picture(path)]
    if films and args.portrait is None:
        parser.error("finished clips are measured against their portrait; name it with --portrait")
    models = pipeline.load_models(motion_model=args.motion_model)
    reports = {}

    def tell(name: str, still: Tensor, clips: dict) -> None:
        reports[name] = judge(still, clips)
        sys.stdout.write(table(name, reports[name]))
        sys.stdout.flush()

    for path in portraits:
        tell(path.stem, *drawn_clips(models, path, args.voice, args.strengths, labels=args.emotions, every=args.every,
                                     seconds=args.seconds, seed=args.seed, size=args.size))
    if films:
        still = look(models, [check_image(read_image(args.portrait))]).landmarks[0]
        tell(f"clips of {args.portrait.stem}", still, {
            parse_label(path.stem): finished_clip(models, path, args.seconds, args.every) for path in films})
    for strength in sorted({s for report in reports.values() for s in report["strengths"]}, key=float):
        found = [report["strengths"][strength] for report in reports.values() if strength in report["strengths"]]
        sys.stdout.write(f"strength {strength}: {sum(f['outside'] for f in found)} of "
                         f"{sum(f['judged'] for f in found)} lengths outside on {len(found)} portraits\n")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(reports, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
