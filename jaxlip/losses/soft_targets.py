"""Cross entropy against soft targets, with what well-known remedies change: smoothing, focus, class weights."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Balance = Literal["none", "inverse", "effective"]
BETA = 0.999
"""Of the effective number of examples."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SoftTarget:
    """`odds_BK` f32, the part that each class has in an example (they sum to 1); `weight_B` f32, what it weighs."""

    odds_BK: Any
    weight_B: Any


def class_weights(counts_K: tuple[int, ...], balance: Balance) -> Float[np.ndarray, " K"]:
    """What examples of each class weigh, 1 on average over the training examples; 0 for a class without any.

    inverse: 1 / n. effective: (1 - beta) / (1 - beta^n) with beta = .999 (Cui et al., CVPR 2019, eq. 4).
    """
    n_K = np.asarray(counts_K, np.float64)
    raw_K = {
        "none": np.ones_like(n_K),
        "inverse": 1 / np.maximum(n_K, 1),
        "effective": (1 - BETA) / (1 - BETA ** n_K.clip(1)),
    }
    weight_K = np.where(n_K > 0, raw_K[balance], 0.0)
    return (weight_K * n_K.sum() / max((weight_K * n_K).sum(), 1e-9)).astype(np.float32)


def soft_cross_entropy(
    logits_BK: Float[Array, "B K"], odds_BK: Float[Array, "B K"], *, smoothing: float = 0.0, focus: float = 0.0
) -> Float[Array, " B"]:
    """-sum_k q_k (1 - p_k)^focus log p_k with q = (1 - smoothing) odds + smoothing / K, in float32.

    The focal loss (Lin et al., ICCV 2017, eq. 4) with `focus` for gamma; 0 is plain cross entropy.
    """
    log_p_BK = jax.nn.log_softmax(logits_BK.astype(jnp.float32), axis=-1)
    target_BK = (1 - smoothing) * odds_BK + smoothing / log_p_BK.shape[-1]
    if focus:
        # 1 - p, held off 0 so that its power has a gradient there.
        target_BK = target_BK * jnp.maximum(-jnp.expm1(log_p_BK), 1e-6) ** focus
    return -jnp.sum(target_BK * log_p_BK, axis=-1)
