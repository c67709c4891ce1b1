"""Who speaks when: the text, the sounds, and how listening and speaking change over."""

import pytest
import torch

from playmate_core.media.gating import SpeakersSound, added, channel_of, gated, whole
from playmate_core.media.sound_file import open_sound
from playmate_core.motion.eyes import read_eyes
from playmate_core.motion.listening import (
    CHANGE,
    Look,
    listen,
    listens_on,
    look_towards,
    pauses,
    seen_speaking,
    share_of_speech,
    speaking,
    take_turns,
    who_is_heard,
)
from playmate_core.motion.turns import Turns
from playmate_core.motion.types import Motion
from playmate_core.runtime.errors import PlaymateError
from tests.test_motion_pose import random_motion

TALK, HUSH = -20.0, -80.0


def test_turns_are_read():
    turns = Turns.parse("5 A; 0 1\n0:03.2 B; 7 -; 8 1+2; 9.5 all", 2)
    assert turns.spans(0, 10.0) == [(0.0, 3.2), (5.0, 7.0), (8.0, 10.0)]
    assert turns.spans(1, 9.0) == [(3.2, 5.0), (8.0, 9.0)]
    named = Turns.parse("1 right; 2 LEFT", ["left", "right"])
    assert named.spans(0, 3.0) == [(2.0, 3.0)] and named.spans(1, 3.0) == [(1.0, 2.0)] and named.spans(1, 0.5) == []
    assert Turns.parse("0 1; 2 2", ["1", "0"]).spans(0, 3.0) == [(0.0, 2.0)]  # numbers of speakers, not of faces
    assert Turns.parse("0 c", 3).spans(2, 1.0) == [(0.0, 1.0)]


@pytest.mark.parametrize(("text", "piece"), [
    ("0 A; 3.2 D", 'character 10: "D" is none of the speakers 1, 2'), ("A; 3 B", 'character 1: "A" is no time'),
    ("0 A; 3", 'character 6: "3" names nobody'), ("0 A; 0 B", "again"), ("", "holds no turn"),
    ("-1 A", "is no time"), ("0 A\n2 A + X", 'line 2, character 7: "X"'),
])
def test_a_mistake_is_pointed_at(text, piece):
    with pytest.raises(PlaymateError) as caught:
        Turns.parse(text)
    assert piece in str(caught.value)


def test_gating_is_silent_elsewhere_and_fades():
    tone = torch.ones(1, 1000)
    first, second = gated(tone, 1000, [(0.0, 0.4)], 0.02), gated(tone, 1000, [(0.4, 1.0)], 0.02)
    assert (first[0, :380] == 1).all() and not first[0, 420:].any() and (second[0, 420:] == 1).all()
    assert torch.allclose(first + second, tone, atol=1e-5)
    assert float(first.diff().abs().max()) < 0.06
    assert not gated(tone, 1000, []).any()


def test_sounds_are_added_at_the_higher_rate():
    sum_, rate = added([(torch.full((1, 800), 0.25), 8000), (torch.full((2, 3200), 0.5), 16000)])
    assert rate == 16000 and sum_.shape == (2, 3200)
    assert abs(float(sum_[0, 800]) - 0.75) < 0.02 and float(sum_[1, 3000]) == 0.5
    loud, _ = added([(torch.ones(1, 10), 8000), (torch.ones(1, 10), 8000)])
    assert float(loud.max()) == 1
    with pytest.raises(PlaymateError, match="one channel, so there is none for speaker 2"):
        channel_of(torch.zeros(1, 5), 1)


def test_a_file_is_read_whole(voice_path):
    waveform, rate = whole(open_sound(str(voice_path)))
    assert waveform.shape[1] / rate == pytest.approx(6.0, abs=0.5) and float(waveform.abs().max()) > 0.05


def test_a_speakers_sound_is_gated_while_it_is_read(voice_path, monkeypatch):
    """Pieces of any length join to what gating the whole gives, and a channel is told of the others."""
    from playmate_core.media import sound_file

    waveform, rate = whole(open_sound(str(voice_path)))
    # Turns begin and end on the pieces' borders, within fades of them, and elsewhere.
    spans = [(0.0, 0.5), (1000 / rate * 40 + 0.004, 2.0), (3.0, waveform.shape[1] / rate)]
    monkeypatch.setattr(sound_file, "BLOCK", 1000)
    monkeypatch.setattr(sound_file, "KEPT", 0)
    sound = open_sound(str(voice_path))
    assert len(list(sound.blocks())) > 50
    one = SpeakersSound.of(sound, waveform.shape[1] / rate, spans)
    assert torch.allclose(whole(one)[0], gated(waveform, rate, spans), atol=1e-5)
    assert torch.equal(whole(SpeakersSound.of(sound, 6.0, channel=0))[0], waveform[:1])
    with pytest.raises(PlaymateError, match="none for speaker 2"):
        whole(SpeakersSound.of(sound, 6.0, channel=1))


def loud(*pieces):
    """Decibels of (level, frames) pieces."""
    return torch.cat([torch.full((frames,), level) for level, frames in pieces])


def test_whose_turn_it_is():
    voice = loud((HUSH, 10), (TALK, 20), (HUSH, 6), (TALK, 20), (HUSH, 30), (TALK, 2), (HUSH, 12))
    active = speaking(voice, 25.0)
    assert torch.nonzero(active)[:, 0].tolist() == list(range(10, 56))
    assert pauses(voice, 25.0) == [30 / 25, 56 / 25, 88 / 25]
    assert not speaking(torch.full((50,), HUSH), 25.0).any() and not len(speaking(torch.zeros(0), 25.0))


def test_speaking_eases_in_before_the_first_sound_and_out_after_the_last():
    active = torch.zeros(100, dtype=torch.bool)
    active[40:60] = True
    share = share_of_speech(active, 25.0)
    reach = int(CHANGE * 25)
    assert (share[40:60] == 1).all() and not share[:40 - reach - 1].any() and not share[60 + reach + 1:].any()
    assert float(share.diff().abs().max()) < 0.2 and 0.3 <= CHANGE <= 0.6


def test_who_is_attended_to():
    a, b, c = (torch.zeros(30, dtype=torch.bool) for _ in range(3))
    a[5:15], b[12:20], c[25:] = True, True, True
    assert who_is_heard([a, b, c], 2) == [(0, 0), (12, 1)]
    assert who_is_heard([a, b, c], 0) == [(0, 1), (25, 2)]
    assert who_is_heard([a], 0) == []


def test_a_look_goes_to_the_speaker_and_no_further():
    right = look_towards(4.0, 0.0)
    assert right.right > 8 and right.yaw < -3 and abs(right.up) < 1e-6
    assert look_towards(-4.0, 0.0).right == pytest.approx(-right.right)
    assert look_towards(0.0, 3.0).up < 0 < look_towards(0.0, 3.0).pitch
    far = look_towards(100.0, -100.0)
    assert abs(far.right) <= 16 and abs(far.yaw) <= 7 and abs(far.up) <= 9 and abs(far.pitch) <= 4
    assert look_towards(4.0, 0.0, yaw=-20.0).right < right.right  # turned there already


def test_a_listener_looks_nods_blinks_and_says_nothing():
    look = Look(right=12.0, yaw=-6.0)
    motion = listen(1500, 25.0, [(0.0, look)], [2.0, 10.0, 20.0, 30.0, 40.0, 50.0], seed=3)
    mouth = motion.expression[:, [6, 12, 14, 17, 19, 20]]
    assert not mouth.any()
    closure, gaze = read_eyes(motion.expression)
    assert 6 <= int((torch.diff((closure.amin(1) > 0.5).int()) == 1).sum()) <= 22
    assert 10 < float(gaze[:, 0].median()) < 14
    assert -8 < float(motion.rotation[:, 1].median()) < -4
    still = listen(1500, 25.0, [(0.0, look)], [], seed=3)
    nod = (motion.rotation - still.rotation)[:, 0]
    assert 1.0 < float(nod.max()) < 4.0 and float(nod.min()) > -1e-4 and float(nod[:45].max()) < 1e-4
    assert torch.equal(motion.expression, listen(1500, 25.0, [(0.0, look)], [], seed=3).expression)
    assert not torch.equal(motion.rotation, listen(1500, 25.0, [(0.0, look)], [2.0], seed=4).rotation)
    assert float(motion.rotation.diff(dim=0).abs().max()) < 1.0


def test_the_head_follows_the_eyes_to_another_speaker():
    looks = [(0.0, Look(right=10.0, yaw=-5.0)), (2.0, Look(right=-10.0, yaw=5.0))]
    motion = listen(100, 25.0, looks, seed=1)
    gaze = read_eyes(motion.expression)[1][:, 0]
    eyes = int(torch.nonzero(gaze < 0)[0])
    head = int(torch.nonzero(motion.rotation[:, 1] > 0)[0])
    assert 50 < eyes < head < 80


def test_speech_is_kept_and_listening_is_still():
    spoken, share = random_motion(120), torch.ones(120)
    share[60:] = share_of_speech(torch.arange(60) < 0, 25.0)
    share[50:60] = torch.linspace(1, 0, 10)
    done = take_turns(spoken, share, [(0.0, Look(right=10.0, yaw=-5.0))], seed=2)
    assert torch.equal(done.expression[:50], spoken.expression[:50]) and torch.equal(done.rotation[:50],
                                                                                     spoken.rotation[:50])
    mouth = [6, 12, 14, 17, 19, 20]
    assert float(done.expression[65:, mouth].std(0).max()) < 0.4 * float(spoken.expression[65:, mouth].std(0).max())
    assert torch.equal(done.expression[65:, [1, 2]], spoken.expression[65:, [1, 2]])
    held = take_turns(spoken, share, [(0.0, Look(right=10.0, yaw=-5.0))], seed=2, head=False, eyes=False)
    assert torch.allclose(held.rotation, spoken.rotation, atol=1e-4)
    assert take_turns(spoken, torch.ones(120)) is spoken


def test_a_shorter_motion_goes_on():
    motion = random_motion(30)
    longer = listens_on(motion, 90, seed=1)
    assert len(longer) == 90 and torch.equal(longer.expression[:15], motion.expression[:15])
    assert listens_on(motion, 20) is motion and len(listens_on(Motion.rest(0), 10)) == 10


def test_speech_is_seen_where_lips_move():
    motion = Motion.rest(100)
    expression = motion.expression.clone()
    expression[:50, 19, 1] = 0.02 * torch.sin(torch.arange(50) * 0.9)
    moving = type(motion)(expression, motion.rotation, motion.translation, motion.scale, 25.0, motion.neutral)
    active = speaking(seen_speaking(moving), 25.0)
    assert active[5:45].all() and not active[60:].any()
