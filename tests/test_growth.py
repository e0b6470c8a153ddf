"""Widening keeps outputs; what was loaded, widened and new is said; phases run one after the other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_word_model import batch_of, small
from test_word_readers import CONFIGS
from tiny import changed, get_config

from jaxlip.cli.grow import from_nothing, in_turn
from jaxlip.cli.train import fit
from jaxlip.config import load_config
from jaxlip.engine.growth import grown
from jaxlip.errors import UserError
from jaxlip.models.pool import MeanPool
from jaxlip.models.spatial import Gcn, GraphAttention, LearnedGraph
from jaxlip.models.temporal import Lstm
from jaxlip.models.word_reader import WordReader


def reader(width, kind=Gcn):
    spatial = kind(hidden=width, layers=2, dropout=0.2)
    return WordReader(spatial=spatial, temporal=Lstm(hidden=width, layers=2, norm=False), hidden=width)


def noise(flat, seed):
    """Batch statistics that are not those of a fresh model."""
    keys = jax.random.split(jax.random.key(seed), len(flat))
    drawn = {name: 0.1 * jax.random.normal(key, flat[name].shape) for key, name in zip(keys, flat, strict=True)}
    return {
        name: value
        if value.dtype == jnp.int32
        else value + jnp.abs(drawn[name])
        if name.endswith("var")
        else drawn[name]
        for name, value in flat.items()
    }


@pytest.mark.parametrize("kind", [Gcn, functools.partial(GraphAttention, heads=2), LearnedGraph])
def test_widened_model_says_the_same(kind):
    spec = small()[3]
    batch = batch_of(spec)
    narrow, wide = (reader(width, kind).build(spec) for width in (6, 9))
    params, state = narrow.init(jax.random.key(0))
    state = noise(state, 1)
    fresh_params, fresh_state = wide.init(jax.random.key(2))
    new_params, growth = grown(fresh_params, params)
    new_state, _ = grown(fresh_state, state)
    assert not growth.new and not growth.unused and len(growth.widened) > 8
    want = jax.jit(narrow.apply)(params, state, batch, None)[0]
    got = jax.jit(wide.apply)(new_params, new_state, batch, None)[0]
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(got, want, atol=2e-5)
    # The new units can learn: their outgoing weights have a gradient.
    grads = jax.jit(jax.grad(lambda p: jnp.square(wide.apply(p, new_state, batch, None)[0]).sum()))(new_params)
    assert np.abs(grads["classifier.out.kernel"][6:]).max() > 1e-6


def test_what_cannot_be_taken_is_said():
    spec = small()[3]
    narrow = reader(6).build(spec)
    longer = dataclasses.replace(reader(6), spatial=Gcn(hidden=6, layers=3, dropout=0.2), pool=MeanPool(over="speech"))
    params, _ = narrow.init(jax.random.key(0))
    _, growth = grown(longer.build(spec).init(jax.random.key(1))[0], params)
    assert growth.new == (
        "spatial.graph.convs.1.bias",
        "spatial.graph.convs.1.weight",
        "spatial.graph.norms.2.bias",
        "spatial.graph.norms.2.scale",
    )
    assert any("new: spatial.graph.convs.1.bias" in line for line in growth.lines())
    fewer, growth = grown(params, longer.build(spec).init(jax.random.key(1))[0])
    assert len(growth.unused) == 4 and fewer.keys() == params.keys()


def test_phases_of_the_configs_follow_each_other():
    phases = in_turn([load_config(CONFIGS / f"grow_{width}.py") for width in (128, 160, 192)])
    assert [phase.init_from for phase in phases] == [None, "grow_128", "grow_160"]
    assert [phase.task.model.hidden for phase in phases] == [128, 160, 192]
    scratch = from_nothing(phases)
    assert scratch.init_from is None and scratch.train.epochs == sum(phase.train.epochs for phase in phases)
    with pytest.raises(UserError, match="names of their own"):
        in_turn([phases[0], phases[0]])


def test_a_run_begins_from_a_narrower_one_and_says_what_it_took(tmp_path, capsys):
    narrow = changed(get_config(), name="narrow", train={"epochs": 1})
    narrow = dataclasses.replace(narrow, task=dataclasses.replace(narrow.task, model=reader(6)))
    wide = dataclasses.replace(narrow, name="wide", init_from="narrow", grow=True)
    wide = dataclasses.replace(wide, task=dataclasses.replace(wide.task, model=reader(8)))
    for experiment in (narrow, wide):
        fit(experiment, tmp_path, resume=False, overwrite=False)
    said = capsys.readouterr().out
    assert "arrays widened: " in said and "0 arrays new" in said
