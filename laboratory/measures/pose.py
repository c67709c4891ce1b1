"""How well heads obey: sinusoids, steps and combined turns are asked of portraits, drawn, and tracked on the frames.

    python -m laboratory.measures.pose PICTURE... [--amplitude 20] [--untested]

Prints, for each picture, request, axis and reader, the mean error in degrees after the mean is taken away, the
correlation and the slope. The readers are head_angles (what the renderer corrects itself by), MediaPipe's facial
transform, the rigid fit of the whole mesh, head_pose, and a rigid fit of eyes, nose and forehead to the portrait's
own landmarks.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch

from playmate_core import pipeline
from playmate_core.face import geometry, transform
from playmate_core.media.pictures import read_image
from playmate_core.motion.geometry import euler_degrees
from playmate_core.motion.pose import ANGLES
from playmate_core.motion.types import Motion

UPPER_FACE = (33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 10, 151, 9, 8)


def requests(amplitude: float, frames: int = 24) -> dict[str, np.ndarray]:
    """[T, 3] degrees by name."""
    phase = 2 * np.pi * np.arange(frames) / frames
    steps = np.array([0, 1, -1, 0.5, -0.5, 0.25, -0.75])
    asked = {}
    for axis, name in enumerate(ANGLES):
        only = np.eye(3)[axis]
        asked[f"sine {name}"] = amplitude * np.sin(phase)[:, None] * only
        asked[f"steps {name}"] = amplitude * steps[:, None] * only
    asked["combined"] = amplitude * np.stack([0.6 * np.sin(phase + 0.5), 0.75 * np.sin(2 * phase),
                                              0.6 * np.sin(3 * phase + 1)], 1)
    return asked


def track(analyzer, frames, face) -> torch.Tensor:
    """[T, 478, 3] landmarks, each frame starting from the one before."""
    found = []
    for frame in frames:
        points = analyzer.follow(frame[None], face)[0]
        found.append(points)
        if torch.isfinite(points).all():
            face = type(face)(points, face.blendshapes, face.box, face.score, face.presence)
    return torch.stack(found)


def own_fit(landmarks: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    chosen = list(UPPER_FACE)
    _, rotation, _ = geometry.similarity(landmarks[:, chosen], reference[chosen])
    return euler_degrees(rotation.transpose(-1, -2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--amplitude", type=float, default=20.0, help="degrees")
    parser.add_argument("--untested", action="store_true", help="take requests at their word, without trial poses")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    models = pipeline.load_models()
    if args.untested:
        models.renderer.tracker = None
    asked = requests(args.amplitude)
    rotation = torch.from_numpy(np.concatenate(list(asked.values()))).float()
    rest = Motion.rest(len(rotation))
    motion = type(rest)(rest.expression, rotation, rest.translation, rest.scale, rest.fps, rest.neutral)
    for path in args.pictures:
        appearance = pipeline.extract_appearance(models, read_image(path))
        frames = (frame for batch in pipeline.render_frames(models, appearance, motion) for frame in batch)
        landmarks = track(models.face, frames, appearance.face)
        size = tuple(appearance.image.shape[:2])
        readers = {"head_angles": transform.head_angles(landmarks, size),
                   "facial": transform.facial_angles(landmarks, size), "rigid": transform.rigid_angles(landmarks),
                   "head_pose": geometry.head_pose(landmarks), "own": own_fit(landmarks, appearance.face.landmarks)}
        first = 0
        for name, wanted in asked.items():
            for axis in np.flatnonzero(np.ptp(wanted, axis=0) > 1):
                line, a = "", wanted[:, axis]
                for reader, angles in readers.items():
                    b = angles[first:first + len(wanted), axis].double().numpy()
                    error = np.abs((b - b.mean()) - (a - a.mean())).mean()
                    line += f" | {reader} {error:.2f} {np.corrcoef(a, b)[0, 1]:.3f} {np.polyfit(a, b, 1)[0]:.2f}"
                logging.info("%-20s %-12s %-5s%s", path.stem[:20], name, ANGLES[axis], line)
            first += len(wanted)


if __name__ == "__main__":
    main()
