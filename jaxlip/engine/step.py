"""One training step, and the dispatch that runs many of them on the device without the host looking in."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxlip.config import Component, Curriculum
from jaxlip.data.batches import Recipe
from jaxlip.engine.curriculum import group_sums, group_weights, recent_losses
from jaxlip.engine.mesh import shard_examples
from jaxlip.engine.optim import apply_updates, moving_average
from jaxlip.engine.state import TrainState
from jaxlip.metrics.mergeable import Mean, Mergeable
from jaxlip.models.base import Model
from jaxlip.tasks.base import Task


def take(data: Any, rows_B: Int[Array, " B"]) -> Any:
    """The batch of these rows; a negative row is a copy of row 0 that is not a real example."""
    known_B = jnp.maximum(rows_B, 0)
    if isinstance(data, Recipe):
        batch = data.make(shard_examples(known_B))
    else:
        batch = jax.tree.map(lambda array: array[known_B], data)
    return shard_examples(dataclasses.replace(batch, examples_B=batch.examples_B & (rows_B >= 0)))


@dataclasses.dataclass(frozen=True)
class Program:
    """What a step is made of; everything static."""

    task: Task
    model: Model
    spec: Component
    tx: optax.GradientTransformation
    schedule: Callable[[Array], Array]
    average: float = 0.0
    """Decay of the moving average of the parameters."""
    curriculum: Curriculum = Curriculum()
    """What each group of examples weighs in the loss, as training goes on."""
    per_epoch: int = 1
    """Steps an epoch."""

    def train_step(self, state: TrainState, batch: Any, key: Array) -> tuple[TrainState, dict[str, Mergeable]]:
        """One optimiser step. All randomness derives from (key, state.step), so that a resumed run repeats it."""
        vary_key, model_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = self.task.vary(batch, self.spec, vary_key)

        def objective(params):
            outputs, model_state = self.model.apply(params, state.model_state, batch, model_key)
            metrics = self.task.metrics(outputs, batch, train=True)
            loss, recent_G = metrics["loss"].value, state.recent
            if self.curriculum.on:
                sums = group_sums(self.task, outputs, batch, self.spec)  # type: ignore[arg-type]
                weights_G = group_weights(self.curriculum, sums.groups, state.step, self.per_epoch, state.recent)
                loss, recent_G = sums.weighted(weights_G), recent_losses(self.curriculum, state.recent, sums)
                metrics = {**metrics, **sums.metrics(weights_G)}
            # What a model pays beside its errors, such as for experts that idle; it has no part in what selects.
            if "penalty" in metrics:
                loss = loss + metrics["penalty"].value
            return loss, (metrics, model_state, recent_G)

        (loss, (metrics, model_state, recent_G)), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        norm = optax.tree.norm(grads)
        updates, opt = self.tx.update(grads, state.opt, state.params)
        rate = self.schedule(state.step) * state.lr_scale
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        one = jnp.ones((), jnp.float32)
        metrics = {**metrics, "grad_norm": Mean(norm, one), "lr": Mean(rate, one)}
        params = apply_updates(state.params, updates, rate)
        state = TrainState(
            params=params,
            model_state=model_state,
            opt=opt,
            step=state.step + 1,
            lr_scale=state.lr_scale,
            average=moving_average(state.average, params, self.average, state.step),
            bad_step=jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step),
            recent=recent_G,
        )
        return state, metrics

    def dispatch(
        self, state: TrainState, data: Any, rows_KB: Int[Array, "K B"], steps: Int[Array, ""], key: Array
    ) -> tuple[TrainState, dict[str, Mergeable]]:
        """`steps` of the K batches, one after the other; metrics summed over them.

        A loop whose trip count is data, so that the last dispatch of an epoch, which is shorter, needs no trace of its
        own.
        """

        def body(k, carry):
            state, sums = carry
            state, metrics = self.train_step(state, take(data, rows_KB[k]), key)
            return state, {name: sums[name].merge(metrics[name]) for name in sums}

        _, like = jax.eval_shape(self.train_step, state, take(data, rows_KB[0]), key)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        return jax.lax.fori_loop(0, steps, body, (state, nothing))

    def evaluate(self, state: TrainState, data: Any, rows_B: Int[Array, " B"]) -> tuple[Any, Mapping[str, Mergeable]]:
        """Outputs and metrics of one batch in inference."""
        batch = take(data, rows_B)
        outputs, _ = self.model.apply(state.best_params, state.model_state, batch, None)
        return outputs, self.task.metrics(outputs, batch, train=False)
