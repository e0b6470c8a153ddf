"""Many runs in one program: each equals its solo run, whatever the others do; folds; statistics over runs."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
from tiny import changed, get_config

from jaxlip.config import Fold
from jaxlip.data.folds import Folds, Subset, read_corpus
from jaxlip.engine.loop import NonFiniteLoss, Trainer
from jaxlip.engine.own_numbers import differing_scalars
from jaxlip.engine.population import Population, together
from jaxlip.engine.run import RunFolder
from jaxlip.errors import Interrupted, UserError
from jaxlip.metrics.over_runs import over_runs
from jaxlip.metrics.scores import Draws, Score
from jaxlip.models.members import over_members
from jaxlip.report.population import compare
from jaxlip.report.saved import load_saved


def experiments():
    """Three members that differ in whatever may differ; a stops early, c has another fold."""
    base = changed(get_config(), train={"epochs": 3}, fold={"of": 3})
    other = {"task": {"model": dataclasses.replace(base.task.model, dropout=0.35), "label_smoothing": 0.05}}
    return [
        changed(base, name="a", train={"seed": 1, "patience": 1, "min_delta": 10.0}),
        changed(base, name="b", train={"seed": 2}, optim={"lr": 1e-3, "weight_decay": 1e-2}, **other),
        changed(base, name="c", train={"epochs": 4}, fold={"index": 2}),
    ]


@pytest.fixture(scope="module")
def folds():
    experiment = experiments()[0]
    return Folds.deal(experiment.task.corpus(experiment.data), experiment.fold)


def trainers(folds, runs, members=None):
    made = []
    for experiment in members or experiments():
        folder, corpus = RunFolder(runs / experiment.name), folds.fold(experiment.fold.index)
        if not folder.steps:
            folder.create(overwrite=False)
            folder.write_config(experiment, corpus.fingerprint, corpus.counts)
        made.append(Trainer(experiment, folder, corpus, like=made[0] if made else None))
        if folder.steps:
            made[-1].resume()
    return made


@pytest.fixture(scope="module")
def solo(folds, tmp_path_factory):
    runs = tmp_path_factory.mktemp("solo")
    # Not `a`, which b and c cover but for its early end.
    for trainer in trainers(folds, runs, experiments()[1:]):
        trainer.fit()
        trainer.checkpoints.close()
    return runs


@pytest.fixture(scope="module")
def population(folds, tmp_path_factory):
    runs = tmp_path_factory.mktemp("population")
    made = trainers(folds, runs)
    rows = Population(made, over=jax.vmap).fit()
    for trainer in made:
        trainer.checkpoints.close()
    return runs, rows


def assert_close(a, b):
    """Checkpoints and curves of two runs."""
    rows = [RunFolder(run).read_metrics() for run in (a, b)]
    assert [(row["step"], row["epoch"]) for row in rows[0]] == [(row["step"], row["epoch"]) for row in rows[1]]
    for x, y in zip(*rows, strict=True):
        assert x.keys() == y.keys()
        for name in x:
            # Validation uses running means that lag behind biases of gradient 0, which rounding moves (test_engine):
            # of 19 clips one may be read otherwise.
            tolerance = {"val/accuracy": 0.06, "val/loss": 2e-2}.get(name, 1e-4)
            np.testing.assert_allclose(x[name], y[name], rtol=1e-3, atol=tolerance, err_msg=name)
    for which in ("best", "latest"):
        saved = [load_saved(RunFolder(run), which) for run in (a, b)]
        assert saved[0].step == saved[1].step
        params = [jax.device_get(one.state.params) for one in saved]
        idle = {"graph.first.bias", "graph.convs.0.bias", "norm.bias", "classifier.hidden.bias"}
        for name in params[0].keys() - idle:
            np.testing.assert_allclose(params[0][name], params[1][name], atol=1e-3, err_msg=name)


@pytest.mark.parametrize("name", ["b", "c"])
def test_a_member_equals_its_solo_run(solo, population, name):
    runs, rows = population
    assert_close(runs / name, solo / name)
    assert RunFolder(runs / name).read_metrics()[-1] == rows["abc".index(name)]


@pytest.mark.parametrize("over", [over_members, jax.vmap])
def test_members_that_devices_share_out_equal_their_solo_runs(folds, solo, tmp_path, over):
    """Two members, two devices: each trains one."""
    made = trainers(folds, tmp_path, experiments()[1:])
    population = Population(made, over=over)
    assert population.mesh.axis_names == ("models",)
    one = population.states.params["norm.bias"].addressable_shards
    assert [shard.data.shape[0] for shard in one] == [1, 1]
    population.fit()
    for name, trainer in zip("bc", made, strict=True):
        trainer.checkpoints.close()
        assert_close(tmp_path / name, solo / name)


def test_members_end_by_themselves(population):
    runs, _ = population
    assert [len(RunFolder(runs / name).read_metrics()) for name in "abc"] == [2, 3, 4]


def test_a_signal_saves_all_and_they_resume_to_the_same_ends(folds, population, tmp_path, monkeypatch):
    made, advance, calls = trainers(folds, tmp_path), Trainer.advance, []

    def interrupted(self, *args, **kwargs):
        advance(self, *args, **kwargs)
        calls.append(self)
        if len(calls) == 11:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "advance", interrupted)
    with pytest.raises(Interrupted, match="stopped by SIGTERM with 3 of 3 runs going on, saved") as stop:
        Population(made).fit()
    assert stop.value.number == signal.SIGTERM
    assert [trainer.position.epoch for trainer in made] == [1, 1, 1] and all(t.position.dispatch for t in made)
    for trainer in made:
        trainer.checkpoints.close()
    monkeypatch.undo()
    made = trainers(folds, tmp_path)
    Population(made).fit()
    for trainer in made:
        trainer.checkpoints.close()
        assert_close(tmp_path / trainer.experiment.name, population[0] / trainer.experiment.name)


def test_a_loss_that_is_not_finite_ends_its_own_run_alone(folds, population, tmp_path):
    members = experiments()
    members[1] = changed(members[1], optim={"lr": 1e30})
    made = trainers(folds, tmp_path, members)
    with pytest.raises(NonFiniteLoss, match="^b: .*not finite"):
        Population(made).fit()
    for trainer in made:
        trainer.checkpoints.close()
    for name in "ac":
        assert_close(tmp_path / name, population[0] / name)


def test_folds_are_disjoint_by_speaker_and_cover_everything_once(folds):
    corpora = [folds.fold(index) for index in range(3)]
    held = [name for corpus in corpora for names in corpus.splits["val"].names for name in names]
    data = experiments()[0].task.corpus(experiments()[0].data)
    assert sorted(held) == sorted(n for split in ("train", "val") for ns in data.splits[split].names for n in ns)
    for corpus in corpora:
        owners = [{who for speakers in corpus.splits[split].speakers for who in speakers} for split in ("train", "val")]
        assert folds.by == "speaker" and owners[1] and not owners[0] & owners[1]
        assert corpus.splits["test"] is folds.corpus.splits["test"] and corpus.spec == folds.corpus.spec
        subset = corpus.splits["val"]
        assert isinstance(subset, Subset) and subset.whole is folds.pool
        for (bucket, rows_N), batch, names in zip(subset.rows, subset.buckets, subset.names, strict=True):
            assert names == tuple(folds.pool.names[bucket][row] for row in rows_N)
            np.testing.assert_array_equal(batch.landmarks_BTVC, folds.pool.buckets[bucket].landmarks_BTVC[rows_N])
    assert len({corpus.fingerprint for corpus in corpora}) == 3
    again = read_corpus(experiments()[2])
    assert again.fingerprint == corpora[2].fingerprint


def test_folds_go_by_clip_where_speakers_are_unknown(folds):
    unknown = {name: dataclasses.replace(split, speakers=()) for name, split in folds.corpus.splits.items()}
    dealt = Folds.deal(dataclasses.replace(folds.corpus, splits=unknown), Fold(of=30))
    assert dealt.by == "clip" and min(len(dealt.fold(index).splits["val"]) for index in (0, 29)) >= 1
    with pytest.raises(UserError, match="fold.of=1000 is more than there are clips"):
        Folds.deal(folds.corpus, Fold(of=1000))
    other = Folds.deal(folds.corpus, Fold(of=3, seed=1))
    assert any((a != b).any() for a, b in zip(other.fold_of, folds.fold_of, strict=True))


def test_what_may_not_differ_is_named():
    base = get_config()
    numbers = [changed(base, optim={"weight_decay": 0.1}), changed(base, name="b", train={"seed": 5, "epochs": 9})]
    assert differing_scalars(numbers) == ["optim.weight_decay"]
    for other in (changed(base, train={"batch": 4}), changed(base, data={"preset": "anatomical88"})):
        with pytest.raises(UserError, match=r"may not differ in (train\.batch|data\.preset) .*; train them apart"):
            differing_scalars([base, other])


def test_members_in_several_buckets_wait_for_each_other():
    plans = [[(bucket, np.full((2, 3), 10 * member + i), (member, i)) for i, bucket in enumerate(order)]
             for member, order in enumerate([(0, 1, 0), (1, 0), ()])]  # fmt: skip
    rounds = list(together(plans))
    assert [[part for part in round_.parts if part] for round_ in rounds] in (
        [[(0, 0)], [(0, 1), (1, 0)], [(0, 2), (1, 1)]],
        [[(1, 0)], [(0, 0), (1, 1)], [(0, 1)], [(0, 2)]],
    )
    for round_ in rounds:
        for member, part in enumerate(round_.parts):
            assert (round_.rows_M[member] == (10 * member + part[1] if part else -1)).all()


def scores(values, spread, groups="clips", seed=0):
    rng = np.random.default_rng(seed)
    draws_R = spread * rng.standard_normal(4000)
    return [
        Score(value=value, low=0.0, high=1.0, draws=Draws(values_R=value + draws_R, groups=groups)) for value in values
    ]


def test_spread_of_runs_against_closed_forms():
    values = np.random.default_rng(1).normal(0.5, 0.02, 12)
    found = over_runs(scores(values, 0.01))
    assert found.mean.value == pytest.approx(values.mean()) and found.sd == pytest.approx(values.std(ddof=1))
    # Independent parts of the variance add up: clips, and runs as of a mean of twelve.
    want = np.hypot(0.01, values.std(ddof=1) / np.sqrt(12))
    assert found.mean.draws.values_R.std() == pytest.approx(want, rel=0.05)
    assert found.mean.high - found.mean.low == pytest.approx(2 * 1.96 * want, rel=0.06)
    alone = over_runs(scores([0.5], 0.01))
    assert alone.sd == 0 and alone.mean.draws.values_R.std() == pytest.approx(0.01, rel=0.05)
    assert over_runs([Score(value=v, low=0.0, high=1.0) for v in (0.1, 0.3)]).mean.draws is None


def test_populations_are_compared_over_runs_and_clips():
    a = {"accuracy": over_runs(scores([0.50, 0.51, 0.49, 0.50], 0.05))}
    # Clips that are hard are hard for both: a difference far below the spread over clips is clear.
    b = {"accuracy": over_runs(scores([0.53, 0.54, 0.52, 0.53], 0.05), seed=1)}
    found = compare(a, b)["accuracy"]
    assert found.value == pytest.approx(0.03) and found.clear and 0.01 < found.low < found.high < 0.05
    noisy = {"accuracy": over_runs(scores([0.43, 0.63, 0.48, 0.58], 0.05), seed=1)}
    assert not compare(a, noisy)["accuracy"].clear
    with pytest.raises(UserError, match="not scored on the same clips"):
        compare(a, {"accuracy": over_runs(scores([0.5, 0.6], 0.05, groups="others"))})


def test_members_with_fewer_steps_an_epoch_have_shorter_dispatches():
    """As folds of users have, which are not of one size."""
    plans = [[(0, np.full((k, 2), k), k)] for k in (2, 3)]
    (only,) = together(plans)
    assert only.parts == (2, 3) and only.rows_M.shape == (2, 3, 2)
    np.testing.assert_array_equal(only.rows_M[0], [[2, 2], [2, 2], [-1, -1]])
    np.testing.assert_array_equal(only.rows_M[1], 3)
