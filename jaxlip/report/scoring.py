"""A run scored on a split, and the file scores_<split>.json that doctor, compare and the report read."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from jaxlip.data.batches import Corpus
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.metrics.scores import Scores
from jaxlip.report.parameters import parameter_table
from jaxlip.report.saved import Saved
from jaxlip.report.strips import lips_of
from jaxlip.report.tables import scores_to_json

MOST_ROWS = 1000
"""Of a table in the file; the CSV files have them all."""


def saved_of(trainer: Trainer) -> Saved:
    """The best checkpoint of a run that has just been trained, without building or tracing anything again."""
    step = trainer.checkpoints.best
    assert step is not None
    return Saved(
        folder=trainer.folder,
        step=step,
        meta=trainer.checkpoints.meta(step),
        model=trainer.program.model,
        program=trainer.program,
        state=trainer.checkpoints.state(step, trainer.state),
        jitted=trainer.evaluate,
    )


def score_split(saved: Saved, corpus: Corpus, split: str) -> tuple[dict[str, Any], Scores]:
    """The figures of a split, and all of its scores."""
    outputs, metrics = saved.predict(corpus, split)
    scores = saved.task.score(outputs, corpus.splits[split], corpus.splits["train"], saved.meta.spec)
    table = parameter_table(saved.model)
    figures = {
        "run": str(saved.folder.path),
        "step": saved.step,
        "split": split,
        "parameters": {"trainable": table["trainable"], "buffers": table["buffers"]},
        "loss": metrics["loss"],
        **scores_to_json(scores),
    }
    return figures, scores


def write_scores(saved: Saved, corpus: Corpus, figures: dict[str, Any], scores: Scores) -> pathlib.Path:
    """Writes the figures, and beside them what a report needs to draw and to compare."""
    split = figures["split"]
    drawn = {name: score.draws for name, score in scores.scores.items() if score.draws is not None}
    more = {
        "tables": {name: rows[:MOST_ROWS] for name, rows in scores.tables.items()},
        "classes": list(scores.classes),
        "confusion": _sparse(scores.confusion_KK),
        "worst": [
            {**dataclasses.asdict(mistake), "lips": lips_of(corpus.splits[split], mistake.index, saved.meta.spec)}
            for mistake in scores.worst
        ],
        "draws": {
            name: {"groups": draws.groups, "values": [float(f"{value:.6g}") for value in draws.values_R]}
            for name, draws in drawn.items()
        },
    }
    path = saved.folder.scores(split)
    path.write_text(json.dumps({**figures, **more}) + "\n")
    return path


def score_validation(trainer: Trainer) -> None:
    """What the report at the end of training shows: the best checkpoint on the validation split."""
    saved = saved_of(trainer)
    figures, scores = score_split(saved, trainer.corpus, "val")
    if trainer.folder.writes:
        write_scores(saved, trainer.corpus, figures, scores)


def forget_scores(folder: RunFolder) -> None:
    """Scores of a checkpoint that is no longer the one that counts."""
    for path in folder.path.glob("scores_*.json"):
        path.unlink()


def _sparse(confusion_KK: np.ndarray | None) -> list[list[int]]:
    """[truth, guess, count] where there is any."""
    if confusion_KK is None:
        return []
    rows, columns = np.nonzero(confusion_KK)
    return [[int(t), int(g), int(confusion_KK[t, g])] for t, g in zip(rows, columns, strict=True)]
