"""How one clip of the corpus is made: what is said by whom, where it is recorded, and what the face does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from playmate_core.evaluation.phones import Phone, shift
from playmate_core.face.bridge import LatentBridge
from playmate_core.media.audio import Audio
from playmate_core.motion.blinks import find_blinks
from playmate_core.speech.base import SpeechEncoder

from . import augmentation, head_motion, non_speech
from .closures import Targets, apply_phones, bump, resting
from .engines import Engine, Speech, Voice
from .latents import BROWS, EYES, GAPS, Measures
from .residuals import Library, Source, liveliness, upper_of
from .shards import Clip
from .speakers import weight_of
from .teacher import Teacher
from .tracks import TYPICAL_GAP_STD, Track, resample_rows

FPS, RATE = 25, 16_000
LIP_SHARE = 0.5
"""Share of drawn lips (mean and a piece of real movement) in the lip gap, and in the lip width's quick movement, of a
label, against the teacher's own with the spread given back: what speech says of the lips must not drown in what it
does not. Slow changes of width, smiles above all, are the piece's."""
_QUICK = 0.3  # seconds of smoothing above which a change of width is slow
MORE = 1.3
"""Factor on pieces of real movement: what cross-fades and the inverse of the latent bridge take off."""
QUIET_MOUTH = 0.6
"""Share of a piece's mouth that is shown in a pause, its lips shut."""
_TRACKER_NOISE = 0.05  # seconds of smoothing that take the tracker's tremble out of a real head


@dataclass(frozen=True)
class Kit:
    """What every recipe needs, loaded once a process."""

    bridge: LatentBridge
    measures: Measures
    encoder: SpeechEncoder
    statistics: head_motion.PoseStatistics | None = None
    teacher: Teacher | None = None
    identities: Tensor | None = None
    library: Library | None = None


def listen(kit: Kit, samples: np.ndarray):
    """[N] at 16 kHz -> SpeechFeatures at 25 frames a second, exactly as at run time."""
    return kit.encoder.encode(Audio(torch.from_numpy(np.ascontiguousarray(samples, np.float32)), len(samples) / RATE))


def pose_latents(pose: np.ndarray) -> Tensor:
    """[T, 6] pose of :mod:`.head_motion` -> [T, 7] of a clip."""
    values = torch.from_numpy(np.asarray(pose)).float()
    return torch.cat([values[:, :3], LatentBridge.head_translation(values[:, 3:5]), 1.0 + values[:, 5:6]], 1)


# ---- real speakers ----------------------------------------------------------------------------------------------

def real_clip(kit: Kit, track: Track, variant: int, split: str, rng: np.random.Generator) -> Clip:
    """A track as a clip; variant 0 is the recording itself, the others differ in voice, pace and place."""
    samples, pace = track.samples, 1.0
    if variant:
        if rng.random() < 0.6:
            pace = float(np.round(rng.uniform(0.88, 1.13), 2))
            # Tape speed: pitch, formants and lips change together and stay in step.
            samples = augmentation.resample(samples, RATE / pace, RATE) if pace != 1.0 else samples
            pace = len(track.samples) / len(samples)
        if rng.random() < 0.7:
            samples = augmentation.revoice(samples, float(np.exp(rng.uniform(-0.2, 0.2))))
        samples = augmentation.degrade(samples, rng)
    heard = listen(kit, samples)
    frames = min(len(heard), int(len(track.latents) / pace))
    times = np.arange(frames) * pace / FPS

    def at(rows: Tensor) -> Tensor:
        return torch.from_numpy(resample_rows(rows.numpy(), times, FPS)).float()

    # Loud and timid mouths come half way to the typical one; a sampler cannot hear which it is. In a real pause lips
    # are shut or parted as the speaker likes; here a pause means rest.
    usual = float((TYPICAL_GAP_STD / track.gap.std()).clamp(0.6, 1.6)) ** 0.5
    keep = usual * (1.0 - 0.8 * pauses(track.samples, len(track.mouth)))[:, None]
    expression = at(track.latents + (keep - 1.0) * track.mouth)
    if variant:
        expression = other_blinks(kit.measures, expression, rng)
    pose = np.stack([head_motion.smooth(axis, _TRACKER_NOISE) for axis in track.pose.numpy().T], 1)
    about = {"source": "real", "name": track.name, "speaker": track.person, "variant": variant, "language": "und",
             "split": split, "seconds": frames / FPS, "pace": pace, "gap_std": float(track.gap.std()),
             "weight": weight_of(track.person)}
    return Clip(heard.features[:frames], heard.loudness[:frames], heard.pitch[:frames], expression,
                pose_latents(resample_rows(pose, times, FPS)), track.identity, about)


def pauses(samples: np.ndarray, frames: int) -> Tensor:
    """[frames] 0..1: where a recording is 30 dB below its speech for at least 0.3 s, with soft edges inside."""
    hop = RATE // FPS
    power = np.pad(samples, (0, max(frames * hop - len(samples), 0)))[: frames * hop].reshape(frames, hop)
    quiet = (power ** 2).mean(1) < (augmentation.level(samples) * 10 ** (-30 / 20)) ** 2
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(int)))
    weight = np.zeros(frames)
    times = (np.arange(frames) + 0.5) / FPS
    for start, end in zip(edges[0::2] / FPS, edges[1::2] / FPS, strict=True):
        if end - start >= 0.3:
            weight = np.maximum(weight, bump(times, start + 0.14, end - 0.1, 0.14, 0.1))
    return torch.from_numpy(weight).float()


def lesson_mouth(track: Track) -> Tensor:
    """[T, 63] the mouth that the teacher is shown: of typical amplitude, so that all speakers speak alike."""
    return track.mouth * float((TYPICAL_GAP_STD / track.gap.std()).clamp(0.5, 2.0))


def source_of(kit: Kit, track: Track, clip: Clip, said: Tensor, look: Callable[[Tensor], Tensor]) -> Source:
    """A track for the library of real movement.

    Args:
        kit: needs no encoder.
        track: a real clip.
        clip: its recording as it is.
        said: [T, 63] its mouth by a teacher that has not seen the speaker.
        look: [T, 63] latents -> [T, 52] blendshape scores of the face that they draw.
    """
    frames = min(len(clip.features), len(track.latents), len(said))
    quiet, mouth = pauses(track.samples, len(track.mouth)), lesson_mouth(track)
    upper = upper_of(track.latents, track.mouth, kit.measures, _rest_openness())
    return Source(track.person, clip.features[:frames], clip.loudness[:frames], quiet[:frames], said[:frames],
                  mouth[:frames], upper[:frames], liveliness(look(mouth + upper)))


# ---- synthetic speech -------------------------------------------------------------------------------------------

def random_voice(engine: Engine, language: str, names: list[str], rng: np.random.Generator) -> Voice:
    """A voice of the engine with random pace, pitch and vocal tract."""
    name = names[int(rng.integers(len(names)))]
    speed = float(np.exp(rng.normal(0.0, 0.13)))
    if engine.name == "hibari":
        kind = rng.random()  # a third women, most others men, some children
        pitch, tract = ((rng.uniform(0.85, 1.15), rng.uniform(0.96, 1.06)) if kind < 0.35 else
                        (rng.uniform(0.5, 0.72), rng.uniform(0.84, 0.93)) if kind < 0.85 else
                        (rng.uniform(1.1, 1.3), rng.uniform(1.05, 1.12)))
        return Voice(name, language, speed, float(pitch), float(tract), seed=int(rng.integers(1 << 30)))
    return Voice(name, language, speed, float(rng.uniform(0.75, 1.3)), float(np.exp(rng.uniform(-0.13, 0.13))),
                 float(rng.uniform(0.5, 1.6)))


def say(engine: Engine, text: str, voice: Voice) -> Speech:
    """Speak at 16 kHz; where the engine has no vocal tract, the tape's speed stands in for it."""
    speech = engine.say(text, voice)
    factor = 1.0 if engine.name == "hibari" else voice.tract
    samples = augmentation.resample(speech.waveform, speech.rate * factor, RATE)
    stretch = len(samples) / RATE / max(speech.seconds, 1e-6)
    return Speech(samples, RATE, shift(speech.phones, 0.0, stretch))


def join(speeches: list[Speech], rng: np.random.Generator) -> tuple[np.ndarray, list[Phone]]:
    """Sentences of one speaker with pauses before, between and after: ([N] samples, phones)."""
    parts, phones, at = [], [], 0.0

    def pause(seconds: float) -> None:
        nonlocal at
        parts.append(np.zeros(int(seconds * RATE), np.float32))
        at += len(parts[-1]) / RATE

    pause(rng.uniform(0.0, 0.8) if rng.random() < 0.8 else 0.0)
    for speech in speeches:
        sound = speech.waveform / np.float32(np.abs(speech.waveform).max() + 1e-6) * np.float32(0.6)
        phones += shift(speech.phones, at)
        parts.append(sound)
        at += len(sound) / RATE
        pause(rng.uniform(0.05, 0.5) if rng.random() < 0.75 else rng.uniform(0.5, 2.0))
    # A whole number of frames, so that sound and motion end together.
    samples = np.concatenate(parts)
    return np.pad(samples, (0, -len(samples) % (RATE // FPS))), phones


def synthetic_clip(kit: Kit, samples: np.ndarray, phones: list[Phone], about: dict, rng: np.random.Generator,
                   strength: float = 1.0) -> Clip:
    """A face for a voice.

    Args:
        kit: with teacher, statistics and identities.
        samples: [N] clean speech at 16 kHz, or any sound where ``phones`` is empty.
        phones: in seconds of ``samples``; empty means that nobody speaks.
        about: put into the clip.
        rng: generator.
        strength: of the recording's defects.
    """
    heard = listen(kit, augmentation.degrade(samples, rng, strength) if phones else samples)
    frames = len(heard)
    rest = resting(phones, frames, Targets())
    amplitude = float(np.exp(rng.normal(-0.1, 0.1)))
    # The teacher labels the clean voice; noise is added for the model that learns from the labels.
    clean = listen(kit, samples) if phones else heard
    stress = head_motion.accents(clean.loudness.numpy(), clean.pitch.numpy(), 1.0 - rest) if phones else []
    mouth, beside = _spoken(kit, clean, phones, rest, amplitude, rng)
    # Lips at rest breathe and swallow a little; they stay shut.
    idle = torch.from_numpy(0.0015 * head_motion.smooth(rng.standard_normal(frames), 0.4) * rest).float()
    mouth = kit.measures.move(mouth, -idle.abs()[:, None].expand(-1, 3), GAPS, ("width",))
    speaking = 1.0 - rest
    pose = head_motion.head_pose(kit.statistics, frames, speaking, stress, rng)
    shut = head_motion.blinks(frames, stress, rng)
    # Pieces of real movement raise their own brows; half of the flashes stay, since these know the accents.
    raised = head_motion.brows(frames, stress, speaking, rng) * (1.0 if kit.library is None else 0.5)
    upper = head_motion.upper_face(kit.measures, shut, raised, head_motion.gaze(frames, pose, rng), _rest_openness(),
                                   mouth)
    lids = -kit.measures.read(beside, *EYES) * torch.from_numpy(shut).float()[:, None]
    upper = upper + kit.measures.move(beside, lids, EYES, (*GAPS, "width", *BROWS))
    identity = kit.identities[int(rng.integers(len(kit.identities)))] + 0.02 * torch.from_numpy(
        rng.standard_normal(63)).float()
    return Clip(heard.features, heard.loudness, heard.pitch, mouth + upper, pose_latents(pose), identity,
                {**about, "seconds": frames / FPS})


def _spoken(kit: Kit, clean, phones: list[Phone], rest: np.ndarray, amplitude: float,
            rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """[T, 63] the mouth to a clean voice, and [T, 63] what real faces do beside it (nothing without a library)."""
    frames = len(clean)
    said = kit.teacher.mouth(clean.features) * amplitude if phones else torch.zeros(frames, 63)
    if kit.library is None:
        return apply_phones(said, phones, kit.measures) if phones else said, torch.zeros(frames, 63)
    mean = kit.teacher.mean(clean.features) * amplitude if phones else said
    quiet = torch.from_numpy(rest).float()
    lower, beside, posture = kit.library.draw(clean.features, clean.loudness, quiet, mean, rng)
    lips = (*GAPS, "width")
    lower, beside = MORE * lower, MORE * beside
    drawn = mean + amplitude * lower
    change = (1.0 - LIP_SHARE) * (kit.measures.read(said, *lips) - kit.measures.read(drawn, *lips))
    change[:, -1] -= torch.from_numpy(head_motion.smooth(change[:, -1].numpy(), _QUICK)).float()
    drawn = kit.measures.move(drawn, change, lips, EYES + BROWS)
    if phones:
        # Pieces of several speakers average out how a person holds the mouth while talking: wide or narrow, teeth
        # shown or not. How far the lips part is left to the voice.
        talking = (1.0 - quiet) / (1.0 - quiet).sum().clamp_min(1.0)
        offset = posture - talking @ drawn
        offset = kit.measures.move(offset, -kit.measures.read(offset, *GAPS), GAPS, ("width", *EYES, *BROWS))
        drawn = drawn + offset
    still = QUIET_MOUTH * lower
    still = kit.measures.move(still, -kit.measures.read(still, *GAPS), GAPS, ("width", *EYES, *BROWS))
    mouth = apply_phones(drawn, phones, kit.measures) if phones else torch.zeros(frames, 63)
    return mouth + quiet[:, None] * still, beside


def other_blinks(measures: Measures, expression: Tensor, rng: np.random.Generator) -> Tensor:
    """A real face that blinks at other times, as often and as deep: [T, 63] -> [T, 63].

    Recordings of one clip that all blink at the same sounds teach a model when that clip blinks; on voices that it
    has not heard it then hardly blinks at all.
    """
    frames, openness = len(expression), _rest_openness()
    closure = (-measures.read(expression, *EYES) / openness).clamp(0.0, 1.0)
    found = find_blinks(closure, FPS, 0.3)
    still = (*GAPS, "width", *BROWS)
    pieces, opened = [], expression.clone()
    for first, last in found:
        before, after = max(first - 1, 0), min(last, frames - 1)
        share = torch.linspace(0.0, 1.0, after - before + 1)[:, None]
        lids = measures.read(expression[before:after + 1], *EYES)
        calm = lids[:1] * (1 - share) + lids[-1:] * share
        opened[before:after + 1] = measures.move(expression[before:after + 1], calm - lids, EYES, still)
        pieces.append(lids - calm)
    free = np.ones(frames, bool)
    for piece in pieces:
        starts = [t for t in range(frames - len(piece)) if free[t:t + len(piece)].all()]
        if not starts:
            continue
        start = starts[int(rng.integers(len(starts)))]
        rows = slice(start, start + len(piece))
        free[max(start - 3, 0):start + len(piece) + 3] = False
        # Lids that are lower already have less far to go.
        room = (-1.02 * openness - measures.read(opened[rows], *EYES)).clamp_max(0.0)
        opened[rows] = measures.move(opened[rows], torch.maximum(piece, room), EYES, still)
    return opened


def _rest_openness() -> float:
    from playmate_core.face import geometry

    return float(geometry.eye_openness(geometry.mean_face()).mean())


def non_speech_clip(kit: Kit, rng: np.random.Generator) -> Clip:
    """A resting mouth on a living face, to a sound that nobody makes."""
    kind = non_speech.KINDS[int(rng.integers(len(non_speech.KINDS)))]
    samples = non_speech.sound(kind, float(rng.uniform(4, 12)), rng)
    samples = np.pad(samples, (0, -len(samples) % (RATE // FPS)))
    about = {"source": "non-speech", "name": kind, "language": "none", "split": "train"}
    return synthetic_clip(kit, samples, [], about, rng)


def measure(kit: Kit, clip: Clip) -> dict[str, np.ndarray]:
    """Curves of a clip through the forward bridge: gap, width, eye (change of openness)."""
    values = kit.measures.read(clip.expression, "gap", "width", *EYES).numpy()
    return {"gap": values[:, 0], "width": values[:, 1], "eye": values[:, 2:].mean(1)}
