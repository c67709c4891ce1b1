"""ComfyUI-Playmate: what ComfyUI imports. The nodes are in ``nodes``, the library in ``playmate_core``."""

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """The extension; imported only when ComfyUI asks, so that tools can read this package without ComfyUI."""
    from .nodes import PlaymateExtension

    return PlaymateExtension()
