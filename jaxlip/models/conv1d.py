"""Convolutions over time with masks: a frame that is not real neither speaks nor is heard."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.linear import Linear
from jaxlip.models.norm import Rate, dropout, dropout_seed


def strided(values_BT, stride: int):
    """Every `stride`-th frame: where the centres of a strided convolution are. Of n real frames, the first ceil(n /
    stride) steps are real."""
    return values_BT[:, ::stride]


class Conv(nnx.Module):
    """Convolution over time, odd kernel, centred, zero-padded; of T frames ceil(T / stride) steps."""

    def __init__(self, fan_in: int, out: int, kernel: int, *, stride: int = 1, bias: bool, rngs: nnx.Rngs):
        bound = (fan_in * kernel) ** -0.5
        init = jax.random.uniform(rngs.params(), (kernel, fan_in, out), minval=-bound, maxval=bound)
        self.weight = nnx.Param(init)
        self.bias = nnx.Param(jnp.zeros(out)) if bias else None
        self.stride = stride

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B Ts Dout"]:
        weight_KDH = self.weight[...]
        reach = len(weight_KDH) // 2
        out_BTH = jax.lax.conv_general_dilated(
            x_BTD.astype(weight_KDH.dtype),
            weight_KDH,
            (self.stride,),
            [(reach, reach)],
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return out_BTH if self.bias is None else out_BTH + self.bias[...][None, None]


class DepthwiseConv(nnx.Module):
    """Every channel convolved with its own odd kernel, centred, zero-padded; of T frames ceil(T / stride) steps.

    Written as a sum of shifted products: XLA fuses it into one loop, where its grouped convolution on CPU is naive.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, rngs: nnx.Rngs):
        bound = kernel**-0.5
        init = jax.random.uniform(rngs.params(), (kernel, channels), minval=-bound, maxval=bound)
        self.weight = nnx.Param(init)
        self.stride = stride

    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B Ts D"]:
        weight_KD = self.weight[...]
        reach, frames = len(weight_KD) // 2, x_BTD.shape[1]
        padded_BTD = jnp.pad(x_BTD.astype(weight_KD.dtype), ((0, 0), (reach, reach), (0, 0)))
        terms = [
            strided(padded_BTD[:, k : k + frames], self.stride) * weight_KD[k][None, None]
            for k in range(len(weight_KD))
        ]
        return sum(terms[1:], terms[0])


class ConvBlock(nnx.Module):
    """x + dropout(Linear(SiLU(LN(DepthwiseConv(GLU(Linear(LN(x)))))))): the convolution module of the Conformer (Gulati
    et al., Interspeech 2020, fig. 2), with layer norm for batch norm so that averaged parameters need no statistics.
    """

    def __init__(self, width: int, kernel: int, rate: Rate, *, site: int, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.expand = Linear(width, 2 * width, rngs=rngs)
        self.depthwise = DepthwiseConv(width, kernel, rngs=rngs)
        self.inner_norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.project = Linear(width, width, rngs=rngs)
        self.rate, self.site = rate, site

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        value_BTD, gate_BTD = jnp.split(self.expand(self.norm(x_BTD)), 2, axis=-1)
        heard_BTD = jnp.where(frames_BT[..., None], value_BTD * jax.nn.sigmoid(gate_BTD), 0)
        out_BTD = self.project(jax.nn.silu(self.inner_norm(self.depthwise(heard_BTD))))
        if key is not None:
            out_BTD = dropout(out_BTD, dropout_seed(key, self.site), self.rate)
        return x_BTD + out_BTD
