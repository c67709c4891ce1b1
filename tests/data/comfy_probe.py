"""A custom node of the tests alone: tells over HTTP what ComfyUI's memory manager holds."""

import comfy.model_management
from aiohttp import web
from server import PromptServer

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
