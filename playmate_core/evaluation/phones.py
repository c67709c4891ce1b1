"""What phones ask of the lips, whatever alphabet an engine writes them in.

Engines write ARPABET (Flite, Festival) or the International Phonetic Alphabet (espeak-ng, Hibari). The corpus needs
much less than a phone: whether the lips must touch, whether the lower lip meets the teeth, how round or spread they
are and how far the mouth must at least open.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENCE, CLOSED, DENTAL_LIP, ROUND, OPEN_ROUND, OPEN, MID, SPREAD, OTHER = (
    "silence", "closed", "labiodental", "round", "open-round", "open", "mid", "spread", "other")


@dataclass(frozen=True)
class Phone:
    """One phone in time.

    Attributes:
        symbol: as the engine wrote it.
        kind: one of the module's classes of articulation.
        start, end: seconds from the start of the sound, end > start.
    """

    symbol: str
    kind: str
    start: float
    end: float

    @property
    def centre(self) -> float:
        """Seconds."""
        return 0.5 * (self.start + self.end)


_IPA = {
    CLOSED: "pbmɓɱʙ",
    DENTAL_LIP: "fvʋⱱ",
    ROUND: "wuyʃʒʧʤɥʍʊʉɕʑʂʐʏɸβ",
    OPEN_ROUND: "oɔɒøœɵOQɞɶ",
    OPEN: "aɑæɐʌAIWɜä",
    MID: "eɛəɘɚɝᵊᵻ",
    SPREAD: "iɪɨjszθðtdTlɾɯ",
    OTHER: "nŋɳɲɴkgɡhɦxɣχʁɹɻrɽʀcɟqʔʎɭʝçħʕɬʟɰYɖʈɢɫʱɗɠʄʛɺɮSZ",
}
_IPA_KIND = {symbol: kind for kind, symbols in _IPA.items() for symbol in symbols}
# Hibari's one-letter diphthongs; the rest of its alphabet is the usual one.
_IPA_PARTS = {"A": (MID, SPREAD), "I": (OPEN, SPREAD), "O": (OPEN_ROUND, ROUND), "Q": (OPEN_ROUND, ROUND),
              "W": (OPEN, ROUND), "Y": (OPEN_ROUND, SPREAD)}

_ARPABET = {
    CLOSED: "P B M EM", DENTAL_LIP: "F V", ROUND: "W UW UH SH ZH CH JH", OPEN_ROUND: "AO OW OY",
    OPEN: "AA AE AH AW AY", MID: "AX EH ER AXR EY", SPREAD: "IH IY S Z TH DH T D DX L EL Y IX",
    OTHER: "N NG EN NX K G HH HV R", SILENCE: "SIL PAU H# BRTH SSIL SP",
}
_ARPABET_KIND = {symbol: kind for kind, symbols in _ARPABET.items() for symbol in symbols.split()}
_ARPABET_PARTS = {"AY": (OPEN, SPREAD), "AW": (OPEN, ROUND), "OY": (OPEN_ROUND, SPREAD), "OW": (OPEN_ROUND, ROUND),
                  "EY": (MID, SPREAD)}
VOWELS = frozenset((OPEN, OPEN_ROUND, MID))


def from_arpabet(symbol: str, start: float, end: float) -> list[Phone]:
    """The parts of an ARPABET phone (stress digits are dropped); an unknown symbol is :data:`OTHER`."""
    name = symbol.upper().rstrip("012")
    kinds = _ARPABET_PARTS.get(name) or (_ARPABET_KIND.get(name, OTHER),)
    return _share(symbol, kinds, start, end)


def from_ipa(symbol: str, start: float, end: float) -> list[Phone]:
    """The parts of an IPA string, which share its time evenly.

    Marks of stress, length and voicing are ignored; an empty or wordless string is :data:`SILENCE`. A stop that
    glides into a fricative ("tʃ") has the lips of the fricative from its start.
    """
    kinds: list[str] = []
    for letter in symbol:
        if letter in _IPA_PARTS:
            kinds.extend(_IPA_PARTS[letter])
        elif letter in _IPA_KIND:
            kinds.append(_IPA_KIND[letter])
    if symbol.strip("ˈˌː͡|") in ("tʃ", "dʒ", "tɕ", "dʑ", "tʂ", "dʐ"):
        kinds = [ROUND]
    if not kinds:
        kinds = [SILENCE if not any(letter.isalpha() for letter in symbol) else OTHER]
    return _share(symbol, kinds, start, end)


def _share(symbol: str, kinds, start: float, end: float) -> list[Phone]:
    if end <= start:
        return []
    step = (end - start) / len(kinds)
    return [Phone(symbol, kind, start + i * step, start + (i + 1) * step) for i, kind in enumerate(kinds)]


def shift(phones: list[Phone], seconds: float, factor: float = 1.0) -> list[Phone]:
    """The phones with their times multiplied by ``factor`` and then moved by ``seconds``."""
    return [Phone(p.symbol, p.kind, p.start * factor + seconds, p.end * factor + seconds) for p in phones]


def merge(phones: list[Phone]) -> list[Phone]:
    """Neighbours of silence or of closed lips become one phone, since the lips do not move between them."""
    merged: list[Phone] = []
    for phone in phones:
        last = merged[-1] if merged else None
        if last and last.kind == phone.kind and phone.kind in (SILENCE, CLOSED) and phone.start - last.end < 0.02:
            merged[-1] = Phone(last.symbol, last.kind, last.start, phone.end)
        else:
            merged.append(phone)
    return merged
