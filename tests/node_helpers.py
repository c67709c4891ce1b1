"""Single nodes without ComfyUI: its API replaced by the little that a node's class body and ``execute`` touch.

What only a real ComfyUI can show (schemas as served, sockets, workflows) is tested against one in ``test_comfy_*``.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from types import ModuleType, SimpleNamespace
from typing import Iterator

from tests.conftest import ROOT

PACK = "playmate_pack"
"""Stands for the folder's name under custom_nodes, whatever that is: nodes import the library relative to it."""


class _Type:
    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str, **options) -> SimpleNamespace:  # noqa: N802 (ComfyUI's name)
        return SimpleNamespace(id=id, type=self.name, get_io_type=lambda: self.name, **options)

    Output = Input


class _IO(ModuleType):
    Custom = _Type
    FolderType = SimpleNamespace(input="input", output="output", temp="temp")
    NumberDisplay = SimpleNamespace(number="number", slider="slider")
    Hidden = SimpleNamespace(prompt="PROMPT", extra_pnginfo="EXTRA_PNGINFO")

    class ComfyNode:
        pass

    class Schema(SimpleNamespace):
        pass

    class NodeOutput:
        def __init__(self, *args, ui=None) -> None:
            self.args, self.ui = args, ui

    def __getattr__(self, name: str) -> _Type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Type(name.upper())


class Input:
    """ComfyUI's base classes of values."""

    class Video:
        def get_stream_source(self):
            raise NotImplementedError("a film that is only held in memory would have to be encoded")


class InputImpl:
    """ComfyUI's VIDEO: a file, or frames and sound."""

    class VideoFromFile:
        def __init__(self, file) -> None:
            self.file = file

        def get_stream_source(self):
            return self.file

    class VideoFromComponents:
        def __init__(self, components) -> None:
            self.components = components

        def get_components(self):
            return self.components


class Server:
    """Hears what nodes tell the front end: (text, node id)."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.said.append((text, node_id))


def _module(name: str, **content) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _package(name: str, path) -> ModuleType:
    return _module(name, __path__=[str(path)], __package__=name)


@contextlib.contextmanager
def node_modules(*names: str, latest: dict | None = None) -> Iterator[SimpleNamespace]:
    """The modules ``nodes/<name>.py``, and ``server`` that hears them, until the context is left.

    ``latest``: what else ``comfy_api.latest`` holds.
    """
    server = Server()
    bar = SimpleNamespace(update_absolute=lambda done, total: None)
    management = _module("comfy.model_management", throw_exception_if_processing_interrupted=lambda: None)
    utils = _module("comfy.utils", ProgressBar=lambda total: bar)
    newest = _module("comfy_api.latest", io=_IO("io"), **{"Input": Input, "InputImpl": InputImpl, **(latest or {})},
                     ui=_module("ui", SavedResult=lambda *parts: parts,
                                PreviewText=lambda text: SimpleNamespace(as_dict=lambda: {"text": (text,)})))
    stand_ins = {
        PACK: _package(PACK, ROOT), f"{PACK}.nodes": _package(f"{PACK}.nodes", ROOT / "nodes"),
        "folder_paths": sys.modules.get("folder_paths") or _module("folder_paths",
                                                                   get_temp_directory=lambda: tempfile.gettempdir()),
        "comfy": _module("comfy", model_management=management, utils=utils), "comfy.model_management": management,
        "comfy.utils": utils, "comfy_api": _module("comfy_api", latest=newest), "comfy_api.latest": newest,
        "comfy_execution": _module("comfy_execution"),
        "comfy_execution.utils": _module("comfy_execution.utils",
                                         get_executing_context=lambda: SimpleNamespace(node_id="7")),
        "server": _module("server", PromptServer=SimpleNamespace(instance=server)),
    }
    hidden = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)
    try:
        loaded = {name: importlib.import_module(f"{PACK}.nodes.{name}") for name in names}
        core = importlib.import_module(f"{PACK}.playmate_core.pipeline")
        yield SimpleNamespace(server=server, pipeline=core, **loaded)
    finally:
        # Only these: other modules that were imported meanwhile must not come a second time.
        for name in [name for name in sys.modules if name in stand_ins or name.startswith(f"{PACK}.")]:
            del sys.modules[name]
        sys.modules.update(hidden)
