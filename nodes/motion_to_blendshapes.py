"""Motion To Blendshapes: any motion as ARKit's 52 numbers, for the programs that animate with them."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..playmate_core.face.arkit import ArkitShapes
from ..playmate_core.face.blendshape_files import FORMATS, blendshape_text, write_text
from ..playmate_core.face.blendshape_motion import blendshapes_from_motion, written_rate
from . import sockets
from .folders import check_prefix, output_file
from .host import check_cancelled, one_of
from .node import Node, verdict


class MotionToBlendshapes(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateMotionToBlendshapes",
            display_name="Motion To Blendshapes",
            category=sockets.CATEGORY,
            description="Reads a motion as ARKit's 52 blendshapes and the head's angles, and writes them into "
                        "ComfyUI's output folder, under a new number each time.",
            inputs=[
                sockets.Motion.Input("motion", tooltip="The motion to read: generated, loaded or from a video."),
                io.String.Input("filename_prefix", default="blendshapes/Playmate",
                                tooltip="Folder and beginning of the name inside the output folder, with ComfyUI's "
                                        "tokens if wanted: %date:yyyy-MM-dd%, %year%, %Node title.widget%. Motion From "
                                        "Blendshapes lists what lies in output/blendshapes."),
                io.Combo.Input("format", options=list(FORMATS), default=FORMATS[0],
                               tooltip="live_link_face is the CSV that Epic's iPhone app writes; csv has seconds, "
                                       "ARKit's names and angles in degrees; json holds the same as lists."),
                io.Float.Input("fps", default=0.0, min=0.0, max=240.0, step=0.001,
                               tooltip="Frames a second to write. 0 is 60 for live_link_face, as the app records, and "
                                       "the motion's own for the others."),
            ],
            outputs=[io.String.Output("path", display_name="path", tooltip="The file that was written."),
                     io.String.Output("text", display_name="text", tooltip="What stands in it.")],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None, format=None) -> bool | str:
        if filename_prefix is not None:
            check_prefix(filename_prefix)
        return verdict(one_of(format, FORMATS, "format"))

    @classmethod
    def execute(cls, motion, filename_prefix, format, fps) -> io.NodeOutput:
        check_cancelled()
        track = blendshapes_from_motion(motion, ArkitShapes.load(), written_rate(motion, format, fps))
        text = blendshape_text(track, format)
        path, subfolder = output_file(filename_prefix, ".json" if format == "json" else ".csv",
                                      getattr(cls, "hidden", None))
        write_text(text, path)
        written = ui.SavedResult(path.name, subfolder, io.FolderType.output)
        return io.NodeOutput(str(path), text, ui={"blendshapes": [written]})
