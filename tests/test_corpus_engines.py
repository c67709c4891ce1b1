"""The corpus: what the engines' own output means, shown on stand-ins that write what the real programs write."""

import ctypes
import stat
import sys
import types

import numpy as np
import pytest

from laboratory.corpus.engines import available, espeak
from laboratory.corpus.engines.base import Voice
from laboratory.corpus.engines.festival import Festival
from laboratory.corpus.engines.flite import Flite
from laboratory.corpus.engines.hibari import Hibari

_WRITE_WAVE = """
import sys, wave
with wave.open(sys.argv[1], "wb") as out:
    out.setnchannels(1); out.setsampwidth(2); out.setframerate(16000); out.writeframes(b"\\0\\x40" * 8000)
"""


def _program(folder, name, lines):
    path = folder / name
    path.write_text("#!/bin/sh\n" + lines)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder at the head of PATH for programs that stand in for the engines."""
    if sys.platform == "win32":
        pytest.skip("the stand-ins are shell scripts")
    writer = tmp_path / "write_wave.py"
    writer.write_text(_WRITE_WAVE)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path, f"{sys.executable} {writer}"


def test_flite_prints_where_phones_end(programs):
    folder, write = programs
    _program(folder, "flite", f"""
for last; do :; done
{write} "$last"
echo "pau:0.1 p:0.2 ae1:0.4 pau:0.5"
echo "$@" > {folder}/said
""")
    speech = Flite().say("pa", Voice("rms", speed=1.25, pitch=2.0))
    assert [(p.kind, round(p.start, 2), p.end) for p in speech.phones] == [
        ("silence", 0.0, 0.1), ("closed", 0.1, 0.2), ("open", 0.2, 0.4), ("silence", 0.4, 0.5)]
    assert speech.seconds == 0.5 and speech.waveform[0] == pytest.approx(0.5)
    said = (folder / "said").read_text()
    assert "duration_stretch=0.800" in said and "int_f0_target_mean=190.0" in said
    _program(folder, "flite", "exit 1\n")
    with pytest.raises(OSError, match="flite failed"):
        Flite().say("pa", Voice("rms"))


def test_festival_writes_segments(programs):
    folder, write = programs
    _program(folder, "festival", f"""
case "$2" in *voice.list*) echo "(ked_diphone el_diphone)"; exit;; esac
target=$(sed -n 's/.*utt.save.wave u "\\(.*\\)".*/\\1/p' "$2")
{write} "$target"
printf 'separator ;\\n#\\n0.1 100 pau\\n0.3 100 m\\n0.5 100 aa\\n' > "$(dirname "$target")/segments"
cp "$2" {folder}/script
""")
    engine = Festival()
    assert engine.voices("en") == ["ked_diphone"], "only what is installed"
    speech = engine.say('ma "(quit)"', Voice("ked_diphone", speed=2.0))
    assert [(p.kind, p.end) for p in speech.phones] == [("silence", 0.1), ("closed", 0.3), ("open", 0.5)]
    script = (folder / "script").read_text()
    assert "Duration_Stretch 0.500" in script and "(quit)" not in script
    _program(folder, "festival", "exit 1\n")
    with pytest.raises(OSError, match="festival failed"):
        engine.say("ma", Voice("ked_diphone"))
    with pytest.raises(OSError, match="none of the voices"):
        Festival()


def _hibari_stand_in(monkeypatch):
    """Modules that answer as hibari, onnx and onnxruntime do: "m" 0.1 s long, "a" 0.2 s, with pads of 0.1 s."""
    frames = 40

    class Tts:
        vocab, model_path, sample_rate = {"m": 1, "a": 2}, "model", 24000

        def phonemize(self, text):
            return text.split("|")

        def ids(self, sentence):
            return [0, *[self.vocab[c] for c in sentence], 0]

    class Session:
        def __init__(self, *args, **kwargs):
            pass

        def run(self, names, inputs):
            filters = np.zeros((1, 601, frames), np.float32)
            durations = np.array([4.0] + [4.0 if i == 1 else 8.0 for i in inputs["ids"][0][1:-1]] + [4.0])
            return [filters] * 5 + [np.full((1, frames), 200.0, np.float32), durations[None]]

    def synth(harmonic, phase, noisy, rest, free, pitch, rng):
        assert harmonic.shape == (601, frames)
        return np.full(12000, pitch[0] / 1000, np.float32)

    class Graph:
        def __init__(self):
            self.graph = types.SimpleNamespace(output=[])

        def SerializeToString(self):
            return b""

    dsp = types.SimpleNamespace(synth=synth)
    onnx = types.SimpleNamespace(
        load=lambda path: Graph(), TensorProto=types.SimpleNamespace(FLOAT=1),
        helper=types.SimpleNamespace(make_tensor_value_info=lambda *a: a))
    runtime = types.SimpleNamespace(SessionOptions=types.SimpleNamespace, InferenceSession=Session)
    for name, module in (("hibari", types.SimpleNamespace(Hibari=Tts, dsp=dsp)), ("onnx", onnx),
                         ("onnxruntime", runtime)):
        monkeypatch.setitem(sys.modules, name, module)


def test_hibari_times_are_moved_by_what_they_are_late(monkeypatch):
    _hibari_stand_in(monkeypatch)
    speech = Hibari().say("ma|ma", Voice("heart", pitch=1.5, tract=0.9))
    assert speech.waveform[0] == pytest.approx(0.3) and speech.seconds == pytest.approx(1.0)
    closed = [p for p in speech.phones if p.kind == "closed"]
    assert [(round(p.start, 3), round(p.end, 3)) for p in closed] == [(0.05, 0.15), (0.55, 0.65)]
    assert all(isinstance(p.start, float) for p in speech.phones)
    with pytest.raises(OSError, match="said nothing"):
        Hibari().say("", Voice("heart"))


class _Library:
    """libespeak-ng as far as it is used: two events and half a second of sound."""

    def __init__(self, rate=22050):
        self.rate, self.parameters = rate, {}

    def espeak_Initialize(self, *arguments):
        return self.rate

    def espeak_SetSynthCallback(self, callback):
        self.callback = callback

    def espeak_SetVoiceByName(self, name):
        return 0 if name == b"en-us" else 1

    def espeak_SetParameter(self, which, value, relative):
        self.parameters[which] = value

    def espeak_Synth(self, text, *arguments):
        self.text = text

    def espeak_Synchronize(self):
        if not self.text:
            return
        sound = (ctypes.c_short * 11025)(*([16384] * 11025))
        events = (espeak._Event * 4)()
        for event, (kind, symbol, sample) in zip(events, ((7, "p", 0), (7, "ɑː", 2205), (1, "", 0)), strict=False):
            event.type, event.sample = kind, sample
            event.id.string = symbol.encode()
        events[3].type = 0
        self.callback(sound, 11025, events)


def test_espeak_events_become_phones(monkeypatch):
    library = _Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    engine = espeak.Espeak()
    speech = engine.say("pa", Voice("en-us", speed=2.0, pitch=1.2, liveliness=0.5))
    assert [(p.kind, round(p.start, 3), round(p.end, 3)) for p in speech.phones] == [
        ("closed", 0.0, 0.1), ("open", 0.1, 0.5)]
    assert speech.waveform[0] == pytest.approx(0.5) and library.parameters == {1: 330, 3: 70, 4: 25}
    with pytest.raises(OSError, match="no voice"):
        engine.say("pa", Voice("klingon"))
    with pytest.raises(OSError, match="said nothing"):
        engine.say("", Voice("en-us"))
    assert "de+f3" in engine.voices("de") and engine.voices("tlh") == []


def test_espeak_repeats_itself_on_a_new_instance():
    if not available(["espeak"]) or not sys.platform.startswith("linux"):
        pytest.skip("espeak-ng is not installed, or not on Linux")
    said = []
    for _ in range(2):
        engine = espeak.Espeak()
        said.append([engine.say(text, Voice("en-us+m7")).waveform for text in ("A map of Peru.", "A map of Peru.")])
    assert not np.array_equal(said[0][0], said[0][1])  # it does remember; else this test proves nothing
    assert all(np.array_equal(a, b) for a, b in zip(*said, strict=True))


def test_espeak_without_its_data_is_left_out(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Library(rate=-1))
    assert available(["espeak"]) == {}
