"""Files of blendshapes: every kind that is read, what is written, and what is refused in which line."""

from __future__ import annotations

import json
import math

import pytest
import torch

from playmate_core.face.arkit_head import degrees_from_live_link, live_link_from_degrees
from playmate_core.face.blendshape_files import (
    FORMATS,
    LIVE_LINK_ANGLES,
    BlendshapeTrack,
    blendshape_text,
    read_blendshapes,
    write_blendshapes,
)
from playmate_core.face.blendshape_names import (
    LIVE_LINK_NAMES,
    NAMES,
    parse_blendshapes,
    shape_name,
    weight_vector,
)
from playmate_core.motion.geometry import rotation_matrix
from playmate_core.runtime.errors import PlaymateError

JAW, SMILE = NAMES.index("jawOpen"), NAMES.index("mouthSmileLeft")
COLUMNS = [*LIVE_LINK_NAMES, *LIVE_LINK_ANGLES]


@pytest.fixture
def file(tmp_path):
    """Writes a file and gives its path."""
    def write(content, name="take.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path
    return write


def take(codes, columns=COLUMNS, between=",", jaw=lambda index: index / 100, **constant):
    """A take of Live Link Face whose jaw opens by a hundredth a row."""
    lines = [between.join(["Timecode", "BlendShapeCount", *columns])]
    for index, code in enumerate(codes):
        row = [jaw(index) if name == "JawOpen" else constant.get(name, 0.0) for name in columns]
        lines.append(between.join([code, str(len(columns)), *(f"{value:.6f}" for value in row)]))
    return "\n".join(lines) + "\n"


def codes(frames, rate=60, start=(14, 3, 52), part=".207"):
    seconds = start[0] * 3600 + start[1] * 60 + start[2]
    return [f"{(seconds + n // rate) // 3600 % 24:02}:{(seconds + n // rate) // 60 % 60:02}:"
            f"{(seconds + n // rate) % 60:02}:{n % rate:02}{part}" for n in frames]


# --- names

@pytest.mark.parametrize("text", ["mouthSmileLeft", "MouthSmileLeft", "mouth_smile_left", "mouthSmile_L",
                                  "MOUTHSMILE.L", "mouth Smile Left", "face.mouthSmileLeft", "leftMouthSmile",
                                  "mouthSmileL"])
def test_names_in_any_spelling(text):
    assert shape_name(text) == "mouthSmileLeft"


def test_the_52_are_there_and_no_spelling_means_two():
    assert len(NAMES) == len(set(NAMES)) == 52 and len(LIVE_LINK_NAMES) == 52
    assert sorted(shape_name(name) for name in LIVE_LINK_NAMES) == sorted(NAMES)
    assert shape_name("jawLeft") == "jawLeft" and shape_name("mouth_left") == "mouthLeft"
    assert shape_name("eyeBlink_R") == "eyeBlinkRight" and shape_name("_neutral") is None


@pytest.mark.parametrize("text, wanted", [
    ("mouthSmileLeft 0.5, jawOpen 0.2", {"mouthSmileLeft": 0.5, "jawOpen": 0.2}),
    ("jaw_open=20%; MouthSmile 1.5\n", {"jawOpen": 0.2, "mouthSmileLeft": 1.5, "mouthSmileRight": 1.5}),
    ("cheekPuff: .3, cheekPuff: 0.4", {"cheekPuff": 0.4}), ("", {}), (" ; ", {}),
])
def test_blendshapes_by_hand(text, wanted):
    assert parse_blendshapes(text) == pytest.approx(wanted)
    assert weight_vector(wanted).sum() == pytest.approx(sum(wanted.values()))


@pytest.mark.parametrize("text, piece", [
    ("mouthSmil 1", "perhaps mouthSmileLeft"), ("smirk 1", "'smirk'"), ("jawOpen", "no weight"),
    ("jawOpen 2", "is 2"), ("jawOpen -0.1", "is -0.1"), ("jawOpen wide", "'jawOpen wide'"), ("0.5", "'0.5'"),
    ("jawOpen 1e999", "is inf"),
])
def test_blendshapes_by_hand_that_cannot_be(text, piece):
    with pytest.raises(PlaymateError) as told:
        parse_blendshapes(f"browInnerUp 0.1, {text}")
    assert piece in str(told.value) and str(told.value).endswith(".") and "\n" not in str(told.value)


# --- the head

def test_the_head_turns_to_the_side_that_live_link_means():
    """By the nose's tip and the crown in the picture: x right, y down, z away from the viewer."""
    def moved(yaw=0.0, pitch=0.0, roll=0.0):
        degrees = degrees_from_live_link(torch.tensor([yaw, pitch, roll]))
        return torch.tensor([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]) @ rotation_matrix(degrees)

    nose, _ = moved(yaw=0.3)
    assert nose[0] > 0.2, "the face's own left is the right side of the picture"
    nose, _ = moved(pitch=0.3)
    assert nose[1] < -0.2, "up"
    _, crown = moved(roll=0.3)
    assert crown[0] < -0.2, "to the own right shoulder, which is on the left"
    assert torch.allclose(degrees_from_live_link(torch.tensor([0.3, 0.0, 0.0])),
                          torch.tensor([0.0, -math.degrees(0.3), 0.0]), atol=1e-4)


def test_angles_come_back_also_where_all_three_turn():
    degrees = (torch.rand(40, 3, generator=torch.Generator().manual_seed(1)) - 0.5) * 90
    assert torch.allclose(degrees_from_live_link(live_link_from_degrees(degrees)), degrees, atol=1e-3)
    # Yaw is outermost: a head that is turned and nods does not tilt.
    turned = live_link_from_degrees(degrees_from_live_link(torch.tensor([0.5, 0.4, 0.0])))
    assert torch.allclose(turned, torch.tensor([0.5, 0.4, 0.0]), atol=1e-5)


# --- Live Link Face

def test_a_take_of_the_app(file):
    track = read_blendshapes(file(take(codes(range(90)), HeadYaw=0.1, EyeBlinkLeft=0.5)))
    assert len(track) == 90 and track.fps == 60 and not track.notes
    assert torch.allclose(track.weights[:, JAW], torch.arange(90) / 100, atol=1e-5)
    assert torch.allclose(track.weights[:, NAMES.index("eyeBlinkLeft")], torch.tensor(0.5))
    assert torch.allclose(track.head, torch.tensor([0.0, -math.degrees(0.1), 0.0]).expand(90, 3), atol=1e-3)


@pytest.mark.parametrize("form", ["52", "bom", "utf-16", "semicolons", "tabs", "crlf", "empty rows", "count"])
def test_the_forms_a_take_comes_in(file, form):
    plain = take(codes(range(70)))
    content = {
        "52": lambda: take(codes(range(70)), LIVE_LINK_NAMES),
        "bom": lambda: b"\xef\xbb\xbf" + plain.encode(),
        "utf-16": lambda: plain.encode("utf-16"),
        "semicolons": lambda: take(codes(range(70)), between=";").replace("0.", "0,"),
        "tabs": lambda: take(codes(range(70)), between="\t"),
        "crlf": lambda: plain.replace("\n", "\r\n"),
        "empty rows": lambda: "\n" + plain.replace("\n", "\n\n") + ",,,\n",
        "count": lambda: plain.replace("BlendShapeCount", "BlendshapeCount"),
    }[form]()
    track = read_blendshapes(file(content))
    assert len(track) == 70 and track.fps == 60 and not track.notes
    assert torch.allclose(track.weights[:, JAW], torch.arange(70) / 100, atol=1e-5)
    assert (track.head is None) == (form == "52")


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_the_rate_is_read_off_the_timecode(file, rate):
    assert read_blendshapes(file(take(codes(range(3 * rate), rate)))).fps == rate


def test_a_take_too_short_to_tell_is_the_apps_60_unless_said(file):
    short = file(take(codes(range(20), 30)))
    assert read_blendshapes(short).fps == 60 and read_blendshapes(short, 30).fps == 30


def test_missing_frames_are_filled(file):
    there = [n for n in range(80) if n not in (30, 31, 32, 59, 60)]
    text = take(codes(there), jaw=lambda index: there[index] / 100, HeadRoll=0.05)
    track = read_blendshapes(file(text))
    assert len(track) == 80 and track.fps == 60
    assert torch.allclose(track.weights[:, JAW], torch.arange(80) / 100, atol=1e-4)
    assert "5 frames are missing" in track.notes[0]


def test_frames_without_a_face_are_filled_and_midnight_passes(file):
    lines = take(codes(range(120), start=(23, 59, 59))).splitlines()
    lines[11] = lines[11].split(",")[0] + ",0" + "," * 61
    track = read_blendshapes(file("\n".join(lines)))
    assert len(track) == 120 and torch.allclose(track.weights[:, JAW], torch.arange(120) / 100, atol=1e-4)


def test_rows_that_wander_by_parts_of_a_frame_come_onto_the_grid(file):
    parts = [".000", ".310", ".150", ".420"]
    text = take([codes([n], part=parts[n % 4])[0] for n in range(64)],
                jaw=lambda index: (index + float(parts[index % 4])) / 100)
    track = read_blendshapes(file(text))
    assert len(track) == 64 and torch.allclose(track.weights[:63, JAW], torch.arange(63) / 100, atol=2e-3)


def test_unknown_columns_are_named_and_values_are_brought_into_range(file):
    text = take(codes(range(70)), [*COLUMNS, "Mood"], MouthFunnel=-0.04, Mood=3.0)
    track = read_blendshapes(file(text))
    assert "Mood" in track.notes[0] and track.weights.min() == 0
    percent = read_blendshapes(file("jawOpen,mouthFunnel\n50,0\n100,20\n"), 30)
    assert torch.allclose(percent.weights[:, JAW], torch.tensor([0.5, 1.0])) and "percent" in percent.notes[0]
    degrees = read_blendshapes(file(take(codes(range(70)), HeadYaw=12.0)))
    assert float(degrees.head[3, 1]) == pytest.approx(-12.0, abs=1e-3) and "degrees" in degrees.notes[0]


# --- plain CSV

def test_a_plain_file_with_some_shapes(file):
    track = read_blendshapes(file("mouth_smile_l,JawOpen,yaw\n0.5,0.1,4\n0.6,0.2,5\n"), 25)
    assert track.weights[:, SMILE].tolist() == pytest.approx([0.5, 0.6])
    assert track.weights[:, JAW].tolist() == pytest.approx([0.1, 0.2])
    assert track.head.tolist() == [[0, 4, 0], [0, 5, 0]] and track.fps == 25 and not track.notes


def test_a_file_without_a_rate_is_taken_at_30_and_told(file):
    track = read_blendshapes(file("jawOpen\n0\n1\n"))
    assert track.fps == 30 and "no frame rate" in track.notes[0]


def test_times_and_frame_numbers(file):
    track = read_blendshapes(file("time,jawOpen\n0.5,0\n0.54,0.1\n0.62,0.3\n0.66,0.4\n"))
    assert track.fps == 25 and torch.allclose(track.weights[:, JAW], torch.arange(5) / 10, atol=1e-3)
    track = read_blendshapes(file("time_ms,jawOpen\n0,0\n33.3,0.1\n66.7,0.2\n"))
    assert track.fps == 30 and len(track) == 3
    track = read_blendshapes(file("Frame;jawOpen\n101;0\n102;0,1\n104;0,3\n"), 24)
    assert track.fps == 24 and torch.allclose(track.weights[:, JAW], torch.arange(4) / 10, atol=1e-5)


def test_shapes_that_a_rig_has_twice_are_halves_of_one(file):
    track = read_blendshapes(file("browInnerUp_L,browInnerUp_R\n0.2,0.6\n"), 30)
    assert float(track.weights[0, NAMES.index("browInnerUp")]) == pytest.approx(0.4)


# --- JSON

@pytest.mark.parametrize("content, fps", [
    ({"fps": 24, "names": ["jawOpen", "MouthSmileLeft"], "weights": [[0.1, 0.5], [0.2, 0.6]]}, 24),
    ({"exportFps": 60.0, "trackPath": "a.wav", "numPoses": 2, "numFrames": 2, "facsNames": ["jawOpen", "mouthSmile_L"],
      "weightMat": [[0.1, 0.5], [0.2, 0.6]]}, 60),
    ([{"jawOpen": 0.1, "mouthSmileLeft": 0.5}, {"jawOpen": 0.2, "mouthSmileLeft": 0.6}], 30),
    ({"fps": 50, "frames": [{"blendshapes": {"jawOpen": 0.1, "mouthSmile_L": 0.5}, "frame": 7},
                            {"blendshapes": {"jawOpen": 0.2, "mouthSmile_L": 0.6}, "frame": 8}]}, 50),
])
def test_json_of_every_kind(file, content, fps):
    track = read_blendshapes(file(json.dumps(content), "take.json"))
    assert track.fps == fps and len(track) == 2
    assert torch.allclose(track.weights[:, (JAW, SMILE)], torch.tensor([[0.1, 0.5], [0.2, 0.6]]))


def test_a_shape_that_a_frame_does_not_name_is_at_rest(file):
    track = read_blendshapes(file('[{"jawOpen": 0.4}, {"tongueOut": 1}]', "take.json"), 25)
    assert track.weights[:, JAW].tolist() == pytest.approx([0.4, 0.0])


# --- writing

@pytest.fixture
def track():
    draw = torch.Generator().manual_seed(0)
    return BlendshapeTrack(torch.rand(130, 52, generator=draw), (torch.rand(130, 3, generator=draw) - 0.5) * 40, 60.0)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_again(track, tmp_path, form):
    path = write_blendshapes(track, tmp_path / f"t.{'json' if form == 'json' else 'csv'}", form)
    again = read_blendshapes(path)
    assert again.fps == 60 and not again.notes
    assert torch.allclose(again.weights, track.weights, atol=1e-5)
    assert torch.allclose(again.head, track.head, atol=1e-3)


def test_a_take_is_written_as_the_app_does(track):
    lines = blendshape_text(track).splitlines()
    assert lines[0] == ",".join(["Timecode", "BlendShapeCount", *COLUMNS]) and len(lines[0].split(",")) == 63
    assert lines[1].startswith("00:00:00:00.000,61,") and lines[62].startswith("00:00:01:01.000,61,")
    with pytest.raises(PlaymateError, match="29.97"):
        blendshape_text(BlendshapeTrack(track.weights, None, 29.97))
    with pytest.raises(PlaymateError, match="live_link_face, csv, json"):
        blendshape_text(track, "fbx")


# --- what is refused

GOOD = take(codes(range(70))).splitlines()
BAD = {
    "empty": ("", "it is empty"),
    "blank": ("\n\n \n", "it is empty"),
    "no text": (b"\x00\x01\x02\xff", "no text"),
    "no shapes": ("name,age\n1,2\n", "names no blendshape"),
    "no frames": (GOOD[0] + "\n", "no frames"),
    "word": ("\n".join([*GOOD[:6], GOOD[6].replace("0.050000", "wide"), *GOOD[7:]]),
             "line 7, column JawOpen holds 'wide'"),
    "not finite": ("\n".join([*GOOD[:6], GOOD[6].replace("0.050000", "nan"), *GOOD[7:]]), "line 7, column JawOpen"),
    "cut off": ("\n".join([*GOOD[:9], GOOD[9][:60]]), "line 10 ends after"),
    "too wide": ("\n".join([*GOOD[:4], GOOD[4] + ",5"]), "line 5 has 64 cells"),
    "a hole": ("jawOpen,mouthFunnel\n0.1,0\n,0.2\n", "line 3, column jawOpen is empty"),
    "timecode": ("\n".join([*GOOD[:3], GOOD[3].replace("14:03", "today")]), "line 4, column Timecode"),
    "back in time": ("\n".join([*GOOD[:30], GOOD[3]]), "line 31: its timecode does not come after"),
    "no rate": ("time,jawOpen\n0,0\n4e7,1\n", "4e+07 s apart"),
    "same frame": ("frame,jawOpen\n1,0\n1,0\n", "line 3: its frame"),
    "twice": ("jawOpen,jaw_open\n1,0\n", "names jawOpen twice"),
    "both sides": ("mouthSmileLeft,mouthSmile_L\n1,0\n", "names mouthSmileLeft twice"),
    "millions": ("jawOpen\n5000\n", "to 5000 where 0 to 1"),
    "far away": ("frame,jawOpen\n1,0\n99999999,0\n", "at most"),
}
BAD_JSON = {
    "no json": ('{"fps": 25,\n "names": [}', "line 2, column"),
    "nothing known": ('{"a": 1}', "neither names and weights"),
    "rate": ('{"fps": 0, "names": ["jawOpen"], "weights": [[1]]}', "fps is 0"),
    "row": ('{"names": ["jawOpen"], "weights": [[1], [1, 2]]}', "frame 1 has 2 weights for 1"),
    "text": ('[{"jawOpen": 0.1}, {"jawOpen": "wide"}]', "frame 1, jawOpen holds 'wide'"),
    "head": ('{"names": ["jawOpen"], "weights": [[1]], "head": {"yaw": [1, 2]}}', "head.yaw"),
    "deep": ("[" * 100_000, "nested"),
}


@pytest.mark.parametrize("name, content, piece", [(f"{key.replace(' ', '_')}{end}", *told)
                                                  for end, kind in ((".csv", BAD), (".json", BAD_JSON))
                                                  for key, told in kind.items()])
def test_bad_files_end_in_one_sentence(file, name, content, piece):
    with pytest.raises(PlaymateError) as told:
        read_blendshapes(file(content, name))
    sentence = str(told.value)
    assert sentence.startswith(f"Cannot read blendshapes from {name}: ") and piece in sentence, sentence
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 300


def test_no_file_and_no_such_kind(tmp_path, file):
    with pytest.raises(PlaymateError, match="no such file"):
        read_blendshapes(tmp_path / "none.csv")
    with pytest.raises(PlaymateError, match="ends in"):
        read_blendshapes(file("x", "take.mov"))
    with pytest.raises(PlaymateError, match="above 0"):
        read_blendshapes(file("jawOpen\n1\n"), -1)
