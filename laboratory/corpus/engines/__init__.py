"""Text-to-speech engines that know their phone times, behind one interface.

``available()`` gives those that are installed; none is a dependency of the package.
"""

from __future__ import annotations

import logging

from .base import Engine, Speech, Voice
from .espeak import Espeak
from .festival import Festival
from .flite import Flite
from .hibari import Hibari

__all__ = ["Engine", "Speech", "Voice", "ENGINES", "available"]

ENGINES = {engine.name: engine for engine in (Espeak, Flite, Hibari, Festival)}
_log = logging.getLogger(__name__)


def available(names=None) -> dict[str, Engine]:
    """The installed engines among ``names`` (all by default), ready to speak; the missing ones are logged."""
    found: dict[str, Engine] = {}
    for name in ENGINES if names is None else names:
        try:
            found[name] = ENGINES[name]()
        except (ImportError, OSError) as missing:
            _log.info("Text-to-speech engine %s is left out: %s", name, missing)
    return found
