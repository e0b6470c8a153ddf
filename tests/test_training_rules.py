"""Schedules, accumulation, averages, rates and initial values by name: against closed forms and whole batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import changed, get_config

from jaxlip.config import Experiment, Optim, Phase, Sampling, Train, from_json, to_json
from jaxlip.data.batches import epoch_plan
from jaxlip.engine.averages import plain_average
from jaxlip.engine.by_name import Initial, LayerRate, initialized
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.engine.sampling import sampling_weights
from jaxlip.engine.schedules import Constant, Cosine, Restarts, Warmup, schedule
from jaxlip.errors import UserError
from jaxlip.metrics.direction import higher_is_better
from jaxlip.models.base import Model

STEPS, PER_EPOCH = 100, 10


def rates(*factors, **fields):
    at = schedule(Optim(lr=2.0, schedule=factors, **fields), steps=STEPS, per_epoch=PER_EPOCH)
    return np.array([float(at(jnp.asarray(step))) for step in range(STEPS + 1)])


def test_factors_of_a_schedule_are_what_they_say():
    step = np.arange(STEPS + 1)
    np.testing.assert_allclose(rates(Constant(value=0.5)), 1.0)
    np.testing.assert_allclose(rates(Warmup(epochs=2.0)), 2 * np.minimum(step / 20, 1), rtol=1e-6)
    falling = 0.1 + 0.9 * (1 + np.cos(np.pi * np.clip((step - 20) / 80, 0, 1))) / 2
    np.testing.assert_allclose(rates(Cosine(final=0.1, start=2.0)), 2 * falling, rtol=1e-5)
    product = rates(Warmup(epochs=2.0), Cosine(final=0.1, start=2.0))
    np.testing.assert_allclose(product, 2 * falling * np.minimum(step / 20, 1), rtol=1e-5, atol=1e-7)


def test_restarts_begin_at_the_peak_and_grow():
    got = rates(Restarts(epochs=1.0, growth=2.0, final=0.0))
    # Periods of 10, 20, 40 and 80 steps.
    for first, length in ((0, 10), (10, 20), (30, 40)):
        part = np.arange(length) / length
        np.testing.assert_allclose(got[first : first + length], 1 + np.cos(np.pi * part), atol=1e-5)


def test_the_default_is_warmup_and_cosine_as_ever():
    at = schedule(Optim(lr=1e-3), steps=STEPS, per_epoch=PER_EPOCH)
    composed = rates(Warmup(), Cosine(start=2.0)) / 2 * 1e-3
    np.testing.assert_allclose([float(at(step)) for step in range(STEPS + 1)], composed, rtol=1e-5, atol=1e-9)


def test_configs_of_rules_go_through_json_and_old_ones_still_load():
    optim = Optim(schedule=(Warmup(epochs=3.0), Restarts()), rates=(LayerRate(names="graph.*"),), swa=0.25)
    assert from_json(to_json(optim)) == optim
    old = to_json(Optim())
    for field in ("swa", "schedule", "rates"):
        del old[field]
    assert from_json(old) == Optim()
    with pytest.raises(ValueError, match="swa"):
        Optim(average=0.9, swa=0.5)
    with pytest.raises(ValueError, match="accumulate"):
        Train(batch=32, accumulate=5)


def test_plain_average_is_the_mean_since_its_start():
    values = np.random.default_rng(0).normal(size=20).astype(np.float32)
    average = {"a": jnp.zeros(())}
    for step, value in enumerate(values):
        average = plain_average(average, {"a": jnp.asarray(value)}, 12, jnp.asarray(step))
        want = value if step < 12 else values[12 : step + 1].mean()
        assert float(average["a"]) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("name", ["accuracy", "span_accuracy", "val/ccc", "pearson", "valence_ccc"])
def test_scores_are_maximised(name):
    assert higher_is_better(name)


@pytest.mark.parametrize("name", ["loss", "token_error", "ctc", "wer", "rmse", "blank"])
def test_errors_are_minimised(name):
    assert not higher_is_better(name)


@pytest.fixture(scope="module")
def corpus():
    experiment = get_config()
    return experiment.task.corpus(experiment.data)


class Memory(RunFolder):
    """A folder that is never written."""


def stepped(experiment: Experiment, corpus, folder, *, model=None, steps=1):
    """State after some steps on the first batch, whose last row is no example."""
    trainer = Trainer(experiment, Memory(folder), corpus)
    program = dataclasses.replace(trainer.program, model=model(trainer.program.model)) if model else trainer.program
    rows_KB = np.tile(np.r_[np.arange(experiment.train.batch - 1), -1].astype(np.int32), (steps, 1))
    data = corpus.splits["train"].buckets[0]
    with jax.set_mesh(trainer.mesh):
        state, metrics = jax.jit(program.dispatch)(trainer.state, data, rows_KB, np.int32(steps), trainer.key)
    trainer.checkpoints.close()
    return jax.device_get(trainer.state), jax.device_get(state), jax.device_get(metrics)


def each_alone(model: Model) -> Model:
    """The model without dropout and with fixed batch statistics: what it says of an example depends on it alone."""
    return Model(model.init, lambda params, state, batch, key: (model.apply(params, state, batch, None)[0], state))


@pytest.mark.slow
@pytest.mark.parametrize("phases", [(), (Phase(start=0.0, others=1.0),)])
def test_accumulation_equals_the_whole_batch(corpus, tmp_path, phases):
    base = changed(get_config(), train={"batch": 8}, curriculum={"phases": phases, "adaptive": 0.5 * bool(phases)})
    parts = changed(base, train={"accumulate": 4})
    for optim in ({}, {"schedule": (Warmup(epochs=0.5), Restarts(epochs=1.0))}):
        _, whole, of_whole = stepped(changed(base, optim=optim), corpus, tmp_path, model=each_alone, steps=3)
        _, split, of_split = stepped(changed(parts, optim=optim), corpus, tmp_path, model=each_alone, steps=3)
        assert int(whole.step) == int(split.step) == 3
        for name in of_whole:
            np.testing.assert_allclose(of_split[name].value, of_whole[name].value, rtol=1e-4, err_msg=name)
        for name in whole.params:
            np.testing.assert_allclose(split.params[name], whole.params[name], atol=2e-5, err_msg=name)


def test_rates_by_name_freeze_and_slow_down_and_end(corpus, tmp_path):
    rules = (
        LayerRate(names="lstm.*"),
        LayerRate(names="classifier.out.*", factor=0.5),
        LayerRate(names="graph.*", epochs=1 / 6),
    )
    slow = changed(get_config(), optim={"rates": rules, "warmup_epochs": 0.0, "clip": 1e9})
    plain = changed(get_config(), optim={"warmup_epochs": 0.0, "clip": 1e9})
    before, once, _ = stepped(slow, corpus, tmp_path)
    _, same, _ = stepped(plain, corpus, tmp_path)
    moved = {name: once.params[name] - before.params[name] for name in once.params}
    free = {name: same.params[name] - before.params[name] for name in same.params}
    # A bias in front of a batch norm has gradient 0 but for rounding, which Adam blows up to whole steps.
    idle = {"graph.first.bias", "graph.convs.0.bias", "norm.bias", "classifier.hidden.bias"}
    for name in moved.keys() - idle:
        factor = 0.0 if name.startswith(("lstm.", "graph.")) else 0.5 if name.startswith("classifier.out.") else 1.0
        np.testing.assert_allclose(moved[name], factor * free[name], rtol=1e-3, atol=1e-7, err_msg=name)
    # The graph's rule was for a sixth of an epoch, one step.
    _, thrice, _ = stepped(slow, corpus, tmp_path, steps=3)
    assert np.abs(thrice.params["graph.first.weight"] - before.params["graph.first.weight"]).max() > 1e-4
    np.testing.assert_array_equal(
        thrice.params["lstm.layers.0.recurrent_weight"], before.params["lstm.layers.0.recurrent_weight"]
    )
    with pytest.raises(UserError, match=r"optim.rates names 'grpah.\*'"):
        Trainer(changed(slow, optim={"rates": (LayerRate(names="grpah.*"),)}), Memory(tmp_path), corpus)


def test_initial_values_by_name(corpus):
    model = get_config().task.build(corpus.spec)
    rules = (
        Initial(names="*.weight", scheme="he"),
        Initial(names="*.recurrent_weight", scheme="orthogonal", gain=2.0),
        Initial(names="classifier.hidden.kernel", scheme="orthogonal"),
    )
    params, _ = initialized(model, rules).init(jax.random.key(3))
    before, _ = model.init(jax.random.key(3))
    changed_names = {name for name in params if not np.array_equal(params[name], before[name])}
    assert changed_names == {n for n in params if n.endswith((".weight", ".recurrent_weight"))} | {
        "classifier.hidden.kernel"
    }
    recurrent_GHX = np.asarray(params["lstm.layers.1.recurrent_weight"], np.float64)
    for direction in recurrent_GHX:
        for gate in np.split(direction, 4, axis=-1):
            np.testing.assert_allclose(gate.T @ gate, 4 * np.eye(len(gate)), atol=1e-4)
    kernel = np.asarray(params["classifier.hidden.kernel"], np.float64)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(kernel.shape[1]), atol=1e-5)
    wide = initialized(Model(lambda key: ({"w": jnp.zeros((200, 300))}, {}), model.apply), rules[:0])
    assert wide.init(jax.random.key(0))[0]["w"].sum() == 0
    he = initialized(wide, (Initial(names="w", scheme="he"),)).init(jax.random.key(0))[0]["w"]
    assert float(he.std()) == pytest.approx((2 / 200) ** 0.5, rel=0.02)
    with pytest.raises(UserError, match="initial names 'bias'"):
        initialized(model, (Initial(names="bias"),))


def test_sampling_balances_groups_and_prefers_hard_ones(corpus, tmp_path):
    groups = [np.array([0] * 60 + [1] * 30), np.array([1] * 10 + [2] * 4)]
    balanced = sampling_weights(Sampling(balance=1.0), groups, 4, None)
    np.testing.assert_allclose(np.array(balanced)[:3] * [60, 40, 4], 1)
    recent_G = np.array([1.0, 3.0, 0.0, 0.0])
    # The third group's loss is not known: it counts as the mean, 2.
    np.testing.assert_allclose(sampling_weights(Sampling(hard=2.0), groups, 4, recent_G)[:3], np.array([1, 9, 4]) / 9)
    split = corpus.splits["train"]
    labels = np.asarray(split.buckets[0].target)
    weights = [np.where(labels == 2, 1.0, 0.0)]
    plans = [epoch_plan(split, batch=8, per_dispatch=2, seed=0, epoch=epoch, weights=weights) for epoch in (0, 0, 1)]
    rows = [np.concatenate([part.rows_KB[: part.steps].ravel() for part in plan]) for plan in plans]
    assert (labels[rows[0][rows[0] >= 0]] == 2).all() and (rows[0] >= 0).sum() == len(split)
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])


def test_hard_sampling_resumes_where_it_was(corpus, tmp_path):
    experiment = changed(get_config(), train={"epochs": 2, "sampling": Sampling(balance=0.5, hard=1.0)})
    RunFolder(tmp_path / "run").create(overwrite=False)
    trainer = Trainer(experiment, RunFolder(tmp_path / "run"), corpus)
    trainer.fit()
    trainer.checkpoints.close()
    again = Trainer(experiment, RunFolder(tmp_path / "run"), corpus)
    again.resume()
    assert (np.asarray(again.state.recent) > 0).all()
    assert again._sampling_weights() == trainer._sampling_weights() and len(set(again._sampling_weights())) > 1
    again.checkpoints.close()
