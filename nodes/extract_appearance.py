"""Extract Appearance: a portrait made ready to be animated."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core import pipeline
from ..playmate_core.face.manual import mask_box, parse_box, parse_points
from ..playmate_core.runtime.errors import PlaymateError
from . import sockets
from .host import check_cancelled, one_of
from .node import Node, say, verdict
from .values import masks, picture

POLICIES = ["largest", "left", "right", "index"]
MASK = "mask"
"""In place of a box: that of the painted mask."""


class ExtractAppearance(Node):
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
                io.String.Input("face_box", default="", optional=True,
                                tooltip="Where the face is, when none is found: left, top, width and height in pixels, "
                                        "from hairline to chin, such as '120 80 300 340'; or 'mask' for the box around "
                                        "what is painted in the mask. Empty: faces are looked for."),
                io.String.Input("face_points", default="", optional=True,
                                tooltip="More exact than face_box, for animals and drawings: left eye, right eye, tip "
                                        "of the nose, left and right corner of the mouth as the picture shows them, "
                                        "'x y; x y; x y; x y; x y' in pixels. Empty: not used."),
                io.Mask.Input("ground", optional=True,
                              tooltip="Where the ground is transparent: 1 there and 0 on the person, as Load Image's "
                                      "MASK has it of a picture with alpha. Resized to the picture. A picture of 4 "
                                      "channels brings its own. An empty mask counts as none."),
            ],
            outputs=[sockets.Appearance.Output("appearance", display_name="appearance",
                                               tooltip="The portrait and what the renderer needs of it.")],
        )

    @classmethod
    def validate_inputs(cls, face=None, face_box=None, face_points=None) -> bool | str:
        _marks(face_box, face_points, None)
        return verdict(one_of(face, POLICIES, "face"))

    @classmethod
    def execute(cls, models, image, face, face_index, image_index, mask=None, face_box="",
                face_points="", ground=None) -> io.NodeOutput:
        check_cancelled()
        chosen = picture(image, image_index)
        if mask is not None:
            mask = _mask(mask, image_index, chosen.shape[0], chosen.shape[1])
        if ground is not None:
            ground = masks(ground, "ground")
            ground = ground[min(image_index, len(ground) - 1)]
        box, points = _marks(face_box, face_points, mask)
        if _asks_for_mask(face_box) and points is None and mask is None:
            raise PlaymateError("face_box is 'mask', but no mask is painted; connect one, or give the box in pixels.")
        marked = box is not None or points is not None
        notes = cls.idle({"face": face, "face_index": face_index, "face_box": face_box},
                         (marked, ("face", "face_index"), "where face_box or face_points say which face it is"),
                         (not marked and face != "index", "face_index", "unless face is index"),
                         (points is not None, "face_box", "beside face_points, which are more exact"))
        say(notes)
        return io.NodeOutput(pipeline.extract_appearance(models, chosen, policy=face, index=face_index, mask=mask,
                                                         box=box, points=points, ground=ground,
                                                         notify=lambda note: say([*notes, note])))


def _asks_for_mask(face_box: str | None) -> bool:
    return (face_box or "").strip().lower() == MASK


def _marks(face_box: str | None, face_points: str | None, mask):
    """(box [4], points [5, 2]) where they are given, else None."""
    if _asks_for_mask(face_box):
        box = None if mask is None else mask_box(mask)
    else:
        box = parse_box(face_box) if (face_box or "").strip() else None
    return box, parse_points(face_points) if (face_points or "").strip() else None


def _mask(mask, index: int, height: int, width: int):
    """[H, W] of a MASK batch at the picture's size; None for an empty one, which Load Image gives without alpha."""
    from torch.nn.functional import interpolate

    mask = masks(mask)
    mask = mask[min(index, len(mask) - 1)]
    if not bool((mask > 0).any()):
        return None
    return interpolate(mask[None, None], (height, width), mode="nearest")[0, 0]
