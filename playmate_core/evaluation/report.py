"""The figures of a clip, and of a set of emotional clips, as plain dictionaries and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Mapping, Sequence

import torch
from torch import Tensor

from ..face.blendshapes import NAMES
from ..motion.keyframes import PoseKeyframes
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..speech.prosody import loudness
from .clips import Clip
from .emotion import directions, mean_blendshapes, monotone, nearest_label, separation
from .image import identity
from .lips import closure_rate, compare, mean_over, on_frames, spread
from .motion import WINDOW, face_shape, jitter, picture_shape, seam_velocity
from .phones import OPEN, OPEN_ROUND, Phone
from .pose import READERS, pose_error, requested_angles, tracked_angles
from .speech import closures, openness_estimate, phone_curves

CLOSED_GAP = 0.02
"""Outer-eye distances at or below which lips count as closed."""


@dataclass(frozen=True)
class Request:
    """What a clip is held against; whatever is None is not measured.

    Attributes:
        samples: [N] sound at 16 kHz.
        phones: what is said.
        reference: a clip whose lips should be followed.
        pose: the requested pose.
        portrait: [478, 3] landmarks of the portrait, pixels.
        portrait_size: (height, width) of it.
        changes: seconds at which the emotion changes.
        window: frames at 25 a second that the motion model made in one piece.
    """

    samples: Tensor | None = None
    phones: Sequence[Phone] | None = None
    reference: Clip | None = None
    pose: PoseKeyframes | Motion | None = None
    portrait: Tensor | None = None
    portrait_size: tuple[int, int] = (0, 0)
    changes: Sequence[float] = field(default_factory=tuple)
    window: int = WINDOW


def measure(clip: Clip, request: Request) -> dict:
    """All figures of one clip that need no other: see docs/evaluation.md for what each means."""
    report: dict = {"file": str(clip.path), "kind": clip.kind, "frames": len(clip), "fps": clip.fps,
                    "frames_without_face": int((~clip.track.valid).sum()), "lips": lips(clip, request)}
    if request.pose is not None:
        asked = requested_angles(request.pose, len(clip), clip.fps)
        for reader in READERS if all(clip.track.size) else ("pose",):
            found = pose_error(tracked_angles(clip.track, reader), asked, own_pose(clip, request, reader))
            report[reader] = {axis: error.as_dict() for axis, error in found.items()}
        if not report["pose"]:
            raise PlaymateError("The requested pose names no angle; name pitch, yaw or roll to measure it.")
    report["smoothness"] = smoothness(clip, request)
    if request.portrait is not None and clip.kind != "motion":
        report["identity"] = identity(clip.track, request.portrait)
    report["blendshapes"] = dict(zip(NAMES, mean_blendshapes(clip.track).tolist(), strict=True))
    return report


def own_pose(clip: Clip, request: Request, reader: str = "pose") -> Tensor | None:
    """[3] degrees: the portrait's own pose by the reader that reads the clip's, where a request counts from it."""
    if request.portrait is None or not all(clip.track.size):
        return None
    return READERS[reader](request.portrait, request.portrait_size)


def lips(clip: Clip, request: Request) -> dict:
    """Lip gap and width: how much they move, and how well with sound, phones and reference."""
    gap, width, fps = clip.gap, clip.width, clip.fps
    seen = gap[torch.isfinite(gap)]
    report: dict = {"gap_mean": float(seen.mean()), "gap_std": spread(gap), "width_std": spread(width),
                    "closed_share": float((seen <= CLOSED_GAP).double().mean())}
    if request.samples is not None:
        report["gap_against_sound"] = compare(gap, openness_estimate(request.samples, len(gap), fps), fps)
        report["gap_against_loudness"] = compare(gap, loudness(request.samples, len(gap), fps), fps)
    if request.reference is not None:
        other = request.reference
        for name, ours, theirs in (("gap", gap, other.gap), ("width", width, other.width)):
            report[f"{name}_against_reference"] = compare(ours, on_frames(theirs, other.fps, len(gap), fps), fps)
    if request.phones:
        opened, spoken_width = phone_curves(request.phones, len(gap), fps)
        report["gap_against_phones"] = compare(gap, opened, fps)
        report["width_against_phones"] = compare(width, spoken_width, fps)
        shut = closures(request.phones)
        # Lips touch around a closure's middle; its edges belong to the neighbours too.
        middles = [((a + b) / 2 - 0.02, (a + b) / 2 + 0.02) for a, b in shut]
        vowels = [(p.start, p.end) for p in request.phones if p.kind in (OPEN, OPEN_ROUND)]
        report["closures"] = {"count": len(shut), "rate": closure_rate(gap, shut, fps, CLOSED_GAP),
                              "gap_on_closures": mean_over(gap, middles, fps),
                              "gap_on_open_vowels": mean_over(gap, vowels, fps)}
    for name in ("gap_against_sound", "gap_against_loudness", "gap_against_phones", "width_against_phones"):
        report.get(name, {}).pop("amplitude", None)  # these have no unit
    return report


def smoothness(clip: Clip, request: Request) -> dict:
    """Jitter, and velocity at window borders and emotion changes: of the latents where there are any."""
    shape = face_shape(clip.track)
    report = {"jitter_face": jitter(shape), "jitter_picture": jitter(picture_shape(clip.track)),
              "jitter_angles": jitter(clip.track.rotation)}
    if clip.motion is not None:
        report["jitter_latents"] = jitter(clip.motion.expression)
        report["jitter_picture"] = float("nan")  # nothing has been drawn
    values = shape if clip.motion is None else clip.motion.expression
    report["seams"] = seam_velocity(values, clip.fps, request.window, request.changes)
    report["seams"]["measured_on"] = "landmarks" if clip.motion is None else "latents"
    return report


def emotions(labelled: Sequence[tuple[str, float, Clip]], templates: Mapping[str, Tensor] | None = None) -> dict:
    """What a set of clips of one portrait and voice shows together.

    Args:
        labelled: (label, strength, clip). Of each label the clip of strength 1 (or the nearest to it) stands for the
            emotion; several strengths tell whether the effect grows.
        templates: for each label [52], to classify by; if neutral is among them and among the clips, what counts is the
            difference from it.

    Returns:
        ``separation`` (neutral left out), ``from_neutral``, ``directions``, ``strengths``, ``by_templates``; each where
        the clips allow it.
    """
    vectors: dict[str, dict[float, Tensor]] = {}
    for label, strength, clip in labelled:
        if strength in vectors.setdefault(label, {}):
            raise PlaymateError(f"Two clips are labelled {label} {strength:g}; give each its own label.")
        vectors[label][strength] = mean_blendshapes(clip.track)
    whole = {label: steps[min(steps, key=lambda s: (abs(s - 1), -s))] for label, steps in vectors.items()}
    neutral = whole.get("neutral")
    emotional = {label: vector for label, vector in whole.items() if label != "neutral"}
    report: dict = {}
    if len(emotional) > 1:
        report["separation"] = separation(emotional).as_dict()
    if neutral is not None and emotional:
        report["from_neutral"] = {label: float((v - neutral).double().norm()) for label, v in emotional.items()}
        report["directions"] = {label: [d.as_dict() for d in directions(neutral, v, label)]
                                for label, v in emotional.items()}
        report["directions_hold"] = all(d["holds"] for found in report["directions"].values() for d in found)
        grown = {label: monotone(neutral, list(steps.items()), label) for label, steps in vectors.items()
                 if label != "neutral" and len(steps) > 1}
        if grown:
            report["strengths"] = grown
    if templates:
        report["by_templates"] = _classified(whole, templates)
    return report


def _classified(whole: Mapping[str, Tensor], templates: Mapping[str, Tensor]) -> dict:
    differences = "neutral" in whole and "neutral" in templates
    base = whole["neutral"] if differences else torch.zeros(len(NAMES))
    centres = {k: v - templates["neutral"] if differences else v for k, v in templates.items()}
    if differences:
        centres.pop("neutral")
    said = {label: nearest_label(vector - base, centres) for label, vector in whole.items()
            if label in centres}
    if not said:
        raise PlaymateError("The templates and the clips share no emotion; label both with the same words.")
    return {"said": said, "accuracy": sum(a == b for a, b in said.items()) / len(said)}


# ---- as text


def plain(value):
    """The report with NaN and infinity as null, for JSON."""
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(report: Mapping) -> str:
    """The report for reading: one column a clip, one row a figure; then the emotions' matrix and directions."""
    clips = report["clips"]
    rows: dict[str, list[str]] = {}
    for number, clip in enumerate(clips):
        shown = {k: v for k, v in clip.items() if k not in ("file", "kind", "label", "strength", "blendshapes")}
        for name, value in _flat(shown):
            rows.setdefault(name, ["-"] * len(clips))[number] = value
    groups = {name.split(".")[0]: None for name in rows}
    rows = {name: rows[name] for group in groups for name in rows if name.split(".")[0] == group}
    names = [str(clip.get("label") or f"clip {n + 1}") + (f" {clip['strength']:g}" if clip.get("strength", 1) != 1 else
                                                          "") for n, clip in enumerate(clips)]
    lines = [f"{name}: {clip['file']} ({clip['kind']})" for name, clip in zip(names, clips, strict=True)]
    lines += ["", *_columns([["", *names], *([name, *values] for name, values in rows.items())])]
    if report.get("emotions"):
        lines += ["", *_emotion_lines(report["emotions"])]
    return "\n".join(lines) + "\n"


def _flat(value, prefix: str = ""):
    for key, entry in value.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping):
            yield from _flat(entry, f"{name}.")
        elif isinstance(entry, (list, tuple)):
            continue
        else:
            yield name, _shown(entry)


def _shown(value) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "NO", None: "-"}[value]
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}" if abs(value) < 0.01 else f"{value:.3f}".rstrip("0").rstrip(
            ".")
    return str(value)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
            .rstrip() for row in rows]


def _emotion_lines(found: Mapping) -> list[str]:
    lines = []
    if "separation" in found:
        apart = found["separation"]
        lines.append(f"emotions apart: mean {apart['mean']:.3f}, smallest {apart['smallest']:.3f} "
                     f"({' and '.join(apart['closest'])})")
        labels = apart["labels"]
        lines += _columns([["", *labels], *([label, *(f"{x:.2f}" for x in row)] for label, row in
                                            zip(labels, apart["matrix"], strict=True))])
    if "directions" in found:
        lines += ["", *_columns([["against neutral", "what should rise", "change", "log-odds", "rank", "holds"]] + [
            [label, d["name"], f"{d['change']:+.3f}", f"{d['log_odds']:+.2f}", str(d["rank"]), _shown(d["holds"])]
            for label, entries in found["directions"].items() for d in entries])]
    for label, entries in found.get("strengths", {}).items():
        for name, grown in entries.items():
            steps = ", ".join(f"{s:g}: {c:+.3f}" for s, c in zip(grown["strengths"], grown["changes"], strict=True))
            lines.append(f"{label}, {name} by strength: {steps} ({'rises' if grown['rises'] else 'DOES NOT RISE'})")
    for name in ("by_templates", "by_classifier"):
        if name in found:
            said = ", ".join(f"{a} as {b}" for a, b in found[name]["said"].items())
            lines.append(f"{name.replace('_', ' ')}: accuracy {found[name]['accuracy']:.3f} ({said})")
    return lines
