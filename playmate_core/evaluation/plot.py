"""A motion as a chart: lips, eyes and head over time. Drawn with Pillow, to need no plotting library."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Sequence

import torch
from torch import Tensor

from ..motion.pose import pose_offsets
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report

if TYPE_CHECKING:
    from ..face.bridge import LatentBridge
    from ..motion.types import Motion

CHUNK = 1024
"""Frames whose 478 landmarks are held at once."""
FINE = 3
"""How much larger curves are drawn than they are shown."""

PAPER, _GRID, _INK = (250, 250, 248), (226, 226, 222), (70, 70, 70)
BLUE, ORANGE, GREEN = (31, 98, 178), (214, 110, 30), (40, 140, 80)

Curve = tuple[str, tuple[int, int, int], Tensor]


def motion_curves(motion: Motion, bridge: LatentBridge, progress: Progress = None) -> dict[str, Tensor]:
    """What a motion does, one number a frame.

    Args:
        motion: T frames.
        bridge: reads latents as landmarks; the curves are those of the mean face.
        progress: frames done, of T.

    Returns:
        [T] each: ``lip gap``, ``right eye``, ``left eye`` in units of the outer-eye distance (a closed mouth is
        about 0, an open eye about 0.13); ``pitch``, ``yaw``, ``roll`` in degrees from the neutral frame.
    """
    from ..face.geometry import eye_openness, lip_gap, mean_face

    face = mean_face()
    rest = lip_gap(face)
    gaps, eyes = [torch.zeros(0)], [torch.zeros(0, 2)]
    for first in range(0, len(motion), CHUNK):
        offsets = motion.expression_offset[first:first + CHUNK].cpu()
        gaps.append((rest + bridge.lip_gap(offsets)).clamp_min(0.0))
        eyes.append(eye_openness(face + bridge.displacement(offsets)))
        report(progress, min(first + CHUNK, len(motion)), len(motion))
    right, left = torch.cat(eyes).unbind(1)
    pitch, yaw, roll = pose_offsets(motion)[:, :3].cpu().unbind(1)
    return {"lip gap": torch.cat(gaps), "right eye": right, "left eye": left, "pitch": pitch, "yaw": yaw, "roll": roll}


def plot_motion(motion: Motion, bridge: LatentBridge, width: int = 1024, height: int = 640,
                progress: Progress = None) -> Tensor:
    """Three panels over one time axis: lip gap, eyes, head angles.

    Args:
        motion: at least one frame.
        bridge: reads latents as landmarks.
        width, height: pixels, at least 200 each.
        progress: frames done, of T.

    Returns:
        [height, width, 3] float32 sRGB 0..1.

    Raises:
        PlaymateError: no frames, or a chart too small to read.
    """
    from PIL import Image

    if not len(motion):
        raise PlaymateError("The motion has no frames, so there is nothing to plot.")
    if min(width, height) < 200:
        raise PlaymateError(f"A chart of {width}x{height} pixels cannot be read; make it at least 200x200.")
    curves = motion_curves(motion, bridge, progress)
    panels: list[tuple[str, float, list[Curve]]] = [
        ("lip gap", 0.1, [("lip gap", BLUE, curves["lip gap"])]),
        ("eyes", 0.15, [("right eye", BLUE, curves["right eye"]), ("left eye", ORANGE, curves["left eye"])]),
        ("head, degrees", 5.0, [("pitch", BLUE, curves["pitch"]), ("yaw", ORANGE, curves["yaw"]),
                                ("roll", GREEN, curves["roll"])]),
    ]
    canvas = Image.new("RGB", (width, height), PAPER)
    top, bottom = 26, height - 24
    step = (bottom - top + 14) / len(panels)
    for number, (title, least, lines) in enumerate(panels):
        box = (54, round(top + number * step), width - 12, round(top + (number + 1) * step) - 40)
        panel(canvas, box, title, lines, least, title.startswith("head"), motion.duration)
    seconds = f"{len(motion)} frames, {motion.fps:g} a second, {motion.duration:.2f} s"
    write(canvas, seconds, (54, height - 8))
    return as_tensor(canvas)


def as_tensor(canvas) -> Tensor:
    """[H, W, 3] float32 0..1 of a picture of Pillow's."""
    import numpy as np

    return torch.from_numpy(np.array(canvas)).float() / 255.0


def panel(canvas, box: tuple[int, int, int, int], title: str, lines: Sequence[Curve], least: float, centred: bool,
          duration: float) -> None:
    """Draws curves over time.

    Args:
        canvas: a picture of Pillow's in RGB, drawn on.
        box: x0, y0, x1, y1 of the axes, pixels; title and legend stand above, seconds below.
        lines: name, colour and [T] values of each; values that are not finite leave a gap.
        least: smallest top of the scale.
        centred: zero in the middle rather than at the bottom.
        duration: seconds that all curves span.
    """
    from PIL import Image, ImageDraw

    draw = ImageDraw.Draw(canvas)
    x0, y0, x1, y1 = box
    tops = [float(seen.abs().max()) for _, _, curve in lines if len(seen := curve[torch.isfinite(curve)])]
    high = max([least, *tops]) * 1.05
    low = -high if centred else 0.0

    def row(value: float) -> float:
        return y1 - (value - low) / (high - low) * (y1 - y0)

    for value in _ticks(low, high, 3 if y1 - y0 < 90 else 5):
        level = round(row(value))
        draw.line((x0, level, x1, level), _GRID)
        write(canvas, f"{value:g}", (6, level + 4))
    for second in _ticks(0.0, duration, max((x1 - x0) // 90, 2)):
        column = round(x0 + second / duration * (x1 - x0))
        draw.line((column, y0, column, y1), _GRID)
        write(canvas, f"{second:g} s", (column - 8, y1 + 14))
    for _, colour, curve in lines:
        # Drawn larger and made smaller, for a smooth line.
        mask = Image.new("L", (FINE * (x1 - x0), FINE * (y1 - y0)))
        for points in _polylines(curve, x1 - x0, lambda value: row(value) - y0):
            ImageDraw.Draw(mask).line([(FINE * x, FINE * y) for x, y in points], 255, FINE, "curve")
        mask = mask.resize((x1 - x0, y1 - y0), Image.Resampling.BOX)
        canvas.paste(colour, (x0, y0, x1, y1), mask)
    draw.rectangle((x0, y0, x1, y1), outline=_INK)
    write(canvas, title, (x0, y0 - 6))
    column = x1
    for name, colour, _ in reversed(lines):
        column -= 8 * len(name) + 34
        draw.line((column, y0 - 10, column + 18, y0 - 10), colour, 2)
        write(canvas, name, (column + 24, y0 - 6))


def _polylines(curve: Tensor, width: int, row) -> list[list[tuple[float, float]]]:
    """Points of each stretch without a gap, pixels; where frames are denser than pixels, the lowest and highest of
    each column."""
    import numpy as np

    values = curve.double().numpy()
    if len(values) <= 2 * width:
        columns = (np.arange(len(values)) + 0.5) / len(values) * width
    else:
        edges = np.linspace(0, len(values), width + 1).astype(int)
        parts = [values[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
        values = np.array([[part.min(), part.max()] for part in parts]).ravel()
        columns = np.repeat(np.arange(width) + 0.5, 2)
    runs: list[list[tuple[float, float]]] = [[]]
    for x, v in zip(columns, values, strict=True):
        if np.isfinite(v):
            runs[-1].append((float(x), float(row(v))))
        elif runs[-1]:
            runs.append([])
    return [[(x - 0.5, y), (x + 0.5, y)] if len(run) == 1 else run for run in runs if run for x, y in run[:1]]


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers inside low..high, at most about ``most``."""
    span = max(high - low, 1e-9)
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= most)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def write(canvas, text: str, corner: tuple[int, int], colour: tuple[int, int, int] = _INK) -> None:
    """Text whose baseline begins at (x, y), on a picture of Pillow's."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default()
    # Pillow's own font stands on a baseline; the bitmap that an installation without FreeType has knows its top only.
    place, anchor = (corner, "ls") if isinstance(font, ImageFont.FreeTypeFont) else ((corner[0], corner[1] - 10), None)
    ImageDraw.Draw(canvas).text(place, text, colour, font, anchor)
