"""Draws workflows/inputs/drive_head.mp4 and drive_brows.mp4, the driving clips of the sample workflows.

Nobody was filmed for them: the sample portrait plays both, for the second clip seen in a mirror. Its performances of
parts of the sample voice are the motion model's; the head turns of the one and the brows of the other are written
below.

    python -m laboratory.samples.driving_clip [--out FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import ROOT

INPUTS = ROOT / "workflows" / "inputs"

SIZE = 256
SECONDS = 4.0

HEAD = """
0.0 pitch=0 yaw=0 roll=0
0.7 yaw=18 roll=-3 pitch=1
1.2 yaw=17 pitch=-2
2.1 yaw=-17 roll=4 pitch=2
2.5 yaw=-18
3.0 yaw=-2 roll=0 pitch=11
3.4 pitch=-8 yaw=2
3.96 pitch=0 yaw=0 roll=0
"""

BROWS = ((0.5, 1.5, "surprised"), (1.7, 2.6, "angry"), (2.8, 3.7, "surprised"))
"""(start, end, the emotion whose brows are raised or lowered in between)."""
BROWS_FADE = 0.25


def spoken(models, features, appearance, start: float, seed: int, head_motion: float):
    """A performance of SECONDS of the voice from ``start`` on."""
    from playmate_core import pipeline
    from playmate_core.motion.edits import slice_seconds

    motion = pipeline.generate_motion(models, features, appearance, seed=seed, head_motion=head_motion)
    return slice_seconds(motion, start, start + SECONDS)


def with_brows(motion):
    """``motion`` with BROWS played on its brows, and on the lids, which follow them."""
    from dataclasses import replace

    from playmate_core.emotion.curve import EMOTIONS
    from playmate_core.emotion.offsets import emotion_table
    from playmate_core.motion.regions import region_masks
    from playmate_core.motion.sliders import envelope

    expression, masks = motion.expression, region_masks()
    for start, end, emotion in BROWS:
        offset = emotion_table()[EMOTIONS.index(emotion)].reshape(-1, 3) * (masks["brows"] + masks["eyes"])
        level = envelope(len(motion), motion.fps, start, end, BROWS_FADE)
        expression = expression + level[:, None, None] * offset
    return replace(motion, expression=expression)


def main() -> None:
    import torch

    from playmate_core import pipeline
    from playmate_core.media.pictures import read_image
    from playmate_core.media.video_writer import write_video
    from playmate_core.motion.eyes import direct_eyes
    from playmate_core.motion.pose import PoseKeyframes, override_pose

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=INPUTS)
    args = parser.parse_args()
    models = pipeline.load_models()
    features = pipeline.encode_audio(models, str(INPUTS / "voice.wav"))
    picture = read_image(INPUTS / "portrait.jpg")[..., :3].permute(2, 0, 1)[None]
    picture = torch.nn.functional.interpolate(picture, (SIZE, SIZE), mode="bilinear", antialias=True)
    for name in ("drive_head", "drive_brows"):
        turned = name == "drive_head"
        image = picture if turned else picture.flip(-1)
        appearance = pipeline.extract_appearance(models, image[0].permute(1, 2, 0))
        motion = spoken(models, features, appearance, *((2.0, 5, 0.3) if turned else (1.0, 11, 0.4)))
        if turned:
            motion = override_pose(motion, PoseKeyframes.parse(HEAD))
        else:
            motion = with_brows(motion)
        motion = direct_eyes(motion, blink_mode="add", keep_gaze=0.5 if turned else 0.0, seed=1 if turned else 2)
        write_video(args.out / f"{name}.mp4", pipeline.render_frames(models, appearance, motion), motion.fps,
                    len(motion), crf=20)


if __name__ == "__main__":
    main()
