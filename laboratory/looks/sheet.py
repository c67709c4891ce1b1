"""Tiles with words over them, put together to one picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .drawing import Box

PAPER, BAND, INK = (255, 255, 255), (232, 232, 232), (20, 20, 20)
LINE = 22
"""Height of a line of text, pixels."""


@dataclass(frozen=True)
class Row:
    """Tiles side by side.

    Attributes:
        tiles: pictures of one height.
        words: over each tile, or none.
    """

    tiles: Sequence[Image.Image]
    words: Sequence[str] = field(default=())


def as_picture(frame: Tensor) -> Image.Image:
    """[H, W, 3] 0..1 or uint8 as a picture of Pillow's."""
    if frame.dtype != torch.uint8:
        frame = (frame.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(np.ascontiguousarray(frame.cpu().numpy()))


def tile(frame: Tensor, box: Box, width: int) -> Image.Image:
    """The part of a frame [H, W, 3] in ``box``, ``width`` pixels wide."""
    picture = as_picture(frame)
    left, top, right, bottom = (part * side for part, side in zip(box, picture.size * 2, strict=True))
    height = max(1, round(width * (bottom - top) / (right - left)))
    smaller = right - left > width
    return picture.resize((width, height), Image.Resampling.BOX if smaller and right - left > 2 * width
                          else Image.Resampling.LANCZOS, box=(left, top, right, bottom))


def compose(rows: Sequence[Row | str | Image.Image]) -> Image.Image:
    """One picture of rows, headings (words alone) and finished pictures from top to bottom."""
    parts = [_heading(row) if isinstance(row, str) else row if isinstance(row, Image.Image) else _row(row)
             for row in rows]
    width = max(part.width for part in parts)
    whole = Image.new("RGB", (width, sum(part.height for part in parts)), PAPER)
    top = 0
    for part, row in zip(parts, rows, strict=True):
        if isinstance(row, str):
            whole.paste(BAND, (0, top, width, top + part.height))
        whole.paste(part, (0, top))
        top += part.height
    return whole


def save(rows: Sequence[Row | str | Image.Image], path: Path) -> Path:
    """Writes the sheet as PNG, or as a JPEG for pages that are loaded often."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compose(rows).save(path, **({"quality": 90} if path.suffix == ".jpg" else {}))
    return path


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    try:
        return ImageFont.load_default(size=14)
    except TypeError:  # Pillow before 10.1 knows one size only
        return ImageFont.load_default()


def _heading(words: str) -> Image.Image:
    font = _font()
    line = Image.new("RGB", (int(font.getlength(words)) + 12, LINE), BAND)
    ImageDraw.Draw(line).text((6, 3), words, INK, font)
    return line


def _row(row: Row) -> Image.Image:
    height = max(part.height for part in row.tiles)
    top = LINE if row.words else 0
    whole = Image.new("RGB", (sum(part.width for part in row.tiles), top + height), PAPER)
    pen, left = ImageDraw.Draw(whole), 0
    for number, part in enumerate(row.tiles):
        if row.words:
            pen.text((left + 6, 3), row.words[number], INK, _font())
        whole.paste(part, (left, top))
        left += part.width
    return whole
