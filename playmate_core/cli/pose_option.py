"""``animate --pose``: keyframes, a preset, a motion file or a driving video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Union

from ..motion.keyframes import PoseKeyframes
from ..motion.pose import PoseSource
from ..motion.presets import PRESETS, PosePreset
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress

if TYPE_CHECKING:
    from ..face.analyzer import FaceAnalyzer
    from ..face.bridge import LatentBridge

MOTION_FILES = (".safetensors", ".pkl")
VIDEO_FILES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".gif")

PoseRequest = Union[PoseKeyframes, PosePreset, Path]


def parse_pose(text: str, easing: str = "ease") -> PoseRequest:
    """What the option's text asks for; nothing is read but a text file's keyframes.

    Args:
        text: keyframes ("0 yaw=0; 1 yaw=15"); a preset's name, with a period in seconds if wanted ("nod", "nod 0.8");
            or the path of a motion file, of a video, or of a .txt file with keyframes.
        easing: of keyframes, see ``motion.keyframes.EASINGS``.

    Raises:
        PlaymateError: text that is none of these, or a file that is not there.
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
    suffix = Path(words).suffix.lower()
    if suffix in (*MOTION_FILES, *VIDEO_FILES, ".txt"):
        path = Path(words)
        if not path.is_file():
            raise PlaymateError(f"--pose: there is no file {words}; give a motion, a video, keyframes or a preset.")
        if suffix != ".txt":
            return path
        try:
            words = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlaymateError(f"--pose: {path} cannot be read as text ({error}).") from error
    return PoseKeyframes.parse(words, easing)


def read_pose(request: PoseRequest, analyzer: FaceAnalyzer, bridge: LatentBridge,
              progress: Progress = None) -> PoseSource:
    """The pose itself: files are read, the head of a video is followed.

    Raises:
        PlaymateError: a file that cannot be read, or a video without a face.
    """
    if not isinstance(request, Path):
        return request
    if request.suffix.lower() in MOTION_FILES:
        from ..motion.files import load_motion

        return load_motion(request)
    from ..driving.film import motion_from_frames
    from ..media.video_reader import open_video

    reader = open_video(str(request))
    return motion_from_frames(analyzer, bridge, reader, reader.fps, total=reader.total, use="pose", progress=progress)
