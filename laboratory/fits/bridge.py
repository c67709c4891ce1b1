"""Fit the latent bridge: LivePortrait's expression latents to face landmarks and back.

    python -m laboratory.fits.bridge --templates DIR --pairs DIR --tracks DIR [DIR ...]
                                     [-o OUT.safetensors] [--landmarks CACHE.safetensors] [--new-mean-face]

``--templates`` holds LivePortrait's published motion templates and the clips that some of them were taken from
(NAME.safetensors with exp, R, t, scale; NAME.mp4), ``--pairs`` more such clips and, under rendered/single_latent,
LivePortrait's pictures of single latents. ``--tracks`` holds landmarks and blendshape scores of real speakers. The
clips' landmarks are found by the package's own face mesh (minutes; ``--landmarks`` keeps them).

The map goes through the space of what faces do (movement.py): latents are fitted to the principal movements of real
faces, so whatever they say, a nose keeps its width and a skull its shape. LivePortrait's own renderings of whole clips
are left out of the fit; they are what ``laboratory.measures.amplitude`` holds the drawing against.
Everything is deterministic. The figures that clips left out of the fit reach are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from playmate_core.face import geometry as geo
from playmate_core.face.bridge import EYE_DISTANCE, HEAD_ORIGIN, LATENTS, LatentBridge, mirror_expression
from playmate_core.motion.geometry import euler_degrees

from .. import ROOT
from .bridge_data import Landmarks, clip_landmarks, read_clips, read_singles, read_templates, read_tracks
from .movement import Recordings, centred, share

__all__ = ["Pairs", "clip_landmarks", "fit_bridge", "fit_forward", "read_templates", "ridge"]

OUT = ROOT / "playmate_core" / "weights" / "bundled" / "bridge.safetensors"
LICENCE = """bridge.safetensors was fitted by this project (laboratory/fits/bridge.py in its repository) and is
licensed like it, Apache-2.0.

It was fitted on the motion templates, driving clips and example renderings that LivePortrait (Copyright (c) 2024
Kuaishou Visual Generation and Interaction Center) and ComfyUI-LivePortraitKJ publish under the MIT licence, and on face
landmarks of public sample clips under MIT, Apache-2.0 and CC BY 4.0. It holds regression weights, a covariance and a
mean face shape; no frame, picture or sound of those sources.
"""

RIGHT_EYE_KEYPOINTS, LEFT_EYE_KEYPOINTS = (1, 2, 11, 13, 18), (1, 2, 15, 16, 18)
EYE_KEYPOINTS = tuple(sorted({*RIGHT_EYE_KEYPOINTS, *LEFT_EYE_KEYPOINTS}))
"""Keypoints of eyes and brows; the others move mouth, cheeks and jaw (SPEC.md section 10 and appendix A)."""
REGIONS = {
    "right eye": (geo.EYES[0] + geo.IRISES[0], RIGHT_EYE_KEYPOINTS),
    "left eye": (geo.EYES[1] + geo.IRISES[1], LEFT_EYE_KEYPOINTS),
}
"""Landmarks of each eye, and the keypoints that may move them: people blink with both, and a fit that may use either
would half shut the other one on a wink."""
STRENGTH, EYE_STRENGTH, FOREIGN = 1e-3, 3e-4, 0.1
"""Ridge strength: of the face as a whole; of an eye's own keypoints (weak: blinks are few, and a strong one leaves lids
half open); of an eye's foreign keypoints."""
REGION_EDGE = 0.06
"""An eye's fit fades out over this distance (outer-eye distances), so that skin does not tear at its edge."""
GAZE_GAIN = 1.2
"""Factor on the irises' shift within their eyes: LivePortrait's renderings turn the eyes further than the mesh saw them
turn in the clips (a lid covers what it follows). Its published pictures of gaze 15 and -15 shift irises by 0.055 and
0.070, the fit alone says 0.049."""
SINGLE_WEIGHT = 3.0
"""Weight of a picture of a single latent: two dozen pictures are all that is known of what keypoint 1's y does."""

CLIP_EDGES = {"d1": 512, "d2": 512, "d5": 480, "d7": 480, "d8": 480}
"""Pixels; LivePortrait's crop is the whole clip."""

COVARIANCE_FLOOR = 1e-7
EVIDENCE, SHARP_EVIDENCE = 0.01, 0.04
"""Landmarks err together, so each counts as a small part of an independent witness; lips, lids and irises, which the
mesh finds best, as a larger one."""


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
                          for a, b in zip(angle.T, truth.T, strict=True)])
    report = {axis: {"r": pearson(angle[:, i], truth[:, i]),
                     "mean error degrees": round(float(error[:, i].abs().mean()), 2),
                     "regression slope": round(float(fitted[i]), 2), "offset": round(float(offset[i]), 2)}
              for i, axis in enumerate(("pitch", "yaw", "roll"))}
    return torch.stack([torch.ones(3, dtype=torch.float64), offset]), report


def pose_units(clips: dict, mean: Tensor) -> dict:
    """What LivePortrait's s and t are in the picture, by clip: the evidence for EYE_DISTANCE and HEAD_ORIGIN.

    ``eye distance`` is the outer-eye distance over s in halves of the crop's edge; ``shift slope`` the movement of
    HEAD_ORIGIN in the picture for a movement t (x, y), both as lengths of the clip's own path.
    """
    rigid, report = list(geo.RIGID), {}
    for name, clip in clips.items():
        scale, rotation, translation = geo.similarity(clip["landmarks"][:, rigid], mean[rigid])
        half = CLIP_EDGES[name] / 2
        size = 1.0 / scale / half
        origin = torch.tensor(HEAD_ORIGIN, dtype=torch.float64) - translation
        place = (origin[:, None] @ rotation.transpose(1, 2))[:, 0, :2] / scale[:, None] / half
        moved, t = centred(place), centred(clip["t"][:, :2])
        report[name] = {"eye distance": round(float((size / clip["scale"][:, 0]).mean()), 3),
                        "shift slope": round(float((moved * t).sum() / t.square().sum()), 2),
                        "shift r": pearson(moved.flatten(), t.flatten())}
    report["EYE_DISTANCE"] = EYE_DISTANCE
    return report


# ---- the fit


class Pairs:
    """Latents and displacements of clips, about each clip's mean, with their mirror images.

    Args:
        clips: as ``read_clips`` gives them.
        mean: [478, 3] mean face; index: [478] mirror index.
        speakers: landmarks and blendshapes of people without latents: they say what faces can do, not what latents do.
        singles: latents [N, 63] and landmarks [N, 478, 3] of pictures of single latents.
    """

    def __init__(self, clips: dict, mean: Tensor, index: Tensor, speakers: dict | None = None,
                 singles: dict | None = None) -> None:
        flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
        for name, clip in clips.items():
            if "blendshapes" not in clip:
                clips[name] = {**clip, "blendshapes": torch.zeros(len(clip["landmarks"]), 52, dtype=torch.float64)}
        self.mean, self.index = mean, index
        self.recordings = Recordings(clips | (speakers or {}), mean)
        self.shape = {name: self.recordings.shape[name] for name in clips}
        self.latents = {name: centred(clip["exp"].flatten(1)) for name, clip in clips.items()}
        self.displacement = {name: self.recordings.movement(name) for name in clips}
        self.singles = {}
        for name, (latents, landmarks) in (singles or {}).items():
            shape = geo.lay_on_own_median(landmarks, mean)
            rest = shape[latents.abs().amax(1) < 0.004].mean(dim=0)
            self.singles[name] = latents, shape - rest
        self.mirrored = {
            name: (mirror_expression(latents.unflatten(1, (21, 3))).flatten(1), moved[:, index] * flip)
            for name, (latents, moved) in (self.singles | {n: (self.latents[n], self.displacement[n])
                                                           for n in clips}).items()}

    def stack(self, names: list[str]) -> tuple[Tensor, Tensor]:
        """Latents [N, 63] and displacements [N, 1434] of clips and of all single latents, weighted."""
        rows = [(self.latents[n], self.displacement[n], share(len(self.latents[n])), n) for n in names]
        rows += [(latents, moved, SINGLE_WEIGHT, n) for n, (latents, moved) in self.singles.items()]
        x = torch.cat([side * w for latents, _, w, n in rows for side in (latents, self.mirrored[n][0])])
        y = torch.cat([side.flatten(1) * w for _, moved, w, n in rows for side in (moved, self.mirrored[n][1])])
        return x, y

    def basis(self, names: list[str]) -> Tensor:
        """[K, 1434] of ``names`` and everybody who is no clip."""
        speakers = [name for name in self.recordings.shape if name not in self.latents]
        return self.recordings.basis(self.index, names=speakers + names)


def ridge(x: Tensor, y: Tensor, strength: float | Tensor) -> Tensor:
    """argmin |x b - y|^2 + sum strength b^2, ``strength`` one number or one for each column of ``x``."""
    penalty = torch.as_tensor(strength, dtype=x.dtype).expand(x.shape[1])
    return torch.linalg.solve(x.T @ x + torch.diag(penalty), x.T @ y)


def fit_forward(x: Tensor, y: Tensor, mean: Tensor) -> Tensor:
    """[63, 1434]: a ridge for the whole face, and one for each eye faded into it."""
    forward = ridge(x, y, STRENGTH).unflatten(1, (geo.LANDMARKS, 3))
    for landmarks, keypoints in REGIONS.values():
        penalty = torch.full((21,), FOREIGN, dtype=x.dtype)
        penalty[list(keypoints)] = EYE_STRENGTH
        own = ridge(x, y, penalty.repeat_interleave(3)).unflatten(1, (geo.LANDMARKS, 3))
        away = torch.cdist(mean[:, :2], mean[list(landmarks), :2]).min(dim=1).values
        part = torch.exp(-(away / REGION_EDGE) ** 2)[:, None]
        forward = part * own + (1.0 - part) * forward
    for irises, upper in zip(geo.IRISES, geo.EYES_UPPER, strict=True):
        carried = forward[:, [upper[0], upper[-1]]].mean(dim=1, keepdim=True)
        forward[:, list(irises)] = carried + GAZE_GAIN * (forward[:, list(irises)] - carried)
    return forward.flatten(1)


def latent_covariance(templates: dict[str, Tensor]) -> Tensor:
    """[63, 63] second moment about each template's median."""
    moved = torch.cat([latents - latents.median(dim=0).values for latents in templates.values()])
    return moved.T @ moved / len(moved) + COVARIANCE_FLOOR * torch.eye(LATENTS, dtype=torch.float64)


def fit_bridge(pairs: Pairs, names: list[str], templates: dict[str, Tensor]) -> LatentBridge:
    """A bridge, still without blendshapes, from the clips ``names`` and the covariance of ``templates``."""
    x, y = pairs.stack(names)
    basis = pairs.basis(names)
    within = y @ basis.T @ basis
    forward = fit_forward(x, within, pairs.mean)
    evidence = torch.full((geo.LANDMARKS, 1), EVIDENCE, dtype=torch.float64)
    evidence[list(geo.LIPS) + [i for landmarks, _ in REGIONS.values() for i in landmarks]] = SHARP_EVIDENCE
    residual = (y - x @ forward).square().mean()
    noise = (residual / evidence).sqrt().expand(-1, 3)
    return LatentBridge(forward, latent_covariance(templates), noise, torch.zeros(52, LATENTS), torch.zeros(52))


class Portraits:
    """Every frame of clips and speakers as a portrait: scores, and displacement from the person's resting face."""

    def __init__(self, sources: dict, mean: Tensor) -> None:
        self.scores, self.moved, self.gap, self.rest_scores, self.rest_gap = {}, {}, {}, {}, {}
        for name, source in sources.items():
            shape = geo.lay_on_own_median(source["landmarks"], mean)
            rest, gap = resting(shape), geo.lip_gap(shape)
            self.scores[name] = source["blendshapes"].clamp_min(0.0).sqrt()
            self.moved[name], self.gap[name] = (shape - rest).flatten(1), gap
            self.rest_gap[name] = geo.lip_gap(rest)
            self.rest_scores[name] = self.scores[name][gap <= gap.quantile(0.15)].median(dim=0).values


def fit_blendshapes(portraits: Portraits, names: list[str], bridge: LatentBridge) -> tuple[Tensor, Tensor]:
    """[52, 63] roots of scores to latents, and [52] the roots at rest: ridge to displacement, then the inverse."""
    rest = torch.stack([portraits.rest_scores[name] for name in names]).median(dim=0).values
    scores = torch.cat([portraits.scores[name] for name in names]) - rest
    to_shape = ridge(scores, torch.cat([portraits.moved[name] for name in names]), 3.0)
    return bridge.expression(to_shape.unflatten(1, (geo.LANDMARKS, 3))).flatten(1), rest


# ---- figures


def pearson(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    return round(float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12)), 3)


def r2(predicted: Tensor, truth: Tensor) -> float:
    return round(1.0 - float((predicted - truth).square().sum() / centred(truth).square().sum()), 3)


def lengths(moved: Tensor) -> dict[str, Tensor]:
    """What a viewer sees of displacements [T, 478, 3]: each [T], outer-eye distances, more is more."""
    x, y = moved[..., 0], moved[..., 1]
    lids = [(y[:, list(low[3:6])] - y[:, list(up[3:6])]).mean(1)
            for up, low in zip(geo.EYES_UPPER, geo.EYES_LOWER, strict=True)]
    corners = [(x[:, up[0]] + x[:, up[-1]]) / 2 for up in geo.EYES_UPPER]
    return {"lip gap": y[:, 14] - y[:, 13], "lip width": x[:, 291] - x[:, 61],
            "corners up": -(y[:, 61] + y[:, 291]) / 2, "upper lip": -y[:, 13], "lower lip": y[:, 14],
            "chin": y[:, 152], "pucker": -moved[:, (0, 17), 2].mean(1),
            "inner brows": -(y[:, 107] + y[:, 336]) / 2, "outer brows": -(y[:, 70] + y[:, 300]) / 2,
            "brows together": x[:, 107] - x[:, 336], "right lids": lids[0], "left lids": lids[1],
            "gaze x": (x[:, 468] - corners[0] + x[:, 473] - corners[1]) / 2}


LEAST_MOVED = 0.008
"""Standard deviation below which a clip hardly shows a movement, so that its amplitude says nothing."""


def left_out(pairs: Pairs, templates: dict[str, Tensor]) -> dict:
    """Figures of every longer clip, fitted without it and without its template: R2 by region, r and amplitude."""
    report = {}
    parts = {"all": list(range(468)), "lips": list(geo.LIPS), "brows": [i for brow in geo.BROWS for i in brow],
             "eyes": [i for eye in geo.EYES for i in eye]}
    for name in pairs.latents:
        if len(pairs.latents[name]) < 70:
            continue
        others = [other for other in pairs.latents if other != name]
        bridge = fit_bridge(pairs, others, {k: v for k, v in templates.items() if k != name})
        truth, latents = pairs.displacement[name], pairs.latents[name]
        predicted = centred(bridge.displacement(latents).double())
        row = {part: r2(predicted[:, chosen, :2], truth[:, chosen, :2]) for part, chosen in parts.items()}
        drawn, real = lengths(predicted), lengths(truth)
        for key, value in real.items():
            if float(value.std()) > LEAST_MOVED:
                row[key] = {"r": pearson(drawn[key], value),
                            "amplitude": round(float(drawn[key].std() / value.std()), 2)}
        row["landmarks to latents"] = r2(centred(bridge.expression(truth[..., :2]).double().flatten(1)), latents)
        report[name] = row
    return report


def singles_drawn(pairs: Pairs, bridge: LatentBridge) -> dict:
    """Lengths at the largest value of each single latent, as pictured by LivePortrait and as read by the bridge."""
    report = {}
    for name, (latents, moved) in pairs.singles.items():
        along = latents.sum(dim=1)
        seen, drawn = lengths(moved), lengths(bridge.displacement(latents).double())

        def at_end(value, along=along):
            return round(float(centred(value) @ centred(along) / centred(along).square().sum() * along.max()), 3)

        report[name] = {key: [at_end(seen[key]), at_end(drawn[key])] for key in seen}
    return report


def gap_of(moved: Tensor) -> Tensor:
    return moved[..., 14, 1] - moved[..., 13, 1]


def width_of(moved: Tensor) -> Tensor:
    return moved[..., 291, 0] - moved[..., 61, 0]


def slope(truth: Tensor, found: Tensor) -> float:
    truth, found = centred(truth.double()), centred(found.double())
    return float(truth @ found / (truth @ truth))


def speech_round_trip(portraits: Portraits, names: list[str], bridge: LatentBridge) -> dict:
    """Real speakers' displacement -> latents -> displacement: medians over the speakers."""
    rows = []
    for name in names:
        moved = portraits.moved[name].unflatten(1, (geo.LANDMARKS, 3))
        latents = bridge.expression(moved)
        back, length = bridge.displacement(latents).double(), bridge.mahalanobis(latents)
        shut = portraits.gap[name] <= 0.02
        rows.append([pearson(gap_of(back), gap_of(moved)), slope(gap_of(moved), gap_of(back)),
                     pearson(width_of(back), width_of(moved)), slope(width_of(moved), width_of(back)),
                     float(((gap_of(back) + portraits.rest_gap[name])[shut] <= 0.02).double().mean()),
                     float(length.mean()), float(length.quantile(0.95))])
    titles = ("gap r", "gap slope", "width r", "width slope", "closed stays closed", "mahalanobis mean",
              "mahalanobis p95")
    return dict(zip(titles, [round(float(v), 3) for v in torch.tensor(rows).nanmedian(dim=0).values], strict=True))


def blendshapes_left_out(portraits: Portraits, bridge: LatentBridge) -> dict:
    """Own expression from blendshapes, each person left out of that map: medians over the persons."""
    rows = []
    for name in portraits.scores:
        scores, rest = fit_blendshapes(portraits, [other for other in portraits.scores if other != name], bridge)
        latents = ((portraits.scores[name] - rest) @ scores.double()).float()
        moved, found = portraits.moved[name].unflatten(1, (geo.LANDMARKS, 3)), bridge.displacement(latents).double()
        rows.append([pearson(gap_of(found), gap_of(moved)), slope(gap_of(moved), gap_of(found)),
                     float((gap_of(found) - gap_of(moved)).abs().mean()), pearson(width_of(found), width_of(moved)),
                     slope(width_of(moved), width_of(found)), float((width_of(found) - width_of(moved)).abs().mean())])
    titles = ("gap r", "gap slope", "gap error", "width r", "width slope", "width error")
    return dict(zip(titles, [round(float(v), 3) for v in torch.tensor(rows).median(dim=0).values], strict=True))


def lids_in_blinks(clips: dict, pairs: Pairs, bridge: LatentBridge) -> dict:
    """Eye openness [right, left] of each clip open, at its most closed, and as its latents draw that."""
    report = {}
    for name, clip in clips.items():
        eyes, shape, latents = clip["c_eyes"].mean(dim=1), pairs.shape[name], clip["exp"].flatten(1)
        open_, shut = eyes >= eyes.quantile(0.7), eyes <= eyes.min() + 0.02
        base = shape[open_].median(dim=0).values
        drawn = base + bridge.displacement(latents[shut] - latents[open_].median(dim=0).values).double()
        report[name] = {key: [round(float(v), 3) for v in geo.eye_openness(value).reshape(-1, 2).mean(dim=0)]
                        for key, value in (("open", base), ("shut", shape[shut]), ("drawn", drawn))}
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--tracks", type=Path, nargs="+", required=True)
    parser.add_argument("--landmarks", type=Path, help="keep the clips' landmarks here and read them next time")
    parser.add_argument("--new-mean-face", action="store_true",
                        help="find the mean face and the mirror index anew, from --templates and the first --tracks")
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    cache = Landmarks(arguments.landmarks)
    first = read_clips(arguments.templates, cache)
    clips = first | read_clips(arguments.pairs, cache)
    singles = read_singles(arguments.pairs / "rendered" / "single_latent", cache)
    templates = read_templates(arguments.templates) | read_templates(arguments.pairs)
    tracks: dict = {}
    for folder in arguments.tracks:
        tracks |= read_tracks(folder)
    # The frame of reference stays that of the first fit, whatever is added later: saved motion counts from it.
    mean, index = (mean_face(first, read_tracks(arguments.tracks[0])) if arguments.new_mean_face
                   else (geo.mean_face().double(), geo.mirror_index()))
    calibration, pose_report = pose_calibration(first, mean)
    pairs = Pairs(clips, mean, index, tracks, singles)
    bridge = fit_bridge(pairs, list(clips), templates)
    portraits = Portraits(clips | tracks, mean)
    scores, rest = fit_blendshapes(portraits, list(portraits.scores), bridge)

    tensors = {
        "forward": bridge.forward, "covariance": bridge.covariance, "noise": bridge.noise,
        "blendshapes": scores, "blendshapes_rest": rest,
        "mean_face": mean, "mirror": index, "pose_calibration": calibration,
    }
    tensors = {k: (v.to(torch.int16) if k == "mirror" else v.float()).contiguous() for k, v in tensors.items()}
    temporary = arguments.out.with_suffix(".tmp")
    save_file(tensors, str(temporary), metadata={"format": "playmate.bridge.1", "licence": "Apache-2.0"})
    os.chmod(temporary, 0o644)
    os.replace(temporary, arguments.out)
    arguments.out.with_suffix(".LICENSE.txt").write_text(LICENCE)
    report = {
        "clips left out": left_out(pairs, templates), "single latents": singles_drawn(pairs, bridge),
        "pose": pose_report, "units": pose_units(first, mean), "lids": lids_in_blinks(clips, pairs, bridge),
        "speech round trip": speech_round_trip(portraits, list(tracks), bridge),
        "own expression, persons left out": blendshapes_left_out(portraits, bridge),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
