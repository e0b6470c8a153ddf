"""LSTM layers (Hochreiter and Schmidhuber, 1997; gates as in PyTorch: input, forget, cell, output).

A frame that is not real changes nothing: the state passes through it. What computes them is chosen elsewhere
(`lstm_backends`).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.lstm_backends import Weights, lstm_layer
from jaxlip.models.lstm_scan import lstm_step
from jaxlip.models.norm import Rate, dropout, dropout_seed


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
        biases = (self.input_bias[...], self.recurrent_bias[...])
        return lstm_layer(x_BTD, frames_BT, Weights(self.input_weight[...], self.recurrent_weight[...], *biases))


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

    def __call__(self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B T H"]:
        """The state of every frame; zero where the frame is not real."""
        weights = (self.input_weight, self.recurrent_weight, self.input_bias, self.recurrent_bias)
        return lstm_layer(x_BTD, frames_BT, Weights(*(weight[...][None] for weight in weights)))

    def resume(
        self, x_BTD: Float[Array, "B T D"], carry: tuple[Float[Array, "B H"], Float[Array, "B H"]]
    ) -> tuple[Float[Array, "B T H"], tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
        """The states of frames that follow on those that left `carry` (state and cell), all real; and the carry
        then."""
        weight_GHX, all_GB = self.recurrent_weight[...][None], jnp.ones((1, len(x_BTD)), bool)

        def step(carry, pre_BX):
            h_GBH, c_GBH, _ = lstm_step(carry[0], carry[1], pre_BX[None], all_GB, weight_GHX)
            return (h_GBH, c_GBH), h_GBH[0]

        bias_X = self.input_bias[...] + self.recurrent_bias[...]
        pre_BTX = x_BTD @ self.input_weight[...] + bias_X[None, None]
        first = (carry[0][None], carry[1][None])
        (h_GBH, c_GBH), h_TBH = jax.lax.scan(step, first, jnp.swapaxes(pre_BTX, 0, 1))
        return jnp.swapaxes(h_TBH, 0, 1), (h_GBH[0], c_GBH[0])


class BiLstm(nnx.Module):
    """Stacked bidirectional layers with dropout between them."""

    def __init__(self, fan_in: int, hidden: int, layers: int, dropout: Rate, *, site: int, rngs: nnx.Rngs):
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
