"""Several runs scored as one: mixed by weights that validation data choose, or each example by the surest of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from scipy.special import logsumexp

from jaxlip.data.batches import Corpus, Split
from jaxlip.errors import UserError
from jaxlip.metrics.scores import Scores
from jaxlip.report.saved import Saved

STEPS = 200
"""Steps of expectation maximisation; the likelihood of mixture weights has one maximum."""


@runtime_checkable
class Mixes(Protocol):
    """A task whose models can be asked together. Outputs are one pytree a bucket, as `Task.score` takes them."""

    def log_evidence(self, outputs: list[Any], split: Split, spec: Any) -> np.ndarray:
        """log p [N] of the right answers, in the split's order."""
        ...

    def confidence(self, outputs: list[Any], split: Split) -> np.ndarray:
        """[N] how sure the model is, comparable between models."""
        ...

    def score_mixture(
        self, members: list[list[Any]], weights_M: np.ndarray, split: Split, train: Split, spec: Any
    ) -> Scores:
        """Scores of the weighted mean of the models' probabilities."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Members:
    """Runs that answer the same questions, each with its data as it sees them."""

    runs: tuple[Saved, ...]
    corpora: tuple[Corpus, ...]

    @property
    def first(self) -> Saved:
        return self.runs[0]

    def outputs(self, split: str) -> list[list[Any]]:
        return [run.predict(corpus, split)[0] for run, corpus in zip(self.runs, self.corpora, strict=True)]


def gather(runs: Sequence[Saved], **moved: str) -> Members:
    """Reads the data of every run, equal ones once. Raises UserError unless all answer the same questions."""
    if not isinstance(runs[0].task, Mixes):
        raise UserError(f"runs of the task {type(runs[0].task).__name__} cannot be asked together.")
    corpora: list[Corpus] = []
    for run in runs:
        twin = next((n for n, other in enumerate(runs[: len(corpora)]) if _same_data(run, other)), None)
        corpora.append(run.corpus(**moved) if twin is None else corpora[twin])
        if why := _difference(runs[0], corpora[0], run, corpora[-1]):
            raise UserError(f"{run.folder.path} cannot be asked together with {runs[0].folder.path}: {why}.")
    return Members(runs=tuple(runs), corpora=tuple(corpora))


def _same_data(a: Saved, b: Saved) -> bool:
    return a.meta.fingerprint == b.meta.fingerprint and a.meta.experiment.data == b.meta.experiment.data


def _difference(first: Saved, corpus: Corpus, run: Saved, other: Corpus) -> str | None:
    """Why two runs cannot answer together, if they cannot."""
    if type(run.task) is not type(first.task):
        return f"its task is {type(run.task).__name__}, not {type(first.task).__name__}"
    for field in ("classes", "vocabulary"):
        if getattr(run.meta.spec, field, None) != getattr(first.meta.spec, field, None):
            return f"its {field} are others"
    for split, part in corpus.splits.items():
        there = other.splits.get(split)
        if there is None or there.names != part.names:
            return f"its {split} examples are others"
        for a, b in zip(part.buckets, there.buckets, strict=True):
            same = jax.tree.map(np.array_equal, a.target, b.target)
            if not all(jax.tree.leaves(same)):
                return f"its {split} labels are others"
    return None


def fit_weights(log_evidence_MN: np.ndarray) -> np.ndarray:
    """Weights [M] under which the mixture makes the right answers likeliest, by expectation maximisation."""
    log_w_M = np.full(len(log_evidence_MN), -np.log(len(log_evidence_MN)))
    for _ in range(STEPS):
        joint_MN = log_w_M[:, None] + log_evidence_MN
        share_MN = np.exp(joint_MN - logsumexp(joint_MN, axis=0, keepdims=True))
        log_w_M = np.log(np.maximum(share_MN.mean(axis=1), 1e-12))
    return np.exp(log_w_M)


def fitted_on_validation(members: Members) -> np.ndarray:
    """Mixture weights of the runs, from the validation split."""
    split, outputs = members.corpora[0].splits["val"], members.outputs("val")
    spec = members.first.meta.spec
    return fit_weights(np.stack([members.first.task.log_evidence(out, split, spec) for out in outputs]))


def surest(outputs: list[list[Any]], confidence_MN: np.ndarray) -> list[Any]:
    """For each example the outputs of the member that is surest of it."""
    chosen_N, routed, start = confidence_MN.argmax(axis=0), [], 0
    for parts in zip(*outputs, strict=True):
        rows = len(jax.tree.leaves(parts[0])[0])
        chosen_B, start = chosen_N[start : start + rows], start + rows
        routed.append(jax.tree.map(lambda *arrays, c=chosen_B: np.stack(arrays)[c, np.arange(len(c))], *parts))
    return routed


def score_together(members: Members, split: str, *, weights_M: np.ndarray | None) -> tuple[Scores, list[Scores]]:
    """Scores of the ensemble, mixed by these weights or (None) routed by confidence; and those of each member alone."""
    task, spec = members.first.task, members.first.meta.spec
    held, train, outputs = members.corpora[0].splits[split], members.corpora[0].splits["train"], members.outputs(split)
    alone = [
        run.task.score(out, corpus.splits[split], corpus.splits["train"], run.meta.spec)
        for run, corpus, out in zip(members.runs, members.corpora, outputs, strict=True)
    ]
    if weights_M is not None:
        return task.score_mixture(outputs, weights_M, held, train, spec), alone
    confidence_MN = np.stack([task.confidence(out, held) for out in outputs])
    return task.score(surest(outputs, confidence_MN), held, train, spec), alone
