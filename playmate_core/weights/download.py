"""Fetches catalogue files from the Hugging Face hub, or from a mirror named by HF_ENDPOINT.

The transfer is ``huggingface_hub.hf_hub_download``'s: connections, proxies, retries that continue a broken transfer,
its faster protocol where that is installed. A file arrives in a hidden folder beside its target, without links, is held
against the catalogue there, and gets its name when everything about it is right. Nothing here runs in a workflow.
"""

from __future__ import annotations

import errno
import inspect
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .catalogue import Folders, entry_of, homes, published
from .check import check_file, command, hash_file
from .entries import Entry, Source, WeightFile

SPARE = 64 * 2**20
"""Bytes that must stay free on the disk."""
ATTEMPTS = 5
TIMEOUT = 30.0
"""Seconds that the hub has to say what a file is."""


@dataclass(frozen=True)
class _Job:
    file: WeightFile
    target: Path
    url: str
    size: int
    sha256: str | None
    token: str | bool

    @property
    def staging(self) -> Path:
        """Where the file arrives: on the target's own disk, so that it can be moved in one step."""
        return self.target.with_name(f".{self.target.name}.download")


def download(name: str, folders: Folders = None, form: str | None = None,
             progress_of: Callable[[str], Progress] | None = None) -> list[Path]:
    """Fetches what an entry lacks.

    The environment says where from and as whom: HF_ENDPOINT, HF_TOKEN (or the login of ``hf auth login``). Files are
    asked for without the token first; it is sent only where the hub wants one, and the login never to a mirror.

    Args:
        name: an entry's name.
        folders: as in ``catalogue``; files go to the first folder.
        form: published form, by default the first.
        progress_of: makes a progress callback (bytes) for a file's name; what the callback raises ends the download.

    Returns:
        Paths of all files of the entry in that form.

    Raises:
        PlaymateError: unknown name or form; a file that is there and wrong; no network, no such file, no permission;
            a full disk; a file that arrived and is not what the catalogue promises. Files that are complete stay.
    """
    entry = entry_of(name)
    source = published(entry, form)
    paths, wanted = [], []
    for file in source.files:
        places = homes(entry, file, folders)
        if not places:
            raise PlaymateError(f"There is no folder for {file.name}; give one with --into.")
        there = next((place / file.name for place in places if (place / file.name).is_file()), None)
        if there is not None:
            check_file(entry, file, there)
        else:
            wanted.append((file, places[0] / file.name))
        paths.append(there or places[0] / file.name)
    jobs = [_job(source, file, target) for file, target in wanted]
    _check_space(jobs)
    for job in jobs:
        _fetch(entry, source, job, progress_of(job.file.name) if progress_of else None)
    return paths


def _endpoint() -> str | None:
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def _tokens() -> Iterator[str | bool]:
    """No token, then the user's own: nearly every file is public, and a stale token is refused even those."""
    from huggingface_hub import get_token

    yield False
    own = get_token() if _endpoint() is None else os.environ.get("HF_TOKEN")
    if own:
        yield own


def _job(source: Source, file: WeightFile, target: Path) -> _Job:
    """What the hub says of a file, and who may have it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.repository, file.remote, revision=source.revision, endpoint=_endpoint())
    for token in _tokens():
        try:
            metadata = get_hf_file_metadata(url, token=token, timeout=TIMEOUT)
        except Exception as error:  # its versions raise errors of httpx, of requests and of its own
            problem = error
            if _status(error) not in (401, 403):
                break
        else:
            return _offered(file, target, url, metadata, token)
    raise PlaymateError(f"Cannot fetch {file.name} from {url} ({_reason(problem)}); {_cure(problem, source)}, or put "
                        f"the file into {target.parent} by hand.") from problem


def _offered(file: WeightFile, target: Path, url: str, metadata, token: str | bool) -> _Job:
    size = metadata.size if metadata.size is not None else file.size
    if size is None:
        raise PlaymateError(f"{url} does not say how long the file is; try another mirror or fetch it by hand.")
    if file.size is not None and size != file.size:
        raise PlaymateError(f"{url} offers {size:,} bytes where {file.name} has {file.size:,}; that is another file, "
                            "so nothing was fetched.")
    etag = (metadata.etag or "").lower()  # of large files it is their checksum
    return _Job(file, target, url, size, file.sha256 or (etag if re.fullmatch("[0-9a-f]{64}", etag) else None), token)


def _check_space(jobs: list[_Job]) -> None:
    needed: dict[int, int] = {}
    for job in jobs:
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            device = job.target.parent.stat().st_dev
        except OSError as error:
            raise PlaymateError(f"Cannot write into {job.target.parent} ({error.strerror or error}); choose another "
                                "folder with --models or --into.") from None
        needed[device] = needed.get(device, SPARE) + max(job.size - _arrived(job.staging), 0)
        free = shutil.disk_usage(job.target.parent).free
        if free < needed[device]:
            raise PlaymateError(f"{job.target.parent} has {free / 1e6:.0f} MB free and {needed[device] / 1e6:.0f} MB "
                                "are needed; free some space or choose another disk with --models.")


def _fetch(entry: Entry, source: Source, job: _Job, progress: Progress) -> None:
    from huggingface_hub import hf_hub_download

    options, stopped = {}, []
    if "tqdm_class" in inspect.signature(hf_hub_download).parameters:  # since 1.0; before, its own bar is shown
        options["tqdm_class"] = _bar(progress, job.size, stopped)
    try:
        for attempt in range(ATTEMPTS):
            before = _arrived(job.staging)
            (job.staging / job.file.remote).parent.mkdir(parents=True, exist_ok=True)
            try:
                arrived = hf_hub_download(source.repository, job.file.remote, revision=source.revision,
                                          token=job.token, endpoint=_endpoint(), local_dir=job.staging,
                                          etag_timeout=TIMEOUT, **options)
                break
            except Exception:
                # Some versions keep what had arrived and leave it to the caller to go on.
                if stopped or attempt == ATTEMPTS - 1 or _arrived(job.staging) <= before:
                    raise
                if _arrived(job.staging) > job.size:  # a server that sent the whole file again was appended
                    shutil.rmtree(job.staging / ".cache", ignore_errors=True)
        _accept(entry, source, job, Path(arrived))
    except Exception as error:
        if stopped or isinstance(error, PlaymateError):
            raise
        again = "run the same command again, files that are complete are kept"
        if any(getattr(each, "errno", None) == errno.ENOSPC for each in _chain(error)):
            raise PlaymateError(f"The disk of {job.target.parent} is full; free {job.size / 1e6:.0f} MB and "
                                f"{again}.") from error
        raise PlaymateError(f"The download of {job.file.name} from {job.url} broke off ({_reason(error)}); "
                            f"{again}.") from error
    finally:
        if not _arrived(job.staging):  # what some versions of the library could continue stays
            shutil.rmtree(job.staging, ignore_errors=True)


def _bar(progress: Progress, size: int, stopped: list[BaseException]) -> type:
    """A class in the shape of tqdm's that passes bytes on to ``progress`` and notes what that raises."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *_, initial=0, **__) -> None:
            super().__init__(disable=True)
            self.done = initial

        def update(self, n=1) -> None:
            self.done += n or 0
            try:
                report(progress, min(int(self.done), size), size)
            except BaseException as error:
                stopped.append(error)
                raise

    return Bar


def _accept(entry: Entry, source: Source, job: _Job, arrived: Path) -> None:
    """Checks a complete file and gives it its name.

    Raises:
        PlaymateError: it is not the promised file; it is deleted.
    """
    try:
        if job.sha256 is not None and hash_file(arrived) != job.sha256:
            raise PlaymateError(f"{job.file.name} arrived from {source.repository} with another checksum than "
                                f"promised and was deleted; run again: {command(entry)}")
        check_file(entry, job.file, arrived, job.target.name)
        os.replace(arrived, job.target)
    finally:
        shutil.rmtree(job.staging, ignore_errors=True)


def _arrived(staging: Path) -> int:
    """Bytes of an earlier attempt."""
    return sum(path.stat().st_size for path in staging.rglob("*.incomplete")) if staging.is_dir() else 0


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: Exception) -> int | None:
    """The hub's answer, where there was one."""
    answers = (getattr(getattr(each, "response", None), "status_code", None) for each in _chain(error))
    return next((status for status in answers if status is not None), None)


def _cure(error: Exception, source: Source) -> str:
    status = _status(error)
    if status in (401, 403):
        return (f"it wants to know who you are: accept the terms on the page of {source.repository}, if there are any, "
                "and set HF_TOKEN to a token that may read it")
    if status in (404, 410):
        return "update ComfyUI-Playmate in case the file has moved, try another HF_ENDPOINT"
    if any(type(each).__name__ == "OfflineModeIsEnabled" for each in _chain(error)):
        return "unset HF_HUB_OFFLINE"
    return "check the connection, set HF_ENDPOINT to a mirror"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return (str(reason).strip().splitlines() or [type(error).__name__])[0][:160]
