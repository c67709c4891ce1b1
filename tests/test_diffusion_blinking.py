"""Blinks laid in beside a motion model's own."""

import pytest
import torch

from playmate_core.diffusion.blinking import APART, Blinker
from playmate_core.motion.blinks import find_blinks
from playmate_core.motion.eyes import eye_offset, read_eyes

from .diffusion_helpers import toy_features, toy_model

FPS, WINDOW = 25.0, 50


def _lids(closure):
    """[T] how far shut -> [T, 63]."""
    pair = torch.as_tensor(closure).float()[:, None].expand(-1, 2)
    return eye_offset(pair, torch.zeros(len(pair), 2)).flatten(1)


def _run(expression, rate=14.0, seed=0, window=WINDOW):
    blinker = Blinker(rate, seed, len(expression))
    pieces = [blinker(expression[at:at + window], at) for at in range(0, len(expression), window)]
    return torch.cat(pieces)


def _closure(expression):
    return read_eyes(expression.reshape(-1, 21, 3))[0]


def _count(expression):
    return len(find_blinks(_closure(expression), FPS))


def test_eyes_blink_from_the_first_second_on():
    still = torch.zeros(750, 63)
    counts = [_count(_run(still, seed=seed)[:250]) * 6 for seed in range(40)]
    assert 10 <= sum(counts) / len(counts) <= 20
    first = [_count(_run(still, seed=seed)[:50]) for seed in range(40)]
    assert sum(first) >= 8  # in two seconds of forty takes


def test_windows_do_not_show():
    still = torch.zeros(740, 63)
    assert torch.allclose(_run(still), _run(still, window=740), atol=1e-5)
    assert (_run(still)[:300] == _run(still[:300])).all(1).float().mean() > 0.97  # but for one that the end cuts


def test_seeds_blink_apart():
    still = torch.zeros(500, 63)
    assert torch.equal(_run(still, seed=3), _run(still, seed=3))
    assert not torch.allclose(_run(still, seed=3), _run(still, seed=4), atol=1e-3)


def test_own_blinks_come_first_and_are_made_whole():
    closure = torch.zeros(500)
    for at in range(20, 480, 25):
        closure[at:at + 5] = torch.tensor([0.3, 0.7, 0.6, 0.4, 0.2])
    seen = _closure(_run(_lids(closure), rate=30.0))
    assert _count(_run(_lids(closure), rate=30.0)) == _count(_lids(closure))
    assert seen[21].min() == pytest.approx(1.0, abs=0.02) and seen[:, 0].max() <= 1.01
    assert (seen - closure[:, None] > -1e-4).all()
    # Between blinks that are further apart than that, there is room.
    assert _count(_run(_lids(closure * (torch.arange(500) < 100)), rate=30.0)) > 8 and APART < 1.0


def test_lids_that_droop_are_no_blink_and_shut_from_there():
    drawn = _closure(_run(_lids(torch.full((500,), 0.4))))
    assert drawn.min() == pytest.approx(0.4, abs=0.01) and drawn.max() == pytest.approx(1.0, abs=0.02)


def test_only_lids_move():
    noise = torch.randn(200, 63, generator=torch.Generator().manual_seed(0)) * 1e-3
    moved = (_run(noise, seed=2) - noise).reshape(-1, 21, 3)
    assert moved[..., 1].abs().max() > 0 and moved[..., (0, 2)].abs().max() < 1e-6
    assert (moved.abs().amax((0, 2)) > 1e-6).sum() == 4


def test_a_rate_in_the_checkpoint_is_heeded():
    features = toy_features(300)
    model = toy_model()
    plain = model.sample(features, seed=5)
    model.sampling["blinks"] = 20.0
    blinking = model.sample(features, seed=5)
    assert not torch.equal(plain.expression, blinking.expression) and torch.equal(plain.rotation, blinking.rotation)
    model.sampling["blinks"] = 0.0
    assert torch.equal(model.sample(features, seed=5).expression, plain.expression)
