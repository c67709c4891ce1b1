"""How LivePortrait's networks apply motion, for every command that draws."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ..runtime.errors import PlaymateError

if TYPE_CHECKING:
    from ..pipeline import Models
    from ..render.liveportrait.animate import Options

log = logging.getLogger(__name__)

MODES = ("relative", "absolute")


def add_liveportrait_options(command: argparse.ArgumentParser) -> None:
    """Adds LivePortrait's own settings."""
    group = command.add_argument_group("with --pack liveportrait")
    group.add_argument("--motion-mode", default=MODES[0],
                       help="relative: the portrait moves on from its own face and pose; absolute: it takes over the "
                            "motion's as they are, for motion of LivePortrait's own")
    group.add_argument("--animation-region", default="all",
                       help="what of the motion is applied: all, exp (expression without pose), pose, lip or eyes")
    group.add_argument("--no-stitching", dest="stitching", action="store_false",
                       help="do not hold neck and shoulders where the portrait has them")
    group.add_argument("--driving-multiplier", type=float, default=1.0, help="factor on the whole motion, 0 to 3")
    group.add_argument("--no-normalize-lips", dest="normalize_lips", action="store_false",
                       help="do not shut lips that the portrait holds open before it speaks")
    group.add_argument("--eye-retargeting", action="store_true",
                       help="let the retargeting network open and shut the eyes")
    group.add_argument("--lip-retargeting", action="store_true",
                       help="let the retargeting network open and shut the lips")


def parse_options(args: argparse.Namespace) -> Options:
    """What the user typed.

    Raises:
        PlaymateError: an unknown choice, or a factor out of its range.
    """
    from ..render.liveportrait.animate import Options

    if args.motion_mode not in MODES:
        raise PlaymateError(f"--motion-mode is {args.motion_mode!r}; choose one of: {', '.join(MODES)}.")
    if not 0 <= args.driving_multiplier <= 3:
        raise PlaymateError(f"--driving-multiplier is {args.driving_multiplier:g}; give a number from 0 to 3.")
    return Options(relative=args.motion_mode == "relative", region=args.animation_region, stitching=args.stitching,
                   normalise_lip=args.normalize_lips, retarget_eyes=args.eye_retargeting,
                   retarget_lips=args.lip_retargeting, multiplier=args.driving_multiplier)


def with_options(models: Models, options: Options) -> Models:
    """The models, their renderer with these options; a warning where they change nothing."""
    from ..render.liveportrait import LivePortraitRenderer
    from ..render.liveportrait.animate import Options

    usual = Options(normalise_lip=True)
    if options == usual:
        return models
    if not isinstance(models.renderer, LivePortraitRenderer):
        log.warning("The loaded renderer is not LivePortrait's, so LivePortrait's options change nothing.")
        return models
    known = replace(usual, stitching=options.stitching, multiplier=options.multiplier)
    if models.renderer.animal and options != known:
        log.warning("The networks for animals only know --no-stitching and --driving-multiplier; LivePortrait's other "
                    "options change nothing.")
    return replace(models, renderer=models.renderer.with_options(options))
