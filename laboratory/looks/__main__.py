"""Draws the sheets by which the drawing is judged by eye, from today's code.

    python -m laboratory.looks [--only NAME ...] [--portraits FILE ...] [--out output/looks]

``same_latents`` and ``single_latents`` show LivePortrait's own pictures and ours of the same latents,
``emotions_p46`` the seven emotions under a published system's, ``portrait`` one sheet for each portrait: every emotion
at every strength, two moments each, and mouths in speech. The first three need the shared folder
(``PLAYMATE_SHARED``) and are left out where it is not.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from playmate_core import pipeline
from playmate_core.emotion.curve import EMOTIONS

from .. import ROOT
from . import published, sheets

INPUTS = ROOT / "workflows" / "inputs"
SHEETS = ("same_latents", "single_latents", "emotions_p46", "emotions", "portrait")
log = logging.getLogger("looks")


def main(arguments: list[str] | None = None) -> int:
    looks = published.shared() / "looks"
    at_hand = [INPUTS / "portrait.jpg", *(path for path in [looks / "portrait_46.png"] if path.is_file())]
    voice = next(path for path in (looks / "voice_46.wav", INPUTS / "voice.wav") if path.is_file())
    parser = argparse.ArgumentParser(prog="python -m laboratory.looks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHEETS, default=SHEETS, help="these sheets alone")
    parser.add_argument("--portraits", nargs="+", type=Path, default=at_hand)
    parser.add_argument("--more", nargs="+", type=Path, default=[], metavar="PORTRAIT", help="besides these")
    parser.add_argument("--voice", type=Path, default=voice, help="for the sheets of portraits")
    parser.add_argument("--emotions", nargs="+", choices=EMOTIONS, default=None, help="these alone (faster)")
    parser.add_argument("--strengths", nargs="+", type=float, default=sheets.STRENGTHS)
    parser.add_argument("--motion-model", default=None)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "looks")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    models = pipeline.load_models(motion_model=args.motion_model)
    needs = {"same_latents": published.rendered(), "single_latents": published.rendered(),
             "emotions_p46": looks / "emotions_beside_published.jpg"}
    for name in args.only:
        if name in needs and not needs[name].exists():
            log.info("%s is left out: %s is not there (PLAYMATE_SHARED names the shared folder)", name, needs[name])
            continue
        jobs = [(path,) for path in [*args.portraits, *args.more]] if name == "portrait" else [()]
        for job in jobs:
            began = time.monotonic()
            if name == "portrait":
                made = sheets.portrait(models, args.out, *job, args.voice, args.emotions or EMOTIONS, args.strengths)
            elif name == "emotions":
                made = sheets.emotions(models, args.out, [*args.portraits, *args.more], args.voice,
                                       args.emotions or EMOTIONS)
            elif name == "emotions_p46":
                made = sheets.emotions_p46(models, args.out, args.emotions or sheets.PUBLISHED_ORDER)
            else:
                made = getattr(sheets, name)(models, args.out)
            log.info("%s (%.0f s)", made, time.monotonic() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
