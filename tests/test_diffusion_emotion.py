"""Emotion curves and their text form."""

import pytest
import torch

from playmate_core.diffusion.emotion import LABELS, EmotionCurve, parse_schedule
from playmate_core.errors import PlaymateError


def amounts(curve, label):
    return curve.weights[:, LABELS.index(label)] * curve.strength


def test_labels_keep_the_published_order():
    assert LABELS == ("angry", "disgusted", "contempt", "fear", "happy", "sad", "surprised", "neutral")


def test_a_bare_label_holds_for_the_whole_clip():
    curve = parse_schedule("happy", 40)
    assert len(curve) == 40 and not curve.is_neutral
    assert torch.equal(amounts(curve, "happy"), torch.ones(40))


def test_a_bare_mixture_keeps_its_strengths():
    curve = EmotionCurve.parse("sad 0.5 + fear 0.25", 3, 25.0)
    torch.testing.assert_close(amounts(curve, "sad"), torch.full((3,), 0.5))
    torch.testing.assert_close(amounts(curve, "fear"), torch.full((3,), 0.25))


def test_schedule_goes_over_linearly_and_holds_at_its_ends():
    curve = parse_schedule("1.0 neutral; 2 happy 0.8 ; 3.0 sad 0.5 + fear 0.5;", 101, 25.0)
    happy, sad = amounts(curve, "happy"), amounts(curve, "sad")
    assert happy[0] == 0 and happy[25] == 0
    assert happy[50] == pytest.approx(0.8)
    assert 0.3 < happy[37] < 0.5
    assert happy[62] == pytest.approx(0.8 * 0.52, abs=1e-5)
    assert sad[100] == pytest.approx(0.5) and happy[100] == 0
    torch.testing.assert_close(curve.weights.sum(1), torch.ones(101))


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
