"""What every reader of foreign files raises."""

from __future__ import annotations


class Unreadable(Exception):
    """The file is damaged, foreign or hostile; the message completes "NAME is refused because it ..."."""
