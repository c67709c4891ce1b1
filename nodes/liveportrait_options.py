"""LivePortrait Options: how LivePortrait's networks apply motion."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from . import sockets
from .host import check_cancelled, one_of, tell
from .node import Node, verdict

MODES = ("relative", "absolute")
REGIONS = ("all", "exp", "pose", "lip", "eyes")
BUNDLED = "The loaded renderer is not LivePortrait's, so these options change nothing."
ANIMAL = "The networks for animals only know stitching and driving_multiplier; the other options change nothing."


class LivePortraitOptions(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateLivePortraitOptions",
            display_name="LivePortrait Options",
            category=sockets.CATEGORY,
            description="How LivePortrait's networks apply motion to a portrait, with LivePortrait's own settings. "
                        "With the bundled pack it changes nothing.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models with a liveportrait pack."),
                io.Combo.Input("motion_mode", options=list(MODES), default=MODES[0],
                               tooltip="relative: the portrait moves on from its own face and pose, as far as the "
                                       "motion departs from its neutral frame. absolute: it takes over the motion's "
                                       "face and pose as they are; for motion of LivePortrait's own (its templates, "
                                       "clips read by its motion extractor), since generated motion counts from shut "
                                       "lips, which LivePortrait's zero is not."),
                io.Combo.Input("animation_region", options=list(REGIONS), default=REGIONS[0],
                               tooltip="What of the motion is applied: all, exp (expression without pose), pose, lip "
                                       "or eyes."),
                io.Boolean.Input("stitching", default=True,
                                 tooltip="Move the keypoints so that neck and shoulders stay where the portrait has "
                                         "them and the crop fits back without a seam."),
                io.Float.Input("driving_multiplier", default=1.0, min=0.0, max=3.0, step=0.05,
                               tooltip="Factor on the whole motion: 1 as it is, 0 none, above 1 exaggerates."),
                io.Boolean.Input("normalize_lips", default=True,
                                 tooltip="Shut lips that the portrait holds open before a motion that speaks. For "
                                         "relative motion."),
                io.Boolean.Input("eye_retargeting", default=False,
                                 tooltip="Let the retargeting network open and shut the eyes as far as the motion "
                                         "does, in proportion to the portrait's own: blinks then shut wholly."),
                io.Boolean.Input("lip_retargeting", default=False,
                                 tooltip="Let the retargeting network open and shut the lips as far as the motion "
                                         "does. Their shapes are then the network's, not the motion's."),
            ],
            outputs=[sockets.Models.Output("liveportrait_models", display_name="models",
                                           tooltip="The same models with these options, for the rendering nodes.")],
        )

    @classmethod
    def validate_inputs(cls, motion_mode=None, animation_region=None) -> bool | str:
        return verdict(one_of(motion_mode, MODES, "motion_mode"), one_of(animation_region, REGIONS, "animation_region"))

    @classmethod
    def execute(cls, models, motion_mode, animation_region, stitching, driving_multiplier, normalize_lips,
                eye_retargeting, lip_retargeting) -> io.NodeOutput:
        from ..playmate_core.render.liveportrait import LivePortraitRenderer
        from ..playmate_core.render.liveportrait.animate import Options

        check_cancelled()
        renderer = models.renderer
        if not isinstance(renderer, LivePortraitRenderer):
            tell(BUNDLED)
            return io.NodeOutput(models)
        options = Options(relative=motion_mode == "relative", region=animation_region, stitching=stitching,
                          normalise_lip=normalize_lips, retarget_eyes=eye_retargeting, retarget_lips=lip_retargeting,
                          multiplier=driving_multiplier)
        known = Options(normalise_lip=True, stitching=stitching, multiplier=driving_multiplier)
        tell(ANIMAL if renderer.animal and options != known else None)
        return io.NodeOutput(replace(models, renderer=renderer.with_options(options)))
