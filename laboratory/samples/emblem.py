"""The registry's icon and banner, drawn: ``python -m laboratory.samples.emblem`` writes both into ``docs/images``.

A voice's bars become a mouth: the face speaks.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
FINE = 4
"""Everything is drawn this many times larger and made smaller: smooth edges."""
NIGHT, DUSK, SKIN, INK, GLOW = (24, 26, 38), (52, 46, 92), (244, 232, 214), (38, 34, 58), (255, 158, 94)


def ground(size: tuple[int, int]):
    """A picture that runs from night above to dusk below."""
    from PIL import Image

    shade = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, DUSK), Image.new("RGB", size, NIGHT), shade)


def face(draw, x: float, y: float, radius: float, opening: float, tilt: float = 0.0) -> None:
    """A head about (x, y), whose mouth is a bar chart of a sound.

    Args:
        opening: 0 shut to 1 wide.
        tilt: sideways shift of its features, in parts of the radius: a turned head.
    """
    draw.ellipse((x - radius, y - 1.12 * radius, x + radius, y + 1.12 * radius), fill=SKIN)
    x += tilt * radius
    for side in (-1, 1):
        eye, r = x + side * 0.36 * radius, 0.105 * radius
        draw.ellipse((eye - r, y - 0.27 * radius - r, eye + r, y - 0.27 * radius + r), fill=INK)
    for bar in range(-3, 4):
        height = max((0.05 + 0.42 * opening * math.cos(bar * math.pi / 8) ** 2) * radius, 0.05 * radius)
        middle, half = x + bar * 0.125 * radius, 0.042 * radius
        draw.rounded_rectangle((middle - half, y + 0.42 * radius - height / 2, middle + half,
                                y + 0.42 * radius + height / 2), half, fill=GLOW)


def icon(edge: int = 400):
    from PIL import Image, ImageDraw

    side = edge * FINE
    picture = ground((side, side))
    face(ImageDraw.Draw(picture), side / 2, side / 2, 0.32 * side, 0.9)
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side - 1, side - 1), 0.2 * side, fill=255)
    picture.putalpha(mask)
    return picture.resize((edge, edge), Image.Resampling.LANCZOS)


def banner(width: int = 1260, height: int = 540):
    from PIL import Image, ImageDraw, ImageFont

    wide, high = width * FINE, height * FINE
    picture = ground((wide, high))
    draw = ImageDraw.Draw(picture)
    for number in range(5):  # one performance, frame after frame
        face(draw, wide * (0.14 + 0.18 * number), high * 0.37, 0.17 * high,
             (0.1, 0.95, 0.45, 0.8, 0.2)[number], (-0.16, -0.08, 0.0, 0.08, 0.16)[number])
    for text, size, y, colour in (("ComfyUI-Playmate", 0.13, 0.74, SKIN),
                                  ("one portrait and one voice become a talking, directable head", 0.055, 0.89, GLOW)):
        draw.text((wide / 2, high * y), text, fill=colour, font=ImageFont.load_default(size * high), anchor="mm")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    icon().save(FOLDER / "icon.png", optimize=True)
    banner().save(FOLDER / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
