"""Custom nodes of the tests alone.

They tell over HTTP what ComfyUI's memory manager holds and what can be imported, and hand over values as other packs
do: legal, but not in the form that core's own nodes give them.
"""

import asyncio
import collections.abc
import dataclasses
import importlib
import traceback
from fractions import Fraction
from pathlib import Path

import comfy.model_management
import numpy as np
import torch
from aiohttp import web
from server import PromptServer

import nodes


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


class LazySound(collections.abc.Mapping):
    """An AUDIO that is decoded when somebody asks for it."""

    def __init__(self, seconds, fails):
        self.seconds, self.fails = seconds, fails

    def __getitem__(self, key):
        if self.fails:
            raise RuntimeError("the film has\nno sound")
        if key == "sample_rate":
            return np.float32(22050)
        if key != "waveform":
            raise KeyError(key)
        time = torch.arange(int(self.seconds * 22050)) / 22050
        return (0.3 * torch.sin(2 * torch.pi * 150 * time) * torch.sin(2 * torch.pi * 3 * time)).double()[None, None]

    def __iter__(self):
        return iter(("waveform", "sample_rate"))

    def __len__(self):
        return 2


class ProbeSound:
    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO",), "give", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"seconds": ("FLOAT", {"default": 1.0}), "fails": ("BOOLEAN", {"default": False})}}

    def give(self, seconds, fails):
        return (LazySound(seconds, fails),)


IMAGES = {
    "half": lambda image: image.half(), "double": lambda image: image.double(), "rgba": lambda image: torch.cat(
        [image, torch.ones_like(image[..., :1])], -1), "grey": lambda image: image.mean(-1, keepdim=True),
    "one": lambda image: image[0], "bytes": lambda image: (image * 255).round().byte(),
    "list": lambda image: [image[0], image[0]], "array": lambda image: image.numpy(),
    "strided": lambda image: image.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "clip": lambda image: image.half().expand(6, -1, -1, -1),
}
MASKS = {
    "hw": lambda mask: mask[0], "1hw": lambda mask: mask, "b1hw": lambda mask: mask[:, None],
    "bhw1": lambda mask: mask[..., None], "half": lambda mask: mask.half(), "bool": lambda mask: mask > 0.5,
    "bytes": lambda mask: (mask * 255).byte(), "array": lambda mask: mask.numpy(),
}


class ProbeImage:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "MASK"), "give", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"image": ("IMAGE",), "image_form": (list(IMAGES),), "mask_form": (list(MASKS),)}}

    def give(self, image, image_form, mask_form):
        return IMAGES[image_form](image), MASKS[mask_form](torch.ones(image.shape[:3]))


NUMBERS = {
    "whole float": lambda value: float(value), "numpy float": lambda value: np.float32(value),
    "numpy int": lambda value: np.int64(value), "tensor": lambda value: torch.tensor([float(value)]),
    "text": lambda value: f" {value} ", "fraction": lambda value: Fraction(int(value)), "list": lambda value: [value],
    "broken": lambda value: value + 0.5, "endless": lambda value: float("inf"),
}


class ProbeNumber:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INT", "FLOAT", "BOOLEAN"), "give", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"value": ("INT", {"default": 3}), "form": (list(NUMBERS),)}}

    def give(self, value, form):
        found = NUMBERS[form](value)
        return found, found, found


class ProbeFilm:
    """A VIDEO as newer versions of ComfyUI give it: a file of which only a part is shown."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VIDEO",), "give", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"video": ("VIDEO",), "start": ("FLOAT", {"default": 0.0}),
                             "seconds": ("FLOAT", {"default": 0.0}),
                             "form": (["window", "length alone", "crop", "whole"],)}}

    def give(self, video, start, seconds, form):
        return (Film(video, start, seconds, form),)


class Film:
    def __init__(self, video, start, seconds, form):
        self.video, self.start, self.seconds = video, start, seconds
        if form == "window":
            self.get_active_trim_window = lambda: (start, seconds)
        self.form = form

    def get_stream_source(self):
        return self.video.get_stream_source()

    def get_duration(self):
        return self.seconds or self.video.get_duration() - self.start

    def get_dimensions(self):
        return (64, 64) if self.form == "crop" else self.video.get_dimensions()

    def get_components(self):
        if self.form in ("window", "whole"):
            raise RuntimeError("a file need not be held in memory")
        parts = self.video.get_components()
        first = round(self.start * float(parts.frame_rate))
        count = round(self.seconds * float(parts.frame_rate)) or None
        parts.images = parts.images[first:first + count if count else None]
        if self.form == "crop":
            parts.images = parts.images[:, :64, :64]
        return parts


class ProbeStandIn:
    """Models whose renderer draws a film's own pictures."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("PLAYMATE_MODELS",), "give", "tests"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"models": ("PLAYMATE_MODELS",)}}

    def give(self, models):
        return (dataclasses.replace(models, renderer=Projector(models.renderer)),)


class Projector:
    def __init__(self, renderer):
        self.name, self.prepare, self.render = renderer.name, renderer.prepare, renderer.render

    def prepare_film(self, film, progress=None):
        return dataclasses.replace(film, payload=True)

    def render_film(self, film, pictures, motion, scope, batch_size=None, progress=None):
        for _, picture in pictures:
            yield (picture.float() / 255 if picture.dtype == torch.uint8 else picture)[None]


NODE_CLASS_MAPPINGS = {cls.__name__: cls for cls in (ProbeSound, ProbeImage, ProbeNumber, ProbeFilm, ProbeStandIn)}
