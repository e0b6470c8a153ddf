"""Affect from faces: the graph encoder of every frame, a bidirectional LSTM, two outputs of the mean over frames, or
of every frame."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.face_affect import FaceAffectSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.graph import GraphEncoder
from jaxlip.models.heads import masked_mean
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstm
from jaxlip.models.norm import dropout, dropout_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphAffect(Component):
    """Sizes of a graph + LSTM affect model."""

    hidden: int = 64
    """Width of graph convolutions and of each LSTM direction."""
    graph_layers: int = 2
    """Graph convolutions a frame goes through."""
    lstm_layers: int = 1
    """Bidirectional LSTM layers."""
    dropout: float = 0.2
    """Dropout rate; it grows by up to 20 % over the graph layers."""

    def __post_init__(self):
        for field in ("hidden", "graph_layers", "lstm_layers"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")

    def build(self, spec: FaceAffectSpec) -> Model:
        return from_nnx(lambda rngs: GraphAffectModule(self, spec, rngs=rngs))


class GraphAffectModule(nnx.Module):
    def __init__(self, config: GraphAffect, spec: FaceAffectSpec, *, rngs: nnx.Rngs):
        hidden, rate = config.hidden, config.dropout
        self.input, self.dropout, self.by_frame = spec.input, rate, spec.by_frame
        self.graph = GraphEncoder(spec.topology, spec.input.sizes, hidden, config.graph_layers, rate, rngs=rngs)
        self.lstm = BiLstm(2 * hidden, hidden, config.lstm_layers, rate, site=100, rngs=rngs)
        self.norm = nnx.LayerNorm(2 * hidden, epsilon=1e-5, rngs=rngs)
        self.out = Linear(2 * hidden, 2, rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> Float[Array, "B A"] | Float[Array, "B T A"]:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        features = self.input(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        sequence_BTD = self.norm(self.lstm(self.graph(features, frames_BT, key), frames_BT, key))
        told = sequence_BTD if self.by_frame else masked_mean(sequence_BTD, frames_BT)
        if key is not None:
            told = dropout(told, dropout_seed(key, 200), self.dropout)
        # The scale is from -1 to 1.
        return jnp.tanh(self.out(told))
