"""Statistics that add up: a value does not depend on batch size, padding or device count."""

import dataclasses
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

M = TypeVar("M", bound="Mergeable")


@runtime_checkable
class Mergeable(Protocol):
    """A frozen dataclass pytree of scalars, such as sums, from which a value follows once all are merged.

    All zeros stand for no data. `merge` works on arrays inside jit and on Python floats alike.
    """

    def merge(self: M, other: M) -> M: ...

    @property
    def value(self) -> Any:
        """What the statistics say, inside jit."""
        ...

    def result(self) -> float:
        """The same on the host."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A weighted mean as (sum, weight); add two through `merge`, divide once with `value`."""

    total: Any
    weight: Any

    @classmethod
    def of(cls, values_B: Float[Array, " B"] | Bool[Array, " B"], mask_B: Bool[Array, " B"]) -> "Mean":
        """Sum over the mask, and how many it is."""
        return cls(jnp.sum(jnp.where(mask_B, values_B, 0)), jnp.sum(mask_B).astype(jnp.float32))

    def merge(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.weight + other.weight)

    @property
    def value(self) -> Array:
        """The mean; 0 where there is no weight."""
        return self.total / jnp.maximum(self.weight, 1e-9)

    def result(self) -> float:
        return float(self.total) / max(float(self.weight), 1e-9)
