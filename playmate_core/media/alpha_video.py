"""Films with a transparent ground: VP9 with alpha in WebM, which browsers play, and ProRes 4444 in MOV, for editing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ..runtime.errors import PlaymateError

ALPHA_SUFFIXES = (".webm", ".mov")
"""Kinds of films that hold alpha."""

USUAL_CRF = 16
"""What is asked of H.264 for a very good picture; VP9 needs a higher number for as good a one."""


def check_alpha_name(path: Path) -> None:
    """Raises PlaymateError where a film of that name cannot keep a transparent ground."""
    if path.suffix.lower() not in ALPHA_SUFFIXES:
        raise PlaymateError(f"A film named {path.name} cannot keep a transparent ground; end the name in .webm (VP9, "
                            "for browsers) or .mov (ProRes 4444, for editing), or choose a background.")


def add_alpha_stream(container, path: Path, rate: Fraction, tick: Fraction, width: int, height: int, crf: int):
    """The picture stream of a film with alpha, and the pixel format of its frames.

    Raises:
        PlaymateError: a PyAV without the encoder.
    """
    import av

    web = path.suffix.lower() == ".webm"
    name = "libvpx-vp9" if web else "prores_ks"
    # Alpha is a second VP9 stream in the packets' side data, which frames that are held back would lose their place in.
    options = {"crf": str(min(63, crf + 4)), "b": "0", "auto-alt-ref": "0", "row-mt": "1", "cpu-used": "4",
               "deadline": "good"} if web else {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
    try:
        stream = container.add_stream(name, rate=rate, options=options)
    except (ValueError, av.error.FFmpegError) as error:
        raise PlaymateError(f"This PyAV cannot write {path.suffix} films with a transparent ground (it has no {name}); "
                            f"end the name in {'.mov' if web else '.webm'}.") from error
    stream.width, stream.height = width + width % 2, height + height % 2
    stream.pix_fmt = "yuva420p" if web else "yuva444p10le"
    stream.codec_context.time_base = stream.time_base = tick
    if web:
        stream.codec_context.bit_rate = 0  # constant quality
    stream.codec_context.color_primaries = stream.codec_context.color_trc = stream.codec_context.colorspace = 1
    stream.codec_context.color_range = 1
    return stream


def alpha_frame(picture: np.ndarray, pixel_format: str):
    """An ``av.VideoFrame`` of [H, W, 4] uint8, even sides, straight alpha, in BT.709."""
    import av

    frame = av.VideoFrame.from_ndarray(picture, format="rgba")
    return frame.reformat(format=pixel_format, dst_colorspace="ITU709", dst_color_range="MPEG")
