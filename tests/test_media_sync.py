"""Picture and sound stay together: the film of a clip's own motion and sound is in step as a player plays the clip."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.driving.film import motion_from_frames
from playmate_core.media import sound_file
from playmate_core.media.clip_sound import clip_sound
from playmate_core.media.clock import Clock
from playmate_core.media.sound import read_audio
from playmate_core.media.sound_file import _Place, open_sound
from playmate_core.media.video_reader import open_video

from .driving_helpers import actor
from .film_helpers import CODECS, FPS, SMALL, events, make_film
from .node_helpers import InputImpl, node_modules

TURN = 20.0


class Watcher:
    """Stands in for FaceAnalyzer: the brighter the picture, the more the head is turned."""

    def __init__(self, bridge):
        self.bridge = bridge

    def track(self, frames, policy, index):
        for picture in frames:
            light = float(picture.float().mean()) / 255
            yield actor(self.bridge, torch.zeros(21, 3), (0.0, TURN * light, 0.0))


def painted(motion):
    """Frames as bright as the head is turned; the same scale as ``Watcher``'s."""
    light = (motion.rotation[:, 1].abs() / TURN).clamp(0, 1)
    for part in light.split(10):
        yield part[:, None, None, None].expand(-1, 32, 32, 3)


@pytest.fixture
def quick(monkeypatch, bridge, portrait_path):
    """The command line without networks: ``film(clip)`` is the film of a clip's own motion and sound."""
    from playmate_core import pipeline
    from playmate_core.face.analyzer import FaceAnalyzer

    monkeypatch.setattr(FaceAnalyzer, "load", classmethod(lambda cls, **more: Watcher(bridge)))
    monkeypatch.setattr(pipeline, "load_models", lambda *args, **more: SimpleNamespace(face=None, bridge=bridge))
    monkeypatch.setattr(pipeline, "extract_appearance", lambda *args, **more: SMALL)
    monkeypatch.setattr(pipeline, "render_frames", lambda models, appearance, motion, *rest, **more: painted(motion))

    def film(clip, suffix=".mp4", *more):
        motion, made = clip.with_suffix(".safetensors"), clip.with_name(f"film{suffix}")
        assert cli.main(["motion", str(clip), "-o", str(motion), "--device", "cpu", "--smoothing", "0"]) == 0
        assert cli.main(["animate", str(portrait_path), str(clip), "--from-motion", str(motion), "-o", str(made),
                         "--device", "cpu", *more]) == 0
        return made

    return film


@pytest.fixture(scope="module")
def bridge(models):
    return models.bridge


@pytest.mark.parametrize("later", [0.0, 0.48, -0.48])
@pytest.mark.parametrize("suffix", CODECS)
def test_the_film_of_a_clip_is_in_step_as_the_clip_is(quick, tmp_path, suffix, later):
    clip = make_film(tmp_path / f"clip.{suffix}", later)
    shown, played = events(clip)
    flash, click = events(quick(clip))
    assert abs((click - flash) - (played - shown)) < 0.01
    # Speech encoders hear it at the same moment.
    speech = read_audio(clip).samples
    heard = float((speech.abs() > 0.25).nonzero()[0]) / 16000
    seen = max(open_video(clip), key=lambda each: float(each[1].float().mean()))[0]
    assert abs((heard - seen) - (played - shown)) < 0.01


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_encoder_s_run_up_is_not_heard_in_any_output(quick, tmp_path, suffix):
    clip = make_film(tmp_path / "clip.mkv")
    flash, click = events(quick(clip, suffix))
    assert abs(click - flash) < 0.005 and abs(flash - 1.2) < 0.03


def test_early_sound_is_not_lost_and_the_first_picture_stays_until_its_time(quick, tmp_path):
    clip = make_film(tmp_path / "clip.mkv", -0.48)
    reader = open_video(clip)
    stamps = [time for time, _ in reader]
    # 0.48 s, or 0.02 s more where a release of FFmpeg plays the encoder's run-up.
    assert reader.clock.picture_lead == pytest.approx(0.48, abs=0.03)
    assert stamps[:12] == pytest.approx([number / FPS for number in range(12)])
    assert [time - reader.clock.picture_lead for time in stamps[12:]] == pytest.approx(
        [number / FPS for number in range(38)], abs=2e-3)
    assert abs(reader.total - 50) <= 1 and read_audio(clip).duration == pytest.approx(2.0, abs=0.05)
    assert events(quick(clip)) == pytest.approx(events(clip), abs=0.03)


def test_a_pause_in_the_sound_stays_a_pause(quick, tmp_path):
    """A recorder that writes nothing while nobody speaks."""
    clip = make_film(tmp_path / "clip.mkv", codecs=("mpeg4", "pcm_s16le", 48000), pause=(0.4, 1.0))
    flash, click = events(quick(clip))
    assert abs(click - flash) < 0.01 and read_audio(clip).duration == pytest.approx(2.0, abs=0.05)


def test_a_varying_frame_rate_keeps_time(quick, tmp_path):
    """A screen recorder that writes a picture only when something moves."""
    stamps = [0, 1, 2, 3, 15, 16, 17, 29, 30, 31, 32, 40, 45, 49]
    for suffix in ("mp4", "webm"):
        clip = make_film(tmp_path / f"clip.{suffix}", 0.2, stamps=stamps)
        shown, played = events(clip)
        light = torch.tensor([float(picture.float().mean()) for picture in open_video(clip).steady()])
        rate = open_video(clip).fps
        assert abs(int(light.argmax()) / rate - shown) <= 0.5 / rate + 1e-3 and abs(len(light) / rate - 2) < 0.2
        flash, click = events(quick(clip, ".mp4", "--fps", "25"))
        assert abs((click - flash) - (played - shown)) < 0.02


def test_the_nodes_sound_of_a_clip_is_in_step_with_its_motion(tmp_path):
    clip = make_film(tmp_path / "clip.mp4", 0.48)
    for source in (clip, io.BytesIO(clip.read_bytes())):
        sound = clip_sound(source)
        assert set(sound) == {"waveform", "sample_rate"}
        click = float((sound["waveform"][0, 0].abs() > 0.25).nonzero()[0]) / sound["sample_rate"]
        flash = max(open_video(source), key=lambda each: float(each[1].float().mean()))[0]
        assert click == pytest.approx(1.2, abs=0.01) and flash == pytest.approx(1.2, abs=0.01)
    part = clip_sound(clip, 1.0, 0.5)
    assert part["waveform"].shape[-1] / part["sample_rate"] == pytest.approx(0.5, abs=1e-3)
    click = float((part["waveform"][0, 0].abs() > 0.25).nonzero()[0]) / part["sample_rate"]
    assert click == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("later", [0.48, -0.48])
def test_the_nodes_film_of_a_clip_is_in_step(monkeypatch, bridge, tmp_path, later):
    """Load Video, Motion From Video, Render Video."""
    clip = make_film(tmp_path / "clip.mkv", later)
    models = SimpleNamespace(face=Watcher(bridge), bridge=bridge, renderer=None)
    with node_modules("motion_from_video", "render_video") as nodes:
        monkeypatch.setattr(nodes.pipeline, "render_frames",
                            lambda models, appearance, motion, *rest, **more: painted(motion))
        motion, sound = nodes.motion_from_video.MotionFromVideo.execute(
            models, "pose and expression", "largest", 0, "interpolate", "auto", 0.0, 0.0, 0.0, 0.0, "landmarks", 25.0,
            video=InputImpl.VideoFromFile(str(clip))).args
        film = nodes.render_video.RenderVideo.execute(models, SMALL, motion, 16, 0, sound).args[0].get_stream_source()
    flash, click = events(film)
    os.unlink(film)
    shown, played = events(clip)
    assert abs((click - flash) - (played - shown)) < 0.01 and abs(flash - shown) < 0.03


@pytest.mark.parametrize("start", [0.2, 0.215, 0.225])
def test_a_part_that_begins_between_two_frames_keeps_time(bridge, tmp_path, start):
    clip = make_film(tmp_path / "clip.mp4", 0.48)
    reader = open_video(clip, start, 1.5)
    motion = motion_from_frames(Watcher(bridge), bridge, reader, reader.fps)
    light = (motion.rotation[:, 1].abs() - motion.rotation[:, 1].abs().median()).clamp_min(0.5) - 0.5
    flash = float((light * torch.arange(len(light))).sum() / light.sum()) / motion.fps
    sound = clip_sound(clip, start, 1.5)
    click = float((sound["waveform"][0, 0].abs() > 0.25).nonzero()[0]) / sound["sample_rate"]
    assert flash == pytest.approx(1.2 - start, abs=0.01) and click == pytest.approx(1.2 - start, abs=0.01)


# ---- the file's clock against the samples


def placed(stamps, frame=0.02):
    """Seconds of silence and seconds left out in all, for frames of so many seconds stamped so."""
    place = _Place(Clock(0.0, stamps[0]), 1e4)
    silence, left_out = zip(*(place.put(frame, stamp) for stamp in stamps), strict=True)
    return sum(silence), sum(left_out), len(stamps) * frame + sum(silence) - sum(left_out)


def test_jitter_is_no_gap():
    generator = torch.Generator().manual_seed(0)
    shaken = [0.02 * number + 0.016 * float(torch.rand((), generator=generator) - 0.5) for number in range(3000)]
    assert placed([0.0, *shaken[1:]])[:2] == (0.0, 0.0)
    assert placed([round(0.02 * number, 2) for number in range(500)])[:2] == (0.0, 0.0)
    assert placed([None if number % 7 else 0.02 * number for number in range(500)])[:2] == (0.0, 0.0)


@pytest.mark.parametrize("speed", [1.0005, 0.9995])
def test_a_clock_that_runs_away_is_followed(speed):
    """A microphone on another clock than the camera: half a second in a thousand."""
    silence, left_out, length = placed([0.02 * number * speed for number in range(50_000)])
    assert abs(length - 1000 * speed) < 0.02 and (silence > 0.4 if speed > 1 else left_out > 0.4)


def test_stamps_that_begin_anew_cost_nothing():
    joined = [0.02 * number for number in range(100)]
    assert placed(joined + joined)[2] == pytest.approx(4.0)
    assert placed([*joined, *(1e6 + stamp for stamp in joined)])[2] == pytest.approx(4.0)


def test_a_short_sound_is_decoded_once(tmp_path, monkeypatch):
    clip = make_film(tmp_path / "clip.mkv", 0.48)
    first = read_audio(sound := open_sound(clip))
    monkeypatch.setattr(sound_file, "open_media", None)
    again = read_audio(sound)
    assert torch.equal(first.samples, again.samples) and first.duration == again.duration
    monkeypatch.undo()
    monkeypatch.setattr(sound_file, "KEPT", 1000)
    long = open_sound(clip)
    assert torch.equal(read_audio(long).samples, read_audio(long).samples) and not long._kept
