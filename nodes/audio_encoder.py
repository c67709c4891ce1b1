"""Audio Encoder: a voice to speech features."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core import pipeline
from . import sockets
from .host import progress
from .node import Node
from .values import sound


class AudioEncoder(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateAudioEncoder",
            display_name="Audio Encoder",
            category=sockets.CATEGORY,
            description="Listens to a voice: turns sound of any rate and length into the speech features that the "
                        "motion model understands.",
            inputs=[
                sockets.Models.Input("models", tooltip="From Load Playmate Models."),
                io.Audio.Input("audio", tooltip="The voice: any sample rate, mono or stereo, any length."),
                io.AudioEncoderOutput.Input(
                    "audio_encoder_output", optional=True,
                    tooltip="Features of the same audio from ComfyUI's own Audio Encoder Encode, in place of the "
                            "pack's encoder. Only for motion models that were trained on such features."),
            ],
            outputs=[sockets.Speech.Output("speech", display_name="speech",
                                           tooltip="Speech features, loudness and pitch, for the sampler.")],
        )

    @classmethod
    def execute(cls, models, audio, audio_encoder_output=None) -> io.NodeOutput:
        report, voice = progress(), sound(audio)
        if audio_encoder_output is None:
            return io.NodeOutput(pipeline.encode_audio(models, voice, progress=report))
        from ..playmate_core.speech.external import external_features

        return io.NodeOutput(external_features(
            voice, audio_encoder_output["encoded_audio"], audio_encoder_output["audio_samples"],
            models.motion.encoder, models.motion.features_dim))
