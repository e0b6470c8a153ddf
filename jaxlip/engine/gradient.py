"""The gradient of a batch's loss, taken at once or, to save memory, in parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxlip.engine.mesh import shard_examples
from jaxlip.metrics.mergeable import Mean
from jaxlip.models.base import Flat


class Aside(NamedTuple):
    """What a batch tells beside its loss: metrics, the model's new state, losses by group where there are groups."""

    metrics: dict[str, Any]
    model_state: Flat
    group_sums: tuple[Array, Array] | None


Objective = Callable[[Flat, Flat, Any, Array], tuple[Any, Array | float, Aside]]
"""`objective(params, model_state, batch, key)`: the loss, a statistic that merges over batches; a penalty, 0.0 for
none; and what else there is."""
Gradient = tuple[Array, Flat, Aside]
"""(loss with its penalty, gradients, what else there is)."""


def whole_gradient(
    objective: Objective, params: Flat, model_state: Flat, batch: Any, key: Array, *, scale: Array | None = None
) -> Gradient:
    """`scale` multiplies the loss while its gradient is taken, which half precision may need, and changes no result."""

    def value(params):
        loss, penalty, aside = objective(params, model_state, batch, key)
        loss = loss.value if isinstance(penalty, float) else loss.value + penalty
        return _scaled(loss, scale), (loss, aside)

    (_, (loss, aside)), grads = jax.value_and_grad(value, has_aux=True)(params)
    return loss, _unscaled(grads, scale), aside


def _scaled(loss: Array, scale: Array | None) -> Array:
    return loss if scale is None else loss * scale


def _unscaled(grads: Flat, scale: Array | None) -> Flat:
    return grads if scale is None else jax.tree.map(lambda grad: grad / scale, grads)


def gradient_in_parts(
    objective: Objective,
    params: Flat,
    model_state: Flat,
    batch: Any,
    key: Array,
    parts: int,
    *,
    scale: Array | None = None,
) -> Gradient:
    """The same from every parts-th example at a time: exactly that of the whole batch where the loss is a `Mean` (sums
    are added, divided once) and the model treats each example alone; the mean of the parts' gradients for other losses.

    Batch statistics pass from part to part; each part has its own dropout.
    """

    def value(params, model_state, part, key):
        loss, penalty, aside = objective(params, model_state, part, key)
        total, weight = (loss.total, loss.weight) if isinstance(loss, Mean) else (loss.value, jnp.ones(()))
        weight = jax.lax.stop_gradient(weight)
        total = total + weight * penalty
        return _scaled(total, scale), (total, weight, aside)

    def body(carry, inputs):
        grads, model_state = carry
        part, number = inputs
        args = (model_state, shard_examples(part), jax.random.fold_in(key, number))
        (_, (total, weight, aside)), more = jax.value_and_grad(value, has_aux=True)(params, *args)
        grads = jax.tree.map(jnp.add, grads, more)
        return (grads, aside.model_state), (total, weight, aside.metrics, aside.group_sums)

    split = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(len(x) // parts, parts, *x.shape[1:]), 0, 1), batch)
    nothing = jax.tree.map(jnp.zeros_like, params)
    (grads, model_state), said = jax.lax.scan(body, (nothing, model_state), (split, jnp.arange(parts)))
    totals, weights, metrics, group_sums = said
    weight = jnp.maximum(weights.sum(), 1e-9)
    each = [jax.tree.map(lambda x, i=i: x[i], metrics) for i in range(parts)]
    merged = {name: functools.reduce(lambda a, b: a.merge(b), [m[name] for m in each]) for name in metrics}
    group_sums = jax.tree.map(lambda x: x.sum(axis=0), group_sums)
    grads = jax.tree.map(lambda g: g / weight, _unscaled(grads, scale))
    return totals.sum() / weight, grads, Aside(merged, model_state, group_sums)
