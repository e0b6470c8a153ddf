"""Mixed precision: what is computed in half, what stays, and that float16 survives its overflows."""

import collections
import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import source_info_util
from tiny import changed, get_config

from jaxlip.cli.train import fit
from jaxlip.config import load_config
from jaxlip.data.codes import Codes
from jaxlip.data.face import FaceData
from jaxlip.data.signs import SignData
from jaxlip.data.sources.user_series import UserSeries
from jaxlip.data.sources.visemes import Visemes
from jaxlip.engine.loop import Trainer
from jaxlip.engine.precision import FIRST_SCALE, GROWTH_STEPS, LossScale, computing_in, precision_of
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.preflight.probe import Probe
from jaxlip.report.saved import load_saved

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
# One of every kind of model; the others share their layers.
KINDS = ("v4", "v5", "words_best", "grid_ctc", "affect_v34", "mheight_run4")
MORE_KINDS = ("v1", "sign_best", "sign_ctc", "affect_best")


def small(name):
    """A shipped config on a little of the built-in data."""
    experiment = load_config(CONFIGS / f"{name}.py")
    data, task = experiment.data, experiment.task
    if isinstance(data, FaceData):
        sizes = {"words": 4, "train": 16, "val": 8, "test": 8}
        data = dataclasses.replace(data, source="visemes", visemes=dataclasses.replace(data.visemes, **sizes))
    elif isinstance(data, SignData):
        few = dataclasses.replace(data.glosses, glosses=6, longest=3, train=16, val=6, test=6)
        data = dataclasses.replace(data, source="glosses", glosses=few)
    elif isinstance(data, Codes):
        data = dataclasses.replace(data, train=64, val=64, test=64)
    else:
        data = dataclasses.replace(data, user_series=UserSeries(users=9, entries=8))
    task = dataclasses.replace(task, **({"members": 1} if hasattr(task, "members") else {}))
    return dataclasses.replace(experiment, data=data, task=task)


def products(jaxpr):
    """(dtypes of both sides, place in the source) of every matrix product and convolution."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
            frame = source_info_util.summarize(eqn.source_info)
            yield tuple(var.aval.dtype.name for var in eqn.invars), frame
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_program):
            if _program(inner):
                yield from products(getattr(inner, "jaxpr", inner))


def _program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.mark.parametrize("name", [*KINDS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_KINDS)])
def test_every_product_of_a_model_is_in_half_precision(name):
    """Forwards and backwards; features of landmarks are computed before it, in float32."""
    experiment = small(name)
    probe = Probe(experiment, experiment.task.corpus(experiment.data))  # type: ignore[attr-defined]
    model = computing_in(probe.model, "bfloat16")
    params, state = jax.eval_shape(probe.model.init, jax.random.key(0))

    def loss(params, state, batch, key):
        return sum(x.astype(jnp.float32).sum() for x in jax.tree.leaves(model.apply(params, state, batch, key)[0]))

    program = jax.make_jaxpr(jax.grad(loss))(params, state, probe.batch, jax.random.key(0))
    seen = collections.Counter(products(program.jaxpr))
    assert seen
    exact = {place for dtypes, place in seen if set(dtypes) != {"bfloat16"}}
    assert {place for place in exact if "/face/" not in place and "/holistic/" not in place} == set()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_outputs_and_state_are_float32_and_near_those_of_float32(precision):
    experiment = get_config()
    probe = Probe(experiment, experiment.task.corpus(experiment.data))  # type: ignore[attr-defined]
    key = jax.random.key(0)
    exact, exact_state = jax.jit(probe.model.apply)(*probe.start, probe.batch, key)
    half, half_state = jax.jit(computing_in(probe.model, precision).apply)(*probe.start, probe.batch, key)
    assert half.dtype == jnp.float32
    assert {leaf.dtype for leaf in half_state.values()} == {leaf.dtype for leaf in exact_state.values()}
    tolerance = 0.1 if precision == "bfloat16" else 0.02
    np.testing.assert_allclose(half, exact, atol=tolerance)
    for name in exact_state:
        np.testing.assert_allclose(half_state[name], exact_state[name], atol=tolerance)
    assert np.abs(np.asarray(half) - np.asarray(exact)).max() > 0


def test_the_scale_halves_with_every_overflow_and_grows_after_enough_good_steps():
    scale = dataclasses.replace(LossScale.first(), good=jnp.asarray(GROWTH_STEPS - 2, jnp.int32))
    good, bad = jnp.asarray(True), jnp.asarray(False)
    values = []
    for finite in (good, good, bad, bad, good):
        scale = scale.after(finite)
        values.append(float(scale.value) / FIRST_SCALE)
    assert values == [1, 2, 1, 0.5, 0.5]
    assert int(scale.good) == 1
    lowest = LossScale(jnp.asarray(1.0), jnp.asarray(0)).after(bad)
    assert float(lowest.value) == 1 and bool(lowest.exhausted)


@dataclasses.dataclass(frozen=True)
class _Device:
    platform: str
    compute_capability: str | None = None


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (_Device("cpu"), "float32"),
        (_Device("gpu", "7.5"), "float16"),
        (_Device("gpu", "8.0"), "bfloat16"),
        (_Device("gpu", "9.0"), "bfloat16"),
        (_Device("gpu", "10.0"), "bfloat16"),
        (_Device("tpu"), "bfloat16"),
    ],
)
def test_auto_asks_the_device(device, expected):
    assert precision_of("auto", device) == expected
    assert precision_of("float32", device) == "float32"


def trained(folder, precision):
    """Rows of a run that learns a few clips by heart."""
    experiment = changed(
        get_config(),
        data={"visemes": Visemes(words=3, train=24, val=6, test=6)},
        task={"model": GraphLstm(hidden=16, dropout=0.0), "label_smoothing": 0.0},
        optim={"lr": 1e-2},
        train={"precision": precision, "epochs": 20, "batch": 12, "eval_epochs": 20},
    )
    fit(dataclasses.replace(experiment, name=precision), folder, resume=False, overwrite=False)
    return RunFolder(folder / precision).read_metrics()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {name: trained(folder, name) for name in ("float32", "bfloat16", "float16")}


@pytest.mark.slow
def test_every_precision_learns_by_heart(runs):
    assert {name: rows[-1]["train/accuracy"] for name, rows in runs.items()} == pytest.approx(
        dict.fromkeys(runs, 1.0), abs=0.05
    )


@pytest.mark.slow
def test_float16_logs_its_scale(runs):
    assert runs["float16"][-1]["train/loss_scale"] >= 1
    assert 0 <= runs["float16"][-1]["train/overflows"] < 1
    assert "train/loss_scale" not in runs["bfloat16"][-1]


def trainer(tmp_path, scale):
    experiment = changed(get_config(), train={"precision": "float16", "epochs": 1})
    folder = RunFolder(tmp_path / "run")
    corpus = experiment.task.corpus(experiment.data)  # type: ignore[attr-defined]
    folder.create(overwrite=True)
    folder.write_config(experiment, corpus.fingerprint, corpus.counts)
    made = Trainer(experiment, folder, corpus)
    first = dataclasses.replace(made.state.scale, value=jnp.asarray(scale, jnp.float32))
    made.state = dataclasses.replace(made.state, scale=jax.device_put(first, made.state.step.sharding))
    return made


def test_overflow_is_survived(tmp_path):
    """From a scale that float16 gradients cannot bear: the first steps move nothing, then training goes on."""
    made = trainer(tmp_path, 2.0**17)
    before = jax.device_get(made.state.params)
    row = made.fit()
    assert 0 < row["train/overflows"] < 1
    assert row["train/loss_scale"] < 2.0**17
    assert np.isfinite(row["train/loss"]) and np.isfinite(row["val/loss"])
    after = jax.device_get(made.state.params)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any((after[name] != before[name]).any() for name in after)
    assert int(made.state.bad_step) == -1


def test_a_loss_that_no_scale_saves_is_named(tmp_path):
    made = trainer(tmp_path, 4.0)
    nan = {name: jnp.full_like(value, jnp.nan) for name, value in made.state.params.items()}
    made.state = dataclasses.replace(made.state, params=nan)
    with pytest.raises(UserError, match="not finite at step 2"):
        made.fit()


def test_the_scale_is_resumed(tmp_path):
    made = trainer(tmp_path, 2.0**20)
    made.fit()
    scale, step = float(made.state.scale.value), made.checkpoints.latest
    assert step is not None
    again = made.checkpoints.state(step, made.state)
    assert float(again.scale.value) == scale != FIRST_SCALE
    made.checkpoints.close()
    assert load_saved(made.folder).step == step
    assert json.loads(made.folder.config.read_text())["experiment"]["train"]["precision"] == "float16"
