"""Commands as a person types them: tables, overrides, and one line with exit code 2 for every mistake."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from tiny import changed, get_config

from jaxlip.cli import evaluate, params, train
from jaxlip.cli.main import guarded
from jaxlip.config import Experiment, Target, differences, from_json, load_config, override, to_json
from jaxlip.data.face import FaceData
from jaxlip.engine.loop import FREE_ON_RESUME, NonFiniteLoss
from jaxlip.errors import UserError

REPOSITORY = pathlib.Path(__file__).parents[1]
TINY = str(pathlib.Path(__file__).with_name("tiny.py"))
V4 = str(REPOSITORY / "configs/v4.py")


def fails(capsys, command, *arguments) -> str:
    """The one line of a command that must fail."""
    assert guarded(command, arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("jaxlip: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A trained tiny run."""
    folder = tmp_path_factory.mktemp("runs")
    train.fit(get_config(), folder, resume=False, overwrite=False, reported=True)
    return folder


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--config", "configs/nope.py"], "config file configs/nope.py does not exist"),
        ([], "--config"),
        (["--config", V4, "--optim.lrr", "1"], "did you mean --optim.lr?"),
        (["--config", V4, "--task.model.hiden", "1"], "did you mean --task.model.hidden?"),
        (["--config", V4, "--optim.lr", "fast"], "fast"),
        (["--config", V4, "--optim.lr", "-1"], "Optim.lr=-1.0 must be positive"),
        (["--config", V4, "--optim.clip", "inf"], "optim.clip=inf is not a finite number"),
        (["--config", V4, "--train.seed", "-1"], "Train.seed=-1 must be from 0"),
        (["--config", V4, "--data.source", "tv"], "FaceData.source='tv' must be one of visemes, grid"),
        (["--config", V4, "--data.preset", "nose"], "must be one of lips40"),
        (["--config", V4, "--name", "a/b"], "Experiment.name='a/b'"),
        (["--config", V4, "--resume", "--overwrite"], "exclude each other"),
        (["--config", V4, "--resume", "--name", "nowhere"], "holds no run to resume"),
        (["--config", V4, "--data.source", "grid"], "data.root is not set"),
        (["--config", V4, "--data.root", "GRID"], "add --data.source grid"),
        (["--config", V4, "--data.source", "grid", "--data.root", "no/such"], "data.root=no/such is not a folder"),
        (["--config", V4, "--task.augment.flip", "0.5"], "preset anatomical88 cannot be flipped"),
        (["--config", V4, "--init_from", "nobody"], "there is no run 'nobody'"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in fails(capsys, train.run, *arguments)


def test_empty_folder_and_broken_config(capsys, tmp_path):
    (tmp_path / "landmarks").mkdir()
    said = fails(capsys, train.run, "--config", V4, "--data.source", "grid", "--data.root", str(tmp_path))
    assert "no landmark files" in said
    for text, says in (
        ("x = (", "is not Python"),
        ("x = 1", "no get_config()"),
        ("def get_config():\n    return 1 / 0", "ZeroDivisionError"),
        ("import nothing_here", "nothing_here"),
    ):
        (tmp_path / "c.py").write_text(text)
        assert says in fails(capsys, train.run, "--config", str(tmp_path / "c.py"))


def test_params_table_and_json(capsys):
    params.run(["--config", V4, "--json"])
    table = json.loads(capsys.readouterr().out)
    assert table["trainable"] == 1_913_956 and set(table) == {"trainable", "buffers", "modules"}
    params.run(["--config", V4, "--task.model.hidden", "128"])
    assert "858,212" in capsys.readouterr().out


def test_help_lists_fields_with_their_meaning(capsys):
    with pytest.raises(SystemExit) as stop:
        guarded(train.run, ["--config", V4, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "--optim.lr" in said and "Peak learning rate" in said and "--resume" in said


def test_a_run_ends_with_its_report(runs):
    run = runs / "tiny"
    figures = json.loads((run / "scores_val.json").read_text())
    assert figures["count"] == 12 and len(figures["draws"]["accuracy"]["values"]) == 1000
    said = (run / "report.html").read_text()
    assert f"accuracy {figures['scores']['accuracy']['value']:.4f}" in said and "Scores on val" in said
    ended = json.loads((run / "ended.json").read_text())
    assert ended["seconds"] > 0 and ended["failure"] == ""
    assert "jax" in json.loads((run / "config.json").read_text())["environment"]


def test_a_report_that_cannot_be_written_is_a_warning(capsys, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left")

    monkeypatch.setattr(train, "write_report", broken)
    experiment = changed(get_config(), train={"epochs": 1})
    train.fit(experiment, tmp_path, resume=False, overwrite=False, reported=True)
    said = capsys.readouterr().out
    assert "warning: report.html could not be written: OSError: no space left" in said and "score it with" in said


def test_what_training_failed_of_is_noted_and_reported(tmp_path, monkeypatch):
    def fail(_):
        raise NonFiniteLoss("loss or gradient is not finite at step 7")

    monkeypatch.setattr(train.Trainer, "fit", fail)
    with pytest.raises(NonFiniteLoss):
        train.fit(get_config(), tmp_path, resume=False, overwrite=False, reported=True)
    assert "not finite at step 7" in json.loads((tmp_path / "tiny/ended.json").read_text())["failure"]
    assert "rule nan_onset" in (tmp_path / "tiny/report.html").read_text()


def test_evaluate_writes_scores_tables_and_pictures(capsys, runs, tmp_path):
    evaluate.run(["--run", "tiny", "--runs", str(runs), "--split", "test", "--json", str(tmp_path / "scores.json")])
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "scores.json").read_text())
    assert figures["count"] == 12 and figures["parameters"]["trainable"] > 0
    for name in ("accuracy", "top5", "macro_f1", "balanced_accuracy"):
        score = figures["scores"][name]
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1 and score["floor"] is not None
        assert name in said
    assert set(figures["gap"]) == {"loss", "accuracy"}
    run = runs / "tiny"
    assert "Scores on test" in (run / "report.html").read_text()
    assert set(json.loads((run / "scores_test.json").read_text())) > set(figures)
    for name in ("curves.png", "confusion_test.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader((run / "words_test.csv").read_text().splitlines()))
    assert [row["word"] for row in rows] and sum(int(row["support"]) for row in rows) == 12
    confusion = list(csv.reader((run / "confusion_test.csv").read_text().splitlines()))
    assert sum(int(cell) for row in confusion[1:] for cell in row[1:]) == 12


def test_evaluate_mistakes(capsys, runs, tmp_path):
    where = ("--runs", str(runs))
    assert "there is no run 'x'" in fails(capsys, evaluate.run, "--run", "x", *where)
    assert "no split 'dev'" in fails(capsys, evaluate.run, "--run", "tiny", "--split", "dev", *where)
    missing = str(tmp_path / "no/scores.json")
    assert "cannot be written" in fails(capsys, evaluate.run, "--run", "tiny", "--json", missing, *where)


def test_a_mistake_does_not_cost_the_run_that_is_to_be_replaced(capsys, runs):
    before = sorted((runs / "tiny").rglob("*"))
    wrong = ("--config", TINY, "--runs", str(runs), "--overwrite", "--data.source", "grid", "--data.root", "no/such")
    assert "is not a folder" in fails(capsys, train.run, *wrong)
    assert sorted((runs / "tiny").rglob("*")) == before


def test_folders_that_are_no_runs_are_left_alone(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("three years")
    (tmp_path / "file").write_text("")
    for name, says in (("mine", "holds files that no run made"), ("file", "is a file"), ("..", "Experiment.name='..'")):
        arguments = ("--config", TINY, "--runs", str(tmp_path), "--name", name, "--overwrite")
        assert says in fails(capsys, train.run, *arguments)
    assert (tmp_path / "mine/thesis.txt").read_text() == "three years"


def test_damaged_checkpoints_are_one_line(runs, tmp_path):
    shutil.copytree(runs / "tiny", tmp_path / "tiny")
    for file in (tmp_path / "tiny/checkpoints").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    # In a process of its own: orbax's event loop complains about the failed read when it is collected.
    command = [sys.executable, str(REPOSITORY / "evaluate.py"), "--run", "tiny", "--runs", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be read" in done.stderr and done.stderr.count("\n") == 1


def test_evaluate_refuses_data_that_changed(capsys, grid_root, tmp_path):
    experiment = changed(get_config(), data={"source": "grid", "root": str(grid_root)}, train={"epochs": 1})
    train.fit(experiment, tmp_path, resume=False, overwrite=False)
    splits = json.loads((grid_root / "splits.json").read_text())
    (grid_root / "splits.json").write_text(json.dumps({**splits, "test": splits["test"][1:]}))
    try:
        said = fails(capsys, evaluate.run, "--run", "tiny", "--runs", str(tmp_path))
    finally:
        (grid_root / "splits.json").write_text(json.dumps(splits))
    assert "have changed: fingerprint" in said
    moved = tmp_path / "moved"
    shutil.copytree(grid_root, moved)
    evaluate.run(["--run", "tiny", "--runs", str(tmp_path), "--root", str(moved)])
    assert "accuracy" in capsys.readouterr().out


def test_experiments_survive_json_and_name_their_differences():
    for path in sorted((REPOSITORY / "configs").glob("*.py")):
        experiment = load_config(path)
        again = from_json(json.loads(json.dumps(to_json(experiment))))
        assert again == experiment and isinstance(again, Experiment)
    other = override(experiment, ["--optim.lr", "0.5", "--train.batch", "7"])
    assert [line.split(":")[0] for line in differences(experiment, other)] == ["optim.lr", "train.batch"]


def test_success_criteria_have_an_order_and_can_be_overridden():
    accuracy = Target(metric="accuracy", minimum=0.25, target=0.3, stretch=0.35)
    assert accuracy.reached(0.31) == ("minimum", "target") and accuracy.reached(0.2) == ()
    gap = Target(metric="gap/accuracy", minimum=0.1, stretch=0.05, lower=True)
    assert gap.reached(0.1) == ("minimum",) and gap.reached(-0.2) == ("minimum", "stretch")
    with pytest.raises(ValueError, match="lower=True where less is better"):
        Target(metric="gap/accuracy", minimum=0.1, stretch=0.05)
    experiment = changed(get_config(), targets=(accuracy, gap))
    assert from_json(json.loads(json.dumps(to_json(experiment)))) == experiment
    assert override(experiment, ["--targets.1.minimum", "0.2"]).targets[1].minimum == 0.2
    assert set(differences(get_config(), experiment, ignore=FREE_ON_RESUME)) == set()


def test_a_config_from_a_lost_class_says_so():
    with pytest.raises(UserError, match="cannot be rebuilt here"):
        from_json({"class": "jaxlip.tasks.word:Gone", "x": 1})


# Configs of other data have tests of their own.
CONFIGS = [p for p in sorted((REPOSITORY / "configs").glob("*.py")) if type(load_config(p).data) is FaceData]
QUICK = ("v4",)


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem, marks=() if p.stem in QUICK else pytest.mark.slow) for p in CONFIGS]
)
def test_every_config_builds_and_steps(path, tmp_path):
    experiment = override(
        load_config(path),
        ["--data.source", "visemes", "--data.visemes.train", "16", "--data.visemes.val", "8", "--train.batch", "16"]
        + ["--data.visemes.test", "8", "--train.epochs", "1", "--task.model.hidden", "8", "--init_from", "None"],
    )
    train.fit(experiment, tmp_path, resume=False, overwrite=False)
    assert (tmp_path / experiment.name / "metrics.jsonl").read_text().count("\n") == 1


def test_core_imports_without_the_extras():
    code = (
        "import sys\n"
        "for name in ('orbax', 'mediapipe', 'tensorflow_datasets', 'grain', 'torch', 'matplotlib', 'tensorboardX'):\n"
        "    sys.modules[name] = None\n"
        "import jaxlip.cli.main, jaxlip.cli.train, jaxlip.cli.evaluate, jaxlip.cli.inspect, jaxlip.tasks.word\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment)
