"""CCC, Pearson's r and the concordance loss: closed forms, float64 NumPy, PyTorch, and merging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.config import from_json, to_json
from jaxlip.losses.ccc import CccLoss, ccc_loss
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.moments import Ccc, Moments, ccc, mean_squared_error, pearson

WEIGHTS = (0.65, 0.70)


def numpy_ccc(x_N, y_N) -> float:
    x_N, y_N = np.asarray(x_N, np.float64), np.asarray(y_N, np.float64)
    covariance = np.mean((x_N - x_N.mean()) * (y_N - y_N.mean()))
    return 2 * covariance / (x_N.var() + y_N.var() + (x_N.mean() - y_N.mean()) ** 2)


def numpy_loss(x_NA, y_NA) -> float:
    terms = [
        w * (1 - numpy_ccc(x_NA[:, a], y_NA[:, a])) + (1 - w) * np.mean((x_NA[:, a] - y_NA[:, a]) ** 2)
        for a, w in enumerate(WEIGHTS)
    ]
    return float(np.mean(terms))


@jax.jit
def loss_of(x_BA, y_BA, mask_B):
    return ccc_loss(x_BA, y_BA, mask_B, weights=WEIGHTS).value


loss_and_gradient = jax.jit(jax.value_and_grad(loss_of))


def sample(rng, n: int):
    y_NA = rng.normal(size=(n, 2)) * [0.3, 2.0] + [3.0, -1.0]
    return jnp.asarray(0.6 * y_NA + rng.normal(size=(n, 2)), jnp.float32), jnp.asarray(y_NA, jnp.float32)


def test_closed_forms():
    # Lin's own example of a shift: y = x + d has CCC 2 var / (2 var + d^2).
    x_N = jnp.arange(5.0)
    moments = Moments.of(x_N, x_N + 2, jnp.ones(5, bool))
    assert float(ccc(moments)) == pytest.approx(2 * 2 / (2 * 2 + 4))
    assert float(pearson(moments)) == pytest.approx(1)
    assert float(mean_squared_error(moments)) == pytest.approx(4)
    # A scale: y = s x around mean 0 has CCC 2 s / (1 + s^2).
    x_N = x_N - 2
    assert float(ccc(Moments.of(x_N, 3 * x_N, jnp.ones(5, bool)))) == pytest.approx(6 / 10)
    assert float(ccc(Moments.of(x_N, -x_N, jnp.ones(5, bool)))) == pytest.approx(-1)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64])
def test_perfect_prediction_scores_one_at_every_batch_size(n):
    _, y_NA = sample(np.random.default_rng(n), n)
    mask_N = jnp.ones(n, bool)
    assert float(ccc(Moments.of(y_NA[:, 0], y_NA[:, 0], mask_N))) == pytest.approx(1, abs=1e-6)
    loss, gradient = loss_and_gradient(y_NA, y_NA, mask_N)
    assert float(loss) == pytest.approx(0, abs=1e-6) and np.isfinite(gradient).all()


@given(st.integers(2, 40), st.sampled_from((40, 61)), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_values_are_those_of_numpy_whatever_is_masked(n, rows, seed):
    # Two lengths, so that little is compiled.
    rng = np.random.default_rng(seed)
    x_NA, y_NA = sample(rng, n)
    mask_P = rng.permutation(np.arange(rows) < n)
    x_PA, y_PA = np.full((2, rows, 2), np.nan, np.float32)
    x_PA[mask_P], y_PA[mask_P] = x_NA, y_NA
    x_PA, y_PA, mask_P = jnp.asarray(x_PA), jnp.asarray(y_PA), jnp.asarray(mask_P)
    moments = Moments.of(x_PA[:, 0], y_PA[:, 0], mask_P)
    assert float(ccc(moments)) == pytest.approx(numpy_ccc(x_NA[:, 0], y_NA[:, 0]), abs=2e-6)
    assert float(pearson(moments)) == pytest.approx(np.corrcoef(x_NA[:, 0], y_NA[:, 0])[0, 1], abs=2e-5)
    loss, gradient = jax.value_and_grad(lambda x: ccc_loss(x, y_PA, mask_P, weights=WEIGHTS).value)(x_PA)
    assert float(loss) == pytest.approx(numpy_loss(x_NA, y_NA), rel=1e-5)
    gradient, mask_P = np.asarray(gradient), np.asarray(mask_P)
    assert np.isfinite(gradient[mask_P]).all() and not np.any(gradient[~mask_P])


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_merged_over_batches_it_is_the_same(parts):
    x_NA, y_NA = sample(np.random.default_rng(0), 70)
    losses = [
        ccc_loss(x_BA, y_BA, jnp.ones(len(x_BA), bool), weights=WEIGHTS)
        for x_BA, y_BA in zip(jnp.array_split(x_NA, parts), jnp.array_split(y_NA, parts), strict=True)
    ]
    merged = losses[0]
    for loss in losses[1:]:
        merged = jax.jit(CccLoss.merge)(merged, loss)
    assert float(merged.value) == pytest.approx(numpy_loss(x_NA, y_NA), rel=1e-6)
    # On the host, in Python floats, and from nothing.
    host = jax.tree.map(lambda leaf: 0.0, merged)
    for loss in losses:
        host = host.merge(jax.tree.map(float, loss))
    assert host.result() == pytest.approx(numpy_loss(x_NA, y_NA), rel=1e-6)


def test_weights_count_rows_several_times():
    x_NA, y_NA = sample(np.random.default_rng(1), 12)
    times_N = np.random.default_rng(2).integers(0, 4, 12)
    twice = (np.repeat(x_NA, times_N, axis=0), np.repeat(y_NA, times_N, axis=0))
    assert float(loss_of(x_NA, y_NA, jnp.asarray(times_N, jnp.float32))) == pytest.approx(numpy_loss(*twice), rel=1e-5)


@pytest.mark.parametrize("x, y", [([2.0], [1.0]), ([2.0], [2.0]), ([1.0] * 4, [1.0] * 4), ([1.0] * 4, [0.0] * 4)])
def test_without_variance_value_and_gradient_are_finite(x, y):
    x_N, y_N = jnp.array(x), jnp.array(y)
    value, gradient = jax.value_and_grad(lambda x: ccc(Moments.of(x, y_N, jnp.ones(len(y), bool))))(x_N)
    assert float(value) == (1 if x == y else 0)
    assert not np.any(np.asarray(gradient))
    r, slope = jax.value_and_grad(lambda x: pearson(Moments.of(x, y_N, jnp.ones(len(y), bool))))(x_N)
    assert float(r) == 0 and np.isfinite(slope).all()
    nothing = ccc_loss(jnp.full((3, 2), jnp.nan), jnp.zeros((3, 2)), jnp.zeros(3, bool), weights=WEIGHTS)
    assert np.isfinite(float(nothing.value))


def test_gradient_is_that_of_float64_differences():
    x_NA, y_NA = sample(np.random.default_rng(3), 10)
    _, gradient_NA = loss_and_gradient(x_NA, y_NA, jnp.ones(10, bool))
    x_NA, y_NA = np.asarray(x_NA, np.float64), np.asarray(y_NA, np.float64)
    for n, a in np.ndindex(x_NA.shape):
        step_NA = np.zeros_like(x_NA)
        step_NA[n, a] = 1e-6
        slope = (numpy_loss(x_NA + step_NA, y_NA) - numpy_loss(x_NA - step_NA, y_NA)) / 2e-6
        assert float(gradient_NA[n, a]) == pytest.approx(slope, rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("n", [2, 10, 200])
def test_value_and_gradient_are_those_of_torch_in_float64(n):
    torch = pytest.importorskip("torch", reason="needs the extra peers")
    x_NA, y_NA = sample(np.random.default_rng(n), n)
    x, y = torch.tensor(np.asarray(x_NA, np.float64), requires_grad=True), torch.tensor(np.asarray(y_NA, np.float64))
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    spread = x.var(0, correction=0) + y.var(0, correction=0) + (x.mean(0) - y.mean(0)) ** 2
    w = torch.tensor(WEIGHTS, dtype=torch.float64)
    want = (w * (1 - 2 * covariance / spread) + (1 - w) * ((x - y) ** 2).mean(0)).mean()
    want.backward()
    loss, gradient = loss_and_gradient(x_NA, y_NA, jnp.ones(n, bool))
    assert float(loss) == pytest.approx(want.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_large_means_keep_their_digits():
    rng = np.random.default_rng(4)
    y_N = 3 + 0.01 * rng.normal(size=5000)
    x_N = 3 + 0.01 * rng.normal(size=5000) + (y_N - 3)
    x_N, y_N = jnp.asarray(x_N, jnp.float32), jnp.asarray(y_N, jnp.float32)
    merged = Moments.of(x_N[:7], y_N[:7], jnp.ones(7, bool)).merge(Moments.of(x_N[7:], y_N[7:], jnp.ones(4993, bool)))
    assert float(ccc(merged)) == pytest.approx(numpy_ccc(x_N, y_N), abs=2e-5)


def test_statistics_survive_json():
    moments = Moments(3.0, 1.0, 2.0, 0.5, 0.25, 0.1)
    for statistic in (Mean(3.0, 4.0), Ccc(moments), CccLoss((moments, moments), WEIGHTS)):
        assert from_json(to_json(statistic)) == statistic
