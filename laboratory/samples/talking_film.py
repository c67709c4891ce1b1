"""Makes workflows/inputs/talk.mp4, the film that the workflow dub_film dubs, and new_voice.wav, what it then says.

Nobody was filmed: a woman of one of ComfyUI's workflow templates, whom an image model made, speaks the beginning of the
sample voice, a little happy and with a moving head. The new voice is Flite's synthetic speaker "slt".

    apt-get install flite; pip install comfyui-workflow-templates-media-other
    python -m laboratory.samples.talking_film [--out FOLDER]
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
from pathlib import Path

from .. import ROOT

INPUTS = ROOT / "workflows" / "inputs"
PICTURE = "image_z_image_turbo-1.webp"
SECONDS = 4.6

WORDS = "I never said this in my life, but my mouth has to follow the new voice."
EMOTION = "0 happy=0.35"
CRF = 22
POSE = "0 yaw=-4; 0.9 yaw=5 pitch=2; 1.7 yaw=7 roll=-2; 2.6 yaw=-3 pitch=-2; 3.5 yaw=-7 roll=2; 4.6 yaw=-2 pitch=1"


def template(name: str, package: str = "comfyui_workflow_templates_media_other") -> Path:
    """The picture of a workflow template by its file name."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"pip install {package.replace('_', '-')}")
    return Path(found.submodule_search_locations[0]) / "templates" / name


def synthetic(words: str, path: Path, voice: str = "slt") -> None:
    """Flite's speaker says ``words`` into a 16 kHz mono file."""
    subprocess.run(["flite", "-voice", voice, "-t", words, "-o", str(path)], check=True)


def picture():
    """The template, (H, W, 3) in 0..1."""
    import numpy as np
    import torch
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(template(PICTURE)).convert("RGB"))).float() / 255


def write_film(path: Path) -> None:
    from playmate_core import pipeline
    from playmate_core.media.video_writer import write_video
    from playmate_core.motion.edits import slice_seconds
    from playmate_core.motion.pose import PoseKeyframes, override_pose

    models = pipeline.load_models()
    sound = str(INPUTS / "voice.wav")
    appearance = pipeline.extract_appearance(models, picture())
    motion = pipeline.generate_motion(models, pipeline.encode_audio(models, sound), appearance, seed=3,
                                      head_motion=0.6, emotion=EMOTION)
    motion = override_pose(motion, PoseKeyframes.parse(POSE), mode="add")
    motion = slice_seconds(motion, 0.0, SECONDS)
    write_video(path, pipeline.render_frames(models, appearance, motion), motion.fps, len(motion), sound, crf=CRF)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=INPUTS)
    args = parser.parse_args()
    synthetic(WORDS, args.out / "new_voice.wav")
    write_film(args.out / "talk.mp4")


if __name__ == "__main__":
    main()
