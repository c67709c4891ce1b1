"""Dates and widgets' values in file names, as ComfyUI writes them: ``%date:yyyy-MM-dd%``, ``%Load Image.image%``.

The front end fills these in for core's own saving nodes only, and nobody does for prompts that come over the API; what
core itself fills in (``%year%`` and the like) is left to it. A token that says nothing known stays as it is written,
without the characters that no file name may hold.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(r"%([^%\n]+)%")
_DATE_PARTS = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")
_FORBIDDEN = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_SLOTS = {"M": "tm_mon", "d": "tm_mday", "h": "tm_hour", "m": "tm_min", "s": "tm_sec"}


def filled(prefix: str, prompt: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None,
           now: time.struct_time | None = None) -> str:
    """A file name's beginning with its tokens filled in.

    Args:
        prefix: what the user wrote.
        prompt: nodes by id, as ComfyUI runs them: ``class_type``, ``inputs``, and their titles in ``_meta``.
        extra: what the front end sends along; its workflow holds the names that nodes have there.
        now: local time; None is the present.
    """
    now = now or time.localtime()

    def value(found: re.Match) -> str:
        name, _, widget = found[1].partition(".")
        if found[1].startswith("date:"):
            return _FORBIDDEN.sub("_", _date(found[1][5:], now))
        told = _widget(name, widget, prompt or {}, extra or {}) if widget else None
        if told is not None:
            return _FORBIDDEN.sub("_", told)
        return f"%{_FORBIDDEN.sub('_', found[1])}%"

    return _TOKEN.sub(value, prefix)


def without_tokens(prefix: str) -> str:
    """The same with a letter in place of each token, to judge the rest before anything is known."""
    return _TOKEN.sub("x", prefix)


def _date(form: str, now: time.struct_time) -> str:
    def part(found: re.Match) -> str:
        letters = found[0]
        if letters[0] == "y":
            return f"{now.tm_year:04}"[-len(letters):]
        return str(getattr(now, _SLOTS[letters[0]])).zfill(len(letters))

    return _DATE_PARTS.sub(part, form)


def _widget(name: str, widget: str, prompt: Mapping[str, Any], extra: Mapping[str, Any]) -> str | None:
    """The value of a widget of the node that is called ``name``: in "Node name for S&R", by its title, or by type."""
    workflow = extra.get("workflow") if isinstance(extra, Mapping) else None
    drawn = (workflow or {}).get("nodes") or []
    named = [str(node.get("id")) for node in drawn
             if (node.get("properties") or {}).get("Node name for S&R") == name]
    titled = [str(node.get("id")) for node in drawn if node.get("title") == name]
    titled += [key for key, node in prompt.items() if (node.get("_meta") or {}).get("title") == name]
    typed = [key for key, node in prompt.items() if node.get("class_type") == name]
    for key in (*named, *titled, *typed):
        value = (prompt.get(key) or {}).get("inputs", {}).get(widget)
        # A list is a wire; its value is not known by name.
        if value is not None and not isinstance(value, list):
            return str(value)
    return None
