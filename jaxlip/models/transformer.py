"""Self-attention over the frames of a clip (Vaswani et al., NeurIPS 2017), layer norms after each sum as there."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.models.attention import masked_softmax
from jaxlip.models.linear import Linear
from jaxlip.models.norm import Rate, dropout, dropout_seed


def sinusoids(frames: int, width: int) -> Float[np.ndarray, "T D"]:
    """Positions as sines and cosines (sec. 3.5), for an even width."""
    angle = np.arange(frames)[:, None] / 10_000 ** (np.arange(0, width, 2) / width)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


class EncoderLayer(nnx.Module):
    """LN(x + attention(x)), then LN(x + Linear(ReLU(Linear(x)))). A frame that is not real is not attended to."""

    def __init__(self, width: int, heads: int, feed_forward: int, rate: Rate, *, site: int, rngs: nnx.Rngs):
        self.query_key_value = Linear(width, 3 * width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)
        self.attention_norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.expand = Linear(width, feed_forward, rngs=rngs)
        self.contract = Linear(feed_forward, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.heads, self.rate, self.site = heads, rate, site

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        def dropped(values: Array, site: int) -> Array:
            return values if key is None else dropout(values, dropout_seed(key, self.site + site), self.rate)

        x_BTD = self.attention_norm(x_BTD + dropped(self.attend(x_BTD, frames_BT), 0))
        hidden_BTF = dropped(jax.nn.relu(self.expand(x_BTD)), 1)
        return self.norm(x_BTD + dropped(self.contract(hidden_BTF), 2))

    def attend(self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        shape = (*frames_BT.shape, 3, self.heads, -1)
        query, key, value = jnp.moveaxis(self.query_key_value(x_BTD).reshape(shape), 2, 0)
        score_BHTS = jnp.einsum("bthd,bshd->bhts", query, key) * query.shape[-1] ** -0.5
        weight_BHTS = masked_softmax(score_BHTS, frames_BT[:, None, None])
        return self.out(jnp.einsum("bhts,bshd->bthd", weight_BHTS, value).reshape(x_BTD.shape))
