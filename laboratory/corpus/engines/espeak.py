"""espeak-ng through its library: more than a hundred languages, sample-exact phone events, a thousand times real time.

The program is GPL-3; it is called, not linked, and the speech that it makes is free.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from playmate_core.evaluation.phones import from_ipa

from .base import Speech, Voice

_SYNCHRONOUS, _PHONEME_EVENTS, _IPA = 2, 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_LIST_END, _PHONEME = 0, 7
_WORDS_A_MINUTE = 165

LANGUAGES = {
    "en": ["en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-029", "en-us-nyc", "en-gb-x-gbcwmd"],
    "de": ["de"], "fr": ["fr", "fr-be", "fr-ch"], "es": ["es", "es-419"], "it": ["it"], "pt": ["pt-br", "pt"],
    "pl": ["pl"], "ru": ["ru"], "zh": ["cmn"], "hi": ["hi"], "cs": ["cs"], "nl": ["nl"], "sv": ["sv"], "tr": ["tr"],
    "id": ["id"], "el": ["el"], "hu": ["hu"], "ro": ["ro"], "fi": ["fi"], "sw": ["sw"],
}
VARIANTS = ["", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6", "+m7", "+m8", "+f1", "+f2", "+f3", "+f4", "+f5",
            "+klatt", "+klatt2", "+klatt3", "+klatt4"]


class _Name(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("unique_identifier", ctypes.c_uint), ("text_position", ctypes.c_int),
                ("length", ctypes.c_int), ("audio_position", ctypes.c_int), ("sample", ctypes.c_int),
                ("user_data", ctypes.c_void_p), ("id", _Name)]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _load_apart(name: str) -> ctypes.CDLL:
    """The library with globals of its own.

    What espeak says depends on all that it said before: the voice's tremble runs on in a global that nothing sets
    back. The loader gives a copy of the file globals of its own. Only Linux tells where the file lies; elsewhere the
    common instance is used, and only a new process repeats itself.
    """
    common = ctypes.CDLL(name)
    maps = Path("/proc/self/maps")
    mapped = maps.read_text().splitlines() if maps.is_file() else []
    path = next((line.split()[-1] for line in mapped if "libespeak-ng" in line), None)
    if path is None:
        return common
    with tempfile.NamedTemporaryFile(suffix=".so") as copy:
        shutil.copyfile(path, copy.name)
        return ctypes.CDLL(copy.name)


def _seed_noise(seed: int) -> None:
    """Breath and hiss come from the C library's rand()."""
    try:
        ctypes.CDLL(None).srand(seed)
    except (OSError, AttributeError, TypeError):  # a system without a common C library: nothing to seed
        return


class Espeak:
    """See :class:`.base.Engine`.

    The same sentences in the same order sound the same on every new instance, so one is made for every shard.
    """

    name = "espeak"
    remembers = True

    def __init__(self) -> None:
        self._library = _load_apart(ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1")
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _IPA)
        if self._rate <= 0:
            raise OSError("espeak-ng is installed without its data")
        self._sound: list[np.ndarray] = []
        self._events: list[tuple[str, int]] = []
        self._callback = _CALLBACK(self._receive)  # kept: ctypes does not hold a reference
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wave, count: int, events) -> int:
        if wave and count > 0:
            self._sound.append(np.ctypeslib.as_array(wave, (count,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME:
                # Read the union's bytes: a symbol of eight bytes carries no terminating zero.
                raw = ctypes.string_at(ctypes.addressof(events[index].id), 8)
                self._events.append((raw.split(b"\0")[0].decode("utf-8", "replace"), events[index].sample))
            index += 1
        return 0

    def voices(self, language: str) -> list[str]:
        """Every dialect with every speaker variant."""
        return [dialect + variant for dialect in LANGUAGES.get(language, ()) for variant in VARIANTS]

    def say(self, text: str, voice: Voice) -> Speech:
        """Speak; ``pitch`` 0.5..1.5 and ``liveliness`` 0..2 map to espeak's 0..100 scales. Raises OSError."""
        self._sound.clear()
        self._events.clear()
        library = self._library
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise OSError(f"espeak-ng has no voice {voice.name}")
        library.espeak_SetParameter(_RATE, int(_WORDS_A_MINUTE * voice.speed), 0)
        library.espeak_SetParameter(_PITCH, int(np.clip(50 * (voice.pitch * 2 - 1), 0, 99)), 0)
        library.espeak_SetParameter(_RANGE, int(np.clip(50 * voice.liveliness, 0, 99)), 0)
        data = text.encode("utf-8")
        _seed_noise(zlib.crc32(data))
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        if not self._sound:
            raise OSError(f"espeak-ng said nothing for {text[:40]!r}")
        waveform = np.concatenate(self._sound).astype(np.float32) / 32768.0
        phones = []
        ends = [sample for _, sample in self._events[1:]] + [len(waveform)]
        for (symbol, sample), end in zip(self._events, ends, strict=False):
            phones += from_ipa(symbol, sample / self._rate, end / self._rate)
        return Speech(waveform, self._rate, phones)
