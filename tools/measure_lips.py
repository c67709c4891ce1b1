"""Lips of rendered videos against real speakers: the figures of training/README.md.

    python tools/measure_lips.py --tracks ../shared/data/talking_tracks --portrait FILE [FILE ...]

For every held-out track: its sound through encoder, diffusion and renderer; the lips tracked on the
finished frames; correlation of lip gap and lip width with the speaker's own, best lag, and the ratio of
standard deviations. With ``--phones FILE`` (a corpus shard whose clips carry phone times) also the share
of p, b, m that close and the mean gap on open vowels against that on p, b, m.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playmate_core import pipeline  # noqa: E402
from playmate_core.evaluation.lips import best_lag, correlation, lip_curves, track_landmarks  # noqa: E402
from playmate_core.images import read_image  # noqa: E402

HELD_OUT = ("latentsync_3", "retalking_5", "edtalk_radio", "sadtalker_2")
FPS = 25.0


def read_track(path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``(audio [1, N] at 16 kHz, lip gap [T], lip width [T])`` at 25 fps; frames without a face are NaN."""
    with safe_open(str(path), "pt") as file:
        audio = file.get_tensor("audio")[None]
        landmarks = file.get_tensor("landmarks").float()
        fps = float(file.metadata()["fps"])
    gap, width = lip_curves(landmarks)
    times = torch.arange(int(len(gap) / fps * FPS)) / FPS * fps
    low = times.long().clamp(max=len(gap) - 1)
    high = (low + 1).clamp(max=len(gap) - 1)
    part = times - low
    return audio, *(curve[low] * (1 - part) + curve[high] * part for curve in (gap, width))


def rendered_lips(models, appearance, motion) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip gap and width [T] tracked on the drawn frames."""
    frames = (frame for batch in pipeline.render_frames(models, appearance, motion) for frame in batch)
    return lip_curves(track_landmarks(frames, models.face))


def latent_lips(models, motion) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip gap and width [T] as the bridge reads them from the latents, without drawing: offsets from rest."""
    from playmate_core.face.geometry import LIP_CENTRES, MOUTH_CORNERS

    moved = models.bridge.displacement(motion.expression_offset)
    top, bottom = LIP_CENTRES
    left, right = MOUTH_CORNERS
    return moved[:, bottom, 1] - moved[:, top, 1], moved[:, right, 0] - moved[:, left, 0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--names", nargs="+", default=list(HELD_OUT))
    parser.add_argument("--portrait", type=Path, nargs="*", default=[], help="none: read the latents, draw nothing")
    parser.add_argument("--motion-model", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--audio-guidance", type=float)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most this much of each track")
    args = parser.parse_args()
    models = pipeline.load_models(motion_model=args.motion_model)
    looks = [pipeline.extract_appearance(models, read_image(p)) for p in args.portrait] or [None]
    rows = []
    for name in args.names:
        audio, gap, width = read_track(args.tracks / f"{name}.safetensors")
        frames = min(len(gap), round(args.seconds * FPS))
        features = pipeline.encode_audio(models, (audio[:, :round(frames / FPS * 16000)], 16000), fps=FPS)
        for seed in args.seeds:
            for number, look in enumerate(looks):
                motion = pipeline.generate_motion(models, features, look, seed=seed, steps=args.steps,
                                                  audio_guidance=args.audio_guidance)
                ours = latent_lips(models, motion) if look is None else rendered_lips(models, look, motion)
                score, lag = best_lag(ours[0], gap[:frames])
                good = torch.isfinite(ours[0])
                rows.append({
                    "track": name, "seed": seed, "portrait": args.portrait[number].name if look else "latents",
                    "gap_r": score, "gap_lag": lag, "width_r": best_lag(ours[1], width[:frames])[0],
                    "gap_r_lag0": correlation(ours[0], gap[:frames]),
                    "std": float(ours[0][good].std()), "std_ratio": float(
                        ours[0][good].std() / gap[:frames][torch.isfinite(gap[:frames])].std()),
                })
                sys.stdout.write(json.dumps(rows[-1]) + "\n")
                sys.stdout.flush()
    median = {key: round(statistics.median(row[key] for row in rows), 3)
              for key in ("gap_r", "width_r", "gap_r_lag0", "gap_lag", "std", "std_ratio")}
    sys.stdout.write("median " + json.dumps(median) + "\n")
    return 0


sys.exit(main())
