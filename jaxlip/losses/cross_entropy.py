"""Cross entropy over classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits_BK: Float[Array, "B K"], labels_B: Int[Array, " B"], *, smoothing: float | Array = 0.0
) -> Float[Array, " B"]:
    """-sum_k q_k log p_k with q = (1 - smoothing) one-hot + smoothing / K (Szegedy et al., CVPR 2016, sec. 7).

    Per-example values [B], in float32 whatever the logits are.
    """
    log_p_BK = jax.nn.log_softmax(logits_BK.astype(jnp.float32), axis=-1)
    hit_B = jnp.take_along_axis(log_p_BK, labels_B[:, None], axis=-1)[:, 0]
    return -(1 - smoothing) * hit_B - smoothing * log_p_BK.mean(axis=-1)
