"""Doctor on made runs: a rule, its evidence and its advice; silence on healthy ones; and the documents' own tables."""

import json
import math
import pathlib
from collections.abc import Iterable

import numpy as np
import pytest

from jaxlip.config import Target, load_config, override, to_json
from jaxlip.engine.run import RunFolder
from jaxlip.report.doctor import RULES, diagnose
from jaxlip.report.record import Record, read_record

REPOSITORY = pathlib.Path(__file__).parents[1]
EPOCHS = np.arange(1, 41)
DECAY = np.exp(-EPOCHS / 8)


def record(rows=(), *, config="v4", scores=None, examples=33_615, failure="", **changes) -> Record:
    """A run with the config of a file, changed by options."""
    options = [part for name, value in changes.items() for part in (f"--{name.replace('__', '.')}", str(value))]
    experiment = override(load_config(REPOSITORY / f"configs/{config}.py"), options)
    data = {"examples": {"train": examples}}
    found = {"test": scores} if scores else {}
    saved = to_json(experiment)
    return Record(name="made", config=saved, data=data, rows=list(rows), scores=found, failure=failure)


def rows_of(epochs: Iterable[int] = EPOCHS, **curves) -> list[dict]:
    """rows_of(train_loss=..., val_loss=...): a dict an epoch."""
    names = {name: name.replace("_", "/", 1) for name in curves}
    return [
        {"step": int(e) * 10, "epoch": int(e), **{names[n]: float(values[i]) for n, values in curves.items()}}
        for i, e in enumerate(epochs)
    ]


def healthy(**changed) -> list[dict]:
    noise = np.random.default_rng(0).normal(0, 0.006, (4, len(EPOCHS)))
    curves = {
        "train_loss": 1.0 + 3.5 * DECAY + noise[0],
        "val_loss": 0.9 + 3.6 * DECAY + noise[1],
        "train_accuracy": 0.92 - 0.85 * DECAY + noise[2],
        "val_accuracy": 0.86 - 0.8 * DECAY + noise[3],
        "train_grad_norm": 2 + 8 * DECAY,
    }
    return rows_of(**{**curves, **changed})


def kinds(run: Record) -> set[str]:
    return {finding.kind for finding in diagnose(run)}


def only(run: Record, kind: str):
    return next(finding for finding in diagnose(run) if finding.kind == kind)


def scores_of(confusion, classes=("a", "b", "c", "d"), *, value=0.8, floor=0.25, tables=None) -> dict:
    return {
        "count": int(sum(c for *_, c in confusion)),
        "scores": {"accuracy": {"value": value, "low": value - 0.05, "high": value + 0.05, "floor": floor}},
        "tables": tables or {},
        "classes": list(classes),
        "confusion": confusion,
        "parameters": {"trainable": 1000, "buffers": 0},
    }


GOOD = [[k, k, 9] for k in range(4)]


# What the documents diagnosed, from the tables printed in them.


def test_v1_is_severe_overfitting_from_the_first_row_of_its_table():
    v1 = rows_of(
        epochs=(33, 100, 200, 300, 400, 500),
        train_loss=(3.28, 2.48, 1.39, 0.73, 0.41, 0.28),
        train_accuracy=(0.17, 0.31, 0.57, 0.76, 0.87, 0.91),
        val_loss=(3.80, 5.83, 10.12, 11.82, 14.70, 15.80),
        val_accuracy=(0.11, 0.10, 0.09, 0.09, 0.10, 0.10),
        val_f1=(0.06, 0.06, 0.06, 0.07, 0.08, 0.08),
    )
    scores = scores_of([[k, k, 1] for k in range(100)], [f"w{k}" for k in range(100)], value=0.1122, floor=0.0842)
    scores["parameters"]["trainable"] = 33_212_519
    run = record(v1, scores=scores, train__epochs=1000, task__model__hidden=512, optim__lr=1e-3)
    found = only(run, "overfitting")
    assert found.severity == "bad" and "since epoch 33" in found.text
    assert "val/loss rose from 3.80 to 15.80" in found.text and "a gap of 0.810" in found.text
    assert "33,212,519 parameters for 33,615 training examples" in found.text
    assert found.advice == "--task.model.hidden 256"
    assert "even odds for 100 classes are 4.61" in only(run, "calibration").text
    assert "underfitting" not in kinds(run) and "stopped_improving" not in kinds(run)
    # The row after them: 600+, where it had collapsed.
    collapsed = rows_of(epochs=(600, 650), train_accuracy=(0.07, 0.07), val_accuracy=(0.07, 0.07))
    assert "was 0.91 at epoch 500" in only(record(v1 + collapsed), "divergence").text


def test_v33_overfits_since_epoch_9_and_misses_its_minimum():
    v33 = rows_of(
        epochs=(1, 5, 9, 16, 20),
        train_ccc=(0.014, 0.486, 0.657, 0.821, 0.838),
        val_ccc=(0.010, 0.243, 0.462, 0.505, 0.494),
    )
    run = record(v33, train__epochs=20, train__patience=5)
    found = only(run, "overfitting")
    assert "since epoch 9" in found.text and "best at epoch 16 (0.505)" in found.text
    assert "0.195 at epoch 9" in found.text and "gap of 0.344" in found.text
    criteria = (
        Target(metric="ccc", minimum=0.53, target=0.55, stretch=0.58),
        Target(metric="gap/ccc", minimum=0.28, lower=True),
    )
    run.config["targets"] = to_json(criteria)
    run = record_like(run)
    missed = [finding.text for finding in diagnose(run) if finding.kind == "target_missed"]
    assert any(text.startswith("ccc is 0.5050, 0.0250 from its minimum (at least 0.53)") for text in missed)
    assert any(text.startswith("gap/ccc is 0.3440") for text in missed)


def record_like(run: Record) -> Record:
    return Record(name=run.name, config=run.config, data=run.data, rows=run.rows, scores=run.scores)


def stopped_like_v3(**changes) -> Record:
    """V3: best accuracy .1622, stopped at epoch 74 with patience 30 on accuracy, losses still falling."""
    epochs = np.arange(1, 75)
    accuracy_E = np.where(epochs < 44, 0.1622 * (1 - np.exp(-epochs / 12)), 0.1618 - 0.0005 * (epochs % 3))
    accuracy_E[43] = 0.1622
    rows = rows_of(
        epochs=epochs,
        train_loss=4.6 - 0.45 * np.log1p(epochs / 4),
        val_loss=4.6 - 0.32 * np.log1p(epochs / 6),
        train_accuracy=0.15 * (1 - np.exp(-epochs / 20)),
        val_accuracy=accuracy_E,
    )
    options = {"train__epochs": 200, "train__patience": 30, "train__monitor": "accuracy"}
    return record(rows, config="v3", **{**options, **changes})


def test_v3_underfits_and_was_stopped_while_improving():
    run = stopped_like_v3()
    stopped = only(run, "stopped_improving")
    assert stopped.severity == "bad" and "stopped at epoch 74 of 200, 30 epochs after the best" in stopped.text
    assert "epoch 44" in stopped.text and "val/loss went from" in stopped.text
    assert stopped.advice == "--train.monitor loss --train.patience 60"
    under = only(run, "underfitting")
    for evidence in ("dropout 0.7", "weight_decay 0.001", "label_smoothing 0.2", "0.146 in training"):
        assert evidence in under.text
    assert under.advice == "--task.model.dropout 0.6"
    assert "overfitting" not in kinds(run)


# Each rule on a made run.


def test_healthy_runs_get_no_word():
    assert diagnose(record(healthy(), train__epochs=40, scores=scores_of(GOOD))) == []
    assert diagnose(record([], train__epochs=40)) == []
    assert diagnose(record(healthy()[:2], train__epochs=2)) == []
    converged = healthy() + [{**healthy()[-1], "epoch": 40 + e, "step": 400 + e} for e in range(1, 60)]
    assert diagnose(record(converged, train__epochs=400, train__patience=50)) == []


@pytest.mark.parametrize(
    ("kind", "rows", "changes", "says", "advice"),
    [
        ("nan_onset", healthy(val_loss=np.where(EPOCHS < 30, 1.0, np.nan)), {}, "epoch 30", "--optim.lr 0.00038"),
        ("divergence", healthy(train_loss=np.where(EPOCHS < 30, 1 + DECAY, 6.0)), {}, "and is 6", "--optim.lr 0.00022"),
        (
            "overfitting",
            healthy(val_loss=1 + 3 * DECAY + 0.05 * np.maximum(EPOCHS - 15, 0), train_loss=4 * DECAY),
            {},
            "since epoch 16",
            "--task.model.dropout 0.7",
        ),
        (
            "wide_gap",
            healthy(val_accuracy=0.6 * (1 - DECAY), train_accuracy=0.9 * (1 - DECAY)),
            {},
            "better by 0.298",
            "--task.model.dropout 0.7",
        ),
        (
            "underfitting",
            healthy(val_accuracy=0.2 * (1 - DECAY), train_accuracy=0.18 * (1 - DECAY)),
            {"task__model__dropout": 0.2},
            "only 0.179 in training",
            "--task.model.hidden 288",
        ),
        (
            "ended_improving",
            healthy(val_accuracy=0.02 * EPOCHS, train_accuracy=0.02 * EPOCHS),
            {},
            "brought 26% of all gain",
            "--train.epochs 80",
        ),
        (
            "rate_too_high",
            healthy(train_loss=2 + 0.5 * (EPOCHS % 3 == 0) + DECAY),
            {"optim__lr": 0.01},
            "the learning rate is too high",
            "--optim.lr 0.003",
        ),
        (
            "rate_too_low",
            healthy(train_loss=4.6 - 0.02 * EPOCHS),
            {"optim__lr": 1e-5},
            "the fall of train/loss came in the second half",
            "--optim.lr 3e-05",
        ),
        (
            "rate_too_low",
            healthy(train_loss=4.2 + 0 * EPOCHS),
            {"optim__lr": 1e-4},
            "does not fall",
            "--optim.lr 0.0003",
        ),
        ("blanks", healthy(val_blank=0 * EPOCHS + 1.0), {}, "100.0%", "--task.spans 0.5"),
        ("infeasible", healthy(train_infeasible=0 * EPOCHS + 0.125), {}, "12.5% of the train targets", ""),
    ],
)
def test_rules_of_curves(kind, rows, changes, says, advice):
    found = only(record(rows, train__epochs=40, **changes), kind)
    assert says in found.text and found.advice.startswith(advice)


def test_a_failure_that_was_written_down_is_the_onset_of_nan():
    run = record(healthy()[:3], failure="loss or gradient is not finite at step 77")
    assert "at step 77" in only(run, "nan_onset").text


def test_patience_is_short_where_longer_waits_had_paid():
    """It got better every 12 evaluations until epoch 25, and was stopped 13 later."""
    rows = healthy(val_loss=3.0 - 0.5 * np.minimum((EPOCHS - 1) // 12, 2))[:38]
    found = only(record(rows, train__epochs=400, train__patience=13), "patience_short")
    assert "after 11 evaluations" in found.text and found.advice == "--train.patience 26"
    assert "patience_short" not in kinds(record(rows, train__epochs=400, train__patience=100))


def test_scores_at_the_floor_whichever_way_is_better():
    assert "accuracy 0.2700 (floor 0.2500)" in only(record(scores=scores_of(GOOD, value=0.27)), "at_floor").names
    sign = scores_of(GOOD, value=0.9)
    sign["scores"] = {"greedy/wer": {"value": 0.9, "low": 0.85, "high": 0.95, "floor": 0.881}}
    assert "greedy/wer 0.9000 (floor 0.8810)" in only(record(scores=sign), "at_floor").names
    arousal = scores_of(GOOD)
    arousal["scores"] = {"rmse/arousal": {"value": 0.7774, "low": 0.74, "high": 0.81, "floor": 0.662}}
    assert only(record(scores=arousal), "at_floor").severity == "bad"


def test_collapse_to_one_class_and_classes_that_are_never_predicted():
    run = record(scores=scores_of([[0, 0, 9], [1, 0, 9], [2, 0, 9], [3, 3, 9]]))
    assert "'a' is 75% of all answers on test and 25% of the truth" in only(run, "one_class").text
    assert only(run, "never_predicted").names == ("b", "c")
    rare = record(scores=scores_of([[0, 0, 90], [1, 0, 3], [2, 2, 9], [3, 3, 9]]))
    assert kinds(rare) == set()


def test_overconfidence_of_the_scored_split():
    rows = [{"confidence": 0.95, "right": 0.6, "examples": 30}, {"confidence": 0.5, "right": 0.5, "examples": 10}]
    run = record(scores=scores_of(GOOD, tables={"calibration": rows}), task__label_smoothing=0.0)
    found = only(run, "calibration")
    assert "0.26 higher" in found.text and found.advice == "--task.label_smoothing 0.1"
    careful = [{"confidence": 0.6, "right": 0.9, "examples": 30}]
    assert kinds(record(scores=scores_of(GOOD, tables={"calibration": careful}))) == set()


def test_every_rule_has_been_seen_to_fire_here():
    text = pathlib.Path(__file__).read_text()
    fired = {"not_finite": "nan_onset", "targets": "target_missed"}
    assert [rule.__name__ for rule in RULES if f'"{fired.get(rule.__name__, rule.__name__)}"' not in text] == []


def test_a_record_is_read_from_a_folder_that_has_no_checkpoint(tmp_path):
    folder = RunFolder(tmp_path / "r")
    folder.create(overwrite=False)
    folder.write_config(load_config(REPOSITORY / "configs/v4.py"), "0", {"examples": {"train": 8}})
    folder.append_metrics({"step": 1, "epoch": 1, "val/loss": math.nan})
    (folder.path / "scores_test.json").write_text(json.dumps(scores_of(GOOD)))
    run = read_record(RunFolder.find("r", tmp_path, trained=False))
    assert run.option("optim.lr") == 7.5e-4 and run.option("no.such") is None and run.scored is not None
    assert run.headline == "loss" and len(run.curve("val/loss")) == 0 and kinds(run) == {"nan_onset"}
