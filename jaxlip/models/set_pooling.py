"""Learned stand-ins for minima and maxima: sets of columns from their subsets, and a number from all sets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.models.graph import pool_nodes
from jaxlip.models.linear import Linear


class Up(nnx.Module):
    """Tokens of sets of columns from those of their subsets with one column less."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.hidden = Linear(3 * width, width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)

    def __call__(self, tokens_NBH: Array, subsets_NI: np.ndarray, *, lowest: bool) -> Array:
        below = [tokens_NBH[index_N] for index_N in subsets_NI.T]
        largest, smallest = functools.reduce(jnp.maximum, below), functools.reduce(jnp.minimum, below)
        mean = functools.reduce(jnp.add, below) / len(below)
        hidden = jax.nn.relu(self.hidden(jnp.concatenate([largest, smallest, mean], axis=-1)))
        return self.out(hidden) + (smallest if lowest else largest)


class Read(nnx.Module):
    """One number from a set of tokens."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.hidden = Linear(3 * width, width, rngs=rngs)
        self.out = Linear(width, 1, rngs=rngs)

    def __call__(self, tokens_NBH: Array) -> Float[Array, " B"]:
        mean_BH, largest_BH = jnp.split(pool_nodes(tokens_NBH), 2, axis=-1)
        smallest_BH = -jnp.split(pool_nodes(-tokens_NBH), 2, axis=-1)[1]
        pooled = jnp.concatenate([largest_BH, mean_BH, smallest_BH], axis=-1)
        return self.out(jax.nn.relu(self.hidden(pooled)))[..., 0]
