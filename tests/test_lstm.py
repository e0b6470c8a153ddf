"""The scanned LSTM against a step loop in float64 NumPy, autodiff of that loop, and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlip.models.lstm import BiLstm, BiLstmLayer
from jaxlip.models.lstm_scan import lstm_scan

B, T, D, H = 3, 7, 4, 5
LENGTHS = np.array([7, 4, 1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_loop(x_TD, input_weight, recurrent_weight, bias):
    """One direction of one sequence, float64."""
    h, c, out = np.zeros(H), np.zeros(H), []
    for x_D in x_TD:
        i, f, g, o = np.split(x_D @ input_weight + h @ recurrent_weight + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


@pytest.fixture
def layer():
    return BiLstmLayer(D, H, rngs=nnx.Rngs(0))


@pytest.fixture
def x_BTD():
    return jnp.asarray(np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32))


FRAMES = jnp.arange(T)[None] < LENGTHS[:, None]


def test_layer_equals_step_loop_on_each_unpadded_sequence(layer, x_BTD):
    got = np.asarray(layer(x_BTD, FRAMES))
    w_in, w_rec = np.asarray(layer.input_weight[...], np.float64), np.asarray(layer.recurrent_weight[...], np.float64)
    bias = np.asarray(layer.input_bias[...] + layer.recurrent_bias[...], np.float64)
    for b, length in enumerate(LENGTHS):
        x = np.asarray(x_BTD[b, :length], np.float64)
        forward = step_loop(x, w_in[0], w_rec[0], bias[0])
        backward = step_loop(x[::-1], w_in[1], w_rec[1], bias[1])[::-1]
        np.testing.assert_allclose(got[b, :length], np.concatenate([forward, backward], axis=1), atol=1e-6)
        assert not got[b, length:].any()


def test_gradient_equals_autodiff_of_the_plain_recurrence():
    rng = np.random.default_rng(1)
    pre = rng.normal(size=(T, 2, B, 4 * H)).astype(np.float32)
    weight = 0.3 * rng.normal(size=(2, H, 4 * H)).astype(np.float32)
    real = np.array(jnp.stack([FRAMES.T, FRAMES.T[::-1]], axis=1))
    real[3, :, 0] = False
    out_weight = rng.normal(size=(T, 2, B, H)).astype(np.float32)

    def plain(pre, weight):
        h = c = jnp.zeros((2, B, H))
        total = 0.0
        for t in range(T):
            i, f, g, o = jnp.split(pre[t] + jnp.einsum("gbh,ghx->gbx", h, weight), 4, axis=-1)
            new_c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            new_h = jax.nn.sigmoid(o) * jnp.tanh(new_c)
            m = real[t][..., None]
            h, c = jnp.where(m, new_h, h), jnp.where(m, new_c, c)
            total += jnp.sum(h * out_weight[t])
        return total

    def ours(pre, weight):
        return jnp.sum(lstm_scan(pre, jnp.array(real), weight) * out_weight)

    np.testing.assert_allclose(ours(pre, weight), plain(pre, weight), rtol=1e-5)
    for got, want in zip(jax.grad(ours, (0, 1))(pre, weight), jax.grad(plain, (0, 1))(pre, weight), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_padding_does_not_leak(layer, x_BTD):
    junk = jnp.where(FRAMES[..., None], x_BTD, 1e6)
    np.testing.assert_array_equal(layer(x_BTD, FRAMES), layer(junk, FRAMES))


def test_two_layers_against_torch_in_float64(x_BTD):
    torch = pytest.importorskip("torch", reason="torch is in the extra `peers`")
    with jax.enable_x64(True):
        ours = BiLstm(D, H, 2, 0.0, site=0, rngs=nnx.Rngs(0))
        ours = jax.tree.map(lambda a: a.astype(jnp.float64), ours)
        peer = torch.nn.LSTM(D, H, 2, bidirectional=True, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            for number, layer in enumerate(ours.layers):
                for g, suffix in enumerate(("", "_reverse")):
                    for name, value in (
                        ("weight_ih", layer.input_weight[...][g].T),
                        ("weight_hh", layer.recurrent_weight[...][g].T),
                        ("bias_ih", layer.input_bias[...][g]),
                        ("bias_hh", layer.recurrent_bias[...][g]),
                    ):
                        getattr(peer, f"{name}_l{number}{suffix}").copy_(torch.tensor(np.asarray(value)))
        x = np.asarray(x_BTD, np.float64)
        weight = np.random.default_rng(2).normal(size=(B, T, 2 * H))
        graph, params = nnx.split(ours)

        def total(params, x):
            return jnp.sum(nnx.merge(graph, params)(x, FRAMES, None) * weight * FRAMES[..., None])

        d_params, d_x = jax.grad(total, (0, 1))(params, jnp.array(x))
        tx = torch.tensor(x, requires_grad=True)
        packed = torch.nn.utils.rnn.pack_padded_sequence(tx, torch.tensor(LENGTHS), batch_first=True)
        out, _ = torch.nn.utils.rnn.pad_packed_sequence(peer(packed)[0], batch_first=True, total_length=T)
        (out * torch.tensor(weight)).sum().backward()
        got = nnx.merge(graph, params)(jnp.array(x), FRAMES, None)
        np.testing.assert_allclose(got, out.detach().numpy(), atol=1e-12)
        np.testing.assert_allclose(d_x, tx.grad.numpy(), atol=1e-12)
        d_layer = nnx.merge(graph, d_params).layers[0]
        np.testing.assert_allclose(d_layer.recurrent_weight[...][1].T, peer.weight_hh_l0_reverse.grad, atol=1e-12)
        np.testing.assert_allclose(d_layer.input_weight[...][0].T, peer.weight_ih_l0.grad, atol=1e-12)
