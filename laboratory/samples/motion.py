"""Writes workflows/inputs/look_around.safetensors: four seconds of head movement, drawn by hand as keyframes."""

from __future__ import annotations

import argparse

from .. import ROOT

KEYFRAMES = """
0.0 pitch=0 yaw=0 roll=0 y=0
0.9 yaw=-12 roll=-4
1.5 pitch=4
2.1 yaw=2 roll=0 y=0.01
2.9 yaw=13 roll=4 pitch=-3
3.96 pitch=0 yaw=0 roll=0 y=0
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    from playmate_core.motion.files import save_motion
    from playmate_core.motion.pose import PoseKeyframes, override_pose
    from playmate_core.motion.types import Motion

    motion = override_pose(Motion.rest(100, 25.0), PoseKeyframes.parse(KEYFRAMES))
    save_motion(motion, ROOT / "workflows" / "inputs" / "look_around.safetensors")


if __name__ == "__main__":
    main()
