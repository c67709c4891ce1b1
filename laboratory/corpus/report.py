"""Statistics of a corpus, measured on the landmarks that the latent bridge gives for its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from playmate_core.evaluation.phones import CLOSED, DENTAL_LIP, OPEN, OPEN_ROUND, Phone

from . import shards
from .latents import EYES, Measures

CLOSED_GAP = 0.02
FPS = 25.0


def at_centre(curve: np.ndarray, phone: Phone) -> float:
    """A curve at 25 frames a second, read at a phone's centre; frame t stands for (t + 0.5) / 25 s."""
    return float(np.interp(phone.centre * FPS - 0.5, np.arange(len(curve)), curve))


def closure_figures(gaps: list[np.ndarray], phones: list[list[Phone]]) -> dict[str, float]:
    """How lips treat phones of known time.

    Args:
        gaps: [T] lip gap from rest of each clip, outer-eye distances; negative counts as 0.
        phones: of each clip.

    Returns:
        ``closed``: share of p, b, m whose gap is at most 0.02; ``shut``: their mean gap; ``open``: mean gap on open
        vowels (at least 60 ms); ``labiodental``: mean gap on f, v; ``ratio``: open / shut, with shut at least 0.001.
    """
    found: dict[str, list[float]] = {CLOSED: [], DENTAL_LIP: [], OPEN: []}
    for gap, spoken in zip(gaps, phones, strict=False):
        for phone in spoken:
            kind = OPEN if phone.kind in (OPEN, OPEN_ROUND) else phone.kind
            if kind in found and (kind != OPEN or phone.end - phone.start >= 0.06):
                found[kind].append(max(at_centre(gap, phone), 0.0))
    mean = {kind: float(np.mean(values)) if values else float("nan") for kind, values in found.items()}
    return {"closed": float(np.mean(np.array(found[CLOSED]) <= CLOSED_GAP)) if found[CLOSED] else float("nan"),
            "shut": mean[CLOSED], "open": mean[OPEN], "labiodental": mean[DENTAL_LIP],
            "ratio": mean[OPEN] / max(mean[CLOSED], 1e-3)}


def count_blinks(eye: np.ndarray, shut: float = -0.045) -> int:
    """Times that the lids [T] (change of openness, outer-eye distances) pass below ``shut``."""
    below = eye < shut
    return int((below[1:] & ~below[:-1]).sum() + below[:1].sum())


def figures(out: Path, made: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """Measures of each group of clips (source and split)."""
    from playmate_core.face.bridge import LatentBridge

    bridge = LatentBridge.load()
    measures = Measures(bridge, bridge.covariance)
    groups: dict[str, list] = {}
    for name in made:
        for clip in shards.read_shard(out / name):
            groups.setdefault(f"{clip.about['source']}, {clip.about['split']}", []).append(clip)
    table = {}
    for group, clips in sorted(groups.items()):
        curves = [measures.read(c.expression, "gap", "width", *EYES).numpy() for c in clips]
        seconds = sum(c.about["seconds"] for c in clips)
        row = {"hours": seconds / 3600, "gap std": float(np.mean([c[:, 0].std() for c in curves])),
               "gap mean": float(np.mean([c[:, 0].clip(0).mean() for c in curves])),
               "width std": float(np.mean([c[:, 1].std() for c in curves])),
               "blinks/min": sum(count_blinks(c[:, 2:].mean(1)) for c in curves) / seconds * 60,
               "mahalanobis": float(np.mean([bridge.mahalanobis(c.expression).mean() for c in clips]))}
        for axis, label in enumerate(("pitch", "yaw", "roll")):
            row[f"{label} std"] = float(np.mean([c.pose[:, axis].std() for c in clips]))
        spoken = [(curve[:, 0], [Phone(*p) for p in c.about["phones"]]) for curve, c in zip(curves, clips, strict=False)
                  if c.about.get("phones")]
        if spoken:
            row.update(closure_figures([g for g, _ in spoken], [p for _, p in spoken]))
        table[group] = row
    return table


def write_report(out: Path, made: dict[str, list[dict]], extra: str = "") -> None:
    """``REPORT.md`` in the corpus: hours by source and language, and :func:`figures`."""
    lines = ["# Corpus", "", "| source | language | split | hours |", "|---|---|---|---|"]
    for group, value in shards.hours(made, "source", "language", "split").items():
        lines.append(f"| {' | '.join(group)} | {value:.2f} |")
    lines += ["", "Measured through the forward bridge, outer-eye distances and degrees:", ""]
    table = figures(out, made)
    for group, row in table.items():
        lines.append(f"- **{group}**: " + ", ".join(f"{name} {value:.3g}" for name, value in row.items()))
    part = out / "REPORT.md.part"
    part.write_text("\n".join(lines) + "\n" + extra, encoding="utf-8")
    part.replace(out / "REPORT.md")
