"""The V1 word reader: graph encoder, then LSTM, attention and convolution over time side by side, fused by a gate."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.words import WordSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.conv1d import Conv
from jaxlip.models.graph import GraphEncoder
from jaxlip.models.heads import GatedLogits, masked_mean
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstm
from jaxlip.models.norm import NormReluDropout, dropout, dropout_seed
from jaxlip.models.pool import pooled_frames
from jaxlip.models.transformer import EncoderLayer

BRANCHES = ("lstm", "attention", "convolution")
LSTM_SITE, ATTENTION_SITE, FUSION_SITE = 100, 130, 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedBranches(Component):
    """Sizes of a word model with three temporal branches."""

    hidden: int = 512
    """Width of graph convolutions, of each LSTM direction and of every branch; a multiple of `heads`."""
    graph_layers: int = 5
    """Graph convolutions a frame goes through."""
    lstm_layers: int = 3
    """Bidirectional LSTM layers."""
    attention_layers: int = 2
    """Transformer layers."""
    heads: int = 8
    """Heads of each."""
    feed_forward: int = 2048
    """Width between the two linear maps of each."""
    dropout: float = 0.6
    """Dropout rate, also of the frames' vectors that the graph gives (see GraphEncoder)."""

    def __post_init__(self):
        for field in ("hidden", "graph_layers", "lstm_layers", "attention_layers", "heads", "feed_forward"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.hidden % self.heads == 0, self, "hidden", f"a multiple of {self.heads} heads")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")

    def build(self, spec: WordSpec) -> Model:
        return from_nnx(lambda rngs: GatedBranchesModule(self, spec, rngs=rngs))


class GatedBranchesModule(nnx.Module):
    def __init__(self, config: GatedBranches, spec: WordSpec, *, rngs: nnx.Rngs):
        hidden, rate = config.hidden, config.dropout
        self.input, self.rate = spec.input, rate
        self.graph = GraphEncoder(
            spec.topology, spec.input.sizes, hidden, config.graph_layers, rate, dropout_at="frames", rngs=rngs
        )
        self.lstm = BiLstm(2 * hidden, hidden, config.lstm_layers, rate, site=LSTM_SITE, rngs=rngs)
        self.lstm_norm = nnx.LayerNorm(2 * hidden, epsilon=1e-5, rngs=rngs)
        self.attention_stem = Linear(2 * hidden, hidden, rngs=rngs)
        sizes = (hidden, config.heads, config.feed_forward, rate)
        layers = range(config.attention_layers)
        self.attention = nnx.List([EncoderLayer(*sizes, site=ATTENTION_SITE + 3 * i, rngs=rngs) for i in layers])
        self.convs = nnx.List([Conv(size, hidden, 3, bias=True, rngs=rngs) for size in (2 * hidden, hidden)])
        self.conv_norms = nnx.List([NormReluDropout(hidden, rate=0.0, site=FUSION_SITE - i) for i in (1, 2)])
        widths = (2 * hidden, hidden, hidden)
        self.branch_norms = nnx.List([nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs) for width in widths])
        self.projections = nnx.List([Linear(width, hidden, rngs=rngs) for width in widths])
        self.gate_hidden = Linear(len(widths) * hidden, hidden, rngs=rngs)
        self.gate = Linear(hidden, len(widths), rngs=rngs)
        self.fusion_norm = nnx.LayerNorm(4 * hidden, epsilon=1e-5, rngs=rngs)
        self.fusion = Linear(4 * hidden, 2 * hidden, rngs=rngs)
        self.out = Linear(2 * hidden, len(spec.classes), rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> GatedLogits:
        clips = self.branches(batch, key)
        projected = [
            project(norm(clip_BD))
            for norm, project, clip_BD in zip(self.branch_norms, self.projections, clips, strict=True)
        ]
        joined_BD = jnp.concatenate(projected, axis=-1)
        gate_BG = jax.nn.softmax(self.gate(jax.nn.relu(self.gate_hidden(joined_BD))), axis=-1)
        blend_BH = jnp.einsum("bg,gbh->bh", gate_BG, jnp.stack(projected))
        fused_BD = self.fusion_norm(jnp.concatenate([joined_BD, blend_BH], axis=-1))
        hidden_BD = jax.nn.relu(self.fusion(fused_BD))
        if key is not None:
            hidden_BD = dropout(hidden_BD, dropout_seed(key, FUSION_SITE), self.rate)
        return GatedLogits(self.out(hidden_BD), gate_BG)

    def branches(self, batch: FaceBatch, key: Array | None) -> list[Array]:
        """A vector of the clip from each branch, the mean over its frames."""
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        features = self.input(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        frame_BTD = self.graph(features, frames_BT, key)
        attended_BTH = self.attention_stem(frame_BTD)
        for layer in self.attention:
            attended_BTH = layer(attended_BTH, frames_BT, key)
        heard_BTH = frame_BTD
        for conv, norm in zip(self.convs, self.conv_norms, strict=True):
            z_BTH = conv(jnp.where(frames_BT[..., None], heard_BTH, 0))
            heard_BTH = norm(z_BTH.reshape(1, frames_BT.size, -1), frames_BT.reshape(-1), key).reshape(z_BTH.shape)
        sequences = (self.lstm_norm(self.lstm(frame_BTD, frames_BT, key)), attended_BTH, heard_BTH)
        pooled_BT = pooled_frames(batch, "frames")
        return [masked_mean(sequence_BTD, pooled_BT) for sequence_BTD in sequences]
