"""Films of a varying rate: each frame is stamped with its own time, and the sound stays beside it."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
import torch

from playmate_core.media.rates import stamps
from playmate_core.media.video_reader import open_video
from playmate_core.media.video_writer import SUFFIXES, write_video
from playmate_core.runtime.errors import PlaymateError

VARYING = [Fraction(0), Fraction(1, 30), Fraction(1, 10), Fraction(2, 15), Fraction(1, 2), Fraction(8, 15)]


def lights(count):
    for number in range(count):
        yield torch.full((1, 32, 48, 3), number / count)


def read_times(path):
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("times", [VARYING, [Fraction(n * 1001, 24000) for n in range(6)], [n / 60 for n in range(6)]],
                         ids=["varying", "23.976", "60"])
def test_frames_keep_their_times(tmp_path, suffix, times):
    path = write_video(tmp_path / f"film{suffix}", lights(6), 25, 6, (torch.zeros(1, 16000), 16000), times=times)
    tolerance = 6e-4 if suffix in (".mkv", ".webm") else 1e-5  # these count in milliseconds
    assert read_times(path) == pytest.approx([float(time) for time in times], abs=tolerance)
    # All six pictures are there, in order.
    levels = [float(picture.float().mean()) for _, picture in open_video(path)]
    assert len(levels) == 6 and levels == sorted(levels)


def test_the_last_frame_lasts_as_long_as_the_rate_says(tmp_path):
    path = write_video(tmp_path / "film.mp4", lights(6), 10, 6, times=VARYING)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(float(VARYING[-1]) + 0.1, abs=1e-3)


@pytest.mark.parametrize("times", [[0, 0.1], [0, 0.2, 0.1], [0, 0.1, 0.1], [-0.1, 0, 0.1], [0, float("nan"), 1]])
def test_times_that_cannot_be_are_refused(tmp_path, times):
    with pytest.raises(PlaymateError, match="time"):
        write_video(tmp_path / "film.mp4", lights(3), 25, 3, times=times)
    assert not list(tmp_path.iterdir())


def test_televisions_rates_are_exact():
    ticks, tick = stamps([Fraction(n * 1001, 24000) for n in range(24000)], 24000)
    assert ticks[-1] * tick == Fraction(23999 * 1001, 24000)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sound_keeps_step_with_varying_frames(tmp_path, suffix):
    rate, at = 24000, 1.2
    sound = torch.zeros(1, 2 * rate)
    sound[0, round(at * rate):][:240] = 0.9
    times = [n / 25 + n % 3 / 200 for n in range(50)]
    frames = (torch.full((1, 32, 48, 3), float(time >= at)) for time in times)
    path = write_video(tmp_path / f"film{suffix}", frames, 25, 50, (sound, rate), times=times)
    with av.open(str(path)) as container:
        flash = next(frame.time for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() > 128)
    heard = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = abs(frame.to_ndarray().astype(float)).reshape(-1)
            loud = loud > 0.3
            if loud.any():
                heard.append(frame.time + int(loud.argmax()) / frame.sample_rate)
    assert abs(heard[0] - at) < 0.02 and abs(flash - min(time for time in times if time >= at)) < 0.002
