"""The command line: ``python -m playmate_core animate PORTRAIT AUDIO -o OUT.mp4`` and ``demo``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Sequence

from . import __version__
from .errors import PlaymateError
from .evaluation.command import add_evaluate_command
from .motion_command import add_motion_command
from .weights.command import add_weights_command

SAMPLES = Path(__file__).resolve().parent.parent / "workflows" / "inputs"
"""Portrait and voice of the demo, beside the package in a clone."""


class ProgressBar:
    """One line on the error stream that fills up; silent when that is no terminal, save for its last state."""

    def __init__(self, label: str, width: int = 30) -> None:
        self.label, self.width, self.shown = label, width, -1
        self.live = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent == self.shown or (not self.live and percent < 100):
            return
        self.shown = percent
        bar = "#" * (self.width * percent // 100)
        end = "\n" if percent >= 100 else ""
        start = "\r" if self.live else ""
        sys.stderr.write(f"{start}{self.label:<10} [{bar:<{self.width}}] {percent:3d} %{end}")
        sys.stderr.flush()


def build_parser() -> argparse.ArgumentParser:
    """The parser, with every default shown in the help."""
    parser = argparse.ArgumentParser(
        prog="python -m playmate_core", description="One portrait and one voice become a talking head.")
    parser.add_argument("--version", action="version", version=f"ComfyUI-Playmate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shown = argparse.ArgumentDefaultsHelpFormatter

    animate = commands.add_parser("animate", help="portrait and voice to video", formatter_class=shown)
    animate.add_argument("portrait", help="picture file with a face")
    animate.add_argument("audio", help="sound or video file with speech")
    animate.add_argument("-o", "--output", required=True, help="video to write (.mp4, .mov or .mkv)")
    animate.set_defaults(run=run_animate)

    demo = commands.add_parser("demo", help="animate the sample portrait with the sample voice", formatter_class=shown)
    demo.add_argument("-o", "--output", default="output/demo.mp4", help="video to write")
    demo.set_defaults(run=run_demo)

    for command in (animate, demo):
        _add_knobs(command)
    add_motion_command(commands, ProgressBar)
    add_evaluate_command(commands, ProgressBar)
    add_weights_command(commands, ProgressBar)
    return parser


def _add_knobs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="same seed, same motion")
    command.add_argument("--steps", type=int, default=10, help="denoising steps, 8 to 20")
    command.add_argument("--scheduler", default="dpmsolver++", help="dpmsolver++ or ddim; ancestral for JoyVASA")
    command.add_argument("--fps", type=float, default=25.0, help="frames a second")
    command.add_argument("--audio-guidance", type=float, default=None,
                         help="how strongly the sound pulls; the model's own default if left out")
    command.add_argument("--head-motion", type=float, default=1.0, help="0 holds the head still, 1 is natural")
    command.add_argument("--pose", default=None, metavar="KEYFRAMES|PRESET|FILE",
                         help='e.g. "0 yaw=0; 1 yaw=15; 2.5 yaw=-10 roll=5" (seconds, degrees); still, nod, shake, '
                              '"slow turn" or "look around"; a motion file, or a video whose head is followed')
    command.add_argument("--pose-mode", default="replace",
                         help='replace the generated pose, add to it or mix; or by axis: "yaw, pitch=add"')
    command.add_argument("--pose-amount", type=float, default=1.0, help="how much of the pose, 0 to 1")
    command.add_argument("--pose-easing", default="ease", help="how keyframes are joined: ease, linear or step")
    command.add_argument("--blink", type=float, default=None, metavar="RATE",
                         help="natural blinks a minute in place of the motion's own; 0 stops blinking")
    command.add_argument("--gaze", default=None, metavar="KEYFRAMES",
                         help='e.g. "0 x=0 y=0; 1.5 x=0.5" (seconds; -1 to 1, x to the right in the picture, y up)')
    command.add_argument("--emotion", default=None, metavar="SCHEDULE",
                         help='e.g. "happy 0.8" or "0 neutral; 1.5 happy; 3 sad 0.5 + fear 0.5" (seconds, strength 0 '
                              'to 2); labels: angry, disgusted, contempt, fear, happy, sad, surprised, neutral')
    command.add_argument("--emotion-guidance", type=float, default=None,
                         help="how strongly the emotion pulls; the model's own default if left out")
    command.add_argument("--face", default="largest", help="largest, left, right, or a number counted from the left")
    command.add_argument("--face-box", default=None, metavar="BOX",
                         help='where the face is, when none is found: left, top, width, height in pixels')
    command.add_argument("--face-points", default=None, metavar="POINTS",
                         help='more exact: left eye, right eye, nose, mouth corners as "x y; x y; x y; x y; x y"')
    command.add_argument("--pack", default="bundled",
                         help="bundled, liveportrait or liveportrait-animal (see 'weights list')")
    command.add_argument("--renderer", default="landmark", help="landmark")
    command.add_argument("--motion-model", default=None, metavar="FILE",
                         help="another motion model: Playmate's .safetensors or JoyVASA's .pt; bundled if left out")
    command.add_argument("--speech-encoder", default=None, metavar="FOLDER",
                         help="wav2vec2 or HuBERT in transformers' format, for motion models that were trained on it")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.add_argument("--acceleration", default="none",
                         help="none, 'cuda graphs' or 'torch.compile': slower to start, faster for long films")
    command.add_argument("--motion-out", default=None, metavar="FILE", help="also save the motion (.safetensors, .pkl)")
    command.add_argument("--from-motion", default=None, metavar="FILE",
                         help="draw this motion instead of generating one; the audio is only heard")


def run_demo(args: argparse.Namespace) -> Path:
    """Animates the sample inputs that lie beside the package.

    Raises:
        PlaymateError: the samples are missing, as in an installation without the repository.
    """
    def sample(stem: str) -> str:
        found = sorted(SAMPLES.glob(f"{stem}.*"))
        if not found:
            raise PlaymateError(f"The demo's {stem} is missing from {SAMPLES}; clone the repository, "
                                "or use animate with your own files.")
        return str(found[0])

    args.portrait, args.audio = sample("portrait"), sample("voice")
    return run_animate(args)


def run_animate(args: argparse.Namespace) -> Path:
    """Runs the whole path; returns the video's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from . import pipeline
    from .diffusion.emotion_plan import EmotionPlan
    from .face.manual import parse_box, parse_points
    from .images import read_image
    from .motion.blinks import plan_blinks
    from .motion.eyes import direct_eyes
    from .motion.files import load_motion, save_motion
    from .motion.gaze import GazeKeyframes
    from .motion.pose import MODES, override_pose, parse_axes
    from .pose_option import parse_pose, read_pose
    from .templates import write_template
    from .video import check_suffix, write_video

    # What the user typed is checked before minutes are spent on it.
    check_suffix(args.output)
    pose = None if args.pose is None else parse_pose(args.pose, args.pose_easing)
    pose_axes, pose_modes = (None, args.pose_mode) if args.pose_mode in MODES else parse_axes(args.pose_mode)
    if args.blink is not None:
        plan_blinks(0.0, args.blink)
    gaze = None if args.gaze is None else GazeKeyframes.parse(args.gaze)
    emotion = None if args.emotion is None else EmotionPlan.parse(args.emotion)
    box = None if args.face_box is None else parse_box(args.face_box)
    points = None if args.face_points is None else parse_points(args.face_points)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    if args.motion_out and Path(args.motion_out).suffix not in (".safetensors", ".pkl"):
        raise PlaymateError(f"The motion cannot be saved as {args.motion_out!r}; end the name in .safetensors or .pkl.")
    image = read_image(args.portrait)

    models = pipeline.load_models(args.pack, device=args.device, renderer=args.renderer,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration)
    appearance = pipeline.extract_appearance(models, image, policy=policy, index=index, box=box, points=points)
    if args.from_motion:
        motion = load_motion(args.from_motion)
        if motion.fps != args.fps:
            from .motion.edits import resample
            motion = resample(motion, args.fps)
    else:
        features = pipeline.encode_audio(models, args.audio, progress=ProgressBar("listening"))
        motion = pipeline.generate_motion(
            models, features, appearance, seed=args.seed, steps=args.steps, scheduler=args.scheduler,
            audio_guidance=args.audio_guidance, head_motion=args.head_motion, fps=args.fps, emotion=emotion,
            emotion_guidance=args.emotion_guidance, progress=ProgressBar("moving"))
    if pose is not None:
        source = read_pose(pose, models.face, models.bridge, ProgressBar("watching"))
        motion = override_pose(motion, source, pose_modes, pose_axes, args.pose_amount, length="mirror")
    if args.blink is not None or gaze is not None:
        motion = direct_eyes(motion, blink_mode="keep" if args.blink is None else "replace",
                             blink_rate=args.blink or 0.0, seed=args.seed, gaze_mode="replace", gaze=gaze)
    if args.motion_out:
        if args.motion_out.endswith(".pkl"):
            write_template(motion, args.motion_out)
        else:
            save_motion(motion, args.motion_out)
    frames = pipeline.render_frames(models, appearance, motion)
    return write_video(args.output, frames, motion.fps, len(motion), audio=args.audio,
                       progress=ProgressBar("drawing"))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 0 when the video is there, 1 with one sentence when it is not, 130 when interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Read when torch loads, which is later: waiting threads that spin slow small networks on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = build_parser().parse_args(argv)
    start = time.monotonic()
    try:
        path = args.run(args)
    except PlaymateError as error:
        sys.stderr.write(f"\nerror: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; nothing was written\n")
        return 130
    if path is not None:
        sys.stdout.write(f"{getattr(args, 'product', 'video')}: {path.resolve()} ({time.monotonic() - start:.1f} s)\n")
    return 0
