"""The corpus: phones become what they ask of the lips, and the lips do it."""

import numpy as np
import pytest
import torch

from laboratory.corpus import closures
from laboratory.corpus.closures import Targets, apply_phones, envelope, resting
from laboratory.corpus.latents import EYES, GAPS, Measures
from laboratory.corpus.report import at_centre, closure_figures, count_blinks
from playmate_core.evaluation import phones
from playmate_core.evaluation.phones import Phone, from_arpabet, from_ipa, merge, shift


class LinearFace:
    """A bridge of random latents: any linear map will do for the algebra."""

    def __init__(self):
        self.basis = torch.randn(63, 478 * 3, generator=torch.Generator().manual_seed(1)) * 0.3

    def displacement(self, latents):
        return (latents.reshape(-1, 63) @ self.basis).reshape(-1, 478, 3)


@pytest.fixture(scope="module")
def face():
    return LinearFace()


@pytest.fixture(scope="module")
def measures(face):
    scale = torch.linspace(0.2, 2.0, 63)
    return Measures(face, torch.diag(scale ** 2) * 1e-3)


@pytest.mark.parametrize(("symbol", "kinds"), [
    ("p", ["closed"]), ("mː", ["closed"]), ("f", ["labiodental"]), ("aʊ", ["open", "round"]), ("ʃ", ["round"]),
    ("tʃ", ["round"]), ("ˈɑː", ["open"]), ("_", ["silence"]), ("", ["silence"]), ("ŋ", ["other"]),
    ("O", ["open-round", "round"])])
def test_ipa_symbols_become_lips(symbol, kinds):
    parts = from_ipa(symbol, 1.0, 1.2)
    assert [p.kind for p in parts] == kinds
    assert parts[0].start == pytest.approx(1.0) and parts[-1].end == pytest.approx(1.2)


@pytest.mark.parametrize(("symbol", "kinds"), [
    ("b", ["closed"]), ("M", ["closed"]), ("ae1", ["open"]), ("ay", ["open", "spread"]), ("pau", ["silence"]),
    ("v", ["labiodental"]), ("uw", ["round"]), ("zz", ["other"])])
def test_arpabet_symbols_become_lips(symbol, kinds):
    assert [p.kind for p in from_arpabet(symbol, 0.0, 0.1)] == kinds


def test_phones_without_time_are_dropped_and_neighbours_merge():
    assert from_ipa("p", 0.5, 0.5) == []
    merged = merge([Phone("p", "closed", 0.0, 0.1), Phone("b", "closed", 0.1, 0.2), Phone("a", "open", 0.2, 0.3)])
    assert [(p.kind, p.end) for p in merged] == [("closed", 0.2), ("open", 0.3)]
    assert shift(merged, 1.0, 2.0)[1].start == pytest.approx(1.4)


def test_measures_move_exactly_what_they_are_told(measures, face):
    start = 0.01 * torch.randn(5, 63, generator=torch.Generator().manual_seed(2))
    moved = measures.move(start, torch.full((5, 1), -0.07), ("gap",), ("width",))
    change = measures.read(moved, "gap", "width") - measures.read(start, "gap", "width")
    assert torch.allclose(change[:, 0], torch.full((5,), -0.07), atol=1e-5)
    assert change[:, 1].abs().max() < 0.01
    drawn = face.displacement(moved - start)
    assert torch.allclose(drawn[:, 14, 1] - drawn[:, 13, 1], torch.full((5,), -0.07), atol=1e-4)


def test_least_move_prefers_what_varies_most(measures):
    step = measures.direction(("gap",), softness=0.0)[0]
    assert step[40:].abs().mean() > 3 * step[:20].abs().mean()


@pytest.mark.parametrize("offset", np.linspace(0.0, 0.04, 9))
def test_every_closure_meets_a_frame_however_it_falls(measures, offset):
    spoken = [Phone("a", "open", 0.0, 0.4 + offset), Phone("p", "closed", 0.4 + offset, 0.45 + offset),
              Phone("a", "open", 0.45 + offset, 0.9)]
    wide = measures.move(torch.zeros(25, 63), torch.full((25, 3), 0.15), GAPS)
    mouth = apply_phones(wide, spoken, measures)
    gap = measures.read(mouth, "gap")[:, 0].numpy()
    assert at_centre(gap, spoken[1]) <= 0.005
    assert gap[4] > 0.1 and gap[18] > 0.1
    # Approach and release take time: no frame jumps by more than the whole way in a frame and a half.
    assert np.abs(np.diff(gap)).max() < 0.14


def test_lips_meet_teeth_round_and_open_where_phones_ask(measures):
    spoken = [Phone("f", "labiodental", 0.2, 0.32), Phone("u", "round", 0.6, 0.8), Phone("a", "open", 1.1, 1.4)]
    flat = measures.move(torch.zeros(40, 63), torch.full((40, 3), 0.05), GAPS, ("width",))
    mouth = apply_phones(flat, spoken, measures)
    gap, width = measures.read(mouth, "gap", "width").numpy().T
    assert abs(at_centre(gap, spoken[0]) - Targets().labiodental) < 0.01
    assert at_centre(width, spoken[1]) < 0.5 * Targets().round
    assert at_centre(gap, spoken[2]) == pytest.approx(Targets().open, abs=0.01)


def test_silence_rests_and_speech_does_not():
    spoken = [Phone("a", "open", 0.5, 1.0), Phone("_", "silence", 1.0, 1.1), Phone("a", "open", 1.1, 1.5)]
    rest = resting(spoken, 75, Targets())
    assert rest[:3].min() > 0.99 and rest[60:].min() == 1.0
    assert rest[14:36].max() == 0.0
    assert resting([], 10, Targets()).min() == 1.0
    mouth = apply_phones(torch.ones(75, 63), spoken, _Zero())
    assert mouth[65].abs().max() == 0.0


class _Zero:
    """Measures of a face that has none: only the silence acts."""

    def read(self, latents, *names):
        return torch.zeros(len(latents), len(names))

    def move(self, latents, change, names, hold=()):
        return latents


def test_envelope_is_smooth_and_local():
    weight = envelope([Phone("p", "closed", 1.0, 1.06)], 50, ("closed",), Targets(), 0.8, 0.05)
    assert weight[25] == pytest.approx(1.0) and weight[20] == 0.0 and weight[32] == 0.0
    assert 0 < weight[24] <= 1 and closures.bump(np.array([0.0]), 0, 1, 0.1, 0.1)[0] == 1.0
    assert envelope([], 5, (phones.OPEN,), Targets(), 1, 0).max() == 0.0


def test_closure_figures_count_what_they_say():
    gap = np.full(50, 0.15)
    gap[10:12] = 0.0
    spoken = [Phone("p", "closed", 0.40, 0.48), Phone("b", "closed", 1.0, 1.08), Phone("a", "open", 0.6, 0.8)]
    found = closure_figures([gap], [spoken])
    assert found["closed"] == pytest.approx(0.5)
    assert found["open"] == pytest.approx(0.15) and found["ratio"] == pytest.approx(2.0, rel=0.01)


def test_blinks_are_counted_once_each():
    eye = np.zeros(100)
    eye[10:14] = -0.08
    eye[50:53] = -0.06
    assert count_blinks(eye) == 2


def test_closed_eyes_and_lips_do_not_fight(measures):
    moved = measures.move(torch.zeros(1, 63), torch.tensor([[-0.08, -0.08]]), EYES, GAPS + ("width",))
    eyes = measures.read(moved, *EYES)[0]
    assert torch.allclose(eyes, torch.tensor([-0.08, -0.08]), atol=0.01)
    assert measures.read(moved, *GAPS).abs().max() < 0.01
