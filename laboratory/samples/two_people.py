"""Makes workflows/inputs/two_people.jpg and dialogue.wav, what the workflow dialogue is about.

Two women of ComfyUI's workflow templates, whom image models made, stand before one wall: the left one is the sample
portrait's, with her wall continued to the right; the other is cut out of a wheat field and given the wall's light. The
left one speaks the sample voice, Flite's synthetic speaker "slt" answers.

    apt-get install flite
    pip install opencv-python-headless comfyui-workflow-templates-media-image comfyui-workflow-templates-media-other
    python -m laboratory.samples.two_people [--out FOLDER]
"""

from __future__ import annotations

import argparse
import tempfile
import wave
from pathlib import Path

import numpy as np

from .talking_film import INPUTS, synthetic, template

LEFT, RIGHT = "2_pass_pose_worship-1.webp", "flux_fill_inpaint_example-1.webp"
SCALED = 594
"""Both pictures, once 1024 wide, in pixels: their faces are equally high."""
WIDTH, HEIGHT = 960, 576
PLACE = 425, -8
"""Where the right picture's corner comes to lie, x and y: her shoulder covers the end of the flowers."""
HAIR_ENDS = 150
"""Row of the scaled right picture down to which only hair lies at her outline."""
LEAF = 225, 320
"""Rows of the scaled left picture in which a leaf reaches its right edge."""
BOX = 150, 5, 320, 589
"""x, y, width, height around her in the scaled picture."""

ANSWER = "I doubt that very much. He was not a kind man."
PAUSE = 0.25
RATE = 16000


def _picture(name: str, package: str) -> np.ndarray:
    """(SCALED, SCALED, 3), 0..255, BGR."""
    import cv2

    return cv2.resize(cv2.imread(str(template(name, package))), (SCALED, SCALED), interpolation=cv2.INTER_AREA)


def _wall(left: np.ndarray) -> np.ndarray:
    """The left picture on the canvas; its wall goes on to the right, a little darker towards the edge."""
    # A smooth curve down the last columns, without the rows in which a leaf lies on them.
    edge, rows = left[:, SCALED - 8:].mean(1), np.arange(SCALED)
    bare = (rows < LEAF[0]) | (rows > LEAF[1])
    column = np.stack([np.polyval(np.polyfit(rows[bare], edge[bare, one], 3), rows) for one in range(3)], -1)[:, None]
    beyond = np.arange(WIDTH - SCALED)[None, :, None]
    wall = column * (1 - 0.06 * beyond / beyond.max())
    grain = np.random.default_rng(1).normal(0.0, 1.2, wall.shape[:2])[..., None]
    canvas = np.concatenate([left.astype(float), wall + grain], axis=1)
    # The last columns pass over into the continued wall, so that no line stands where the picture ended.
    width = 12
    weight = np.linspace(0.0, 1.0, width)[None, :, None]
    canvas[:, SCALED - width:SCALED] = canvas[:, SCALED - width:SCALED] * (1 - weight) + column * weight
    return canvas[:HEIGHT]


def _cut_out(picture: np.ndarray) -> np.ndarray:
    """How much of each pixel is hers, (H, W, 1) in 0..1; half a pixel inside, so that no wheat shines at the rim."""
    import cv2

    cv2.setRNGSeed(0)
    labels = np.zeros(picture.shape[:2], np.uint8)
    cv2.grabCut(picture, labels, BOX, np.zeros((1, 65)), np.zeros((1, 65)), 6, cv2.GC_INIT_WITH_RECT)
    hers = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(hers)
    if count > 2:
        hers = (parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    soft = cv2.GaussianBlur(hers.astype(np.float32), (0, 0), 1.2)
    return np.clip(soft * 1.6 - 0.6, 0, 1)[..., None]


def _relit(picture: np.ndarray, hers: np.ndarray) -> np.ndarray:
    """Her colours in the wall's light: cooler, paler, the shadows lifted; no sky in the rim of her hair."""
    import cv2

    inside = cv2.distanceTransform((hers[..., 0] > 0.05).astype(np.uint8), cv2.DIST_L2, 5)
    rim = np.clip((14 - inside) / 8, 0, 1) * (np.arange(len(picture))[:, None] < HAIR_ENDS)
    bright = picture.max(-1) / 62
    picture = picture / (1 + rim * (np.maximum(bright, 1) - 1))[..., None]
    grey = picture.mean(-1, keepdims=True)
    paler = grey + 0.74 * (picture - grey)
    return np.clip(paler * np.array([1.08, 1.0, 0.95]) * 0.93 + 10, 0, 255)


def write_picture(path: Path) -> None:
    import cv2

    left = _picture(LEFT, "comfyui_workflow_templates_media_other")
    right = _picture(RIGHT, "comfyui_workflow_templates_media_image")
    canvas, hers = _wall(left), _cut_out(right)
    lit = _relit(right.astype(float), hers)
    x, y = PLACE
    hers, lit = hers[-y:, :WIDTH - x][:HEIGHT], lit[-y:, :WIDTH - x][:HEIGHT]
    here = canvas[:, x:x + hers.shape[1]]
    # Her shadow on the wall, faint and wide, which sets her before it.
    shadow = cv2.GaussianBlur(hers, (0, 0), 22)[..., None]
    here *= 1 - 0.12 * shadow
    here += hers * (lit - here)
    cv2.imwrite(str(path), np.clip(canvas, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 93])


def _samples(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise SystemExit(f"{path} is not 16 kHz mono of 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def write_sound(path: Path) -> float:
    """The conversation; returns when the second one begins, in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        synthetic(ANSWER, Path(scratch) / "answer.wav")
        answer = _samples(Path(scratch) / "answer.wav").astype(float)
    voice = _samples(INPUTS / "voice.wav").astype(float)
    heard = np.flatnonzero(np.abs(answer) > 300)
    answer = answer[heard[0] - RATE // 50:heard[-1] + RATE // 10]
    loud = [float(np.sqrt(np.mean(one[np.abs(one) > 300] ** 2))) for one in (voice, answer)]
    whole = np.concatenate([voice, np.zeros(round(PAUSE * RATE)), answer * loud[0] / loud[1]])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.clip(whole, -32768, 32767).astype("<i2").tobytes())
    return len(voice) / RATE + PAUSE / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=INPUTS)
    args = parser.parse_args()
    write_picture(args.out / "two_people.jpg")
    begins = write_sound(args.out / "dialogue.wav")
    parser.exit(message=f"The second one speaks from {begins:.2f} s on.\n")


if __name__ == "__main__":
    main()
