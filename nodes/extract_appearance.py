"""Extract Appearance: a portrait made ready to be animated."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core import pipeline
from . import sockets
from .host import check_cancelled, one_of, picture

POLICIES = ["largest", "left", "right", "index"]


class ExtractAppearance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateExtractAppearance",
            display_name="Extract Appearance",
            category=sockets.CATEGORY,
            description="Finds the face in a portrait and prepares it for the renderer. Works on photographs, "
                        "paintings, statues and 3D cartoons.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                io.Image.Input("image", tooltip="The portrait, of any size. Grey pictures and pictures with "
                                                "transparency work; of a batch, image_index picks one."),
                io.Combo.Input("face", options=POLICIES, default="largest",
                               tooltip="Which face, if there are several: the largest, the leftmost or the rightmost "
                                       "in the picture, or by number with 'index'."),
                io.Int.Input("face_index", default=0, min=0, max=99,
                             tooltip="With face = index: which face, counted from the left, 0 is the first."),
                io.Int.Input("image_index", default=0, min=0, max=9999,
                             tooltip="Which picture of the batch to take, 0 is the first."),
                io.Mask.Input("mask", optional=True,
                              tooltip="Only a face under this mask is taken. An empty mask counts as none."),
            ],
            outputs=[sockets.Appearance.Output("appearance", display_name="appearance",
                                               tooltip="The portrait and what the renderer needs of it.")],
        )

    @classmethod
    def validate_inputs(cls, face=None) -> bool | str:
        return one_of(face, POLICIES, "face") or True

    @classmethod
    def execute(cls, models, image, face, face_index, image_index, mask=None) -> io.NodeOutput:
        check_cancelled()
        chosen = picture(image, image_index)
        if mask is not None:
            mask = _mask(mask, image_index, chosen.shape[0], chosen.shape[1])
        return io.NodeOutput(pipeline.extract_appearance(models, chosen, policy=face, index=face_index, mask=mask))


def _mask(mask, index: int, height: int, width: int):
    """[H, W] of a MASK batch at the picture's size; None for an empty one, which Load Image gives without alpha."""
    from torch.nn.functional import interpolate

    mask = mask.reshape(-1, *mask.shape[-2:])
    mask = mask[min(index, len(mask) - 1)].float()
    if not bool((mask > 0).any()):
        return None
    return interpolate(mask[None, None], (height, width), mode="nearest")[0, 0]
