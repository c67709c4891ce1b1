"""The one opener for everything that FFmpeg reads: sound and film, from paths and from binary file objects.

Its sentences name the file that is at fault. Which track is heard and which picture is seen is decided here too, so
that all parts of the library hear and see the same.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Union

from ..runtime.errors import PlaymateError

MediaFile = Union[str, "os.PathLike[str]", BinaryIO]

_DEFAULT, _ATTACHED_PICTURE = 0x1, 0x400  # FFmpeg's AV_DISPOSITION_*
_KINDS = {"audio": "audio or video file", "video": "video"}


def is_media_file(source: Any) -> bool:
    """Whether ``source`` is a path or a binary file object."""
    return isinstance(source, (str, os.PathLike)) or (hasattr(source, "read") and hasattr(source, "seek"))


def name_of(source: MediaFile, kind: str = "video") -> str:
    """How messages call it."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"The {kind}"


@contextlib.contextmanager
def open_media(source: MediaFile, kind: str = "video") -> Iterator[Any]:
    """An open ``av.container.InputContainer``, closed at the end of the ``with`` block.

    Args:
        source: path, or a binary file object, which is read from its beginning.
        kind: "audio" or "video": what messages say is wanted.

    Raises:
        PlaymateError: no such file, a folder, an empty file, or nothing that FFmpeg can read.
    """
    with contextlib.ExitStack() as closing:
        yield closing.enter_context(_container(source, kind, closing))


def best_stream(container, kind: str):
    """The stream that is heard ("audio") or seen ("video"), or None.

    It is FFmpeg's own choice, which players share: the default track before others. Tracks that cannot be decoded here
    (telephones add some in formats of their own) and cover pictures are passed over.
    """
    best = container.streams.best(kind)
    usable = [stream for stream in getattr(container.streams, kind)
              if stream.codec_context is not None and not _is_cover(stream)]
    if best is None or any(stream.index == best.index for stream in usable):
        return best
    return next((stream for stream in usable if _is_default(stream)), next(iter(usable), None))


class Decoding:
    """The frames of a stream, less what cannot be decoded, until ``most`` packets in a row could not.

    Attributes:
        bad: packets left out after the first frame; before it a recording was only cut out of a stream.
        reason: what FFmpeg said of the last of them.
        first: seconds on the stream's own clock from which on it is damaged; None where it is not, or has no clock.
    """

    def __init__(self, container, stream, most: int) -> None:
        self.bad, self.reason, self.most = 0, "", most
        self.first: float | None = None
        self._packets = container.demux(stream)

    def __iter__(self) -> Iterator[Any]:
        import av

        in_a_row, begun, time = 0, False, None
        while in_a_row < self.most:
            try:
                packet = next(self._packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.bad, in_a_row, self.reason = self.bad + begun, in_a_row + 1, error.strerror or str(error)
                self.first = time if begun and self.first is None else self.first
                continue
            for frame in frames:
                in_a_row, begun, time = 0, True, frame.time
                yield frame


def _container(source: MediaFile, kind: str, closing: contextlib.ExitStack):
    import av

    what = _KINDS[kind]
    if isinstance(source, (str, os.PathLike)):
        _check_path(source, kind, what)
        opened: Any = f"file:{os.fspath(source)}"  # or "take:2.wav" would be taken for a protocol
        if "%" in opened or not opened.isprintable():
            # FFmpeg takes "take%03d.gif" for a row of pictures, and PyAV knows no names outside of Unicode.
            opened = closing.enter_context(_Nameless(source))
    else:
        try:
            source.seek(0)
        except (AttributeError, OSError, ValueError) as error:
            raise PlaymateError(f"{name_of(source, kind)} cannot be read from its beginning ({error}); give a file, or "
                                "an open file object that can seek.") from error
        opened = _Borrowed(source)
    try:
        return _av_open(opened)
    except UnicodeDecodeError as error:
        raise PlaymateError(f"The tags of {name_of(source, kind)} cannot be read by this version of PyAV; update the "
                            "package 'av', or remove the tags.") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        fault = "holds text and is no {}" if _is_text(source) else "is no {} that can be read, or it is damaged"
        reason = getattr(error, "strerror", None) or error
        raise PlaymateError(f"{name_of(source, kind)} {fault.format(what)} ({reason}); export it again, or convert it "
                            f"to {'wav or mp3' if kind == 'audio' else 'mp4'}.") from error


def _av_open(opened):
    """Tags may be in any encoding, whatever they claim to be."""
    import av

    try:
        return av.open(opened, metadata_errors="replace")
    except TypeError:  # a PyAV without the argument
        return av.open(opened)


def _check_path(source: str | os.PathLike, kind: str, what: str) -> None:
    path = Path(source)
    try:
        if path.is_dir():
            raise PlaymateError(f"{path} is a folder; give the {what} itself.")
        if not path.exists():
            raise PlaymateError(f"There is no {kind} file at {path}: it does not exist; check the name and the folder.")
        if not path.is_file():
            raise PlaymateError(f"{path} is a pipe or a device, which cannot be read twice; save it as a file.")
        if path.stat().st_size == 0:
            raise PlaymateError(f"The {kind} file {path} is empty (0 bytes); export or download it again.")
        with path.open("rb"):
            pass
    except PlaymateError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlaymateError(f"The {kind} file {path} cannot be opened ({reason}); check its name and permissions."
                            ) from error


def _is_text(source: MediaFile) -> bool:
    """Whether it begins with nothing but text: a web page saved as a film, notes under a sound's name."""
    try:
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                head = file.read(512)
        else:
            source.seek(0)
            head = source.read(512)
        text = head.decode("utf-8", "ignore")
    except (OSError, ValueError):
        return False
    return len(text.encode()) > len(head) - 4 and all(letter.isprintable() or letter.isspace() for letter in text)


class _Borrowed:
    """A file object without its name, so that FFmpeg judges by the content; it stays open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True


class _Nameless(_Borrowed):
    """A file by its path, opened by Python in place of FFmpeg."""

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(open(path, "rb"))  # noqa: SIM115 (closed in __exit__)

    def __enter__(self) -> _Nameless:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def _is_cover(stream) -> bool:
    """Whether a video stream is one still picture that belongs to a sound."""
    if stream.type != "video":
        return False
    disposition = _disposition(stream)
    if disposition is not None:
        return bool(disposition & _ATTACHED_PICTURE)
    # A PyAV without dispositions: a still picture in a file that says nothing of a frame rate.
    return stream.codec_context.name in ("mjpeg", "png", "bmp", "gif", "webp") and not stream.average_rate \
        and stream.frames <= 1


def _is_default(stream) -> bool:
    return bool((_disposition(stream) or 0) & _DEFAULT)


def _disposition(stream) -> int | None:
    """FFmpeg's bits; PyAV has them as an integer, as a flag of either kind, or not at all."""
    disposition = getattr(stream, "disposition", None)
    return None if disposition is None else int(getattr(disposition, "value", disposition))
