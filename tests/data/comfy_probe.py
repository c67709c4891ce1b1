"""A custom node of the tests alone: tells over HTTP what ComfyUI's memory manager holds."""

import comfy.model_management
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/playmate_probe/loaded")
async def loaded(_request):
    return web.json_response([
        {"patcher": type(held.model).__name__, "model": type(held.model.model).__name__,
         "networks": [type(child).__name__ for child in held.model.model.children()],
         "device": str(held.device), "bytes": held.model_memory(), "loaded": held.model_loaded_memory()}
        for held in list(comfy.model_management.current_loaded_models)])
