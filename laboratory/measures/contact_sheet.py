"""Frames of a video side by side as one PNG: to look at, and for the README's strip.

    python -m laboratory.measures.contact_sheet VIDEO OUT.png [--frames 8] [--columns 8] [--height 256] \\
        [--box x0 y0 x1 y1]
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    import cv2
    import numpy as np

    from playmate_core.media.video_reader import open_video

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--every", type=int, help="every n-th frame from --start instead of frames spread evenly")
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--box", type=float, nargs=4, default=(0, 0, 1, 1), help="part of the picture, 0 to 1")
    args = parser.parse_args()
    pictures = [picture.numpy()[..., ::-1] for _, picture in open_video(args.video)]
    if args.every:
        picked = range(args.start, min(len(pictures), args.start + args.every * args.frames), args.every)
    else:
        picked = np.linspace(args.start, len(pictures) - 1, args.frames).round().astype(int)
    x0, y0, x1, y1 = args.box
    tiles = []
    for index in picked:
        height, width = pictures[index].shape[:2]
        part = pictures[index][round(y0 * height):round(y1 * height), round(x0 * width):round(x1 * width)]
        size = (round(args.height * part.shape[1] / part.shape[0]), args.height)
        tiles.append(cv2.resize(part, size, interpolation=cv2.INTER_AREA if part.shape[0] > args.height
                                else cv2.INTER_CUBIC))
    rows = []
    for first in range(0, len(tiles), args.columns):
        row = tiles[first:first + args.columns]
        row += [np.full_like(tiles[0], 255)] * (min(args.columns, len(tiles)) - len(row))
        rows.append(np.concatenate(row, 1))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(args.out), np.concatenate(rows, 0))


if __name__ == "__main__":
    main()
