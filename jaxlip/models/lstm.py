"""LSTM layers (Hochreiter and Schmidhuber, 1997; gates as in PyTorch: input, forget, cell, output).

Both directions run in one scan; the input projection is one product before it, and the gradient of the recurrent
weights one product after it. A frame that is not real changes nothing: the state passes through it.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.norm import dropout, dropout_seed

# G is the direction axis: 1 (forward) or 2 (forward, backward in reversed time); X = 4 H, the gates.


def _gates(pre_GBX):
    i, f, g, o = jnp.split(pre_GBX, 4, axis=-1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def _step(h_GBH, c_GBH, pre_GBX, real_GB, weight_GHX):
    i, f, g, o = _gates(pre_GBX + jnp.einsum("gbh,ghx->gbx", h_GBH, weight_GHX))
    new_c_GBH = f * c_GBH + i * g
    new_h_GBH = o * jnp.tanh(new_c_GBH)
    real_GB1 = real_GB[..., None]
    h, c = jnp.where(real_GB1, new_h_GBH, h_GBH), jnp.where(real_GB1, new_c_GBH, c_GBH)
    return h, c, jnp.concatenate([i, f, g, o], axis=-1)


@jax.custom_vjp
def lstm_scan(pre_TGBX, real_TGB, weight_GHX):
    """Runs the recurrence from zero states.

    pre_TGBX: input projections with bias; real_TGB bool; weight_GHX: recurrent weights. Returns h_TGBH, the state after
    each frame (held where the frame is not real, so the last one is the final state).
    """
    return _scan_forward(pre_TGBX, real_TGB, weight_GHX)[0]


def _scan_forward(pre_TGBX, real_TGB, weight_GHX):
    zeros_GBH = jnp.zeros((*pre_TGBX.shape[1:3], weight_GHX.shape[1]), pre_TGBX.dtype)

    def step(carry, inputs):
        h_GBH, c_GBH, gates_GBX = _step(carry[0], carry[1], inputs[0], inputs[1], weight_GHX)
        return (h_GBH, c_GBH), (h_GBH, c_GBH, gates_GBX)

    _, (h_TGBH, c_TGBH, gates_TGBX) = jax.lax.scan(step, (zeros_GBH, zeros_GBH), (pre_TGBX, real_TGB))
    return h_TGBH, (h_TGBH, c_TGBH, gates_TGBX, real_TGB, weight_GHX)


def _shift(x_T):
    """The value one frame before; zero at the first."""
    return jnp.concatenate([jnp.zeros_like(x_T[:1]), x_T[:-1]])


def _scan_backward(residuals, d_h_TGBH):
    h_TGBH, c_TGBH, gates_TGBX, real_TGB, weight_GHX = residuals

    def step(carry, inputs):
        d_h_later, d_c_later = carry
        d_h_here, c, c_before, gates, real_GB = inputs
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        real_GB1 = real_GB[..., None]
        d_h = d_h_here + d_h_later
        tanh_c = jnp.tanh(c)
        d_c = d_c_later + d_h * o * (1 - tanh_c**2)
        d_pre = jnp.concatenate(
            [d_c * g * i * (1 - i), d_c * c_before * f * (1 - f), d_c * i * (1 - g**2), d_h * tanh_c * o * (1 - o)],
            axis=-1,
        )
        d_pre = jnp.where(real_GB1, d_pre, 0)
        d_h_before = jnp.where(real_GB1, jnp.einsum("gbx,ghx->gbh", d_pre, weight_GHX), d_h)
        return (d_h_before, jnp.where(real_GB1, d_c * f, d_c_later)), d_pre

    zeros_GBH = jnp.zeros_like(h_TGBH[0])
    inputs = (d_h_TGBH, c_TGBH, _shift(c_TGBH), gates_TGBX, real_TGB)
    _, d_pre_TGBX = jax.lax.scan(step, (zeros_GBH, zeros_GBH), inputs, reverse=True)
    d_weight_GHX = jnp.einsum("tgbh,tgbx->ghx", _shift(h_TGBH), d_pre_TGBX)
    return d_pre_TGBX, None, d_weight_GHX


lstm_scan.defvjp(_scan_forward, _scan_backward)


class BiLstmLayer(nnx.Module):
    """One bidirectional layer. Two bias vectors a direction, as in PyTorch, so that parameter counts match."""

    def __init__(self, fan_in: int, hidden: int, *, rngs: nnx.Rngs):
        keys = jax.random.split(rngs.params(), 4)
        glorot, orthogonal = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        self.input_weight = nnx.Param(jnp.stack([glorot(k, (fan_in, 4 * hidden)) for k in keys[:2]]))
        blocks = [[orthogonal(kk, (hidden, hidden)) for kk in jax.random.split(k, 4)] for k in keys[2:]]
        self.recurrent_weight = nnx.Param(jnp.stack([jnp.concatenate(b, axis=1) for b in blocks]))
        # A forget gate that starts open (Jozefowicz et al., ICML 2015).
        self.input_bias = nnx.Param(jnp.zeros((2, 4 * hidden)).at[:, hidden : 2 * hidden].set(1.0))
        self.recurrent_bias = nnx.Param(jnp.zeros((2, 4 * hidden)))

    def __call__(self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B T Dout"]:
        """Forward state beside backward state of every frame; zero where the frame is not real."""
        frames_TB = frames_BT.T
        bias_GX = self.input_bias[...] + self.recurrent_bias[...]
        pre_GTBX = jnp.einsum("btd,gdx->gtbx", x_BTD, self.input_weight[...]) + bias_GX[:, None, None]
        pre_TGBX = jnp.stack([pre_GTBX[0], pre_GTBX[1, ::-1]], axis=1)
        real_TGB = jnp.stack([frames_TB, frames_TB[::-1]], axis=1)
        h_TGBH = lstm_scan(pre_TGBX, real_TGB, self.recurrent_weight[...])
        both_TBH = jnp.concatenate([h_TGBH[:, 0], h_TGBH[::-1, 1]], axis=-1)
        return jnp.where(frames_BT[..., None], jnp.swapaxes(both_TBH, 0, 1), 0)


class LstmLayer(nnx.Module):
    """One forward layer, which can go on where it stopped. Two bias vectors, as in PyTorch."""

    def __init__(self, fan_in: int, hidden: int, *, rngs: nnx.Rngs):
        keys = jax.random.split(rngs.params(), 2)
        glorot, orthogonal = nnx.initializers.glorot_uniform(), nnx.initializers.orthogonal()
        self.input_weight = nnx.Param(glorot(keys[0], (fan_in, 4 * hidden)))
        blocks = [orthogonal(key, (hidden, hidden)) for key in jax.random.split(keys[1], 4)]
        self.recurrent_weight = nnx.Param(jnp.concatenate(blocks, axis=1))
        # A forget gate that starts open (Jozefowicz et al., ICML 2015).
        self.input_bias = nnx.Param(jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(1.0))
        self.recurrent_bias = nnx.Param(jnp.zeros(4 * hidden))

    def _projected(self, x_BTD):
        bias_X = self.input_bias[...] + self.recurrent_bias[...]
        return x_BTD @ self.input_weight[...] + bias_X[None, None]

    def __call__(self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B T H"]:
        """The state of every frame; zero where the frame is not real."""
        pre_TGBX = jnp.swapaxes(self._projected(x_BTD), 0, 1)[:, None]
        h_TGBH = lstm_scan(pre_TGBX, frames_BT.T[:, None], self.recurrent_weight[...][None])
        return jnp.where(frames_BT[..., None], jnp.swapaxes(h_TGBH[:, 0], 0, 1), 0)

    def resume(
        self, x_BTD: Float[Array, "B T D"], carry: tuple[Float[Array, "B H"], Float[Array, "B H"]]
    ) -> tuple[Float[Array, "B T H"], tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
        """The states of frames that follow on those that left `carry` (state and cell), all real; and the carry
        then."""
        weight_GHX, all_GB = self.recurrent_weight[...][None], jnp.ones((1, len(x_BTD)), bool)

        def step(carry, pre_BX):
            h_GBH, c_GBH, _ = _step(carry[0], carry[1], pre_BX[None], all_GB, weight_GHX)
            return (h_GBH, c_GBH), h_GBH[0]

        first = (carry[0][None], carry[1][None])
        (h_GBH, c_GBH), h_TBH = jax.lax.scan(step, first, jnp.swapaxes(self._projected(x_BTD), 0, 1))
        return jnp.swapaxes(h_TBH, 0, 1), (h_GBH[0], c_GBH[0])


class BiLstm(nnx.Module):
    """Stacked bidirectional layers with dropout between them."""

    def __init__(self, fan_in: int, hidden: int, layers: int, dropout: float, *, site: int, rngs: nnx.Rngs):
        sizes = [fan_in] + [2 * hidden] * (layers - 1)
        self.layers = nnx.List([BiLstmLayer(size, hidden, rngs=rngs) for size in sizes])
        self.dropout = dropout
        self.site = site

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        for i, layer in enumerate(self.layers):
            if i and key is not None:
                x_BTD = dropout(x_BTD, dropout_seed(key, self.site + i), self.dropout)
            x_BTD = layer(x_BTD, frames_BT)
        return x_BTD
