"""Repeated cross-validation over groups (users, speakers): every example is predicted by a model that never met its
group, and configs are compared on the same examples by a paired bootstrap over groups."""

import dataclasses
import itertools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.batches import Split
from jaxlip.engine.loop import Trainer
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.paired import score_difference
from jaxlip.metrics.scores import Scores
from jaxlip.report.saved import load_saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folded:
    """One repeat of a config: scores of all out-of-fold predictions together, and what it took."""

    experiment: Experiment
    scores: Scores
    seconds: float


def fold_of(experiment: Experiment, folds: int, fold: int, repeat: int) -> Experiment:
    """The experiment that tests on one fold. Raises UserError if its data cannot be split by groups."""
    fields = {field.name for field in dataclasses.fields(experiment.data)}
    if not {"folds", "fold", "split_seed"} <= fields:
        raise UserError(f"the data of {experiment.name} ({type(experiment.data).__name__}) are not split by groups.")
    data = dataclasses.replace(experiment.data, folds=folds, fold=fold, split_seed=repeat)  # type: ignore[call-arg]
    train = dataclasses.replace(experiment.train, seed=experiment.train.seed + repeat)
    return dataclasses.replace(experiment, name=f"{experiment.name}-{repeat}-{fold}", data=data, train=train)


def cross_validate(experiment: Experiment, runs: pathlib.Path, *, folds: int, repeat: int) -> Folded:
    """Trains a model for each fold, as runs of their own, and scores what they say of their test splits together."""
    began = time.perf_counter()
    outputs, tested, trained, spec = [], [], None, None
    for fold in range(folds):
        one = fold_of(experiment, folds, fold, repeat)
        corpus = one.task.corpus(one.data)  # type: ignore[attr-defined]
        folder = RunFolder(runs / one.name)
        folder.create(overwrite=True)
        folder.write_config(one, corpus.fingerprint, corpus.counts)
        trainer = Trainer(one, folder, corpus)
        trainer.fit()
        trainer.checkpoints.close()
        outputs.append(load_saved(folder).predict(corpus, "test")[0])
        tested.append(corpus.splits["test"])
        trained, spec = trained or corpus.splits["train"], spec or corpus.spec
        # Every fold compiles anew: without this, programs of folds that are done stay in memory.
        jax.clear_caches()
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *bucket) for bucket in zip(*outputs, strict=True)]
    scores = experiment.task.score(joined, join_splits(tested), trained, spec)  # type: ignore[attr-defined]
    return Folded(experiment=experiment, scores=scores, seconds=time.perf_counter() - began)


def join_splits(splits: list[Split]) -> Split:
    """The examples of several splits, bucket by bucket."""
    buckets = zip(*(split.buckets for split in splits), strict=True)
    names = zip(*(split.names for split in splits), strict=True)
    return Split(
        buckets=tuple(jax.tree.map(lambda *parts: np.concatenate(parts), *bucket) for bucket in buckets),
        names=tuple(tuple(itertools.chain(*bucket)) for bucket in names),
        speakers=tuple(tuple(itertools.chain(*bucket)) for bucket in zip(*(s.speakers for s in splits), strict=True)),
    )


def comparison(results: dict[str, list[Folded]], metric: str) -> list[dict[str, Any]]:
    """One row a pair of configs: the difference of a score in each repeat, and whether it exceeds the noise.

    It does where the intervals over groups leave out 0 in every repeat, all to the same side: another split of the
    groups, other seeds and other groups of the same kind would all say the same.
    """
    rows = []
    for a, b in itertools.combinations(results, 2):
        differences = [
            score_difference(one.scores.scores[metric], other.scores.scores[metric])
            for one, other in zip(results[a], results[b], strict=True)
        ]
        known = [d for d in differences if d is not None]
        clear = bool(known) and all(d.clear for d in known) and len({d.value > 0 for d in known}) == 1
        rows.append(
            {
                "b minus a": f"{b} - {a}",
                metric: float(np.mean([d.value for d in known])),
                "low": min(d.low for d in known),
                "high": max(d.high for d in known),
                "exceeds the noise": "yes" if clear else "no",
            }
        )
    return rows


def table(results: dict[str, list[Folded]], metrics: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row a config: the mean of each score over repeats, its spread over them, the mean interval, and the floor."""
    rows = []
    for name, repeats in results.items():
        row: dict[str, Any] = {"config": name}
        for metric in metrics:
            scores = [repeat.scores.scores[metric] for repeat in repeats]
            low, high = (float(np.mean([getattr(score, end) for score in scores])) for end in ("low", "high"))
            value = float(np.mean([score.value for score in scores]))
            row[metric] = f"{value:.3f} [{low:.3f}, {high:.3f}]"
            row[f"{metric} floor"] = scores[0].floor
        row["minutes"] = sum(repeat.seconds for repeat in repeats) / 60
        rows.append(row)
    return rows


def criteria(results: dict[str, list[Folded]]) -> list[dict[str, Any]]:
    """Which of the configs' own targets are reached by the mean over repeats."""
    rows = []
    for name, repeats in results.items():
        for target in repeats[0].experiment.targets:
            if target.metric in repeats[0].scores.scores:
                value = float(np.mean([repeat.scores.scores[target.metric].value for repeat in repeats]))
                reached = ", ".join(target.reached(value)) or "none"
                rows.append({"config": name, "metric": target.metric, "value": value, "reached": reached})
    return rows


def write_folded(results: dict[str, list[Folded]], path: pathlib.Path) -> None:
    """Every score of every repeat as JSON."""
    figures = {
        name: [
            {
                "seconds": repeat.seconds,
                "scores": {
                    metric: {"value": s.value, "low": s.low, "high": s.high, "floor": s.floor}
                    for metric, s in repeat.scores.scores.items()
                },
            }
            for repeat in repeats
        ]
        for name, repeats in results.items()
    }
    path.write_text(json.dumps(figures, indent=1) + "\n")
