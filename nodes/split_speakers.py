"""Split Speakers: one recording of a conversation, a sound for each of two speakers."""

from __future__ import annotations

from comfy_api.latest import io

from ..playmate_core.media.gating import channel_of, gated
from ..playmate_core.motion.turns import Turns
from . import sockets
from .host import check_cancelled
from .node import Node, say
from .values import sound


class SplitSpeakers(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PlaymateSplitSpeakers",
            display_name="Split Speakers",
            category=sockets.CATEGORY,
            description="Gives each of two speakers a sound of their own, as long as the recording and silent where "
                        "the other speaks: by times, or by the channels of a stereo recording.",
            inputs=[
                io.Audio.Input("audio", tooltip="The conversation: mixed down with turns below, or in stereo with one "
                                                "speaker a channel."),
                io.String.Input("turns", default="", multiline=True,
                                tooltip="Who speaks from when: '0 1; 3.2 2; 5 1'. A time (1.5, 2s, 0:02), then 1 or 2 "
                                        "(or A, B), all or - for nobody. Empty: the left channel is speaker 1, the "
                                        "right one speaker 2."),
            ],
            outputs=[
                io.Audio.Output("audio_1", display_name="speaker_1", tooltip="What speaker 1 says, for Audio Encoder."),
                io.Audio.Output("audio_2", display_name="speaker_2", tooltip="What speaker 2 says, for Audio Encoder."),
            ],
        )

    @classmethod
    def validate_inputs(cls, turns=None) -> bool | str:
        if turns is not None and turns.strip():
            Turns.parse(turns)
        return True

    @classmethod
    def execute(cls, audio, turns) -> io.NodeOutput:
        check_cancelled()
        waveform, rate = sound(audio)
        if not turns.strip():
            parts = [channel_of(waveform, number) for number in (0, 1)]
        else:
            schedule, seconds = Turns.parse(turns), waveform.shape[-1] / rate
            spans = [schedule.spans(number, seconds) for number in (0, 1)]
            say([f"Speaker {number + 1} has no turn within the {seconds:.2f} seconds of the sound."
                 for number, own in enumerate(spans) if not own])
            parts = [gated(waveform, rate, own) for own in spans]
        return io.NodeOutput(*({"waveform": part[None], "sample_rate": rate} for part in parts))
