"""The CTC kernel in interpret mode against the scan, its lowering for CUDA, and the choice between the two."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.losses.ctc import ctc_loss, ctc_posteriors
from jaxlip.losses.ctc_pallas import fastest, lattice_for, lattice_pallas, lattice_scan, timed_trial

B, T, K, N = 4, 8, 4, 4


def example():
    rng = np.random.default_rng(0)
    tokens = np.arange(N)[None] < np.array([4, 2, 0, 4])[:, None]
    frames = rng.random((B, T)) < 0.8
    frames[0], frames[3, 3:] = True, False
    logits, labels = 3 * rng.normal(size=(B, T, K)), rng.integers(1, 3, (B, N))
    return jnp.asarray(logits, jnp.float32), jnp.asarray(frames), jnp.asarray(labels), jnp.asarray(tokens)


def test_values_and_gradients_equal_those_of_the_scan():
    logits, *rest = example()

    @functools.partial(jax.jit, static_argnames="backend")
    def results(logits, backend):
        gradient = jax.grad(lambda x: jnp.sum(jnp.arange(1.0, 1 + B) * ctc_loss(x, *rest, backend=backend)))
        posteriors = ctc_posteriors(logits, *rest, backend=backend)
        return ctc_loss(logits, *rest, backend=backend), posteriors, gradient(logits)

    got, want = results(logits, "pallas"), results(logits, "scan")
    assert (want[0] > 0).tolist() == [True, True, True, False]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), got, want)


def test_vmapped_and_in_float64():
    with jax.enable_x64(True):
        logits, *rest = example()
        two = jnp.stack([logits, -logits]).astype(jnp.float64)
        got, want = (
            jax.jit(jax.vmap(functools.partial(ctc_loss, backend=backend), in_axes=(0, None, None, None)))(two, *rest)
            for backend in ("pallas", "scan")
        )
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize("posteriors", [False, True])
def test_lowers_for_cuda_without_a_gpu(posteriors):
    logits, frames, labels, tokens = example()
    function = jax.jit(functools.partial(lattice_pallas, posteriors=posteriors, interpret=False))
    traced = function.trace(jnp.zeros((T, B)), jnp.zeros((T, N, B)), frames, labels, tokens)
    assert "triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def injected(kernel_seconds, kernel_value=1.0, error=None):
    def trial(name):
        if name == "scan":
            return 1.0, [np.ones(3)]
        if error:
            raise error
        return kernel_seconds, [np.full(3, kernel_value)]

    return trial


def test_the_faster_one_is_taken():
    assert fastest(injected(0.5)) == "pallas"
    assert fastest(injected(2.0)) == "scan"


@pytest.mark.parametrize(
    ("trial", "message"),
    [(injected(0.5, kernel_value=1.1), "disagrees"), (injected(0.5, error=RuntimeError("no ptxas")), "no ptxas")],
)
def test_a_kernel_that_is_wrong_or_fails_is_not_taken(trial, message):
    with pytest.warns(UserWarning, match=message):
        assert fastest(trial) == "scan"


def test_trials_run_while_something_is_traced():
    chosen = []

    @jax.jit
    def traced(x):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results = [timed_trial(name, B, T, N, "float32") for name in ("scan", "pallas")]
        chosen.extend(results)
        return x

    jax.vmap(traced)(jnp.ones(2))
    (scan_seconds, want), (kernel_seconds, got) = chosen
    assert scan_seconds > 0 and kernel_seconds > 0
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_automatic_is_the_scan_without_a_gpu():
    assert lattice_for("auto", B, T, N, "float32") is lattice_scan
