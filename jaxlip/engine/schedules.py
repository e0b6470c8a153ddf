"""Learning rates by step: factors of the peak rate that a config multiplies, such as (Warmup(), Restarts(epochs=30)).

Each has `factor(step, steps, per_epoch)`, inside jit: `step` optimiser steps done, of `steps` in all, `per_epoch` an
epoch. Reduce-on-plateau (`Optim.plateau_patience`) multiplies whatever they give: it looks at validation, on the host.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxlip.config import Component, Optim, require


class Factor(Protocol):
    """One factor of a schedule."""

    def factor(self, step: Int[Array, ""], steps: int, per_epoch: int) -> Float[Array, ""]: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Component):
    """The same all the time."""

    value: float = 1.0
    """Part of the peak rate."""

    def __post_init__(self):
        require(self.value > 0, self, "value", "positive")

    def factor(self, step: Int[Array, ""], steps: int, per_epoch: int) -> Float[Array, ""]:
        return jnp.full(jnp.shape(step), self.value, jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Warmup(Component):
    """Linear from 0 to 1, then 1."""

    epochs: float = 2.0
    """How long it rises."""

    def __post_init__(self):
        require(self.epochs >= 0, self, "epochs", "0 or more")

    def factor(self, step: Int[Array, ""], steps: int, per_epoch: int) -> Float[Array, ""]:
        return jnp.minimum(step / max(self.epochs * per_epoch, 1e-9), 1.0).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Component):
    """Half a cosine from 1 down to `final`, which is reached at the end of training and kept."""

    final: float = 0.01
    """Part of the peak rate at the end."""
    start: float = 0.0
    """Epochs before it begins to fall (those of a warmup)."""

    def __post_init__(self):
        require(0 <= self.final <= 1, self, "final", "in [0, 1]")
        require(self.start >= 0, self, "start", "0 or more")

    def factor(self, step: Int[Array, ""], steps: int, per_epoch: int) -> Float[Array, ""]:
        begin = self.start * per_epoch
        return _half_cosine((step - begin) / max(steps - begin, 1), self.final)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restarts(Component):
    """Half a cosine again and again (SGDR; Loshchilov and Hutter, ICLR 2017, eq. 5)."""

    epochs: float = 10.0
    """Length of the first period."""
    growth: float = 1.0
    """Each period is so many times as long as the one before."""
    final: float = 0.01
    """Part of the peak rate at the end of each period."""

    def __post_init__(self):
        require(self.epochs > 0, self, "epochs", "positive")
        require(self.growth >= 1, self, "growth", "1 or more")
        require(0 <= self.final <= 1, self, "final", "in [0, 1]")

    def factor(self, step: Int[Array, ""], steps: int, per_epoch: int) -> Float[Array, ""]:
        # In float64 on the host: a step that ends a period must not fall short of it by a rounding.
        starts, length, start = [], self.epochs * per_epoch, 0.0
        while start <= steps:
            starts.append(start)
            start += length
            length = max(length * self.growth, 1.0)
        ends = [*starts[1:], start]
        period = jnp.searchsorted(jnp.asarray(starts, jnp.float32), step, side="right") - 1
        first, last = jnp.asarray(starts, jnp.float32)[period], jnp.asarray(ends, jnp.float32)[period]
        return _half_cosine((step - first) / (last - first), self.final)


def _half_cosine(part: Float[Array, ""], final: float) -> Float[Array, ""]:
    return final + (1 - final) * 0.5 * (1 + jnp.cos(math.pi * jnp.clip(part, 0, 1)))


def schedule(config: Optim, *, steps: int, per_epoch: int) -> Callable:
    """Learning rate by step: the peak times all of `config.schedule`; where there is none, linear warmup from 0 and
    then cosine down to `final` of the peak."""
    if not config.schedule:
        warmup = min(round(config.warmup_epochs * per_epoch), max(steps - 1, 0))
        return optax.warmup_cosine_decay_schedule(0.0, config.lr, warmup, steps, end_value=config.lr * config.final)
    factors: tuple[Factor, ...] = config.schedule  # type: ignore[assignment]
    return lambda step: config.lr * math.prod(part.factor(step, steps, per_epoch) for part in factors)
