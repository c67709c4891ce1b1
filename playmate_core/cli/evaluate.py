"""``python -m playmate_core evaluate VIDEO|MOTION ...``: every claim as a number."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Sequence

from ..runtime.errors import PlaymateError

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.clips import Clip
    from ..evaluation.report import Request
    from ..face.types import Face

DESCRIPTION = """Measures finished videos, or motions that are still to be drawn: lips against sound, phones or a
reference; head angles against the requested ones; jitter and seams; background and identity against the portrait; and,
of several labelled clips, how distinct and how right emotions are. What each figure means: docs/evaluation.md
in the folder of ComfyUI-Playmate."""


def add_evaluate_command(commands, progress_bar: Callable) -> None:
    """Adds ``evaluate`` to the parser's commands.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` returned.
        progress_bar: makes a progress callback of a label.
    """
    command = commands.add_parser("evaluate", help="measure videos and motions", description=DESCRIPTION,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    command.add_argument("clips", nargs="+", metavar="VIDEO|MOTION",
                         help="video, motion (.safetensors, .pkl) or face track (.safetensors, .track)")
    command.add_argument("--json", default=None, metavar="FILE", help="also write every figure as JSON")
    command.add_argument("--plot", default=None, metavar="FILE.png", help="also draw the curves and distances")

    lips = command.add_argument_group("lips")
    lips.add_argument("--audio", default=None, metavar="FILE", help="the sound; the video's own if left out")
    lips.add_argument("--reference", default=None, metavar="FILE",
                      help="video, motion or face track whose lips should be followed")
    lips.add_argument("--phones", default=None, metavar="FILE",
                      help="what is said: lines 'phone start end' in seconds, or JSON")
    lips.add_argument("--alphabet", default="auto", help="of the phones: auto, ipa or arpabet")

    pose = command.add_argument_group("pose and picture")
    pose.add_argument("--pose", default=None, metavar="KEYFRAMES|MOTION",
                      help='what was asked for, e.g. "0 yaw=0; 1 yaw=15", or a motion file')
    pose.add_argument("--portrait", default=None, metavar="PICTURE",
                      help="the picture that was animated: for identity, background and its own pose")
    pose.add_argument("--face", default="largest", help="largest, left, right, or a number counted from the left")

    emotion = command.add_argument_group("emotions")
    emotion.add_argument("--label", action="append", default=None, metavar="LABEL",
                         help="emotion of each clip in order, with a strength if need be (happy 0.5); "
                              "file names are read if left out")
    emotion.add_argument("--changes", default=None, metavar="SECONDS",
                         help="when the emotion changes, e.g. 1.5,3: velocity there is measured too")
    emotion.add_argument("--templates", default=None, metavar="FILE.json",
                         help="label to 52 mean blendshapes (of real actors): classify by the nearest")
    emotion.add_argument("--emotion-model", default=None, metavar="PATH",
                         help="transformers image classifier folder, or HSEmotion .onnx: emotion accuracy")

    model = command.add_argument_group("the paper's measures, by networks that you give (none ship)")
    model.add_argument("--identity-model", default=None, metavar="FILE.onnx", help="ArcFace network: CSIM")
    model.add_argument("--fid", default=None, metavar="FILE", help="Inception, TorchScript; needs a --reference video")
    model.add_argument("--fvd", default=None, metavar="FILE", help="I3D, TorchScript; needs a --reference video")
    model.add_argument("--lpips", default=None, metavar="FILE",
                       help="AlexNet, safetensors; needs a --reference video and the package lpips")
    model.add_argument("--syncnet", default=None, metavar="FILE", help="SyncNet, safetensors: Sync-C and Sync-D")

    command.add_argument("--window", type=int, default=50, help="frames (at 25 a second) made in one piece, for seams")
    command.add_argument("--cache", default=None, metavar="FOLDER", help="keep tracked faces there and reuse them")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    command.set_defaults(run=lambda args: run_evaluate(args, progress_bar), product="report")


def run_evaluate(args: argparse.Namespace, progress_bar: Callable = lambda label: None) -> Path | None:
    """Runs the command: the table on the output stream, JSON and plot where asked for.

    Returns:
        Path of the JSON file, else of the plot, else None.

    Raises:
        PlaymateError: whatever in the inputs cannot be used; networks that are not there are named.
    """
    from ..evaluation.report import plain, table

    report, drawn = evaluate(args, progress_bar)
    sys.stdout.write(table(report))
    written = None
    if args.plot:
        from ..evaluation.charts import chart, save_chart

        written = save_chart(chart(drawn, report.get("emotions")), args.plot)
    if args.json:
        from ..evaluation.charts import write_file

        written = write_file(Path(args.json), (json.dumps(plain(report), indent=1) + "\n").encode())
    return written


def evaluate(args: argparse.Namespace, progress_bar: Callable = lambda label: None):
    """The report, and (name, clip, request) of every clip for drawing."""
    from .. import __version__
    from ..evaluation.clips import open_clip
    from ..evaluation.emotion import labels_of, parse_label
    from ..evaluation.report import emotions, measure
    from ..face.analyzer import FaceAnalyzer
    from ..face.bridge import LatentBridge
    from ..media.output import check_output
    from ..runtime.devices import usable_device

    # What the user typed is checked before minutes are spent on it.
    for name, suffix in (("json", ".json"), ("plot", ".png")):
        if path := getattr(args, name):
            check_output(path, f"{name} file", (suffix,), inputs=(
                *args.clips, args.audio, args.reference, args.phones, args.pose, args.portrait, args.templates))
    if args.label and len(args.label) != len(args.clips):
        raise PlaymateError(f"There are {len(args.label)} labels for {len(args.clips)} clips; give one --label each.")
    labels = [parse_label(text) for text in args.label] if args.label else labels_of(
        Path(clip).stem for clip in args.clips)
    policy, index = ("index", int(args.face)) if args.face.lstrip("-").isdigit() else (args.face, 0)
    networks = _Networks.load(args)
    templates = None if args.templates is None else read_templates(args.templates)
    request = _request(args)
    analyzer, bridge = FaceAnalyzer.load(device=usable_device(args.device)), LatentBridge.load()
    picture, face = _portrait(args, analyzer, policy, index)
    if face is not None:
        request = replace(request, portrait=face.landmarks, portrait_size=tuple(picture.shape[:2]))
    if args.reference is not None:
        request = replace(request, reference=open_clip(args.reference, analyzer, bridge, cache=args.cache,
                                                       progress=progress_bar("reference")))
    if args.audio is not None:
        request = replace(request, samples=_speech(args.audio))
    report: dict = {"version": __version__, "clips": []}
    drawn, seen = [], []
    for path, label in zip(args.clips, labels, strict=True):
        watch = networks.watch(path, label, picture, face)
        clip = open_clip(path, analyzer, bridge, observers=list(watch.values()), cache=args.cache, policy=policy,
                         index=index, progress=progress_bar("watching"))
        own = _with_sound(request, clip)
        figures = measure(clip, own)
        if label is not None:
            figures["label"], figures["strength"] = label
            seen.append((*label, clip))
        figures.update(networks.results(watch, own, clip, args))
        report["clips"].append(figures)
        drawn.append((label[0] if label else Path(path).stem, clip, own))
    report["emotions"] = emotions(seen, templates) if len(seen) > 1 or (seen and templates) else {}
    if networks.classifier is not None:
        verdicts = {f"{c['label']} {c['strength']:g}": c["classifier"]["verdict"] for c in report["clips"]
                    if "classifier" in c}
        if verdicts:
            right = sum(said == name.split()[0] for name, said in verdicts.items()) / len(verdicts)
            report["emotions"]["by_classifier"] = {"said": verdicts, "accuracy": right}
    return report, drawn


@dataclass
class _Networks:
    """The optional networks that were given, and what of them watches a clip."""

    identity: object = None
    classifier: object = None
    syncnet: object = None
    fid: object = None
    fvd: object = None
    lpips: object = None

    @staticmethod
    def load(args: argparse.Namespace) -> _Networks:
        found = _Networks()
        if args.identity_model:
            from ..evaluation.image import IdentityModel

            if args.portrait is None:
                raise PlaymateError("CSIM compares with the portrait; give it as --portrait.")
            found.identity = IdentityModel(args.identity_model)
        if args.emotion_model:
            from ..evaluation.classifier import EmotionClassifier

            found.classifier = EmotionClassifier.load(args.emotion_model)
        if args.syncnet:
            from ..evaluation.sync import load_syncnet

            found.syncnet = load_syncnet(args.syncnet)
        from ..evaluation import paper

        for name, kind in (("fid", paper.Fid), ("fvd", paper.Fvd), ("lpips", paper.Lpips)):
            if path := getattr(args, name):
                if args.reference is None or Path(args.reference).suffix.lower() in (".safetensors", ".pkl", ".track"):
                    raise PlaymateError(f"{name.upper()} compares pictures with pictures; give a video as --reference.")
                setattr(found, name, kind(path))
        return found

    def watch(self, path: str, label, picture: Tensor | None, face: Face | None) -> dict:
        """Observers of one clip, by the name of what they measure."""
        if not is_video(path):
            return {}
        from ..evaluation.image import BackgroundChange, IdentitySimilarity

        watch: dict = {}
        if picture is not None:
            watch["background"] = BackgroundChange(picture, face)
            if self.identity is not None:
                watch["csim"] = IdentitySimilarity(self.identity, picture, face)
        if self.classifier is not None and label is not None:
            from ..evaluation.classifier import EmotionAccuracy

            watch["classifier"] = EmotionAccuracy(self.classifier, label[0])
        if self.syncnet is not None:
            from ..evaluation.sync import SyncScore
            from ..media.video_reader import open_video

            watch["sync"] = SyncScore(self.syncnet, open_video(path).fps)
        return watch

    def results(self, watch: dict, request: Request, clip: Clip, args: argparse.Namespace) -> dict:
        found = {}
        for name, observer in watch.items():
            if name == "sync":
                if request.samples is None:
                    raise PlaymateError(f"{clip.path} has no sound for Sync-C and Sync-D; give it as --audio.")
                found[name] = observer.result(request.samples)
            else:
                found[name] = observer.result()
        for name in ("fid", "fvd", "lpips"):
            if getattr(self, name) is not None and clip.kind == "video":
                found[name] = getattr(self, name)(_pictures(clip.path), _pictures(args.reference))
        return found


def is_video(path: str) -> bool:
    """Whether a name is taken for a video's rather than a motion's or track's."""
    return Path(path).suffix.lower() not in (".safetensors", ".pkl", ".track")


def _pictures(path):
    from ..media.video_reader import open_video

    return (picture.float() / 255.0 for picture in open_video(path).steady())


def _request(args: argparse.Namespace) -> Request:
    from ..evaluation.report import Request
    from ..evaluation.speech import read_phones
    from ..motion.files import load_motion
    from ..motion.keyframes import PoseKeyframes

    changes: Sequence[float] = ()
    if args.changes:
        try:
            changes = tuple(float(word) for word in args.changes.replace(",", " ").split())
        except ValueError:
            raise PlaymateError(f"The times of change {args.changes!r} are no seconds; "
                                "write them like 1.5,3.") from None
    if args.window < 2:
        raise PlaymateError(f"The window is {args.window} frames; give 2 or more.")
    pose = None
    if args.pose is not None:
        motion = Path(args.pose).suffix.lower() in (".safetensors", ".pkl")
        pose = load_motion(args.pose) if motion else PoseKeyframes.parse(args.pose)
    phones = None if args.phones is None else read_phones(args.phones, args.alphabet)
    return Request(phones=phones, pose=pose, changes=changes, window=args.window)


def _portrait(args: argparse.Namespace, analyzer, policy: str, index: int):
    """(picture, face) of --portrait; (None, None) without."""
    if args.portrait is None:
        return None, None
    from ..face.analyzer import select_face
    from ..media.pictures import check_image, read_image

    picture = check_image(read_image(args.portrait))
    return picture, select_face(analyzer.analyze(picture[None])[0], tuple(picture.shape[:2]), policy=policy,
                                index=index)


def _with_sound(request: Request, clip: Clip) -> Request:
    """With the clip's own sound, where no other was given."""
    from ..media.sound_file import has_sound

    if request.samples is not None or clip.kind != "video" or not has_sound(clip.path):
        return request
    return replace(request, samples=_speech(clip.path))


def _speech(path: str | Path) -> Tensor:
    from ..media.sound import read_audio

    return read_audio(path).samples


def read_templates(path: str) -> dict[str, Tensor]:
    """Label -> [52] from a JSON object of lists, or of objects by blendshape name.

    Raises:
        PlaymateError: the file is missing or something else.
    """
    import torch

    from ..evaluation.emotion import parse_label
    from ..face.blendshapes import NAMES

    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {parse_label(label)[0]: torch.tensor(
            [float(row[name]) for name in NAMES] if isinstance(row, dict) else [float(x) for x in row])
            for label, row in entries.items()}
        if not found or any(len(row) != len(NAMES) for row in found.values()):
            raise ValueError(f"{len(NAMES)} numbers a label are needed")
    except PlaymateError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlaymateError(f"The templates {path} cannot be read ({error}); give a JSON object of label to "
                            f"{len(NAMES)} blendshapes.") from error
    return found
