"""Self-attention over a sequence with masks (Vaswani et al., NeurIPS 2017): what is not real is not looked at."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.linear import Linear
from jaxlip.models.norm import Rate, dropout, dropout_seed

FAR = -1e9
"""A finite floor: a row of padding alone would give NaN, and NaN gradients, from minus infinity."""


def masked_softmax(scores: Float[Array, "..."], real: Any, axis: int = -1) -> Float[Array, "..."]:
    """Weights that sum to 1 over what is real; equal ones where nothing is. Taken in float32: in float16 the floor is
    none."""
    exact = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    return jax.nn.softmax(jnp.where(real, exact, FAR), axis=axis).astype(scores.dtype)


class SelfAttention(nnx.Module):
    """Multi-head attention of every position to all real ones, with dropout of the weights, and biases everywhere, as
    in torch.nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int, rate: Rate, *, site: int, rngs: nnx.Rngs):
        self.queries_keys_values = Linear(width, 3 * width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)
        self.heads, self.rate, self.site = heads, rate, site

    def __call__(
        self, x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        batch, length, width = x_BTD.shape
        # S is the position that is looked at, A the head, W its width.
        split = self.queries_keys_values(x_BTD).reshape(batch, length, 3, self.heads, width // self.heads)
        query_BTAW, key_BSAW, value_BSAW = (split[:, :, i] for i in range(3))
        score_BATS = jnp.einsum("btaw,bsaw->bats", query_BTAW, key_BSAW) * (width // self.heads) ** -0.5
        # A finite floor: a row of padding alone would give NaN, and NaN gradients, from minus infinity.
        weight_BATS = masked_softmax(score_BATS, real_BT[:, None, None])
        if key is not None:
            weight_BATS = dropout(weight_BATS, dropout_seed(key, self.site), self.rate)
        heard_BTAW = jnp.einsum("bats,bsaw->btaw", weight_BATS, value_BSAW)
        return jnp.where(real_BT[..., None], self.out(heard_BTAW.reshape(batch, length, width)), 0)
