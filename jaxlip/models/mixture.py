"""Mixtures of experts: a gate weighs the outputs of several small networks, and is paid for using all of them."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.models.linear import Linear
from jaxlip.models.norm import dropout, dropout_seed


class Experts(nnx.Module):
    """E networks Linear, ReLU, dropout, Linear side by side, each with its own dropout rate."""

    def __init__(self, fan_in: int, hidden: int, out: int, rates: tuple[float, ...], *, site: int, rngs: nnx.Rngs):
        count, self.rates, self.site = len(rates), rates, site
        self.weight_in = nnx.Param(jax.random.normal(rngs.params(), (count, fan_in, hidden)) * (2 / fan_in) ** 0.5)
        self.bias_in = nnx.Param(jnp.zeros((count, hidden)))
        self.weight_out = nnx.Param(jax.random.normal(rngs.params(), (count, hidden, out)) * hidden**-0.5)
        self.bias_out = nnx.Param(jnp.zeros((count, out)))

    def __call__(self, x_BD: Float[Array, "B D"], key: Array | None) -> Float[Array, "B E H"]:
        weight_EDH = self.weight_in[...]
        x_BD = x_BD.astype(weight_EDH.dtype)
        hidden_BEH = jax.nn.relu(jnp.einsum("bd,edh->beh", x_BD, weight_EDH) + self.bias_in[...][None])
        if key is not None:
            parts = [
                dropout(hidden_BEH[:, e], dropout_seed(key, self.site + e), rate) for e, rate in enumerate(self.rates)
            ]
            hidden_BEH = jnp.stack(parts, axis=1)
        return jnp.einsum("beh,eho->beo", hidden_BEH, self.weight_out[...]) + self.bias_out[...][None]


class Mixture(nnx.Module):
    """The experts' outputs [B, O], weighted by a softmax gate that looks at an input of its own; and the gate [B, E].

    R. Jacobs et al., Adaptive mixtures of local experts, Neural Computation 3(1), 1991.
    """

    def __init__(
        self, fan_in: int, gate_in: int, hidden: int, out: int, rates: tuple[float, ...], *, site: int, rngs: nnx.Rngs
    ):
        self.experts = Experts(fan_in, hidden, out, rates, site=site, rngs=rngs)
        self.gate = Linear(gate_in, len(rates), rngs=rngs)

    def __call__(
        self, x_BD: Float[Array, "B D"], gate_BD: Float[Array, "B D2"], key: Array | None
    ) -> tuple[Float[Array, "B O"], Float[Array, "B E"]]:
        gates_BE = jax.nn.softmax(self.gate(gate_BD), axis=-1)
        return jnp.einsum("beo,be->bo", self.experts(x_BD, key), gates_BE), gates_BE


def imbalance(load_E: Float[Array, " E"]) -> Float[Array, ""]:
    """E times the sum of squared loads (parts that sum to 1): 1 where all experts are used alike, E where only one is.

    As the balance loss of Shazeer et al., ICLR 2017, and Fedus et al., JMLR 23, 2022, for a soft gate.
    """
    return load_E.shape[0] * jnp.sum(jnp.square(load_E))
