"""One training step, and the dispatch that runs many of them on the device without the host looking in."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxlip.config import Component, Curriculum
from jaxlip.data.batches import Dealt, Recipe
from jaxlip.engine.averages import Average
from jaxlip.engine.by_name import layer_factors, unfrozen
from jaxlip.engine.curriculum import group_sums, group_weights, recent_losses
from jaxlip.engine.gradient import Aside, gradient_in_parts, whole_gradient
from jaxlip.engine.mesh import shard_examples
from jaxlip.engine.optim import apply_updates
from jaxlip.engine.precision import LossScale, chosen, computing_in
from jaxlip.engine.state import TrainState
from jaxlip.metrics.mergeable import Mean, Mergeable
from jaxlip.models.base import Flat, Model
from jaxlip.models.lstm_backends import lstm_backend
from jaxlip.tasks.base import Task


def take(data: Any, rows_B: Int[Array, " B"]) -> Any:
    """The batch of these rows; a negative row is a copy of row 0 that is not a real example."""
    known_B = jnp.maximum(rows_B, 0)
    if isinstance(data, Dealt):
        batch = data.batch(rows_B)
    elif isinstance(data, Recipe):
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
    average: Average | None = None
    """How the average of the parameters follows them."""
    accumulate: int = 1
    """Parts in which a batch is processed."""
    rates: tuple[Any, ...] = ()
    """Parameters that learn at another rate (`LayerRate`)."""
    curriculum: Curriculum = Curriculum()
    """What each group of examples weighs in the loss, as training goes on."""
    per_epoch: int | Array = 1
    """Steps an epoch."""
    precision: str = "float32"
    """What the model computes in while it is trained."""
    view: Callable[[Any], Any] = lambda batch: batch
    """How a batch is looked at in inference."""
    lstm: str = "scan"
    """What computes LSTMs."""

    def apply(self, params: Flat, model_state: Flat, batch: Any, key: Array | None) -> tuple[Any, Flat]:
        """The model as this program computes it: in its precision where it is trained, in float32 where it is asked."""
        model = self.model if key is None else computing_in(self.model, self.precision)
        with lstm_backend(self.lstm):
            return model.apply(params, model_state, batch, key)

    def train_step(self, state: TrainState, batch: Any, key: Array) -> tuple[TrainState, dict[str, Mergeable]]:
        """One optimiser step. All randomness derives from (key, state.step), so that a resumed run repeats it."""
        vary_key, model_key = jax.random.split(jax.random.fold_in(key, state.step))
        batch = self.task.vary(batch, self.spec, vary_key)

        parts = () if self.accumulate == 1 else (self.accumulate,)
        gradient = gradient_in_parts if parts else whole_gradient
        objective = functools.partial(self.objective, state)
        scale = state.scale if self.precision == "float16" else None
        loss, grads, aside = gradient(
            objective,
            state.params,
            state.model_state,
            batch,
            model_key,
            *parts,
            scale=None if scale is None else scale.value,
        )
        factors = layer_factors(self.rates, state.params, state.step, self.per_epoch) if self.rates else None
        grads = unfrozen(grads, factors) if factors else grads
        norm = optax.tree.norm(grads)
        updates, opt = self.tx.update(grads, state.opt, state.params)
        rate = self.schedule(state.step) * state.lr_scale
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        one = jnp.ones((), jnp.float32)
        metrics = {**aside.metrics, "grad_norm": Mean(norm, one), "lr": Mean(rate, one)}
        params = apply_updates(state.params, updates, rate, factors)
        moved = TrainState(
            params=params,
            model_state=aside.model_state,
            opt=opt,
            step=state.step + 1,
            lr_scale=state.lr_scale,
            average=self.average(state.average, params, state.step) if self.average else state.average,
            bad_step=jnp.where((state.bad_step < 0) & ~finite, state.step, state.bad_step),
            recent=recent_losses(self.curriculum, state.recent, *aside.group_sums)
            if aside.group_sums
            else state.recent,
            scale=state.scale,
        )
        return (moved, metrics) if scale is None else survived(state, moved, scale, finite, metrics)

    def objective(
        self, state: TrainState, params: Flat, model_state: Flat, batch: Any, key: Array
    ) -> tuple[Any, Array | float, Aside]:
        """What the step minimises on (a part of) its batch."""
        outputs, model_state = self.apply(params, model_state, batch, key)
        metrics = dict(self.task.metrics(outputs, batch, train=True))
        loss, by_group = metrics["loss"], None
        if self.curriculum.on or state.recent is not None:
            sums = group_sums(self.task, outputs, batch, self.spec)  # type: ignore[arg-type]
            weights_G = group_weights(self.curriculum, sums.groups, state.step, self.per_epoch, state.recent)
            loss, by_group = sums.weighted(weights_G), (sums.loss_G, sums.count_G)
            metrics = {**metrics, **sums.metrics(weights_G)}
        # What a model pays beside its errors, such as for experts that idle; it has no part in what selects.
        penalty = metrics["penalty"].value if "penalty" in metrics else 0.0
        return loss, penalty, Aside(metrics, model_state, by_group)

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
        batch = self.view(take(data, rows_B))
        outputs, _ = self.apply(state.best_params, state.model_state, batch, None)
        return outputs, self.task.metrics(outputs, batch, train=False)


def survived(
    before: TrainState, moved: TrainState, scale: LossScale, finite: Array, metrics: dict[str, Mergeable]
) -> tuple[TrainState, dict[str, Mergeable]]:
    """A step in float16 that overflowed moves nothing but the scale, and is not measured; only where no scale is left
    to blame is it a bad one."""
    state = dataclasses.replace(
        chosen(finite, moved, before),
        step=moved.step,
        scale=scale.after(finite),
        bad_step=jnp.where(scale.exhausted, moved.bad_step, before.bad_step),
    )
    one = jnp.ones((), jnp.float32)
    measured = chosen(finite, metrics, jax.tree.map(jnp.zeros_like, metrics))
    return state, {
        **measured,
        "loss_scale": Mean(scale.value, one),
        "overflows": Mean(1 - finite.astype(jnp.float32), one),
    }
