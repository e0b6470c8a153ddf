"""The engine through its public face: one trace, exact resumption, signals, devices, non-finite losses."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import QUICKLY_COMPILED, REPOSITORY
from tiny import changed, get_config

from jaxlip.cli.train import fit
from jaxlip.config import Optim, Train
from jaxlip.data.batches import FaceBatch, Split
from jaxlip.engine.averages import moving_average
from jaxlip.engine.control import Control
from jaxlip.engine.loop import NonFiniteLoss, Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.report.saved import load_saved

TINY = str(pathlib.Path(__file__).with_name("tiny.py"))


@pytest.fixture(scope="module")
def corpus():
    experiment = get_config()
    return experiment.task.corpus(experiment.data)


def one_device():
    return jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))


def trained(experiment, corpus, folder, monkeypatch=None, devices=2):
    if devices == 1:
        monkeypatch.setattr("jaxlip.engine.loop.data_mesh", one_device)
    RunFolder(folder).create(overwrite=False)
    trainer = Trainer(experiment, RunFolder(folder), corpus)
    row = trainer.fit()
    trainer.checkpoints.close()
    return trainer, row


def arrays(folder, which="latest"):
    saved = load_saved(RunFolder(folder), which)
    return saved.step, jax.device_get((saved.state.params, saved.state.model_state, saved.state.opt))


def assert_same_bits(a, b):
    leaves_a, leaves_b = jax.tree.leaves(a), jax.tree.leaves(b)
    assert len(leaves_a) == len(leaves_b) > 10
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_training_learns_keeps_best_and_latest_and_traces_once_a_bucket(corpus, tmp_path):
    experiment = changed(get_config(), train={"epochs": 12})
    trainer, row = trained(experiment, corpus, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert rows[-1] == row and [r["epoch"] for r in rows] == list(range(1, 13))
    assert rows[-1]["train/loss"] < 0.9 * rows[0]["train/loss"]
    best = min(rows, key=lambda r: r["val/loss"])
    assert {best["step"], rows[-1]["step"]} == set(RunFolder(tmp_path / "run").steps)
    assert load_saved(RunFolder(tmp_path / "run")).step == best["step"]
    assert len(trainer.dispatch) == 1


def test_one_trace_for_each_bucket(corpus, tmp_path):
    batch, names = corpus.splits["train"].buckets[0], corpus.splits["train"].names[0]
    longer = FaceBatch(
        **{
            field.name: np.pad(getattr(batch, field.name), [(0, 0), (0, 3)] + [(0, 0)] * (value.ndim - 2))
            if (value := getattr(batch, field.name)).ndim > 1
            else value
            for field in dataclasses.fields(batch)
        }
    )
    two = Split(buckets=(batch, longer), names=(names, tuple(f"long/{name}" for name in names)))
    both = dataclasses.replace(corpus, splits={**corpus.splits, "train": two})
    trainer, _ = trained(changed(get_config(), train={"epochs": 2}), both, tmp_path / "run")
    assert len(trainer.dispatch) == 2
    assert int(trainer.state.step) == 2 * 2 * 6


def test_a_handful_of_clips_can_be_learned_by_heart(corpus, tmp_path):
    few = jax.tree.map(lambda array: array[:4], corpus.splits["train"].buckets[0])
    split = Split(buckets=(few,), names=(corpus.splits["train"].names[0][:4],))
    handful = dataclasses.replace(corpus, splits={"train": split, "val": split})
    experiment = changed(
        get_config(),
        task=dataclasses.replace(get_config().task, label_smoothing=0.0),
        optim={"lr": 1e-2},
        train={"epochs": 60, "batch": 4, "eval_epochs": 20},
    )
    _, row = trained(experiment, handful, tmp_path / "run")
    assert row["val/accuracy"] == 1.0 and row["val/loss"] < 0.5


def test_one_device_equals_two(corpus, tmp_path, monkeypatch):
    assert len(jax.devices()) == 2
    experiment = changed(get_config(), train={"epochs": 2})
    _, two = trained(experiment, corpus, tmp_path / "two")
    _, one = trained(experiment, corpus, tmp_path / "one", monkeypatch, devices=1)
    assert two.keys() == one.keys()
    params_one, params_two = arrays(tmp_path / "one")[1][0], arrays(tmp_path / "two")[1][0]
    # A bias in front of a batch norm has gradient 0 but for rounding, which Adam blows up to whole steps. It changes
    # nothing in training, where the batch's mean takes it away; in validation the running mean lags a little behind it.
    for name in two:
        tolerance = 1e-2 if name.startswith("val/") else 1e-4
        np.testing.assert_allclose(two[name], one[name], rtol=tolerance, err_msg=name)
    idle = {"graph.first.bias", "graph.convs.0.bias", "norm.bias", "classifier.hidden.bias"}
    for name in params_one.keys() - idle:
        np.testing.assert_allclose(params_one[name], params_two[name], atol=1e-3, err_msg=name)


def test_warm_start_takes_parameters_and_names_what_does_not_fit(corpus, tmp_path):
    fit(changed(get_config(), train={"epochs": 1}), tmp_path, resume=False, overwrite=False)
    with pytest.raises(UserError, match=r"init_from=.*tiny does not fit .* there and .* here"):
        wide = dataclasses.replace(get_config().task, model=dataclasses.replace(get_config().task.model, hidden=12))
        fit(changed(get_config(), task=wide, name="wide", init_from="tiny"), tmp_path, resume=False, overwrite=False)
    trainer = Trainer(changed(get_config(), name="warm"), RunFolder(tmp_path / "warm"), corpus)
    saved = load_saved(RunFolder(tmp_path / "tiny"))
    trainer.warm_start(saved.state.params, saved.state.model_state, "tiny")
    assert_same_bits(trainer.state.params, saved.state.params)
    trainer.checkpoints.close()


def test_non_finite_loss_stops_naming_step_clips_and_checkpoint(corpus, tmp_path):
    batch = corpus.splits["train"].buckets[0]
    landmarks_BTVC = batch.landmarks_BTVC.copy()
    landmarks_BTVC[17] = np.nan
    broken = dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC)
    split = Split(buckets=(broken,), names=corpus.splits["train"].names)
    poisoned = dataclasses.replace(corpus, splits={**corpus.splits, "train": split})
    with pytest.raises(NonFiniteLoss, match=r"not finite at step \d") as error:
        trained(get_config(), poisoned, tmp_path / "run")
    assert corpus.splits["train"].names[0][17] in str(error.value)
    assert "last good checkpoint: none yet" in str(error.value)


def test_resume_refuses_other_config_and_other_data(corpus, tmp_path):
    experiment = changed(get_config(), train={"epochs": 1})
    fit(experiment, tmp_path, resume=False, overwrite=False)
    with pytest.raises(UserError, match=r"optim.lr: 0.003 saved, 0.001 asked for"):
        fit(changed(experiment, optim={"lr": 1e-3}), tmp_path, resume=True, overwrite=False)
    with pytest.raises(UserError, match="already holds a run"):
        fit(experiment, tmp_path, resume=False, overwrite=False)
    other = dataclasses.replace(corpus, splits={**corpus.splits, "val": corpus.splits["test"]})
    trainer = Trainer(experiment, RunFolder(tmp_path / "tiny"), other)
    with pytest.raises(UserError, match="other data: fingerprint"):
        trainer.resume()
    trainer.checkpoints.close()


def launch(runs: pathlib.Path, name: str, *extra: str) -> subprocess.Popen:
    command = [sys.executable, str(REPOSITORY / "train.py"), "--config", TINY, "--runs", str(runs), "--name", name]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "XLA_FLAGS": QUICKLY_COMPILED}
    return subprocess.Popen(
        [*command, "--no-preflight", "--train.epochs", "30", "--optim.average", "0.9", *extra],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def wait_for_step(folder: RunFolder, process: subprocess.Popen, step: int) -> None:
    while process.poll() is None and (folder.steps or [0])[-1] < step:
        time.sleep(0.02)
    assert process.poll() is None, process.stdout.read()


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def assert_equal_runs(a: pathlib.Path, b: pathlib.Path) -> None:
    assert RunFolder(a).read_metrics() == RunFolder(b).read_metrics()
    for which in ("best", "latest"):
        (step_a, state_a), (step_b, state_b) = arrays(a, which), arrays(b, which)
        assert step_a == step_b
        assert_same_bits(state_a, state_b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> pathlib.Path:
    runs = tmp_path_factory.mktemp("uninterrupted")
    finish(launch(runs, "whole"))
    return runs / "whole"


def kill_and_resume(runs: pathlib.Path, steps: list[int], rng: np.random.Generator) -> pathlib.Path:
    """A run that is killed a random moment after each of these steps, and then resumed to its end."""
    extra: list[str] = []
    for step in steps:
        process = launch(runs, "killed", *extra)
        wait_for_step(RunFolder(runs / "killed"), process, step)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        extra = ["--resume"]
    finish(launch(runs, "killed", "--resume"))
    return runs / "killed"


def test_sigkill_then_resume_equals_the_uninterrupted_run(uninterrupted, tmp_path):
    assert_equal_runs(uninterrupted, kill_and_resume(tmp_path, [12, 90], np.random.default_rng(0)))


@pytest.mark.slow
def test_many_sigkills_at_random_times(uninterrupted, tmp_path):
    rng = np.random.default_rng(1)
    steps = sorted(int(step) for step in rng.integers(6, 170, 8))
    assert_equal_runs(uninterrupted, kill_and_resume(tmp_path, steps, rng))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_resume_equals_the_uninterrupted_run(uninterrupted, tmp_path, number):
    process = launch(tmp_path, "stopped")
    wait_for_step(RunFolder(tmp_path / "stopped"), process, 12)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, output
    assert f"stopped by {number.name} at step" in output and "Traceback" not in output
    finish(launch(tmp_path, "stopped", "--resume"))
    assert_equal_runs(uninterrupted, tmp_path / "stopped")


def test_averaged_parameters_follow_the_formula_and_are_what_is_evaluated(corpus, tmp_path):
    experiment = changed(get_config(), optim={"average": 0.5}, train={"epochs": 2})
    trainer, row = trained(experiment, corpus, tmp_path / "run")
    params, average = jax.device_get((trainer.state.params, trainer.state.average))
    assert params.keys() == average.keys()
    assert max(float(np.abs(params[name] - average[name]).max()) for name in params) > 1e-4
    saved = load_saved(RunFolder(tmp_path / "run"), "latest")
    assert_same_bits(saved.state.best_params, average)
    assert saved.predict(corpus, "val")[1]["loss"] == pytest.approx(row["val/loss"], rel=1e-5)
    # Constant parameters 1 from an average of 0: the first steps forget faster than the decay says.
    want, got = 0.0, {"a": jax.numpy.zeros(())}
    for step in range(20):
        keep = min(0.9, (1 + step) / (10 + step))
        want = keep * want + (1 - keep)
        got = moving_average(got, {"a": jax.numpy.ones(())}, 0.9, jax.numpy.asarray(step))
    assert float(got["a"]) == pytest.approx(want, rel=1e-6)


def test_another_metric_can_choose_the_best_checkpoint(corpus, tmp_path):
    experiment = changed(get_config(), train={"epochs": 3, "monitor": "accuracy"})
    trained(experiment, corpus, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").read_metrics()
    accuracy = {row["step"]: row["val/accuracy"] for row in rows}
    assert accuracy[load_saved(RunFolder(tmp_path / "run")).step] == max(accuracy.values())
    with pytest.raises(UserError, match="Train.monitor='wer' must be one of"):
        trained(changed(get_config(), train={"epochs": 1, "monitor": "wer"}), corpus, tmp_path / "other")


def test_control_stops_and_lowers_the_rate():
    optim, train = Optim(plateau_patience=2, plateau_factor=0.5), Train(patience=5, min_delta=0.1)
    control = Control()
    scales = []
    for loss in (1.0, 0.95, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9):
        assert not control.exhausted(train)
        control = control.after(loss, optim, train)
        scales.append(control.lr_scale)
    # 0.95 is no better than 1.0 by 0.1; 0.8 is.
    assert scales == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert control.best == 0.8 and control.exhausted(train)


def test_metrics_file_survives_a_line_cut_short(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
    folder.metrics.write_text(folder.metrics.read_text() + '{"step": 4, "val')
    folder.rewind_metrics(2)
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 2]
