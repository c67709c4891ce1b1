"""Films of every kind as drawn sources: each stored picture once, at its own time, and the result has the same."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from playmate_core import pipeline
from playmate_core.cli import main as cli
from playmate_core.media.film_pictures import open_film
from playmate_core.media.video_writer import write_video

from .portrait_films import person, scene, write_film
from .test_film_pipeline import Stamp

STAMPS = [0, 33, 100, 110, 500, 540, 560, 700, 733, 750, 900, 1000]
"""Milliseconds of the pictures of a film at a varying rate."""


def grow_lighter(path, count=12, size=(48, 64), codec="libx264", form="yuv420p", first=0, shape=None, **options):
    """A film whose pictures grow lighter, at 25 a second from the number ``first`` on."""
    with av.open(str(path), "w") as container:
        try:
            video = container.add_stream(codec, rate=25, options=options)
        except (ValueError, av.error.FFmpegError):
            pytest.skip(f"this PyAV has no encoder for {codec}")
        video.height, video.width, video.pix_fmt = *size, form
        video.codec_context.time_base = video.time_base = Fraction(1, 25)
        if shape is not None:
            video.codec_context.sample_aspect_ratio = shape
        for number in range(count):
            grey = np.full((*size, 3), 20 + number * 200 // count, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, "rgb24").reformat(format=form)
            frame.pts, frame.time_base = first + number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def stored_times(path):
    """Seconds of what a player shows, from the first picture on."""
    with av.open(str(path)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


KINDS = {
    "from below 0, MP4 with an edit list": ("a.mp4", {"first": -3}, (48, 64)),
    "from below 0, MKV": ("a.mkv", {"first": -3}, (48, 64)),
    "beginning late": ("a.mp4", {"first": 20}, (48, 64)),
    "one picture": ("a.mp4", {"count": 1}, (48, 64)),
    "B-frames": ("a.mp4", {"count": 40, "bf": "3", "g": "12"}, (48, 64)),
    "10 bits": ("a.mp4", {"form": "yuv420p10le"}, (48, 64)),
    "ProRes": ("a.mov", {"codec": "prores_ks", "form": "yuv422p10le"}, (48, 64)),
    "odd sides": ("a.mkv", {"codec": "ffv1", "form": "bgr0", "size": (49, 65)}, (49, 65)),
    "wide pixels": ("a.mp4", {"shape": Fraction(4, 3)}, (48, 85)),
}


@pytest.mark.parametrize("name, options, size", KINDS.values(), ids=KINDS)
def test_every_stored_picture_comes_once_at_its_time(tmp_path, name, options, size):
    path = grow_lighter(tmp_path / name, **options)
    film, wanted = open_film(path), stored_times(path)
    pictures = list(film)
    assert [time for time, _ in pictures] == pytest.approx(wanted, abs=1e-5)
    levels = [float(picture.float().mean()) for _, picture in pictures]
    assert levels == sorted(set(levels)), "in order, and none twice"
    assert all(tuple(picture.shape) == (*size, 3) for _, picture in pictures) and film.own_size == size
    for number in {0, 1, len(pictures) // 2, len(pictures) - 1} & set(range(len(pictures))):
        rest = list(film.since(number))
        assert len(rest) == len(pictures) - number
        assert all(torch.equal(a, b) for a, (_, b) in zip(rest, pictures[number:], strict=True))


def test_odd_sides_grow_by_the_edge_when_they_are_written(tmp_path):
    """H.264 has even sides only: nothing is scaled or cut."""
    picture = torch.rand(1, 7, 9, 1).expand(-1, -1, -1, 3)
    picture = torch.nn.functional.interpolate(picture.permute(0, 3, 1, 2), (49, 65), mode="bilinear")
    path = write_video(tmp_path / "a.mp4", iter([picture.permute(0, 2, 3, 1)]), 25, 1, crf=0)
    written = next(open_film(path).since(0)).float() / 255
    assert tuple(written.shape) == (50, 66, 3)
    assert float((written[:49, :65] - picture[0].permute(1, 2, 0)).abs().max()) < 0.03
    assert float((written[49] - written[48]).abs().max()) < 0.03


def test_damage_is_told_of_once_and_where(tmp_path, caplog):
    pictures = [torch.rand(48, 64, 3) for _ in range(50)]
    path = write_film(tmp_path / "a.mp4", pictures, gop=5)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size, float(packet.pts * packet.time_base))
                   for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size, _ in packets[25:28]:
        data[position:position + size] = b"\xff" * size
    path.write_bytes(bytes(data))
    film = open_film(path)
    for _ in range(2):
        times = [time for time, _ in film]
    list(film.at_size(32))
    assert 40 <= len(times) < 50 and times[-1] == pytest.approx(49 / 25, abs=1e-3)
    assert len(caplog.records) == 1
    told = float(caplog.text.split("from about ")[1].split(" s on")[0])
    # Decoders hold some pictures back.
    assert 0.3 <= told <= packets[28][2], caplog.text


@pytest.fixture(scope="module")
def walk(portrait):
    one = person(portrait)
    return [scene(160, 192, (one, 8 + 2 * step, 8)) for step in range(12)]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60), None],
                         ids=["23.976", "29.97", "60", "varying"])
def test_a_dubbed_film_has_its_own_pictures_times(models, walk, tmp_path, voice_path, monkeypatch, rate, container):
    stamping = replace(models, renderer=Stamp(models.renderer))
    monkeypatch.setattr(pipeline, "load_models", lambda *given, **more: stamping)
    varying = {"stamps": STAMPS} if rate is None else {"fps": rate}
    film = write_film(tmp_path / f"film.{'mkv' if rate is None else 'mp4'}", walk, **varying)
    out = tmp_path / f"out.{container}"
    assert cli.main(["animate", str(film), str(voice_path), "-o", str(out), "--scope", "mouth", "--film-length",
                     "hold", "--device", "cpu", "--steps", "1"]) == 0
    given, made = stored_times(film), stored_times(out)
    tolerance = 1e-3 if container == "mkv" or rate is None else 2e-5  # Matroska counts in milliseconds
    # The film is shorter than the voice: its last picture is held from there on.
    assert made[:len(given)] == pytest.approx(given, abs=tolerance)
    assert len(made) > len(given) and all(after > before for before, after in zip(made[:-1], made[1:], strict=True))
    with av.open(str(out)) as opened:
        assert len(opened.streams.audio) == 1
        if rate is not None and container == "mp4":
            assert opened.streams.video[0].average_rate == rate
