"""The sheets: the same latents beside LivePortrait's pictures, emotions beside published ones, one sheet a portrait."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Sequence

import torch
from PIL import Image
from torch import Tensor

from playmate_core import pipeline
from playmate_core.emotion.curve import EMOTIONS
from playmate_core.media.pictures import check_image, read_image
from playmate_core.media.sound import read_audio
from playmate_core.motion.features import SpeechFeatures
from playmate_core.motion.types import Motion
from playmate_core.render.base import Appearance

from . import published
from .drawing import Box, draw, drawn_at, face_box, mouth_box, pick
from .sheet import Row, as_picture, save, tile

SECONDS, MOMENTS, SEED = 4.0, (1.8, 3.0), 1
TILE = 288
STRENGTHS = (0.5, 1.0, 1.5)
MOUTHS = 12

PUBLISHED_ORDER = ("angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised")
PUBLISHED_ROWS, PUBLISHED_TILE = 660, 264
"""The published half of emotions_beside_published.jpg: its height and the width of its tiles, pixels."""
PUBLISHED_BOX = (91 / 512, 50 / 512, 421 / 512, 470 / 512)
"""The part of the portrait that its tiles show (found by the face's landmarks), to the chin, which they cut off."""


def hear(models: pipeline.Models, voice: Path, seconds: float = SECONDS) -> SpeechFeatures:
    """Speech features of a voice's beginning."""
    samples = read_audio(str(voice)).samples[:int(16_000 * seconds)]
    return pipeline.encode_audio(models, (samples[None], 16_000))


def speak(models: pipeline.Models, features: SpeechFeatures, appearance: Appearance, label: str,
          strength: float = 1.0, seed: int = SEED) -> Motion:
    """The motion of a voice with one emotion."""
    return pipeline.generate_motion(models, features, appearance, seed=seed, emotion=f"{label} {strength:g}")


def frame_numbers(motion: Motion, times: Iterable[float]) -> list[int]:
    """The frames at these seconds; beyond the end the last one."""
    return [min(round(time * motion.fps), len(motion) - 1) for time in times]


def same_latents(models: pipeline.Models, out: Path, count: int = 5, width: int = TILE) -> Path:
    """LivePortrait's renderings and ours of the same latents on the same portrait."""
    rows: list[Row | str | Image.Image] = []
    for name in published.CLIPS:
        clip = published.read_clip(name, published.moments(published.motion_of(name), count))
        appearance = pipeline.extract_appearance(models, clip.source)
        size = tuple(clip.source.shape[:2])
        box = face_box(appearance.face.landmarks, size)
        ours = draw(models, appearance, clip.motion, clip.numbers)
        rows += [f"{name}: LivePortrait's networks", Row([tile(frame, box, width) for frame in clip.frames],
                                                         [f"frame {number}" for number in clip.numbers]),
                 f"{name}: ours, same latents", Row([tile(frame, box, width) for frame in ours])]
    return save(rows, out / "same_latents.png")


def single_latents(models: pipeline.Models, out: Path, width: int = TILE) -> Path:
    """Single latents and editors' sliders: LivePortrait's pictures and ours."""
    rows: list[Row | str | Image.Image] = []
    for edited in [*published.single_latents(), *published.sliders()]:
        appearance = pipeline.extract_appearance(models, edited.source)
        box = face_box(appearance.face.landmarks, tuple(edited.source.shape[:2]))
        # Each alone: every one is a picture of its own.
        ours = [draw(models, appearance, pick(edited.motion, [number]), [0])[0] for number in range(len(edited.motion))]
        theirs = [tile(picture, _own_box(models, picture, box), width) for picture in edited.pictures]
        rows += [f"{edited.name}: LivePortrait (first: the source)",
                 Row([tile(edited.source, box, width), *theirs], ["source", *edited.words]),
                 f"{edited.name}: ours", Row([tile(frame, box, width) for frame in [edited.source, *ours]])]
    return save(rows, out / "single_latents.png")


def _own_box(models: pipeline.Models, picture: Tensor, otherwise: Box) -> Box:
    """The face's box in a picture that was cut another way than its source."""
    faces = models.face.analyze(picture)[0]
    return face_box(faces[0].landmarks, tuple(picture.shape[:2])) if faces else otherwise


def emotions_p46(models: pipeline.Models, out: Path, labels: Sequence[str] = PUBLISHED_ORDER) -> Path:
    """Seven emotions on portrait_46 under the published rows."""
    looks = published.shared() / "looks"
    image = check_image(read_image(looks / "portrait_46.png"))
    appearance, features = pipeline.extract_appearance(models, image), hear(models, looks / "voice_46.wav")
    lines: list[list[Image.Image]] = [[] for _ in MOMENTS]
    for label in labels:
        motion = speak(models, features, appearance, label)
        for line, frame in zip(lines, draw(models, appearance, motion, frame_numbers(motion, MOMENTS)), strict=True):
            line.append(tile(frame, PUBLISHED_BOX, PUBLISHED_TILE))
    theirs = as_picture(read_image(looks / "emotions_beside_published.jpg"))
    columns = [PUBLISHED_ORDER.index(label) for label in labels]
    kept = Image.new("RGB", (PUBLISHED_TILE * len(columns), PUBLISHED_ROWS), (255, 255, 255))
    for place, column in enumerate(columns):
        left = column * PUBLISHED_TILE
        kept.paste(theirs.crop((left, 0, left + PUBLISHED_TILE, PUBLISHED_ROWS)), (place * PUBLISHED_TILE, 0))
    ours = f"ours, same picture and sound ({MOMENTS[0]:g} s, {MOMENTS[1]:g} s; the published tiles end at the lips)"
    return save([kept, ours, Row(lines[0], labels), *(Row(line) for line in lines[1:])], out / "emotions_p46.png")


def emotions(models: pipeline.Models, out: Path, paths: Sequence[Path], voice: Path,
             labels: Sequence[str] = EMOTIONS, width: int = 224) -> Path:
    """One row a portrait: neutral and every emotion at strength 1, the same frame of the same voice (README.md)."""
    rows: list[Row | str | Image.Image] = []
    for path in paths:
        image = check_image(read_image(path))
        appearance = pipeline.extract_appearance(models, image)
        features, face = hear(models, voice), face_box(appearance.face.landmarks, tuple(image.shape[:2]))
        pixels, tiles = drawn_at(face, tuple(image.shape[:2]), 2 * width), []
        for label in ("neutral", *labels):
            motion = speak(models, features, appearance, label)
            frame, = draw(models, appearance, motion, frame_numbers(motion, MOMENTS[:1]), pixels)
            tiles.append(tile(frame, face, width))
        rows.append(Row(tiles, ["neutral", *labels] if not rows else ()))
    return save(rows, out / "emotions.jpg")


def portrait(models: pipeline.Models, out: Path, path: Path, voice: Path, labels: Sequence[str] = EMOTIONS,
             strengths: Sequence[float] = STRENGTHS, width: int = TILE, mouths: int = MOUTHS,
             seconds: float = SECONDS) -> Path:
    """One portrait: neutral speech, every emotion at every strength, and mouths in neutral speech, enlarged."""
    image = check_image(read_image(path))
    size = tuple(image.shape[:2])
    appearance = pipeline.extract_appearance(models, image)
    features = hear(models, voice, seconds)
    face = face_box(appearance.face.landmarks, size)
    # Twice as fine as shown, for the mouths' sake.
    pixels = drawn_at(face, size, 2 * width)
    times = [min(time, seconds * time / SECONDS) for time in MOMENTS]
    columns = max(4, len(strengths) * len(times))

    motion = speak(models, features, appearance, "neutral")
    spread = torch.linspace(0, len(motion) - 1, columns + 1).round().long().tolist()[1:-1]
    spoken = torch.linspace(2, len(motion) - 1, mouths).round().long().tolist()
    drawn = draw(models, appearance, motion, [*spread, *spoken], pixels)
    rows: list[Row | str | Image.Image] = [f"{path.name}, {voice.name}: neutral", Row(
        [tile(image, face, width)] + [tile(frame, face, width) for frame in drawn[:len(spread)]],
        ["portrait"] + [f"neutral, {number / motion.fps:.1f} s" for number in spread])]
    for label in labels:
        tiles, words = [], []
        for strength in strengths:
            motion = speak(models, features, appearance, label, strength)
            numbers = frame_numbers(motion, times)
            tiles += [tile(frame, face, width) for frame in draw(models, appearance, motion, numbers, pixels)]
            words += [f"{label} {strength:g}, {number / motion.fps:.1f} s" for number in numbers]
        rows.append(Row(tiles, words))
    rows.append("mouths in neutral speech")
    each = len(rows[1].tiles) * width // 6
    for first in range(0, mouths, 6):
        rows.append(Row([_mouth(models, frame, appearance, each) for frame in drawn[len(spread):][first:first + 6]],
                        [f"{number / motion.fps:.2f} s" for number in spoken[first:first + 6]]))
    return save(rows, out / f"portrait_{path.stem}.png")


def _mouth(models: pipeline.Models, frame: Tensor, appearance: Appearance, width: int) -> Image.Image:
    """The mouth where it is in this frame; where no face is found, where the portrait has it."""
    seen = models.face.analyze(frame)[0]
    size = tuple((frame if seen else appearance.image).shape[:2])
    return tile(frame, mouth_box((seen[0] if seen else appearance.face).landmarks, size), width)
