"""`jaxlip bench`: what it counts is what closed forms say, and its table and its JSON are the same numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.cli.bench import format_bench
from jaxlip.cli.bench import run as run_bench
from jaxlip.config import load_config
from jaxlip.errors import UserError
from jaxlip.report.bench import word_models
from jaxlip.report.roofline import Machine, Work, compile_and_count, least_seconds, measure_machine, what_binds


def test_a_product_is_counted_as_what_it_is():
    a_MK, b_KN = jnp.ones((64, 96)), jnp.ones((96, 128))
    compiled, asked = compile_and_count(jax.jit(jnp.matmul), a_MK, b_KN)
    np.testing.assert_array_equal(compiled(a_MK, b_KN), np.full((64, 128), 96))
    assert asked.flops == pytest.approx(2 * 64 * 96 * 128, rel=0.01)
    assert asked.bytes == pytest.approx(4 * (64 * 96 + 96 * 128 + 64 * 128), rel=0.01)


@pytest.mark.parametrize("within", [1, 5])
def test_loops_are_counted_as_often_as_they_run(within):
    weight_HH, x_TBH = jnp.ones((32, 32)), jnp.ones((11, 16, 32))

    def inner(h_BH, _):
        return h_BH @ weight_HH, None

    def outer(h_BH, x_BH):
        return jax.lax.scan(inner, h_BH + x_BH, None, length=within)[0], None

    def loss(x_TBH):
        return jax.lax.scan(outer, jnp.zeros((16, 32)), x_TBH)[0].sum()

    one = 2 * 16 * 32 * 32
    _, asked = compile_and_count(jax.jit(loss), x_TBH)
    assert asked.flops == pytest.approx(11 * within * one, rel=0.1)
    # Backwards there is as much again: the gradient of h, none of the weight, which is a constant here.
    _, asked = compile_and_count(jax.jit(jax.grad(loss)), x_TBH)
    assert 11 * within * one * 0.9 < asked.flops < 11 * within * one * 2.5


def test_rates_are_positive_and_what_binds_is_the_longer_of_the_two():
    machine = measure_machine("float32", budget=0.01)
    assert machine.copy_bytes > 1e6 and machine.matmul_flops > 1e6
    machine = Machine(dtype="float32", copy_bytes=10.0, matmul_flops=100.0)
    assert least_seconds(Work(flops=100.0, bytes=30.0), machine) == (3.0, 1.0)
    assert what_binds(Work(flops=100.0, bytes=30.0), machine, 4.0) == "memory"
    assert what_binds(Work(flops=900.0, bytes=30.0), machine, 10.0) == "arithmetic"
    assert what_binds(Work(flops=900.0, bytes=30.0), machine, 100.0) == "latency"


def test_models_are_those_of_the_configs():
    for name, experiment in word_models().items():
        assert experiment.task.model == load_config(f"configs/{name}.py").task.model


def test_what_is_printed_is_what_is_saved(tmp_path, capsys):
    config = tmp_path / "narrow.py"
    config.write_text(
        "import dataclasses\n"
        "from jaxlip.models.graph_lstm import GraphLstm\n"
        "from jaxlip.report.bench import word_models\n"
        "def get_config():\n"
        "    v4 = word_models()['v4']\n"
        "    return dataclasses.replace(v4, task=dataclasses.replace(v4.task, model=GraphLstm(hidden=4)))\n"
    )
    file = tmp_path / "bench.json"
    run_bench(["--quick", "--batch", "2", "--frames", "3", "--config", str(config), "--json", str(file)])
    out, err = capsys.readouterr()
    said = json.loads(file.read_text())
    assert out.strip() == format_bench(said)
    assert said["sizes"]["batch"] == 2 and said["sizes"]["frames"] == 3 and said["precision"] == "float32"
    assert [row["what"] for row in said["steps"]] == ["CTC T=75 K=28 N=32", "narrow training", "narrow inference"]
    assert "narrow: training" in err
    for row in said["steps"]:
        assert row["ms"] > 0 and row["clips_per_second"] == pytest.approx(2e3 / row["ms"], rel=0.05)
        assert row["gigaflops"] >= 0 and row["binds"] in ("memory", "arithmetic", "latency")
    training, inference = (row["gigaflops"] for row in said["steps"][1:])
    # The gradient of a product is two products.
    assert training > 1.5 * inference > 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--batch", "0"], "--batch 0 is not a number from 1 on"),
        (["--config", "configs/mheight_run2.py"], "only configs of words"),
        (["--precision", "float8"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line(arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        run_bench(arguments)
