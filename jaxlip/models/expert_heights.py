"""The network of "Run 4 Improvements": a branch over P, attention over its columns, experts by (k, m), and a trunk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.data.codes import CodeBatch, CodeSpec
from jaxlip.models.attention import masked_softmax
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.height_outputs import HeightOutputs
from jaxlip.models.linear import Linear
from jaxlip.models.mixture import Mixture
from jaxlip.models.norm import Rate, dropout, dropout_seed

ENTRY = 100.0
"""Unit of the entries."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertHeights(Component):
    """The original gives its dropout rates; widths, heads and depth are ours."""

    width: int = 128
    heads: int = 4
    blocks: int = 2
    """Residual blocks of the trunk."""
    p_dropout: float = 0.25
    attention_dropout: float = 0.15
    expert_dropout: tuple[float, ...] = (0.35, 0.35, 0.4, 0.4)
    """One rate an expert."""
    trunk_dropout: float = 0.45
    residual_dropout: float = 0.4
    final_dropout: float = 0.3
    last_dropout: float = 0.2
    """Of the final layers' two."""

    def __post_init__(self):
        require(self.width % self.heads == 0, self, "width", "a multiple of `heads`")
        require(len(self.expert_dropout) >= 2, self, "expert_dropout", "rates of two or more experts")
        rates = ("p", "attention", "trunk", "residual", "final", "last")
        for name in rates:
            require(0 <= getattr(self, f"{name}_dropout") < 1, self, f"{name}_dropout", "in [0, 1)")
        require(all(0 <= rate < 1 for rate in self.expert_dropout), self, "expert_dropout", "in [0, 1)")

    def build(self, spec: CodeSpec) -> Model:
        return from_nnx(lambda rngs: _ExpertHeights(self, spec, rngs))


class _Dense(nnx.Module):
    """Linear, layer norm, ReLU, dropout."""

    def __init__(self, fan_in: int, out: int, rate: Rate, *, site: int, rngs: nnx.Rngs):
        self.linear = Linear(fan_in, out, rngs=rngs)
        self.norm = nnx.LayerNorm(out, rngs=rngs)
        self.rate, self.site = rate, site

    def __call__(self, x_ND: Float[Array, "N D"], key: Array | None) -> Float[Array, "N H"]:
        out_NH = jax.nn.relu(self.norm(self.linear(x_ND)))
        return out_NH if key is None else dropout(out_NH, dropout_seed(key, self.site), self.rate)


class ColumnAttention(nnx.Module):
    """Self-attention over the columns of a matrix; the mean over the real ones. Columns of padding are not seen."""

    def __init__(self, rows: int, width: int, heads: int, rate: Rate, *, site: int, rngs: nnx.Rngs):
        self.embed = Linear(rows, width, rngs=rngs)
        self.project = Linear(width, 3 * width, rngs=rngs)
        self.out = Linear(width, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.heads, self.rate, self.site = heads, rate, site

    def __call__(
        self, P_NRC: Float[Array, "N R C"], columns_C: Bool[np.ndarray, " C"], key: Array | None
    ) -> Float[Array, "N H"]:
        x_NCH = self.embed(jnp.swapaxes(P_NRC, 1, 2))
        shape = (*x_NCH.shape[:2], self.heads, -1)
        query, key_, value = (part.reshape(shape) for part in jnp.split(self.project(x_NCH), 3, axis=-1))
        scores = jnp.einsum("nchd,nehd->nhce", query, key_) * query.shape[-1] ** -0.5
        weights = masked_softmax(scores, columns_C[None, None, None])
        if key is not None:
            weights = dropout(weights, dropout_seed(key, self.site), self.rate)
        heard_NCH = jnp.einsum("nhce,nehd->nchd", weights, value).reshape(x_NCH.shape)
        y_NCH = self.norm(x_NCH + self.out(heard_NCH))
        return jnp.sum(jnp.where(columns_C[None, :, None], y_NCH, 0), axis=1) / columns_C.sum()


class _ExpertHeights(nnx.Module):
    def __init__(self, config: ExpertHeights, spec: CodeSpec, rngs: nnx.Rngs):
        width, groups = config.width, len(spec.groups)
        self.config, self.spec = config, spec
        self.rows, self.columns = max(spec.ks), spec.n - min(spec.ks)
        # The padded matrix, and which of its entries are real.
        self.p_first = _Dense(2 * self.rows * self.columns, 2 * width, config.p_dropout, site=0, rngs=rngs)
        self.p_second = _Dense(2 * width, width, config.p_dropout, site=1, rngs=rngs)
        self.attend = ColumnAttention(self.rows, width, config.heads, config.attention_dropout, site=2, rngs=rngs)
        fan_in = 2 * width + groups
        self.mixture = Mixture(fan_in, groups, width, width, config.expert_dropout, site=16, rngs=rngs)
        self.trunk = _Dense(fan_in + width, 2 * width, config.trunk_dropout, site=3, rngs=rngs)
        self.residual = nnx.List(
            [_Dense(2 * width, 2 * width, config.residual_dropout, site=8 + i, rngs=rngs) for i in range(config.blocks)]
        )
        self.final = _Dense(2 * width, width, config.final_dropout, site=4, rngs=rngs)
        self.last = _Dense(width, width // 2, config.last_dropout, site=5, rngs=rngs)
        self.out = Linear(width // 2, 1, rngs=rngs)

    def __call__(self, batch: CodeBatch, key: Array | None) -> HeightOutputs:
        B, groups = len(batch.matrices[0]), self.spec.groups
        seen_by_k = {
            k: self._see(P_BKR, None if key is None else jax.random.fold_in(key, k))
            for k, P_BKR in zip(self.spec.ks, batch.matrices, strict=True)
        }
        # One row for every code and group, as the original's data have.
        seen_BGD = jnp.stack([seen_by_k[k] for k, _ in groups], axis=1)
        which_BGG = jnp.broadcast_to(jnp.eye(len(groups))[None], (B, len(groups), len(groups)))
        x_ND = jnp.concatenate([seen_BGD, which_BGG], axis=-1).reshape(B * len(groups), -1)
        mixed_NH, gates_NE = self.mixture(x_ND, which_BGG.reshape(len(x_ND), -1), key)
        x_NH = self.trunk(jnp.concatenate([x_ND, mixed_NH], axis=-1), key)
        for block in self.residual:
            x_NH = x_NH + block(x_NH, key)
        log2_BG = self.out(self.last(self.final(x_NH, key), key)).reshape(B, -1)
        return HeightOutputs(log2_BG + jnp.array(self.spec.mean_log2)[None], gates_NE.reshape(B, len(groups), -1))

    def _see(self, P_BKR: Array, key: Array | None) -> Array:
        """What the P branch and the columns' attention make of matrices of one k."""
        k, r = P_BKR.shape[1:]
        space = ((0, self.rows - k), (0, self.columns - r))
        padded_BRC = jnp.pad(P_BKR / ENTRY, ((0, 0), *space))
        real_RC = np.pad(np.ones((k, r), np.float32), space)
        flat_BD = jnp.stack([padded_BRC, jnp.broadcast_to(real_RC[None], padded_BRC.shape)], axis=1)
        branch_BH = self.p_second(self.p_first(flat_BD.reshape(len(P_BKR), -1), key), key)
        return jnp.concatenate([branch_BH, self.attend(padded_BRC, np.asarray(real_RC.any(axis=0)), key)], axis=-1)
