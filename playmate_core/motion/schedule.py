"""Schedules as people write them: the one reader of times and values in text.

A schedule is a row of entries, each a time and what counts from then on, separated by semicolons or line ends:
``"0 yaw=0; 0:02.5 yaw=15°"``. What the entries hold is read by those who know it (``keyframes``, ``gaze``,
``emotion.curve``); times, numbers, units and the place of a mistake are read here for all of them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

from ..runtime.errors import PlaymateError

PERCENT, DEGREES = "%", "°"

_ALIKE = str.maketrans({
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d", "-"),  # hyphens, dashes, minus signs
    **dict.fromkeys("\u00ba\u02da\u2218", DEGREES),  # signs that look like a degree sign
    **dict.fromkeys("\u200b\u2060\ufeff", " "),  # spaces without width
    "\u066b": ".", "\u2236": ":",
})

_NUMBER = r"(?:\d+(?:\.\d*|,\d+)?|[.,]\d+)"
_WHOLE_NUMBER = re.compile(rf"[+-]?{_NUMBER}(?:[eE][+-]?\d+)?\Z")
_VALUE = re.compile(rf"([+-]?{_NUMBER}(?:[eE][+-]?\d+)?)\s*(%|percent|°|deg|degs|degree|degrees)?\Z", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}\Z")

_CLOCK = rf"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>{_NUMBER})"
_UNITS = (rf"(?:(?P<h>{_NUMBER})\s*(?:h|hours?))?\s*(?:(?P<m>{_NUMBER})\s*(?:m|mins?|minutes?))?\s*"
          rf"(?:(?P<s>{_NUMBER})\s*(?:s|secs?|seconds?))?\s*(?:(?P<ms>{_NUMBER})\s*(?:ms|msecs?|milliseconds?))?")
_AFTER = r"(?=\s*[:,](?:\s|$)|\s|$)"
_TIME = re.compile(rf"\s*(?P<sign>[+-]?)(?:{_CLOCK}|(?={_NUMBER}\s*[hms]){_UNITS}|(?P<bare>{_NUMBER})){_AFTER}",
                   re.IGNORECASE)
_SEPARATOR = re.compile(r"\s*[:,](?=\s|$)|\s+-(?=\s)")
_WORD = re.compile(r"[^\s=:]*(?:\s*[=:]\s*[^\s=:]*)+(?:\s+(?:%|°|percent|deg(?:ree)?s?)(?=\s|$))?"
                   r"|\S+", re.IGNORECASE)


class Unreadable(ValueError):
    """Why a piece of text is no time or number, as the end of a sentence that quotes it."""


@dataclass(frozen=True)
class Word:
    """A piece of a schedule.

    Attributes:
        text: what it says, without the space around it and around its equals sign.
        at: where it begins in the schedule, counted from 0.
    """

    text: str
    at: int


@dataclass(frozen=True)
class Entry:
    """One entry of a schedule.

    Attributes:
        text: all of it, as it was written.
        at: where it begins in the schedule, counted from 0.
        seconds: its time, or None where it begins with none; below 0 if so written.
        words: what follows the time.
        rest: the same in one piece.
    """

    text: str
    at: int
    seconds: float | None
    words: tuple[Word, ...]
    rest: Word


@dataclass(frozen=True)
class Schedule:
    """A schedule's text, and how to say where in it a mistake is.

    Attributes:
        text: as it was written, with signs that mean the same made one (``plain``).
        name: what it is called in a message, such as "pose keyframes".
        example: how it is written.
    """

    text: str
    name: str
    example: str

    @staticmethod
    def of(text: str, name: str, example: str) -> Schedule:
        """The schedule that a user wrote."""
        return Schedule(plain(text), name, example)

    def entries(self) -> Iterator[Entry]:
        """Its entries in the order in which they are written.

        Raises:
            PlaymateError: a time that can be understood in two ways, or that no clock shows.
        """
        for found in re.finditer(r"[^;\n\r]+", self.text):
            text = found[0].strip()
            if text:
                at = found.start() + len(found[0]) - len(found[0].lstrip())
                yield self._entry(text, at)

    def _entry(self, text: str, at: int) -> Entry:
        try:
            seconds, used = leading_time(text)
        except Unreadable as why:
            raise self.mistake(Word(text.split()[0], at), str(why)) from None
        rest = text[used:]
        words = tuple(Word(re.sub(r"\s*([=:])\s*", r"\1", word[0]), at + used + word.start())
                      for word in _WORD.finditer(rest))
        return Entry(text, at, seconds, words, Word(rest.strip(), at + used + len(rest) - len(rest.lstrip())))

    def mistake(self, piece: Word, why: str) -> PlaymateError:
        """The error that quotes a piece of the schedule and says where it stands."""
        shown = piece.text if len(piece.text) <= 60 else piece.text[:57] + "..."
        return PlaymateError(f'Cannot read the {self.name}{self._place(piece.at)}: "{shown}" {why}; write them like '
                             f'"{self.example}".')

    def _place(self, at: int) -> str:
        if not self.text.strip():
            return ""
        before = self.text[:at]
        column = at - (before.rfind("\n") + 1) + 1
        return f", line {before.count(chr(10)) + 1}, character {column}" if "\n" in self.text.strip() \
            else f" at character {column}"


def keyframes(schedule: Schedule, axes: Sequence[str], value: Callable[[str, str], float],
              nothing: str) -> dict[str, tuple[tuple[float, float], ...]]:
    """Entries of the form ``time axis=value axis=value``, in any order of time.

    Args:
        schedule: the text.
        axes: names that may stand before the equals sign, in either case.
        value: the number that ``(axis, text)`` stands for; raises Unreadable.
        nothing: what is wrong with an entry that is only a time.

    Returns:
        For each axis that is named, in the order of ``axes``, its (seconds, value) pairs in order of time.

    Raises:
        PlaymateError: anything else; the sentence quotes the piece and says where it stands.
    """
    found: dict[str, dict[float, float]] = {}
    for entry in schedule.entries():
        if entry.seconds is None or entry.seconds < 0:
            raise schedule.mistake(Word(entry.text.split()[0], entry.at),
                                   "is no time, 0 or later, such as 1.5 or 0:01.5")
        if not entry.words:
            raise schedule.mistake(Word(entry.text, entry.at), nothing)
        for word in entry.words:
            axis, equals, written = re.match(r"([^=:]*)([=:]?)(.*)", word.text, re.DOTALL).groups()
            axis = axis.lower()
            if not equals or axis not in axes:
                raise schedule.mistake(word, f"is not axis=value with an axis among {', '.join(axes)}")
            try:
                amount = value(axis, written)
            except Unreadable as why:
                raise schedule.mistake(word, str(why)) from None
            points = found.setdefault(axis, {})
            if entry.seconds in points:
                raise schedule.mistake(word, f"sets {axis} a second time at {entry.seconds:g} s")
            points[entry.seconds] = amount
    if not found:
        raise schedule.mistake(Word(schedule.text.strip(), 0), "holds no keyframe")
    return {axis: tuple(sorted(found[axis].items())) for axis in axes if axis in found}


def plain(text: str) -> str:
    """Text with signs that mean the same made one, letter by letter: places in it stay where they are.

    Full-width letters, digits and punctuation, dashes and minus signs, no-break and other spaces, degree signs.
    """
    letters = []
    for letter in text.translate(_ALIKE):
        same = unicodedata.normalize("NFKC", letter)
        letters.append(same if len(same) == 1 else letter)
    return "".join(letters)


def number(text: str) -> float:
    """A number as written: ``2``, ``.5``, ``1e3``, ``-0,25``.

    Raises:
        Unreadable: something else, or a comma that may stand between thousands as well.
    """
    text = plain(text).strip()
    if not _WHOLE_NUMBER.match(text):
        raise Unreadable("is no number")
    if _THOUSANDS.match(text):
        point = text.replace(",", ".")
        raise Unreadable(f"may be {float(point):g} or {float(text.replace(',', '')):g}, so say which with a point")
    value = float(text.replace(",", "."))
    if value in (float("inf"), float("-inf")):
        raise Unreadable("is too large a number")
    return value


def measure(text: str) -> tuple[float, str]:
    """A number and its unit: ``80%`` is (80, PERCENT), ``10 deg`` and ``10°`` are (10, DEGREES), ``0.5`` has none ("").

    Raises:
        Unreadable: as ``number``.
    """
    found = _VALUE.match(plain(text).strip())
    if found is None:
        raise Unreadable("is no number")
    unit = (found[2] or "").lower()
    return number(found[1]), "" if not unit else PERCENT if unit in ("%", "percent") else DEGREES


def seconds(text: str) -> float:
    """A time in seconds: ``2``, ``2.5s``, ``500 ms``, ``1m30s``, ``0:02``, ``1:02.5``, ``1:00:02``.

    Raises:
        Unreadable: something else.
    """
    text = plain(text).strip()
    value, used = leading_time(text)
    if value is None or text[used:].strip():
        raise Unreadable("is no time")
    return value


def leading_time(text: str) -> tuple[float | None, int]:
    """(seconds, how many letters they take) of the time that plain ``text`` begins with; (None, 0) if there is none.

    Raises:
        Unreadable: a time that can be understood in two ways, or that no clock shows.
    """
    found = _TIME.match(text)
    if found is None:
        return None, 0
    part, end = found.groupdict(), found.end()
    if part["bare"] is not None:
        value = number(part["bare"])
    elif part["minutes"] is not None:
        value = number(part["seconds"])
        minutes = int(part["minutes"])
        if value >= 60 or (part["hours"] is not None and minutes >= 60):
            raise Unreadable("is no time that a clock shows")
        value += 60 * minutes + 3600 * int(part["hours"] or 0)
    else:
        value = sum(number(part[name]) * size for name, size in (("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001))
                    if part[name] is not None)
    separator = _SEPARATOR.match(text, end)
    return -value if part["sign"] == "-" else value, end if separator is None else separator.end()
