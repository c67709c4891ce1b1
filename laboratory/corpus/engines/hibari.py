"""Hibari (Apache-2.0): natural speech at more than a hundred times real time, made into many people.

One female American voice ships in the package. Its network predicts a source and a filter, so the pitch can be
moved and the frequency axis of the filter stretched: another sex, another age. The durations are a tensor inside
the graph, which is made an output of its own. Measured against other engines the times lie 50 ms late.
"""

from __future__ import annotations

import numpy as np

from playmate_core.evaluation.phones import Phone, from_ipa

from .base import Speech, Voice

_DURATIONS = "/Clip_output_0"
_UNIT = 0.025
_LATE = 0.050


class Hibari:
    """See :class:`.base.Engine`. Raises ImportError where the package, onnx or onnxruntime is missing."""

    name = "hibari"

    def __init__(self) -> None:
        import hibari
        import onnx
        import onnxruntime
        from hibari import dsp

        self._tts, self._dsp = hibari.Hibari(), dsp
        self._symbols = {number: symbol for symbol, number in self._tts.vocab.items()}
        graph = onnx.load(self._tts.model_path)
        graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options,
                                                     providers=["CPUExecutionProvider"])

    def voices(self, language: str) -> list[str]:
        """English only."""
        return ["heart"] if language == "en" else []

    def say(self, text: str, voice: Voice) -> Speech:
        """Speak; ``pitch`` 0.5..1.3 and ``tract`` 0.84..1.12 sound human. Raises OSError."""
        noise = np.random.default_rng(voice.seed)
        sounds: list[np.ndarray] = []
        phones: list[Phone] = []
        start = 0.0
        for sentence in self._tts.phonemize(text):
            ids = self._tts.ids(sentence)
            if len(ids) < 3:
                continue
            inputs = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([voice.speed], np.float32)}
            *parts, durations = self._session.run(None, inputs)
            harmonic, phase, noisy, rest, free, pitch = (part[0] for part in parts)
            if voice.tract != 1.0:
                harmonic, phase, noisy, rest = (_stretch(x, voice.tract) for x in (harmonic, phase, noisy, rest))
            sounds.append(self._dsp.synth(harmonic, phase, noisy, rest, free, pitch * voice.pitch, noise))
            edges = np.concatenate([[0.0], np.cumsum(durations.reshape(-1))]) * _UNIT - _LATE
            edges[0], edges[-1] = 0.0, len(sounds[-1]) / self._tts.sample_rate
            phones += _spell([self._symbols.get(i, "_") if i else "_" for i in ids], np.maximum(edges, 0.0) + start)
            start += len(sounds[-1]) / self._tts.sample_rate
        if not sounds:
            raise OSError(f"hibari said nothing for {text[:40]!r}")
        waveform = np.clip(np.concatenate(sounds), -1.0, 1.0).astype(np.float32)
        return Speech(waveform, self._tts.sample_rate, phones)


def _stretch(filters: np.ndarray, factor: float) -> np.ndarray:
    """[601, F] with its frequency axis stretched by ``factor``."""
    place = np.arange(filters.shape[0]) / factor
    low = np.clip(np.floor(place).astype(int), 0, filters.shape[0] - 2)
    weight = np.clip(place - low, 0.0, 1.0)[:, None].astype(np.float32)
    return np.ascontiguousarray(filters[low] * (1 - weight) + filters[low + 1] * weight)


def _spell(symbols: list[str], edges: np.ndarray) -> list[Phone]:
    """Phones of one sentence; marks lend their time to the sound that they belong to."""
    phones: list[Phone] = []
    borrowed = None
    for symbol, start, end in zip(symbols, edges[:-1], edges[1:], strict=False):
        if symbol in "ˈˌ":  # stress stands before its vowel
            borrowed = start if borrowed is None else borrowed
            continue
        if symbol in "ːʰʲ̃" and phones:
            last = phones[-1]
            phones[-1] = Phone(last.symbol, last.kind, last.start, max(end, last.end))
            continue
        if symbol == " ":
            # A space has its own duration; without a pause the next sound's lips begin inside it.
            if end - start < 0.12:
                borrowed = start if borrowed is None else borrowed
                continue
        phones += from_ipa(symbol, start if borrowed is None else borrowed, end)
        borrowed = None
    return phones
