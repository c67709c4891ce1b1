"""Whether the end of a file is missing.

Lengths in seconds prove nothing: many are estimates, and pictures and sound of whole files end at different times. But
a box, a chunk or a segment says how many bytes it has, and a file that ends before them was cut off.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from .container import MediaFile

_UNKNOWN = 2**31 - 2**16
"""Sizes from here on are what recorders write that do not know how long they will run."""
_HEAD = 1 << 16
_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"sidx", b"styp", b"uuid", b"mfra", b"meta",
          b"pnot", b"udta"}


def missing_bytes(source: MediaFile) -> int:
    """Bytes by which the file is shorter than it says, 0 where it is whole or does not say."""
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                return max(_promised(file) - file.seek(0, 2), 0)
        size = source.seek(0, 2)
        return max(_promised(source) - size, 0)
    except (OSError, ValueError):
        return 0


def _promised(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(_HEAD)
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] in (b"WAVE", b"AVI "):
        size = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
        return 8 + size if 0 < size < _UNKNOWN else 0
    if head[4:8] in _BOXES:
        return _boxes(file)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _segment(head)
    if head[:4] == b"\x30\x26\xb2\x75":
        return _windows_media(head)
    return _mp3(file, head)


def _boxes(file: BinaryIO) -> int:
    """MP4 and MOV: where the last box ends."""
    at, size = 0, file.seek(0, 2)
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # to the end of the file
            return size
        if length < 8 or not all(32 <= byte < 127 or byte == 0xA9 for byte in head[4:8]):
            return at  # something else lies behind the last box
        at += length
    return at


def _segment(head: bytes) -> int:
    """Matroska and WebM: where the segment ends; live recordings leave its size open."""
    at = head.find(b"\x18\x53\x80\x67")
    if at < 0 or at + 12 > len(head):
        return 0
    width = 9 - head[at + 4].bit_length()
    if not 1 <= width <= 8:
        return 0
    size = int.from_bytes(head[at + 4:at + 4 + width], "big") & ((1 << 7 * width) - 1)
    return 0 if size == (1 << 7 * width) - 1 else at + 4 + width + size


def _windows_media(head: bytes) -> int:
    """WMV and WMA: the file's size in its properties; broadcasts have none."""
    at = head.find(b"\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20\x53\x65")
    if at < 0 or len(head) < at + 92 or head[at + 88] & 1:
        return 0
    return int.from_bytes(head[at + 40:at + 48], "little")


def _mp3(file: BinaryIO, head: bytes) -> int:
    """MP3 with a Xing or Info frame that counts bytes."""
    start = 0
    if head[:3] == b"ID3" and len(head) > 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        head = file.read(4096)
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    for mark in (b"Xing", b"Info"):
        at = head.find(mark, 4, 200)
        if at > 0 and len(head) >= at + 16 and head[at + 7] & 2:
            place = at + 8 + (4 if head[at + 7] & 1 else 0)
            size = int.from_bytes(head[place:place + 4], "big")
            return start + size if 0 < size < _UNKNOWN else 0
    return 0
