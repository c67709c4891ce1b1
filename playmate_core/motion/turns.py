"""Who speaks when, as people write it: ``"0 A; 3.2 B; 5 A"``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Sequence

from .schedule import Schedule, Word

EXAMPLE = "0 1; 3.2 2; 5 1"
NOBODY = ("-", "nobody", "none", "silence")
ALL = ("all", "both")
MOST = 26
"""Speakers: as many as there are letters."""


@dataclass(frozen=True)
class Turns:
    """Speakers by time.

    Attributes:
        starts: (seconds, numbers of those who speak from then on, counted from 0) in order of time; before the first
            nobody speaks.
        speakers: how many there are.
    """

    starts: tuple[tuple[float, frozenset[int]], ...]
    speakers: int

    @staticmethod
    def parse(text: str, names: Sequence[str] | int = 2) -> Turns:
        """Reads ``"0 A; 3.2 B; 5 A"``: a time ("1.5", "1.5s", "0:01.5"), then who speaks from then on, separated by
        semicolons or line ends, in any order of time.

        Args:
            text: what the user wrote.
            names: what the speakers are called, in order, or how many they are. Each also answers to its number
                counted from 1 and its letter. Several at once are joined by "+"; "-" is nobody, "all" is everybody.

        Raises:
            PlaymateError: anything else; the sentence quotes the piece and says where it stands.
        """
        given = [""] * names if isinstance(names, int) else list(names)
        schedule = Schedule.of(text, "turns", EXAMPLE)
        known = _names(given)
        found: dict[float, frozenset[int]] = {}
        for entry in schedule.entries():
            if entry.seconds is None or entry.seconds < 0:
                raise schedule.mistake(Word(entry.text.split()[0], entry.at),
                                       "is no time, 0 or later, such as 1.5 or 0:01.5")
            if not entry.rest.text:
                raise schedule.mistake(Word(entry.text, entry.at), "names nobody who speaks (- is nobody)")
            who: set[int] = set()
            for piece in re.finditer(r"[^+]+", entry.rest.text):
                name = piece[0].strip()
                at = entry.rest.at + piece.start() + len(piece[0]) - len(piece[0].lstrip())
                if name.lower() in ALL:
                    who.update(range(len(given)))
                elif name.lower() in known:
                    who.add(known[name.lower()])
                elif name.lower() not in NOBODY:
                    raise schedule.mistake(Word(name or entry.rest.text, at),
                                           f"is none of the speakers {_listed(given)}")
            if entry.seconds in found:
                raise schedule.mistake(Word(entry.text, entry.at), f"sets the speaker of {entry.seconds:g} s again")
            found[entry.seconds] = frozenset(who)
        if not found:
            raise schedule.mistake(Word(schedule.text.strip(), 0), "holds no turn")
        return Turns(tuple(sorted(found.items(), key=lambda turn: turn[0])), len(given))

    def spans(self, speaker: int, duration: float) -> list[tuple[float, float]]:
        """When a speaker speaks within ``duration`` seconds: (begin, end) in order, neighbours joined."""
        ends = [at for at, _ in self.starts[1:]] + [duration]
        spans: list[tuple[float, float]] = []
        for (begin, who), end in zip(self.starts, ends, strict=True):
            begin, end = min(begin, duration), min(end, duration)
            if speaker not in who or end <= begin:
                continue
            if spans and spans[-1][1] >= begin:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((begin, end))
        return spans


def _names(given: Sequence[str]) -> dict[str, int]:
    """Who is meant by what: names go before letters, and those before numbers."""
    known: dict[str, int] = {}
    letters = "abcdefghijklmnopqrstuvwxyz"[:len(given)]
    for number in range(len(given)):
        known.setdefault(str(number + 1), number)
    for number, letter in enumerate(letters):
        known[letter] = number
    for number, name in enumerate(given):
        if name.strip() and not name.strip().isdigit():
            known[name.strip().lower()] = number
    return known


def _listed(given: Sequence[str]) -> str:
    shown = [f"{number + 1}" + (f" ({name})" if name.strip() and not name.strip().isdigit() else "")
             for number, name in enumerate(given)]
    return ", ".join(shown)
