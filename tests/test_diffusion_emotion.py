"""Emotion curves and their text form."""

import pytest
import torch

from playmate_core.emotion.curve import EMOTIONS, LABELS, EmotionCurve
from playmate_core.runtime.errors import PlaymateError

parse_schedule = EmotionCurve.parse


def amounts(curve, label):
    return curve.weights[:, LABELS.index(label)] * curve.strength


def test_labels_keep_the_published_order():
    assert LABELS == ("angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised", "neutral")
    assert EMOTIONS == LABELS[:7]


def test_a_bare_label_holds_for_the_whole_clip():
    curve = parse_schedule("happy", 40)
    assert len(curve) == 40 and not curve.is_neutral
    assert torch.equal(amounts(curve, "happy"), torch.ones(40))


def test_a_bare_mixture_keeps_its_strengths():
    curve = EmotionCurve.parse("sad 0.5 + fear 0.25", 3, 25.0)
    torch.testing.assert_close(amounts(curve, "sad"), torch.full((3,), 0.5))
    torch.testing.assert_close(amounts(curve, "fear"), torch.full((3,), 0.25))


def test_schedule_eases_over_and_holds_at_its_ends():
    curve = parse_schedule("1.0 neutral; 2 happy 0.8 ; 3.0 sad 0.5 + fear 0.5;", 101, 25.0)
    happy, sad = amounts(curve, "happy"), amounts(curve, "sad")
    assert happy[0] == 0 and happy[25] == 0
    assert happy[50] == pytest.approx(0.8)
    assert float(happy[37] + happy[38]) / 2 == pytest.approx(0.4, abs=1e-3)  # half way at half time
    assert happy[26] < 0.01 and happy[49] > 0.79  # at rest at both ends
    assert sad[100] == pytest.approx(0.5) and happy[100] == 0
    torch.testing.assert_close(curve.weights.sum(1), torch.ones(101))


def test_emotions_pass_through_keys_without_stopping_there():
    steady = amounts(parse_schedule("0 neutral; 1 happy 0.5; 2 happy 1", 51), "happy")
    assert bool((steady.diff() > 0).all())
    assert steady[26] - steady[25] > 0.01


def test_no_amount_jumps_however_the_emotions_change():
    curve = parse_schedule("0 neutral; 1 angry 2; 2 happy 1 + sad 1; 3 neutral; 4 contempt 0.1; 5 surprised 2", 150)
    assert float(curve.amounts.diff(dim=0).abs().max()) < 1.6 * 2 / 25
    assert float(curve.strength.max()) <= 2.0


def test_lines_separate_entries_too():
    text = "0 neutral; 1.5 happy 0.8; 3 sad 0.5 + fear 0.5"
    one, other = parse_schedule(text, 90), parse_schedule(text.replace("; ", "\n") + "\n", 90)
    assert torch.equal(one.amounts, other.amounts)


def test_neutral_takes_no_room():
    curve = parse_schedule("neutral 1 + happy 1.5", 3)
    assert torch.equal(curve.strength, torch.full((3,), 1.5))
    assert torch.equal(curve.weights[:, LABELS.index("neutral")], torch.zeros(3))


def test_amounts_are_the_product_and_the_way_back():
    curve = parse_schedule("0 sad 0.5 + fear 0.25; 2 happy 1.4", 51)
    torch.testing.assert_close(curve.amounts, (curve.weights * curve.strength[:, None])[:, :7])
    again = EmotionCurve.from_amounts(curve.amounts, 25.0)
    torch.testing.assert_close(again.weights, curve.weights)
    torch.testing.assert_close(again.strength, curve.strength)


@pytest.mark.parametrize("given, word", [
    (torch.zeros(3, 8), "shape"), (torch.full((2, 7), 1.0), "strength"), (-torch.eye(7)[:2], "0 or more"),
])
def test_amounts_are_checked(given, word):
    with pytest.raises(PlaymateError, match=word):
        EmotionCurve.from_amounts(given, 25.0)


@pytest.mark.parametrize("fps", [10.0, 24.0, 29.97, 60.0])
def test_resampling_keeps_the_moments(fps):
    text = "0 neutral; 1 happy 0.8; 2.5 sad 0.5 + fear 0.5"
    frames = round(3 * fps)
    moved, direct = parse_schedule(text, 75).resampled(frames, fps), parse_schedule(text, frames, fps)
    assert moved.fps == fps and len(moved) == frames
    assert float((moved.amounts - direct.amounts).abs().max()) < 0.003  # a chord beside the curve, 40 ms long


def test_resampling_holds_the_last_frame_and_leaves_a_fitting_curve_alone():
    curve = parse_schedule("0 neutral; 1 happy", 26)
    assert curve.resampled(26, 25.0) is curve
    assert amounts(curve.resampled(100, 50.0), "happy")[60:].min() == pytest.approx(1.0)
    assert len(curve.resampled(0, 30.0)) == 0
    with pytest.raises(PlaymateError, match="no frame"):
        parse_schedule("happy", 0).resampled(4, 25.0)
    with pytest.raises(PlaymateError, match="fps"):
        curve.resampled(4, 0.0)


def test_neutral_is_recognised_however_it_is_written():
    assert parse_schedule("neutral", 5).is_neutral
    assert parse_schedule("happy 0", 5).is_neutral
    assert EmotionCurve.constant("sad", 0.0, 5, 25.0).is_neutral
    assert not EmotionCurve.constant("sad", 0.2, 5, 25.0).is_neutral


def test_empty_clip():
    assert len(parse_schedule("happy", 0)) == 0


@pytest.mark.parametrize("text, word", [
    ("", "empty"), (" ; ", "empty"), ("hapy", "unknown"), ("0 happy 3", "outside"), ("0 happy x", "not a number"),
    ("happy; sad", "no time"), ("0 happy; 0 sad", "order"), ("-1 happy", "before"), ("0 happy + ", "cannot be read"),
    ("0 happy 0.5 1", "cannot be read"), ("0 happy 1.5 + sad 1.5", "add up"), ("0 happy nan", "outside"),
])
def test_mistakes_are_told_in_one_sentence(text, word):
    with pytest.raises(PlaymateError) as error:
        parse_schedule(text, 10)
    assert word in str(error.value) and str(error.value).count(". ") == 0


def test_a_curve_checks_itself():
    good = torch.eye(8)[:2]
    with pytest.raises(PlaymateError, match="shape"):
        EmotionCurve(good, torch.ones(3), 25.0)
    with pytest.raises(PlaymateError, match="sum"):
        EmotionCurve(good * 2, torch.ones(2), 25.0)
    with pytest.raises(PlaymateError, match="strength"):
        EmotionCurve(good, torch.full((2,), 2.5), 25.0)
    with pytest.raises(PlaymateError, match="fps"):
        EmotionCurve(good, torch.ones(2), 0.0)
    with pytest.raises(PlaymateError, match="fps"):
        parse_schedule("happy", 4, -1.0)
