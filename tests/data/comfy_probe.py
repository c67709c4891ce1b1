"""A custom node of the tests alone: tells over HTTP what ComfyUI's memory manager holds, and what can be imported."""

import asyncio
import importlib
import traceback
from pathlib import Path

import comfy.model_management
from aiohttp import web
from server import PromptServer

import nodes

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/playmate_probe/loaded")
async def loaded(_request):
    return web.json_response([told(entry) for entry in list(comfy.model_management.current_loaded_models)
                              if entry.real_model is not None and entry.real_model() is not None])


def told(entry) -> dict:
    """An entry of the manager; without a patcher it is something that leaks."""
    alive = entry.model is not None
    return {"patcher": type(entry.model).__name__, "device": str(entry.device),
            "networks": [type(child).__name__ for child in entry.real_model().children()],
            "bytes": entry.model_memory() if alive else None, "loaded": entry.model_loaded_memory() if alive else None}


@PromptServer.instance.routes.get("/playmate_probe/imports/{pack}")
async def imports(request):
    """Imports every module of a pack as ComfyUI named it; {module: None, or the last line of what went wrong}."""
    folder = Path(nodes.LOADED_MODULE_DIRS[request.match_info["pack"]])
    package = str(folder).replace(".", "_x_")  # the name under which load_custom_node keeps a folder

    def every() -> dict:
        told = {}
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] != "__main__":  # runs the program
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                try:
                    importlib.import_module(name)
                    told["/".join(parts)] = None
                except Exception:
                    told["/".join(parts)] = traceback.format_exc().strip().splitlines()[-1]
        return told

    return web.json_response(await asyncio.get_running_loop().run_in_executor(None, every))
