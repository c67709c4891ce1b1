"""Films that are drawn in parts: they join exactly, survive being killed, and never hold another film's parts."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from playmate_core.media import parts as media_parts
from playmate_core.media.output import LEAST_SPACE
from playmate_core.media.parts import PartsFolder, write_in_parts
from playmate_core.media.rates import exact_rate
from playmate_core.media.video_writer import write_video
from playmate_core.runtime.errors import PlaymateError

ROOT = Path(__file__).resolve().parent.parent
MADE_OF = {"portrait": "a", "seed": "0"}


class Stopped(Exception):
    """A user who stops the work."""


def pictures(start, stop):
    """Frames whose brightness tells their number, with something to look at."""
    for first in range(start, stop, 4):
        number = torch.arange(first, min(first + 4, stop))[:, None, None]
        column, row = torch.arange(64)[None, None], torch.arange(48)[None, :, None]
        picture = ((column + 3 * number) % 64) / 128 + ((row + number) % 48) / 96
        yield picture[..., None].expand(-1, -1, -1, 3)


def tone(seconds, rate=16000):
    return 0.3 * torch.sin(torch.arange(round(seconds * rate)) * (440 * 6.2832 / rate))[None], rate


def decoded(path):
    """(stamps, [N, H, W, 3] pictures)."""
    with av.open(str(path)) as container:
        frames = [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24"))
                  for frame in container.decode(video=0)]
    return [stamp for stamp, _ in frames], np.stack([picture for _, picture in frames])


def begun(output):
    parts = PartsFolder(Path(output))
    parts.begin(MADE_OF)
    return parts


@pytest.mark.parametrize("fps, total, each", [(23.976, 40, 11), (29.97, 36, 12), (25.0, 40, 40), (25.0, 9, 1)])
def test_joined_parts_have_every_frame_at_its_time(tmp_path, fps, total, each):
    path = write_in_parts(begun(tmp_path / "a.mp4"), pictures, fps, total, tone(4), each=each)
    stamps, joined = decoded(path)
    rate = exact_rate(fps)
    assert stamps == [number / rate for number in range(total)]
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        # Containers note a film's whole length in milliseconds.
        assert video.average_rate == rate and abs(video.duration * video.time_base - total / rate) < Fraction(1, 1000)
        # Encoders of sound fill up to whole packets of 1024 samples.
        assert abs(audio.duration * audio.time_base - total / rate) < Fraction(2 * 1024, audio.rate)
    _, whole = decoded(write_video(tmp_path / "whole.mp4", pictures(0, total), fps, total))
    # The same pictures in the same order: no frame is as like any other of the whole film as its own.
    distance = np.abs(joined[:, None, ::4, ::4, 0].astype(int) - whole[None, :, ::4, ::4, 0]).mean((2, 3))
    assert (distance.argmin(1) == np.arange(total)).all()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_other_containers_join_too(tmp_path, suffix):
    stamps, _ = decoded(write_in_parts(begun(tmp_path / f"a{suffix}"), pictures, 29.97, 40, tone(2), each=13))
    assert len(stamps) == 40
    assert all(abs(float(stamp) - number * 1001 / 30000) < 6e-4 for number, stamp in enumerate(stamps))


def test_what_was_stopped_goes_on_and_equals_what_was_not(tmp_path):
    asked = []

    def noted(start, stop):
        asked.append((start, stop))
        return pictures(start, stop)

    def stop_at_30(done, total):
        if done >= 30:
            raise Stopped

    parts = begun(tmp_path / "a.mp4")
    with pytest.raises(Stopped):
        write_in_parts(parts, noted, 25, 50, tone(2), each=12, progress=stop_at_30)
    assert not parts.output.exists() and parts.made_of() == MADE_OF
    assert parts.frames_done(50, 12) == 24 and not list(parts.folder.glob("*.tmp*"))

    asked.clear()
    told = []
    write_in_parts(parts, noted, 25, 50, tone(2), each=12, progress=lambda *at: told.append(at))
    assert asked == [(24, 36), (36, 48), (48, 50)]
    assert told[0] == (24, 50) and told[-1] == (50, 50) and told == sorted(told)
    write_in_parts(begun(tmp_path / "b.mp4"), pictures, 25, 50, tone(2), each=12)
    one, other = decoded(tmp_path / "a.mp4"), decoded(tmp_path / "b.mp4")
    assert one[0] == other[0] and np.array_equal(one[1], other[1])
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_damaged_part_is_drawn_again(tmp_path):
    parts = begun(tmp_path / "a.mp4")

    def stop_at_the_end(done, total):
        if done == total:
            raise Stopped

    with pytest.raises(Stopped):
        write_in_parts(parts, pictures, 25, 40, each=10, progress=stop_at_the_end)
    assert parts.frames_done(40, 10) == 30
    middle = parts.part(10)
    middle.write_bytes(middle.read_bytes()[:300])
    assert parts.frames_done(40, 10) == 10
    write_in_parts(parts, pictures, 25, 40, each=10)
    write_in_parts(begun(tmp_path / "b.mp4"), pictures, 25, 40, each=10)
    assert np.array_equal(decoded(parts.output)[1], decoded(tmp_path / "b.mp4")[1])


def test_a_full_disk_is_said_and_costs_no_part(tmp_path, monkeypatch):
    encode, parts = media_parts.encode, begun(tmp_path / "a.mp4")

    def full(path, frames, *more, **how):
        if parts.part(10).exists():
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        encode(path, frames, *more, **how)

    monkeypatch.setattr(media_parts, "encode", full)
    with pytest.raises(PlaymateError, match="No space left on device"):
        write_in_parts(parts, pictures, 25, 40, each=10)
    assert parts.frames_done(40, 10) == 20 and len(list(parts.folder.iterdir())) == 3
    monkeypatch.undo()
    assert len(decoded(write_in_parts(parts, pictures, 25, 40, each=10))[0]) == 40


def test_a_disk_too_full_for_the_joined_film_is_said_before(tmp_path, monkeypatch):
    parts = begun(tmp_path / "a.mp4")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=LEAST_SPACE + 100))
    with pytest.raises(PlaymateError, match="the disk has 1.0 MB left"):
        write_in_parts(parts, pictures, 25, 10, each=10)
    assert parts.frames_done(10, 10) == 10 and not parts.output.exists()


def test_frames_that_do_not_come_are_said(tmp_path):
    parts = begun(tmp_path / "a.mp4")
    with pytest.raises(PlaymateError, match="from frame 10 on came out incomplete"):
        write_in_parts(parts, lambda start, stop: pictures(start, min(stop, 18)), 25, 30, each=10)
    assert parts.frames_done(30, 10) == 10


_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.test_parts import MADE_OF, pictures
from playmate_core.media.parts import PartsFolder, write_in_parts
parts = PartsFolder(Path(sys.argv[2]))
if parts.made_of() != MADE_OF:
    parts.begin(MADE_OF)
def slowly(start, stop):
    import time
    for batch in pictures(start, stop):
        time.sleep(0.01)
        yield batch
write_in_parts(parts, slowly, 29.97, 200, each=9)
"""


def test_killed_at_three_random_moments_it_equals_what_was_never_stopped(tmp_path):
    output, chance = tmp_path / "a.mp4", random.Random()
    parts = PartsFolder(output)
    for number in range(3):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(ROOT), str(output)])
        wanted, limit = parts.frames_done(200, 9) + 9, time.monotonic() + 120
        while parts.frames_done(200, 9) < wanted and time.monotonic() < limit and child.poll() is None:
            time.sleep(0.005)
        time.sleep(0.1 * chance.random())
        child.kill()  # SIGKILL: nothing is tidied up
        child.wait()
        assert not output.exists(), f"it was whole before kill {number + 1}"
    assert 27 <= parts.frames_done(200, 9) < 200
    subprocess.run([sys.executable, "-c", _CHILD, str(ROOT), str(output)], check=True)
    write_in_parts(begun(tmp_path / "b.mp4"), pictures, 29.97, 200, each=9)
    one, other = decoded(output), decoded(tmp_path / "b.mp4")
    assert one[0] == other[0] and np.array_equal(one[1], other[1])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_folder_that_holds_nothing_of_use_is_begun_anew(tmp_path):
    parts = PartsFolder(tmp_path / "a.mp4")
    assert parts.made_of() is None and not parts.is_there()
    parts.begin(MADE_OF)
    (parts.folder / "about.json").write_text("{")
    assert parts.made_of() is None and parts.is_there()
    (parts.folder / "00000000.mp4").write_text("of another film")
    parts.begin(MADE_OF)
    assert parts.made_of() == MADE_OF and os.listdir(parts.folder) == ["about.json"]
