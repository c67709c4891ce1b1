"""Save Motion."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..playmate_core.driving.template import write_template
from ..playmate_core.motion.files import save_motion
from . import sockets
from .folders import check_prefix, output_file
from .host import check_cancelled, one_of
from .node import Node, verdict

FORMATS = ["safetensors", "pkl"]


class SaveMotion(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateSaveMotion",
            display_name="Save Motion",
            category=sockets.CATEGORY,
            description="Writes a motion into ComfyUI's output folder, under a new number each time.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion to keep."),
                io.String.Input("filename_prefix", default="motions/Playmate",
                                tooltip="Folder and beginning of the name inside the output folder, with ComfyUI's "
                                        "tokens if wanted: %date:yyyy-MM-dd%, %year%, %Node title.widget%. Load Motion "
                                        "lists what lies in output/motions."),
                io.Combo.Input("format", options=FORMATS, default="safetensors",
                               tooltip="safetensors keeps everything. pkl is a template that LivePortrait and its "
                                       "other ComfyUI nodes can read; one neutral frame is put in front of it."),
            ],
            outputs=[io.String.Output("path", display_name="path", tooltip="The file that was written.")],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None, format=None) -> bool | str:
        if filename_prefix is not None:
            check_prefix(filename_prefix)
        return verdict(one_of(format, FORMATS, "format"))

    @classmethod
    def execute(cls, motion, filename_prefix, format) -> io.NodeOutput:
        check_cancelled()
        path, subfolder = output_file(filename_prefix, f".{format}", getattr(cls, "hidden", None))
        if format == "pkl":
            write_template(motion, path)
        else:
            save_motion(motion, path)
        written = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(str(path), ui={"motions": [written]})
