"""The convolution + LSTM sentence reader: all landmarks of a frame as one vector, large kernels over time, tokens."""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.sentences import CtcSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.conv1d import ConvBlock
from jaxlip.models.heads import SentenceHeads, SentenceLogits
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstm
from jaxlip.models.norm import FrameNorm, dropout, dropout_seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvCtc(Component):
    """Sizes of a convolution + LSTM sentence model."""

    width: int = 192
    """Channels of the convolution blocks."""
    blocks: int = 5
    """Convolution blocks."""
    kernel: int = 11
    """Frames that a block sees; odd."""
    hidden: int = 192
    """Width of each LSTM direction."""
    lstm_layers: int = 1
    """Bidirectional LSTM layers."""
    dropout: float = 0.2
    """Dropout rate in blocks and between layers."""
    input_dropout: float = 0.1
    """Dropout rate of the features of a frame."""

    def __post_init__(self):
        for field in ("width", "blocks", "hidden", "lstm_layers"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(self.kernel >= 1 and self.kernel % 2 == 1, self, "kernel", "odd, 1 or more")
        for field in ("dropout", "input_dropout"):
            require(0 <= getattr(self, field) < 1, self, field, "in [0, 1)")

    def build(self, spec: CtcSpec) -> Model:
        return from_nnx(lambda rngs: ConvCtcModule(self, spec, rngs=rngs))


class ConvCtcModule(nnx.Module):
    def __init__(self, config: ConvCtc, spec: CtcSpec, *, rngs: nnx.Rngs):
        width, rate = config.width, config.dropout
        self.input = spec.input
        self.config = config
        self.frame_norm = FrameNorm(spec.input.width)
        self.stem = Linear(spec.input.width, width, rngs=rngs)
        self.blocks = nnx.List([ConvBlock(width, config.kernel, rate, site=i, rngs=rngs) for i in range(config.blocks)])
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.lstm = BiLstm(width, config.hidden, config.lstm_layers, rate, site=100, rngs=rngs)
        self.heads = SentenceHeads(2 * config.hidden + width, len(spec.vocabulary), len(spec.words), rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> SentenceLogits:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        x_BTD = self.stem(self.frame_vectors(batch, frames_BT, key))
        for block in self.blocks:
            x_BTD = block(x_BTD, frames_BT, key)
        x_BTD = self.norm(x_BTD)
        sequence_BTD = jnp.concatenate([self.lstm(x_BTD, frames_BT, key), x_BTD], axis=-1)
        if key is not None:
            sequence_BTD = dropout(sequence_BTD, dropout_seed(key, 200), self.config.dropout)
        return self.heads(sequence_BTD)

    def frame_vectors(
        self, batch: FaceBatch, frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        """Every feature of a frame in units of its own spread.

        A lip point moves by a small part of what lies between two points: in units common to all nodes, motion would
        drown in the shape of the face.
        """
        x_BTD = self.input.vectors(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        x_BTD = self.frame_norm(x_BTD, frames_BT, key)
        if key is not None:
            x_BTD = dropout(x_BTD, dropout_seed(key, 300), self.config.input_dropout)
        return x_BTD
