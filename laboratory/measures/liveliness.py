"""How alive a talking face is: 26 figures against the quartiles of real speakers.

    python -m laboratory.measures.liveliness --tracks            # real speakers themselves
    python -m laboratory.measures.liveliness --bridge            # the same, read into latents and drawn on a mean face
    python -m laboratory.measures.liveliness --corpus corpus     # the labels that a model learns from
    python -m laboratory.measures.liveliness --model FILE        # a model on the voices held out; "bundled" for ours
    python -m laboratory.measures.liveliness clip.mp4 motion.safetensors ...

Each clip gives the standard deviation of its blendshape scores and head angles, its head's speed, its blinks and its
lips; what is shown is the median over the clips, beside the quartiles of 18 real ones. Latents are drawn on the mean
face by the latent bridge and looked at by the network that looks at videos. ``--bridge`` is the most that labels can
reach through the bridge. With ``--model``, ``seeds`` is how alike two seeds of one voice are (r of the lids, brows,
smile and head: 0 when nothing is).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor

from playmate_core.evaluation.clips import motion_track, open_clip
from playmate_core.evaluation.lips import correlation
from playmate_core.evaluation.tracking import FaceTrack, load_track
from playmate_core.face.analyzer import FaceAnalyzer
from playmate_core.face.blendshapes import NAMES
from playmate_core.face.bridge import LatentBridge
from playmate_core.face.geometry import lip_gap, lip_width, mean_face
from playmate_core.motion.types import Motion, Neutral

from ..corpus import shards
from ..corpus.report import closure_figures
from ..corpus.speakers import HELD_OUT, default_folders, list_tracks

QUARTILES: dict[str, tuple[float, float]] = {
    "pitch": (1.7, 4.4), "yaw": (1.6, 5.2), "roll": (1.3, 3.8), "head speed": (17.0, 43.0), "blinks": (12.0, 51.0),
    "lip gap": (0.051, 0.069), "lip width": (0.039, 0.064),
    "browInnerUp": (0.06, 0.25), "browOuterUpLeft": (0.08, 0.20), "browOuterUpRight": (0.03, 0.20),
    "eyeSquintLeft": (0.07, 0.14), "eyeSquintRight": (0.06, 0.13), "eyeBlinkLeft": (0.08, 0.17),
    "eyeBlinkRight": (0.09, 0.165), "jawOpen": (0.05, 0.12), "mouthPucker": (0.14, 0.28),
    "mouthFunnel": (0.012, 0.061), "mouthSmileLeft": (0.09, 0.25), "mouthSmileRight": (0.08, 0.25),
    "mouthUpperUpLeft": (0.05, 0.14), "mouthUpperUpRight": (0.056, 0.19), "mouthLowerDownLeft": (0.05, 0.11),
    "mouthLowerDownRight": (0.058, 0.13), "mouthPressLeft": (0.026, 0.079), "mouthPressRight": (0.032, 0.064),
    "mouthShrugUpper": (0.009, 0.037)}
"""First and third quartile over 18 real clips, of the clips' standard deviations: angles in degrees, lips in outer-eye
distances, blendshapes in scores; head speed in degrees a second, blinks a minute, downward looks counted."""

SHUT = 0.5
"""Score of eyeBlink, mean of both, that a blink passes."""
FIRST_SECONDS = 10.0


def figures(track: FaceTrack, gap: Tensor | None = None) -> dict[str, float]:
    """The 26 figures of a clip, and ``first blinks``: those of its first ten seconds, a minute.

    Args:
        track: of at least a second; frames without a face are left out.
        gap: [T] lip gap, outer-eye distances, where the landmarks' own is not meant.
    """
    seen = track.valid
    angles, scores = track.rotation[seen], track.blendshapes[seen]
    gap = lip_gap(track.landmarks[seen]) if gap is None else gap[seen]
    found = {name: float(angles[:, axis].std()) for axis, name in enumerate(("pitch", "yaw", "roll"))}
    found["head speed"] = float((angles[1:] - angles[:-1]).norm(dim=1).mean() * track.fps)
    shut = scores[:, [NAMES.index("eyeBlinkLeft"), NAMES.index("eyeBlinkRight")]].mean(1) > SHUT
    begins = shut & ~torch.cat((torch.zeros(1, dtype=torch.bool), shut[:-1]))
    found["blinks"] = float(begins.sum() / len(shut) * track.fps * 60)
    head = begins[: round(FIRST_SECONDS * track.fps)]
    found["first blinks"] = float(head.sum() / len(head) * track.fps * 60)
    found["lip gap"], found["lip width"] = float(gap.std()), float(lip_width(track.landmarks[seen]).std())
    spread = dict(zip(NAMES, scores.std(0).tolist(), strict=True))
    return found | {name: spread[name] for name in QUARTILES if name in spread}


def inside(found: dict[str, float]) -> list[str]:
    """Names of the figures within the quartiles."""
    return [name for name, (low, high) in QUARTILES.items() if low <= found[name] <= high]


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure over clips; ``blinks`` and ``first blinks`` are means, since a few seconds hold one or none."""
    return {name: (statistics.fmean if "blinks" in name else statistics.median)(row[name] for row in rows)
            for name in rows[0]}


class Drawn:
    """Latents on the mean face, as the tracker would see them."""

    def __init__(self) -> None:
        self.analyzer, self.bridge = FaceAnalyzer.load(), LatentBridge.load()

    def motion(self, motion: Motion) -> tuple[FaceTrack, Tensor]:
        """Its track and lip gap [T]."""
        gap = lip_gap(mean_face()) + self.bridge.lip_gap(motion.expression_offset.cpu())
        return motion_track(motion, self.analyzer, self.bridge), gap.clamp_min(0.0)

    def latents(self, expression: Tensor, pose: Tensor) -> tuple[FaceTrack, Tensor]:
        """Of a clip of the corpus: [T, 63] and [T, 7]."""
        return self.motion(Motion(expression.reshape(-1, 21, 3), pose[:, :3], pose[:, 3:6], pose[:, 6:], 25.0,
                                  Neutral.rest()))


def tracks(paths: list[Path]) -> list[dict[str, float]]:
    """Figures of real speakers as they were tracked."""
    return [figures(load_track(path)) for path in paths]


def through_bridge(paths: list[Path], drawn: Drawn) -> list[dict[str, float]]:
    """Figures of real speakers read into latents and drawn again."""
    from ..corpus.latents import Measures
    from ..corpus.recipes import pose_latents
    from ..corpus.tracks import load_track as read

    measures = Measures(drawn.bridge, drawn.bridge.covariance)
    rows = []
    for path in paths:
        track = read(path, drawn.bridge, measures)
        rows.append(figures(*drawn.latents(track.latents, pose_latents(track.pose.numpy()))))
    return rows


def corpus(folder: Path, drawn: Drawn, most: int) -> dict[str, list[dict[str, float]]]:
    """Figures of the labels by source and split, ``most`` clips each, and closures where phones are known."""
    from ..corpus.latents import Measures

    measures = Measures(drawn.bridge, drawn.bridge.covariance)
    groups: dict[str, list[dict[str, float]]] = {}
    spoken: dict[str, tuple[list, list]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for clip in shards.read_shard(path):
            # Variants of one recording say the same.
            if clip.about.get("variant", 0) or clip.about["seconds"] < 2:
                continue
            group = f"{clip.about['source']}, {clip.about['split']}"
            rows = groups.setdefault(group, [])
            if len(rows) < most:
                rows.append(figures(*drawn.latents(clip.expression, clip.pose)))
            if clip.about.get("phones"):
                from playmate_core.evaluation.phones import Phone

                gaps, phones = spoken.setdefault(group, ([], []))
                gaps.append(measures.read(clip.expression, "gap")[:, 0].numpy())
                phones.append([Phone(*phone) for phone in clip.about["phones"]])
    for group, (gaps, phones) in spoken.items():
        for row in groups[group]:
            row["closed"] = closure_figures(gaps, phones)["closed"]
    return groups


def model(path: str, drawn: Drawn, paths: list[Path], seeds: int, seconds: float) -> list[dict[str, float]]:
    """Figures of a motion model on real voices, and how alike its seeds are."""
    from safetensors import safe_open

    from playmate_core import pipeline

    models = pipeline.load_models(motion_model=None if path == "bundled" else path)
    rows = []
    for one in paths:
        with safe_open(str(one), "pt") as file:
            audio = file.get_tensor("audio")[None, : round(seconds * 16000)]
        features = pipeline.encode_audio(models, (audio, 16000))
        seen = []
        for seed in range(seeds):
            track, gap = drawn.motion(pipeline.generate_motion(models, features, None, seed=seed))
            rows.append(figures(track, gap))
            seen.append(track)
        if seeds > 1:
            rows[-1]["seeds"] = alike(seen[0], seen[1])
    for row in rows:
        row.setdefault("seeds", next((other["seeds"] for other in rows if "seeds" in other), float("nan")))
    return rows


def alike(one: FaceTrack, other: FaceTrack) -> float:
    """Mean r of two takes in lids, brows, smile and head: near 0 where they are independent, 1 where they are one."""
    columns = [NAMES.index(name) for name in ("eyeBlinkLeft", "browInnerUp", "browOuterUpLeft", "mouthSmileLeft")]
    pairs = [(one.blendshapes[:, k], other.blendshapes[:, k]) for k in columns]
    pairs += [(one.rotation[:, k], other.rotation[:, k]) for k in range(3)]
    scores = [correlation(a, b) for a, b in pairs]
    return statistics.fmean(score for score in scores if score == score)


def say(name: str, rows: list[dict[str, float]]) -> dict:
    """Print the medians of a group; what lies outside is marked by - (too small) or + (too large)."""
    middle, kept = median(rows), inside(median(rows))
    sys.stdout.write(f"{name}: {len(rows)} clips, {len(kept)} of {len(QUARTILES)} inside\n")
    for figure, value in middle.items():
        low, high = QUARTILES.get(figure, (float("-inf"), float("inf")))
        mark = "-" if value < low else "+" if value > high else " "
        sys.stdout.write(f"  {mark} {figure:20} {value:8.3f}" + (f"   ({low:g} to {high:g})\n" if figure in QUARTILES
                                                                 else "\n"))
    sys.stdout.flush()
    return {"clips": len(rows), "inside": len(kept), "figures": middle}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="videos, motions or face tracks")
    parser.add_argument("--folders", nargs="+", type=Path, help="folders of the talking tracks")
    parser.add_argument("--tracks", action="store_true", help="measure the real speakers")
    parser.add_argument("--bridge", action="store_true", help="measure them through the latent bridge")
    parser.add_argument("--corpus", type=Path, help="measure a corpus' labels")
    parser.add_argument("--model", help="measure a motion model on the voices held out")
    parser.add_argument("--names", nargs="+", help="only these tracks; left out: all, for --model those held out")
    parser.add_argument("--most", type=int, default=60, help="clips of each group of the corpus (default 60)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most this much of each voice")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    folders = args.folders or default_folders()

    def chosen(names) -> list[Path]:
        return [path for path in list_tracks(folders) if names is None or path.stem in names]

    if args.tracks:
        found["real speakers"] = tracks(chosen(args.names))
    drawn = Drawn() if args.bridge or args.corpus or args.model or args.files else None
    if args.bridge:
        found["real speakers through the bridge"] = through_bridge(chosen(args.names), drawn)
    if args.corpus:
        found |= corpus(args.corpus, drawn, args.most)
    if args.model:
        found[f"model {args.model}"] = model(args.model, drawn, chosen(args.names or HELD_OUT), args.seeds,
                                             args.seconds)
    for path in args.files:
        clip = open_clip(path, drawn.analyzer, drawn.bridge)
        found[path.name] = [figures(clip.track, clip.gap)]
    table = {name: say(name, rows) for name, rows in found.items() if rows}
    if args.json:
        args.json.write_text(json.dumps(table, indent=1))
    return 0 if table else 2


if __name__ == "__main__":
    sys.exit(main())
