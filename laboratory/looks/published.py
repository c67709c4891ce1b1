"""LivePortrait's own renderings of known latents, and other published pictures, in the shared folder.

Nothing of them is part of the repository; what needs them is left out where they are not at hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from playmate_core.media.pictures import check_image, read_image
from playmate_core.media.video_reader import open_video
from playmate_core.motion.geometry import euler_degrees
from playmate_core.motion.sliders import edit_expression
from playmate_core.motion.types import Motion, Neutral

from ..corpus.speakers import default_folders

CLIPS = {"s0--d0_concat": "liveportrait_pairs/d0", "s9--d5_concat": "liveportrait_templates/d5",
         "s6--d9": "liveportrait_pairs/d9"}
"""LivePortrait's renderings, and whose latents they were made of."""


def shared() -> Path:
    """The shared folder: ``$PLAYMATE_SHARED`` or ``shared`` beside the repository."""
    return default_folders()[0].parent.parent


def rendered() -> Path:
    """The folder of LivePortrait's own renderings."""
    return shared() / "data" / "liveportrait_pairs" / "rendered"


@dataclass(frozen=True)
class RenderedClip:
    """A rendering of LivePortrait's.

    Attributes:
        name: file name without its ending.
        source: [H, W, 3] 0..1 the portrait it was made of.
        frames: [H, W, 3] uint8 each, LivePortrait's pictures of the frames that were asked for.
        numbers: which frames these are.
        motion: the latents of all frames, counted from the first.
    """

    name: str
    source: Tensor
    frames: list[Tensor]
    numbers: list[int]
    motion: Motion


def relative_motion(template: dict[str, Tensor], fps: float) -> Motion:
    """LivePortrait's relative motion: offsets from the driving clip's first frame.

    Args:
        template: ``exp`` [T, 21, 3], ``R`` [T, 3, 3], ``t`` [T, 3], ``scale`` [T, 1].
        fps: frames a second.
    """
    latents = {name: template[name].float() for name in ("exp", "R", "t", "scale")}
    values = (latents["exp"].reshape(-1, 21, 3), euler_degrees(latents["R"]), latents["t"].reshape(-1, 3),
              latents["scale"].reshape(-1, 1))
    return Motion(*values, fps, Neutral(*(value[0] for value in values)))


def panels(picture: Tensor) -> list[Tensor]:
    """Square panels side by side, from left to right; a picture that is not wider than high is one."""
    height, width = picture.shape[:2]
    count = max(1, round(width / height))
    edges = [round(width * number / count) for number in range(count + 1)]
    return [picture[:, a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]


def moments(motion: Motion, count: int) -> list[int]:
    """Frames whose expressions lie far from one another, in order: the most expressive first, then what it lacks."""
    offsets, time = motion.expression_offset.flatten(1), torch.arange(len(motion))
    chosen = [int(offsets.norm(dim=1).argmax())]
    while len(chosen) < min(count, len(motion)):
        away = torch.cdist(offsets, offsets[chosen]).amin(1)
        # Neighbours in time show the same moment twice, however fast a blink is.
        near = (time[:, None] - time[chosen]).abs().amin(1) <= len(motion) // (4 * count)
        chosen.append(int(torch.where(near, -1.0, away).argmax()))
    return sorted(chosen)


def motion_of(name: str) -> Motion:
    """The latents of a clip of ``CLIPS``, counted from the first frame."""
    path = shared() / "data" / f"{CLIPS[name]}.safetensors"
    return relative_motion(load_file(str(path)), open_video(rendered() / f"{name}.mp4").fps)


def read_clip(name: str, numbers: list[int] | None = None) -> RenderedClip:
    """A clip of ``CLIPS`` with the frames ``numbers`` (None: every one).

    The last panel is LivePortrait's picture and the one before it the source; a clip without panels shows its source
    in the first frame, of which relative motion changes nothing.
    """
    motion = motion_of(name)
    wanted = range(len(motion)) if numbers is None else numbers
    frames, source = {}, None
    for number, (_, picture) in enumerate(open_video(rendered() / f"{name}.mp4")):
        if number and number not in wanted:
            continue
        parts = panels(picture)
        if source is None:
            source = check_image(parts[-2] if len(parts) > 1 else parts[-1])
        frames[number] = parts[-1]
    kept = [number for number in wanted if number in frames]
    return RenderedClip(name, source, [frames[number] for number in kept], kept, motion)


@dataclass(frozen=True)
class Edited:
    """Pictures of one person, each with its own change of the latents.

    Attributes:
        name: what is changed.
        source: [H, W, 3] 0..1 the picture that nothing was changed in.
        pictures: [H, W, 3] 0..1 LivePortrait's.
        words: what each is.
        motion: one frame a picture, offsets from the source.
    """

    name: str
    source: Tensor
    pictures: list[Tensor]
    words: list[str]
    motion: Motion


def single_latents() -> list[Edited]:
    """LivePortrait's pictures with one latent changed, five of each series; the middle one is the source."""
    found = []
    for series in ("index4", "index33_45_48"):
        files = sorted((rendered() / "single_latent").glob(f"{series}_[0-9][0-9][0-9].jpg"))
        if not files:
            continue
        numbers = {int(file.stem[-3:]): file for file in files}
        values = {number: -0.03 + 0.0006 * number for number in numbers}
        rest = min(numbers, key=lambda number: abs(values[number]))
        shown = [number for number in sorted(numbers) if number % 25 == 0]
        motion = Motion.rest(len(shown))
        for latent in (int(part) for part in series[5:].split("_")):
            motion.expression[:, latent // 3, latent % 3] = torch.tensor([values[n] - values[rest] for n in shown])
        found.append(Edited(series, check_image(read_image(numbers[rest])),
                            [check_image(read_image(numbers[n])) for n in shown],
                            [f"{values[n]:+.3f}" for n in shown], motion))
    return found


SLIDER_PICTURES = {"adv_source_full": ("adv_smile1.30", "adv_wink23.5", "adv_pupil+15", "adv_pupil-15"),
                   "lp_source": ("lp_smile0.94_gaze-22.49",)}
"""Cut from the editors' published screenshots: the source, and pictures named by slider and value."""
_SLIDER_NAMES = {"pupil": "pupil_x", "gaze": "pupil_x"}


def slider_values(name: str) -> dict[str, float]:
    """``"lp_smile0.94_gaze-22.49"`` -> {"smile": 0.94, "pupil_x": -22.49}."""
    found = re.findall(r"_([a-z]+)([+-]?\d+(?:\.\d+)?)", name)
    return {_SLIDER_NAMES.get(slider, slider): float(value) for slider, value in found}


def sliders() -> list[Edited]:
    """LivePortrait's pictures of the editors' sliders."""
    folder, found = rendered() / "sliders", []
    for source, names in SLIDER_PICTURES.items():
        there = [name for name in names if (folder / f"{name}.png").is_file()]
        if not there or not (folder / f"{source}.png").is_file():
            continue
        motion = Motion.rest(len(there))
        for number, name in enumerate(there):
            here = (torch.arange(len(there)) == number).float()
            # In halves, added twice: an editor went beyond the end of our sliders.
            half = {slider: value / 2 for slider, value in slider_values(name).items()}
            motion = edit_expression(edit_expression(motion, half, here), half, here)
        found.append(Edited(source.removesuffix("_full"), check_image(read_image(folder / f"{source}.png")),
                            [check_image(read_image(folder / f"{name}.png")) for name in there],
                            [", ".join(f"{k} {v:g}" for k, v in slider_values(name).items()) for name in there],
                            motion))
    return found
