"""Fit the latent bridge: LivePortrait's expression latents to face landmarks and back.

    python tools/fit_bridge.py --templates DIR --tracks DIR [-o OUT.safetensors] [--landmarks CACHE.safetensors]

``--templates`` holds LivePortrait's published motion templates and the clips that some of them were taken from
(NAME.safetensors with exp, R, t, scale; NAME.mp4). ``--tracks`` holds landmarks and blendshape scores of real
speakers. The clips' landmarks are found by the package's own face mesh (minutes; ``--landmarks`` keeps them).
Everything is deterministic. The figures that clips left out of the fit reach are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from playmate_core.face import geometry as geo  # noqa: E402
from playmate_core.face.bridge import LATENTS, LatentBridge, mirror_expression  # noqa: E402
from playmate_core.motion.geometry import euler_degrees  # noqa: E402

OUT = ROOT / "playmate_core" / "weights" / "bundled" / "bridge.safetensors"
LICENCE = """bridge.safetensors was fitted by this project (tools/fit_bridge.py) and is licensed like it, Apache-2.0.

It was fitted on the motion templates and driving clips that LivePortrait (Copyright (c) 2024 Kuaishou Visual
Generation and Interaction Center) and ComfyUI-LivePortraitKJ publish under the MIT licence, and on face landmarks of
public sample clips under MIT and Apache-2.0. It holds regression weights, a covariance and a mean face shape; no
frame, picture or sound of those sources.
"""

RIDGE = {"eyes": 3e-4, "rest": 1e-3}
"""Ridge strength by region. Lids need little: blinks are few, and a strong ridge leaves them half open."""
COVARIANCE_FLOOR = 1e-8
EVIDENCE = 1.0 / 50.0
"""Landmarks err together; this many fiftieths of them count as independent witnesses in the inverse."""
LIPS_EVIDENCE = 16.0


# ---- reading


def clip_landmarks(path: Path, analyzer) -> tuple[Tensor, Tensor]:
    """Landmarks [T, 478, 3] and blendshapes [T, 52] of a clip, every frame looked at afresh."""
    import av

    points, scores = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image = torch.from_numpy(frame.to_ndarray(format="rgb24")).float() / 255.0
            face = analyzer.analyze(image)[0][0]
            points.append(face.landmarks)
            scores.append(face.blendshapes)
    return torch.stack(points), torch.stack(scores)


def read_clips(folder: Path, cache: Path | None) -> dict[str, dict[str, Tensor]]:
    """Template clips by name: landmarks, blendshapes, exp [T, 63], R, t, scale, c_eyes, c_lip."""
    if cache is not None and cache.is_file():
        stored = load_file(str(cache))
    else:
        from playmate_core.face.analyzer import FaceAnalyzer

        analyzer, stored = FaceAnalyzer.load(), {}
        for path in sorted(folder.glob("*.mp4")):
            stored[f"{path.stem}.landmarks"], stored[f"{path.stem}.blendshapes"] = clip_landmarks(path, analyzer)
            sys.stderr.write(f"{path.stem}: {len(stored[f'{path.stem}.landmarks'])} frames\n")
        if cache is not None:
            save_file(stored, str(cache))
    clips = {}
    for name in sorted({key.split(".")[0] for key in stored}):
        clip = {key: value.double() for key, value in load_file(str(folder / f"{name}.safetensors")).items()}
        clip["landmarks"] = stored[f"{name}.landmarks"].double()
        clip["blendshapes"] = stored[f"{name}.blendshapes"].double()
        clips[name] = clip
    return clips


def read_templates(folder: Path) -> dict[str, Tensor]:
    """exp [T, 63] of every motion template."""
    files = {path.stem: load_file(str(path)) for path in sorted(folder.glob("*.safetensors"))}
    return {name: data["exp"].double().flatten(1) for name, data in files.items() if "R" in data}


def read_tracks(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Landmarks and blendshapes of real speakers, frames without a face left out."""
    tracks = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), "pt") as file:
            points, scores = (file.get_tensor(key).double() for key in ("landmarks", "blendshapes"))
        seen = torch.isfinite(points).flatten(1).all(dim=1)
        tracks[path.stem] = {"landmarks": points[seen], "blendshapes": scores[seen]}
    return tracks


# ---- the mean face


def resting(shapes: Tensor) -> Tensor:
    """[478, 3] median of the frames whose lips are closest together (those that a clip rests in)."""
    gap = geo.lip_gap(shapes)
    return shapes[gap <= gap.quantile(0.15)].median(dim=0).values


def mean_face(clips: dict, tracks: dict) -> tuple[Tensor, Tensor]:
    """The mean resting face [478, 3], frontal by LivePortrait's R, and the mirror index [478]."""
    from scipy.optimize import linear_sum_assignment

    turned_back = []
    for clip in clips.values():
        frontal = clip["landmarks"] @ clip["R"].transpose(-1, -2)
        frontal = frontal - frontal[:, list(geo.RIGID)].mean(dim=1, keepdim=True)
        turned_back.append(geo.unit_shape(frontal.median(dim=0).values))
    mean = geo.unit_shape(torch.stack(turned_back).mean(dim=0))
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    index = torch.from_numpy(linear_sum_assignment(torch.cdist(mean * flip, mean).numpy())[1])
    if not bool((index[index] == torch.arange(geo.LANDMARKS)).all()):
        raise SystemExit("the mirror index is not its own inverse; look at the landmarks")
    for _ in range(3):
        mean = geo.unit_shape((mean + mean[index] * flip) / 2)
        shapes = [resting(geo.lay_on_own_median(clip["landmarks"], mean)) for clip in (clips | tracks).values()]
        mean = geo.unit_shape(torch.stack(shapes).mean(dim=0))
    return geo.unit_shape((mean + mean[index] * flip) / 2), index


def pose_calibration(clips: dict, mean: Tensor) -> tuple[Tensor, dict]:
    """[2, 3] slope and offset per axis from landmark angles to LivePortrait's, and what they reach.

    The slope stays 1: on clips that turn by a few degrees regression would only measure the noise.
    """
    rigid = list(geo.RIGID)
    found = {}
    for name, clip in clips.items():
        _, rotation, _ = geo.similarity(clip["landmarks"][:, rigid], mean[rigid], rounds=3)
        found[name] = (euler_degrees(rotation.transpose(-1, -2)), euler_degrees(clip["R"]))
    offset = torch.stack([(truth - angle).mean(dim=0) for angle, truth in found.values()]).mean(dim=0)
    angle, truth = (torch.cat([pair[i] for pair in found.values()]) for i in (0, 1))
    error = angle + offset - truth
    fitted = torch.stack([(a - a.mean()) @ (b - b.mean()) / ((a - a.mean()) ** 2).sum()
                          for a, b in zip(angle.T, truth.T)])
    report = {axis: {"r": pearson(angle[:, i], truth[:, i]), "mean_error_degrees": round(float(error[:, i].abs().mean()), 2),
                     "regression_slope": round(float(fitted[i]), 2), "offset": round(float(offset[i]), 2)}
              for i, axis in enumerate(("pitch", "yaw", "roll"))}
    return torch.stack([torch.ones(3, dtype=torch.float64), offset]), report


# ---- the fit


def centred(value: Tensor) -> Tensor:
    return value - value.mean(dim=0)


def eye_landmarks() -> list[int]:
    return sorted({i for ring in geo.EYES + geo.IRISES for i in ring})


class Pairs:
    """Latents and displacements of clips, about each clip's mean, with their mirror images."""

    def __init__(self, clips: dict, mean: Tensor, index: Tensor) -> None:
        flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
        self.shape = {name: geo.lay_on_own_median(clip["landmarks"], mean) for name, clip in clips.items()}
        self.latents = {name: centred(clip["exp"].flatten(1)) for name, clip in clips.items()}
        self.displacement = {name: centred(shape) for name, shape in self.shape.items()}
        self.mirrored = {
            name: (mirror_expression(self.latents[name].unflatten(1, (21, 3))).flatten(1), moved[:, index] * flip)
            for name, moved in self.displacement.items()}

    def stack(self, names: list[str]) -> tuple[Tensor, Tensor]:
        """Latents [N, 63], displacements [N, 1434]."""
        x = torch.cat([self.latents[n] for n in names] + [self.mirrored[n][0] for n in names])
        y = torch.cat([self.displacement[n] for n in names] + [self.mirrored[n][1] for n in names])
        return x, y.flatten(1)


def ridge(x: Tensor, y: Tensor, strength: float) -> Tensor:
    return torch.linalg.solve(x.T @ x + strength * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)


def fit_forward(x: Tensor, y: Tensor) -> Tensor:
    """[63, 1434], ridge strengths by region."""
    forward = ridge(x, y, RIDGE["rest"]).unflatten(1, (geo.LANDMARKS, 3))
    eyes = eye_landmarks()
    forward[:, eyes] = ridge(x, y, RIDGE["eyes"]).unflatten(1, (geo.LANDMARKS, 3))[:, eyes]
    return forward.flatten(1)


def latent_covariance(templates: dict[str, Tensor]) -> Tensor:
    """[63, 63] second moment about each template's median, mirror images included."""
    moved = torch.cat([latents - latents.median(dim=0).values for latents in templates.values()])
    moved = torch.cat([moved, mirror_expression(moved.unflatten(1, (21, 3))).flatten(1)])
    return moved.T @ moved / len(moved) + COVARIANCE_FLOOR * torch.eye(LATENTS, dtype=torch.float64)


def evidence() -> Tensor:
    weight = torch.full((geo.LANDMARKS,), EVIDENCE, dtype=torch.float64)
    weight[list(geo.LIPS)] *= LIPS_EVIDENCE
    return weight


def fit_bridge(pairs: Pairs, names: list[str], templates: dict[str, Tensor], blendshapes: Tensor) -> LatentBridge:
    x, y = pairs.stack(names)
    forward = fit_forward(x, y)
    residual = (y - x @ forward).square().mean(dim=0).mean().sqrt()
    noise = torch.full((geo.LANDMARKS, 3), float(residual), dtype=torch.float64)
    return LatentBridge(forward, latent_covariance(templates), noise, blendshapes, evidence())


def fit_blendshapes(clips: dict, tracks: dict, pairs: Pairs, mean: Tensor, bridge: LatentBridge) -> Tensor:
    """[52, 63]: scores to displacement by ridge on speakers and clips, then the inverse bridge."""
    scores, moved = [], []
    for source in (clips | tracks).values():
        shape = geo.lay_on_own_median(source["landmarks"], mean)
        scores.append(centred(source["blendshapes"]))
        moved.append(centred(shape).flatten(1))
    to_shape = ridge(torch.cat(scores), torch.cat(moved), 1.0)
    return bridge.expression(to_shape.float().unflatten(1, (geo.LANDMARKS, 3))).flatten(1).double()


# ---- figures


def pearson(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return round(float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12)), 3)


def r2(predicted: Tensor, truth: Tensor) -> float:
    return round(1.0 - float((predicted - truth).square().sum() / centred(truth).square().sum()), 3)


def left_out(pairs: Pairs, templates: dict[str, Tensor]) -> dict:
    """Figures of every longer clip, fitted without it and without its template."""
    report = {}
    for name in pairs.latents:
        if len(pairs.latents[name]) < 100:
            continue
        others = [other for other in pairs.latents if other != name]
        bridge = fit_bridge(pairs, others, {k: v for k, v in templates.items() if k != name},
                            torch.zeros(52, LATENTS))
        truth, latents = pairs.displacement[name], pairs.latents[name]
        predicted = centred(bridge.displacement(latents).double())
        gap = [d[:, 14, 1] - d[:, 13, 1] for d in (predicted, truth)]
        lips6, lids = [13, 14, 61, 291, 0, 17], [159, 145, 386, 374]
        back = centred(bridge.expression(truth[..., :2]).double().flatten(1))
        report[name] = {
            "all": r2(predicted[:, :468, :2], truth[:, :468, :2]), "lips": r2(predicted[:, list(geo.LIPS), :2], truth[:, list(geo.LIPS), :2]),
            "six lip points": r2(predicted[:, lips6, :2], truth[:, lips6, :2]), "lids": r2(predicted[:, lids, :2], truth[:, lids, :2]),
            "lip gap r": pearson(*gap), "lip gap sd ratio": round(float(gap[0].std() / gap[1].std()), 2),
            "landmarks to latents": r2(back, latents),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, help="keep the clips' landmarks here and read them next time")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    clips = read_clips(arguments.templates, arguments.landmarks)
    tracks, templates = read_tracks(arguments.tracks), read_templates(arguments.templates)
    mean, index = mean_face(clips, tracks)
    calibration, pose_report = pose_calibration(clips, mean)
    pairs = Pairs(clips, mean, index)
    bridge = fit_bridge(pairs, list(clips), templates, torch.zeros(52, LATENTS))
    scores = fit_blendshapes(clips, tracks, pairs, mean, bridge)

    tensors = {
        "forward": bridge.forward, "covariance": bridge.covariance, "noise": bridge.noise, "evidence": bridge.evidence,
        "blendshapes": scores, "mean_face": mean, "mirror": index, "pose_calibration": calibration,
    }
    tensors = {k: (v.to(torch.int16) if k == "mirror" else v.float()).contiguous() for k, v in tensors.items()}
    temporary = arguments.out.with_suffix(".tmp")
    save_file(tensors, str(temporary), metadata={"format": "playmate.bridge.1", "licence": "Apache-2.0"})
    os.replace(temporary, arguments.out)
    arguments.out.with_suffix(".LICENSE.txt").write_text(LICENCE)
    json.dump({"left out": left_out(pairs, templates), "pose": pose_report}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
