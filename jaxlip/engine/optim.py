"""AdamW with global-norm clipping under warmup + cosine; the plateau factor comes with the state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxlip.config import Optim
from jaxlip.models.base import Flat


def schedule(config: Optim, *, steps: int, per_epoch: int) -> Callable:
    """Learning rate by step: linear warmup from 0, then cosine down to `final` of the peak."""
    warmup = min(round(config.warmup_epochs * per_epoch), max(steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, steps, end_value=config.lr * config.final)


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


def moving_average(average: Flat, params: Flat, decay: float, step: jax.Array) -> Flat:
    """One step of the average; early on it forgets faster, so that the initial parameters do not linger."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return {name: keep * average[name] + (1 - keep) * params[name] for name in average}


def apply_updates(params: Flat, updates: Any, rate: jax.Array) -> Flat:
    return jax.tree.map(lambda p, u: p - jnp.asarray(rate, p.dtype) * u, params, updates)
