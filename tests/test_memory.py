"""What a program needs of the device's memory is known before it runs."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from tiny import changed, get_config

from jaxlip.cli.train import fit
from jaxlip.engine import memory
from jaxlip.engine.memory import DoesNotFit, Measured, need_of

MIB = 2**20


def test_arguments_and_what_lies_between_are_counted():
    """64 MiB in, a scalar out; a product with itself of 64 MiB in between."""

    def function(x):
        return jnp.sin(x @ x).sum()

    need = need_of(jax.jit(function).lower(jnp.ones((4096, 4096))).compile())
    assert need is not None
    assert need.held == pytest.approx(64 * MIB, rel=0.01)
    assert 64 * MIB <= need.temporary <= 192 * MIB
    assert need.available is not None and need.available > 2**30
    assert re.fullmatch(r"memory: will need 0\.\d\d GiB \(.*\); .* has [\d.]+ GiB", need.line())


def test_donated_arguments_count_once():
    def grown(x):
        return x + 1

    plain, donated = (jax.jit(grown, **options) for options in ({}, {"donate_argnums": 0}))
    sizes = [need_of(function.lower(jnp.ones(2**20)).compile()) for function in (plain, donated)]
    assert [size.held / MIB for size in sizes if size] == pytest.approx([8, 4], abs=0.01)


def test_each_shape_is_compiled_once_and_said_where_it_needs_more():
    said = []
    measured = Measured(jax.jit(lambda x: x * 2), said.append)
    for size in (1000, 1000, 10, 100_000):
        measured(jnp.ones(size))
    assert len(measured) == 3 and len(said) == 2


def test_what_does_not_fit_says_what_to_change(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "available", lambda device: MIB)
    experiment = changed(get_config(), train={"epochs": 1})
    with pytest.raises(DoesNotFit, match=r"has 0\.0 GiB: it does not fit\. Fewer examples .*--train\.accumulate"):
        fit(dataclasses.replace(experiment, name="big"), tmp_path, resume=False, overwrite=False)


def test_a_run_says_what_it_will_need(tmp_path, capsys):
    fit(changed(get_config(), train={"epochs": 1}), tmp_path, resume=False, overwrite=False)
    assert len(re.findall(r"memory: will need \d+\.\d\d GiB", capsys.readouterr().out)) == 1


def test_running_out_of_memory_is_one_line():
    class Out:
        def lower(self, *arguments):
            return self

        compile = lower

        def memory_analysis(self):
            return None

        def __call__(self, *arguments):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5 bytes.")

    with pytest.raises(DoesNotFit, match="the device has run out of memory: it does not fit"):
        Measured(Out())(jnp.ones(1))
