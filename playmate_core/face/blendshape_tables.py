"""Files of blendshapes as tables: what a CSV or JSON holds, before it is known what its columns mean."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Sequence

from ..runtime.errors import PlaymateError

SUFFIXES = (".csv", ".tsv", ".txt", ".json")
MAX_BYTES = 512 * 2**20
MAX_ROWS = 1_000_000

_FPS_KEYS = ("fps", "exportFps", "frameRate", "framerate", "frame_rate")

_NESTED = ("blendshapes", "blendShapes", "weights")
"""Where a frame may hold its shapes apart from its time and head."""


@dataclass
class Table:
    """Columns by name and rows of numbers.

    Attributes:
        name: of the file, for messages.
        columns: names of the columns with numbers, as the file spells them.
        rows: a number for each of ``columns``; None where nothing stands.
        places: where each row stands, for messages: "line 7", "frame 3".
        timecodes: what a column Timecode holds, row by row; None without such a column.
        fps: frames a second, if the file states them.
    """

    name: str
    columns: list[str]
    rows: list[list[float | None]]
    places: list[str]
    timecodes: list[str] | None = None
    fps: float | None = None
    notes: list[str] = field(default_factory=list)

    def refuse(self, reason: str) -> NoReturn:
        """Raises PlaymateError with one sentence that names the file."""
        raise PlaymateError(f"Cannot read blendshapes from {self.name}: {reason}.")


def read_table(path: str | os.PathLike) -> Table:
    """Reads a CSV (commas, semicolons or tabs) or JSON file.

    Raises:
        PlaymateError: no such file, no table of numbers; the sentence says in which line and column.
    """
    path = Path(path)
    empty = Table(path.name, [], [], [])
    if path.suffix.lower() not in SUFFIXES:
        empty.refuse(f"give a file that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if not path.is_file():
        raise PlaymateError(f"Cannot read blendshapes from {path}: there is no such file.")
    try:
        if path.stat().st_size > MAX_BYTES:
            empty.refuse(f"it has more than {MAX_BYTES >> 20} MB")
        text = _decoded(path.read_bytes())
    except OSError as error:
        empty.refuse(f"it cannot be opened ({error.strerror or error})")
    except UnicodeDecodeError:
        empty.refuse("it is no text")
    if "\0" in text:
        empty.refuse("it is no text")
    if not text.strip():
        empty.refuse("it is empty")
    return _json_table(empty, text) if path.suffix.lower() == ".json" else _csv_table(empty, text)


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")


# --- CSV

def _csv_table(table: Table, text: str) -> Table:
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip(" \t,;"))
    delimiter = max(",;\t", key=lines[start].count)
    reader = csv.reader(io.StringIO("\n".join(lines[start:])), delimiter=delimiter, skipinitialspace=True)
    try:
        header = [cell.strip() for cell in next(reader)]
        while header and not header[-1]:
            header.pop()
        numbers = [number for number, name in enumerate(header) if name.lower() != "timecode"]
        coded = next((number for number, name in enumerate(header) if name.lower() == "timecode"), None)
        table.columns = [header[number] for number in numbers]
        table.timecodes = None if coded is None else []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            place = f"line {start + reader.line_num}"
            while len(cells) > len(header) and not cells[-1].strip():
                cells.pop()
            if len(cells) > len(header):
                table.refuse(f"{place} has {len(cells)} cells where the header has {len(header)} columns")
            if len(cells) < len(header):
                table.refuse(f"{place} ends after {len(cells)} of {len(header)} cells, before column "
                             f"{header[len(cells)]}")
            if len(table.rows) == MAX_ROWS:
                table.refuse(f"it has more than {MAX_ROWS} rows")
            table.rows.append([_number(table, cells[n], place, header[n], delimiter != ",") for n in numbers])
            table.places.append(place)
            if table.timecodes is not None and coded is not None:
                table.timecodes.append(cells[coded].strip())
    except csv.Error as error:
        table.refuse(f"line {start + reader.line_num} is no CSV ({error})")
    return table


def _number(table: Table, cell: str, place: str, column: str, comma: bool) -> float | None:
    """The number in a cell; None if it is empty."""
    try:
        value = float(cell)
    except ValueError:
        if not cell.strip():
            return None
        try:
            value = float(cell.replace(",", ".") if comma else cell.rstrip("%"))
        except ValueError:
            table.refuse(f"{place}, column {column} holds {_short(cell)}, which is no number")
    if not math.isfinite(value):
        table.refuse(f"{place}, column {column} holds {_short(cell)}, which is no number to count with")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


# --- JSON

def _json_table(table: Table, text: str) -> Table:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        table.refuse(f"line {error.lineno}, column {error.colno} is no JSON ({error.msg})")
    except RecursionError:
        table.refuse("it is nested too deeply")
    if isinstance(content, dict):
        table.fps = _rate(table, content)
        names = content.get("names", content.get("facsNames", content.get("blendShapeNames")))
        matrix = content.get("weights", content.get("weightMat"))
        if names is not None and matrix is not None:
            return _matrix(table, content, names, matrix)
        content = content.get("frames")
    if not isinstance(content, list) or not content or not all(isinstance(frame, dict) for frame in content):
        table.refuse("it holds neither names and weights, nor facsNames and weightMat, nor a list of frames")
    return _frames(table, content)


def _rate(table: Table, content: dict) -> float | None:
    key = next((key for key in _FPS_KEYS if content.get(key) is not None), None)
    if key is None:
        return None
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 1000:
        table.refuse(f"its {key} is {_short(value)}; a rate above 0 is needed, at most 1000")
    return float(value)


def _matrix(table: Table, content: dict, names: Any, matrix: Any) -> Table:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        table.refuse("its names are no list of texts")
    if not isinstance(matrix, list) or not all(isinstance(row, list) for row in matrix):
        table.refuse("its weights are no list of lists")
    _enough(table, len(matrix))
    table.columns = list(names)
    for index, row in enumerate(matrix):
        if len(row) != len(names):
            table.refuse(f"frame {index} has {len(row)} weights for {len(names)} names")
        table.rows.append([_value(table, value, index, name) for value, name in zip(row, names, strict=True)])
    table.places = [f"frame {index}" for index in range(len(matrix))]
    head = content.get("head")
    if isinstance(head, dict):
        _add_columns(table, head)
    return table


def _add_columns(table: Table, columns: dict) -> None:
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) != len(table.rows):
            table.refuse(f"its head.{name} is no list of {len(table.rows)} numbers")
        table.columns.append(name)
        for index, (row, value) in enumerate(zip(table.rows, values, strict=True)):
            row.append(_value(table, value, index, f"head.{name}"))


def _frames(table: Table, frames: Sequence[dict]) -> Table:
    _enough(table, len(frames))
    flat = []
    for frame in frames:
        inner = next((frame[key] for key in _NESTED if isinstance(frame.get(key), dict)), {})
        flat.append({**{key: value for key, value in frame.items() if not isinstance(value, dict)}, **inner})
    table.columns = list(dict.fromkeys(name for frame in flat for name in frame))
    for index, frame in enumerate(flat):
        # A shape that a frame does not name is at rest.
        table.rows.append([_value(table, frame.get(name, 0.0), index, name) for name in table.columns])
    table.places = [f"frame {index}" for index in range(len(flat))]
    return table


def _enough(table: Table, frames: int) -> None:
    if frames > MAX_ROWS:
        table.refuse(f"it has more than {MAX_ROWS} frames")


def _value(table: Table, value: Any, index: int, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        table.refuse(f"frame {index}, {name} holds {_short(value)}, which is no number")
    return float(value)
