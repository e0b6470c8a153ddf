"""Graph convolutions whose weights between nodes are learned: by attention along the edges, or each by itself.

Node-major [V, F, H] as in `graph.py`, with edges as a dense mask: on 88 nodes that is faster than gathering.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxlip.face.topology import Topology
from jaxlip.models.attention import masked_softmax
from jaxlip.models.graph import multiply

SLOPE = 0.2


class GraphAttentionConv(nnx.Module):
    """Heads side by side, each the nodes weighted by softmax_w(LeakyReLU(a_to . W x_v + a_from . W x_w)) over the
    neighbours w of v and v itself (Velickovic et al., ICLR 2018, eq. 3 and 5)."""

    def __init__(self, topology: Topology, fan_in: int, fan_out: int, heads: int, *, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()
        self.weight = nnx.Param(glorot(rngs.params(), (fan_in, heads * fan_out)))
        self.attend_from = nnx.Param(glorot(rngs.params(), (fan_out, heads)))
        self.attend_to = nnx.Param(glorot(rngs.params(), (fan_out, heads)))
        self.bias = nnx.Param(jnp.zeros(heads * fan_out))
        self.topology = topology

    def __call__(self, x_VFD: Float[Array, "V F D"]) -> Float[Array, "V F H"]:
        fan_out, heads = self.attend_from.shape
        x_VFGH = multiply(x_VFD, self.weight[...]).reshape(*x_VFD.shape[:2], heads, fan_out)
        from_WFG = jnp.einsum("wfgh,hg->wfg", x_VFGH, self.attend_from[...])
        to_VFG = jnp.einsum("vfgh,hg->vfg", x_VFGH, self.attend_to[...])
        edges_VW11 = (self.topology.propagation_VV > 0)[:, :, None, None]
        score_VWFG = jax.nn.leaky_relu(to_VFG[:, None] + from_WFG[None], SLOPE)
        weight_VWFG = masked_softmax(score_VWFG, edges_VW11, axis=1)
        mixed_VFGH = jnp.einsum("vwfg,wfgh->vfgh", weight_VWFG, x_VFGH)
        return mixed_VFGH.reshape(*x_VFD.shape[:2], -1) + self.bias[...][None, None]


class LearnedGraphConv(nnx.Module):
    """(A + B) X W + b with a learned B, zero at first, between any two nodes (Shi et al., CVPR 2019, sec. 4.1)."""

    def __init__(self, topology: Topology, fan_in: int, fan_out: int, *, rngs: nnx.Rngs):
        self.weight = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (fan_in, fan_out)))
        self.bias = nnx.Param(jnp.zeros(fan_out))
        self.links = nnx.Param(jnp.zeros(topology.propagation_VV.shape))
        self.topology = topology

    def __call__(self, x_VFD: Float[Array, "V F D"]) -> Float[Array, "V F H"]:
        links_VW = self.links[...]
        mix_VW = jnp.asarray(self.topology.propagation_VV, links_VW.dtype) + links_VW
        return jnp.einsum("vw,wfh->vfh", mix_VW, multiply(x_VFD, self.weight[...])) + self.bias[...][None, None]
