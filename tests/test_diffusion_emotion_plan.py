"""Emotions chained and combined."""

import pytest
import torch

from playmate_core.emotion.curve import LABELS, EmotionCurve, mixture
from playmate_core.emotion.plan import EmotionLayer, EmotionPlan
from playmate_core.runtime.errors import PlaymateError

FPS = 25.0


def amount(plan, label, frames=126):
    return plan.curve(frames, FPS).amounts[:, LABELS.index(label)]


def held(label, strength, **times):
    return EmotionLayer.held([(label, strength)], **times)


def test_one_schedule_is_what_the_curve_reads():
    text = "0.0 neutral; 1.5 happy 0.8; 3.0 sad 0.5 + fear 0.5"
    curve, plan = EmotionCurve.parse(text, 100, FPS), EmotionPlan.parse(text).curve(100, FPS)
    assert torch.equal(curve.weights, plan.weights) and torch.equal(curve.strength, plan.strength)


def test_no_layers_are_neutral():
    assert EmotionPlan().curve(5).is_neutral and EmotionPlan.of(None).curve(0).is_neutral


def test_start_end_and_fades():
    happy = amount(EmotionPlan().then(held("happy", 1.2, start=1.0, end=4.0, fade_in=1.0, fade_out=0.4)), "happy")
    assert not happy[:26].any() and not happy[100:].any()
    assert torch.equal(happy[50:91], torch.full((41,), 1.2))
    assert bool((happy[25:51].diff() > 0).all()) and bool((happy[90:101].diff() < 0).all())
    torch.testing.assert_close(happy[37] + happy[38], torch.tensor(1.2))  # eased: half way at half time
    assert happy[26] < 0.01


def test_without_fades_it_is_there_at_its_first_frame_and_gone_at_its_last():
    happy = amount(EmotionPlan().then(held("happy", 1.0, start=1.0, end=2.0)), "happy")
    assert happy.nonzero().flatten().tolist() == list(range(25, 50))
    assert amount(EmotionPlan().then(held("happy", 1.0)), "happy").min() == 1.0


def test_fades_longer_than_its_time_are_shortened_alike():
    happy = amount(EmotionPlan().then(held("happy", 1.0, start=1.0, end=2.0, fade_in=3.0, fade_out=1.0)), "happy")
    assert int(happy.argmax()) in (43, 44) and happy.max() > 0.98  # three quarters up, one down
    assert not happy[:26].any() and not happy[50:].any()


def test_adding_keeps_both_and_the_sum_within_the_limit():
    plan = EmotionPlan.parse("happy 1.5").then(held("surprised", 1.0, start=2.0, end=3.0), "add")
    curve = plan.curve(126, FPS)
    assert amount(plan, "happy")[0] == 1.5 and amount(plan, "surprised")[0] == 0
    assert float(curve.strength.max()) == pytest.approx(2.0)
    assert amount(plan, "happy")[60] == pytest.approx(1.2) and amount(plan, "surprised")[60] == pytest.approx(0.8)


def test_replacing_holds_within_its_time_only():
    before = EmotionPlan.parse("sad 1.0")
    plan = before.then(held("happy", 0.8, start=2.0, end=4.0, fade_in=0.4, fade_out=0.4), "replace")
    happy, sad = amount(plan, "happy"), amount(plan, "sad")
    assert sad[50] == 1.0 and happy[50] == 0 and sad[100] == 1.0
    assert not sad[60:91].any() and happy[75] == pytest.approx(0.8)
    torch.testing.assert_close(sad + happy / 0.8, torch.ones(126))  # cross-faded, never neutral in between


def test_replacing_by_neutral_calms():
    plan = EmotionPlan.parse("angry 1.5").then(held("neutral", 1.0, start=2.0, end=3.0), "replace")
    assert torch.equal(plan.curve(126).strength == 0, amount(plan, "angry") == 0)
    assert not amount(plan, "angry")[50:75].any() and amount(plan, "angry")[75] == 1.5


def test_a_schedule_takes_over_at_its_first_entry():
    before = EmotionPlan.parse("sad")
    plan = before.then(EmotionLayer.inserted("2.0 happy 0.5; 3.0 happy 1", end=4.0, fade_in=0.4), "replace")
    sad, happy = amount(plan, "sad"), amount(plan, "happy")
    assert sad[50] == 1 and not sad[60:100].any() and sad[100] == 1
    assert happy[60] > 0.5 and happy[99] == 1 and not happy[:51].any()
    whole = before.then(EmotionLayer.inserted("happy", fade_in=0.4), "replace")
    assert not amount(whole, "sad").any()


def test_order_matters_and_plans_stay_as_they_were():
    base = EmotionPlan.parse("sad 0.5")
    a = base.then(held("happy", 1.0), "replace").then(held("fear", 0.5))
    b = base.then(held("fear", 0.5)).then(held("happy", 1.0), "replace")
    assert amount(a, "fear")[0] == 0.5 and amount(b, "fear")[0] == 0
    assert len(base.layers) == 1 and amount(base, "sad")[0] == 0.5


def test_windows_join_to_the_whole():
    plan = EmotionPlan.parse("0 neutral; 1 happy; 3 sad").then(held("fear", 1.0, start=1.3, end=3.0, fade_in=0.7))
    whole = plan.curve(100, FPS).amounts
    pieces = [plan.curve(25, FPS, start=k / FPS).amounts for k in range(0, 100, 25)]
    torch.testing.assert_close(torch.cat(pieces), whole)


def test_nothing_jumps_when_faded():
    plan = EmotionPlan.parse("0 happy 2; 2 sad 2").then(held("angry", 2.0, start=1.0, end=3.0, fade_in=0.5,
                                                            fade_out=0.5)).then(
        held("surprised", 2.0, start=2.0, end=4.0, fade_in=0.5, fade_out=0.5), "replace")
    assert float(plan.curve(126).amounts.diff(dim=0).norm(dim=1).max()) < 0.36


def test_what_may_stand_for_a_plan():
    plan = EmotionPlan.parse("happy")
    assert EmotionPlan.of(plan) is plan
    assert EmotionPlan.of("happy") == plan
    with pytest.raises(PlaymateError, match="int"):
        EmotionPlan.of(3)


@pytest.mark.parametrize("make, word", [
    (lambda: held("joy", 1.0), "joy"), (lambda: held("happy", 2.5), "outside"),
    (lambda: EmotionLayer.held([("happy", 1.5), ("sad", 1.0)]), "add up to 2.5"),
    (lambda: held("happy", 1.0, start=2.0, end=1.0), "before it starts"),
    (lambda: held("happy", 1.0, end=0.0), "before it starts"),
    (lambda: held("happy", 1.0, start=-1.0), "start is -1"), (lambda: held("happy", 1.0, fade_in=float("nan")), "nan"),
    (lambda: EmotionPlan().then(held("happy", 1.0), "blend"), "blend"), (lambda: EmotionLayer(()), "key"),
    (lambda: EmotionPlan.parse("happy").curve(3, 0.0), "fps"),
])
def test_mistakes_are_told_in_one_sentence(make, word):
    with pytest.raises(PlaymateError) as error:
        make()
    assert word in str(error.value) and str(error.value).count(". ") == 0


def test_a_mixture_may_name_a_label_twice():
    assert mixture([("happy", 0.5), ("happy", 0.25)])[LABELS.index("happy")] == 0.75
