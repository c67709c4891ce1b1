"""``animate --pose``: keyframes, a preset, a motion file or a driving video."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Union

from ..motion.keyframes import PoseKeyframes
from ..motion.pose import PoseSource
from ..motion.presets import PRESETS, PosePreset
from ..motion.types import Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress

if TYPE_CHECKING:
    from ..face.analyzer import FaceAnalyzer
    from ..face.bridge import LatentBridge

MOTION_FILES = (".safetensors", ".pkl")
POSE_LENGTHS = {"mirror": "mirror", "hold": "constant", "loop": "cycle", "cut": "cut"}
"""What a pose that ends before the speech does: the option's words, and ``edits.LENGTH_POLICIES``."""

PoseRequest = Union[PoseKeyframes, PosePreset, Motion, Path]

_DOES = {"mirror": "it runs backwards and forwards", "hold": "its last frame is held", "loop": "it starts again",
         "cut": "the film ends with it"}


def parse_pose(text: str, easing: str = "ease") -> PoseRequest:
    """What the option's text asks for. Any file that is there is one: a motion or a text by its ending, else a film.

    Args:
        text: keyframes ("0 yaw=0; 1 yaw=15"); a preset's name, with a period in seconds if wanted ("nod", "nod 0.8");
            or the path of a motion file, of anything with pictures that FFmpeg reads, or of a .txt file with
            keyframes.
        easing: of keyframes, see ``motion.keyframes.EASINGS``.

    Raises:
        PlaymateError: text that is none of these, or a file that is missing or of another kind.
    """
    words = text.strip()
    name, _, period = words.lower().rpartition(" ")
    if words.lower() in PRESETS:
        return PosePreset(words.lower())
    if name in PRESETS:
        try:
            return PosePreset(name, float(period))
        except ValueError as error:
            raise PlaymateError(f"--pose {text!r}: {period!r} is no number of seconds; write for instance "
                                f"'{name} 1.5'.") from error
    path = Path(words)
    if not _is_there(path):
        if _is_name(words):
            raise PlaymateError(f"--pose: there is no file {words}; give a motion, a video, keyframes or a preset.")
        return PoseKeyframes.parse(words, easing)
    suffix = path.suffix.lower()
    if suffix in MOTION_FILES:
        from ..motion.files import load_motion

        motion = load_motion(path)
        if not len(motion):
            raise PlaymateError(f"--pose: the motion {path} has no frames; give another one.")
        return motion
    if suffix == ".txt":
        try:
            return PoseKeyframes.parse(path.read_text(encoding="utf-8"), easing)
        except (OSError, UnicodeDecodeError) as error:
            raise PlaymateError(f"--pose: {path} cannot be read as text ({error}).") from error
    from ..media.video_reader import open_video

    open_video(path)  # what is no film is told of now
    return path


def read_pose(request: PoseRequest, analyzer: FaceAnalyzer, bridge: LatentBridge,
              progress: Progress = None) -> PoseSource:
    """The pose itself: the head of a video is followed.

    Raises:
        PlaymateError: a video without a face.
    """
    if not isinstance(request, Path):
        return request
    from ..driving.film import motion_from_frames
    from ..media.video_reader import open_video

    reader = open_video(request)
    return motion_from_frames(analyzer, bridge, reader, reader.fps, total=reader.total, use="pose", progress=progress)


def length_note(source: PoseSource, motion: Motion, length: str) -> str | None:
    """A sentence if a motion or film whose pose is taken ends clearly before ``motion`` does."""
    if not isinstance(source, Motion):
        return None
    own, wanted = len(source) / source.fps, len(motion) / motion.fps
    if own > wanted - max(0.1, 1.0 / motion.fps):
        return None
    return f"The pose lasts {own:.2f} s and the speech {wanted:.2f} s: {_DOES[length]}."


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name
        return False


def _is_name(words: str) -> bool:
    """Whether a text that is no file was meant as one's name."""
    return "=" not in words and bool(re.search(r"\.[A-Za-z][A-Za-z0-9]{1,10}$", words) or re.search(r"[/\\]", words))
