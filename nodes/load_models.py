"""Load Playmate Models."""

from __future__ import annotations

import comfy.model_management
from comfy_api.latest import io

from ..playmate_core import pipeline
from . import sockets
from .folders import motion_model_files, motion_model_path
from .host import check_cancelled, one_of

PACKS = ["bundled"]
DEVICES = ["auto", "cpu"]
BUNDLED = "bundled"


class LoadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateLoadModels",
            display_name="Load Playmate Models",
            category=sockets.CATEGORY,
            description="Loads everything with weights: face finder, speech encoder, motion model and renderer. "
                        "The bundled pack works offline and on the CPU.",
            inputs=[
                io.Combo.Input("pack", options=PACKS, default="bundled",
                               tooltip="Which set of weights. 'bundled' came with the nodes and needs no download."),
                io.Combo.Input("device", options=DEVICES, default="auto",
                               tooltip="Where to compute. 'auto' is the device that ComfyUI itself uses; 'cpu' leaves "
                                       "the graphics card to other models."),
                io.Combo.Input("motion_model", options=[BUNDLED, *motion_model_files()], default=BUNDLED,
                               tooltip="The network that turns speech into motion: the pack's own ('bundled') or a "
                                       ".safetensors that you trained and put into models/playmate."),
            ],
            outputs=[sockets.Models.Output("models", display_name="models",
                                           tooltip="The loaded models, for all other Playmate nodes.")],
        )

    @classmethod
    def validate_inputs(cls, pack=None, device=None, motion_model=None) -> bool | str:
        return one_of(pack, PACKS, "pack") or one_of(device, DEVICES, "device") \
            or one_of(motion_model, [BUNDLED, *motion_model_files()], "motion_model") or True

    @classmethod
    def fingerprint_inputs(cls, pack, device, motion_model) -> str:
        if motion_model in (None, BUNDLED):
            return ""
        state = motion_model_path(motion_model).stat()
        return f"{state.st_mtime_ns}:{state.st_size}"

    @classmethod
    def execute(cls, pack, device, motion_model) -> io.NodeOutput:
        check_cancelled()
        chosen = comfy.model_management.get_torch_device() if device == "auto" else device
        path = None if motion_model == BUNDLED else motion_model_path(motion_model)
        return io.NodeOutput(pipeline.load_models(pack, chosen, motion_model=path))
