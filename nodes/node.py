"""What all nodes have in common: numbers of any kind over a wire, and notes about widgets that do nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..playmate_core.runtime.errors import PlaymateError
from .host import tell
from .values import plain_number

NUMBERS = ("INT", "FLOAT", "BOOLEAN")


class Node(io.ComfyNode):
    """A node of this pack.

    ``execute`` gets plain Python numbers for INT, FLOAT and BOOLEAN, whatever another pack sends; what an earlier run
    told on the node is taken away before it starts.

    ``validate_inputs`` names the inputs that it judges and returns a sentence or raises PlaymateError. ComfyUI would
    report a returned sentence once for every input that is named, and one that is raised once: so it is raised where
    several are judged together.
    """

    def __init_subclass__(cls, **more) -> None:
        super().__init_subclass__(**more)
        own = cls.__dict__.get("execute")
        # ComfyUI copies a class for every run, with what is wrapped already.
        if own is not None and not hasattr(own.__func__, "__wrapped__"):
            cls.execute = classmethod(_with_plain_values(own.__func__))
        own = cls.__dict__.get("validate_inputs")
        if own is not None and not hasattr(own.__func__, "__wrapped__"):
            cls.validate_inputs = classmethod(_reported_once(own.__func__, cls))

    @classmethod
    def idle(cls, given: Mapping[str, Any], *widgets: tuple[bool, Sequence[str] | str, str]) -> list[str]:
        """A sentence for each group of widgets that were set and do nothing now.

        Args:
            given: the values of inputs by id.
            widgets: (whether they do nothing now, their ids, why: the end of "crossfade does nothing ...").
        """
        defaults = {entry.id: getattr(entry, "default", None) for entry in cls.define_schema().inputs}
        notes = []
        for without_effect, names, why in widgets:
            names = [names] if isinstance(names, str) else names
            changed = [name for name in names if name in given and given[name] != defaults[name]]
            if without_effect and changed:
                shown = " and ".join([", ".join(changed[:-1]), changed[-1]] if changed[1:] else changed)
                notes.append(f"{shown} {'do' if changed[1:] else 'does'} nothing {why}.")
        return notes


def verdict(*wrong: str | None) -> bool | str:
    """What ``validate_inputs`` says: the first sentence that there is, or True."""
    return next((sentence for sentence in wrong if sentence), True)


def say(notes: Sequence[str]) -> None:
    """Shows notes on the node that is running; with none, nothing is changed."""
    if notes:
        tell(" ".join(notes))


def _with_plain_values(execute):
    kinds: dict[str, str] = {}

    @functools.wraps(execute)
    def wrapped(cls, *args, **given):
        if not kinds:
            kinds.update({entry.id: _kind(entry) for entry in cls.define_schema().inputs})
        tell(None)
        return execute(cls, *args, **{name: plain_number(value, kinds[name], name) if kinds.get(name) in NUMBERS
                                      else value for name, value in given.items()})

    return wrapped


def _reported_once(validate, node: type):
    @functools.wraps(validate)
    def wrapped(cls, *args, **given):
        try:
            told = _beyond(cls, given) or validate(cls, *args, **given)
        except PlaymateError as error:
            told = str(error)
        # ComfyUI calls it on a copy of the class, with those inputs that are named and there.
        if isinstance(told, str) and cls is not node and len(given) > 1:
            raise PlaymateError(told)
        return told

    setattr(wrapped, "__signature__", inspect.signature(validate))  # noqa: B010 (ComfyUI reads the names off it)
    return wrapped


def _beyond(cls, given: Mapping[str, Any]) -> str | None:
    """About a number beyond its widget's limits: ComfyUI leaves those that ``validate_inputs`` names to it."""
    for entry in cls.define_schema().inputs:
        low, high, value = (getattr(entry, "min", None), getattr(entry, "max", None), given.get(entry.id))
        if isinstance(value, (int, float)) and None not in (low, high) and not low <= value <= high:
            return f"{entry.id} is {value:g}, which is outside {low:g} to {high:g}."
    return None


def _kind(entry) -> str:
    kind = getattr(entry, "get_io_type", None)
    return str(kind()) if kind else ""
