"""What speech asks of the lips, to hold drawn lips against: an estimate from the sound alone, or from known phones."""

from __future__ import annotations

import json
import re
from os import PathLike
from pathlib import Path
from typing import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..media.audio import SAMPLE_RATE
from ..motion.smoothing import gaussian_smooth
from ..runtime.errors import PlaymateError
from .phones import (
    CLOSED,
    DENTAL_LIP,
    MID,
    OPEN,
    OPEN_ROUND,
    OTHER,
    ROUND,
    SILENCE,
    SPREAD,
    Phone,
    from_arpabet,
    from_ipa,
    merge,
)

BANDS = (100, 300, 500, 800, 1200, 1800, 2600, 4000, 7900)
"""Edges in Hz of the bands whose levels say how far a mouth is open."""
WEIGHTS = (-0.41, -0.52, -0.01, 0.30, 0.28, 1.00, 0.52, 0.16)
"""How each band counts: a ridge regression of 18 real speakers' lip gaps on their bands' levels. With the speaker left
out its correlation with the lip gap is 0.44 on average (0.15 to 0.73), where plain loudness reaches 0.21."""
_POWER = 0.12
_SIZE, _HOP, _PIECE = 512, 160, 30 * SAMPLE_RATE

GAPS = {SILENCE: 0.0, CLOSED: 0.0, DENTAL_LIP: 0.15, ROUND: 0.35, OPEN_ROUND: 0.7, OPEN: 1.0, MID: 0.6, SPREAD: 0.4,
        OTHER: 0.4}
"""How far the lips are apart in each class of phone, of an open vowel's gap."""
WIDTHS = {SILENCE: 0.0, CLOSED: 0.0, DENTAL_LIP: 0.1, ROUND: -1.0, OPEN_ROUND: -0.6, OPEN: 0.1, MID: 0.4, SPREAD: 0.8,
          OTHER: 0.2}
"""How wide they are drawn, from rounded (-1) to spread (1)."""
_COARTICULATION = 0.05  # seconds, standard deviation: about the time constant of the lips

_ARPABET_VOWELS = frozenset("aa ae ah ao aw ax ay eh er ey ih iy ow oy uh uw".split())


def openness_estimate(samples: Tensor, frames: int, fps: float) -> Tensor:
    """How far open a mouth would be that said this, without knowing the phones.

    Args:
        samples: [N] at 16 kHz.
        frames: T.
        fps: frames a second.

    Returns:
        [T] without a unit: only its shape over time means something. Zeros for silence.
    """
    levels = []
    padded = F.pad(samples.float(), (_SIZE // 2, _SIZE // 2))
    window = torch.hann_window(_SIZE)
    bins = torch.arange(_SIZE // 2 + 1) * SAMPLE_RATE / _SIZE
    masks = [(bins >= low) & (bins < high) for low, high in zip(BANDS, BANDS[1:], strict=False)]
    for start in range(0, max(len(samples), 1), _PIECE):
        part = padded[start:start + _PIECE + _SIZE - _HOP]
        if len(part) >= _SIZE:
            power = (part.unfold(0, _SIZE, _HOP) * window)
            power = torch.fft.rfft(power).abs().square()
            levels.append(torch.stack([power[:, mask].sum(1) for mask in masks], 1))
    rows = torch.cat(levels) if levels else torch.zeros(1, len(masks))
    # Mean over each frame's time, by differences of a running sum.
    total = F.pad(rows.double().cumsum(0), (0, 0, 1, 0))
    rate = SAMPLE_RATE / _HOP
    first = ((torch.arange(frames) / fps) * rate).long().clamp(0, len(rows) - 1)
    last = (((torch.arange(frames) + 1) / fps) * rate).long().clamp(max=len(rows)).maximum(first + 1)
    mean = (total[last] - total[first]) / (last - first)[:, None]
    level = mean.clamp_min(1e-10) ** _POWER
    estimate = (level / level.mean() - 1.0) @ torch.tensor(WEIGHTS, dtype=torch.float64)
    return gaussian_smooth(estimate[:, None].float(), fps / 25.0)[:, 0]


def read_phones(path: str | PathLike, alphabet: str = "auto") -> list[Phone]:
    """Phones and their times from a text or JSON file.

    Text: a line each, ``phone start end`` in seconds, in any of the orders ``start end phone``; ``#`` starts a
    comment. JSON: a list of such triples, or of objects with ``phone``, ``start`` and ``end``.

    Args:
        alphabet: "ipa", "arpabet", or "auto": ARPABET if one of its two-letter vowels is in the file.

    Raises:
        PlaymateError: the file is missing, holds no phones, or a line that is not a phone with two times.
    """
    path = Path(path)
    if alphabet not in ("auto", "ipa", "arpabet"):
        raise PlaymateError(f"There is no phone alphabet {alphabet!r}; use auto, ipa or arpabet.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlaymateError(f"The phones {path} cannot be read ({error}); give a text or JSON file.") from error
    entries = _json_entries(text, path) if text.lstrip()[:1] in ("[", "{") else [
        line.split() for line in (raw.split("#")[0] if raw.lstrip()[:2] != "h#" else raw for raw in text.splitlines())
        if line.strip()]
    triples = [_triple(entry, path) for entry in entries]
    if not triples:
        raise PlaymateError(f"The phones {path} are empty; write a line 'phone start end' for each, in seconds.")
    names = {re.sub(r"\d", "", symbol.lower()) for symbol, _, _ in triples}
    arpabet = alphabet == "arpabet" or (alphabet == "auto" and bool(names & _ARPABET_VOWELS))
    parse = from_arpabet if arpabet else from_ipa
    phones = [part for symbol, start, end in sorted(triples, key=lambda t: t[1]) for part in parse(symbol, start, end)]
    return merge(phones)


def _json_entries(text: str, path: Path) -> list:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlaymateError(f"The phones {path} are no valid JSON ({error}); correct the file.") from error
    if isinstance(entries, dict):
        entries = entries.get("phones", [])
    return entries


def _triple(entry, path: Path) -> tuple[str, float, float]:
    try:
        if isinstance(entry, dict):
            symbol = entry.get("phone", entry.get("symbol"))
            words = [symbol, entry["start"], entry["end"]]
        else:
            words = list(entry)
        if len(words) == 4:  # a corpus' (symbol, kind, start, end)
            words = [words[0], words[2], words[3]]
        symbol, start, end = words if _number(words[1]) and _number(words[2]) else (words[2], words[0], words[1])
        start, end = float(start), float(end)
        if not 0 <= start <= end:
            raise ValueError
    except (KeyError, IndexError, TypeError, ValueError):
        raise PlaymateError(f"The phones {path} hold {str(entry)[:60]!r}, which is no 'phone start end' with times "
                            "in seconds; correct that line.") from None
    return str(symbol), start, end


def _number(word) -> bool:
    try:
        float(word)
    except (TypeError, ValueError):
        return False
    return True


def closures(phones: Sequence[Phone]) -> list[tuple[float, float]]:
    """(start, end) seconds of every p, b and m; neighbours that share one closure count once."""
    return [(phone.start, phone.end) for phone in phones if phone.kind == CLOSED]


def phone_curves(phones: Sequence[Phone], frames: int, fps: float) -> tuple[Tensor, Tensor]:
    """What phones ask of the lips, smoothed as lips smooth it.

    Returns:
        Gap [T] (1 on an open vowel) and width [T] (-1 rounded, 1 spread).
    """
    step = 0.01
    length = max(round(frames / fps / step), 1)
    curves = torch.zeros(length, 2)
    for phone in phones:
        span = slice(round(phone.start / step), max(round(phone.end / step), round(phone.start / step) + 1))
        curves[span] = torch.tensor([GAPS[phone.kind], WIDTHS[phone.kind]])
    curves = gaussian_smooth(curves, _COARTICULATION / step)
    centres = (((torch.arange(frames) + 0.5) / fps) / step).long().clamp(max=length - 1)
    gap, width = curves[centres].unbind(1)
    return gap, width
