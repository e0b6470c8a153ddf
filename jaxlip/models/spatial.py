"""Spatial stages: the landmarks of every frame -> one vector a frame. Any of them goes before any temporal stage.

A stage is a config with `build(spec, rngs)`, whose module has a `width` and is called as (features, frames, key).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.config import Component, require
from jaxlip.face.features import Features
from jaxlip.models.graph import DropoutAt, GraphEncoder, pool_nodes
from jaxlip.models.graph_attention import GraphAttentionConv, LearnedGraphConv
from jaxlip.models.linear import Linear
from jaxlip.models.norm import NORMS, FrameNorm, NormReluDropout, Rate, dropout, dropout_seed

LANDMARK_SITE = 300


def _check(stage: Any, *sizes: str) -> None:
    for field in sizes:
        require(getattr(stage, field) >= 1, stage, field, "1 or more")
    require(0 <= stage.dropout < 1, stage, "dropout", "in [0, 1)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gcn(Component):
    """Graph convolutions with a fixed propagation matrix, mean pool beside max pool (V1 to V4)."""

    hidden: int = 192
    """Width of the convolutions; a frame's vector has twice that."""
    layers: int = 2
    """Graph convolutions."""
    dropout: float = 0.6
    """Dropout rate; it grows by up to 20 % over the layers."""
    dropout_at: DropoutAt = "nodes"
    """Where the graph drops: behind every convolution, as the original did, or at a frame's pooled vector alone, which
    leaves no difference between training and inference (see GraphEncoder)."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation behind each convolution."""

    def __post_init__(self):
        _check(self, "hidden", "layers")

    def build(self, spec: Any, rngs: nnx.Rngs) -> "GraphStage":
        sizes = (spec.topology, spec.input.sizes, self.hidden, self.layers, self.dropout)
        return GraphStage(GraphEncoder(*sizes, norm=self.norm, dropout_at=self.dropout_at, rngs=rngs), 2 * self.hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphAttention(Component):
    """Graph attention along the edges, a linear map, mean pool beside max pool (V5)."""

    hidden: int = 256
    """Width of a head, and of a node at the end."""
    heads: int = 4
    """Heads side by side."""
    layers: int = 3
    """Graph attentions."""
    dropout: float = 0.6
    """Dropout rate."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation behind each attention."""

    def __post_init__(self):
        _check(self, "hidden", "heads", "layers")

    def build(self, spec: Any, rngs: nnx.Rngs) -> "NodeStage":
        wide = self.heads * self.hidden
        sizes = [sum(spec.input.sizes)] + [wide] * (self.layers - 1)
        convs = [GraphAttentionConv(spec.topology, size, self.hidden, self.heads, rngs=rngs) for size in sizes]
        norms = [NORMS[self.norm](wide, rate=self.dropout, site=i) for i in range(self.layers)]
        return NodeStage(convs, norms, Linear(wide, self.hidden, rngs=rngs), 2 * self.hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedGraph(Component):
    """Graph convolutions that learn links between any two nodes beside the given ones."""

    hidden: int = 128
    """Width of the convolutions; a frame's vector has twice that."""
    layers: int = 2
    """Graph convolutions."""
    dropout: float = 0.6
    """Dropout rate."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation behind each convolution."""

    def __post_init__(self):
        _check(self, "hidden", "layers")

    def build(self, spec: Any, rngs: nnx.Rngs) -> "NodeStage":
        sizes = [sum(spec.input.sizes)] + [self.hidden] * (self.layers - 1)
        convs = [LearnedGraphConv(spec.topology, size, self.hidden, rngs=rngs) for size in sizes]
        norms = [NORMS[self.norm](self.hidden, rate=self.dropout, site=i) for i in range(self.layers)]
        return NodeStage(convs, norms, None, 2 * self.hidden)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Landmarks(Component):
    """All features of all landmarks side by side, each in units of its own spread, and a linear map; no graph."""

    width: int = 128
    """Numbers a frame's vector has."""
    dropout: float = 0.2
    """Dropout rate of the features."""

    def __post_init__(self):
        _check(self, "width")

    def build(self, spec: Any, rngs: nnx.Rngs) -> "LandmarkStage":
        return LandmarkStage(spec.input.width, self.width, self.dropout, rngs=rngs)


class GraphStage(nnx.Module):
    def __init__(self, graph: GraphEncoder, width: int):
        self.graph = graph
        self.width = width

    def __call__(self, features: Features, frames_BT: Bool[Array, "B T"], key: Array | None) -> Float[Array, "B T D"]:
        return self.graph(features, frames_BT, key)


class NodeStage(nnx.Module):
    """Convolutions of nodes that carry every feature, each with its norm, then an optional map of every node."""

    def __init__(self, convs: Sequence[Any], norms: Sequence[NormReluDropout], out: Linear | None, width: int):
        self.convs, self.norms, self.out = nnx.List(convs), nnx.List(norms), out
        self.width = width

    def __call__(self, features: Features, frames_BT: Bool[Array, "B T"], key: Array | None) -> Float[Array, "B T D"]:
        frames_F = frames_BT.reshape(-1)
        node_VFD = jnp.moveaxis(features.node_BTVD.reshape(len(frames_F), *features.node_BTVD.shape[2:]), 1, 0)
        frame_1FD = features.frame_BTD.reshape(1, len(frames_F), -1)
        shape = (len(node_VFD), *frame_1FD.shape[1:])
        x_VFH = jnp.concatenate([node_VFD, jnp.broadcast_to(frame_1FD, shape)], axis=-1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_VFH = norm(conv(x_VFH), frames_F, key)
        x_VFH = x_VFH if self.out is None else self.out(x_VFH)
        return pool_nodes(x_VFH).reshape(*frames_BT.shape, -1)


class LandmarkStage(nnx.Module):
    def __init__(self, fan_in: int, width: int, rate: Rate, *, rngs: nnx.Rngs):
        self.frame_norm = FrameNorm(fan_in)
        self.stem = Linear(fan_in, width, rngs=rngs)
        self.rate, self.width = rate, width

    def __call__(self, features: Features, frames_BT: Bool[Array, "B T"], key: Array | None) -> Float[Array, "B T D"]:
        node_BTD = features.node_BTVD.reshape(*frames_BT.shape, -1)
        x_BTD = self.frame_norm(jnp.concatenate([node_BTD, features.frame_BTD], axis=-1), frames_BT, key)
        if key is not None:
            x_BTD = dropout(x_BTD, dropout_seed(key, LANDMARK_SITE), self.rate)
        return self.stem(x_BTD)
