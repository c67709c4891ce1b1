"""``python -m playmate_core blendshapes read|write``: ARKit's blendshapes become a motion, a motion blendshapes."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

log = logging.getLogger(__name__)

MOTION_FILES = (".safetensors", ".pkl")
OUTPUTS = (".csv", ".json")


def add_blendshapes_command(commands) -> None:
    """Adds ``blendshapes`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("blendshapes",
                                  help="ARKit blendshapes (Live Link Face, CSV, JSON) to motion, and back")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    read = actions.add_parser("read", help="a file of blendshapes becomes a motion file",
                              formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    read.add_argument("file", help="Live Link Face CSV, plain CSV, or JSON")
    read.add_argument("-o", "--output", required=True,
                      help="motion to write: .safetensors, or .pkl for LivePortrait")
    read.add_argument("--fps", type=float, default=None, help="frames a second of the motion; the file's if left out")
    read.add_argument("--file-fps", type=float, default=None,
                      help="frames a second at which it was recorded, where the file does not say or says wrong")
    read.add_argument("--head", default="centred",
                      help="the recorded head: centred (counts from where it mostly was), 'as recorded', or ignore")
    read.add_argument("--strength", type=float, default=1.0, help="factor on all weights, 0 to 2")
    read.set_defaults(run=run_read, product="motion")

    write = actions.add_parser("write", help="a motion file becomes a file of blendshapes",
                               formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    write.add_argument("motion", help=".safetensors, or LivePortrait's .pkl")
    write.add_argument("-o", "--output", required=True, help="file to write: .csv or .json")
    write.add_argument("--format", default="auto",
                       help="live_link_face (as the iPhone app writes it), csv, json; auto: json for .json, else "
                            "live_link_face")
    write.add_argument("--fps", type=float, default=None,
                       help="frames a second to write; 60 for live_link_face and the motion's for others if left out")
    write.set_defaults(run=run_write, product="blendshapes")


def run_read(args: argparse.Namespace) -> Path:
    """Reads blendshapes and writes a motion; returns its path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from ..driving.template import write_template
    from ..face.arkit import ArkitShapes
    from ..face.blendshape_files import read_blendshapes
    from ..face.blendshape_motion import motion_from_blendshapes
    from ..media.output import check_output
    from ..motion.files import save_motion

    output = check_output(args.output, "motion", MOTION_FILES, inputs=[args.file])
    track = read_blendshapes(args.file, args.file_fps)
    for note in track.notes:
        log.warning(note)
    template, fps = output.suffix.lower() == ".pkl", args.fps
    if template:  # these hold whole frame rates
        fps = float(max(round(track.fps if fps is None else fps), 1))
    motion = motion_from_blendshapes(track, ArkitShapes.load(), fps, args.head, args.strength)
    return write_template(motion, output) if template else save_motion(motion, output)


def run_write(args: argparse.Namespace) -> Path:
    """Reads a motion and writes blendshapes; returns their path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from ..face.arkit import ArkitShapes
    from ..face.blendshape_files import write_blendshapes
    from ..face.blendshape_motion import blendshapes_from_motion, written_rate
    from ..media.output import check_output
    from ..motion.files import load_motion

    output = check_output(args.output, "blendshapes", OUTPUTS, inputs=[args.motion])
    form = args.format
    if form == "auto":
        form = "json" if output.suffix.lower() == ".json" else "live_link_face"
    motion = load_motion(args.motion)
    track = blendshapes_from_motion(motion, ArkitShapes.load(), written_rate(motion, form, args.fps or 0.0))
    return write_blendshapes(track, output, form)
