"""Temporal stages: one vector a frame -> one that knows of the other frames. Any goes behind any spatial stage.

A stage is a config with `build(fan_in, site, rngs)`, whose module has a `width` and is called as (x, frames, key);
`site` numbers its first dropout.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.models.conv1d import ConvBlock
from jaxlip.models.linear import Linear
from jaxlip.models.lstm import BiLstm
from jaxlip.models.transformer import EncoderLayer, sinusoids

SITES = 100
"""Dropout sites that are kept for one stage."""


def _check(stage: Any, *sizes: str) -> None:
    for field in sizes:
        require(getattr(stage, field) >= 1, stage, field, "1 or more")
    require(0 <= stage.dropout < 1, stage, "dropout", "in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lstm(Component):
    """Bidirectional LSTM layers."""

    hidden: int = 192
    """Width of each direction."""
    layers: int = 2
    """Layers."""
    dropout: float = 0.6
    """Dropout rate between layers."""
    norm: bool = True
    """Whether a layer norm follows."""

    def __post_init__(self):
        _check(self, "hidden", "layers")

    def build(self, fan_in: int, site: int, rngs: nnx.Rngs) -> "LstmStage":
        return LstmStage(self, fan_in, site, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transformer(Component):
    """A linear map, positions, and self-attention layers."""

    width: int = 256
    """Numbers a frame has; a multiple of `heads`."""
    heads: int = 4
    """Heads of each layer."""
    layers: int = 2
    """Layers."""
    feed_forward: int = 1024
    """Width between the two linear maps of a layer."""
    dropout: float = 0.2
    """Dropout rate."""
    positions: bool = True
    """Whether sinusoidal positions are added."""

    def __post_init__(self):
        _check(self, "width", "heads", "layers", "feed_forward")
        require(self.width % (2 * self.heads) == 0, self, "width", f"a multiple of 2 x {self.heads} heads")

    def build(self, fan_in: int, site: int, rngs: nnx.Rngs) -> "TransformerStage":
        return TransformerStage(self, fan_in, site, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolutions(Component):
    """A linear map and residual convolutions with large kernels, the last followed by a layer norm."""

    width: int = 128
    """Channels."""
    blocks: int = 4
    """Convolution blocks."""
    kernel: int = 11
    """Frames that a block sees; odd."""
    dropout: float = 0.2
    """Dropout rate of a block."""

    def __post_init__(self):
        _check(self, "width", "blocks", "kernel")
        require(self.kernel % 2 == 1, self, "kernel", "odd")

    def build(self, fan_in: int, site: int, rngs: nnx.Rngs) -> "ConvolutionStage":
        return ConvolutionStage(self, fan_in, site, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain(Component):
    """Two stages, one behind the other; with `skip`, what the first gave stands beside what the second did."""

    first: Component = Convolutions()
    second: Component = Lstm(hidden=128, layers=1)
    skip: bool = True
    """Whether the second's output is joined by its input."""

    def build(self, fan_in: int, site: int, rngs: nnx.Rngs) -> "ChainStage":
        return ChainStage(self, fan_in, site, rngs=rngs)


class LstmStage(nnx.Module):
    def __init__(self, config: Lstm, fan_in: int, site: int, *, rngs: nnx.Rngs):
        self.lstm = BiLstm(fan_in, config.hidden, config.layers, config.dropout, site=site, rngs=rngs)
        self.width = 2 * config.hidden
        self.norm = nnx.LayerNorm(self.width, epsilon=1e-5, rngs=rngs) if config.norm else None

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        sequence_BTD = self.lstm(x_BTD, frames_BT, key)
        return sequence_BTD if self.norm is None else self.norm(sequence_BTD)


class TransformerStage(nnx.Module):
    def __init__(self, config: Transformer, fan_in: int, site: int, *, rngs: nnx.Rngs):
        self.width, self.positions = config.width, config.positions
        self.stem = Linear(fan_in, config.width, rngs=rngs)
        sizes = (config.width, config.heads, config.feed_forward, config.dropout)
        self.layers = nnx.List([EncoderLayer(*sizes, site=site + 3 * i, rngs=rngs) for i in range(config.layers)])

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        x_BTD = self.stem(x_BTD)
        if self.positions:
            x_BTD = x_BTD + jnp.asarray(sinusoids(x_BTD.shape[1], self.width))[None]
        for layer in self.layers:
            x_BTD = layer(x_BTD, frames_BT, key)
        return x_BTD


class ConvolutionStage(nnx.Module):
    def __init__(self, config: Convolutions, fan_in: int, site: int, *, rngs: nnx.Rngs):
        self.width = config.width
        self.stem = Linear(fan_in, config.width, rngs=rngs) if fan_in != config.width else None
        sizes = (config.width, config.kernel, config.dropout)
        self.blocks = nnx.List([ConvBlock(*sizes, site=site + i, rngs=rngs) for i in range(config.blocks)])
        self.norm = nnx.LayerNorm(config.width, epsilon=1e-5, rngs=rngs)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        x_BTD = x_BTD if self.stem is None else self.stem(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, frames_BT, key)
        return self.norm(x_BTD)


class ChainStage(nnx.Module):
    def __init__(self, config: Chain, fan_in: int, site: int, *, rngs: nnx.Rngs):
        first: Any = config.first
        second: Any = config.second
        self.first = first.build(fan_in, site, rngs)
        self.second = second.build(self.first.width, site + SITES, rngs)
        self.skip = config.skip
        self.width = self.second.width + (self.first.width if config.skip else 0)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        first_BTD = self.first(x_BTD, frames_BT, key)
        second_BTD = self.second(first_BTD, frames_BT, key)
        return jnp.concatenate([second_BTD, first_BTD], axis=-1) if self.skip else second_BTD
