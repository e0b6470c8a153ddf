"""From the frames of a clip to one vector: which frames count, and how much."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component
from jaxlip.data.batches import FaceBatch
from jaxlip.models.attention import masked_softmax
from jaxlip.models.heads import masked_mean
from jaxlip.models.linear import Linear


def pooled_frames(batch: FaceBatch, pool: str) -> Bool[Array, "B T"]:
    """Frames of the clip (frames) or of the word (speech) with a face of their own (interpolated ones add nothing), or
    all of them if none has one."""
    wanted_BT = batch.frames_BT & (batch.speech_BT if pool == "speech" else True)
    seen_BT = wanted_BT & batch.detected_BT
    return seen_BT | (wanted_BT & ~seen_BT.any(axis=1, keepdims=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanPool(Component):
    """The mean."""

    over: Literal["frames", "speech"] = "frames"
    """All real frames, or those of the word."""

    def build(self, width: int, rngs: nnx.Rngs) -> "Mean":
        del width, rngs
        return Mean(self.over)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionPool(Component):
    """Additive attention (Bahdanau et al., ICLR 2015): weights softmax(v . tanh(W x)); then a layer norm."""

    hidden: int = 256
    """Width of W."""
    over: Literal["frames", "speech"] = "frames"
    """All real frames, or those of the word."""

    def build(self, width: int, rngs: nnx.Rngs) -> "Attention":
        return Attention(width, self.hidden, self.over, rngs=rngs)


class Mean(nnx.Module):
    def __init__(self, over: str):
        self.over = over

    def __call__(self, x_BTD: Float[Array, "B T D"], batch: FaceBatch) -> Float[Array, "B D"]:
        return masked_mean(x_BTD, pooled_frames(batch, self.over))


class Attention(nnx.Module):
    def __init__(self, width: int, hidden: int, over: str, *, rngs: nnx.Rngs):
        self.hidden = Linear(width, hidden, rngs=rngs)
        self.score = Linear(hidden, 1, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.over = over

    def __call__(self, x_BTD: Float[Array, "B T D"], batch: FaceBatch) -> Float[Array, "B D"]:
        score_BT = self.score(jnp.tanh(self.hidden(x_BTD)))[..., 0]
        weight_BT = masked_softmax(score_BT, pooled_frames(batch, self.over), axis=1)
        return self.norm(jnp.einsum("bt,btd->bd", weight_BT, x_BTD))
