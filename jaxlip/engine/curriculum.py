"""What every group of examples weighs in the loss: phases, ramps, and weights by how well a group is learned already.

All of it is computed in the step from `state.step` and `state.recent`, so that a resumed run goes on where it was.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxlip.config import Curriculum, Experiment
from jaxlip.errors import UserError
from jaxlip.metrics.mergeable import Mean
from jaxlip.tasks.base import Grouped


class GroupSums(NamedTuple):
    """Sum of the losses of a batch, and of what its examples weigh, in every group."""

    groups: tuple[str, ...]
    loss_G: Array
    count_G: Array

    def weighted(self, weights_G: Float[Array, " G"]) -> Mean:
        """The mean loss when each example weighs what its group does; 0 where nothing weighs anything."""
        return Mean(jnp.sum(weights_G * self.loss_G), jnp.sum(weights_G * self.count_G))

    def metrics(self, weights_G: Float[Array, " G"]) -> dict[str, Mean]:
        """Loss and weight of every group, for its curves."""
        one = jnp.ones((), jnp.float32)
        losses = {f"group_loss/{g}": Mean(self.loss_G[i], self.count_G[i]) for i, g in enumerate(self.groups)}
        return {**losses, **{f"group_weight/{g}": Mean(weights_G[i], one) for i, g in enumerate(self.groups)}}


def count_groups(experiment: Experiment, spec: Any) -> int:
    """How many groups have a recent loss: those that curriculum or sampling weigh; 0 without. Raises UserError where
    they do not fit the task."""
    if not (experiment.curriculum.on or experiment.train.sampling.hard):
        return 0
    task = experiment.task
    if not isinstance(task, Grouped):
        raise UserError(
            f"curriculum or train.sampling.hard is set, but the task {type(task).__name__} has no groups of examples."
        )
    groups = task.groups(spec)
    named = [name for phase in experiment.curriculum.phases for weight in phase.weights for name in weight.groups]
    if unknown := [name for name in named if name not in groups]:
        raise UserError(f"curriculum names the group {unknown[0]!r}, but there are {', '.join(groups)}.")
    return len(groups)


def group_sums(task: Grouped, outputs: Any, batch: Any, spec: Any) -> GroupSums:
    groups = task.groups(spec)
    loss_N, group_N, weight_N = task.grouped_loss(outputs, batch, spec)
    sums = [jax.ops.segment_sum(x_N, group_N, len(groups)) for x_N in (loss_N * weight_N, weight_N)]
    return GroupSums(groups, *sums)


def group_weights(
    curriculum: Curriculum,
    groups: tuple[str, ...],
    step: Int[Array, ""],
    per_epoch: int | Array,
    recent_G: Float[Array, " G"],
) -> Float[Array, " G"]:
    """The weights in force at a step."""
    now = (step if curriculum.unit == "steps" else step // per_epoch).astype(jnp.float32)
    weights_G = jnp.ones(len(groups))
    for phase in curriculum.phases:
        by_name = {name: jnp.float32(phase.others) for name in groups}
        for weight in phase.weights:
            last = weight.first if weight.last is None else weight.last
            part = jnp.clip((now - weight.start) / max(weight.end - weight.start, 1e-9), 0, 1)
            by_name.update(dict.fromkeys(weight.groups, weight.first + part * (last - weight.first)))
        phase_G = jnp.stack([jnp.asarray(by_name[name], jnp.float32) for name in groups])
        weights_G = jnp.where(now >= phase.start, phase_G, weights_G)
    if curriculum.adaptive > 0:
        seen_G = recent_G > 0
        mean = jnp.sum(recent_G) / jnp.maximum(jnp.sum(seen_G), 1)
        weights_G = weights_G * jnp.where(seen_G, recent_G / jnp.maximum(mean, 1e-9), 1) ** curriculum.adaptive
    return weights_G


def recent_losses(
    curriculum: Curriculum, recent_G: Float[Array, " G"], loss_G: Float[Array, " G"], count_G: Float[Array, " G"]
) -> Float[Array, " G"]:
    """The recent losses after one more batch with these sums; groups that are not in it keep theirs."""
    loss_G = loss_G / jnp.maximum(count_G, 1e-9)
    kept_G = jnp.where(recent_G > 0, curriculum.memory, 0)
    return jnp.where(count_G > 0, kept_G * recent_G + (1 - kept_G) * loss_G, recent_G)
