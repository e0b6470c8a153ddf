"""The paired bootstrap against all draws there are, and against what pairing must and must not do."""

import itertools

import numpy as np
import pytest

from jaxlip.metrics.paired import paired_bootstrap, score_difference
from jaxlip.metrics.scores import Score, bootstrap


def mean_of(values_N):
    return lambda weights_N: float(np.average(values_N, weights=weights_N))


def test_agrees_with_every_draw_that_there_is():
    """Four clips of unlike size have 4^4 equally likely draws."""
    clips_N = np.array(list("aabcccdd"))
    rng = np.random.default_rng(0)
    a_N, b_N = rng.integers(0, 2, (2, 8)).astype(float)
    gains = []
    for drawn in itertools.product("abcd", repeat=4):
        weights_N = np.array([drawn.count(clip) for clip in clips_N])
        gains.append(float(np.average(b_N - a_N, weights=weights_N)))
    said = paired_bootstrap(mean_of(a_N), mean_of(b_N), clips_N, draws=20_000)
    exact = np.mean(np.array(gains) > 1e-12) + np.mean(np.abs(gains) < 1e-12) / 2
    assert said.value == pytest.approx(b_N.mean() - a_N.mean())
    assert said.probability == pytest.approx(exact, abs=0.012)
    assert (said.low, said.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])), abs=1e-9)


def test_interval_of_a_mean_is_that_of_the_normal_law():
    rng = np.random.default_rng(1)
    a_N = rng.normal(size=2000)
    b_N = a_N + 0.1 + rng.normal(scale=0.5, size=2000)
    said = paired_bootstrap(mean_of(a_N), mean_of(b_N), np.arange(2000), draws=4000)
    half = 1.96 * np.std(b_N - a_N) / np.sqrt(2000)
    assert said.high - said.low == pytest.approx(2 * half, rel=0.06)
    # Unpaired, the noise that both share would count twice.
    low, high = bootstrap(mean_of(b_N), np.arange(2000))
    assert said.high - said.low < 0.6 * (high - low)


def test_swapping_the_runs_turns_the_sign_and_clips_count_as_one():
    rng = np.random.default_rng(2)
    clips_N = np.repeat(np.arange(50), 6)
    a_N = (rng.random(300) < 0.5).astype(float)
    b_N = np.repeat((rng.random(50) < 0.6).astype(float), 6)
    forth, back = (paired_bootstrap(mean_of(x), mean_of(y), clips_N) for x, y in ((a_N, b_N), (b_N, a_N)))
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))
    assert back.probability == pytest.approx(1 - forth.probability)
    one_by_one = paired_bootstrap(mean_of(a_N), mean_of(b_N), np.arange(300))
    assert forth.high - forth.low > 1.5 * (one_by_one.high - one_by_one.low)


def test_a_run_against_itself_is_a_toss_up_and_lower_can_be_better():
    error_N = np.arange(20.0)
    same = paired_bootstrap(mean_of(error_N), mean_of(error_N), np.arange(20))
    assert (same.value, same.low, same.high, same.probability, same.clear) == (0, 0, 0, 0.5, False)
    fewer = paired_bootstrap(mean_of(error_N), mean_of(error_N - 1), np.arange(20), lower_is_better=True)
    assert fewer.value == -1 and fewer.probability == 1 and fewer.clear


def test_scores_keep_their_draws_whatever_the_order_of_examples():
    rng = np.random.default_rng(3)
    clips_N, order_N = np.array([f"clip{n % 30}" for n in range(90)]), rng.permutation(90)
    a_N, b_N = (rng.random((2, 90)) < np.array([[0.4], [0.6]])).astype(float)
    a, b = Score.of(mean_of(a_N), clips_N), Score.of(mean_of(b_N[order_N]), clips_N[order_N])
    said, direct = score_difference(a, b), paired_bootstrap(mean_of(a_N), mean_of(b_N), clips_N)
    assert said is not None
    assert (said.value, said.low, said.high, said.probability) == pytest.approx(
        (direct.value, direct.low, direct.high, direct.probability)
    )
    assert (a.low, a.high) == bootstrap(mean_of(a_N), clips_N)
    assert score_difference(a, Score.of(mean_of(a_N), np.arange(90))) is None
    assert score_difference(a, Score(value=0.5, low=0.4, high=0.6)) is None
