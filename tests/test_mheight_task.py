"""Grouped regression of m-heights: endless data with exact labels, models and their symmetries, scores by hand."""

import dataclasses
import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.cli import evaluate
from jaxlip.cli.main import guarded
from jaxlip.cli.train import fit
from jaxlip.config import Curriculum, Experiment, GroupWeight, Optim, Phase, Train, from_json, load_config, to_json
from jaxlip.data.codes import CodeBatch, CodeRecipe, Codes, code_shapes, load_codes
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.grouped_regression import grouped_regression_scores
from jaxlip.mheight import heights
from jaxlip.mheight.features import form_features, linear_probe
from jaxlip.models.expert_heights import ExpertHeights
from jaxlip.models.height_outputs import HeightOutputs
from jaxlip.models.learned_minors import LearnedMinors
from jaxlip.models.learned_sweep import LearnedSweep, column_norms
from jaxlip.models.mixture import imbalance
from jaxlip.tasks.mheight import MHeight

SMALL = Codes(n=5, groups=((2, 2), (2, 3), (3, 2)), train=64, val=24, test=24)
CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("mheight_*.py"))


def made(data: Codes, numbers, seed=0) -> CodeBatch:
    recipe = CodeRecipe(seed=np.uint32(seed), data=data)
    return jax.device_get(jax.jit(CodeRecipe.make)(recipe, jnp.asarray(numbers)))


def test_labels_are_exact_infinite_ones_weigh_nothing_and_numbers_give_the_same_codes():
    data = dataclasses.replace(SMALL, integers=0.0, scaled=1.0, reals=1.0, normal=1.0)
    batch = made(data, np.arange(400))
    for i, k in enumerate((2, 3)):
        exact = heights(batch.matrices[i].astype(np.float64))
        for g, (group_k, m) in enumerate(SMALL.groups):
            if group_k == k:
                finite = np.isfinite(exact[:, m - 1])
                np.testing.assert_array_equal(batch.weight_BG[:, g] > 0, finite)
                np.testing.assert_allclose(batch.log2_BG[finite, g], np.log2(exact[finite, m - 1]), rtol=2e-6)
    assert 0 < (batch.weight_BG == 0).sum() < 100
    kinds = [np.abs(batch.matrices[0] - np.round(batch.matrices[0])).max(axis=(1, 2)) == 0]
    assert 0.2 < np.mean(kinds) < 0.45
    again = made(data, [399, 7])
    np.testing.assert_array_equal(again.matrices[1], batch.matrices[1][[399, 7]])
    assert not np.array_equal(made(data, [7], seed=1).matrices[0], again.matrices[0][1:])


def test_splits_are_apart_and_fixed_ones_count_groups_alike():
    corpus = load_codes(SMALL)
    contents = [
        {P.tobytes() for P in corpus.splits[name].take(0, np.arange(24)).matrices[0]}
        for name in ("train", "val", "test")
    ]
    assert all(len(content) == 24 for content in contents) and len(set.union(*contents)) == 72
    np.testing.assert_allclose(corpus.splits["test"].buckets[0].weight_BG.sum(axis=0), 24, rtol=1e-5)
    assert corpus.fingerprint == load_codes(SMALL).fingerprint
    assert corpus.fingerprint != load_codes(dataclasses.replace(SMALL, seed=1)).fingerprint
    with pytest.raises(UserError, match="a matrix is in"):
        load_codes(dataclasses.replace(SMALL, n=2, groups=((1, 1),), train=400))


@pytest.mark.parametrize("model", [LearnedMinors(width=8), LearnedSweep(width=8)], ids=lambda m: type(m).__name__)
def test_models_do_not_change_with_order_and_signs(model):
    data = Codes(n=6, groups=((2, 3), (3, 2), (3, 3)))
    batch = made(data, np.arange(4))
    built = model.build(code_shapes(data))
    params, state = built.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    moved = []
    for P in batch.matrices:
        P = P[:, rng.permutation(P.shape[1])][:, :, rng.permutation(P.shape[2])]
        moved.append(P * rng.choice([-1, 1], (4, P.shape[1], 1)) * rng.choice([-1, 1], (4, 1, P.shape[2])))
    apply = jax.jit(lambda batch: built.apply(params, state, batch, None)[0].log2_BG)
    want, got = (
        apply(batch),
        apply(
            dataclasses.replace(
                batch, entries_BD=np.concatenate([P.reshape(4, -1) for P in moved], 1).astype(np.float32)
            )
        ),
    )
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert want.shape == (4, 3) and np.ptp(want[:, 0]) > 0


def test_forms_are_those_of_every_basis():
    P = np.random.default_rng(3).normal(size=(1, 3, 2))
    G = np.concatenate([np.eye(3), P[0]], axis=1)
    largest, norms = [], {}
    for T in itertools.combinations(range(5), 3):
        form = np.abs(np.linalg.solve(G[:, T], G[:, [j for j in range(5) if j not in T]]))
        largest.append(max(form.max(), 1.0))
        norms |= {(T, j): norm for j, norm in zip(sorted({*range(5)} - {*T}), form.sum(axis=0), strict=True)}
    found = form_features(P)
    np.testing.assert_allclose(found[0], np.sort(np.log2(largest)), atol=1e-9)
    pairs = [(tuple(i for i in U if i != j), j) for U in itertools.combinations(range(5), 4) for j in U]
    with jax.enable_x64(True):
        wanted = np.log2(np.maximum([norms[pair] for pair in pairs], 1))
        np.testing.assert_allclose(column_norms(jnp.asarray(P))[:, 0], wanted, atol=1e-9)


def test_probe_beats_the_mean():
    data = dataclasses.replace(SMALL, train=600)
    known, asked = made(data, np.arange(600)), made(data, np.arange(200), seed=1)
    guess_BG = linear_probe(known.matrices, known.log2_BG, known.weight_BG, asked.matrices, data.groups)
    for g in range(3):
        used = asked.weight_BG[:, g] > 0
        assert np.mean((guess_BG[used, g] - asked.log2_BG[used, g]) ** 2) < 0.5 * asked.log2_BG[used, g].var()


def test_scores_are_means_of_groups_beside_floors_and_another_run():
    truth = np.array([[0.0, 1.0], [2.0, 0.0], [4.0, 0.0]])
    known = np.array([[True, True], [True, False], [True, False]])
    scores = grouped_regression_scores(
        truth + np.array([[1.0, 3.0], [0.0, 9.0], [1.0, 9.0]]),
        truth,
        known,
        groups=("a", "b"),
        floors={"group mean": np.array([[2.0, 1.0]]), "probe": truth},
        previous={"a": 1.0, "b": 8.0, "all": 4.0},
    )
    assert scores.scores["mse"].value == pytest.approx((2 / 3 + 9) / 2)
    assert scores.scores["mse"].floor == pytest.approx((8 / 3 + 0) / 2)
    a, b, every = scores.tables["groups"]
    assert a["mse"] == pytest.approx(2 / 3) and a["change"] == pytest.approx(2 / 3 - 1) and a["hard"] == ""
    assert b["rows"] == 1 and b["probe"] == 0 and every["rows"] == 4
    np.testing.assert_array_equal(scores.pairs["b"][0], [1.0])


def test_mixtures_report_loads_and_pay_for_uneven_ones():
    assert float(imbalance(jnp.full(4, 0.25))) == pytest.approx(1)
    assert float(imbalance(jnp.array([1.0, 0, 0, 0]))) == pytest.approx(4)
    task = MHeight(model=ExpertHeights(width=8, heads=2), balance=0.5)
    spec, batch = code_shapes(SMALL), made(SMALL, np.arange(3))
    batch = dataclasses.replace(batch, examples_B=np.array([True, True, False]))
    model = task.build(spec)
    params, state = model.init(jax.random.key(0))
    outputs, _ = jax.jit(model.apply)(params, state, batch, jax.random.key(1))
    metrics = task.metrics(outputs, batch, train=True)
    loads = [metrics[f"load/{e}"].result() for e in range(4)]
    assert sum(loads) == pytest.approx(1, rel=1e-5)
    assert metrics["penalty"].result() == pytest.approx(0.5 * 4 * np.square(loads).sum(), rel=1e-5)
    square = np.square(np.asarray(outputs.log2_BG) - batch.log2_BG)[:2]
    weight = batch.weight_BG[:2]
    assert metrics["loss"].result() == pytest.approx((square * weight).sum() / weight.sum(), rel=1e-5)
    assert task.advice({"load/0": 0.99, "load/1": 0.01}) is not None and task.advice({"loss": 1.0}) is None
    robust = dataclasses.replace(task, huber=1.0)
    far = HeightOutputs(jnp.asarray(batch.log2_BG) + 3, None)
    np.testing.assert_allclose(robust.grouped_loss(far, batch, spec).loss_N, 5.0, rtol=1e-5)


def test_a_run_learns_under_a_curriculum_and_is_scored(tmp_path, capsys):
    phases = (Phase(weights=(GroupWeight(groups=("k2m2",)),)), Phase(start=2.0, others=1.0))
    experiment = Experiment(
        name="codes",
        data=dataclasses.replace(SMALL, train=640),
        task=MHeight(model=LearnedSweep(width=8)),
        optim=Optim(lr=1e-2, warmup_epochs=0.5),
        train=Train(epochs=6, batch=32, steps_per_dispatch=5),
        curriculum=Curriculum(phases=phases),
    )
    fit(experiment, tmp_path, resume=False, overwrite=False, checked=True)
    rows = RunFolder(tmp_path / "codes").read_metrics()
    assert rows[0]["train/group_weight/k2m3"] == 0 and rows[3]["train/group_weight/k2m3"] == 1
    assert guarded(evaluate.run, ["--run", "codes", "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "linear probe" in said and (tmp_path / "codes/scatter_test.png").is_file()
    assert rows[-1]["val/loss"] < 0.5


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_build_and_travel(path):
    experiment = load_config(path)
    assert from_json(to_json(experiment)) == experiment
    params, _ = experiment.task.build(experiment.task.shape_spec(experiment.data)).shapes()
    assert params


@pytest.mark.parametrize("bad", [{"n": 17}, {"groups": ((5, 2), (4, 2))}, {"integers": 0.0}, {"val": 0}])
def test_codes_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        Codes(**bad)
