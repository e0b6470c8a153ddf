"""The graph + LSTM sentence reader: the graph encoder of every frame, a bidirectional LSTM, tokens for every frame."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.sentences import SentenceSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.graph import DropoutAt, GraphEncoder
from jaxlip.models.heads import SentenceHeads, SentenceLogits
from jaxlip.models.lstm import BiLstm
from jaxlip.models.norm import FrameNorm, dropout, dropout_seed

# The first slots of a node in every feature set: where it is.
COORDINATES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphCtc(Component):
    """Sizes of a graph + LSTM sentence model."""

    hidden: int = 192
    """Width of graph convolutions and of each LSTM direction."""
    graph_layers: int = 2
    """Graph convolutions a frame goes through."""
    lstm_layers: int = 2
    """Bidirectional LSTM layers."""
    dropout: float = 0.3
    """Dropout rate; it grows by up to 20 % over the graph layers."""
    dropout_at: DropoutAt = "nodes"
    """Where the graph drops: behind every convolution, as the original did, or at a frame's pooled vector alone, which
    leaves no difference between training and inference (see GraphEncoder)."""

    def __post_init__(self):
        for field in ("hidden", "graph_layers", "lstm_layers"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")

    def build(self, spec: SentenceSpec) -> Model:
        return from_nnx(lambda rngs: GraphCtcModule(self, spec, rngs=rngs))


class GraphCtcModule(nnx.Module):
    def __init__(self, config: GraphCtc, spec: SentenceSpec, *, rngs: nnx.Rngs):
        hidden, rate = config.hidden, config.dropout
        self.input = spec.input
        self.dropout = rate
        node, frame = spec.input.sizes
        self.place = FrameNorm(COORDINATES * spec.input.nodes)
        self.graph = GraphEncoder(
            spec.topology,
            (node + COORDINATES, frame),
            hidden,
            config.graph_layers,
            rate,
            dropout_at=config.dropout_at,
            rngs=rngs,
        )
        self.lstm = BiLstm(2 * hidden, hidden, config.lstm_layers, rate, site=100, rngs=rngs)
        self.norm = nnx.LayerNorm(2 * hidden, epsilon=1e-5, rngs=rngs)
        self.heads = SentenceHeads(2 * hidden, len(spec.vocabulary), len(spec.words), rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> SentenceLogits:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        features = self.input(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        places_BTVC = features.node_BTVD[..., :COORDINATES]
        flat_BTD = self.place(places_BTVC.reshape(*frames_BT.shape, -1), frames_BT, key)
        node_BTVD = jnp.concatenate([features.node_BTVD, flat_BTD.reshape(places_BTVC.shape)], axis=-1)
        frame_BTD = self.graph(features._replace(node_BTVD=node_BTVD), frames_BT, key)
        sequence_BTD = self.norm(self.lstm(frame_BTD, frames_BT, key))
        if key is not None:
            sequence_BTD = dropout(sequence_BTD, dropout_seed(key, 200), self.dropout)
        return self.heads(sequence_BTD)
