"""The whole word reader: parameter counts, padding, batch order, and that every input reaches the output."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.config import load_config
from jaxlip.data.batches import FaceBatch
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.report.parameters import parameter_table

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
COUNTS = {"v2": 3_453_796, "v3": 858_212, "v3_resume": 858_212, "v4": 1_913_956}
B, T = 3, 9


def small(pool="frames", preset="lips40"):
    """A small V4 with random batch statistics, and its spec."""
    experiment = load_config(CONFIGS / "v4.py")
    data = dataclasses.replace(experiment.data, preset=preset)
    task = dataclasses.replace(experiment.task, model=GraphLstm(hidden=8, dropout=0.3, pool=pool))
    spec = task.shape_spec(data)
    model = task.build(spec)
    params, state = jax.jit(model.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), len(state))
    state = {
        name: value if value.dtype == jnp.int32 else jnp.abs(jax.random.normal(k, value.shape)) + 0.1
        for k, (name, value) in zip(keys, state.items(), strict=True)
    }
    return model, params, state, spec


def batch_of(spec, lengths=(9, 6, 4), seed=0):
    rng = np.random.default_rng(seed)
    frames_BT = np.arange(T) < np.array(lengths)[:, None]
    return FaceBatch(
        landmarks_BTVC=jnp.asarray(rng.normal(size=(B, T, len(spec.input.ids), 3)), jnp.float32),
        frames_BT=jnp.asarray(frames_BT),
        detected_BT=jnp.asarray(frames_BT & (rng.random((B, T)) < 0.8)),
        speech_BT=jnp.asarray(frames_BT & (np.arange(T) % 3 == 1)),
        target=jnp.arange(B, dtype=jnp.int32),
        examples_B=jnp.ones(B, bool),
    )


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts(name, count):
    experiment = load_config(CONFIGS / f"{name}.py")
    table = parameter_table(experiment.task.build(experiment.task.shape_spec(experiment.data)))
    assert table["trainable"] == count == sum(m["trainable"] for m in table["modules"].values())
    assert table["buffers"] == sum(m["buffers"] for m in table["modules"].values()) > 0
    json.dumps(table)


def test_hyper_parameters_of_the_table():
    rows = {
        "v2": (256, 3, 1e-3, 64, 0.5, 2e-4, 0.1, 50, 0.0),
        "v3": (128, 2, 5e-4, 32, 0.7, 1e-3, 0.2, 30, 0.0),
        "v3_resume": (128, 2, 5e-4, 32, 0.65, 7e-4, 0.15, 70, 0.0),
        "v4": (192, 2, 7.5e-4, 32, 0.6, 5e-4, 0.15, 50, 5e-4),
    }
    for name, want in rows.items():
        e = load_config(CONFIGS / f"{name}.py")
        model, optim, train = e.task.model, e.optim, e.train
        size = (model.hidden, model.graph_layers, optim.lr, train.batch, model.dropout)
        assert (*size, optim.weight_decay, e.task.label_smoothing, train.patience, train.min_delta) == want
    assert load_config(CONFIGS / "v3_resume.py").init_from == "v3"


@pytest.mark.parametrize("pool", ["frames", "speech"])
def test_padding_changes_neither_output_nor_gradient(pool):
    model, params, state, spec = small(pool)
    batch = batch_of(spec)
    padded = dataclasses.replace(
        batch,
        **{name: jnp.pad(getattr(batch, name), ((0, 2), (0, 5))) for name in ("frames_BT", "detected_BT", "speech_BT")},
        # Junk where nothing is real.
        landmarks_BTVC=jnp.pad(batch.landmarks_BTVC, ((0, 2), (0, 5), (0, 0), (0, 0)), constant_values=1e3),
        target=jnp.pad(batch.target, (0, 2)),
        examples_B=jnp.pad(batch.examples_B, (0, 2)),
    )

    def loss(params, batch, key):
        logits_BK, new_state = model.apply(params, state, batch, key)
        return jnp.sum(logits_BK[:B] ** 2), (logits_BK[:B], new_state)

    for key in (None, jax.random.key(2)):
        if key is not None:
            # Dropout depends on the position in the padded batch: compare without it.
            model = GraphLstm(hidden=8, dropout=0.0, pool=pool).build(spec)
        grad = jax.jit(jax.grad(loss, has_aux=True))
        (g1, (out1, state1)), (g2, (out2, state2)) = grad(params, batch, key), grad(params, padded, key)
        np.testing.assert_allclose(out1, out2, rtol=1e-4, atol=1e-5)
        for name in params:
            # Biases in front of a batch norm have no gradient but rounding, which was 1.1e-4 on one core.
            np.testing.assert_allclose(g1[name], g2[name], rtol=2e-3, atol=3e-4, err_msg=name)
        for name in state:
            np.testing.assert_allclose(state1[name], state2[name], rtol=1e-4, err_msg=name)


def test_order_of_the_batch_does_not_matter():
    model, params, state, spec = small()
    batch = batch_of(spec)
    order = jnp.array([2, 0, 1])
    shuffled = jax.tree.map(lambda array: array[order], batch)
    apply = jax.jit(lambda batch: model.apply(params, state, batch, None)[0])
    np.testing.assert_allclose(apply(batch)[order], apply(shuffled), rtol=1e-5, atol=1e-6)
    alone = jax.tree.map(lambda array: array[:1], batch)
    np.testing.assert_allclose(apply(alone)[0], apply(batch)[0], rtol=1e-5, atol=1e-6)


def perturbed(batch, field):
    value = getattr(batch, field)
    if field == "landmarks_BTVC":
        return dataclasses.replace(batch, landmarks_BTVC=value.at[0, 3, 5, 1].add(0.5))
    return dataclasses.replace(batch, **{field: value.at[0, 4].set(~value[0, 4])})


@pytest.mark.parametrize("pool", ["frames", "speech"])
@pytest.mark.parametrize("field", ["landmarks_BTVC", "frames_BT", "detected_BT", "speech_BT"])
def test_every_input_reaches_the_output(pool, field):
    model, params, state, spec = small(pool)
    batch = batch_of(spec)
    before = model.apply(params, state, batch, None)[0]
    after = model.apply(params, state, perturbed(batch, field), None)[0]
    assert float(jnp.abs(before[0] - after[0]).max()) > 1e-4
    np.testing.assert_allclose(before[1:], after[1:], rtol=1e-5, atol=1e-6)


def test_every_landmark_that_is_stored_reaches_the_output():
    model, params, state, spec = small(preset="lips40")
    batch = batch_of(spec)
    sensitivity = jax.jit(
        jax.grad(lambda x: jnp.sum(model.apply(params, state, dataclasses.replace(batch, landmarks_BTVC=x), None)[0]))
    )(batch.landmarks_BTVC)
    assert np.isfinite(sensitivity).all()
    assert (np.abs(sensitivity[0]).max(axis=(0, 2)) > 0).all()


def test_edges_reach_the_output():
    model, params, state, spec = small()
    other = dataclasses.replace(spec.topology, edges=spec.topology.edges[1:])
    rewired = GraphLstm(hidden=8, dropout=0.3).build(dataclasses.replace(spec, topology=other))
    batch = batch_of(spec)
    gap = model.apply(params, state, batch, None)[0] - rewired.apply(params, state, batch, None)[0]
    assert float(jnp.abs(gap).max()) > 1e-5


def test_dropout_is_on_in_training_only_and_follows_the_key():
    model, params, state, spec = small()
    batch = batch_of(spec)
    run = jax.jit(lambda key: model.apply(params, state, batch, key)[0])
    first, again, other = run(jax.random.key(3)), run(jax.random.key(3)), run(jax.random.key(4))
    np.testing.assert_array_equal(first, again)
    assert float(jnp.abs(first - other).max()) > 1e-3
    np.testing.assert_array_equal(
        model.apply(params, state, batch, None)[1]["graph.norms.0.mean"], state["graph.norms.0.mean"]
    )
