"""Random matrices P of a code, from a key, inside jit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST = 100
"""Bound of integers and of reals on a range."""
SMALLEST_SCALE = 5
"""The smallest range [-a, a] of scaled integers."""


def _integers(key: Array, shape: tuple[int, int]) -> Array:
    return jax.random.randint(key, shape, -LARGEST, LARGEST + 1).astype(jnp.float32)


def _reals(key: Array, shape: tuple[int, int]) -> Array:
    return jax.random.uniform(key, shape, minval=-float(LARGEST), maxval=float(LARGEST))


def _scaled(key: Array, shape: tuple[int, int]) -> Array:
    scale_key, key = jax.random.split(key)
    scale = jax.random.randint(scale_key, (), SMALLEST_SCALE, LARGEST + 1)
    return jax.random.randint(key, shape, -scale, scale + 1).astype(jnp.float32)


DISTRIBUTIONS: dict[str, Callable[[Array, tuple[int, int]], Array]] = {
    "integers": _integers,
    "reals": _reals,
    "normal": jax.random.normal,
    "scaled": _scaled,
}
"""Integers on [-100, 100]; reals there; standard normal; integers on [-a, a], a uniform on 5 ... 100 by matrix."""


def draw(key: Any, shape: tuple[int, int], weights: dict[str, float]) -> Float[Array, "R C"]:
    """One matrix with entries of one distribution, which is drawn by its weight."""
    used = [name for name, weight in weights.items() if weight > 0]
    if len(used) == 1:
        return DISTRIBUTIONS[used[0]](key, shape)
    which_key, key = jax.random.split(key)
    which = jax.random.categorical(which_key, jnp.log(jnp.array([weights[name] for name in used])))
    return jax.lax.select_n(which, *(DISTRIBUTIONS[name](key, shape) for name in used))
