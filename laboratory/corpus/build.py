"""One command builds the corpus: real tracks, a teacher fitted on them, then synthetic speech that it labels.

Every shard is made from its own seed, so a build that was stopped is continued by the same command, on one core or
many, and gives the same clips. ``python -m laboratory.training corpus --help``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from playmate_core.runtime.errors import PlaymateError
from playmate_core.runtime.progress import Progress, report

from . import recipes, residuals, shards, teacher
from .head_motion import PoseStatistics
from .latents import Measures
from .speakers import HELD_OUT, default_folders, list_tracks, speaker_of
from .tracks import load_track

MIXTURE = {"hibari": 0.45, "flite": 0.15, "espeak-en": 0.13, "espeak": 0.27}
"""Share of the synthetic hours by engine; what is not installed is shared out among the rest."""
LANGUAGES = {"de": 3, "fr": 2, "es": 3, "it": 3, "pt": 2, "pl": 2, "ru": 2, "zh": 2, "hi": 1, "cs": 1, "nl": 1, "sv": 1,
             "tr": 1, "id": 1, "el": 1, "hu": 1, "ro": 1, "fi": 1, "sw": 1}
"""Weight of each language but English."""
CHECK_VOICES = (("flite", "rms"), ("festival", "ked_diphone"))
"""Voices kept out of training, whose phone times are stored to measure closures with."""
NON_SPEECH = 0.07
SHARD_SECONDS = 360.0
CLIP_SECONDS = (5.0, 11.4)
"""Clips fit the speech encoder's window of 12 s."""
TEACHER = "teacher/teacher.safetensors"
LIBRARY = "teacher/residuals.safetensors"
"""In a folder of their own, since every safetensors file beside the manifest is a shard."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What to build; ``hours`` counts synthetic clips, the tracks come on top."""

    out: str
    tracks: str | tuple[str, ...]
    hours: float = 10.0
    seed: int = 0
    workers: int = 2
    variants: int = 16
    heldout: tuple[str, ...] = HELD_OUT
    check_minutes: float = 10.0


def add_arguments(parser) -> None:
    """The corpus command's arguments, for argparse."""
    parser.add_argument("--out", required=True, metavar="DIR",
                        help="folder of the corpus; an unfinished one is continued")
    parser.add_argument("--hours", type=float, default=10.0, help="hours of synthetic clips (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same corpus")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: all cores)")
    parser.add_argument("--tracks", nargs="+", default=None, metavar="DIR", help="folders of the talking tracks")
    parser.add_argument("--variants", type=int, default=16, help="recordings made of every track (default 16)")
    parser.add_argument("--heldout", nargs="*", default=list(HELD_OUT), metavar="NAME",
                        help="tracks that are only measured on; none after the flag trains on all")


def run(args) -> None:
    """The corpus command: ``args`` as parsed by :func:`add_arguments`."""
    folders = tuple(map(str, args.tracks or default_folders()))
    build(Settings(args.out, folders, args.hours, args.seed, args.workers, args.variants, tuple(args.heldout)), _bar())


def build(settings: Settings, progress: Progress = None) -> None:
    """Make the corpus.

    Args:
        settings: see :class:`Settings`.
        progress: told (shards done, shards).

    Raises:
        PlaymateError: no tracks, no text-to-speech engine, an unreadable shard.
    """
    from .report import write_report

    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob("*.part"):
        left.unlink()
    tracks = list_tracks(settings.tracks)
    real = [("real", path.stem) for path in tracks]
    engines = _engine_names()
    if settings.hours > 0 and not engines:
        raise PlaymateError("No text-to-speech engine is installed; install espeak-ng, flite or hibari-tts, or give "
                            "--hours 0.")
    _check_sides(tracks, settings.heldout)
    spoken = [("speech", i) for i in range(int(np.ceil(settings.hours * 3600 / SHARD_SECONDS)))]
    checks = [("phones", i) for i, (name, _) in enumerate(CHECK_VOICES) if name in engines and settings.hours > 0]
    total = len(real) + len(checks) + len(spoken)
    done = 0
    made: dict[str, list[dict]] = {}
    for stage in (real, checks + spoken):
        todo = []
        for task in stage:
            if (out / shard_name(task)).is_file():
                made[shard_name(task)] = shards.read_about(out / shard_name(task))
                done += 1
            else:
                todo.append(task)
        report(progress, done, total)
        if stage is not real and todo:
            _learn(settings, out, tracks)
        for name, about in _work(settings, todo):
            made[name] = about
            done += 1
            shards.write_manifest(out, settings.__dict__, made)
            report(progress, done, total)
    shards.write_manifest(out, settings.__dict__, made)
    write_report(out, made)


def _check_sides(tracks: list[Path], heldout: tuple[str, ...]) -> None:
    sides: dict[str, set[bool]] = {}
    for path in tracks:
        sides.setdefault(speaker_of(path), set()).add(path.stem in heldout)
    both = sorted(speaker for speaker, held in sides.items() if len(held) > 1)
    if both:
        raise PlaymateError(f"Some clips of the speaker {both[0]} are held out and some are not; name all of them "
                            "after --heldout, or none.")


def shard_name(task: tuple) -> str:
    """File name of a task's shard."""
    kind, which = task
    return f"{kind}-{which}.safetensors" if kind == "real" else f"{kind}-{which:04d}.safetensors"


def _engine_names() -> set[str]:
    from .engines import available

    return set(available())


def _work(settings: Settings, tasks: list[tuple]):
    """Make the shards of the tasks; yields (name, about) as they are finished."""
    if settings.workers <= 1:
        _begin(settings)
        for task in tasks:
            yield _make(task)
    elif tasks:
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(settings.workers, len(tasks)), _begin, (settings,)) as pool:
            yield from pool.imap_unordered(_make, tasks)


# ---- in each worker ---------------------------------------------------------------------------------------------

_state: dict = {}


def _begin(settings: Settings) -> None:
    # Nothing here may fail: a pool starts a worker that dies at birth again and again.
    if settings.workers > 1:
        torch.set_num_threads(1)
    _state.clear()
    _state.update(settings=settings, kit=None, engines=None, texts={})


def _load_kit(settings: Settings) -> recipes.Kit:
    from playmate_core.face.bridge import LatentBridge
    from playmate_core.speech.encoder import WhisperSpeechEncoder

    bridge = LatentBridge.load()
    measures = Measures(bridge, bridge.covariance)
    kit = recipes.Kit(bridge, measures, WhisperSpeechEncoder.load())
    learned = Path(settings.out) / TEACHER
    if learned.is_file():
        taught = teacher.Teacher.load(learned)
        spectrum = torch.view_as_complex(taught.tensors.pop("pose_spectrum")).numpy()
        identities = taught.tensors.pop("identities")
        kit = recipes.Kit(bridge, measures, kit.encoder, PoseStatistics(spectrum), taught, identities,
                          residuals.Library.load(Path(settings.out) / LIBRARY))
    return kit


def _make(task: tuple) -> tuple[str, list[dict]]:
    kind, which = task
    settings = _state["settings"]
    if _state["kit"] is None:
        _state["kit"] = _load_kit(settings)
    kit = _state["kit"]
    maker = {"real": _real_shard, "speech": _speech_shard, "phones": _check_shard}[kind]
    clips = maker(settings, kit, which)
    return shard_name(task), shards.write_shard(Path(settings.out) / shard_name(task), clips)


def _rng(settings: Settings, *key) -> np.random.Generator:
    """A generator of its own for every purpose: the order of work cannot change what is made."""
    words = [settings.seed, *(k if isinstance(k, int) else int.from_bytes(k.encode()[:8], "big") for k in key)]
    return np.random.default_rng(words)


def _real_shard(settings: Settings, kit: recipes.Kit, name: str) -> list[shards.Clip]:
    path = next(path for path in list_tracks(settings.tracks) if path.stem == name)
    track = load_track(path, kit.bridge, kit.measures)
    split = "heldout" if name in settings.heldout else "train"
    # Tracks that are only measured on need no variants beyond a few for robustness.
    count = settings.variants if split == "train" else min(settings.variants, 4)
    return [recipes.real_clip(kit, track, v, split, _rng(settings, "real", name, name[-4:], v)) for v in range(count)]


def _engines() -> dict:
    """The engines for one shard: kept, but for those that what they said before makes speak otherwise."""
    from .engines import available

    if _state["engines"] is None:
        _state["engines"] = available()
    engines = _state["engines"]
    engines.update(available([name for name, engine in engines.items() if getattr(engine, "remembers", False)]))
    return engines


def _sentence(language: str, seed: int, rng: np.random.Generator) -> str:
    from .text import sentences

    if language not in _state["texts"]:
        _state["texts"][language] = sentences(language, seed)
    pool = _state["texts"][language]
    return pool[int(rng.integers(len(pool)))]


def _passage(settings: Settings, engine, voice, rng: np.random.Generator, seconds: float):
    """Sentences of one voice until about ``seconds`` are filled; None when the engine fails on all of them."""
    spoken, length, failures = [], 0.0, 0
    while length < seconds and failures < 8:
        try:
            speech = recipes.say(engine, _sentence(voice.language, settings.seed, rng), voice)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            failures += 1
            _log.debug("A sentence was skipped: %s", error)
            continue
        if not 0.4 < speech.seconds < CLIP_SECONDS[1] or (spoken and length + speech.seconds > CLIP_SECONDS[1]):
            failures += 1
            continue
        spoken.append(speech)
        length += speech.seconds + 0.4
    return recipes.join(spoken, rng) if spoken else None


def _speech_shard(settings: Settings, kit: recipes.Kit, index: int) -> list[shards.Clip]:
    rng = _rng(settings, "speech", index)
    engines = _engines()
    mixture = {k: v for k, v in MIXTURE.items() if k.split("-")[0] in engines}
    names, odds = list(mixture), np.array(list(mixture.values())) / sum(mixture.values())
    languages, weights = list(LANGUAGES), np.array(list(LANGUAGES.values())) / sum(LANGUAGES.values())
    held = {voice for _, voice in CHECK_VOICES}
    clips: list[shards.Clip] = []
    seconds = 0.0
    while seconds < SHARD_SECONDS:
        if rng.random() < NON_SPEECH:
            clips.append(recipes.non_speech_clip(kit, rng))
        else:
            source = names[int(rng.choice(len(names), p=odds))]
            engine = engines[source.split("-")[0]]
            language = languages[int(rng.choice(len(languages), p=weights))] if source == "espeak" else "en"
            voices = [v for v in engine.voices(language) if v not in held]
            voice = recipes.random_voice(engine, language, voices, rng)
            passage = _passage(settings, engine, voice, rng, float(rng.uniform(*CLIP_SECONDS)) - 1.0)
            if passage is None:
                continue
            about = {"source": engine.name, "name": voice.name, "language": language, "split": "train"}
            clips.append(recipes.synthetic_clip(kit, *passage, about, rng))
        seconds += clips[-1].about["seconds"]
    return clips


def _check_shard(settings: Settings, kit: recipes.Kit, index: int) -> list[shards.Clip]:
    from .engines import Voice

    rng = _rng(settings, "phones", index)
    name, voice_name = CHECK_VOICES[index]
    engine = _engines()[name]
    clips: list[shards.Clip] = []
    seconds = 0.0
    while seconds < settings.check_minutes * 60 / len(CHECK_VOICES):
        voice = Voice(voice_name, "en", float(np.exp(rng.normal(0.0, 0.08))))
        passage = _passage(settings, engine, voice, rng, float(rng.uniform(6.0, 10.0)))
        if passage is None:
            break
        phones = [[p.symbol, p.kind, round(float(p.start), 4), round(float(p.end), 4)] for p in passage[1]]
        about = {"source": name, "name": voice_name, "language": "en", "split": "phones", "phones": phones}
        clips.append(recipes.synthetic_clip(kit, *passage, about, rng, strength=0.0))
        seconds += clips[-1].about["seconds"]
    return clips


# ---- the teacher ------------------------------------------------------------------------------------------------

def _learn(settings: Settings, out: Path, paths: list[Path]) -> None:
    """Fit the teacher and the head's statistics on the tracks that are not held out, unless that is done."""
    if (out / TEACHER).is_file():
        return
    from playmate_core.face.bridge import LatentBridge

    bridge = LatentBridge.load()
    measures = Measures(bridge, bridge.covariance)
    tracks = [load_track(path, bridge, measures) for path in paths if path.stem not in settings.heldout]
    lessons = lessons_of(out, tracks)
    _log.info("Fitting the teacher on %d recordings of %d tracks.", len(lessons), len(tracks))
    fitted = teacher.fit(lessons, seed=settings.seed)
    spectrum = PoseStatistics.measure([track.pose.numpy() for track in tracks]).spectrum
    fitted.tensors["pose_spectrum"] = torch.view_as_real(torch.from_numpy(spectrum)).contiguous()
    fitted.tensors["identities"] = torch.stack([track.identity for track in tracks])
    (out / TEACHER).parent.mkdir(exist_ok=True)
    kit = recipes.Kit(bridge, measures, None)
    look = _scores_of(bridge)
    sources = [recipes.source_of(kit, track, shards.read_shard(out / shard_name(("real", track.name)))[0],
                                 fitted.unseen.get(track.name, torch.zeros(0, 63)), look)
               for track in tracks]
    # The teacher is written last: where it lies, the library does.
    residuals.Library.build(sources).save(out / LIBRARY)
    fitted.save(out / TEACHER)


def _scores_of(bridge):
    """[T, 63] latents -> [T, 52] blendshape scores of the mean face that they move."""
    from playmate_core.face.analyzer import FaceAnalyzer
    from playmate_core.face.geometry import mean_face

    network = FaceAnalyzer.load().networks["blendshapes"]

    @torch.inference_mode()
    def look(latents):
        return network(mean_face() + bridge.displacement(latents))

    return look


def lessons_of(out: Path, tracks: list, most: int = 6) -> list[teacher.Lesson]:
    """The teacher's lessons from the real shards: the first ``most`` recordings of each track."""
    from .tracks import resample_rows

    lessons = []
    for track in tracks:
        mouth = recipes.lesson_mouth(track).numpy()
        for clip in shards.read_shard(out / shard_name(("real", track.name)))[:most]:
            times = np.arange(len(clip.features)) * clip.about["pace"] / recipes.FPS
            rows = torch.from_numpy(resample_rows(mouth, times, recipes.FPS)).float()
            lessons.append(teacher.Lesson(track.person, clip.features, rows, track.name))
    return lessons


def _bar() -> Progress:
    """A progress bar on standard error, without a library."""
    import sys
    import time

    start = time.monotonic()

    def show(done: int, total: int) -> None:
        share = done / max(total, 1)
        bar = ("#" * int(30 * share)).ljust(30, ".")
        sys.stderr.write(f"\r[{bar}] {done}/{total} shards, {time.monotonic() - start:.0f} s ")
        if done == total:
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show


def main(arguments: list[str] | None = None) -> int:
    """The corpus command on its own: ``arguments`` as on the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m laboratory.training corpus", description=__doc__)
    add_arguments(parser)
    run(parser.parse_args(arguments))
    return 0
