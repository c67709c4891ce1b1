"""What directs ``animate`` and ``demo``: their options."""

from __future__ import annotations

import argparse

from ..media.sizes import SIZE
from .drawing_option import add_drawing_options
from .liveportrait_option import add_liveportrait_options

PART = 30.0
"""Seconds of a long film that are drawn at a time: no more than that is lost when the work is stopped, and the whole
picture with which a part begins costs hardly anything."""


def add_knobs(command: argparse.ArgumentParser) -> None:
    """Adds everything that directs the result."""
    add_sampling_options(command)
    add_pose_options(command)
    add_eye_options(command)
    add_emotion_options(command)
    add_portrait_options(command)
    add_model_options(command)
    add_liveportrait_options(command)
    add_drawing_options(command)
    add_part_option(command)
    add_motion_options(command)


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """Adds how speech becomes motion."""
    command.add_argument("--seed", type=int, default=0, help="same seed, same motion")
    command.add_argument("--steps", type=int, default=10, help="denoising steps, 8 to 20")
    command.add_argument("--scheduler", default="dpmsolver++", help="dpmsolver++ or ddim; ancestral for JoyVASA")
    command.add_argument("--fps", type=float, default=None,
                         help="frames a second; 25 if left out, or those of a film that is the portrait")
    command.add_argument("--audio-guidance", type=float, default=None,
                         help="how strongly the sound pulls; the model's own default if left out")
    command.add_argument("--head-motion", type=float, default=1.0, help="0 holds the head still, 1 is natural")


def add_pose_options(command: argparse.ArgumentParser) -> None:
    """Adds whose pose the head takes."""
    command.add_argument("--pose", default=None, metavar="KEYFRAMES|PRESET|FILE",
                         help='e.g. "0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5" (seconds, degrees); still, nod, shake, '
                              '"slow turn" or "look around"; a motion file, or a video whose head is followed')
    command.add_argument("--pose-mode", default="replace",
                         help='replace the generated pose, add to it or mix; or by axis: "yaw, pitch=add"')
    command.add_argument("--pose-amount", type=float, default=1.0, help="how much of the pose, 0 to 1")
    command.add_argument("--pose-length", default="mirror",
                         help="what a pose file that ends before the speech does: mirror (backwards and forwards), "
                              "hold, loop, or cut the film")
    command.add_argument("--pose-easing", default="ease", help="how keyframes are joined: ease, linear or step")


def add_eye_options(command: argparse.ArgumentParser) -> None:
    """Adds what the eyes do."""
    command.add_argument("--blink", type=float, default=None, metavar="RATE",
                         help="natural blinks a minute in place of the motion's own; 0 stops blinking")
    command.add_argument("--gaze", default=None, metavar="KEYFRAMES",
                         help='e.g. "0 x=0 y=0; 1.5 x=0.5" (seconds; -1 to 1, x to the right in the picture, y up)')


def add_emotion_options(command: argparse.ArgumentParser) -> None:
    """Adds what the head feels."""
    command.add_argument("--emotion", default=None, metavar="SCHEDULE",
                         help='e.g. "happy 0.8" or "0 neutral; 1.5 happy; 3 sad 0.5 + fear 0.5" (seconds, strength 0 '
                              'to 2); labels: angry, disgusted, contempt, fear, happy, sad, surprised, neutral')
    command.add_argument("--emotion-layer", default=None, action="append", metavar="LAYER",
                         help='one emotion more, with its time, over --emotion and earlier layers: "happy 0.8 + fear '
                              '0.3, start=1, end=4, fade-in=0.5, fade-out=0.5, combine=replace" (seconds; combine is '
                              'add if left out); may be given several times')
    command.add_argument("--emotion-guidance", type=float, default=None,
                         help="how strongly the emotion pulls; the model's own default if left out")


def add_portrait_options(command: argparse.ArgumentParser) -> None:
    """Adds which face is drawn, and how large."""
    command.add_argument("--face", default="largest", help="largest, left, right, or a number counted from the left")
    command.add_argument("--face-box", default=None, metavar="BOX",
                         help='where the face is, when none is found: left, top, width, height in pixels')
    command.add_argument("--face-points", default=None, metavar="POINTS",
                         help='more exact: left eye, right eye, nose, mouth corners as "x y; x y; x y; x y; x y"')
    command.add_argument("--mask", default=None, metavar="FILE",
                         help="picture that is white over the face to take; with --face-box mask the face is where it "
                              "is painted")
    command.add_argument("--image-index", type=int, default=0, metavar="N",
                         help="which picture of a file that holds several, counted from 0")
    command.add_argument("--size", type=int, default=SIZE, metavar="PIXELS",
                         help="longest side of the film; a smaller portrait keeps its own, and so does any with 0")


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Adds which weights work, and where."""
    command.add_argument("--pack", default="bundled",
                         help="bundled, liveportrait or liveportrait-animal (see 'weights list')")
    command.add_argument("--motion-model", default=None, metavar="FILE",
                         help="another motion model: Playmate's .safetensors or JoyVASA's .pt; bundled if left out")
    command.add_argument("--speech-encoder", default=None, metavar="FOLDER",
                         help="wav2vec2 or HuBERT in transformers' format, for motion models that were trained on it")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.add_argument("--acceleration", default="none",
                         help="none, 'cuda graphs' or 'torch.compile': slower to start, faster for long films")
    command.add_argument("--wrinkles", type=float, default=1.0, metavar="AMOUNT",
                         help="how much skin creases where it is pushed together, 0 to 2; only in the bundled pack")


def add_motion_options(command: argparse.ArgumentParser) -> None:
    """Adds motions that are kept or were made before."""
    command.add_argument("--motion-out", default=None, metavar="FILE", help="also save the motion (.safetensors, .pkl)")
    command.add_argument("--from-motion", default=None, metavar="FILE",
                         help="draw this motion instead of generating one; the audio is only heard")
    command.add_argument("--length", default="motion",
                         help="with --from-motion, how long the film lasts: as the motion; cut ends with the shorter "
                              "of motion and sound; hold, loop and mirror continue a shorter motion to the sound's end")


def add_part_option(command: argparse.ArgumentParser) -> None:
    """Adds how much of a long film is drawn at a time."""
    command.add_argument("--part", type=float, default=PART, metavar="SECONDS",
                         help="films longer than two parts are drawn part by part in a hidden folder beside the film; "
                              "stopped and started again, the same command goes on from the last whole part; 0 draws "
                              "every film in one go, as films with a transparent ground are anyway")
