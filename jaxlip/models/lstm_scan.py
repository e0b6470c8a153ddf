"""The LSTM's recurrence as one scan for all directions, on any device.

The gradient of the recurrent weights is one product after the scan. In half precision gates, cell and sums are
float32; what passes from frame to frame and is kept for the gradient, the cell apart, is half.
"""

import jax
import jax.numpy as jnp

# G is the direction axis: 1 (forward) or 2 (forward, backward in reversed time); X = 4 H, the gates.


def accumulator(dtype) -> jnp.dtype:
    """The type of cells and sums: float32, float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


def lstm_step(h_GBH, c_GBH, pre_GBX, real_GB, weight_GHX):
    """One frame: state in the type of the inputs, cell and gates in that of sums."""
    product_GBX = jnp.einsum("gbh,ghx->gbx", h_GBH, weight_GHX, preferred_element_type=c_GBH.dtype)
    i, f, g, o = jnp.split(pre_GBX + product_GBX, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new_c_GBH = f * c_GBH + i * g
    new_h_GBH = (o * jnp.tanh(new_c_GBH)).astype(h_GBH.dtype)
    real_GB1 = real_GB[..., None]
    h, c = jnp.where(real_GB1, new_h_GBH, h_GBH), jnp.where(real_GB1, new_c_GBH, c_GBH)
    return h, c, jnp.concatenate([i, f, g, o], axis=-1)


@jax.custom_vjp
def lstm_scan(pre_TGBX, real_TGB, weight_GHX):
    """Runs the recurrence from zero states.

    pre_TGBX: input projections with bias; real_TGB bool; weight_GHX: recurrent weights, in the same type. Returns
    h_TGBH, in that type, the state after each frame (held where the frame is not real, so the last one is the final
    state).
    """
    return _forward(pre_TGBX, real_TGB, weight_GHX)[0]


def _forward(pre_TGBX, real_TGB, weight_GHX):
    shape_GBH = (*pre_TGBX.shape[1:3], weight_GHX.shape[1])
    first = (jnp.zeros(shape_GBH, pre_TGBX.dtype), jnp.zeros(shape_GBH, accumulator(pre_TGBX.dtype)))

    def step(carry, inputs):
        h_GBH, c_GBH, gates_GBX = lstm_step(carry[0], carry[1], inputs[0], inputs[1], weight_GHX)
        return (h_GBH, c_GBH), (h_GBH, c_GBH, gates_GBX.astype(pre_TGBX.dtype))

    _, (h_TGBH, c_TGBH, gates_TGBX) = jax.lax.scan(step, first, (pre_TGBX, real_TGB))
    return h_TGBH, (h_TGBH, c_TGBH, gates_TGBX, real_TGB, weight_GHX)


def shifted(x_T):
    """The value one frame before; zero at the first."""
    return jnp.concatenate([jnp.zeros_like(x_T[:1]), x_T[:-1]])


def weight_gradient(h_TGBH, d_pre_TGBX):
    """That of the recurrent weights, one product over all frames; in the type of the states."""
    kind = accumulator(h_TGBH.dtype)
    return jnp.einsum("tgbh,tgbx->ghx", shifted(h_TGBH), d_pre_TGBX, preferred_element_type=kind).astype(h_TGBH.dtype)


def _backward(residuals, d_h_TGBH):
    h_TGBH, c_TGBH, gates_TGBX, real_TGB, weight_GHX = residuals

    def step(carry, inputs):
        d_h_later, d_c_later = carry
        d_h_here, c, c_before, gates, real_GB = inputs
        i, f, g, o = jnp.split(gates.astype(c.dtype), 4, axis=-1)
        real_GB1 = real_GB[..., None]
        d_h = d_h_here + d_h_later
        tanh_c = jnp.tanh(c)
        d_c = d_c_later + d_h * o * (1 - tanh_c**2)
        d_pre = jnp.concatenate(
            [d_c * g * i * (1 - i), d_c * c_before * f * (1 - f), d_c * i * (1 - g**2), d_h * tanh_c * o * (1 - o)],
            axis=-1,
        )
        d_pre = jnp.where(real_GB1, d_pre, 0).astype(gates.dtype)
        d_h_before = jnp.einsum("gbx,ghx->gbh", d_pre, weight_GHX, preferred_element_type=c.dtype)
        d_h_before = jnp.where(real_GB1, d_h_before, d_h)
        return (d_h_before, jnp.where(real_GB1, d_c * f, d_c_later)), d_pre

    zeros_GBH = jnp.zeros_like(c_TGBH[0])
    inputs = (d_h_TGBH, c_TGBH, shifted(c_TGBH), gates_TGBX, real_TGB)
    _, d_pre_TGBX = jax.lax.scan(step, (zeros_GBH, zeros_GBH), inputs, reverse=True)
    return d_pre_TGBX, None, weight_gradient(h_TGBH, d_pre_TGBX)


lstm_scan.defvjp(_forward, _backward)
