"""Whatever users drop in: names, tags, tracks, damage, and whose fault an error is."""

from __future__ import annotations

import io
import logging
import os

import av
import numpy as np
import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.cli.pose_option import parse_pose
from playmate_core.media.sound import read_audio
from playmate_core.media.sound_file import has_sound, open_sound
from playmate_core.media.video_reader import open_video
from playmate_core.media.video_writer import write_video
from playmate_core.media.wholeness import missing_bytes
from playmate_core.runtime.errors import PlaymateError

from .film_helpers import CODECS, click, make_film, sound_frames


def make_sound(path, samples, rate=44100, codec=None, cover=False, **options):
    """[C, N] floats by FFmpeg's ``codec`` (else the suffix's), with a cover picture if asked for."""
    codec = codec or {"mp3": "mp3", "m4a": "aac", "ogg": "libopus", "wav": "pcm_s16le", "flac": "flac",
                      "wma": "wmav2", "mka": "pcm_s16le"}[path.suffix[1:]]
    with av.open(f"file:{path}", "w", **options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples)]
        if codec not in ("pcm_s16le", "flac"):
            stream.bit_rate = 96_000 * len(samples)
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width = picture.height = 32
            picture.pix_fmt = "yuvj420p"
            if not hasattr(picture, "disposition"):
                pytest.skip("this PyAV cannot write covers")
            picture.disposition = 0x400
            still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24").reformat(format="yuvj420p")
            container.mux(picture.encode(still))
            container.mux(picture.encode(None))
        for _, frame in sound_frames(stream, samples, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def voice(seconds=1.0, rate=44100, channels=1):
    return click(seconds, 0.3 * seconds, rate, channels)


def noise(seconds, rate=44100):
    return 0.1 * np.random.default_rng(0).standard_normal((1, round(seconds * rate))).astype(np.float32)


# ---- names


@pytest.mark.parametrize("name", ["take:2.{}", "http:take.{}", "concat:a|b.{}", "100%.{}", "take%03d.{}", "-o.{}",
                                  "ПЛЁНКА 中文.{}", "a'b\"c.{}", "line\nbreak.{}", " spaces .{}", "[0-9]*?.{}"])
def test_any_name_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    film, sound = make_film(tmp_path / "film.mp4", seconds=0.4, event=0.2), make_sound(tmp_path / "a.wav", voice())
    try:
        os.rename(film, name.format("mp4"))
        os.rename(sound, name.format("wav"))
    except OSError:
        pytest.skip("this file system has no such names")
    assert len(list(open_video(name.format("mp4")))) == 10
    assert read_audio(name.format("mp4")).duration == pytest.approx(0.4, abs=0.1)
    assert read_audio(name.format("wav")).duration == 1.0
    made = write_video(name.format("mov"), [torch.zeros(3, 16, 16, 3)], 25, 3, audio=name.format("wav"))
    assert made.is_file() and len(list(open_video(made))) == 3


def test_a_row_of_pictures_is_not_taken_for_a_film(tmp_path, monkeypatch):
    """FFmpeg reads "walk%d.gif" as walk1.gif, walk2.gif ..., where a user means the one file."""
    monkeypatch.chdir(tmp_path)
    with av.open("walk.gif", "w") as container:
        stream = container.add_stream("gif", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "rgb8"
        for light in (0, 200):
            picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), light, np.uint8), "rgb24")
            container.mux(stream.encode(picture.reformat(format="rgb8")))
        container.mux(stream.encode(None))
    os.rename("walk.gif", "walk%d.gif")
    assert len(list(open_video("walk%d.gif"))) == 2


def test_a_name_that_is_no_unicode(tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xe9t\xe9.wav")
    try:
        os.rename(make_sound(tmp_path / "a.wav", voice()), path)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert read_audio(path).duration == 1.0


# ---- tags


@pytest.mark.parametrize("tag", ["中文歌名", "Песня"])
def test_tags_in_any_encoding(tmp_path, tag):
    raw = tag.encode("gbk" if tag[0] == "中" else "cp1251")
    sound = make_sound(tmp_path / "a.mp3", voice(), options={"id3v2_version": "0"})
    with sound.open("ab") as file:
        file.write(b"TAG" + raw.ljust(30, b"\0") + raw.ljust(30, b"\0") + bytes(30) + b"2004" + bytes(30) + b"\0")
    with pytest.raises(UnicodeDecodeError):
        av.open(str(sound))
    # A film and a WAV with the same bytes in their own kinds of tags.
    film, wav = make_film(tmp_path / "a.avi", seconds=0.4, event=0.2), make_sound(tmp_path / "a.wav", voice())
    for path in (film, wav):
        whole, text = path.read_bytes(), raw.ljust(8, b"\0")
        info = b"INFOINAM" + len(text).to_bytes(4, "little") + text
        whole += b"LIST" + len(info).to_bytes(4, "little") + info
        path.write_bytes(whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:])
    assert len(read_audio(sound).samples) > 15000 and read_audio(wav).duration == 1.0
    assert len(list(open_video(film))) > 5 and read_audio(film).duration > 0.3
    assert has_sound(film) and has_sound(io.BytesIO(sound.read_bytes()))
    with pytest.raises(PlaymateError, match="holds no picture"):
        open_video(sound)


# ---- tracks


def test_one_track_is_heard_and_played(tmp_path):
    """The default one, as players do, though it is the second."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        quiet, loud = (container.add_stream("pcm_s16le", rate=16000) for _ in range(2))
        quiet.layout = loud.layout = "mono"
        if not hasattr(loud, "disposition"):
            pytest.skip("this PyAV cannot choose a default track")
        quiet.disposition, loud.disposition = 0, 1
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, samples in ((quiet, voice(0.4, 16000) * 0), (loud, voice(0.4, 16000))):
            for _, frame in sound_frames(stream, samples, 16000):
                container.mux(stream.encode(frame))
    assert float(read_audio(path).samples.abs().max()) > 0.5
    made = write_video(tmp_path / "film.mp4", [torch.zeros(10, 16, 16, 3)], 25, 10, audio=path)
    assert float(read_audio(made).samples.abs().max()) > 0.5


@pytest.mark.parametrize("suffix", ["mp3", "flac"])
def test_a_cover_is_no_picture(tmp_path, suffix):
    path = make_sound(tmp_path / f"a.{suffix}", voice(), cover=True)
    sound = open_sound(path)
    assert sound.clock.picture is None and len(read_audio(sound).samples) > 15000
    with pytest.raises(PlaymateError, match="holds no picture"):
        open_video(path)


# ---- faults


@pytest.mark.parametrize("content, words", [
    (None, "no audio file at"), ("FOLDER", "is a folder"), (b"", "is empty"), (b"not a sound\n", "holds text"),
    (b"<!DOCTYPE html><html>", "holds text"), (os.urandom(64) + bytes(9000), "no audio or video file"),
])
def test_the_sentence_blames_the_file_at_fault(tmp_path, portrait_path, capsys, content, words):
    voice_file = tmp_path / "voice.wav"
    if content == "FOLDER":
        voice_file.mkdir()
    elif content is not None:
        voice_file.write_bytes(content)
    motion = portrait_path.with_name("look_around.safetensors")
    for more in ([], ["--from-motion", str(motion)]):
        status = cli.main(["animate", str(portrait_path), str(voice_file), "-o", str(tmp_path / "a.mp4"), *more])
        said = capsys.readouterr().err
        assert status == 1 and words in said and "voice.wav" in said and "portrait" not in said
    said = {}
    for command in (["motion", str(voice_file), "-o", str(tmp_path / "m.safetensors")], ["evaluate", str(voice_file)]):
        assert cli.main(command) == 1
        said[command[0]] = capsys.readouterr().err
    assert all("voice.wav" in text and "Traceback" not in text for text in said.values())


def test_sound_without_picture_and_picture_without_sound(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", [torch.zeros(3, 16, 16, 3)], 25, 3)
    for source in (silent, io.BytesIO(silent.read_bytes())):
        with pytest.raises(PlaymateError, match="no sound"):
            read_audio(source)
        assert not has_sound(source)
    sound = make_sound(tmp_path / "a.m4a", voice())
    for source in (sound, io.BytesIO(sound.read_bytes())):
        with pytest.raises(PlaymateError, match="no picture"):
            open_video(source)


def test_what_cannot_be_read_twice_is_said(tmp_path):
    class Pipe(io.BytesIO):
        def seek(self, *place):
            raise OSError("this is a pipe")

    with pytest.raises(PlaymateError, match="can seek"):
        open_video(Pipe(b"film"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        with pytest.raises(PlaymateError, match="is a pipe"):
            read_audio(tmp_path / "pipe.wav")


@pytest.mark.parametrize("suffix", ["wmv", "ts", "flv", "mpg", "WEBM"])
def test_any_film_is_a_pose(tmp_path, suffix):
    path = make_film(tmp_path / f"clip.{suffix}", seconds=0.4, event=0.2)
    assert parse_pose(str(path)) == path
    with pytest.raises(PlaymateError, match="no file .*other"):
        parse_pose(str(path.with_name(f"other.{suffix}")))


def test_what_is_no_film_is_no_pose(tmp_path):
    (tmp_path / "notes").write_text("yaw twenty")
    with pytest.raises(PlaymateError, match="notes holds text"):
        parse_pose(str(tmp_path / "notes"))
    with pytest.raises(PlaymateError, match="is a folder"):
        parse_pose(str(tmp_path))
    (tmp_path / "m.SAFETENSORS").write_text("no motion")
    with pytest.raises(PlaymateError, match="m.SAFETENSORS"):
        parse_pose(str(tmp_path / "m.SAFETENSORS"))


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "ogg", "flac"])
def test_an_encoder_s_run_up_moves_no_word(tmp_path, suffix):
    rate = 48000 if suffix == "ogg" else 44100
    path = make_sound(tmp_path / f"a.{suffix}", voice(2.0, rate), rate)
    made = write_video(tmp_path / "film.mp4", [torch.zeros(50, 16, 16, 3)], 25, 50, audio=path)
    for source in (path, made):
        audio = read_audio(source)
        assert float((audio.samples.abs() > 0.25).nonzero()[0]) / 16000 == pytest.approx(0.6, abs=0.003)
        assert audio.duration == pytest.approx(2.0, abs=0.03)


# ---- damage


def whole_files(folder):
    for suffix in CODECS:
        yield make_film(folder / f"film.{suffix}", seconds=1.0, event=0.5)
    for suffix in ("mp3", "m4a", "ogg", "wav", "flac", "wma"):
        rate = 48000 if suffix == "ogg" else 44100
        yield make_sound(folder / f"voice.{suffix}", voice(2.0, rate), rate)
    yield make_sound(folder / "estimate.mp3", np.concatenate([voice() * 0, voice(3.0)], 1), options={"write_xing": "0"})
    # The sound of this one ends long before its picture.
    yield make_film(folder / "short.webm", event=0.2, seconds=2.0, pause=(0.5, 9.0))


def test_a_whole_file_is_not_called_damaged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        for path in whole_files(tmp_path):
            assert missing_bytes(path) == 0, path.name
            read_audio(path)
            if path.stem in ("film", "short"):
                list(open_video(path))
            assert not caplog.records, path.name


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "webm", "wmv", "wav", "mp3", "flac"])
def test_what_is_left_of_a_cut_file_is_used_and_told_once(tmp_path, caplog, suffix):
    film = suffix in CODECS
    more = {}
    if suffix == "mp4":  # with its table in front, as messengers and the web have it
        more = {"options": {"movflags": "+faststart"}, "seconds": 6.0, "codecs": ("mpeg4", "aac", 44100)}
    path = make_film(tmp_path / f"a.{suffix}", **more) if film else make_sound(tmp_path / f"a.{suffix}", noise(4.0))
    whole = read_audio(path).duration
    content = path.read_bytes()
    path.write_bytes(content[:len(content) * 3 // 5 + 37])
    with caplog.at_level(logging.WARNING):
        sound = open_sound(path)
        left = read_audio(sound)
        made = write_video(tmp_path / "film.mp4", [torch.zeros(150, 16, 16, 3)], 25, 150, audio=sound)
    assert 0 < left.duration < 0.95 * whole and read_audio(made).duration == pytest.approx(left.duration, abs=0.1)
    assert len(caplog.records) == 1 and f"a.{suffix} is damaged or cut off" in caplog.text
    if film:
        caplog.clear()
        assert 0 < len(list(open_video(path))) < 150
        assert len(caplog.records) == 1


# ---- reference files


def test_the_reference_files(shared, tmp_path, caplog):
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("no cases among the reference material")
    with caplog.at_level(logging.WARNING):
        for name, seconds in (("tag_id3v1.mp3", 0.55), ("two_tracks_default2.mp4", 3.0), ("talk_late.mp4", 4.0),
                              ("noxing_silence_start.mp3", 9.0), ("short_sound.webm", 3.0), ("six_mics.wav", 1.0)):
            audio = read_audio(cases / name)
            assert seconds - 0.1 < audio.duration < seconds + (9 if name[0] == "t" and name[1] == "a" else 0.1), name
        assert parse_pose(str(cases / "talk.wmv")) == cases / "talk.wmv"
        assert 35 < len(list(open_video(cases / "talk.wmv"))) < 40
    assert not caplog.records
    silence = read_audio(cases / "talk_late.mp4").samples[:7000]
    assert not silence[:6000].abs().max() > 0.01
    with pytest.raises(PlaymateError, match="text.wav holds text"):
        read_audio(cases / "text.wav")
