"""``python -m laboratory.benchmarks [speed|memory|films|liveportrait]``: the first two if none is named."""

from __future__ import annotations

import argparse
import sys

from . import films, liveportrait, machine, memory, speed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m laboratory.benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", choices=[[], "speed", "memory", "films", "liveportrait"],
                        help="speed and memory if none is named")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0,
                        help="length of the long audio or film of memory and films")
    args = parser.parse_args()
    which = args.which or ["speed", "memory"]
    sys.stdout.write(machine.describe() + "\n\n")
    if "speed" in which:
        speed.run(args.device)
    if "memory" in which:
        memory.run(args.minutes)
    if "films" in which:
        films.run(args.minutes)
    if "liveportrait" in which:
        liveportrait.run(args.device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
