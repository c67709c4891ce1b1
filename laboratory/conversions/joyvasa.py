"""JoyVASA's checkpoint and motion template as one safetensors file, which needs no unpickling and no second file.

    python -m laboratory.conversions.joyvasa models/playmate/joyvasa/motion_generator_hubert_chinese.pt \\
        -o joyvasa.safetensors

``--positions per_frame`` makes a model that places frames as JoyVASA's repository does since December 2025; the
published weights were trained the other way.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from playmate_core.diffusion.joyvasa.checkpoint import load_joyvasa, save_joyvasa
from playmate_core.diffusion.joyvasa.config import POSITIONS
from playmate_core.runtime.errors import PlaymateError


def main() -> int:
    parser = argparse.ArgumentParser(description="JoyVASA's checkpoint as one safetensors file.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--positions", choices=POSITIONS, default=None)
    args = parser.parse_args()
    try:
        if args.output.suffix != ".safetensors":
            raise PlaymateError(f"{args.output} must end in .safetensors.")
        save_joyvasa(args.output, load_joyvasa(args.checkpoint, args.positions))
    except PlaymateError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{args.output}: {args.output.stat().st_size / 1e6:.0f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
