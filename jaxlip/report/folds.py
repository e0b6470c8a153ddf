"""Repeated cross-validation over groups (users, speakers): every example is predicted by a model that never met its
group, and configs are compared on the same examples by a paired bootstrap over groups."""

import dataclasses
import itertools
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlip.config import Experiment
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.folds import Subset
from jaxlip.engine.loop import Trainer
from jaxlip.engine.population import Population
from jaxlip.engine.run import RunFolder
from jaxlip.errors import UserError
from jaxlip.metrics.paired import score_difference
from jaxlip.metrics.scores import Scores
from jaxlip.report.saved import Saved, load_saved


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
    """Trains a model for each fold, all at once, and scores what they say of their test splits together."""
    began = time.perf_counter()
    experiments = [fold_of(experiment, folds, fold, repeat) for fold in range(folds)]
    corpora = side_by_side([one.task.corpus(one.data) for one in experiments])  # type: ignore[attr-defined]
    folders = [RunFolder(runs / one.name) for one in experiments]
    lstm = choose(experiments[0], corpora[0], runs=folds)
    trainers: list[Trainer] = []
    for one, folder, corpus in zip(experiments, folders, corpora, strict=True):
        folder.create(overwrite=True)
        folder.write_config(one, corpus.fingerprint, corpus.counts, lstm=dataclasses.asdict(lstm))
        like = trainers[0] if trainers else None
        trainers.append(Trainer(one, folder, corpus, like=like, lstm=lstm.backend))
    Population(trainers).fit()
    saved: list[Saved] = []
    for folder, trainer in zip(folders, trainers, strict=True):
        trainer.checkpoints.close()
        saved.append(load_saved(folder, like=saved[0] if saved else None))
    outputs = [run.predict(corpus, "test")[0] for run, corpus in zip(saved, corpora, strict=True)]
    # The next config compiles anew: without this, the programs of this one stay in memory.
    jax.clear_caches()
    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *bucket) for bucket in zip(*outputs, strict=True)]
    tested = join_splits([corpus.splits["test"] for corpus in corpora])
    scores = experiment.task.score(joined, tested, corpora[0].splits["train"], corpora[0].spec)  # type: ignore[attr-defined]
    return Folded(experiment=experiment, scores=scores, seconds=time.perf_counter() - began)


def side_by_side(corpora: Sequence[Corpus]) -> list[Corpus]:
    """The same corpora, whose training and validation examples lie one after the other in one memory: a population
    trains on all of them, each member on its own rows."""
    together = {split: join_splits([corpus.splits[split] for corpus in corpora]) for split in ("train", "val")}
    ends = {
        split: np.cumsum([[len(names) for names in corpus.splits[split].names] for corpus in corpora], axis=0)
        for split in together
    }
    return [
        dataclasses.replace(
            corpus,
            splits={
                **corpus.splits,
                **{
                    split: Subset.of(whole, [np.arange(end - len(names), end) for end, names in own])
                    for split, whole in together.items()
                    for own in [zip(ends[split][number], corpus.splits[split].names, strict=True)]
                },
            },
        )
        for number, corpus in enumerate(corpora)
    ]


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
