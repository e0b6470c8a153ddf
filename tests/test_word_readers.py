"""Word readers that configs put together: counts, any stage with any other, attention and gates against NumPy."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_word_model import B, T, batch_of

from jaxlip.config import load_config
from jaxlip.models.gated_branches import GatedBranches
from jaxlip.models.pool import AttentionPool, MeanPool
from jaxlip.models.spatial import Gcn, GraphAttention, Landmarks, LearnedGraph
from jaxlip.models.temporal import Chain, Convolutions, Lstm, Transformer
from jaxlip.models.word_reader import WordReader
from jaxlip.report.parameters import parameter_table

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
SPATIAL = {
    "gcn": Gcn(hidden=6, dropout=0.2),
    "gcn layer norm": Gcn(hidden=6, dropout=0.2, norm="layer"),
    "attention": GraphAttention(hidden=4, heads=2, layers=2, dropout=0.2),
    "learned": LearnedGraph(hidden=6, dropout=0.2),
    "landmarks": Landmarks(width=8),
}
TEMPORAL = {
    "lstm": Lstm(hidden=4, layers=1, dropout=0.2),
    "transformer": Transformer(width=8, heads=2, layers=1, feed_forward=12),
    "convolutions": Convolutions(width=8, blocks=2, kernel=3),
    "chain": Chain(first=Convolutions(width=6, blocks=1, kernel=3), second=Lstm(hidden=4, layers=1)),
}


@pytest.mark.parametrize(("name", "trainable", "buffers"), [("v1", 33_212_519, 7_175), ("v5", 5_876_325, None)])
def test_parameter_counts(name, trainable, buffers):
    experiment = load_config(CONFIGS / f"{name}.py")
    table = parameter_table(experiment.task.build(experiment.task.shape_spec(experiment.data)))
    assert table["trainable"] == trainable
    assert buffers is None or table["buffers"] == buffers


def spec_of(model):
    experiment = load_config(CONFIGS / "v4.py")
    task = dataclasses.replace(experiment.task, model=model)
    return task, task.shape_spec(dataclasses.replace(experiment.data, preset="lips40"))


def padded(batch, more):
    wide = {
        name: jnp.pad(getattr(batch, name), [(0, 0), (0, more)] + [(0, 0)] * (getattr(batch, name).ndim - 2))
        for name in ("landmarks_BTVC", "frames_BT", "detected_BT", "speech_BT")
    }
    return dataclasses.replace(batch, **wide)


# Each stage once, with a partner that another pair tests too; all pairs build.
@pytest.mark.parametrize(
    ("spatial", "temporal", "pool"),
    [
        ("gcn", "lstm", MeanPool(over="speech")),
        ("gcn layer norm", "transformer", AttentionPool(hidden=4)),
        ("attention", "convolutions", MeanPool()),
        ("learned", "chain", AttentionPool(hidden=4)),
        ("landmarks", "transformer", MeanPool()),
    ],
)
def test_readers_train_and_ignore_padding_and_batch_mates(spatial, temporal, pool):
    reader = WordReader(spatial=SPATIAL[spatial], temporal=TEMPORAL[temporal], pool=pool, hidden=6, dropout=0.2)
    task, spec = spec_of(reader)
    model, batch = task.build(spec), batch_of(spec)
    params, state = jax.jit(model.init)(jax.random.key(0))
    answer = jax.jit(lambda batch: model.apply(params, state, batch, None)[0])
    logits_BK = answer(batch)
    np.testing.assert_allclose(answer(padded(batch, 4)), logits_BK, atol=1e-4)
    swapped = jax.tree.map(lambda array: array[::-1], batch)
    np.testing.assert_allclose(answer(swapped)[::-1], logits_BK, atol=1e-4)

    def loss(params):
        outputs, _ = model.apply(params, state, batch, jax.random.key(1))
        return task.metrics(outputs, batch, train=True)["loss"].value

    grads = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(grad).all() for grad in grads.values())
    # A bias in front of a batch norm or of a softmax moves nothing.
    idle = {name for name, grad in grads.items() if not np.abs(grad).max() > 0}
    assert all(name.endswith("bias") for name in idle), idle


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("temporal", TEMPORAL)
def test_any_spatial_stage_goes_with_any_temporal_one(spatial, temporal):
    task, spec = spec_of(WordReader(spatial=SPATIAL[spatial], temporal=TEMPORAL[temporal], hidden=6))
    params, _ = task.build(spec).shapes()
    assert params["classifier.out.kernel"].shape == (6, 100)


def test_graph_attention_is_that_of_the_paper():
    from flax import nnx

    from jaxlip.models.graph_attention import GraphAttentionConv

    _, spec = spec_of(WordReader())
    topology, heads, fan_out = spec.topology, 2, 3
    conv = GraphAttentionConv(topology, 5, fan_out, heads, rngs=nnx.Rngs(0))
    nodes = len(topology.ids)
    x_VFD = np.random.default_rng(0).normal(size=(nodes, 2, 5))
    got = np.asarray(conv(jnp.asarray(x_VFD, jnp.float32)))
    weight, to, from_ = (np.asarray(p[...], np.float64) for p in (conv.weight, conv.attend_to, conv.attend_from))
    for frame in range(2):
        h = (x_VFD[:, frame] @ weight).reshape(nodes, heads, fan_out)
        for v in (0, 7, nodes - 1):
            around = sorted({v, *topology.neighbours[v]})
            for head in range(heads):
                score = np.array([to[:, head] @ h[v, head] + from_[:, head] @ h[w, head] for w in around])
                score = np.where(score > 0, score, 0.2 * score)
                part = np.exp(score - score.max())
                want = (part / part.sum()) @ h[around, head]
                np.testing.assert_allclose(got[v, frame, head * fan_out : (head + 1) * fan_out], want, atol=1e-5)


def test_gates_are_logged_and_a_collapsed_one_is_named():
    sizes = {"graph_layers": 2, "lstm_layers": 1, "attention_layers": 1, "heads": 2, "feed_forward": 8}
    task, spec = spec_of(GatedBranches(hidden=8, dropout=0.2, **sizes))
    model, batch = task.build(spec), batch_of(spec)
    params, state = jax.jit(model.init)(jax.random.key(0))
    apply = jax.jit(lambda batch: model.apply(params, state, batch, None)[0])
    outputs = apply(batch)
    np.testing.assert_allclose(apply(padded(batch, 4)).logits_BK, outputs.logits_BK, atol=1e-4)
    metrics = task.metrics(outputs, batch, train=False)
    gate_BG = np.asarray(outputs.gate_BG, np.float64)
    np.testing.assert_allclose(gate_BG.sum(axis=1), 1, atol=1e-6)
    for branch in range(3):
        assert float(metrics[f"gate/{branch}"].value) == pytest.approx(gate_BG[:, branch].mean(), abs=1e-5)
    entropy = -(gate_BG * np.log(gate_BG)).sum(axis=1).mean() / np.log(3)
    assert float(metrics["gate_entropy"].value) == pytest.approx(entropy, abs=1e-5)
    balanced = dataclasses.replace(task, gate_balance=0.5)
    assert "penalty" not in task.metrics(outputs, batch, train=True) | balanced.metrics(outputs, batch, train=False)
    penalty = balanced.metrics(outputs, batch, train=True)["penalty"].value
    assert float(penalty) == pytest.approx(0.5 * 3 * (gate_BG.mean(axis=0) ** 2).sum(), rel=1e-5)
    assert "one branch" in task.advice({"gate/0": 0.01, "gate/1": 0.98, "gate/2": 0.01})
    # Each clip to one branch, but not all to the same.
    assert task.advice({"gate/0": 0.2, "gate/1": 0.3, "gate/2": 0.5, "gate_entropy": 0.01}) is None
    assert task.advice({"loss": 1.0}) is None


def test_transformer_layer_equals_pytorch():
    torch = pytest.importorskip("torch", reason="needs the extra peers")
    from flax import nnx

    from jaxlip.models.transformer import EncoderLayer

    width, heads, wide = 8, 2, 12
    ours = EncoderLayer(width, heads, wide, 0.0, site=0, rngs=nnx.Rngs(0))
    theirs = torch.nn.TransformerEncoderLayer(width, heads, wide, 0.0, batch_first=True).eval()

    def give(parameter, value):
        parameter.data = torch.tensor(np.asarray(value))

    attention = theirs.self_attn
    give(attention.in_proj_weight, ours.query_key_value.kernel[...].T)
    give(attention.out_proj.weight, ours.out.kernel[...].T)
    give(theirs.linear1.weight, ours.expand.kernel[...].T)
    give(theirs.linear2.weight, ours.contract.kernel[...].T)
    for zero in (attention.in_proj_bias, attention.out_proj.bias, theirs.linear1.bias, theirs.linear2.bias):
        zero.data.zero_()
    x_BTD = np.random.default_rng(0).normal(size=(B, T, width)).astype(np.float32)
    frames_BT = np.arange(T) < np.array([9, 6, 4])[:, None]
    with torch.no_grad():
        want = theirs(torch.tensor(x_BTD), src_key_padding_mask=torch.tensor(~frames_BT)).numpy()
    got = np.asarray(ours(jnp.asarray(x_BTD), jnp.asarray(frames_BT), None))
    np.testing.assert_allclose(got[frames_BT], want[frames_BT], atol=1e-5)
