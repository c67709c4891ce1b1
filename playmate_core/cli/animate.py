"""``python -m playmate_core animate PORTRAIT AUDIO -o OUT.mp4``: portrait and voice to video."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from ..media.sizes import SIZE, check_size
from ..runtime.errors import PlaymateError
from .progress_bar import ProgressBar

log = logging.getLogger(__name__)


def add_animate_command(commands) -> None:
    """Adds ``animate`` to the parser's commands, what ``ArgumentParser.add_subparsers`` returned."""
    command = commands.add_parser("animate", help="portrait and voice to video",
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("portrait", help="picture file with a face")
    command.add_argument("audio", help="sound or video file with speech")
    command.add_argument("-o", "--output", required=True, help="video to write (.mp4, .mov or .mkv)")
    add_knobs(command)
    command.set_defaults(run=run_animate)


def add_knobs(command: argparse.ArgumentParser) -> None:
    """Adds everything that directs the result."""
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
    command.add_argument("--pose-length", default="mirror",
                         help="what a pose file that ends before the speech does: mirror (backwards and forwards), "
                              "hold, loop, or cut the film")
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
    command.add_argument("--size", type=int, default=SIZE, metavar="PIXELS",
                         help="longest side of the film; a smaller portrait keeps its own, and so does any with 0")
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
    command.add_argument("--motion-out", default=None, metavar="FILE", help="also save the motion (.safetensors, .pkl)")
    command.add_argument("--from-motion", default=None, metavar="FILE",
                         help="draw this motion instead of generating one; the audio is only heard")
    command.add_argument("--length", default="motion",
                         help="with --from-motion, how long the film lasts: as the motion; cut ends with the shorter "
                              "of motion and sound; hold, loop and mirror continue a shorter motion to the sound's end")


def run_animate(args: argparse.Namespace) -> Path:
    """Runs the whole path; returns the video's path.

    Raises:
        PlaymateError: whatever in the inputs cannot be used.
    """
    from .. import pipeline
    from ..driving.template import write_template
    from ..emotion.plan import EmotionPlan
    from ..face.manual import parse_box, parse_points
    from ..media.film_sound import seconds_of
    from ..media.output import check_output, refuse_same
    from ..media.pictures import read_image
    from ..media.rates import exact_rate
    from ..media.sound_file import open_sound
    from ..media.video_writer import SUFFIXES, write_video
    from ..motion.blinks import plan_blinks
    from ..motion.edits import resample
    from ..motion.eyes import direct_eyes
    from ..motion.files import load_motion, save_motion
    from ..motion.gaze import GazeKeyframes
    from ..motion.lengths import SOUND_LENGTHS, fit_sound
    from ..motion.pose import MODES, override_pose, parse_axes
    from .pose_option import POSE_LENGTHS, length_note, parse_pose, read_pose

    # What the user typed is checked before minutes are spent on it.
    check_size(args.size)
    inputs = (args.portrait, args.audio, args.from_motion, args.pose, args.motion_model)
    check_output(args.output, "video", SUFFIXES, inputs=inputs)
    fps = float(exact_rate(args.fps))
    if args.motion_out:
        _check_motion_out(args, fps, inputs)
        refuse_same(args.output, args.motion_out)
    for option, value, known in (("--length", args.length, SOUND_LENGTHS),
                                 ("--pose-length", args.pose_length, POSE_LENGTHS)):
        if value not in known:
            raise PlaymateError(f"{option} is {value!r}; choose one of: {', '.join(known)}.")
    pose = None if args.pose is None else parse_pose(args.pose, args.pose_easing)
    pose_axes, pose_modes = (None, args.pose_mode) if args.pose_mode in MODES else parse_axes(args.pose_mode)
    if args.blink is not None:
        plan_blinks(0.0, args.blink)
    gaze = None if args.gaze is None else GazeKeyframes.parse(args.gaze)
    emotion = None if args.emotion is None else EmotionPlan.parse(args.emotion)
    box = None if args.face_box is None else parse_box(args.face_box)
    points = None if args.face_points is None else parse_points(args.face_points)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    image = read_image(args.portrait)
    # One reader for the speech encoder and the film: the same track, the same clock, one warning.
    sound = open_sound(args.audio)
    kept = load_motion(args.from_motion) if args.from_motion else None

    models = pipeline.load_models(args.pack, device=args.device,
                                  motion_model=args.motion_model, speech_encoder=args.speech_encoder,
                                  acceleration=args.acceleration, wrinkles=args.wrinkles)
    appearance = pipeline.extract_appearance(models, image, policy=policy, index=index, box=box, points=points,
                                             size=args.size)
    if kept is not None:
        motion, note = fit_sound(resample(kept, fps), seconds_of(sound), args.length)
        if note:
            log.warning(note)
    else:
        features = pipeline.encode_audio(models, sound, progress=ProgressBar("listening"))
        motion = pipeline.generate_motion(
            models, features, appearance, seed=args.seed, steps=args.steps, scheduler=args.scheduler,
            audio_guidance=args.audio_guidance, head_motion=args.head_motion, fps=fps, emotion=emotion,
            emotion_guidance=args.emotion_guidance, progress=ProgressBar("moving"))
    if pose is not None:
        source = read_pose(pose, models.face, models.bridge, ProgressBar("watching"))
        if note := length_note(source, motion, args.pose_length):
            log.warning(note)
        motion = override_pose(motion, source, pose_modes, pose_axes, args.pose_amount,
                               length=POSE_LENGTHS[args.pose_length])
    if args.blink is not None or gaze is not None:
        motion = direct_eyes(motion, blink_mode="keep" if args.blink is None else "replace",
                             blink_rate=args.blink or 0.0, seed=args.seed, gaze_mode="replace", gaze=gaze)
    if args.motion_out:
        if args.motion_out.lower().endswith(".pkl"):
            write_template(motion, args.motion_out)
        else:
            save_motion(motion, args.motion_out)
    note = pipeline.size_note(appearance, args.size, motion.fps)
    if note is not None:
        log.warning(note)
    frames = pipeline.render_frames(models, appearance, motion, size=args.size)
    return write_video(args.output, frames, motion.fps, len(motion), audio=sound, progress=ProgressBar("drawing"))


def _check_motion_out(args: argparse.Namespace, fps: float, inputs) -> None:
    from ..media.output import check_output
    from .pose_option import MOTION_FILES

    path = check_output(args.motion_out, "motion", MOTION_FILES, inputs=inputs)
    if path.suffix.lower() == ".pkl" and fps != round(fps):
        raise PlaymateError(f"{path.name} is a template, which holds whole frame rates, and the film has {args.fps:g} "
                            "frames a second; end the name in .safetensors, or give a whole --fps.")
