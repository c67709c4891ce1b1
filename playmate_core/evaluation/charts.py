"""The evaluation as a picture: each clip's curves beside what they should follow, and how far emotions lie apart."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Mapping, Sequence

import torch
from torch import Tensor

from ..motion.pose import ANGLES
from ..runtime.errors import PlaymateError
from .clips import Clip
from .lips import on_frames, spread
from .plot import BLUE, GREEN, ORANGE, PAPER, as_tensor, panel, write
from .pose import on_base, requested_angles, tracked_angles
from .report import Request, own_pose
from .speech import openness_estimate, phone_curves

WIDTH, PANEL, CELL = 1024, 150, 64
MOST_CLIPS = 12


def chart(clips: Sequence[tuple[str, Clip, Request]], emotions: Mapping | None = None) -> Tensor:
    """Lips and head of every clip over time, the requested in orange; below, the matrix of distances.

    Args:
        clips: (name, clip, what it is held against); the first 12 are drawn.
        emotions: ``report.emotions``'s result.

    Returns:
        [H, 1024, 3] float32 sRGB 0..1.
    """
    from PIL import Image

    panels = [entry for name, clip, request in clips[:MOST_CLIPS] for entry in _panels(name, clip, request)]
    matrix = (emotions or {}).get("separation")
    height = 16 + PANEL * len(panels) + (40 + CELL * len(matrix["labels"]) if matrix else 0)
    canvas = Image.new("RGB", (WIDTH, height), PAPER)
    top = 16
    for title, lines, least, centred, seconds in panels:
        panel(canvas, (54, top + 12, WIDTH - 12, top + PANEL - 28), title, lines, least, centred, seconds)
        top += PANEL
    if matrix:
        _matrix(canvas, top + 16, matrix["labels"], matrix["matrix"])
    return as_tensor(canvas)


def save_chart(picture: Tensor, path: str | PathLike) -> Path:
    """Writes [H, W, 3] 0..1 as PNG; it appears under its name only when it is whole.

    Raises:
        PlaymateError: the folder cannot be written.
    """
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.fromarray((picture * 255).round().to(torch.uint8).numpy()).save(data, "PNG")
    return write_file(Path(path), data.getvalue())


def write_file(path: Path, content: bytes) -> Path:
    """Writes a file under a temporary name, then moves it into place.

    Raises:
        PlaymateError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise PlaymateError(f"The file {path} could not be written ({error.strerror or error}); check the folder and "
                            "the free space.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _panels(name: str, clip: Clip, request: Request):
    gap = [("lip gap", BLUE, clip.gap)]
    if request.reference is not None:
        other = request.reference
        gap.append(("reference", ORANGE, on_frames(other.gap, other.fps, len(clip), clip.fps)))
    elif request.phones:
        gap.append(("phones", ORANGE, _scaled(phone_curves(request.phones, len(clip), clip.fps)[0], clip.gap)))
    elif request.samples is not None:
        gap.append(("from sound", ORANGE, _scaled(openness_estimate(request.samples, len(clip), clip.fps), clip.gap)))
    yield f"{name}: lip gap", gap, 0.1, False, clip.seconds
    angles = [(axis, colour, tracked_angles(clip.track)[:, column])
              for column, (axis, colour) in enumerate(zip(ANGLES, (BLUE, GREEN, (120, 120, 120)), strict=True))]
    if request.pose is None:
        yield f"{name}: head, degrees", angles, 5.0, True, clip.seconds
        return
    asked = requested_angles(request.pose, len(clip), clip.fps)
    asked = on_base(asked, own_pose(clip, request))
    for column, line in enumerate(angles):
        if bool(torch.isfinite(asked[:, column]).any()):
            yield (f"{name}: {line[0]}, degrees", [line, ("requested", ORANGE, asked[:, column])], 5.0, True,
                   clip.seconds)


def _scaled(curve: Tensor, like: Tensor) -> Tensor:
    """A curve without a unit, brought to the range of ``like``."""
    size, seen = spread(curve), like[torch.isfinite(like)]
    return ((curve - curve.mean()) / max(size, 1e-9) * spread(like) + seen.mean()).clamp_min(0.0)


def _matrix(canvas, top: int, labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    most = max(max(row) for row in matrix) or 1.0
    write(canvas, "distance of mean blendshapes", (54, top))
    for i, row in enumerate(matrix):
        y = top + 8 + i * CELL
        write(canvas, labels[i], (54, y + CELL // 2))
        for j, value in enumerate(row):
            x = 150 + j * (CELL + 36)
            share = value / most
            colour = tuple(int(a + (b - a) * share) for a, b in zip(PAPER, BLUE, strict=True))
            draw.rectangle((x, y, x + CELL + 34, y + CELL - 2), fill=colour)
            ink = (250, 250, 248) if share > 0.6 else (70, 70, 70)
            write(canvas, f"{value:.2f}" if i != j else labels[j], (x + 8, y + CELL // 2), ink)
