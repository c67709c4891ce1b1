"""``animate`` with several speakers: what the options say, and one film of two people."""

import argparse
import wave

import av
import numpy as np
import pytest
import torch

from playmate_core.cli import main as cli
from playmate_core.cli.cast_option import CastRequest, Speaker, motion_files
from playmate_core.motion.files import load_motion
from playmate_core.runtime.errors import PlaymateError


def request(*options):
    args = cli.build_parser().parse_args(["animate", "pair.png", *options, "-o", "out.mp4"])
    return CastRequest.parse(args), args


def test_one_person_is_no_cast():
    asked, args = request("voice.wav")
    assert asked is None and args.audio == "voice.wav"
    parsed = cli.build_parser().parse_args(["animate", "face.png", "-o", "out.mp4", "--seed", "3", "voice.wav"])
    assert parsed.audio == "voice.wav" and parsed.portrait == "face.png"


def test_a_sound_is_needed_unless_speakers_bring_theirs(capsys):
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["animate", "face.png", "-o", "out.mp4"])
    assert "audio" in capsys.readouterr().err
    asked, args = request("--speaker", "left=a.wav", "--speaker", "RIGHT = b.wav")
    assert args.audio is None and [(one.face, one.audio) for one in asked.speakers] == [("left", "a.wav"),
                                                                                        ("right", "b.wav")]


def test_speakers_are_read():
    assert Speaker.parse("2=C:/a=b.wav") == Speaker("2", "C:/a=b.wav")
    assert Speaker.parse("0").choice == {"policy": "index", "index": 0}
    assert Speaker.parse("largest").choice == {"policy": "largest"}
    assert Speaker.parse("left=a.wav,emotion=0 happy; 2 sad").emotion is not None


def test_turns_divide_one_sound():
    asked, _ = request("talk.wav", "--turns", "0 1; 2 right; 3 all")
    assert [one.face for one in asked.speakers] == ["left", "right"]
    assert asked.turns.spans(0, 4.0) == [(0.0, 2.0), (3.0, 4.0)]
    asked, args = request("talk.wav", "--speaker", "1", "--speaker", "0", "--motion-out", "m.safetensors")
    assert asked.turns is None and motion_files(asked, args) == ["m_1.safetensors", "m_2.safetensors"]


@pytest.mark.parametrize(("options", "said"), [
    (("--speaker", "middle=a.wav"), "'middle' names no face"),
    (("--speaker", "left="), "without a sound"),
    (("--speaker", "left=a.wav", "--speaker", "left=b.wav"), "twice"),
    (("--speaker", "left", "--speaker", "right"), "No sound is given"),
    (("talk.wav", "--speaker", "left=a.wav", "--speaker", "right"), "one or the other"),
    (("--speaker", "left=a.wav", "--speaker", "right=b.wav", "--turns", "0 1"), "sounds of their own"),
    (("talk.wav", "--speaker", "left"), "names one person"),
    (("talk.wav", "--turns", "0 1; 2 3"), "character 8"),
    (("talk.wav", "--turns", "0 1", "--from-motion", "m.pkl"), "--from-motion is for one person"),
])
def test_what_cannot_be_is_one_sentence(options, said):
    with pytest.raises(PlaymateError) as caught:
        request(*options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_other_commands_have_no_speakers():
    assert CastRequest.parse(argparse.Namespace(from_motion=None)) is None


@pytest.fixture(scope="module")
def pair(portrait, tmp_path_factory):
    """The sample portrait beside its mirror image, and a moment of noise in stereo, left then right."""
    import cv2

    folder = tmp_path_factory.mktemp("pair")
    both = torch.cat([portrait, portrait.flip(1)], 1)
    cv2.imwrite(str(folder / "pair.png"), (both * 255).to(torch.uint8).numpy()[..., ::-1])
    noise = np.random.default_rng(0).normal(0, 4000, 9600).astype(np.int16)
    noise[3200:] = 0
    for name, channels in (("stereo", (noise, noise[::-1])), ("mono", (noise + noise[::-1],))):
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(len(channels))
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(np.stack(channels, 1).tobytes())
    return folder


def test_two_people_in_one_film(pair, capsys):
    status = cli.main(["animate", str(pair / "pair.png"), str(pair / "stereo.wav"), "--speaker", "left", "--speaker",
                       "right", "-o", str(pair / "a.mp4"), "--device", "cpu", "--steps", "2", "--size", "192",
                       "--motion-out", str(pair / "m.safetensors")])
    assert status == 0, capsys.readouterr().err
    with av.open(str(pair / "a.mp4")) as film:
        assert len(film.streams.audio) == 1 and sum(1 for _ in film.decode(video=0)) == 15
    left, right = (load_motion(pair / f"m_{number}.safetensors") for number in (1, 2))
    assert len(left) == len(right) == 15 and not torch.equal(left.expression, right.expression)
    # While the other one speaks, the left one's eyes and head are on them.
    assert float(left.rotation[-2:, 1].mean()) < 0 < float(right.rotation[:2, 1].mean())


def test_mono_without_turns_and_the_same_face_twice(pair, capsys):
    for sound, faces, said in (("mono", ("left", "right"), "--turns"), ("stereo", ("left", "0"), "same face")):
        status = cli.main(["animate", str(pair / "pair.png"), str(pair / f"{sound}.wav"), "--speaker", faces[0],
                           "--speaker", faces[1], "-o", str(pair / "b.mp4"), "--device", "cpu", "--size", "192"])
        assert status == 1 and said in capsys.readouterr().err and not (pair / "b.mp4").exists()
