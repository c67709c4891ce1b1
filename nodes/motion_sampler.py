"""Motion Diffusion Sampler: speech to motion latents."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..playmate_core import pipeline
from . import sockets
from .host import one_of, progress
from .node import Node, say

SCHEDULERS = ["dpmsolver++", "ddim", "ancestral"]


class MotionSampler(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateMotionSampler",
            display_name="Motion Diffusion Sampler",
            category=sockets.CATEGORY,
            description="The diffusion model: makes lips, eyes, brows and head move with the voice. Another seed is "
                        "another performance of the same words.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                sockets.Speech.Input("speech", tooltip="From Audio Encoder."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="The same seed gives the same motion, on every device."),
                io.Int.Input("steps", default=10, min=1, max=100,
                             tooltip="Denoising steps. 8 to 20 are enough; more costs time and changes little."),
                io.Combo.Input("scheduler", options=SCHEDULERS, default="dpmsolver++",
                               tooltip="How the motion is worked out of noise: dpmsolver++ needs fewer steps, ddim is "
                                       "the classic. ancestral is for JoyVASA's models alone: their published way, all "
                                       "50 steps."),
                io.Float.Input("audio_guidance", default=0.0, min=0.0, max=10.0, step=0.1,
                               tooltip="How strongly the voice pulls the face: 1 is plain, 1.5 to 3 articulates more. "
                                       "0 takes the value that came with the motion model."),
                io.Float.Input("head_motion", default=1.0, min=0.0, max=3.0, step=0.05,
                               tooltip="How much the head moves: 0 holds it still, 1 is natural, 2 is lively."),
                io.Float.Input("fps", default=25.0, min=1.0, max=120.0, step=0.001, display_name="fps",
                               tooltip="Frames a second of the result. The number of frames is the voice's length "
                                       "times fps, rounded."),
                sockets.Appearance.Input("appearance", optional=True,
                                         tooltip="Whose face it is, from Extract Appearance. Without it an average "
                                                 "face is assumed."),
                sockets.Emotion.Input("emotion", optional=True,
                                      tooltip="What the head feels, from Emotion Control. Without it: neutral."),
                io.Float.Input("emotion_guidance", default=0.0, min=0.0, max=3.0, step=0.1, optional=True,
                               tooltip="How strongly the emotion pulls the face: 1 is plain, 1.5 to 3 shows it more. "
                                       "0 takes the value that came with the motion model. Strength, in Emotion "
                                       "Control, says how much is felt; this, how clearly it shows."),
            ],
            outputs=[sockets.Motion.Output("motion", display_name="motion",
                                           tooltip="Expression and head pose of every frame: edit it, save it, or "
                                                   "draw it with Render Video.")],
        )

    @classmethod
    def validate_inputs(cls, scheduler=None) -> bool | str:
        return one_of(scheduler, SCHEDULERS, "scheduler") or True

    @classmethod
    def execute(cls, models, speech, seed, steps, scheduler, audio_guidance, head_motion, fps, appearance=None,
                emotion=None, emotion_guidance=0.0) -> io.NodeOutput:
        curve = pipeline.emotion_curve(emotion, speech)
        note = pipeline.emotion_note(models, curve)
        said = cls.idle({"emotion_guidance": emotion_guidance},
                        (curve is None or not models.motion.has_emotion_head, "emotion_guidance",
                         "without an emotion that the motion model itself draws"))
        say([*said, note] if note else said)
        motion = pipeline.generate_motion(
            models, speech, appearance, seed=seed, steps=steps, scheduler=scheduler,
            audio_guidance=audio_guidance or None, head_motion=head_motion, fps=fps, emotion=curve,
            emotion_guidance=emotion_guidance or None, progress=progress())
        return io.NodeOutput(motion, ui=ui.PreviewText(note) if note else None)
