"""The MobileNetV3 student over time: encoders of body, hands, face and motion, inverted residuals, an LSTM, tokens.

Inverted residuals with squeeze-excite as in Howard et al., ICCV 2019, over one axis. A frame that is not real is zero
in front of every convolution, so that it is heard as little as what lies outside of the clip; it has no part in the
means of squeeze-excite and batch norm.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.sentences import CtcSpec
from jaxlip.errors import UserError
from jaxlip.holistic.layout import FACE, HANDS, POSE, TEMPORAL
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.conv1d import Conv, DepthwiseConv, strided
from jaxlip.models.heads import SentenceLogits, masked_mean
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstmLayer, LstmLayer
from jaxlip.models.norm import BatchNorm, Rate, dropout, dropout_seed


class Block(NamedTuple):
    """One inverted residual: channels inside and out, frames it sees, stride, squeeze-excite, activation."""

    expanded: int
    out: int
    kernel: int
    stride: int
    squeeze: bool
    activation: Callable[[Array], Array]


STEM = 16
BLOCKS = (
    Block(16, 16, 3, 1, True, jax.nn.relu),
    Block(72, 24, 3, 2, False, jax.nn.relu),
    Block(88, 24, 3, 1, False, jax.nn.relu),
    Block(96, 40, 5, 1, True, jax.nn.hard_swish),
    Block(240, 40, 5, 1, True, jax.nn.hard_swish),
    Block(120, 48, 5, 1, True, jax.nn.hard_swish),
)
STRIDE = 2 * int(np.prod([block.stride for block in BLOCKS]))
"""Frames that become one step: the stem's stride of 2 times the blocks'."""
REDUCTION = 4
WIDTH = 128
"""Channels after the blocks, and of the LSTM."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MobileNet1d(Component):
    """The student as listed, 14,180,464 parameters at 101 classes, and its variants."""

    dropout: float = 0.3
    """Dropout rate, in the encoders and before the LSTM."""
    temporal_hidden: int | None = None
    """Width of the temporal encoder's hidden layer, which holds 89 % of the parameters; None: 2,507 as listed."""
    upsample: bool = True
    """Bring the steps back to one a frame before the LSTM; without, CTC sees a quarter of the frames."""
    squeeze: bool = True
    """Squeeze-excite, which looks at the mean of the whole clip; a stream must do without."""
    bidirectional: bool = True
    """An LSTM in both directions; a stream knows only one."""
    early: bool = False
    """A second head on the convolutions, for `task.early_ctc` and `task.agree`."""

    def __post_init__(self):
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")
        require(
            self.temporal_hidden is None or self.temporal_hidden >= 1, self, "temporal_hidden", "1 or more, or None"
        )

    @property
    def stride(self) -> int:
        """Frames that a step of the logits stands for."""
        return 1 if self.upsample else STRIDE

    def build(self, spec: CtcSpec) -> Model:
        if getattr(spec.input, "features", None) != "holistic6516":
            raise UserError(
                f"MobileNet1d reads data.features holistic6516, not {getattr(spec.input, 'features', spec.input)}."
            )
        return from_nnx(lambda rngs: MobileNet1dModule(self, spec, rngs=rngs))


class ModalityEncoder(nnx.Module):
    """Linear, layer norm, ReLU, dropout, Linear, layer norm: one part's numbers of a frame, by themselves."""

    def __init__(self, fan_in: int, out: int, rate: Rate, *, hidden: int | None, site: int, rngs: nnx.Rngs):
        hidden = (fan_in + out) // 2 if hidden is None else hidden
        self.hidden = Linear(fan_in, hidden, rngs=rngs)
        self.hidden_norm = nnx.LayerNorm(hidden, epsilon=1e-5, rngs=rngs)
        self.out = Linear(hidden, out, rngs=rngs)
        self.out_norm = nnx.LayerNorm(out, epsilon=1e-5, rngs=rngs)
        self.rate, self.site = rate, site

    def __call__(self, x_BTD: Float[Array, "B T D"], key: Array | None) -> Float[Array, "B T Dout"]:
        h_BTH = jax.nn.relu(self.hidden_norm(self.hidden(x_BTD)))
        if key is not None:
            h_BTH = dropout(h_BTH, dropout_seed(key, self.site), self.rate)
        return self.out_norm(self.out(h_BTH))


class SqueezeExcite(nnx.Module):
    """Every channel times a gate that sees the mean of all channels over the clip's real steps."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.squeeze = Linear(channels, channels // REDUCTION, rngs=rngs)
        self.excite = Linear(channels // REDUCTION, channels, rngs=rngs)

    def __call__(self, x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"]) -> Float[Array, "B T D"]:
        gate_BD = jax.nn.hard_sigmoid(self.excite(jax.nn.relu(self.squeeze(masked_mean(x_BTD, real_BT)))))
        return x_BTD * gate_BD[:, None]


class InvertedResidual(nnx.Module):
    """1 x 1 expansion (where it expands), depthwise convolution, squeeze-excite, 1 x 1 projection; added to its input
    where that has the same shape."""

    def __init__(self, fan_in: int, block: Block, *, squeeze: bool, rngs: nnx.Rngs):
        expanded = block.expanded
        self.block, self.residual = block, block.stride == 1 and fan_in == block.out
        self.expand = Conv(fan_in, expanded, 1, bias=False, rngs=rngs) if expanded != fan_in else None
        self.expand_norm = BatchNorm(expanded) if expanded != fan_in else None
        self.depthwise = DepthwiseConv(expanded, block.kernel, stride=block.stride, rngs=rngs)
        self.depthwise_norm = BatchNorm(expanded)
        self.squeeze = SqueezeExcite(expanded, rngs=rngs) if squeeze and block.squeeze else None
        self.project = Conv(expanded, block.out, 1, bias=False, rngs=rngs)
        self.project_norm = BatchNorm(block.out)

    def __call__(self, x_BTD, real_BT, key: Array | None) -> tuple[Array, Array]:
        h_BTD = x_BTD
        if self.expand is not None and self.expand_norm is not None:
            h_BTD = self._act(self.expand_norm(self.expand(h_BTD), real_BT, key), real_BT)
        steps_BT = strided(real_BT, self.block.stride)
        h_BTD = self._act(self.depthwise_norm(self.depthwise(h_BTD), steps_BT, key), steps_BT)
        if self.squeeze is not None:
            h_BTD = self.squeeze(h_BTD, steps_BT)
        h_BTD = self.project_norm(self.project(h_BTD), steps_BT, key)
        return (x_BTD + h_BTD if self.residual else h_BTD), steps_BT

    def _act(self, x_BTD, real_BT):
        return jnp.where(real_BT[..., None], self.block.activation(x_BTD), 0)


class MobileNet1dModule(nnx.Module):
    def __init__(self, config: MobileNet1d, spec: CtcSpec, *, rngs: nnx.Rngs):
        rate, classes = config.dropout, len(spec.vocabulary)
        self.input, self.config = spec.input, config
        temporal = TEMPORAL.stop - TEMPORAL.start
        sizes = {"pose": (POSE.width, 64), "hands": (2 * HANDS[0].width, 128), "face": (FACE.width, 64)}
        self.encoders = nnx.Dict(
            {
                name: ModalityEncoder(*size, rate, hidden=None, site=i, rngs=rngs)
                for i, (name, size) in enumerate(sizes.items())
            }
        )
        self.temporal = ModalityEncoder(temporal, 128, rate, hidden=config.temporal_hidden, site=10, rngs=rngs)
        self.stem = Conv(384, STEM, 3, stride=2, bias=False, rngs=rngs)
        self.stem_norm = BatchNorm(STEM)
        fan_ins = (STEM, *(block.out for block in BLOCKS[:-1]))
        self.blocks = nnx.List(
            [
                InvertedResidual(fan_in, block, squeeze=config.squeeze, rngs=rngs)
                for fan_in, block in zip(fan_ins, BLOCKS, strict=True)
            ]
        )
        # Stride and kernel are equal, so that no two steps overlap: a step's frames are one linear map of it.
        self.spread = Linear(BLOCKS[-1].out, (STRIDE if config.upsample else 1) * WIDTH, use_bias=False, rngs=rngs)
        self.spread_bias = nnx.Param(jnp.zeros(WIDTH))
        self.spread_norm = BatchNorm(WIDTH)
        self.smooth = Conv(WIDTH, WIDTH, 3, bias=True, rngs=rngs)
        self.smooth_norm = BatchNorm(WIDTH)
        layer = BiLstmLayer if config.bidirectional else LstmLayer
        self.lstm = layer(WIDTH, WIDTH, rngs=rngs)
        self.tokens = Linear((2 if config.bidirectional else 1) * WIDTH, classes, rngs=rngs)
        self.early = Linear(WIDTH, classes, rngs=rngs) if config.early else None

    def __call__(self, batch: FaceBatch, key: Array | None) -> SentenceLogits:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        vectors_BTD = self.input.vectors(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        x_BTD, steps_BT = self.convolutions(self.encode(vectors_BTD, frames_BT, key), frames_BT, key)
        tokens_BTK = self.tokens(self.lstm(x_BTD, steps_BT))
        early_BTK = None if self.early is None else self.early(x_BTD)
        return SentenceLogits(tokens_BTK, early_BTK=early_BTK, steps_BT=None if self.config.upsample else steps_BT)

    def encode(self, x_BTD: Float[Array, "B T 6516"], frames_BT, key: Array | None) -> Float[Array, "B T 384"]:
        """Body, hands and face of a frame, and how they move, each through its own encoder."""
        hands_BTD = jnp.concatenate([x_BTD[..., hand.columns("position")] for hand in HANDS], axis=-1)
        parts = {
            "pose": x_BTD[..., POSE.columns("position")],
            "hands": hands_BTD,
            "face": x_BTD[..., FACE.columns("position")],
        }
        encoded = [self.encoders[name](part_BTD, key) for name, part_BTD in parts.items()]
        encoded.append(self.temporal(x_BTD[..., TEMPORAL], key))
        return jnp.where(frames_BT[..., None], jnp.concatenate(encoded, axis=-1), 0)

    def convolutions(self, x_BTD, frames_BT, key: Array | None) -> tuple[Array, Array]:
        """What the LSTM reads [B, T, 128], and which steps of it are real."""
        steps_BT = strided(frames_BT, 2)
        x_BTD = jax.nn.hard_swish(self.stem_norm(self.stem(x_BTD), steps_BT, key))
        x_BTD = jnp.where(steps_BT[..., None], x_BTD, 0)
        for block in self.blocks:
            x_BTD, steps_BT = block(x_BTD, steps_BT, key)
        x_BTD = self.spread(x_BTD)
        if self.config.upsample:
            batch, frames = frames_BT.shape
            x_BTD = x_BTD.reshape(batch, -1, WIDTH)[:, :frames]
            steps_BT = frames_BT
        x_BTD = jax.nn.relu(self.spread_norm(x_BTD + self.spread_bias[...][None, None], steps_BT, key))
        x_BTD = self.smooth(jnp.where(steps_BT[..., None], x_BTD, 0))
        x_BTD = jax.nn.relu(self.smooth_norm(x_BTD, steps_BT, key))
        if key is not None:
            x_BTD = dropout(x_BTD, dropout_seed(key, 20), self.config.dropout)
        return jnp.where(steps_BT[..., None], x_BTD, 0), steps_BT
