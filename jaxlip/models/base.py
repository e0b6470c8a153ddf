"""The boundary between model definitions (flax NNX) and everything that executes (plain JAX over flat dicts)."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array

Flat = dict[str, Array]
"""Parameters or state by dotted path, such as {"graph.0.weight": [D, H]}."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A model as two pure functions.

    `init(key) -> (params, state)`; `apply(params, state, batch, key) -> (outputs, new_state)`, where a key means
    training (dropout on, batch statistics) and None means inference.
    """

    init: Callable[[Array], tuple[Flat, Flat]]
    apply: Callable[[Flat, Flat, Any, Array | None], tuple[Any, Flat]]

    def shapes(self) -> tuple[dict[str, jax.ShapeDtypeStruct], dict[str, jax.ShapeDtypeStruct]]:
        """Shapes of parameters and state, without allocating them."""
        return jax.eval_shape(self.init, jax.random.key(0))


def _flatten(state: Any) -> Flat:
    return {".".join(map(str, path)): variable[...] for path, variable in nnx.to_flat_state(state)}


def from_nnx(build: Callable[[nnx.Rngs], Callable[..., Any]]) -> Model:
    """A Model from a function that builds an nnx.Module called as `module(batch, key)`.

    The module is split once into a graph definition and two flat dicts: nnx.Param is trained, everything else is state.
    """
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, params_like, state_like = nnx.split(abstract, nnx.Param, ...)

    def unflatten(like: Any, flat: Flat) -> Any:
        pairs = nnx.to_flat_state(like)
        return nnx.from_flat_state([(path, var.replace(flat[".".join(map(str, path))])) for path, var in pairs])

    def init(key: Array) -> tuple[Flat, Flat]:
        _, params, state = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return _flatten(params), _flatten(state)

    def apply(params: Flat, state: Flat, batch: Any, key: Array | None) -> tuple[Any, Flat]:
        module = nnx.merge(graph, unflatten(params_like, params), unflatten(state_like, state))
        outputs = module(batch, key)
        return outputs, _flatten(nnx.split(module, nnx.Param, ...)[2])

    return Model(init, apply)
