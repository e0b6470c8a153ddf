"""Statistics that add up: a value does not depend on batch size, padding or device count."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Mean(NamedTuple):
    """A weighted mean as (sum, weight); add two with `+` through `merge`, divide once with `value`."""

    total: Array
    weight: Array

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
