"""m-heights from what all information-set forms of a code have in common: invariant features made from exact minors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.codes import CodeBatch, CodeSpec
from jaxlip.mheight.features import form_features
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.height_outputs import HeightOutputs

CENTRE, SPREAD = 4.0, 4.0
"""About the mean and the standard deviation of the features."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormHeights(Component):
    """For every k a residual network over `form_features`; no gradient and no parameter is in the features."""

    width: int = 256
    blocks: int = 2

    def __post_init__(self):
        require(self.width >= 1, self, "width", "1 or more")

    def build(self, spec: CodeSpec) -> Model:
        return from_nnx(lambda rngs: _FormHeights(self, spec, rngs))


@jax.custom_jvp
def _features(P_BKR: Array) -> Array:
    """Both features [B, D] in float32, from minors in float64."""
    with jax.enable_x64(True):
        features = form_features(P_BKR.astype(jnp.float64), jnp)
        return jnp.concatenate([x.astype(jnp.float32) for x in features], axis=1)


@_features.defjvp
def _features_jvp(primals, tangents):
    # Float64 cannot be differentiated from outside its context; nobody trains through this.
    _, slope = jax.jvp(lambda P_BKR: jnp.concatenate(form_features(P_BKR, jnp), axis=1), primals, tangents)
    return _features(*primals), slope


class _Tower(nnx.Module):
    def __init__(self, fan_in: int, config: FormHeights, out: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(fan_in, config.width, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(config.width, config.width, rngs=rngs) for _ in range(config.blocks)])
        self.out = nnx.Linear(config.width, out, rngs=rngs)
        # Heights are nearly linear in the features.
        self.straight = nnx.Linear(fan_in, out, rngs=rngs)

    def __call__(self, x_BD: Array) -> Array:
        hidden_BH = jax.nn.relu(self.first(x_BD))
        for block in self.blocks:
            hidden_BH = hidden_BH + jax.nn.relu(block(hidden_BH))
        return self.out(hidden_BH) + self.straight(x_BD)


class _FormHeights(nnx.Module):
    def __init__(self, config: FormHeights, spec: CodeSpec, rngs: nnx.Rngs):
        self.spec = spec
        self.towers = nnx.List(
            [
                _Tower(2 * math.comb(spec.n, k), config, sum(group_k == k for group_k, _ in spec.groups), rngs)
                for k in spec.ks
            ]
        )

    def __call__(self, batch: CodeBatch, key: Array | None) -> HeightOutputs:
        del key
        parts = []
        for tower, P_BKR in zip(self.towers, batch.matrices, strict=True):
            parts.append(tower((_features(P_BKR) - CENTRE) / SPREAD))
        return HeightOutputs(jnp.concatenate(parts, axis=1) + jnp.array(self.spec.mean_log2)[None], None)
