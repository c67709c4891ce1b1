"""Lips of rendered videos against real speakers: the figures of training/README.md.

    python -m laboratory.measures.lips --tracks ../shared/data/talking_tracks ../shared/data/talking_tracks_more \\
        --portrait FILE [FILE ...]

For every held-out track: its sound through encoder, diffusion and renderer; the lips tracked on the
finished frames; correlation of lip gap and lip width with the speaker's own, best lag, and the ratio of
standard deviations. With ``--phones DIR`` (a corpus folder whose clips of split phones carry phone times) also
the share of p, b, m that close and the mean gap on open vowels against that on p, b, m.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from playmate_core import pipeline
from playmate_core.evaluation.lips import (
    best_lag,
    closure_rate,
    correlation,
    lip_curves,
    mean_over,
    on_frames,
)
from playmate_core.evaluation.tracking import track_video
from playmate_core.media.pictures import read_image

from ..corpus.speakers import HELD_OUT, list_tracks
from ..training.dataset import load_corpus
from ..training.validation import bridge_lips, features_of

FPS = 25.0


def read_track(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(audio [1, N] at 16 kHz, lip gap [T], lip width [T])`` at 25 fps; frames without a face are NaN."""
    with safe_open(str(path), "pt") as file:
        audio = file.get_tensor("audio")[None]
        landmarks = file.get_tensor("landmarks").float()
        fps = float(file.metadata()["fps"])
    frames = int(len(landmarks) / fps * FPS)
    return audio, *(on_frames(curve, fps, frames, FPS) for curve in lip_curves(landmarks))


def rendered_lips(models, appearance, motion) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip gap and width [T] tracked on the drawn frames."""
    frames = (frame for batch in pipeline.render_frames(models, appearance, motion) for frame in batch)
    return lip_curves(track_video(frames, models.face).landmarks)


def spoken_lips(models, features, look, args, seed):
    """Lip gap and width [T] of one sampled motion: tracked on the frames, or without a portrait read from the latents
    (then as offsets from rest)."""
    motion = pipeline.generate_motion(models, features, look, seed=seed, steps=args.steps,
                                      audio_guidance=args.audio_guidance)
    return bridge_lips()(motion.expression_offset) if look is None else rendered_lips(models, look, motion)


def measure_tracks(models, looks, args) -> None:
    """Lips against those of the real speakers."""
    rows = []
    for name in args.names:
        audio, gap, width = read_track(next(p for p in list_tracks(args.tracks) if p.stem == name))
        frames = min(len(gap), round(args.seconds * FPS))
        features = pipeline.encode_audio(models, (audio[:, :round(frames / FPS * 16000)], 16000))
        spread = gap[:frames][torch.isfinite(gap[:frames])].std()
        for seed in args.seeds:
            for number, look in enumerate(looks):
                ours = spoken_lips(models, features, look, args, seed)
                score, lag = best_lag(ours[0], gap[:frames])
                std = float(ours[0][torch.isfinite(ours[0])].std())
                rows.append({
                    "track": name, "seed": seed, "portrait": args.portrait[number].name if look else "latents",
                    "gap_r": score, "gap_lag": lag, "width_r": best_lag(ours[1], width[:frames])[0],
                    "gap_r_lag0": correlation(ours[0], gap[:frames]), "std": std, "std_ratio": std / float(spread),
                })
                say(json.dumps(rows[-1]))
    median = {key: round(statistics.median(row[key] for row in rows), 3)
              for key in ("gap_r", "width_r", "gap_r_lag0", "gap_lag", "std", "std_ratio")}
    say("median " + json.dumps(median))


def measure_phones(models, looks, args) -> None:
    """Closures and open vowels of speech whose phones are known, in a voice that training never heard."""
    clips = [clip for clip in load_corpus(args.phones) if clip.info.get("phones")]
    closed, rates, shut, opened = 0, [], [], []
    for clip in clips[:args.clips]:
        times = {kind: [(start, end) for _, k, start, end in clip.info["phones"] if k == kind]
                 for kind in ("closed", "open")}
        for look in looks:
            gap, _ = spoken_lips(models, features_of(clip, models.speech.name), look, args, args.seeds[0])
            rates.append((closure_rate(gap, times["closed"], FPS), len(times["closed"])))
            # The lips are in contact around a closure's middle; its edges belong to the neighbours too.
            middles = [((a + b) / 2 - 0.02, (a + b) / 2 + 0.02) for a, b in times["closed"]]
            shut.append(mean_over(gap, middles, FPS))
            opened.append(mean_over(gap, times["open"], FPS))
            closed += len(times["closed"])
    rate = sum(r * n for r, n in rates if n) / max(closed, 1)
    mean = [statistics.fmean(x for x in values if x == x) for values in (shut, opened)]
    say(f"phones: {closed} closures, {100 * rate:.1f} % closed; mean gap {mean[0]:.4f} on p, b, m, "
        f"{mean[1]:.4f} on open vowels")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=Path, nargs="+", help="folders of talking tracks")
    parser.add_argument("--names", nargs="+", default=list(HELD_OUT))
    parser.add_argument("--phones", type=Path, help="corpus folder whose clips of split 'phones' are spoken")
    parser.add_argument("--clips", type=int, default=12, help="at most this many of them")
    parser.add_argument("--portrait", type=Path, nargs="*", default=[], help="none: read the latents, draw nothing")
    parser.add_argument("--motion-model", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--audio-guidance", type=float)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most this much of each track")
    args = parser.parse_args()
    models = pipeline.load_models(motion_model=args.motion_model)
    looks = [pipeline.extract_appearance(models, read_image(p)) for p in args.portrait] or [None]
    if args.tracks:
        measure_tracks(models, looks, args)
    if args.phones:
        measure_phones(models, looks, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
