"""The LSTM kernel in interpret mode against the scan, its lowering for CUDA, and cuDNN's call against a reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.models.lstm import BiLstm, LstmLayer
from jaxlip.models.lstm_backends import BACKENDS, Call, Weights, lstm_backend, lstm_layer, recorded_calls
from jaxlip.models.lstm_cudnn import Kernel, cudnn_layer
from jaxlip.models.lstm_pallas import lstm_pallas
from jaxlip.models.lstm_scan import lstm_scan

CLOSE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}


def recurrence_inputs(size_T, size_G, size_B, size_H, dtype="float32", seed=0):
    """Masks have holes, one example has no real frame."""
    rng = np.random.default_rng(seed)
    pre = rng.normal(size=(size_T, size_G, size_B, 4 * size_H))
    real = rng.random((size_T, size_G, size_B)) < 0.8
    real[:, :, -1] = size_B == 1
    weight = rng.normal(size=(size_G, size_H, 4 * size_H)) / size_H**0.5
    return jnp.asarray(pre, dtype), jnp.asarray(real), jnp.asarray(weight, dtype)


@functools.partial(jax.jit, static_argnums=0)
def states_and_gradients(recurrence, pre, real, weight):
    """Under a loss that weighs every state otherwise."""

    def loss(pre, weight):
        h = recurrence(pre, real, weight)
        return jnp.sum(h.astype(jnp.float32) * jnp.cos(jnp.arange(h.size).reshape(h.shape))), h

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(pre, weight)


def assert_close(got, want, tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))


@settings(max_examples=4, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 2), st.integers(1, 18), st.integers(1, 40), st.integers(0, 9))
def test_the_kernel_equals_the_scan(size_T, size_G, size_B, size_H, seed):
    inputs = recurrence_inputs(size_T, size_G, size_B, size_H, seed=seed)
    assert_close(states_and_gradients(lstm_pallas, *inputs), states_and_gradients(lstm_scan, *inputs), 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_kernel_in_every_type_with_more_than_one_chunk_and_block(dtype):
    inputs = recurrence_inputs(6, 2, 17, 70, dtype)
    got, want = (states_and_gradients(function, *inputs) for function in (lstm_pallas, lstm_scan))
    assert got[0][1].dtype == dtype
    assert_close(got, want, CLOSE[dtype])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(dtype):
    """What is lost is the rounding of inputs and states, however long the sequence: cells and sums are float32."""
    inputs = recurrence_inputs(60, 2, 4, 32, dtype)
    exact = (inputs[0].astype(jnp.float32), inputs[1], inputs[2].astype(jnp.float32))
    (_, got), got_d = states_and_gradients(lstm_scan, *inputs)
    (_, want), want_d = states_and_gradients(lstm_scan, *exact)
    for a, b in zip((got, *got_d), (want, *want_d), strict=True):
        assert a.dtype == dtype
        error = jnp.abs(a.astype(jnp.float32) - b).max() / jnp.abs(b).max()
        assert error < {"bfloat16": 2e-2, "float16": 3e-3}[dtype]


def test_a_cell_counts_on_in_half_precision():
    """An open gate adds the same to the cell in every frame, beyond where bfloat16 could count."""
    size_T = 600
    pre = jnp.asarray([20.0, 20.0, 20.0, 20.0], jnp.bfloat16)
    h = lstm_scan(
        jnp.broadcast_to(pre, (size_T, 1, 1, 4)), jnp.ones((size_T, 1, 1), bool), jnp.zeros((1, 1, 4), jnp.bfloat16)
    )
    assert h.dtype == jnp.bfloat16 and float(h[-1, 0, 0, 0]) == 1.0
    residuals = jax.vjp(
        lambda pre: lstm_scan(pre, jnp.ones((size_T, 1, 1), bool), jnp.zeros((1, 1, 4), jnp.bfloat16)),
        jnp.broadcast_to(pre, (size_T, 1, 1, 4)),
    )[1]
    cells = [
        leaf for leaf in jax.tree.leaves(residuals) if leaf.dtype == jnp.float32 and leaf.shape == (size_T, 1, 1, 1)
    ]
    np.testing.assert_allclose(cells[0][-1], size_T, rtol=1e-5)


def test_the_kernel_vmapped_twice():
    """As members of a population whose task is an ensemble."""
    many = [recurrence_inputs(3, 2, 3, 5, seed=seed) for seed in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves).reshape(2, 2, *leaves[0].shape), *many)
    run = functools.partial(states_and_gradients, lstm_pallas)
    got = jax.tree.map(lambda leaf: leaf.reshape(4, *leaf.shape[2:]), jax.vmap(jax.vmap(run))(*stacked))
    for number, inputs in enumerate(many):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], got)
        assert_close(one, states_and_gradients(lstm_scan, *inputs), 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_lowers_for_cuda_without_a_gpu(dtype):
    pre, real, weight = recurrence_inputs(7, 2, 17, 70, dtype)

    def loss(pre, weight):
        return jnp.sum(lstm_pallas(pre, real, weight, False).astype(jnp.float32))

    gradient = jax.grad(loss, (0, 1))
    members = [jnp.broadcast_to(x, (2, 3, *x.shape)) for x in (pre, weight)]
    for function, arguments, kernels in (
        (loss, (pre, weight), 1),
        (gradient, (pre, weight), 2),
        (jax.vmap(jax.vmap(gradient)), members, 2),
    ):
        text = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()
        assert text.count("xla.gpu.triton") == kernels


def layer_inputs(size_G, seed=0):
    """Three examples of seven frames: with holes, without real frames, whole; what is not real is not a number."""
    rng = np.random.default_rng(seed)
    size_D, size_H = 3, 4
    shapes = [(size_G, size_D, 4 * size_H), (size_G, size_H, 4 * size_H), (size_G, 4 * size_H), (size_G, 4 * size_H)]
    weights = Weights(*(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes))
    frames = np.array([[0, 1, 1, 0, 0, 1, 1], [0] * 7, [1] * 7], bool)
    x = rng.normal(size=(3, 7, size_D)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(frames), weights


def reference_kernel():
    """JAX's reference of the cuDNN call, in its two halves."""
    from jax.experimental import rnn

    def run(x, h, c, packed, lengths, input_size, hidden_size, num_layers, dropout, bidirectional, precision):
        unpacked = rnn.unpack_lstm_weights(packed, input_size, hidden_size, num_layers, bidirectional)
        with jax.numpy_rank_promotion("allow"):
            return rnn.lstm_ref(
                x, h, c, *unpacked, lengths, input_size, hidden_size, num_layers, dropout, bidirectional
            )

    def forward(*arguments, **sizes):
        return run(*arguments, **sizes), arguments

    def backward(*arguments):
        *sizes, residuals, cotangents = arguments
        lengths = residuals[4]
        pulled = jax.vjp(lambda x, h, c, packed: run(x, h, c, packed, lengths, *sizes), *residuals[:4])[1]
        return (*pulled(cotangents), jnp.zeros_like(lengths))

    return Kernel(forward, backward)


def layer_results(layer, x, frames, weights):
    def loss(x, weights):
        states = jnp.where(frames[..., None], layer(x, frames, weights), 0)
        return jnp.sum(states * jnp.cos(jnp.arange(states.size).reshape(states.shape))), states

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, weights)


@pytest.mark.parametrize("size_G", [1, 2])
def test_packing_for_cudnn_and_masks_with_holes(size_G):
    inputs = layer_inputs(size_G)
    by_reference = functools.partial(cudnn_layer, kernel=reference_kernel())
    got, want = (layer_results(layer, *inputs) for layer in (by_reference, BACKENDS["scan"].layer))
    assert_close(got, want, 1e-5)
    x, frames, weights = inputs
    junk = jnp.where(frames[..., None], x, jnp.nan)
    assert_close(layer_results(by_reference, junk, frames, weights), want, 1e-5)


def test_cudnn_under_vmap():
    many = [layer_inputs(2, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    by_reference = functools.partial(cudnn_layer, kernel=reference_kernel())
    got = jax.vmap(functools.partial(layer_results, by_reference))(*stacked)
    for number, inputs in enumerate(many):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], got)
        assert_close(one, layer_results(BACKENDS["scan"].layer, *inputs), 1e-5)


def test_layers_compute_with_the_backend_in_use():
    x, frames, _ = layer_inputs(1)
    stack, layer = BiLstm(3, 4, 2, 0.0, site=0, rngs=nnx.Rngs(0)), LstmLayer(3, 4, rngs=nnx.Rngs(1))

    def run():
        return jnp.concatenate([stack(x, frames, None), layer(x, frames)], axis=-1)

    want = run()
    with lstm_backend("pallas"):
        assert str(jax.make_jaxpr(lambda: run())()).count("pallas_call[") == 3
        got = run()
    assert "pallas_call[" not in str(jax.make_jaxpr(lambda: run())())
    assert_close(got, want, 1e-6)


def test_calls_are_recorded_and_what_a_backend_cannot_do_is_refused():
    x, frames, weights = layer_inputs(2)
    with recorded_calls() as calls:
        jax.eval_shape(lstm_layer, x, frames, weights)
    assert calls == [Call(directions=2, examples=3, frames=7, fan_in=3, hidden=4, dtype="float32")]
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (x, weights))
    with lstm_backend("cudnn"), pytest.raises(ValueError, match="cudnn cannot be used here: .*bfloat16"):
        lstm_layer(half[0], frames, half[1])
    wide = Weights(*(jnp.zeros((1, *shape)) for shape in ((3, 2400), (600, 2400), (2400,), (2400,))))
    with lstm_backend("pallas"), pytest.raises(ValueError, match="up to 256 hidden units, not 600"):
        lstm_layer(x, frames, wide)
    with pytest.raises(ValueError, match="'fast'; it must be one of scan, pallas, cudnn"), lstm_backend("fast"):
        pass
