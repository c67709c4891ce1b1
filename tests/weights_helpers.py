"""Weight files in the real formats without the real numbers, and a hub that serves them."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import torch

from playmate_core.weights.check import manifests

BYTES = {"F32": 4, "F16": 2, "I64": 8, "BOOL": 1}


def listed(name: str) -> dict[str, tuple[str, list[int]]]:
    """{tensor: (dtype, shape)} of a manifest."""
    manifest = manifests()[name]
    kinds = manifest.get("dtypes", {})
    return {key: (next((kind for end, kind in kinds.items() if key.endswith(end)), "F32"), shape)
            for key, shape in manifest["tensors"].items()}


def write_safetensors(path: Path, tensors: dict[str, tuple[str, list[int]]], metadata=None) -> Path:
    """A complete file whose numbers are a hole in it: hundreds of megabytes that take no room on the disk."""
    header, end = ({"__metadata__": metadata} if metadata else {}), 0
    # In the order of the safetensors library: widest numbers first, then by name.
    for key, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-BYTES[item[1][0]], item[0])):
        size = math.prod(shape) * BYTES[dtype]
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return path


def write_network(path: Path, name: str) -> Path:
    """A safetensors file with the tensors of a manifest."""
    return write_safetensors(path, listed(name), {"format": "pt"})


def state_dict(name: str) -> dict[str, torch.Tensor]:
    kinds = {"F32": torch.float32, "I64": torch.int64, "BOOL": torch.bool}
    return {key: torch.zeros(shape, dtype=kinds[dtype]) for key, (dtype, shape) in listed(name).items()}


def liveportrait(models: Path, folder: str = "liveportrait") -> dict[str, Path]:
    """LivePortrait's five files under ``models``, by role."""
    from playmate_core.weights.entries import LIVEPORTRAIT

    return {role: write_network(models / folder / f"{net.stem}.safetensors", f"liveportrait/{net.stem}")
            for role, net in LIVEPORTRAIT.items()}


class Hub:
    """A local server that answers as the Hugging Face hub does.

    Attributes:
        files: {"org/name/path": contents}.
        breaks: for these paths, bytes after which the connection is cut, one number for each request, then never.
        ranges: Range headers that were asked for, by path.
        lie: for these paths, what the server claims as checksum.
        deaf: paths for which Range is ignored.
        gated: the token, or None, without which these paths are refused.
        tokens: paths that were asked for with a token.
        moved: paths whose contents lie on a second host, as those of large files do; asked for under another name.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: dict[str, list[int]] = {}
        self.ranges: dict[str, list[str | None]] = {}
        self.lie: dict[str, str] = {}
        self.deaf: set[str] = set()
        self.tokens: list[str] = []
        self.gated: dict[str, str | None] = {}
        self.moved: set[str] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):  # noqa: N802
                self.answer(head=True)

            def do_GET(self):  # noqa: N802
                self.answer(head=False)

            def answer(self, head: bool) -> None:
                stored = self.path.startswith("/store/")
                repository, _, rest = self.path.lstrip("/").partition("/resolve/")
                name = self.path.removeprefix("/store/") if stored else f"{repository}/{rest.partition('/')[2]}"
                token = self.headers.get("Authorization")
                if token:
                    hub.tokens.append(self.path if stored else name)
                if name in hub.gated and not stored and token != f"Bearer {hub.gated[name]}":
                    self.send_response(403 if token else 401)
                    self.send_header("X-Error-Code", "GatedRepo")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                data = hub.files.get(name)
                if data is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if name in hub.moved and not stored:
                    self.send_response(302)
                    self.send_header("Location", f"http://localhost:{hub.server.server_port}/store/{name}")
                    self.send_header("X-Linked-Size", str(len(data)))
                    self.send_header("X-Linked-ETag", f'"{hashlib.sha256(data).hexdigest()}"')
                    self.send_header("X-Repo-Commit", "0" * 40)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                start = 0
                if not head:
                    asked = self.headers.get("Range")
                    hub.ranges.setdefault(name, []).append(asked)
                    if asked and name not in hub.deaf:
                        start = int(asked.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - start))
                self.send_header("ETag", f'"{hub.lie.get(name) or hashlib.sha256(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.end_headers()
                if head:
                    return
                cuts = hub.breaks.get(name) or [len(data)]
                cut = cuts.pop(0) if name in hub.breaks and hub.breaks[name] else len(data)
                self.wfile.write(data[start:start + cut])
                if start + cut < len(data):
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def disk(free: int):
    """In place of ``shutil.disk_usage``."""
    return lambda path: SimpleNamespace(total=10**12, used=10**12 - free, free=free)
