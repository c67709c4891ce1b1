"""Dubbed films in figures: what stayed the film's, whether the new lips are there and the old ones gone.

    python -m laboratory.measures.dubbing --films FILE [FILE ...] --voices FILE [FILE ...] [--frames 75] [--still]

Voices are sounds or talking tracks (``.safetensors``). For every film with every voice one line of JSON:

    outside      differing pixels beyond the moved region (above the nose's tip, or 0.9 outer-eye distances from the
                 lower face): must be 0
    gap_r        tracked lip gap on the dubbed film against the speech's own, best lag within two frames
    still_r      the same on a still, the picture that the film's mouth is drawn from (with --still)
    old_r        the dubbed film's lip gap against the film's own; chance_r: the speech's gap against it, for
                 comparison; old_part: the former with the speech's own part taken out
    closing      share of the frames open in the film and shut in the speech that are drawn shut, of how many
    seam         frame-to-frame change along the border of the moved region against the film's own there
    seconds      of one core a frame, drawing only
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open

from playmate_core import pipeline
from playmate_core.evaluation.lips import best_lag, correlation
from playmate_core.face import geometry
from playmate_core.face.types import Face
from playmate_core.media.video_reader import open_video
from playmate_core.motion.edits import slice_frames
from playmate_core.motion.types import Motion
from playmate_core.render.film import Film

OPEN, SHUT, CLOSED = 0.04, 0.004, 0.02
"""Gap of a mouth that is open in the film; change of the gap that the speech asks for in a shut one; gap that counts as
drawn shut. Outer-eye distances."""


class Held:
    """Pictures [N, H, W, 3] uint8 in memory."""

    def __init__(self, pictures: torch.Tensor, fps: float) -> None:
        self.pictures, self.fps = pictures, fps

    def __iter__(self):
        return ((number / self.fps, picture) for number, picture in enumerate(self.pictures))


def even(landmarks: torch.Tensor, sigma: float = 0.8) -> torch.Tensor:
    """[N, 478, 3] without most of the tracker's tremble."""
    share = torch.exp(-0.5 * (torch.arange(-3, 4) / sigma) ** 2)
    padded = torch.cat([landmarks[:1].expand(3, -1, -1), landmarks, landmarks[-1:].expand(3, -1, -1)])
    return sum(s * padded[k:k + len(landmarks)] for k, s in enumerate(share / share.sum()))


def read_film(models, path: Path, frames: int) -> Film:
    """The first ``frames`` pictures of a film whose face is in all of them."""
    video = open_video(path)
    pictures, fps = torch.stack([picture for _, picture in islice(video, frames)]), video.fps
    faces = list(models.face.track(picture.float() / 255 for picture in pictures))
    seen = torch.tensor([face is not None for face in faces])
    known = next(face for face in faces if face is not None)
    faces = [face or known for face in faces]
    count = len(pictures)
    return Film(Held(pictures, fps), torch.arange(count).double() / fps, fps, tuple(pictures.shape[1:3]),
                even(torch.stack([face.landmarks for face in faces])), torch.stack([f.blendshapes for f in faces]),
                seen, torch.zeros(count, dtype=torch.int64), Motion.rest(count, fps))


def read_voice(models, path: Path, seconds: float, fps: float) -> Motion:
    """The motion that a voice asks for."""
    if path.suffix == ".safetensors":
        with safe_open(str(path), "pt") as file:
            sound = (file.get_tensor("audio")[None][:, :round(seconds * 16000)], 16000)
    else:
        sound = str(path)
    return pipeline.generate_motion(models, pipeline.encode_audio(models, sound), fps=fps)


def beyond(landmarks: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[H, W] bool: pixels that dubbing has no business with."""
    size = float(geometry.outer_eye_distance(landmarks))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([column, row], -1).float() + 0.5
    down = landmarks[152, :2] - landmarks[10, :2]
    above = (pixels - landmarks[1, :2]) @ (down / down.norm()) < -0.12 * size
    lower = landmarks[[k for k in geometry.OVAL if float((landmarks[k, :2] - landmarks[1, :2]) @ down) > 0], :2]
    far = torch.cdist(pixels.reshape(-1, 2), torch.cat([lower, landmarks[[1, 0, 17], :2]])).amin(1)
    return above | (far.reshape(height, width) > 0.9 * size)


def seam(film: torch.Tensor, dubbed: torch.Tensor, touched: torch.Tensor) -> float:
    """Mean change from frame to frame along the border of what was ``touched`` [N, H, W], against the film's own."""
    ours = own = 0.0
    for k in range(1, len(film)):
        mask = (touched[k] | touched[k - 1]).float()[None, None]
        band = (F.max_pool2d(mask, 7, 1, 3) - (1 - F.max_pool2d(1 - mask, 7, 1, 3)))[0, 0] > 0
        ours += float((dubbed[k] - dubbed[k - 1]).abs().mean(-1)[band].sum())
        own += float((film[k] - film[k - 1]).abs().mean(-1)[band].sum())
    return ours / max(own, 1e-9)


def tracked_gap(models, frames) -> torch.Tensor:
    """[N] lip gap seen in finished frames."""
    return torch.stack([geometry.lip_gap(face.landmarks) if face else torch.tensor(float("nan"))
                        for face in models.face.track(frames)])


def measure(models, film: Film, motion: Motion, still: bool) -> dict:
    """The figures of one dubbed film."""
    pictures = film.pictures.pictures
    count = min(len(film), len(motion))
    motion = slice_frames(motion, 0, count)
    start = time.process_time()
    drawing = models.renderer.render_film(film, ((k, pictures[k]) for k in range(count)), motion, "mouth")
    dubbed = torch.cat(list(drawing))
    seconds = (time.process_time() - start) / count
    own = pictures[:count].float() / 255
    touched = (dubbed != own).any(-1)
    outside = sum(int((touched[k] & beyond(film.landmarks[k], *film.size)).sum()) for k in range(count))
    wanted, old = models.bridge.lip_gap(motion.expression_offset), tracked_gap(models, own)
    drawn = tracked_gap(models, ((frame * 255).round() / 255 for frame in dubbed))
    figures = {"frames": count, "outside": outside, "gap_r": best_lag(drawn, wanted, 2)[0]}
    if still:
        reference = film.payload.reference
        face = Face(reference.landmarks, torch.zeros(52), torch.zeros(4), 1.0, 1.0)
        spoken = replace(Motion.rest(count, motion.fps), expression=motion.expression_offset)
        frames = models.renderer.render(models.renderer.prepare(reference.image, face), spoken)
        figures["still_r"] = best_lag(tracked_gap(models, (f for batch in frames for f in batch)), wanted, 2)[0]
    slope = correlation(drawn, wanted) * float(drawn.std() / wanted.std())
    open_then_shut = (old > OPEN) & (wanted <= SHUT)
    figures |= {"old_r": correlation(drawn, old), "chance_r": correlation(wanted, old),
                "old_part": correlation(drawn - slope * wanted, old),
                "closing": float((drawn[open_then_shut] <= CLOSED).float().mean()), "of": int(open_then_shut.sum()),
                "seam": seam(own, dubbed, touched), "seconds": seconds}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, nargs="+", required=True)
    parser.add_argument("--voices", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=int, default=75, help="at most this many of each film")
    parser.add_argument("--still", action="store_true", help="compare with a still of the same person")
    args = parser.parse_args()
    models = pipeline.load_models()
    for path in args.films:
        film = models.renderer.prepare_film(read_film(models, path, args.frames))
        for voice in args.voices:
            motion = read_voice(models, voice, len(film) / film.fps + 0.5, film.fps)
            figures = measure(models, film, motion, args.still)
            sys.stdout.write(json.dumps({"film": path.stem, "voice": voice.stem} | figures) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
