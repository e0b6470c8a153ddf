"""Graph convolution against jraph and against float64 NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from flax import nnx

import jaxlip.models.graph as graph_module
from jaxlip.face.features import Features
from jaxlip.face.topology import build_topology
from jaxlip.models.graph import (
    FactoredGraphConv,
    GraphConv,
    GraphEncoder,
    chunk_frames,
    mix_neighbours,
    mix_nodes,
    multiply,
    pool_nodes,
)
from jaxlip.models.norm import EPSILON

TOPOLOGY = build_topology("lips40")
V, B, T = len(TOPOLOGY.ids), 2, 3
F = B * T


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("fan_in,fan_out", [(3, 7), (7, 3)])
def test_value_and_gradient_equal_jraph(fan_in, fan_out):
    conv = GraphConv(TOPOLOGY, fan_in, fan_out, rngs=nnx.Rngs(0))
    conv.bias[...] = normal(fan_out, seed=1)
    x_VFD, out_weight_VFH = normal(V, F, fan_in, seed=2), normal(V, F, fan_out, seed=3)
    graph, params = nnx.split(conv)

    def ours(params, x_VFD):
        return nnx.merge(graph, params)(x_VFD)

    def peer(params, x_VFD):
        # jraph counts degrees after adding self edges, as D^-1/2 (A + I) D^-1/2 does: no correction is needed. It
        # propagates whatever `update_node_fn` returns, so that the bias is added after it, not in it.
        layer = jraph.GraphConvolution(
            lambda x_VD: x_VD @ params["weight"][...], add_self_edges=True, symmetric_normalization=True
        )
        out_FVH = jax.vmap(lambda x_VD: layer(TOPOLOGY.to_jraph(x_VD)).nodes)(jnp.moveaxis(x_VFD, 1, 0))
        return jnp.moveaxis(out_FVH, 0, 1) + params["bias"][...][None, None]

    np.testing.assert_allclose(ours(params, x_VFD), peer(params, x_VFD), atol=2e-6)
    ours_d, peer_d = (
        jax.grad(lambda params, x, f=f: jnp.sum(f(params, x) * out_weight_VFH), (0, 1))(params, x_VFD)
        for f in (ours, peer)
    )
    for got, want in zip(jax.tree.leaves(ours_d), jax.tree.leaves(peer_d), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("fan_in,fan_out", [(3, 7), (7, 3)])
def test_value_equals_the_formula_in_float64(fan_in, fan_out):
    conv = GraphConv(TOPOLOGY, fan_in, fan_out, rngs=nnx.Rngs(0))
    conv.bias[...] = normal(fan_out, seed=1)
    x_VFD = normal(V, F, fan_in, seed=2)
    x, weight, bias = (np.asarray(a, np.float64) for a in (x_VFD, conv.weight[...], conv.bias[...]))
    want = np.stack([TOPOLOGY.propagation_VV.astype(np.float64) @ x[:, f] @ weight + bias for f in range(F)], axis=1)
    np.testing.assert_allclose(conv(x_VFD), want, atol=2e-6)


def test_mix_and_multiply_against_einsum_in_value_and_gradient():
    mix_VW, x_WFD, weight_DH = normal(4, 5, seed=1), normal(5, 3, 2, seed=2), normal(2, 6, seed=3)
    out_weight_VFH = normal(4, 3, 6, seed=4)

    def ours(x_WFD, weight_DH):
        return jnp.sum(multiply(mix_nodes(mix_VW, x_WFD), weight_DH) * out_weight_VFH)

    def plain(x_WFD, weight_DH):
        return jnp.sum(jnp.einsum("vw,wfd,dh->vfh", mix_VW, x_WFD, weight_DH) * out_weight_VFH)

    np.testing.assert_allclose(ours(x_WFD, weight_DH), plain(x_WFD, weight_DH), rtol=1e-5)
    got, want = (jax.grad(f, (0, 1))(x_WFD, weight_DH) for f in (ours, plain))
    np.testing.assert_allclose(got[0], want[0], atol=1e-5)
    np.testing.assert_allclose(got[1], want[1], atol=1e-5)


def test_neighbours_alone_say_what_all_nodes_do():
    x_VFD = normal(V, F, 5, seed=1)
    want_VFD = mix_nodes(jnp.asarray(TOPOLOGY.propagation_VV), x_VFD)
    np.testing.assert_allclose(mix_neighbours(TOPOLOGY.propagation_VV, x_VFD), want_VFD, atol=1e-6)
    # Rows without anything, and with everything.
    mix_VW = np.array([[0, 0, 0], [1, 2, 3], [0, 4, 0]], np.float32)
    want_VFD = np.einsum("vw,wfd->vfd", mix_VW, x_VFD[:3])
    np.testing.assert_allclose(mix_neighbours(mix_VW, x_VFD[:3]), want_VFD, atol=1e-5)


def test_factored_equals_dense_in_value_and_gradient():
    nodes, frames, fan_out = 3, 28, 6
    features = Features(normal(B, T, V, nodes, seed=1), normal(B, T, frames, seed=2))
    factored = FactoredGraphConv(TOPOLOGY, nodes, frames, fan_out, rngs=nnx.Rngs(0))
    dense = GraphConv(TOPOLOGY, nodes + frames, fan_out, rngs=nnx.Rngs(1))
    dense.weight[...] = factored.weight[...]
    dense.bias[...] = factored.bias[...] = normal(fan_out, seed=3)
    out_weight_VFH = normal(V, F, fan_out, seed=4)
    node_VFD = jnp.moveaxis(features.node_BTVD.reshape(F, V, nodes), 1, 0)
    frame_FD = features.frame_BTD.reshape(F, frames)
    x_VFD = jnp.moveaxis(features.dense().reshape(F, V, nodes + frames), 1, 0)
    np.testing.assert_allclose(factored(node_VFD, frame_FD), dense(x_VFD), atol=5e-6)

    def gradient(module, *inputs):
        graph, params = nnx.split(module)
        return jax.grad(lambda params: jnp.sum(nnx.merge(graph, params)(*inputs) * out_weight_VFH))(params)

    got, want = gradient(factored, node_VFD, frame_FD), gradient(dense, x_VFD)
    for name in ("weight", "bias"):
        np.testing.assert_allclose(got[name][...], want[name][...], rtol=1e-4, atol=1e-4)


def rewired(edge, other):
    assert edge in TOPOLOGY.edges and other not in TOPOLOGY.edges
    return dataclasses.replace(TOPOLOGY, edges=tuple(sorted({*TOPOLOGY.edges} - {edge} | {other})))


def test_an_edge_that_moves_changes_its_ends_and_their_neighbours_only():
    far = next((0, w) for w in reversed(range(V)) if (0, w) not in TOPOLOGY.edges)
    near = next(edge for edge in TOPOLOGY.edges if edge[0] == 0 and len(TOPOLOGY.neighbours[edge[1]]) > 4)
    x_VFD = normal(V, F, 3)
    here = GraphConv(TOPOLOGY, 3, 5, rngs=nnx.Rngs(0))(x_VFD)
    there = GraphConv(rewired(near, far), 3, 5, rngs=nnx.Rngs(0))(x_VFD)
    changed = set(np.flatnonzero(np.abs(np.asarray(here - there)).max(axis=(1, 2)) > 1e-6).tolist())
    ends = {0, near[1], far[1]}
    reach = ends.union(*(TOPOLOGY.neighbours[v] for v in (near[1], far[1])))
    assert ends <= changed <= reach


def encoder(layers=2, hidden=8, dropout=0.2, dropout_at="nodes"):
    return GraphEncoder(TOPOLOGY, (3, 4), hidden, layers, dropout, dropout_at=dropout_at, rngs=nnx.Rngs(0))


FRAMES_BT = jnp.array([[True, True, False], [True, False, False]])


@pytest.mark.parametrize("key", [None, jax.random.key(5)])
def test_masked_frames_change_no_real_frame(key):
    features = Features(normal(B, T, V, 3, seed=1), normal(B, T, 4, seed=2))
    junk = Features(
        jnp.where(FRAMES_BT[..., None, None], features.node_BTVD, 1e5),
        jnp.where(FRAMES_BT[..., None], features.frame_BTD, -1e5),
    )
    want, got = encoder()(features, FRAMES_BT, key), encoder()(junk, FRAMES_BT, key)
    assert want.shape == (B, T, 16)
    np.testing.assert_allclose(got[FRAMES_BT], want[FRAMES_BT], atol=1e-6)


def test_mean_and_max_over_nodes_in_float64():
    module = encoder(layers=1)
    node_BTVD, frame_BTD = normal(B, T, V, 3, seed=1), normal(B, T, 4, seed=2)
    got = module(Features(node_BTVD, frame_BTD), FRAMES_BT, None)
    weight = np.asarray(module.first.weight[...], np.float64)
    x_BTVD = np.asarray(Features(node_BTVD, frame_BTD).dense(), np.float64)
    z_BTVH = np.einsum("vw,btwd,dh->btvh", TOPOLOGY.propagation_VV.astype(np.float64), x_BTVD, weight)
    # A fresh norm has running mean 0 and variance 1.
    out_BTVH = np.maximum(z_BTVH / np.sqrt(1 + EPSILON), 0)
    want = np.concatenate([out_BTVH.mean(axis=2), out_BTVH.max(axis=2)], axis=-1)
    np.testing.assert_allclose(got, want * np.asarray(FRAMES_BT)[..., None], atol=5e-6)


@pytest.mark.parametrize("few", [1, 2, 4, 5])
def test_chunks_of_frames_are_encoded_as_all_together(few, monkeypatch):
    features = Features(normal(B, T, V, 3, seed=1), normal(B, T, 4, seed=2))

    def encode(numbers):
        monkeypatch.setattr(graph_module, "CHUNK", numbers)
        graph, params, state = nnx.split(encoder(layers=3), nnx.Param, ...)
        run = jax.jit(lambda params: nnx.merge(graph, params, state)(features, FRAMES_BT, None))
        return jax.tree.leaves((run(params), jax.grad(lambda params: jnp.sum(run(params) ** 2))(params)))

    whole, chunked = encode(2**30), encode(few * V * 8)
    for got, want in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_chunks_are_even_and_fit():
    for frames, numbers in ((928, 88 * 192), (1, 10), (29, 2**20), (1000, 88)):
        few = chunk_frames(frames, numbers)
        assert 1 <= few <= frames and (few == 1 or few * numbers <= graph_module.CHUNK)
        assert few * -(-frames // few) - frames < -(-frames // few)


def test_a_frame_is_encoded_alone():
    module = encoder()
    features = Features(normal(B, T, V, 3, seed=1), normal(B, T, 4, seed=2))
    whole = module(features, jnp.ones((B, T), bool), None)
    alone = module(Features(features.node_BTVD[:, 1:2], features.frame_BTD[:, 1:2]), jnp.ones((B, 1), bool), None)
    np.testing.assert_allclose(alone[:, 0], whole[:, 1], atol=1e-6)


@pytest.mark.parametrize("dropout,rates", [(0.5, [0.5, 0.55, 0.6]), (0.65, [0.65, 0.7, 0.7]), (0.0, [0.0, 0.0, 0.0])])
def test_dropout_grows_with_depth(dropout, rates):
    np.testing.assert_allclose([norm.rate for norm in encoder(layers=3, dropout=dropout).norms], rates)


@pytest.mark.parametrize("dropout_at, least, most", [("frames", 0.97, 1.03), ("nodes", 2.0, 10.0)])
def test_training_shows_the_next_layer_what_inference_will(dropout_at, least, most):
    module = encoder(layers=3, dropout=0.5, dropout_at=dropout_at)
    features, real_BT = Features(normal(B, T, V, 3, seed=1), normal(B, T, 4, seed=2)), jnp.ones((B, T), bool)
    graph, state = nnx.split(module)

    def trained(state, key):
        module = nnx.merge(graph, state)
        out_BTD = module(features, real_BT, key)
        return nnx.state(module), out_BTD[..., 8:].mean()

    state, maxima_N = jax.lax.scan(trained, state, jax.random.split(jax.random.key(3), 400))
    inferred = nnx.merge(graph, state)(features, real_BT, None)[..., 8:].mean()
    assert least < maxima_N[100:].mean() / inferred < most


def test_pooling_is_mean_beside_maximum_and_so_is_its_gradient():
    x_VFH, wanted_FH2 = normal(V, F, 5), normal(F, 10, seed=1)

    def plain(x_VFH):
        return jnp.concatenate([x_VFH.mean(axis=0), x_VFH.max(axis=0)], axis=-1)

    np.testing.assert_array_equal(pool_nodes(x_VFH), plain(x_VFH))
    ours, derived = (jax.grad(lambda x, f=f: jnp.sum(f(x) * wanted_FH2))(x_VFH) for f in (pool_nodes, plain))
    np.testing.assert_allclose(ours, derived, rtol=1e-6, atol=1e-7)


def test_the_first_of_equal_maxima_gets_the_gradient():
    x_VFH = jnp.ones((4, 1, 1))
    gradient = jax.grad(lambda x: pool_nodes(x)[0, 1])(x_VFH)
    np.testing.assert_array_equal(gradient.ravel(), [1, 0, 0, 0])


def test_pooling_in_half_precision_stays_there():
    x_VFH = normal(V, F, 5).astype(jnp.bfloat16)
    assert pool_nodes(x_VFH).dtype == jnp.bfloat16
    assert jax.grad(lambda x: pool_nodes(x).astype(jnp.float32).sum())(x_VFH).dtype == jnp.bfloat16
