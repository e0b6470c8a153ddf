"""AdamW with global-norm clipping; how fast it goes is a schedule's (`schedules.py`) and a layer's (`by_name.py`)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlip.config import Optim
from jaxlip.models.base import Flat


def optimizer(config: Optim) -> optax.GradientTransformation:
    """Clipping, Adam and weight decay of matrices; the update still wants to be multiplied by -lr.

    Adam's moments are one flat vector: a few large element-wise operations instead of a few for every parameter.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.flatten(optax.scale_by_adam()),
        optax.add_decayed_weights(config.weight_decay, mask=_matrices),
    )


def _matrices(params: Flat) -> dict[str, bool]:
    # Stacked directions give LSTM biases two axes: the name tells them from weights.
    return {name: value.ndim > 1 and not name.endswith("bias") for name, value in params.items()}


def apply_updates(params: Flat, updates: Any, rate: jax.Array, factors: Mapping[str, Any] | None = None) -> Flat:
    """One step down the updates; `factors` multiply the rate of each parameter."""
    if factors is not None:
        updates = {name: factors[name] * update for name, update in updates.items()}
    return jax.tree.map(lambda p, u: p - jnp.asarray(rate, p.dtype) * u, params, updates)
