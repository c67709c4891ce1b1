"""Times and values as people write them, in every schedule."""

import pytest

from playmate_core.emotion.curve import EMOTIONS, read_schedule
from playmate_core.motion.gaze import GazeKeyframes
from playmate_core.motion.keyframes import PoseKeyframes
from playmate_core.motion.schedule import DEGREES, PERCENT, Unreadable, measure, number, plain, seconds
from playmate_core.runtime.errors import PlaymateError


@pytest.mark.parametrize("text, wanted", [
    ("2", 2), ("2.5", 2.5), (".5", 0.5), ("2,5", 2.5), ("2s", 2), ("2 s", 2), ("2 sec", 2), ("2.5 Seconds", 2.5),
    ("500ms", 0.5), ("500 ms", 0.5), ("1m30s", 90), ("1 min 30 s", 90), ("1h", 3600), ("0:02", 2), ("1:02.5", 62.5),
    ("0:02,5", 2.5), ("01:00:02", 3602), ("90:00", 5400), ("２：０５", 125),
    ("\u00a02\u202fs\u3000", 2), ("0,500s", 0.5),
])
def test_times(text, wanted):
    assert seconds(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text, why", [
    ("", "no time"), ("soon", "no time"), ("1:2:3:4", "no time"), ("0:75", "a clock"), ("1:60:00", "a clock"),
    ("nan", "no time"), ("1_0", "no time"), ("2 yaw", "no time"), ("1,500", "1.5 or 1500"), ("80%", "no time"),
])
def test_what_is_no_time(text, why):
    with pytest.raises(Unreadable, match=why):
        seconds(text)


@pytest.mark.parametrize("text, wanted", [
    ("80%", (80, PERCENT)), ("80 %", (80, PERCENT)), ("80 percent", (80, PERCENT)), ("10°", (10, DEGREES)),
    ("10 deg", (10, DEGREES)), ("-10 Degrees", (-10, DEGREES)), ("\u22125º", (-5, DEGREES)), ("0,25", (0.25, "")),
    ("\u20130.5", (-0.5, "")), ("１０％", (10, PERCENT)), ("1e2", (100, "")),
])
def test_values(text, wanted):
    assert measure(text) == wanted


@pytest.mark.parametrize("text, why", [
    ("1,234", "1.234 or 1234"), ("1.000,5", "no number"), ("1,", "no number"), ("inf", "no number"), ("1e999", "large"),
    ("5 apples", "no number"), ("--5", "no number"),
])
def test_what_is_no_number(text, why):
    with pytest.raises(Unreadable, match=why):
        measure(text)
    with pytest.raises(Unreadable):
        number(text)


def test_places_in_a_text_stay_where_they_are():
    text = "０：０２\u3000yaw＝－５°；\u200b½"
    assert plain(text) == "0:02 yaw=-5°; ½" and len(plain(text)) == len(text)


@pytest.mark.parametrize("text", [
    "0 yaw=10 roll=-5; 2.5 scale=1.1", "0:00 yaw=10° roll=\u22125\u00b0\n0:02.5 scale=110%",
    "0s yaw = 10 deg roll: \u20135; 2500ms scale=1,1", "2,5 s scale = 110 %；０ yaw＝１０ roll＝－５",
    "0: yaw=10 roll=-5; 2.5, scale=1.1", "0 - yaw=10 roll=-5; 0:02.5 - scale=1.1\r\n",
])
def test_pose_keyframes(text):
    assert PoseKeyframes.parse(text).axes == {"yaw": ((0, 10),), "roll": ((0, -5),), "scale": ((2.5, 1.1),)}


@pytest.mark.parametrize("text", ["0 x=0.4 y=-0.5; 1.5 x=0", "0:00 x=40% y=\u221250%\n0:01.5 x=0%",
                                  "0 x=10° y=\u221210 deg; 1500 ms x=0,0"])
def test_gaze_keyframes(text):
    assert GazeKeyframes.parse(text).axes == {"x": ((0, 0.4), (1.5, 0)), "y": ((0, -0.5),)}


@pytest.mark.parametrize("text", [
    "0 neutral; 1.5 happy 0.8; 62.5 sad 0.5 + fear 0.5", "0:00 neutral\n0:01.5 happy 80%\n1:02.5 sad 50% + fear 0,5",
    "0s - neutral; 1500ms - 80% happy; 1m2.5s: sad=0.5+fear=0.5",
    "０ neutral；１．５ Happy 80 %；1:02.5 sad (0.5) + fear .5",
])
def test_emotion_schedules(text):
    keys = read_schedule(text)
    assert [key.time for key in keys] == [0, 1.5, 62.5]
    felt = [{label: amount for label, amount in zip(EMOTIONS, key.amounts, strict=True) if amount} for key in keys]
    assert felt == [{}, {"happy": 0.8}, {"fear": 0.5, "sad": 0.5}]


@pytest.mark.parametrize("read, text, place, piece", [
    (PoseKeyframes.parse, "0 yaw=1; 2 yaw=left", " at character 12", '"yaw=left"'),
    (PoseKeyframes.parse, "0 yaw=1\n\n 2 nod=5", ", line 3, character 4", '"nod=5"'),
    (PoseKeyframes.parse, "0 x=10°", " at character 3", "x is no angle"),
    (PoseKeyframes.parse, "0 yaw=10%", " at character 3", "percent"),
    (PoseKeyframes.parse, "0:75 yaw=1", " at character 1", "a clock"),
    (PoseKeyframes.parse, "0 yaw=1; 1,500 yaw=2", " at character 10", "1.5 or 1500"),
    (GazeKeyframes.parse, "0 x=0; 1 x=40°", " at character 10", "beyond 25 degrees"),
    (GazeKeyframes.parse, "0 x=120%", " at character 3", "beyond 100%"),
    (read_schedule, "0 neutral\n1 happy 1 + hapy 0.5", ", line 2, character 13", '"hapy 0.5" names an unknown emotion'),
    (read_schedule, "0 neutral; 2 happy 10°", " at character 14", "degrees"),
    (read_schedule, "0 neutral; happy", " at character 12", "no time"),
    (read_schedule, "0 happy 250%", " at character 3", "outside 0 to 2"),
])
def test_mistakes_are_quoted_with_their_place(read, text, place, piece):
    with pytest.raises(PlaymateError) as caught:
        read(text)
    said = str(caught.value)
    assert place + ":" in said and piece in said and said.endswith(".") and "\n" not in said and len(said) < 300


def test_any_text_is_read_or_refused_in_a_sentence():
    hypothesis = pytest.importorskip("hypothesis")
    letters = hypothesis.strategies.text(alphabet="0123456789 ;:=.,+-%°\nsmhyawxroldegi\u2212\u00a0", max_size=24)

    @hypothesis.settings(max_examples=300, deadline=None)
    @hypothesis.given(letters, hypothesis.strategies.sampled_from(
        [PoseKeyframes.parse, GazeKeyframes.parse, read_schedule]))
    def check(text, read):
        try:
            read(text)
        except PlaymateError as error:
            assert str(error).endswith(".") and "\n" not in str(error)

    check()
