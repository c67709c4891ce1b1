"""Fetches catalogue files from the Hugging Face hub, or from a mirror named by HF_ENDPOINT.

huggingface_hub says where a file is, how long it is and what its checksum is. The bytes are then read here, because
its newer versions begin a broken download anew: into a part file beside the target, continued by the next attempt
where the last one stopped, checked, and renamed when everything about it is right. Nothing here runs in a workflow.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .. import __version__
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress, report
from .catalogue import Folders, entry_of, homes, published
from .check import check_file, command, hash_file
from .entries import Entry, Source, WeightFile

BLOCK = 2**20
SPARE = 64 * 2**20
"""Bytes that must stay free on the disk."""
ATTEMPTS = 5
TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""


@dataclass(frozen=True)
class _Job:
    file: WeightFile
    target: Path
    url: str
    size: int
    etag: str

    @property
    def part(self) -> Path:
        """Named after the contents, so that parts of different revisions are never joined."""
        return self.target.with_name(f".{self.target.name}.{self.etag[:16]}.part")

    @property
    def done(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0


def download(name: str, folders: Folders = None, form: str | None = None,
             progress_of: Callable[[str], Progress] | None = None, wait: float = 1.0) -> list[Path]:
    """Fetches what an entry lacks.

    Args:
        name: an entry's name.
        folders: as in ``catalogue``; files go to the first folder.
        form: published form, by default the first.
        progress_of: makes a progress callback (bytes) for a file's name.
        wait: seconds before a broken connection is tried again; doubles each time.

    Returns:
        Paths of all files of the entry in that form.

    Raises:
        PlaymateError: unknown name or form; a file that is there and wrong; no network, no such file; a full disk;
            a file that arrived and is not what the catalogue promises. What arrived of a file stays for the next try.
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
    jobs = [_job(entry, source, file, target) for file, target in wanted]
    _check_space(jobs)
    for job in jobs:
        _fetch(entry, source, job, progress_of(job.file.name) if progress_of else None, wait)
    return paths


def _job(entry: Entry, source: Source, file: WeightFile, target: Path) -> _Job:
    """What the hub says of a file."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    endpoint = (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None
    url = hf_hub_url(source.repository, file.remote, revision=source.revision, endpoint=endpoint)
    try:
        # No token: every repository of the catalogue is public, and mirrors need not see it.
        metadata = get_hf_file_metadata(url, token=False, timeout=TIMEOUT)
    except Exception as error:  # its versions raise errors of httpx, of requests and of its own
        raise PlaymateError(f"Cannot fetch {file.name} from {url} ({_reason(error)}); check the connection, set "
                            f"HF_ENDPOINT to a mirror, or put the file into {target.parent} by hand.") from error
    size = metadata.size if metadata.size is not None else file.size
    if size is None:
        raise PlaymateError(f"{url} does not say how long the file is; try another mirror or fetch it by hand.")
    if file.size is not None and size != file.size:
        raise PlaymateError(f"{url} offers {size:,} bytes where {file.name} has {file.size:,}; that is another file, "
                            "so nothing was fetched.")
    etag = re.sub(r"[^0-9a-zA-Z]", "", metadata.etag or "") or "unknown"
    return _Job(file, target, url, size, etag)


def _check_space(jobs: list[_Job]) -> None:
    needed: dict[int, int] = {}
    for job in jobs:
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            device = job.target.parent.stat().st_dev
        except OSError as error:
            raise PlaymateError(f"Cannot write into {job.target.parent} ({error.strerror or error}); choose another "
                                "folder with --models or --into.") from None
        needed[device] = needed.get(device, SPARE) + max(job.size - job.done, 0)
        free = shutil.disk_usage(job.target.parent).free
        if free < needed[device]:
            raise PlaymateError(f"{job.target.parent} has {free / 1e6:.0f} MB free and {needed[device] / 1e6:.0f} MB "
                                "are needed; free some space or choose another disk with --models.")


def _fetch(entry: Entry, source: Source, job: _Job, progress: Progress, wait: float) -> None:
    for old in job.target.parent.glob(f".{job.target.name}.*.part"):
        if old != job.part:
            old.unlink(missing_ok=True)
    for attempt in range(ATTEMPTS):
        before = job.done
        try:
            _read(job, progress)
            break
        except OSError as error:  # the urllib errors are OSErrors too
            if error.errno == errno.ENOSPC:
                raise PlaymateError(f"The disk of {job.target.parent} is full; free {(job.size - job.done) / 1e6:.0f} "
                                    "MB and run the same command again, it goes on where it stopped.") from None
            gone = isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)
            if gone or attempt == ATTEMPTS - 1:
                raise _broken(job, error) from error
        except http.client.HTTPException as error:
            if attempt == ATTEMPTS - 1:
                raise _broken(job, error) from error
        if job.done == before:  # a connection that brings nothing is given time; one that brings something is not
            time.sleep(wait * 2**attempt)
    _accept(entry, source, job)


def _broken(job: _Job, error: Exception) -> PlaymateError:
    return PlaymateError(f"The download of {job.file.name} broke off at {job.done / 1e6:.1f} of {job.size / 1e6:.1f} "
                         f"MB ({_reason(error)}); run the same command again, it goes on where it stopped.")


def _read(job: _Job, progress: Progress) -> None:
    """Appends what is missing to the part file.

    Raises:
        OSError or HTTPException: the connection broke or the disk is full.
    """
    done = job.done
    if done > job.size:
        job.part.unlink()
        done = 0
    if done == job.size and job.part.is_file():
        return
    headers = {"User-Agent": f"ComfyUI-Playmate/{__version__}", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    try:
        answer = urllib.request.urlopen(urllib.request.Request(job.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is of another length than the file
            job.part.unlink(missing_ok=True)
        raise
    with answer:
        goes_on = answer.status == 206 and re.match(rf"bytes {done}-", answer.headers.get("Content-Range", ""))
        done = done if goes_on else 0
        with open(job.part, "ab" if goes_on else "wb") as part:
            while done < job.size:
                block = answer.read(min(BLOCK, job.size - done))
                if not block:
                    raise ConnectionError("the connection was closed early")
                part.write(block)
                done += len(block)
                report(progress, done, job.size)


def _accept(entry: Entry, source: Source, job: _Job) -> None:
    """Checks the complete part file and gives it its name.

    Raises:
        PlaymateError: it is not the promised file; it is deleted.
    """
    promised = job.file.sha256 or (job.etag.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", job.etag) else None)
    try:
        if promised is not None and hash_file(job.part) != promised:
            raise PlaymateError(f"{job.file.name} arrived from {source.repository} with another checksum than "
                                f"promised and was deleted; run again: {command(entry)}")
        check_file(entry, job.file, job.part, job.target.name)
    except PlaymateError:
        job.part.unlink(missing_ok=True)
        raise
    os.replace(job.part, job.target)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return (str(reason).strip().splitlines() or [type(error).__name__])[0][:160]
