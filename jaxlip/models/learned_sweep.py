"""m-heights from the columns of all information-set forms: exact norms, and the exact solver's sweep over them learned.

The features are exact and invariant: for every set of k columns T and every column j outside of it, log2 of the L1 norm
of column j in the form [I | G_T^-1 G_Tc], which is a ratio of minors (`jaxlip.mheight.exact.reaches`). What is learned
is the rest of the solver: how norms flow up the lattice of sets of columns to a height.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.codes import CodeBatch, CodeSpec
from jaxlip.mheight.exact import absolute_minors, reaches, tables
from jaxlip.mheight.features import CAP
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.height_outputs import HeightOutputs
from jaxlip.models.linear import Linear
from jaxlip.models.set_pooling import Read, Up

SPREAD = 4.0
"""About the standard deviation of the features, and their mean."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedSweep(Component):
    """The network's size."""

    width: int = 16
    """Features of a set of columns."""

    def __post_init__(self):
        require(self.width >= 1, self, "width", "1 or more")

    def build(self, spec: CodeSpec) -> Model:
        return from_nnx(lambda rngs: _LearnedSweep(self, spec, rngs))


def column_norms(P_BKR: Array) -> Array:
    """log2 of the norms [E, B], E over (T + j, j) in the order of `reaches`; `CAP` at most, where T is singular, and 0
    at least: a height is no smaller."""
    _, k, r = P_BKR.shape
    norms = reaches(absolute_minors(P_BKR, jnp), k, r, jnp) - 1
    return jnp.log2(jnp.clip(norms, 1.0, 2.0**CAP)).reshape(-1, len(P_BKR))


@jax.custom_jvp
def _features(P_BKR: Array) -> Array:
    """`column_norms` in float32, from minors in float64."""
    with jax.enable_x64(True):
        return column_norms(P_BKR.astype(jnp.float64)).astype(jnp.float32)


@_features.defjvp
def _features_jvp(primals, tangents):
    # Float64 cannot be differentiated from outside its context; nobody trains through this.
    return _features(*primals), jax.jvp(column_norms, primals, tangents)[1]


class _LearnedSweep(nnx.Module):
    def __init__(self, config: LearnedSweep, spec: CodeSpec, rngs: nnx.Rngs):
        self.spec = spec
        # A set of k + 1 columns is a token already.
        levels = max(spec.n - k - m for k, m in spec.groups)
        self.norm = Linear(1, config.width, rngs=rngs)
        self.up = nnx.List([Up(config.width, rngs) for _ in range(levels)])
        self.read = nnx.List([Read(config.width, rngs) for _ in spec.groups])

    def __call__(self, batch: CodeBatch, key: Array | None) -> HeightOutputs:
        del key
        found: dict[tuple[int, int], Array] = {}
        for k, P_BKR in zip(self.spec.ks, batch.matrices, strict=True):
            r = self.spec.n - k
            tokens_EBH = self.norm((_features(P_BKR)[..., None] - SPREAD) / SPREAD)
            wanted = {m: i for i, (group_k, m) in enumerate(self.spec.groups) if group_k == k}
            for level in range(r - min(wanted) + 1):
                if level:
                    tokens_EBH = self.up[level - 1](tokens_EBH, tables(k, r).smaller[level - 1], lowest=True)
                if r - level in wanted:
                    found[k, r - level] = self.read[wanted[r - level]](tokens_EBH)
        mean_1G = jnp.array(self.spec.mean_log2)[None]
        return HeightOutputs(jnp.stack([found[group] for group in self.spec.groups], axis=1) + mean_1G, None)
