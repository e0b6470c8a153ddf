"""Self-attention over a sequence with masks (Vaswani et al., NeurIPS 2017): what is not real is not looked at."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.norm import dropout, dropout_seed


class SelfAttention(nnx.Module):
    """Multi-head attention of every position to all real ones, with dropout of the weights, and biases everywhere, as
    in torch.nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int, rate: float, *, site: int, rngs: nnx.Rngs):
        self.queries_keys_values = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
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
        weight_BATS = jax.nn.softmax(jnp.where(real_BT[:, None, None], score_BATS, -1e9), axis=-1)
        if key is not None:
            weight_BATS = dropout(weight_BATS, dropout_seed(key, self.site), self.rate)
        heard_BTAW = jnp.einsum("bats,bsaw->btaw", weight_BATS, value_BSAW)
        return jnp.where(real_BT[..., None], self.out(heard_BTAW.reshape(batch, length, width)), 0)
