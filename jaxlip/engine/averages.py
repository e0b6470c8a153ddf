"""Averages of the parameters along training, which validation and evaluation use in their place."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxlip.config import Optim
from jaxlip.models.base import Flat

Average = Callable[[Flat, Flat, jax.Array], Flat]
"""`average(average, params, step)`: the average after one more step."""


def averaging(config: Optim, *, steps: int | jax.Array) -> Average | None:
    """The average that the config asks for, in a run of so many steps; None where it asks for none."""
    if config.average:
        return lambda average, params, step: moving_average(average, params, config.average, step)
    if config.swa:
        start = round((1 - config.swa) * steps)
        return lambda average, params, step: plain_average(average, params, start, step)
    return None


def moving_average(average: Flat, params: Flat, decay: float | jax.Array, step: jax.Array) -> Flat:
    """One step of an exponential one; early on it forgets faster, so that the initial parameters do not linger."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return {name: keep * average[name] + (1 - keep) * params[name] for name in average}


def plain_average(average: Flat, params: Flat, start: int | jax.Array, step: jax.Array) -> Flat:
    """One step of the mean of all parameters since step `start` (stochastic weight averaging; Izmailov et al., UAI
    2018); before it, the parameters themselves."""
    count = jnp.maximum(step - start, 0)
    keep = count / (count + 1)
    return {name: keep * average[name] + (1 - keep) * params[name] for name in average}
