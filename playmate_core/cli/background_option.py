"""What lies behind a portrait with a transparent ground: ``--background``, and ``--ground`` that makes one."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

from ..runtime.errors import PlaymateError

if TYPE_CHECKING:
    from torch import Tensor

    from ..media.grounds import Background
    from ..pipeline import Appearance

log = logging.getLogger(__name__)


def add_background_options(command: argparse.ArgumentParser) -> None:
    """Adds where the portrait's ground is transparent, and what is put behind it."""
    command.add_argument("--ground", default=None, metavar="FILE",
                         help="picture that is white, or opaque where it has alpha, where the portrait's ground is "
                              "transparent; a portrait with alpha needs none")
    command.add_argument("--background", default=None, metavar="transparent|COLOUR|PICTURE",
                         help="behind a portrait with a transparent ground: transparent keeps it (.webm, .mov, or a "
                              "folder of pictures), a colour such as '#00b140' or white, or a picture that is made to "
                              "cover; white if left out")


def background_of(args: argparse.Namespace, filmed: bool) -> Background | None:
    """What ``--background`` asks for; None where it is left out. Checks the film's name too.

    Raises:
        PlaymateError: no background, a film that cannot keep a transparent one, or a film as the portrait.
    """
    if filmed and not (args.background is None and args.ground is None):
        raise PlaymateError("A film as the portrait has no transparent ground; leave --background and --ground out.")
    if args.background is None:
        return None
    from ..media.alpha_video import check_alpha_name
    from ..media.grounds import parse_background

    found = parse_background(args.background)
    if found.transparent and Path(args.output).suffix:
        check_alpha_name(Path(args.output))
    return found


def suffixes(args: argparse.Namespace) -> tuple[str, ...]:
    """Endings of the films that can be written."""
    from ..media.alpha_video import ALPHA_SUFFIXES
    from ..media.video_writer import SUFFIXES

    return ALPHA_SUFFIXES if is_transparent(args) else SUFFIXES


def is_transparent(args: argparse.Namespace) -> bool:
    """Whether the film is to keep its transparent ground."""
    return (getattr(args, "background", None) or "").strip().lower() == "transparent"


def laid_on(frames: Iterator[Tensor], background: Background | None) -> Iterator[Tensor]:
    """Frames with the background behind them; they have alpha unless it is None."""
    return frames if background is None else background.behind(frames)


def tell_if_opaque(appearance: Appearance, background: Background | None) -> None:
    """A warning where nothing of a background will be seen."""
    if background is not None and appearance.alpha is None:
        log.warning("The portrait is opaque throughout, so nothing of --background will be seen; give a picture with "
                    "alpha, or --ground.")
