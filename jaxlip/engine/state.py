"""Everything that a training run carries from step to step on the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jaxlip.engine.precision import LossScale
from jaxlip.models.base import Model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainState:
    """`params` and `model_state` by dotted path; `opt` optimiser state; `step` int32 steps taken; `lr_scale` f32, the
    product of all plateau reductions; `average` a moving average of `params` (empty where there is none); `bad_step`
    int32, the first step whose loss or gradient was not finite, else -1; `recent` f32 [G], the recent loss of every
    group of examples (0 where none was seen), None without a curriculum; `scale` the `LossScale` of float16, None where
    the config asks for float32.
    """

    # Not annotated as arrays: JAX also fills pytrees with shapes, shardings and placeholders.
    params: Any
    model_state: Any
    opt: Any
    step: Any
    lr_scale: Any
    average: Any
    bad_step: Any
    recent: Any = None
    scale: Any = None

    @property
    def best_params(self) -> Any:
        """What is to be used: the averaged parameters where there are any."""
        return self.average or self.params


def initial_state(
    model: Model, tx: optax.GradientTransformation, averaged: bool, key: Array, *, groups: int = 0, scaled: bool = False
) -> TrainState:
    """The state before the first step; `averaged` says whether a moving average of the parameters is kept, `groups` of
    how many groups the recent loss is, `scaled` whether the loss may have to be scaled."""
    params, model_state = model.init(key)
    return TrainState(
        params=params,
        model_state=model_state,
        opt=tx.init(params),
        step=jnp.zeros((), jnp.int32),
        lr_scale=jnp.ones((), jnp.float32),
        average=dict(params) if averaged else {},
        bad_step=jnp.full((), -1, jnp.int32),
        recent=jnp.zeros(groups, jnp.float32) if groups else None,
        scale=LossScale.first() if scaled else None,
    )
