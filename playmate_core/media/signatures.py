"""What kind of file some bytes begin, so that a sentence can name it whatever its name ends in."""

from __future__ import annotations

_STARTS = (
    (b"\x89PNG", "a PNG"), (b"\xff\xd8\xff", "a JPEG"), (b"GIF8", "a GIF"), (b"BM", "a BMP"), (b"8BPS", "a PSD"),
    (b"\xff\x0a", "a JPEG XL"), (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000"), (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"v/1\x01", "an OpenEXR"), (b"#?RADIANCE", "a Radiance HDR"), (b"#?RGBE", "a Radiance HDR"),
    (b"gimp xcf", "a GIMP"), (b"%PDF", "a PDF"), (b"%!PS", "a PostScript"),
    (b"FUJIFILMCCD-RAW", "a camera's raw"), (b"FOVb", "a camera's raw"), (b"IIRO", "a camera's raw"),
    (b"IIRS", "a camera's raw"), (b"MMOR", "a camera's raw"), (b"IIU\0", "a camera's raw"),
    (b"\0MRM", "a camera's raw"), (b"II\x1a\0\0\0HEAPCCDR", "a camera's raw"),
    (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"), (b"II+\0", "a TIFF"), (b"MM\0+", "a TIFF"),
    (b"\x1aE\xdf\xa3", "a video"), (b"0&\xb2u\x8ef\xcf\x11", "a video"), (b"FLV\1", "a video"),
    (b"OggS", "a sound or video"), (b"ID3", "a sound"), (b"fLaC", "a sound"),
    (b"PK\x03\x04", "a ZIP"),
)
_RIFF = {b"WEBP": "a WebP", b"AVI ": "a video", b"WAVE": "a sound"}
# The brands of an ISO media file's first box; what is none of these is a film.
_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"heim": "a HEIC",
           b"heis": "a HEIC", b"hevc": "a HEIC", b"hevx": "a HEIC", b"hevm": "a HEIC", b"hevs": "a HEIC",
           b"crx ": "a camera's raw", b"jxl ": "a JPEG XL"}
_CONTAINERS = (b"mif1", b"msf1")  # say only that pictures are inside; the compatible brands name which

# Tags of TIFF: a first picture of reduced size beside others, or Adobe's digital negative.
_SUBFILE_TYPE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706


def format_of(data: bytes) -> str | None:
    """The format of a file with its article, such as "a HEIC", or None for bytes that are not known.

    Args:
        data: the file, or its first 4096 bytes.
    """
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        length = min(max(int.from_bytes(data[:4], "big"), 16), 256)
        brands = [data[8:12], *(data[start:start + 4] for start in range(16, length, 4))]
        named = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return named[0] if named else "a HEIC" if brands[0] in _CONTAINERS else "a video"
    for start, name in _STARTS:
        if data.startswith(start):
            return name
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<svg", b"<?xml")) and b"<svg" in text:
        return "an SVG"
    return "a web page's" if text.startswith((b"<!doctype html", b"<html")) else None


def is_raw(picture) -> bool:
    """Whether what Pillow opened as a TIFF is a camera's raw file, of which it would give the thumbnail."""
    tags = getattr(picture, "tag_v2", None)
    if tags is None:
        return False
    return _DNG_VERSION in tags or (tags.get(_SUBFILE_TYPE) == 1 and _SUB_DIRECTORIES in tags)
