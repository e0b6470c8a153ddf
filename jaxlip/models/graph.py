"""Graph convolution over the landmarks of every frame, as dense products with a fixed propagation matrix.

Activations are node-major, [V, F, H] with F = B * T: both the product with A_VV and the one with the weights are then
single matrix products without a transpose, and pooling over nodes reduces the leading axis. `Topology.to_jraph()` with
`jraph.GraphConvolution` is the oracle; on 88 fixed nodes the dense product is several times faster than segment sums.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxlip.face.features import Features
from jaxlip.face.topology import Topology
from jaxlip.models.norm import NORMS, Rate, dropout, dropout_seed, on_one_cpu, scaled_rate

DropoutAt = Literal["nodes", "frames"]
"""Where a graph encoder drops: at every node behind each convolution, or at the pooled vector of a frame alone."""
CHUNK = 2**17
"""Numbers of an activation that a chunk of frames has at the most: half a mebibyte in float32."""
FRAME_SITE = 90
ROUNDINGS = 4
"""Roundings by which maxima that are equal may differ."""


@jax.custom_vjp
def mix_nodes(mix_VW: Float[Array, "V W"], x_WFD: Float[Array, "W F D"]) -> Float[Array, "V F D"]:
    """Each of V nodes as a fixed weighted sum of W nodes, as one matrix product. No gradient for the weights.

    The gradient is written out: the derived one asks for a transposed copy of the activations, which costs more on CPU
    than the product itself.
    """
    return (mix_VW.astype(x_WFD.dtype) @ x_WFD.reshape(len(x_WFD), -1)).reshape(-1, *x_WFD.shape[1:])


mix_nodes.defvjp(
    lambda mix_VW, x_WFD: (mix_nodes(mix_VW, x_WFD), mix_VW),
    lambda mix_VW, d_VFD: (None, mix_nodes(mix_VW.T, d_VFD)),
)


def mix_neighbours(mix_VW: np.ndarray, x_WFD: Float[Array, "W F D"]) -> Float[Array, "V F D"]:
    """The same from the nodes alone that weigh something, for `mix_VW` known beforehand and mostly zero.

    Cheaper on CPU where the activations lie in its cache, since it is computed inside whatever uses it; its derived
    gradient is not.
    """
    near_VN = np.argsort(mix_VW == 0, axis=1, kind="stable")[:, : int((mix_VW != 0).sum(axis=1).max())]
    weight_NV11 = jnp.asarray(np.take_along_axis(mix_VW, near_VN, axis=1).T[..., None, None], x_WFD.dtype)
    return functools.reduce(jnp.add, (x_WFD[near_V] * weight_NV11[n] for n, near_V in enumerate(near_VN.T)))


def multiply(x_VFD: Float[Array, "V F D"], weight_DH: Float[Array, "D H"]) -> Float[Array, "V F H"]:
    """x W as one matrix product; on CPU its gradient is 1.4 times faster than that of the three-axis product."""
    x_ND = x_VFD.reshape(-1, x_VFD.shape[-1]).astype(weight_DH.dtype)
    return (x_ND @ weight_DH).reshape(*x_VFD.shape[:2], -1)


@jax.custom_vjp
def pool_nodes(x_VFH: Float[Array, "V F H"]) -> Float[Array, "F H2"]:
    """Mean beside maximum over the nodes of a frame. Of equal maxima (to rounding) the first gets the gradient.

    The gradient is written out: the derived one passes over all activations several times to share it among equals,
    where this is one expression that whatever comes before computes inside of its own.
    """
    return jnp.concatenate([x_VFH.mean(axis=0), x_VFH.max(axis=0)], axis=-1)


def _pool_forward(x_VFH):
    node_VFH = jax.lax.broadcasted_iota(jnp.int32, x_VFH.shape, 0)
    largest_FH = x_VFH.max(axis=0)
    # A compiler may compute what comes before once for the maximum and once for the comparison, and round otherwise.
    least_FH = largest_FH - ROUNDINGS * jnp.finfo(x_VFH.dtype).eps * jnp.abs(largest_FH)
    first_FH = jnp.min(jnp.where(x_VFH >= least_FH[None], node_VFH, len(x_VFH)), axis=0)
    return jnp.concatenate([x_VFH.mean(axis=0), largest_FH], axis=-1), (first_FH, jnp.zeros((len(x_VFH), 0)))


def _pool_backward(residuals, d_FH2):
    first_FH, nodes_V0 = residuals
    d_mean_FH, d_largest_FH = jnp.split(d_FH2, 2, axis=-1)
    node_VFH = jax.lax.broadcasted_iota(jnp.int32, (len(nodes_V0), *first_FH.shape), 0)
    return ((d_mean_FH / len(nodes_V0))[None] + jnp.where(node_VFH == first_FH[None], d_largest_FH[None], 0),)


pool_nodes.defvjp(_pool_forward, _pool_backward)


def _glorot(rngs: nnx.Rngs, fan_in: int, fan_out: int) -> nnx.Param:
    return nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (fan_in, fan_out)))


class FactoredGraphConv(nnx.Module):
    """A X W + b where X is a part per node and a part that is the same at every node of a frame.

    Exactly (A X_node) W_node + (A 1) (x_frame W_frame): the frame part is multiplied once a frame, not once a node.
    """

    def __init__(self, topology: Topology, node_features: int, frame_features: int, fan_out: int, *, rngs: nnx.Rngs):
        self.weight = _glorot(rngs, node_features + frame_features, fan_out)
        self.bias = nnx.Param(jnp.zeros(fan_out))
        self.topology = topology
        self.node_features = node_features

    def __call__(self, node_VFD: Float[Array, "V F Dn"], frame_FD: Float[Array, "F Df"]) -> Float[Array, "V F H"]:
        node_DH, frame_DH = jnp.split(self.weight[...], [self.node_features])
        node_VFD, frame_FD = node_VFD.astype(node_DH.dtype), frame_FD.astype(node_DH.dtype)
        propagation_VV = jnp.asarray(self.topology.propagation_VV)
        row_sums_V1 = propagation_VV.sum(axis=1, keepdims=True)
        from_nodes_VFH = multiply(mix_nodes(propagation_VV, node_VFD), node_DH)
        from_frame_VFH = mix_nodes(row_sums_V1, (frame_FD @ frame_DH)[None])
        return from_nodes_VFH + from_frame_VFH + self.bias[...][None, None]


class GraphConv(nnx.Module):
    """A X W + b (Kipf and Welling, ICLR 2017, eq. 2), multiplied in the cheaper order."""

    def __init__(self, topology: Topology, fan_in: int, fan_out: int, *, rngs: nnx.Rngs):
        self.weight = _glorot(rngs, fan_in, fan_out)
        self.bias = nnx.Param(jnp.zeros(fan_out))
        self.topology = topology

    def __call__(self, x_VFD: Float[Array, "V F D"], *, in_cache: bool = False) -> Float[Array, "V F H"]:
        """`in_cache` says that the activations fit into a CPU's cache."""
        fan_in, fan_out = self.weight.shape
        propagation_VV = self.topology.propagation_VV
        if in_cache:
            return mix_neighbours(propagation_VV, multiply(x_VFD, self.weight[...])) + self.bias[...][None, None]
        if fan_in < fan_out:
            return (
                multiply(mix_nodes(jnp.asarray(propagation_VV), x_VFD), self.weight[...]) + self.bias[...][None, None]
            )
        return mix_nodes(jnp.asarray(propagation_VV), multiply(x_VFD, self.weight[...])) + self.bias[...][None, None]


class GraphEncoder(nnx.Module):
    """Stacked graph convolutions, each with NormReluDropout; mean pool beside max pool over the nodes of a frame.

    The dropout rate grows with depth: min(0.7, p * (1 + 0.2 i / (L - 1))). `dropout_at` "nodes" drops behind every
    convolution, as the original did. Maxima over nodes, of which those that are kept are scaled up, and the variances
    that batch norms see are then larger in training than in inference, the more so the deeper (tests/test_graph.py).
    "frames" drops the pooled vector alone, at the last layer's rate.
    """

    def __init__(
        self,
        topology: Topology,
        sizes: tuple[int, int],
        hidden: int,
        layers: int,
        rate: Rate,
        *,
        norm: str = "batch",
        dropout_at: DropoutAt = "nodes",
        rngs: nnx.Rngs,
    ):
        self.first = FactoredGraphConv(topology, *sizes, hidden, rngs=rngs)
        self.convs = nnx.List([GraphConv(topology, hidden, hidden, rngs=rngs) for _ in range(layers - 1)])
        rates = [scaled_rate(rate, 1 + 0.2 * i / max(1, layers - 1), limit=0.7) for i in range(layers)]
        self.frame_rate = rates[-1] if dropout_at == "frames" else 0.0
        if dropout_at == "frames":
            rates = [0.0] * layers
        self.norms = nnx.List([NORMS[norm](hidden, rate=one, site=i) for i, one in enumerate(rates)])

    def __call__(
        self, features: Features, frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T Dout"]:
        frames_F = frames_BT.reshape(-1)
        node_FVD = features.node_BTVD.reshape(len(frames_F), *features.node_BTVD.shape[2:])
        frame_FD = features.frame_BTD.reshape(len(frames_F), -1)
        few = chunk_frames(len(frames_F), node_FVD.shape[1] * self.first.bias.shape[0])
        # Nothing but the statistics of training ties frames to each other.
        if key is None and few < len(frames_F):
            encode = functools.partial(self._encode, key=None, in_cache=True)
            pooled_FH = _in_chunks(encode, few, node_FVD, frame_FD, frames_F)
        else:
            pooled_FH = self._encode(node_FVD, frame_FD, frames_F, key=key, in_cache=False)
        if key is not None:
            pooled_FH = dropout(pooled_FH, dropout_seed(key, FRAME_SITE), self.frame_rate)
        return pooled_FH.reshape(*frames_BT.shape, -1)

    def _encode(self, node_FVD, frame_FD, frames_F, *, key, in_cache):
        x_VFH = self.norms[0](self.first(jnp.moveaxis(node_FVD, 1, 0), frame_FD), frames_F, key)
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            x_VFH = norm(conv(x_VFH, in_cache=in_cache), frames_F, key)
        return pool_nodes(x_VFH)


def chunk_frames(frames: int, numbers: int) -> int:
    """Frames to encode at a time in inference, where each has activations of so many numbers.

    On a CPU as many as the second-level cache holds: every product then finds its operand there. All of them on other
    devices, and where frames are split over several.
    """
    if not on_one_cpu():
        return frames
    chunks = -(-frames // max(1, CHUNK // numbers))
    return -(-frames // chunks)


def _in_chunks(function, few: int, *arrays_F):
    """`function` of arrays along frames, `few` frames at a time; the last chunk is filled up with zeros."""
    frames = len(arrays_F[0])
    chunks = -(-frames // few)

    def split(array_F):
        padded_F = jnp.pad(array_F, [(0, chunks * few - frames), *[(0, 0)] * (array_F.ndim - 1)])
        return padded_F.reshape(chunks, few, *array_F.shape[1:])

    out_NF = jax.lax.map(lambda chunk: function(*chunk), tuple(map(split, arrays_F)))
    return out_NF.reshape(-1, *out_NF.shape[2:])[:frames]
