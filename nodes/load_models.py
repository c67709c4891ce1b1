"""Load Playmate Models."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..playmate_core import pipeline
from ..playmate_core.runtime.acceleration import ACCELERATIONS, NONE
from ..playmate_core.weights.catalogue import find, locate
from . import memory, sockets
from .folders import (
    motion_model_files,
    motion_model_path,
    speech_encoder_folders,
    speech_encoder_path,
    weight_folders,
)
from .host import check_cancelled, one_of
from .node import Node, say, verdict

BUNDLED = "bundled"
PACKS = list(pipeline.PACKS)
DEVICES = ["auto", "cpu"]
AUTO = "auto"


class LoadModels(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateLoadModels",
            display_name="Load Playmate Models",
            category=sockets.CATEGORY,
            description="Loads everything with weights: face finder, speech encoder, motion model and renderer. "
                        "The bundled pack works offline and on the CPU.",
            inputs=[
                io.Combo.Input("pack", options=PACKS, default=BUNDLED,
                               tooltip="Which set of weights. 'bundled' came with the nodes and needs no download. "
                                       "'liveportrait' draws with LivePortrait's networks, 'liveportrait-animal' with "
                                       "those for animals; both need files in models/liveportrait: this node's help "
                                       "page says which."),
                io.Combo.Input("device", options=DEVICES, default="auto",
                               tooltip="Where to compute. 'auto' is the device that ComfyUI itself uses; 'cpu' leaves "
                                       "the graphics card to other models."),
                io.Combo.Input("motion_model", options=[BUNDLED, *motion_model_files()], default=BUNDLED,
                               tooltip="The network that turns speech into motion: the one that came with the nodes "
                                       "('bundled'), or a file in models/playmate: a .safetensors that you trained, "
                                       "or JoyVASA's .pt."),
                io.Combo.Input("speech_encoder", options=[AUTO, *speech_encoder_folders()], default=AUTO, optional=True,
                               tooltip="What listens to the speech. 'auto' is what the motion model was made with; a "
                                       "wav2vec2 or HuBERT folder in models/playmate is only for motion models that "
                                       "were trained on it."),
                io.Combo.Input("acceleration", options=list(ACCELERATIONS), default=NONE, optional=True,
                               tooltip="For long films on a graphics card: 'cuda graphs' repeats recorded launches, "
                                       "'torch.compile' also fuses what LivePortrait's networks do and takes a minute "
                                       "before the first frame. Where one does not work, drawing goes on without it."),
                io.Float.Input("wrinkles", default=1.0, min=0.0, max=2.0, step=0.05, optional=True,
                               tooltip="How much skin creases where an expression pushes it together: between the "
                                       "brows, on the forehead, beside eyes and mouth. 0 none, 1 natural, 2 double. "
                                       "Smooth cartoons get none; only for the 'bundled' pack."),
            ],
            outputs=[sockets.Models.Output("models", display_name="models",
                                           tooltip="The loaded models, for all other Playmate nodes.")],
        )

    @classmethod
    def validate_inputs(cls, pack=None, device=None, motion_model=None, speech_encoder=None,
                        acceleration=None) -> bool | str:
        return verdict(one_of(pack, PACKS, "pack"), one_of(device, DEVICES, "device"),
                      one_of(motion_model, [BUNDLED, *motion_model_files()], "motion_model"),
                      one_of(speech_encoder, [AUTO, *speech_encoder_folders()], "speech_encoder"),
                      one_of(acceleration, ACCELERATIONS, "acceleration"))

    @classmethod
    def fingerprint_inputs(cls, pack, device, motion_model, speech_encoder=AUTO, acceleration=NONE,
                           wrinkles=1.0) -> str:
        files = [] if pack in (None, BUNDLED) else list(find(pack, weight_folders()).values())
        if motion_model not in (None, BUNDLED):
            model = motion_model_path(motion_model)
            files += [model, *pipeline.files_beside(model, speech_encoder in (None, AUTO))]
        if speech_encoder not in (None, AUTO):
            files += sorted(path for path in speech_encoder_path(speech_encoder).iterdir() if path.is_file())
        return ";".join(f"{file}:{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in files)

    @classmethod
    def execute(cls, pack, device, motion_model, speech_encoder=AUTO, acceleration=NONE,
                wrinkles=1.0) -> io.NodeOutput:
        check_cancelled()
        chosen = comfy.model_management.get_torch_device() if device == "auto" else device
        say(cls.idle({"acceleration": acceleration, "wrinkles": wrinkles},
                     (torch.device(chosen).type == "cpu", "acceleration", "on the CPU; it is for graphics cards"),
                     (pack != BUNDLED, "wrinkles", "with LivePortrait's networks, which draw their own")))
        more = {}
        if pack != BUNDLED:
            more["weights"] = locate(pack, weight_folders())
            more["dtype"] = memory.drawing_dtype(chosen)
        if speech_encoder not in (None, AUTO):
            more["speech_encoder"] = speech_encoder_path(speech_encoder)
        path = None if motion_model == BUNDLED else motion_model_path(motion_model)
        if more or path is not None:
            more["host"] = memory.host(chosen)
        if acceleration != NONE:
            more["acceleration"] = acceleration
        if wrinkles != 1.0:
            more["wrinkles"] = wrinkles
        return io.NodeOutput(pipeline.load_models(pack, chosen, motion_model=path, **more))
