"""Which pictures of a film are drawn when it lasts longer or shorter than the speech, and how they are read and drawn.

The film's own times are the result's: 23.976, 29.97 or 60 frames a second, or none that is steady. The motion is
sampled at them. A film that goes round, or backwards, goes on at its own times too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..motion.curves import smoothstep
from ..motion.geometry import slerp_degrees
from ..motion.resampling import at_times, joined
from ..motion.types import KEYPOINTS, Motion
from ..runtime.errors import PlaymateError
from ..runtime.progress import Progress
from .film import Film, FilmRenderer, check_scope

FILM_LENGTHS = ("hold", "loop", "ping-pong", "cut")
"""What is done when film and speech last differently. A shorter film holds its last picture, starts again, or runs
backwards and forwards until the speech ends; a longer one plays to its own end, with the mouth shut when the speech is
over. With "cut" the result ends with the shorter of the two."""

REST_SECONDS, TURN_SECONDS = 0.3, 1.0
"""How long the face takes to come to rest after the motion's last frame, and the head to turn back."""
BYTES_AT_ONCE = 64_000_000
"""Of a film that runs backwards, how much is held to be turned round."""
_UNSTEADY = 0.05
"""Share of a frame's time by which a steady film's stamps may be off; containers round to milliseconds, see
``_ROUNDED``."""
_ROUNDED = 2e-3


@dataclass(frozen=True, eq=False)
class Take:
    """The frames of a result.

    Attributes:
        numbers: [T] int64 the film's picture under every frame.
        times: [T] float64 seconds of every frame, rising.
        fps: frames a second, the average where they vary.
        steady: whether frame k is at k / fps.
    """

    numbers: Tensor
    times: Tensor
    fps: float
    steady: bool

    def __len__(self) -> int:
        return len(self.numbers)


def check_film_length(length: str) -> str:
    """``length`` itself.

    Raises:
        PlaymateError: none of ``FILM_LENGTHS``.
    """
    if length not in FILM_LENGTHS:
        raise PlaymateError(f"The film's length is {length!r}; choose one of: {', '.join(FILM_LENGTHS)}.")
    return length


def is_steady(times: Tensor, fps: float) -> bool:
    """Whether picture k is at k / ``fps`` seconds from the first."""
    due = torch.arange(len(times), dtype=torch.float64) / fps
    return bool(((times - times[0]) - due).abs().max() <= max(_UNSTEADY / fps, _ROUNDED))


def average_rate(times: Tensor, fps: float) -> float:
    """Frames a second of pictures at ``times``: ``fps`` where they keep to it, else their average."""
    span = float(times[-1] - times[0])
    return fps if is_steady(times, fps) or span <= 0 else (len(times) - 1) / span


def plan_take(film: Film, seconds: float, length: str = "hold", fps: float | None = None) -> Take:
    """The frames of a film under a speech of ``seconds``.

    Args:
        film: the film.
        seconds: how long the motion lasts, above 0.
        length: one of ``FILM_LENGTHS``.
        fps: frames a second of the result; None keeps the film's own times.

    Raises:
        PlaymateError: an unknown length, or a rate or time that is not above 0.
    """
    check_film_length(length)
    if not 0 < seconds < math.inf:
        raise PlaymateError("The motion has no frames; give one that lasts at least one frame.")
    steady = is_steady(film.times, film.fps)
    numbers = torch.arange(len(film))
    times = numbers.double() / film.fps if steady else film.times - film.times[0]
    last = 1.0 / film.fps
    own = float(times[-1]) + last
    # A sound's end falls between two pictures; half of one more or less is nobody's.
    if length == "cut" and seconds < own - last / 2:
        kept = max(int((times < seconds - last / 2).sum()), 1)
        numbers, times = numbers[:kept], times[:kept]
    elif length != "cut" and seconds > own + last / 2:
        numbers, times = _continued(numbers, times, last, seconds, length)
    if steady:
        times = torch.arange(len(times), dtype=torch.float64) / film.fps
    if fps is None or (steady and abs(fps - film.fps) < 1e-6):
        return Take(numbers, times, film.fps, steady)
    if not 0 < fps < math.inf:
        raise PlaymateError(f"A film cannot be made at {fps} frames a second; give a rate above 0.")
    clock = torch.arange(max(round((float(times[-1]) + last) * fps), 1), dtype=torch.float64) / fps
    # What a player shows then: the latest picture, due half a tick before its time so that none is dropped or doubled
    # by rounding.
    shown = (torch.searchsorted(times, clock + 0.5 * min(1 / fps, last), right=True) - 1).clamp_min(0)
    return Take(numbers[shown], clock, fps, True)


def _continued(numbers: Tensor, times: Tensor, last: float, seconds: float, length: str) -> tuple[Tensor, Tensor]:
    """A film's pictures until ``seconds``; ``last`` is how long the last one stands."""
    own = float(times[-1]) + last
    if length == "hold" or len(numbers) == 1:
        more = round((seconds - own) / last)
        steps = torch.arange(more, dtype=torch.float64)
        return torch.cat([numbers, numbers[-1:].expand(more)]), torch.cat([times, own + steps * last])
    if length == "loop":
        round_numbers, round_times, period = numbers, times, own
    else:  # there and back; neither turning point comes twice
        back = torch.arange(len(numbers) - 2, 0, -1)
        end = float(times[-1])
        round_numbers, round_times, period = (torch.cat([numbers, back]), torch.cat([times, 2 * end - times[back]]),
                                              2 * end)
    rounds = math.ceil(seconds / period) + 1
    clock = (torch.arange(rounds, dtype=torch.float64)[:, None] * period + round_times).flatten()
    kept = max(int((clock < seconds - last / 2).sum()), 1)
    return round_numbers.repeat(rounds)[:kept], clock[:kept]


def spoken_at(motion: Motion, take: Take) -> Motion:
    """The motion at a take's frames. After its end the face comes to rest, the lips shut, and the head turns back to
    where it counts from."""
    if len(motion) and float(take.times[-1]) > motion.duration:
        motion = joined([motion, _to_rest(motion)])
    return at_times(motion, take.times, take.fps)


def _to_rest(motion: Motion) -> Motion:
    frames = max(round(TURN_SECONDS * motion.fps), 1)
    clock = torch.arange(1, frames + 1) / motion.fps
    face, head = (smoothstep(clock / seconds).to(motion.expression) for seconds in (REST_SECONDS, TURN_SECONDS))
    # At whatever rate, the last frame is at rest.
    face[-1] = head[-1] = 1.0
    rest, last = motion.neutral, len(motion) - 1

    def between(name: str, weight: Tensor) -> Tensor:
        a, b = getattr(motion, name)[last], getattr(rest, name)
        return torch.lerp(a.expand(frames, *a.shape), b.expand(frames, *b.shape), weight)

    turned = slerp_degrees(motion.rotation[last].expand(frames, 3), rest.rotation.expand(frames, 3), head)
    return replace(motion, expression=between("expression", face[:, None, None].expand(-1, KEYPOINTS, 3)),
                   rotation=turned, translation=between("translation", head[:, None]),
                   scale=between("scale", head[:, None]))


def pictures_of(pictures: Iterable[tuple[float, Tensor]], numbers: Tensor) -> Iterator[tuple[int, Tensor]]:
    """``(number, picture)`` of a film in any order, read forwards in one go and backwards in pieces.

    Args:
        pictures: a film's; where they offer ``since(number)``, which yields the pictures from there on, nothing is
            read twice but what lies between a key frame and there.
        numbers: [T].

    Raises:
        PlaymateError: the film gives fewer pictures than when it was followed.
    """
    wanted, index = numbers.tolist(), 0
    picture: Tensor | None = None
    stream, at = None, -1
    while index < len(wanted):
        number = wanted[index]
        if number == at and picture is not None:
            yield number, picture
            index += 1
            continue
        if number < at and index + 1 < len(wanted) and wanted[index + 1] < number:
            stop = index + 1
            while stop < len(wanted) and wanted[stop] <= wanted[stop - 1]:
                stop += 1
            size = max(BYTES_AT_ONCE // max(0 if picture is None else picture.nbytes, 1), 1)
            for begin in range(index, stop, size):
                part = wanted[begin:min(begin + size, stop)]
                held = _piece(pictures, part[-1], part[0])
                for number in part:
                    picture = held[number - part[-1]]
                    yield number, picture
                del held
            stream, at, index = None, wanted[stop - 1], stop
            continue
        if stream is None or number < at:
            stream, at = _since(pictures, number), number - 1
        while at < number:
            picture = next(stream, None)
            at += 1
            if picture is None:
                raise _shorter(at)
        yield number, picture
        index += 1


def _piece(pictures, first: int, last: int) -> list[Tensor]:
    held = list(islice(_since(pictures, first), last - first + 1))
    if len(held) <= last - first:
        raise _shorter(first + len(held))
    return held


def _since(pictures, number: int) -> Iterator[Tensor]:
    since = getattr(pictures, "since", None)
    return (picture for _, picture in islice(iter(pictures), number, None)) if since is None else since(number)


def _shorter(count: int) -> PlaymateError:
    return PlaymateError(f"The film gave {count} pictures when it was read again, fewer than before; leave the file "
                         "as it is meanwhile, or convert it to MP4 with H.264 and try again.")


# ---- size


def film_size(film: Film, size: int) -> tuple[int, int]:
    """(height, width) of the frames drawn on a film with a longest side of at most ``size``; 0 is the film's own."""
    height, width = getattr(film.pictures, "own_size", film.size)
    if not size or max(height, width) <= size:
        return height, width
    share = size / max(height, width)
    return max(2, round(height * share)), max(2, round(width * share))


def film_at(renderer, film: Film, size: int, progress: Progress = None) -> Film:
    """The film at ``size``, prepared: itself, or read smaller or larger than it was prepared.

    Raises:
        PlaymateError: pictures that cannot be read at another size.
    """
    height, width = film_size(film, size)
    if (height, width) == film.size:
        return film
    pictures = film.pictures
    if not hasattr(pictures, "at_size"):
        raise PlaymateError(f"This film is drawn at {film.size[1]} x {film.size[0]} pixels only; extract it again at "
                            "the size that is wanted.")
    rows, columns = film.size
    scale = torch.tensor([width / columns, height / rows, max(height, width) / max(rows, columns)])
    return renderer.prepare_film(replace(film, pictures=pictures.at_size(max(height, width)), size=(height, width),
                                         landmarks=film.landmarks * scale, payload=None), progress)


# ---- drawing


def draw_take(renderer, film: Film, motion: Motion, take: Take, scope: str = "mouth", *, size: int = 0,
              batch_size: int | None = None, progress: Progress = None) -> Iterator[Tensor]:
    """Yields [B, H, W, 3] float32 0..1, len(take) frames in order.

    Args:
        renderer: a ``FilmRenderer``, the one that prepared the film.
        film: prepared.
        motion: at least one frame.
        take: from :func:`plan_take`.
        scope: one of ``SCOPES``.
        size: as of :func:`film_size`.
        batch_size: frames at once; None lets the renderer choose.
        progress: called with (frames drawn, all).

    Raises:
        PlaymateError: an unknown scope, or a renderer that does not draw on films.
    """
    check_scope(scope)
    check_renderer(renderer)
    film = film_at(renderer, film, size)
    return renderer.render_film(film, pictures_of(film.pictures, take.numbers), spoken_at(motion, take), scope,
                                batch_size=batch_size, progress=progress)


def check_renderer(renderer: Any) -> FilmRenderer:
    """``renderer`` itself.

    Raises:
        PlaymateError: it draws on portraits only.
    """
    if not hasattr(renderer, "render_film"):
        raise PlaymateError(f"The {renderer.name} renderer draws on pictures only, not on films; choose another pack, "
                            "or take a picture out of the film.")
    return renderer
