"""Blendshapes in files: Live Link Face's CSV, plain CSV, and JSON, read and written.

**Live Link Face** (Epic's app for iPhone and iPad) writes ``Timecode,BlendShapeCount``, the 52 shapes in the order of
``LIVE_LINK_NAMES`` and nine angles (HeadYaw, HeadPitch, HeadRoll and the same of both eyes), 61 columns of numbers;
without head rotation, and from other programs, also the 52 alone. Names are ARKit's with a capital letter. The timecode
is ``HH:MM:SS:FF.fff``: FF counts frames, 60 a second unless the app was set to less, .fff is a part of a frame. Shapes
are 0 to 1, in calibrated takes (``_cal.csv``) also a little below 0 and above 1; angles are radians, their signs are in
``arkit_head``. The eyes' angles say what the EyeLook shapes say and are left aside. Frames that the phone dropped are
missing, and the timecode jumps; frames without a face have empty cells.

**Plain CSV**: a header with any shapes in any spelling (``blendshape_names``), and where wanted ``time`` (seconds),
``time_ms`` or ``frame``, and ``pitch``, ``yaw``, ``roll`` in degrees as Pose Override has them.

**JSON**: ``{"fps", "names", "weights": [[...]]}`` with ``"head": {"pitch": [...], ...}`` where wanted; a list of
frames ``{name: value}``, also as ``{"fps", "frames"}``; or Audio2Face's ``{"exportFps", "facsNames", "weightMat"}``.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from ..motion.curves import monotone_cubic
from ..runtime.errors import PlaymateError
from .arkit_head import degrees_from_live_link, live_link_from_degrees
from .blendshape_names import DIVIDED, LIVE_LINK_NAMES, NAMES, shape_name
from .blendshape_tables import SUFFIXES, Table, read_table

__all__ = ["FORMATS", "SUFFIXES", "BlendshapeTrack", "blendshape_text", "read_blendshapes", "write_blendshapes",
           "write_text"]

FORMATS = ("live_link_face", "csv", "json")
ANGLES = ("pitch", "yaw", "roll")
LIVE_LINK_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll", "RightEyeYaw",
                    "RightEyePitch", "RightEyeRoll")
LIVE_LINK_FPS = 60.0
UNSTATED_FPS = 30.0
"""Of a file that states no frame rate: what most trackers and web cameras run at."""

RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 120.0)
"""What a timecode may count in."""
MAX_FRAMES = 1_000_000
_SNAP = 0.05
"""Frames by which a row may miss the even grid and still be taken as it is."""

_TIMES = {"time": 1.0, "times": 1.0, "t": 1.0, "seconds": 1.0, "sec": 1.0, "timestamp": 1.0, "timesec": 1.0,
          "timeseconds": 1.0, "timems": 1e-3, "timestampms": 1e-3, "ms": 1e-3, "milliseconds": 1e-3}
_FRAMES = ("frame", "frames", "frameindex", "framenumber", "frameid")
_COUNTS = ("blendshapecount",)


@dataclass(frozen=True)
class BlendshapeTrack:
    """Blendshapes over time.

    Attributes:
        weights: [T, 52] float32, 0 or more, in the order of ``blendshape_names.NAMES``.
        head: [T, 3] degrees pitch, yaw, roll in LivePortrait's signs; None where the file has none.
        fps: frames a second.
        notes: sentences about what was left aside, filled or assumed.
    """

    weights: Tensor
    head: Tensor | None
    fps: float
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.weights.shape[0]


# --- reading

def read_blendshapes(path: str | os.PathLike, fps: float | None = None) -> BlendshapeTrack:
    """Reads a file of any of the kinds above.

    Args:
        path: .csv, .tsv, .txt or .json.
        fps: frames a second at which it was recorded, over what it states; None believes the file, and takes 30 where
            that says nothing (and a note says so).

    Returns:
        The track on an even grid: frames that are missing are filled from those around them.

    Raises:
        PlaymateError: no such file, or one that cannot be read; the sentence says what is wrong in which line.
    """
    if fps is not None and not 0 < fps < 1000:
        raise PlaymateError(f"A file of blendshapes cannot have {fps:g} frames a second; give a rate above 0.")
    table = read_table(path)
    columns = _Columns(table)
    kept = [index for index, row in enumerate(table.rows) if any(row[n] is not None for n in columns.shapes)]
    if not kept:
        table.refuse("it has no frames")
    for index in kept:
        empty = next((n for n in columns.used if table.rows[index][n] is None), None)
        if empty is not None:
            table.refuse(f"{table.places[index]}, column {table.columns[empty]} is empty")
    values = torch.tensor([[table.rows[index][n] for n in columns.used] for index in kept], dtype=torch.float64)
    place = {n: position for position, n in enumerate(columns.used)}
    weights = torch.zeros(len(kept), len(NAMES), dtype=torch.float64)
    for number, sources in columns.by_shape().items():
        weights[:, number] = values[:, [place[n] for n in sources]].mean(1)
    weights = _in_range(table, weights)
    head = columns.head(values, place)
    positions, rate = _positions(table, columns, kept, fps)
    filled = [part if part is None else _even(table, positions, part) for part in (weights, head)]
    missing = 0 if filled[0] is None else len(filled[0]) - len(kept)
    if missing > 0:
        table.notes.append(f"{missing} frame{'s are' if missing > 1 else ' is'} missing in {table.name} and "
                           f"{'were' if missing > 1 else 'was'} filled from those around.")
    assert filled[0] is not None
    return BlendshapeTrack(filled[0].float(), None if filled[1] is None else filled[1].float(), rate,
                           tuple(table.notes))


class _Columns:
    """Which column of a table is what."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.shapes: dict[int, str] = {}
        self.angles: dict[str, int] = {}
        self.time: tuple[int, float] | None = None
        self.frame: int | None = None
        unknown = []
        for number, text in enumerate(table.columns):
            plain = re.sub(r"[^a-z0-9]", "", text.lower())
            name = shape_name(text)
            if name is not None:
                self.shapes[number] = name
            elif plain in ANGLES or plain in ("headyaw", "headpitch", "headroll"):
                self._once(plain, text)
                self.angles[plain] = number
            elif plain in _TIMES and self.time is None:
                self.time = (number, _TIMES[plain])
            elif plain in _FRAMES and self.frame is None:
                self.frame = number
            elif plain not in _COUNTS and plain not in [angle.lower() for angle in LIVE_LINK_ANGLES] \
                    and plain not in ("neutral", ""):
                unknown.append(text)
        named = list(self.shapes.values())
        spelled = [re.sub(r"[^a-z0-9]", "", table.columns[number].lower()) for number in self.shapes]
        twice = next((table.columns[number] for number, text, name in zip(self.shapes, spelled, named, strict=True)
                      if spelled.count(text) > 1 or named.count(name) > 1 and name not in DIVIDED), None)
        if twice is not None:
            table.refuse(f"its header names {twice} twice")
        if not self.shapes:
            table.refuse("its header names no blendshape of ARKit's, such as jawOpen")
        if unknown:
            shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
            table.notes.append(f"Left aside in {table.name}, as no blendshape of ARKit's: {shown}.")

    def _once(self, plain: str, text: str) -> None:
        if plain in self.angles:
            self.table.refuse(f"its header names {text} twice")

    @property
    def used(self) -> list[int]:
        clock = [self.time[0]] if self.time else [self.frame] if self.frame is not None else []
        return sorted({*self.shapes, *self.angles.values(), *clock})

    def by_shape(self) -> dict[int, list[int]]:
        """Columns of each shape: two where a rig has each side of it for itself."""
        found: dict[int, list[int]] = {}
        for number, name in self.shapes.items():
            found.setdefault(NAMES.index(name), []).append(number)
        return found

    def head(self, values: Tensor, place: dict[int, int]) -> Tensor | None:
        """[T, 3] pitch, yaw, roll in degrees, or None."""
        def column(name: str) -> Tensor:
            number = self.angles.get(name)
            return torch.zeros(len(values), dtype=values.dtype) if number is None else values[:, place[number]]

        if any(name in self.angles for name in ANGLES):
            return torch.stack([column(name) for name in ANGLES], dim=1)
        if not self.angles:
            return None
        angles = torch.stack([column(name) for name in ("headyaw", "headpitch", "headroll")], dim=1)
        if angles.abs().max() > 3.2:
            self.table.notes.append(f"The head's angles in {self.table.name} go beyond half a turn in radians and are "
                                    "read as degrees.")
            angles = angles.deg2rad()
        return degrees_from_live_link(angles)


def _in_range(table: Table, weights: Tensor) -> Tensor:
    """Weights from 0 on; those of programs that count to 100 are brought to 1."""
    highest, lowest = float(weights.max()), float(weights.min())
    if highest > 100 * 1.5 or lowest < -100:
        table.refuse(f"its weights go from {lowest:g} to {highest:g} where 0 to 1 is needed")
    if highest > 3:
        table.notes.append(f"Weights in {table.name} go to {highest:g} and are read as percent.")
        weights, lowest = weights / 100, lowest / 100
    if lowest < -0.2:
        table.notes.append(f"Weights below 0 in {table.name} (to {lowest:.2f}) count as 0.")
    return weights.clamp_min(0.0)


def _positions(table: Table, columns: _Columns, kept: list[int], fps: float | None) -> tuple[list[float], float]:
    """(where each row stands, in frames from the first one; frames a second)."""
    if table.timecodes is not None:
        return _by_timecode(table, [table.timecodes[index] for index in kept], kept, fps)
    if columns.time is not None:
        number, unit = columns.time
        times = [float(table.rows[index][number] or 0.0) * unit for index in kept]
        return _by_time(table, times, kept, fps or table.fps)
    rate = fps or table.fps
    if rate is None:
        rate = UNSTATED_FPS
        table.notes.append(f"{table.name} states no frame rate; {rate:g} frames a second are assumed.")
    if columns.frame is None:
        # Rows without a face take their time, too.
        return [float(index - kept[0]) for index in kept], rate
    frames = [float(table.rows[index][columns.frame] or 0.0) for index in kept]
    return _rising(table, frames, kept, "frame"), rate


def _rising(table: Table, values: list[float], kept: list[int], what: str) -> list[float]:
    for before, (row, value) in zip(values, list(zip(kept, values, strict=True))[1:], strict=False):
        if value <= before:
            table.refuse(f"{table.places[row]}: its {what} does not come after the one before")
    return [value - values[0] for value in values]


def _by_time(table: Table, times: list[float], kept: list[int], fps: float | None) -> tuple[list[float], float]:
    elapsed = _rising(table, times, kept, "time")
    if fps is None:
        if len(elapsed) < 2:
            fps = UNSTATED_FPS
        else:
            apart = median(after - before for before, after in pairwise(elapsed))
            if not 1e-3 <= apart <= 10:
                table.refuse(f"its times are {apart:g} s apart, which is no frame rate")
            fps = 1 / apart
            near = min(RATES, key=lambda rate: abs(rate - fps))
            fps = near if abs(near - fps) < 0.02 * near else round(fps, 3)
    return [value * fps for value in elapsed], fps


_TIMECODE = re.compile(r"(\d+):(\d+):(\d+)(?:[:;](\d+(?:[.,]\d+)?)|([.,]\d+))?\Z")


def _by_timecode(table: Table, codes: list[str], kept: list[int],
                 fps: float | None) -> tuple[list[float], float]:
    parts: list[tuple[int, float]] = []  # whole seconds, frames in them
    in_frames = True
    for index, code in zip(kept, codes, strict=True):
        found = _TIMECODE.match(code)
        if found is None:
            if re.fullmatch(r"\d+", code):  # some programs number their frames there
                continue
            table.refuse(f"{table.places[index]}, column Timecode holds {code[:40]!r}, which is no HH:MM:SS:FF")
        hours, minutes, seconds = (int(found[n]) for n in (1, 2, 3))
        in_frames = in_frames and found[5] is None
        parts.append((hours * 3600 + minutes * 60 + seconds, float((found[4] or found[5] or "0").replace(",", "."))))
    if len(parts) != len(codes):
        if parts:
            table.refuse("its timecodes are partly HH:MM:SS:FF and partly numbers")
        return _rising(table, [float(code) for code in codes], kept, "timecode"), fps or table.fps or LIVE_LINK_FPS
    days, wrapped = 0, [parts[0]]
    for (before, _), (second, frame) in pairwise(parts):
        days += 86400 if second < before - 43200 else 0  # a take over midnight
        wrapped.append((second + days, frame))
    if not in_frames:
        return _by_time(table, [second + part for second, part in wrapped], kept, fps or table.fps)
    rate = fps or table.fps or _counted_in(wrapped)
    highest = max(frame for _, frame in wrapped)
    if highest >= rate + 1:
        table.refuse(f"its timecodes count to frame {highest:g}, which does not fit {rate:g} frames a second")
    return _rising(table, [second * rate + frame for second, frame in wrapped], kept, "timecode"), rate


def _counted_in(parts: list[tuple[int, float]]) -> float:
    """The rate a timecode counts in: the lowest that has room for its frames, if a second is seen to end as at that
    rate; else the app's."""
    fits = next((rate for rate in RATES if rate > max(int(frame) for _, frame in parts)), LIVE_LINK_FPS)
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(parts)]
    usual = median([frames for seconds, frames in steps if not seconds] or [1.0])
    seen = any(seconds == 1 and abs(fits + frames - usual) < 0.5 for seconds, frames in steps)
    return fits if seen else max(fits, LIVE_LINK_FPS)


def _even(table: Table, positions: list[float], values: Tensor) -> Tensor:
    """[N, C] at any rising positions -> [T, C] at 0, 1, 2 ...; what stands there already is kept."""
    at = torch.tensor(positions, dtype=torch.float64)
    near = at.round()
    at = torch.where((at - near).abs() < _SNAP, near, at)
    at = torch.where(torch.cat([at.diff() > 0, torch.tensor([True])]), at, torch.tensor(positions, dtype=torch.float64))
    last = int(round(positions[-1]))
    if last >= MAX_FRAMES:
        table.refuse(f"its last frame would be number {last}, and at most {MAX_FRAMES} are read")
    return monotone_cubic(at, values, torch.arange(last + 1, dtype=torch.float64))


# --- writing

def blendshape_text(track: BlendshapeTrack, form: str = "live_link_face") -> str:
    """A track as the text of a file.

    Args:
        track: any number of frames.
        form: one of FORMATS. ``live_link_face`` needs a whole frame rate; its eyes' angles are 0.

    Raises:
        PlaymateError: an unknown form, or a rate that a timecode cannot count.
    """
    if form not in FORMATS:
        raise PlaymateError(f"Blendshapes cannot be written as {form!r}; choose from {', '.join(FORMATS)}.")
    head = torch.zeros(len(track), 3) if track.head is None else track.head
    if form == "json":
        content = {"fps": track.fps, "names": list(NAMES), "weights": _rounded(track.weights),
                   "head": {name: _rounded(head[:, n]) for n, name in enumerate(ANGLES)}}
        return json.dumps(content) + "\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if form == "csv":
        writer.writerow(["time", *NAMES, *ANGLES])
        for index, (weights, angles) in enumerate(zip(_rounded(track.weights), _rounded(head), strict=True)):
            writer.writerow([f"{index / track.fps:.6f}", *weights, *angles])
        return text.getvalue()
    rate = round(track.fps)
    if rate != track.fps:
        raise PlaymateError(f"A timecode counts whole frames, and this track has {track.fps:g} a second; write 60, 30 "
                            "or another whole rate.")
    order = [NAMES.index(shape_name(name) or name) for name in LIVE_LINK_NAMES]
    angles = _rounded(live_link_from_degrees(head))
    writer.writerow(["Timecode", "BlendShapeCount", *LIVE_LINK_NAMES, *LIVE_LINK_ANGLES])
    for index, row in enumerate(_rounded(track.weights[:, order])):
        seconds, frame = divmod(index, rate)
        code = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frame:02}.000"
        writer.writerow([code, len(LIVE_LINK_NAMES) + len(LIVE_LINK_ANGLES), *row, *angles[index], *([0.0] * 6)])
    return text.getvalue()


def write_blendshapes(track: BlendshapeTrack, path: str | os.PathLike, form: str = "live_link_face") -> Path:
    """Writes a track; see :func:`blendshape_text`.

    Raises:
        PlaymateError: as there, or the file cannot be written.
    """
    return write_text(blendshape_text(track, form), path)


def write_text(text: str, path: str | os.PathLike) -> Path:
    """Writes what :func:`blendshape_text` made.

    Raises:
        PlaymateError: the file cannot be written.
    """
    path = Path(path)
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise PlaymateError(f"Cannot write {path}: {error.strerror or error}.") from None
    return path


def _rounded(values: Tensor) -> list:
    """Nested lists of numbers with six places, no minus before a zero."""
    return ((values.detach().cpu().double() * 1e6).round() / 1e6 + 0.0).tolist()
