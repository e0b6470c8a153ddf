"""Rules for parameters that are chosen by name, such as "graph.*": learning rates, freezing, initial values."""

import dataclasses
import fnmatch
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxlip.config import Component, require
from jaxlip.errors import UserError
from jaxlip.models.base import Flat, Model

SCHEMES = {
    "xavier": jax.nn.initializers.glorot_uniform,
    "xavier_normal": jax.nn.initializers.glorot_normal,
    "he": jax.nn.initializers.he_normal,
    "he_uniform": jax.nn.initializers.he_uniform,
    "lecun": jax.nn.initializers.lecun_normal,
    "orthogonal": jax.nn.initializers.orthogonal,
}
# Weights of an LSTM: a matrix for every direction, of four gates side by side; each gate is drawn as a layer.
GATED = ("input_weight", "recurrent_weight")
GATES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRate(Component):
    """Some parameters learn at another rate, or not at all. Where several rules meet, their factors multiply."""

    names: str
    """Which parameters, by a pattern over dotted names (`jaxlip params` lists them), such as graph.*"""
    factor: float = 0.0
    """Multiplies their learning rate (and weight decay with it); 0 freezes them."""
    epochs: float | None = None
    """The rule holds in the first so many epochs; None: to the end."""

    def __post_init__(self):
        require(self.factor >= 0, self, "factor", "0 or more")
        require(self.epochs is None or self.epochs > 0, self, "epochs", "positive or None")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Initial(Component):
    """How some weights begin; the last of several rules that fit a name holds. Biases and scales stay as they are."""

    names: str
    """Which parameters, by a pattern over dotted names, such as *.recurrent_weight"""
    scheme: Literal["xavier", "xavier_normal", "he", "he_uniform", "lecun", "orthogonal"] = "xavier"
    """Glorot and Bengio (2010), He et al. (2015), LeCun et al. (1998) or Saxe et al. (2014)."""
    gain: float = 1.0
    """Multiplies what the scheme gives."""

    def __post_init__(self):
        require(self.gain > 0, self, "gain", "positive")


def matching(names: Iterable[str], rules: Sequence[Any], where: str) -> list[set[str]]:
    """The names that each rule is about. Raises UserError for a rule that fits none."""
    names = list(names)
    chosen = [{name for name in names if fnmatch.fnmatchcase(name, rule.names)} for rule in rules]
    for rule, found in zip(rules, chosen, strict=True):
        if not found:
            raise UserError(
                f"{where} names {rule.names!r}, which fits no parameter; there are {', '.join(names[:5])}, ..."
            )
    return chosen


def layer_factors(
    rules: Sequence[LayerRate], params: Flat, step: Int[Array, ""], per_epoch: int | Array
) -> dict[str, float | Array]:
    """What the learning rate of every parameter is multiplied by at a step."""
    chosen = matching(params, rules, "optim.rates")

    def now(rule: LayerRate) -> float | Array:
        return rule.factor if rule.epochs is None else jnp.where(step < rule.epochs * per_epoch, rule.factor, 1.0)

    return {
        name: math.prod((now(rule) for rule, names in zip(rules, chosen, strict=True) if name in names), start=1.0)
        for name in params
    }


def unfrozen(grads: Flat, factors: dict[str, float | Array]) -> Flat:
    """Gradients without those of frozen parameters, which must neither use up the clipping norm nor enter Adam."""
    return {name: grad * jnp.asarray(factors[name] != 0, grad.dtype) for name, grad in grads.items()}


def initialized(model: Model, rules: Sequence[Initial]) -> Model:
    """The model with its weights drawn as the rules say, from the same key."""
    if not rules:
        return model
    matrices = [name for name, value in model.shapes()[0].items() if len(value.shape) > 1 and not name.endswith("bias")]
    chosen = matching(matrices, rules, "initial")

    def init(key: Array) -> tuple[Flat, Flat]:
        params, state = model.init(key)
        for rule, names in zip(rules, chosen, strict=True):
            for name in sorted(names):
                seed = jax.random.fold_in(key, matrices.index(name))
                params[name] = rule.gain * _draw(name, params[name], rule.scheme, seed)
        return params, state

    return dataclasses.replace(model, init=init)


def _draw(name: str, like: Array, scheme: str, key: Array) -> Array:
    """A fresh weight; a convolution's leading axis (its kernel) counts as fan-in, an LSTM's (directions) does not."""
    initializer = SCHEMES[scheme]()
    if not name.endswith(GATED):
        return initializer(key, like.shape, like.dtype)
    directions, fan_in, wide = like.shape
    keys = jax.random.split(key, directions * GATES)
    blocks = jax.vmap(lambda k: initializer(k, (fan_in, wide // GATES), like.dtype))(keys)
    return jnp.moveaxis(blocks.reshape(directions, GATES, fan_in, -1), 1, 2).reshape(like.shape)
