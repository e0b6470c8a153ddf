"""Searches: spaces, trials as runs, and that nothing is lost or repeated by a kill."""

import dataclasses
import functools

import pytest
from tiny import changed, get_config

from jaxlip.engine.space import Choice, Range, parse_space
from jaxlip.errors import UserError

SPACE = ("optim.lr=1e-3:1e-2:log", "task.label_smoothing=0:0.3")


def experiment(**train):
    return changed(get_config(), name="found", train={"epochs": 2, **train})


def test_spaces_are_ranges_and_choices():
    texts = ["optim.lr=1e-4:1e-2:log", "train.batch=4:16", "task.model.hidden=8,16"]
    assert parse_space(texts, get_config()) == (
        Range(field="optim.lr", own=3e-3, low=1e-4, high=1e-2, log=True),
        Range(field="train.batch", own=8, low=4, high=16, whole=True),
        Choice(field="task.model.hidden", own="8", values=("8", "16")),
    )


def test_the_usual_space_holds_the_configs_own_values():
    space = parse_space([], get_config())
    fields = [part.field for part in space]
    assert fields == ["optim.lr", "optim.weight_decay", "task.model.dropout", "task.label_smoothing"]
    assert all(isinstance(part, Range) and part.low <= part.own <= part.high for part in space)


@pytest.mark.parametrize(
    "text, said",
    [
        ("optim.lrr=1:2", "no field of"),
        ("data.window=20:30", "no field of"),
        ("optim.lr=1:2", "leaves out the config's own value"),
        ("optim.lr=1:x", "must be numbers"),
        ("optim.lr=0:1:log", "begins above 0"),
        ("optim.lr=1:0", "must be FIELD="),
        ("optim.lr", "lr"),
        ("train.batch=1.5:9", "must be whole numbers"),
        ("train.batch=8,9,many", "batch"),
        ("optim.rates=1:2", "only numbers and names"),
    ],
)
def test_what_cannot_be_searched_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_space([text], get_config())


@pytest.fixture(scope="module")
def corpus():
    return get_config().task.corpus(get_config().data)


def search(folder, together=1, **train):
    pytest.importorskip("optuna", reason="needs the extra search")
    from jaxlip.engine.search import Search

    return Search(experiment(**train), parse_space(SPACE, experiment()), folder, pruned=False, together=together)


def told(study):
    return [(trial.number, trial.state.name, trial.params, trial.value) for trial in study.trials]


def killed_at(finder, step, corpus):
    """Runs a search until its trial 1 has logged an evaluation, and ends it as a kill does: nobody is told."""

    class Killed(BaseException):
        pass

    make = finder._trainers

    def trainers(*given):
        for made in make(*given):
            if made.folder.path.name == "trial-001":
                made.folder.append_metrics = functools.partial(append, made, made.folder.append_metrics)
            yield made

    def append(made, log, row):
        log(row)
        if row["epoch"] == step:
            made.checkpoints.wait()
            raise Killed

    finder._trainers = trainers
    with pytest.raises(Killed):
        list(finder.trials(corpus, 3))
    finder.close()


@pytest.mark.parametrize("together, before", [(1, ["COMPLETE", "RUNNING"]), (2, ["RUNNING", "RUNNING"])])
def test_a_killed_search_goes_on_as_if_it_had_not_been(corpus, tmp_path, together, before):
    whole = search(tmp_path / "whole", together)
    ended = list(whole.trials(corpus, 3))
    assert [trial.number for trial in ended] == [0, 1, 2] and all(t.state.name == "COMPLETE" for t in ended)
    assert ended[0].params == {"optim.lr": 3e-3, "task.label_smoothing": get_config().task.label_smoothing}
    assert whole.ranked()[0].value == min(trial.value for trial in ended)
    whole.close()
    halved = search(tmp_path / "halved", together)
    killed_at(halved, 2, corpus)
    assert [trial.state.name for trial in halved.study.trials] == before
    again = search(tmp_path / "halved", together)
    assert [trial.number for trial in again.trials(corpus, 3)] == [n for n in range(3) if n >= before.index("RUNNING")]
    assert [trial[:3] for trial in told(again.study)] == [trial[:3] for trial in told(whole.study)]
    for number in range(3):
        rows = [finder.run_folder(number).read_metrics() for finder in (again, whole)]
        for got, want in zip(*rows, strict=True):
            # Of two that were trained together one goes on alone, which rounds otherwise (see test_population.py).
            near = {name: 0 if together == 1 else 2e-2 if name.startswith("val/") else 1e-4 for name in want}
            assert got == {name: pytest.approx(value, abs=near[name], rel=near[name]) for name, value in want.items()}
    assert [trial.value for trial in again.study.trials] == [
        min(row["val/loss"] for row in again.run_folder(number).read_metrics()) for number in range(3)
    ]
    assert list(again.trials(corpus, 3)) == []
    with pytest.raises(UserError, match="another search is going on"):
        search(tmp_path / "halved")
    again.close()
    with pytest.raises(UserError, match="another config: train.epochs: 2 saved, 3"):
        search(tmp_path / "halved", epochs=3)


@pytest.mark.parametrize("together", [1, 2])
def test_a_trial_that_falls_behind_ends(corpus, tmp_path, together):
    finder = search(tmp_path / "one", together)
    optuna = finder.optuna

    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    finder.study.pruner = Always()
    ended = list(finder.trials(corpus, 2))
    assert [trial.state.name for trial in ended] == ["COMPLETE", "PRUNED"]
    assert [len(finder.run_folder(number).read_metrics()) for number in (0, 1)] == [2, 1]
    assert [trial.number for trial in finder.ranked()] == [0]
    finder.close()


def test_a_trial_whose_loss_is_not_finite_fails_alone(corpus, tmp_path):
    from jaxlip.engine.search import Search

    pytest.importorskip("optuna", reason="needs the extra search")
    wild = dataclasses.replace(experiment(), optim=dataclasses.replace(get_config().optim, lr=1e30, clip=1e30))
    finder = Search(wild, parse_space(["optim.lr=1e-3:1e31:log"], wild), tmp_path / "wild", pruned=False)
    (trial,) = finder.trials(corpus, 1)
    assert trial.state.name == "FAIL" and "not finite" in finder.run_folder(0).read_end()["failure"]
    finder.close()


def test_trials_of_other_shapes_are_trained_apart(corpus, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="needs the extra search")
    from jaxlip.engine import search as module

    space = parse_space(["optim.lr=1e-3:1e-2:log", "task.model.hidden=8,16"], experiment())
    finder = module.Search(experiment(epochs=1), space, tmp_path / "wide", pruned=False, together=4)
    groups = []
    fit_all = module.fit_all

    def noted(trainers):
        groups.append([trainer.experiment.task.model.hidden for trainer in trainers])
        return fit_all(trainers)

    monkeypatch.setattr(module, "fit_all", noted)
    ended = list(finder.trials(corpus, 4))
    assert sorted(trial.number for trial in ended) == [0, 1, 2, 3]
    assert len(groups) == 2 and all(len(set(group)) == 1 for group in groups) and len(groups[0] + groups[1]) == 4
    finder.close()


def test_numbers_that_python_asks_for_are_trained_one_after_the_other(corpus, tmp_path, capsys):
    """Whether clips are varied at all is not a number that a traced program may ask for."""
    pytest.importorskip("optuna", reason="needs the extra search")
    from jaxlip.engine.search import Search

    space = parse_space(["task.augment.warp=0:0.2"], experiment())
    finder = Search(experiment(epochs=1), space, tmp_path / "warp", pruned=False, together=2)
    assert [trial.state.name for trial in finder.trials(corpus, 2)] == ["COMPLETE", "COMPLETE"]
    assert "one after the other: runs that are trained together may not differ in task.augment.warp" in (
        capsys.readouterr().out
    )
    finder.close()
