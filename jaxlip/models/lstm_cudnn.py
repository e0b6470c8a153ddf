"""An LSTM layer by cuDNN (`jax.experimental.rnn`): float32 on NVIDIA GPUs, projections and both directions in one call.

cuDNN wants the real frames of an example before all others; those of a mask with holes are moved there and back, which
is exact, since a frame that is not real changes nothing. Packing, masks and gradients are tested against JAX's
reference of the call; it has NOT RUN ON A GPU YET, which is why the automatic choice (`jaxlip.engine.lstm_choice`)
compares its values with the scan's before it looks at the times.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Kernel(NamedTuple):
    """The two halves of `jax.experimental.rnn.lstm`, with its arguments: forward gives ((y, h, c), residuals)."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]


def cudnn() -> Kernel:
    from jax.experimental import rnn

    return Kernel(rnn.lstm_fwd, rnn.lstm_bwd)


def packed(weights: Any) -> Float[Array, " P"]:
    """All weights of a layer in cuDNN's order: matrices of each direction, then biases; gates lead, as in PyTorch."""
    matrices = zip(weights.input_GDX, weights.recurrent_GHX, strict=True)
    biases = zip(weights.input_bias_GX, weights.recurrent_bias_GX, strict=True)
    parts = [w.T for pair in matrices for w in pair] + [b for pair in biases for b in pair]
    return jnp.concatenate([part.reshape(-1) for part in parts])


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _states(x_BTD, lengths_B, weights_P, hidden: int, directions: int, kernel: Kernel):
    return _forward(x_BTD, lengths_B, weights_P, hidden, directions, kernel)[0]


def _forward(x_BTD, lengths_B, weights_P, hidden, directions, kernel):
    # The call knows no `vmap`: members come one after the other.
    @jax.custom_batching.sequential_vmap
    def call(x_BTD, lengths_B, weights_P):
        zeros_GBH = jnp.zeros((directions, len(x_BTD), hidden), x_BTD.dtype)
        sizes = {"input_size": x_BTD.shape[2], "hidden_size": hidden, "num_layers": 1}
        rest = {"dropout": 0.0, "bidirectional": directions == 2, "precision": None}
        (y, _, _), residuals = kernel.forward(x_BTD, zeros_GBH, zeros_GBH, weights_P, lengths_B, **sizes, **rest)
        return y, residuals

    return call(x_BTD, lengths_B, weights_P)


def _backward(hidden, directions, kernel, residuals, d_y_BTH):
    @jax.custom_batching.sequential_vmap
    def call(residuals, d_y_BTH):
        x_BTD = residuals[0]
        zeros_GBH = jnp.zeros((directions, len(x_BTD), hidden), x_BTD.dtype)
        sizes = (x_BTD.shape[2], hidden, 1, 0.0, directions == 2, None)
        d_x_BTD, _, _, d_weights_P, *_ = kernel.backward(*sizes, residuals, (d_y_BTH, zeros_GBH, zeros_GBH))
        return d_x_BTD, d_weights_P

    d_x_BTD, d_weights_P = call(residuals, d_y_BTH)
    return d_x_BTD, None, d_weights_P


_states.defvjp(_forward, _backward)


def _moved(x_BTD: Float[Array, "B T D"], order_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    return jnp.take_along_axis(x_BTD, order_BT[..., None], axis=1)


def cudnn_layer(
    x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], weights: Any, kernel: Kernel | None = None
) -> Float[Array, "B T GH"]:
    """States of all directions side by side; what they are in frames that are not real is left open.

    weights: `Weights` in float32. `kernel`: default is cuDNN's.
    """
    order_BT = jnp.argsort(~frames_BT, axis=1, stable=True)
    # What is not real may be anything, and the call wants a frame even where an example has none.
    first_BTD = _moved(jnp.where(frames_BT[..., None], x_BTD, 0), order_BT)
    lengths_B = jnp.maximum(frames_BT.sum(axis=1, dtype=jnp.int32), 1)
    directions, hidden = weights.recurrent_GHX.shape[:2]
    y_BTH: Any = _states(first_BTD, lengths_B, packed(weights), hidden, directions, kernel or cudnn())
    return _moved(y_BTH, jnp.argsort(order_BT, axis=1))
