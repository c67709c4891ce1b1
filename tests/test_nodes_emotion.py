"""Emotion Control, and how the sampler takes its plan; without a server."""

import types

import pytest
import torch

from playmate_core.emotion.curve import LABELS
from tests.diffusion_helpers import toy_features
from tests.node_helpers import node_modules


@pytest.fixture(scope="module")
def nodes():
    with node_modules("emotion_control", "motion_sampler") as modules:
        yield modules


@pytest.fixture
def control(nodes):
    def run(**changes):
        settings = {"emotion": "neutral", "strength": 1.0, "start": 0.0, "end": 0.0, "fade_in": 0.5, "fade_out": 0.5,
                    "schedule": "", **changes}
        return nodes.emotion_control.EmotionControl.execute(**settings).args[0]
    return run


def amount(plan, label, frames=126):
    return plan.curve(frames, 25.0).amounts[:, LABELS.index(label)]


def test_the_settings_make_an_emotion_with_fades(control):
    happy = amount(control(emotion="happy", strength=1.5, start=1.0, end=4.0, fade_in=1.0), "happy")
    assert not happy[:26].any() and happy[60] == 1.5 and not happy[100:].any()
    assert 0.7 < happy[37] < 0.8 and 0 < happy[95] < 1.5


def test_without_end_it_holds_and_without_fade_it_is_there_at_once(control):
    assert torch.equal(amount(control(emotion="sad", fade_in=0.0), "sad"), torch.ones(126))
    assert amount(control(emotion="sad"), "sad")[-1] == 1 and amount(control(emotion="sad"), "sad")[0] == 0


def test_neutral_is_neutral(control):
    assert control().curve(50).is_neutral and control(schedule="0.0 neutral\n1.5 neutral 0.5").curve(50).is_neutral


def test_a_second_emotion_mixes(control):
    plan = control(emotion="sad", strength=0.6, fade_in=0.0, second_emotion="fear", second_strength=0.3)
    assert amount(plan, "sad")[5] == pytest.approx(0.6) and amount(plan, "fear")[5] == pytest.approx(0.3)
    assert not amount(control(emotion="sad", second_strength=0.3), "fear").any()


def test_a_schedule_stands_instead_of_the_settings(control):
    plan = control(emotion="angry", start=3.0, end=4.0, second_emotion="fear",
                   schedule="0.0 neutral\n1.5 happy 0.8\n3.0 sad 0.5 + fear 0.5\n")
    assert not amount(plan, "angry").any()
    assert amount(plan, "happy")[0] == 0 and amount(plan, "fear")[-1] == pytest.approx(0.5)
    assert max(amount(plan, "happy")) > 0.79


def test_nodes_chain(control):
    base = control(schedule="sad 0.5")
    added = control(emotion="fear", strength=0.5, fade_in=0.0, previous=base, combine="add")
    replaced = control(emotion="happy", start=2.0, end=4.0, previous=added, combine="replace")
    assert amount(added, "sad")[10] == 0.5 and amount(added, "fear")[10] == 0.5
    assert amount(replaced, "sad")[10] == 0.5 and not amount(replaced, "sad")[65:85].any()
    assert amount(replaced, "happy")[75] == 1 and amount(replaced, "fear")[110] == 0.5


def test_a_schedule_takes_over_from_the_previous_plan_at_its_first_time(control):
    plan = control(schedule="2 happy; 3 happy 0.5", end=4.0, previous=control(schedule="sad"), combine="replace")
    assert amount(plan, "sad")[49] == 1 and not amount(plan, "sad")[65:85].any() and amount(plan, "sad")[-1] == 1
    alone = control(schedule="2 happy; 3 happy 0.5", end=4.0, combine="replace")
    assert amount(alone, "happy")[0] == 1 and amount(alone, "happy")[-1] == 0.5


def test_previous_may_be_a_schedule_s_text(control):
    assert amount(control(previous="sad 0.5"), "sad")[3] == 0.5


@pytest.mark.parametrize("given, said", [
    (dict(emotion="joy", schedule=""), "emotion is 'joy'"),
    (dict(emotion="happy", schedule="", second_emotion="joy"), "second_emotion is 'joy'"),
    (dict(emotion="happy", schedule="", combine="mix"), "combine is 'mix'"),
    (dict(emotion="happy", schedule="0.0 joyful"), "joyful"),
    (dict(emotion="happy", schedule="", strength=1.5, start=0.0, end=0.0, second_emotion="sad", second_strength=1.0),
     "add up to 2.5"),
    (dict(emotion="happy", schedule="", strength=1.0, start=2.0, end=1.0), "before it starts"),
    (dict(emotion="happy", schedule="", strength=3.0, start=0.0, end=0.0), "outside"),
    (dict(emotion="happy", schedule="", strength=1.0, start=-1.0, end=0.0), "start is -1"),
    (dict(emotion="happy", schedule="", strength=1.0, start=0.0, end=1.0), True),
    (dict(emotion="happy", schedule="0 happy; 2 sad", strength=1.0, start=2.0, end=1.0), True),
    (dict(emotion="happy", strength=1.0, start=2.0, end=1.0), True),  # the schedule arrives over a wire
    (dict(schedule="", strength=1.0), True),
])
def test_what_can_be_known_before_is_checked_before(nodes, given, said):
    answer = nodes.emotion_control.EmotionControl.validate_inputs(**given)
    assert answer is True if said is True else said in answer and answer.count(". ") == 0


class Sampler:
    """The sampler node on a model that only tells what it was asked."""

    def __init__(self, nodes, has_emotion_head):
        self.nodes, self.asked = nodes, None
        self.models = types.SimpleNamespace(bridge=None, motion=self)
        self.has_emotion_head = has_emotion_head

    def sample(self, features, identity, **asked):
        self.asked = asked
        return "motion"

    def run(self, **inputs):
        return self.nodes.motion_sampler.MotionSampler.execute(
            models=self.models, speech=toy_features(60), seed=1, steps=2, scheduler="ddim", audio_guidance=0.0,
            head_motion=1.0, fps=25.0, **inputs)


def test_the_sampler_hands_plan_and_guidance_to_the_model(nodes, control):
    sampler = Sampler(nodes, True)
    output = sampler.run(emotion=control(emotion="happy", fade_in=0.0), emotion_guidance=2.5)
    assert output.args == ("motion",) and output.ui is None
    assert sampler.asked["emotion_guidance"] == 2.5 and "audio_guidance" not in sampler.asked
    assert len(sampler.asked["emotion"]) == 60 and not sampler.asked["emotion"].is_neutral


def test_0_takes_the_models_own_guidance(nodes):
    sampler = Sampler(nodes, True)
    sampler.run(emotion="happy 0.5")  # text, as earlier versions had it
    assert "emotion_guidance" not in sampler.asked
    assert float(sampler.asked["emotion"].strength.max()) == 0.5


def test_the_node_says_so_when_the_model_has_no_emotion_head(nodes, control, monkeypatch):
    sampler, said = Sampler(nodes, False), nodes.server.said
    said.clear()
    monkeypatch.setattr(nodes.pipeline, "lay_emotion_over", lambda bridge, motion, curve: motion + " with emotion")
    output = sampler.run(emotion=control(emotion="happy"))
    assert output.args == ("motion with emotion",) and sampler.asked["emotion"] is None
    assert "no emotion head" in output.ui.as_dict()["text"][0]
    assert said == [(output.ui.as_dict()["text"][0], "7")]
    assert sampler.run(emotion=control()).ui is None
    assert said[1:] == [("", "7")], "what an earlier run said is taken away"
    sampler.run()
    assert len(said) == 2


def test_new_inputs_are_optional_and_last(nodes):
    for node, first in ((nodes.emotion_control.EmotionControl, 7), (nodes.motion_sampler.MotionSampler, 10)):
        inputs = node.define_schema().inputs
        assert all(getattr(entry, "optional", False) for entry in inputs[first:]) and len(inputs) > first
