"""Reading driving clips: times, turns, parts, and what cannot be read."""

from __future__ import annotations

import io
import struct

import av
import pytest
import torch

from playmate_core.media.video_reader import LONGEST_SIDE, open_video
from playmate_core.media.video_writer import write_video
from playmate_core.runtime.errors import PlaymateError

ONE = 1 << 16
TURNS = {0: (ONE, 0, 0, 0, ONE, 0), 90: (0, ONE, 0, -ONE, 0, 0), 180: (-ONE, 0, 0, 0, -ONE, 0),
         270: (0, -ONE, 0, ONE, 0, 0)}
"""First six numbers of the MP4 display matrix by the clockwise turn that a player makes."""


def pictures(count, height=48, width=64):
    """Brightness tells the number of the frame; the upper left quarter is black."""
    for number in range(count):
        picture = torch.full((1, height, width, 3), 0.2 + 0.02 * number)
        picture[:, :height // 2, :width // 2] = 0
        yield picture


def number_of(picture):
    return round((float(picture.float().amax() / 255) - 0.2) / 0.02)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", pictures(30), 25, 30, crf=4)


def test_every_frame_with_its_time(clip):
    reader = open_video(clip)
    assert reader.fps == 25 and reader.total == 30
    for _ in range(2):  # it can be read again
        stamps, frames = zip(*reader, strict=True)
        assert [number_of(frame) for frame in frames] == list(range(30))
        assert stamps == pytest.approx([number / 25 for number in range(30)])
    assert frames[0].shape == (48, 64, 3) and frames[0].dtype == torch.uint8


def test_a_file_in_memory(clip):
    reader = open_video(io.BytesIO(clip.read_bytes()))
    assert len(list(reader)) == len(list(reader)) == 30


@pytest.mark.parametrize("start, seconds, first, count", [
    (0.4, None, 10, 20), (0.0, 0.2, 0, 5), (1.0, 0.08, 25, 2), (1.1, 9.0, 28, 2), (0.39, 0.04, 10, 1),
])
def test_a_part(clip, start, seconds, first, count):
    reader = open_video(clip, start, seconds)
    stamps, frames = zip(*reader, strict=True)
    assert [number_of(frame) for frame in frames] == list(range(first, first + count))
    assert stamps[0] >= 0 and abs(reader.total - count) <= 1
    assert stamps[-1] - stamps[0] == pytest.approx((count - 1) / 25, abs=0.021)


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_are_turned_as_the_file_says(clip, tmp_path, turn):
    content = bytearray(clip.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # the display matrix of a version 0 track header
    assert struct.unpack(">i", content[place:place + 4])[0] == ONE
    content[place:place + 24] = struct.pack(">6i", *TURNS[turn])
    (tmp_path / "turned.mp4").write_bytes(content)
    _, picture = next(iter(open_video(tmp_path / "turned.mp4")))
    assert picture.shape == ((64, 48, 3) if turn in (90, 270) else (48, 64, 3))
    height, width = picture.shape[:2]
    corners = [picture[y, x].float().mean() for y, x in ((4, 4), (4, width - 4), (height - 4, width - 4),
                                                         (height - 4, 4))]
    assert int(torch.stack(corners).argmin()) == turn // 90  # the dark one goes round clockwise


def test_stamps_of_a_varying_frame_rate(tmp_path):
    wanted = [0, 1, 2, 5, 9, 10]
    with av.open(str(tmp_path / "vfr.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stamp, picture in zip(wanted, pictures(len(wanted)), strict=True):
            frame = av.VideoFrame.from_ndarray((picture[0] * 255).byte().numpy(), format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert [stamp for stamp, _ in open_video(tmp_path / "vfr.mkv")] == pytest.approx([w / 10 for w in wanted], abs=2e-3)


def test_pixels_that_are_not_square_and_pictures_that_are_too_large():
    from playmate_core.media.video_reader import _picture

    def frame(width, height):
        return av.VideoFrame.from_ndarray(torch.zeros(height, width, 3, dtype=torch.uint8).numpy(), format="rgb24")

    assert _picture(frame(60, 40), 4 / 3).shape == (40, 80, 3)
    assert _picture(frame(4000, 16), 1.0).shape == (8, LONGEST_SIDE, 3)


def test_what_decodes_of_a_damaged_file_is_kept(clip, tmp_path, caplog):
    content = bytearray(clip.read_bytes())
    (tmp_path / "cut.mp4").write_bytes(content[:int(len(content) * 0.8)])
    frames = list(open_video(tmp_path / "cut.mp4"))
    assert 0 < len(frames) < 30


@pytest.mark.parametrize("change, message", [
    ({"source": "none.mp4"}, "does not exist"), ({"start": -1.0}, "start at 0"), ({"seconds": 0.0}, "more than 0"),
    ({"start": 1.5}, "lasts 1.20 seconds"), ({"source": __file__}, "holds text and is no video"),
])
def test_what_cannot_be_read_is_said(clip, change, message):
    with pytest.raises(PlaymateError, match=message):
        open_video(**{"source": clip, **change})


def test_sound_without_a_picture(voice_path):
    with pytest.raises(PlaymateError, match="holds no picture"):
        open_video(voice_path)
