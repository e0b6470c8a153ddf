"""The V2, V3, V4 word lip reader: graph encoder per frame, bidirectional LSTM over frames, pooled, classified."""

import dataclasses

from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.words import WordSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.graph import DropoutAt, GraphEncoder
from jaxlip.models.heads import Classifier, masked_mean
from jaxlip.models.lstm import BiLstm
from jaxlip.models.pool import pooled_frames

POOLS = ("frames", "speech")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphLstm(Component):
    """Sizes of a graph + LSTM word model."""

    hidden: int = 192
    """Width of graph convolutions, of each LSTM direction and of the classifier."""
    graph_layers: int = 2
    """Graph convolutions a frame goes through."""
    lstm_layers: int = 2
    """Bidirectional LSTM layers."""
    dropout: float = 0.6
    """Dropout rate; it grows by up to 20 % over the graph layers."""
    pool: str = "frames"
    """Which frames the clip's vector is the mean of: all real ones (frames), or those of the word (speech)."""

    dropout_at: DropoutAt = "nodes"
    """Where the graph drops: behind every convolution, as the original did, or at a frame's pooled vector alone, which
    leaves no difference between training and inference (see GraphEncoder)."""

    def __post_init__(self):
        for field in ("hidden", "graph_layers", "lstm_layers"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")
        require(self.pool in POOLS, self, "pool", f"one of {', '.join(POOLS)}")

    def build(self, spec: WordSpec) -> Model:
        return from_nnx(lambda rngs: GraphLstmModule(self, spec, rngs=rngs))


class GraphLstmModule(nnx.Module):
    def __init__(self, config: GraphLstm, spec: WordSpec, *, rngs: nnx.Rngs):
        hidden, layers, rate = config.hidden, config.graph_layers, config.dropout
        self.input = spec.input
        self.pool = config.pool
        self.graph = GraphEncoder(
            spec.topology, spec.input.sizes, hidden, layers, rate, dropout_at=config.dropout_at, rngs=rngs
        )
        self.lstm = BiLstm(2 * hidden, hidden, config.lstm_layers, rate, site=100, rngs=rngs)
        self.norm = nnx.LayerNorm(2 * hidden, epsilon=1e-5, rngs=rngs)
        self.classifier = Classifier(2 * hidden, hidden, len(spec.classes), rate, site=200, rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> Float[Array, "B K"]:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        features = self.input(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        frame_BTD = self.graph(features, frames_BT, key)
        sequence_BTD = self.norm(self.lstm(frame_BTD, frames_BT, key))
        return self.classifier(masked_mean(sequence_BTD, pooled_frames(batch, self.pool)), batch.examples_B, key)
