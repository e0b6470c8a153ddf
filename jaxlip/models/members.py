"""Several models of one kind side by side: how a function is mapped over them, and an ensemble that is one model."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxlip.models.base import Flat, Model


def one_by_one(function: Callable[..., Any], in_axes: Sequence[int | None]) -> Callable[..., Any]:
    """As `jax.vmap` of axes 0 and None, but member after member inside the one program."""

    def mapped(*arguments: Any) -> Any:
        own = [argument for argument, axis in zip(arguments, in_axes, strict=True) if axis == 0]

        def one(mine: list[Any]) -> Any:
            left = iter(mine)
            return function(
                *(next(left) if axis == 0 else given for given, axis in zip(arguments, in_axes, strict=True))
            )

        return jax.lax.map(one, own)

    return mapped


def over_members(function: Callable[..., Any], in_axes: Sequence[int | None]) -> Callable[..., Any]:
    """By `vmap` on accelerators, which one small model cannot fill; on CPU `one_by_one`, which is faster there."""
    return (one_by_one if jax.default_backend() == "cpu" else jax.vmap)(function, in_axes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PerMember:
    """A batch that every member has of its own: arrays [M, B, ...]."""

    batches: Any


def own_batches(batch: Any, members: int, key: Array, vary: Callable[[Any, Array], Any]) -> PerMember:
    """The members' batches, which lie side by side in one [M * B, ...], each varied with a key of its own."""
    apart = jax.tree.map(lambda leaf: leaf.reshape(members, -1, *leaf.shape[1:]), batch)
    return PerMember(jax.vmap(vary)(apart, jax.random.split(key, members)))


def voices(outputs: Any) -> tuple[Any, ...]:
    """What each member says; of a model that is no ensemble, what it says."""
    return outputs if type(outputs) is tuple else (outputs,)


def by_voice(outputs: Sequence[Any]) -> list[list[Any]]:
    """The buckets of each member."""
    return [list(buckets) for buckets in zip(*map(voices, outputs), strict=True)]


def mapped_over_voices(function: Callable[[Any, Any], Any], outputs: Any, batch: Any) -> Any:
    """What the function makes of every member and its batch, stacked [M, ...]; inside jit, traced once."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *voices(outputs))
    if isinstance(batch, PerMember):
        return jax.vmap(function)(stacked, batch.batches)
    return jax.vmap(lambda voice: function(voice, batch))(stacked)


def ensemble(model: Model, members: int) -> Model:
    """Models of their own initialisation and dropout (Lakshminarayanan et al., 2017), asked about the same batch, or
    each about its own of a `PerMember`.

    Outputs are a tuple, one a member; names of parameters and state begin with the member's number, so that whatever
    goes by the shape or name of a parameter does so member by member.
    """

    def init(key: Array) -> tuple[Flat, Flat]:
        params, state = over_members(model.init, (0,))(jax.random.split(key, members))
        return split(params), split(state)

    def apply(params: Flat, state: Flat, batch: Any, key: Array | None) -> tuple[Any, Flat]:
        own = [_stack(params, members), _stack(state, members)]
        keys = [] if key is None else [jax.random.split(key, members)]

        def one(params: Flat, state: Flat, batch: Any, key: Array | None = None) -> tuple[Any, Flat]:
            return model.apply(params, state, batch, key)

        own_batch = isinstance(batch, PerMember)
        axes = (0, 0, 0 if own_batch else None, *[0] * len(keys))
        outputs, stacked = over_members(one, axes)(*own, batch.batches if own_batch else batch, *keys)
        return tuple(jax.tree.map(lambda leaf, m=m: leaf[m], outputs) for m in range(members)), split(stacked)

    def split(stacked: Flat) -> Flat:
        return {f"{m}.{name}": leaf[m] for m in range(members) for name, leaf in stacked.items()}

    return Model(init, apply)


def _stack(flat: Flat, members: int) -> Flat:
    names = [name.removeprefix("0.") for name in flat if name.startswith("0.")]
    return {name: jnp.stack([flat[f"{m}.{name}"] for m in range(members)]) for name in names}
