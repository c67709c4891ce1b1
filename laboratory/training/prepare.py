"""A folder of talking clips becomes a corpus: ``python -m laboratory.training prepare FOLDER --out DIR``.

Files are worked through in groups, a shard each, by any number of processes; machines take a share each
(``--share 0/4``). A build that is stopped goes on where it was, and files that came since are added. What cannot be
used is listed with its reason in ``skipped.json`` and never stops the others.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path

import torch

from playmate_core.runtime.errors import PlaymateError
from playmate_core.runtime.progress import Progress, report

from ..corpus import shards
from . import footage
from .crops import FOLDER as CROPS
from .crops import Unwritable, writing
from .footage import Filters, Kit
from .labels import Labels
from .pool import pooled
from .upkeep import file_digest

ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".flv", ".mpg", ".mpeg", ".wmv", ".ts")
SKIPPED = "skipped"
ON_A_GPU = 4
"""Processes that share a GPU by default; each keeps its own networks there."""
GROUP = 16
"""Files a shard, at most; fewer where there would not be some for every process."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What to prepare.

    Attributes:
        folder: of the clips, looked through with all below it.
        out: the corpus.
        labels: as ``Labels``.
        speech_encoder: "bundled", or a folder with a wav2vec2 or HuBERT.
        liveportrait: folder or file of LivePortrait's motion extractor; None takes the latent bridge.
        crops: side in pixels of the pictures that are kept for the transfer loss; 0 keeps none.
        heldout: share of the speakers (files, where no speaker is known) that are only measured on.
        share: (which, of how many) machines.
        workers: processes.
        device: where the networks run.
        filters: see ``footage.Filters``.
    """

    folder: str
    out: str
    labels: str | None = None
    speech_encoder: str = "bundled"
    liveportrait: str | None = None
    crops: int = 0
    heldout: float = 0.02
    share: tuple[int, int] = (0, 1)
    workers: int = 1
    device: str = "cpu"
    filters: Filters = field(default_factory=Filters)

    def kept(self) -> dict:
        """What must be the same each time a corpus is continued."""
        from playmate_core.speech.transformer_encoders import folder_name

        bundled = self.speech_encoder == "bundled"
        return dict(speech_encoder="bundled" if bundled else folder_name(Path(self.speech_encoder)),
                    extractor=_digest(self.liveportrait) if self.liveportrait else "landmarks", crops=self.crops,
                    heldout=self.heldout, filters=asdict(self.filters))


def prepare(settings: Settings, progress: Progress = None) -> dict[str, int]:
    """Make the corpus, or continue it.

    Args:
        progress: called with (files done, files).

    Returns:
        numbers of ``files``, ``clips`` and ``skipped`` files in all.

    Raises:
        PlaymateError: no clips in the folder, labels or weights that cannot be read, a corpus that was begun with
            other settings, or one that cannot be written.
    """
    out = Path(settings.out)
    files = list_files(Path(settings.folder), settings.share)
    Labels(settings.labels)
    which, of = settings.share
    name = "clips" if of == 1 else f"clips-{which}of{of}"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlaymateError(f"The corpus {out} cannot be made ({error}); choose another folder.") from None
    # What a killed build left. Other machines may be writing their shares, and pictures, this very moment.
    own = out.glob("*.part" if of == 1 else f"{name}-[0-9]*.part")
    for part in (*own, *filter(_is_old, out.glob(f"{CROPS}/*.part"))):
        part.unlink(missing_ok=True)
    skipped_path = out / (f"{SKIPPED}.json" if of == 1 else f"{SKIPPED}-{which}of{of}.json")
    _agree(out / "prepare.json", settings)
    skipped: dict[str, str] = _read(skipped_path)
    made = {path.name: shards.read_about(path) for path in sorted(out.glob(f"{name}-[0-9]*.safetensors"))}
    known = {clip["file"] for clips in made.values() for clip in clips} | set(skipped)
    todo = [file for file in files if file not in known]
    number = 1 + max((int(shard.rsplit("-", 1)[1].split(".")[0]) for shard in made), default=-1)
    group = max(1, min(GROUP, len(todo) // (2 * max(settings.workers, 1))))
    tasks = [(f"{name}-{number + k:05d}.safetensors", todo[start:start + group])
             for k, start in enumerate(range(0, len(todo), group))]
    if tasks:
        # Weights that cannot be read are reported now, before the corpus is said to be made with them.
        _state.clear()
        _state["kit"] = _load_kit(settings)
    _write(out / "prepare.json", settings.kept())
    done = len(files) - len(todo)
    report(progress, done, len(files))
    for shard, names, about, left_out in _work(settings, tasks):
        if about:
            made[shard] = about
        skipped |= left_out
        _write(skipped_path, dict(sorted(skipped.items())))
        if of == 1:
            with writing(out / shards.MANIFEST):
                shards.write_manifest(out, settings.kept(), made)
        done += len(names)
        report(progress, done, len(files))
    _state.clear()
    clips = sum(map(len, made.values()))
    if files and not clips:
        _log.warning("None of the %d files gave a clip; %s says why.", len(files), skipped_path)
    whole = sum(1 for file in skipped if file in set(files))
    return dict(files=len(files), clips=clips, skipped=whole)


def list_files(folder: Path, share: tuple[int, int] = (0, 1)) -> list[str]:
    """Video files below ``folder``, their paths with forward slashes, sorted; of a share, those that hash to it.

    Raises:
        PlaymateError: no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise PlaymateError(f"There is no folder {folder}; give the folder of the clips.")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise PlaymateError(f"There are no videos in {folder}; give a folder of {', '.join(ENDINGS[:4])} or other "
                            "video files.")
    return [file for file in files if _hash(file) % share[1] == share[0]]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def split_of(file: str, label, heldout: float) -> str:
    """Of a file: as its label says, else by its speaker, else by itself; the same on every machine."""
    return label.split or ("heldout" if _hash(label.speaker or file) % 10_000 < heldout * 10_000 else "train")


@lru_cache(maxsize=4)
def _digest(weights: str) -> str:
    """Which motion extractor it is; latents of another, a fine-tuned one say, do not go with its own."""
    from .transfer import find_role

    return file_digest(find_role("motion", weights))[:16]


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > 3600
    except OSError:
        return False


def _agree(path: Path, settings: Settings) -> None:
    held = _read(path)
    wanted = json.loads(json.dumps(settings.kept()))
    if held and held != wanted:
        changed = sorted(key for key in wanted if held.get(key) != wanted[key])
        raise PlaymateError(f"The corpus in {path.parent} was begun with another {', '.join(changed)}; go on with the "
                            "same or choose another folder.")


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise PlaymateError(f"{path} is damaged; delete it and go on.") from None


def _write(path: Path, values: dict) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with writing(path):
        part.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(part, path)


# ---- work

Result = tuple[str, list[str], list[dict], dict[str, str]]


def _work(settings: Settings, tasks: list[tuple]) -> Iterator[Result]:
    """Make the shards; yields (shard, files, descriptions, reasons of what was left out) as they are finished."""
    if settings.workers <= 1:
        for task in tasks:
            yield _make(settings, *task)
        return
    finished: set[str] = set()
    try:
        for result in _pooled(settings, tasks, settings.workers):
            finished.add(result[0])
            yield result
        return
    except BrokenProcessPool:
        _log.warning("A process was killed, by a file or by the system; files are now taken one by one.")
    for shard, names in tasks:
        if shard not in finished:
            yield from _carefully(settings, shard, names)


def _pooled(settings: Settings, tasks: list[tuple], workers: int) -> Iterator[Result]:
    return pooled(_make, [(settings, *task) for task in tasks], workers)


def _carefully(settings: Settings, shard: str, names: list[str]) -> Iterator[Result]:
    """A shard in whose making a process may have died: each file in one of its own, so that one alone is lost."""
    good, left_out = [], {}
    for name in names:
        try:
            list(_pooled(settings, [(f"{shard}.part", [name])], 1))
            good.append(name)
        except BrokenProcessPool:
            left_out[name] = "it crashes the program that reads it"
    (Path(settings.out) / f"{shard}.part").unlink(missing_ok=True)
    for result in _pooled(settings, [(shard, good)], 1) if good else [(shard, [], [], {})]:
        yield result[0], names, result[2], result[3] | left_out


_state: dict = {}


def _load_kit(settings: Settings) -> Kit:
    from playmate_core.face.analyzer import FaceAnalyzer
    from playmate_core.face.bridge import LatentBridge
    from playmate_core.pipeline import load_speech_encoder
    from playmate_core.runtime.devices import usable_device

    device = usable_device(settings.device)
    encoder = load_speech_encoder(None if settings.speech_encoder == "bundled" else settings.speech_encoder, device)
    extractor = None
    if settings.liveportrait is not None:
        from .transfer import load_role
        extractor = load_role("motion", settings.liveportrait).to(device)
    return Kit(FaceAnalyzer.load(device=device), LatentBridge.load(), encoder, extractor)


def _make(settings: Settings, shard: str, names: list[str]) -> Result:
    if "kit" not in _state:
        torch.set_num_threads(1)
        _state["kit"] = _load_kit(settings)
    labels, folder, out = Labels(settings.labels), Path(settings.folder), Path(settings.out)
    clips, left_out = [], {}
    for name in names:
        label = labels.of(name)
        try:
            found, reasons = footage.clips_of(
                folder / name, name, _state["kit"], settings.filters, label, split_of(name, label, settings.heldout),
                crops=out if settings.crops else None, crop_size=settings.crops)
            if not found:
                left_out[name] = "; ".join(reasons) or "nothing in it can be used"
            elif reasons:
                left_out[f"{name} (in part)"] = "; ".join(reasons)
            clips += found
        except Unwritable:
            raise
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise PlaymateError(f"The memory does not suffice for {name} beside what else runs; go on with the same "
                                "command and fewer --workers, or with --device cpu.") from None
        except Exception as error:  # whatever a damaged file makes of a decoder is the file's affair alone
            left_out[name] = str(error) or type(error).__name__
            if not isinstance(error, PlaymateError):
                _log.warning("%s is skipped: %r", name, error)
    with writing(out / shard):
        return shard, names, shards.write_shard(out / shard, clips) if clips else [], left_out


# ---- command


def add_arguments(parser) -> None:
    """The prepare command's arguments, for argparse."""
    parser.add_argument("folder", help="folder of clips; what lies below it counts too")
    parser.add_argument("--out", required=True, metavar="DIR", help="the corpus; an unfinished one is continued")
    parser.add_argument("--labels", metavar="FILE", help="CSV of file, emotion, strength, speaker, split; or the word "
                        "folders, for emotions in the names of folders and files")
    parser.add_argument("--speech-encoder", default="bundled", metavar="FOLDER",
                        help="folder of a wav2vec2 or HuBERT (default: the bundled Whisper)")
    parser.add_argument("--liveportrait", metavar="FOLDER", help="weights of LivePortrait's motion extractor; left "
                        "out: latents through the landmark bridge")
    parser.add_argument("--crops", type=int, default=0, metavar="PIXELS", nargs="?", const=512,
                        help="also keep the cropped pictures, for the transfer loss (512 pixels)")
    parser.add_argument("--heldout", type=float, default=0.02, help="share of speakers to measure on (default 0.02)")
    parser.add_argument("--share", default="0/1", metavar="K/N", help="the K-th of N machines, from 0")
    parser.add_argument("--workers", type=int, help=f"processes (default: all cores; {ON_A_GPU} at most where they "
                        "share a GPU)")
    parser.add_argument("--device", default="cpu", help="where networks run: cpu (default), cuda, cuda:1 ...")
    for knob in fields(Filters):
        parser.add_argument(f"--{knob.name.replace('_', '-')}", type=float, default=knob.default,
                            help=f"see docs/training.md (default {knob.default:g})")


def main(arguments: list[str] | None = None) -> int:
    """The prepare command on its own: ``arguments`` as on the command line."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m laboratory.training prepare", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        which, of = (int(word) for word in options.share.split("/"))
    except ValueError:
        which, of = -1, 0
    if not 0 <= which < of:
        parser.error(f"--share is {options.share}; give which machine of how many, as 0/4")
    filters = Filters(**{knob.name: getattr(options, knob.name) for knob in fields(Filters)})
    workers = options.workers or min(os.cpu_count() or 1, 10_000 if options.device == "cpu" else ON_A_GPU)
    settings = Settings(options.folder, options.out, options.labels, options.speech_encoder, options.liveportrait,
                        options.crops, options.heldout, (which, of), workers, options.device, filters)
    from tqdm.auto import tqdm

    with tqdm(unit="file", dynamic_ncols=True, mininterval=2.0) as bar:
        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        counts = prepare(settings, show)
    _log.info("%(clips)d clips of %(files)d files; %(skipped)d files skipped.", counts)
    return 0
