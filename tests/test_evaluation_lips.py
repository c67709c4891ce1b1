"""The measures themselves, on curves whose answer is known."""

import math

import pytest
import torch

from playmate_core.evaluation.lips import best_lag, closure_rate, correlation, mean_over

CURVE = torch.sin(torch.arange(200) * 0.37) + 0.5 * torch.sin(torch.arange(200) * 0.11)


def test_correlation_of_known_curves():
    assert correlation(CURVE, 3 * CURVE - 1) == pytest.approx(1, rel=1e-5)
    assert correlation(CURVE, -CURVE) == pytest.approx(-1, rel=1e-5)
    assert math.isnan(correlation(CURVE, torch.ones(200)))
    holes = CURVE.clone()
    holes[::5] = float("nan")
    assert correlation(CURVE, holes) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_the_lag_is_found_with_its_sign(lag):
    late = torch.roll(CURVE, lag)
    r, found = best_lag(late[10:-10], CURVE[10:-10])
    assert found == lag and r > 0.999


def test_closures_are_counted_with_a_frame_of_grace():
    gap = torch.full((50,), 0.1)
    gap[10] = 0.01  # 0.40 s at 25 fps
    assert closure_rate(gap, [(0.40, 0.44)], 25) == 1
    assert closure_rate(gap, [(0.46, 0.50)], 25) == 1
    assert closure_rate(gap, [(0.40, 0.44), (1.0, 1.05)], 25) == 0.5
    assert closure_rate(gap, [(0.40, 0.44)], 25, threshold=0.005) == 0
    assert math.isnan(closure_rate(gap, [], 25))


def test_means_over_times():
    assert mean_over(torch.arange(10.0), [(0.0, 0.2)], 10) == 0.5
    assert math.isnan(mean_over(torch.arange(10.0), [(5.0, 6.0)], 10))
