"""The video writer: length, sound, odd sizes, and that nothing half-made is left."""

from fractions import Fraction

import av
import pytest
import torch

from playmate_core.media.video_writer import write_video
from playmate_core.runtime.errors import PlaymateError


def frames(total, height=48, width=64, batch=7):
    for first in range(0, total, batch):
        count = min(batch, total - first)
        yield torch.linspace(0, 1, width).expand(count, height, width)[..., None].expand(-1, -1, -1, 3)


def tone(seconds, rate, channels=1):
    return 0.3 * torch.sin(torch.arange(round(seconds * rate)) * (440 * 6.2832 / rate))[None].repeat(channels, 1)


def read(path):
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    sound = []
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate if container.streams.audio else 0
        fps = container.streams.video[0].average_rate
        if container.streams.audio:
            sound = [torch.from_numpy(frame.to_ndarray()) for frame in container.decode(audio=0)]
    return pictures, fps, torch.cat(sound, 1) if sound else None, rate


@pytest.mark.parametrize("fps", [25.0, 29.97, 60.0])
def test_every_frame_arrives_at_its_rate(tmp_path, fps):
    pictures, got, sound, _ = read(write_video(tmp_path / "a.mp4", frames(31), fps, 31))
    assert len(pictures) == 31 and sound is None
    assert abs(float(got) - fps) < 0.01
    assert abs(int(pictures[0][10, 60, 0]) - 242) <= 4  # colours survive (60 / 63 of white)


@pytest.mark.parametrize("rate, channels", [(8000, 1), (16000, 1), (44100, 2), (96000, 6), (37800, 1)])
def test_sound_of_any_rate_and_channel_count(tmp_path, rate, channels):
    path = write_video(tmp_path / "a.mp4", frames(50), 25, 50, audio=(tone(2, rate, channels), rate))
    _, _, sound, written = read(path)
    assert sound.shape[0] == min(channels, 2)
    assert abs(sound.shape[1] / written - 2) < 0.1
    middle = sound[0, written // 2: written].double()
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle), dtype=torch.float64)).abs()
    assert abs(int(spectrum.argmax()) * written / len(middle) - 440) < 5


def test_sound_is_cut_to_the_picture_and_integers_are_scaled(tmp_path):
    loud = (tone(5, 16000) * 32767).to(torch.int16)
    _, _, sound, rate = read(write_video(tmp_path / "a.mp4", frames(25), 25, 25, audio=(loud, 16000)))
    assert abs(sound.shape[1] / rate - 1) < 0.1
    assert 0.2 < float(sound.abs().max()) < 0.4


def test_sound_from_a_file(tmp_path):
    first = write_video(tmp_path / "a.mp4", frames(25), 25, 25, audio=(tone(1, 48000, 2), 48000))
    _, _, sound, rate = read(write_video(tmp_path / "b.mkv", frames(25), 25, 25, audio=first))
    assert rate == 48000 and abs(sound.shape[1] / rate - 1) < 0.1


def test_odd_sizes_are_padded_not_cut(tmp_path):
    pictures, *_ = read(write_video(tmp_path / "a.mp4", frames(3, 33, 41), 25, 3))
    assert pictures[0].shape == (34, 42, 3)


def test_a_cancel_leaves_nothing(tmp_path):
    class Stop(Exception):
        pass

    def progress(done, total):
        if done >= 14:
            raise Stop

    target = tmp_path / "a.mp4"
    with pytest.raises(Stop):
        write_video(target, frames(50), 25, 50, progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_an_older_video_survives_a_failure(tmp_path):
    target = write_video(tmp_path / "a.mp4", frames(5), 25, 5)
    before = target.read_bytes()

    def broken():
        yield torch.zeros(1, 48, 64, 3)
        raise RuntimeError("renderer died")

    with pytest.raises(RuntimeError, match="renderer died"):
        write_video(target, broken(), 25, 5)
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name, count, message", [
    ("a.gif", 3, "end the name in"), ("a.mp4", 0, "no frames"),
])
def test_what_cannot_be_written_is_said(tmp_path, name, count, message):
    with pytest.raises(PlaymateError, match=message):
        write_video(tmp_path / name, frames(count), 25, count)


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaymateError, match="could not be written"):
        write_video(tmp_path / "file" / "a.mp4", frames(3), 25, 3)


def test_a_file_without_sound_is_said(tmp_path):
    silent = write_video(tmp_path / "a.mp4", frames(3), 25, 3)
    with pytest.raises(PlaymateError, match="holds no sound"):
        write_video(tmp_path / "b.mp4", frames(3), 25, 3, audio=silent)


def test_frame_times_are_exact(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames(10), 30, 10)
    with av.open(str(path)) as container:
        stamps = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert stamps == [Fraction(i, 30) for i in range(10)]
