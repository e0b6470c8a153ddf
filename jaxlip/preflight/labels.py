"""Whether labels can be learned and scored: classes that are there, texts that come back, targets that fit, metrics."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxlip.data.batches import Split
from jaxlip.data.sentences import SentenceTarget, infeasible
from jaxlip.metrics.scores import Scores
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe

SCORED = 16
"""Examples on which metrics are tried."""
ERRORS = ("wer", "cer", "rmse", "mae", "mse")
"""Scores that are 0 at best."""
LOST = 0.5
"""Part of the targets that cannot be learned above which training is pointless."""


@runtime_checkable
class KnowsAnswers(Protocol):
    """A task that can say what a perfect model's outputs are."""

    def perfect(self, split: Split, spec: Any) -> list[Any]:
        """Outputs, one pytree of NumPy arrays a bucket, that get everything right."""
        ...


def check_labels(probe: Probe) -> Iterator[Check]:
    target = getattr(probe.batch, "target", None)
    if isinstance(target, np.ndarray) and np.issubdtype(target.dtype, np.integer):
        yield from _classes(probe)
    if isinstance(target, SentenceTarget):
        yield _vocabulary(probe)
        yield _fitting(probe)
    if isinstance(probe.task, KnowsAnswers):
        yield from _metrics(probe, probe.task)


def _classes(probe: Probe) -> Iterator[Check]:
    classes = probe.corpus.spec.classes  # type: ignore[attr-defined]
    counts = {
        split: np.bincount(np.concatenate([b.target for b in part.buckets]), minlength=len(classes))
        for split, part in probe.corpus.splits.items()
    }
    wrong = {split: len(count) for split, count in counts.items() if len(count) > len(classes)}
    if wrong or len(set(classes)) < len(classes):
        saw = f"{len(classes)} classes, {len(set(classes))} distinct, {max(wrong.values(), default=0)} used by labels"
        yield failed("labels.classes", saw, "labels and class names must map to each other one to one")
        return
    held = sum((count for split, count in counts.items() if split != "train"), np.zeros(len(classes), int))
    absent = [classes[k] for k in np.flatnonzero((counts["train"] == 0) & (held > 0))]
    majority = counts["train"].max() / counts["train"].sum()
    saw = f"{np.count_nonzero(counts['train'])} of {len(classes)} classes in training, the commonest {majority:.1%}"
    if absent:
        lost = held[counts["train"] == 0].sum() / held.sum()
        saw += f"; {lost:.0%} of what is validated or tested is of classes never trained: {some(absent)}"
        advice = "they can only be wrong: mend the splits or take them out of the vocabulary"
        yield (failed if lost > LOST else warned)("labels.classes", saw, advice)
    elif np.count_nonzero(counts["train"]) < 2:
        yield failed("labels.classes", saw, "there is nothing to tell apart")
    else:
        yield passed("labels.classes", saw)


def _vocabulary(probe: Probe) -> Check:
    spec: Any = probe.corpus.spec
    lost = []
    for part in probe.corpus.splits.values():
        for bucket, names in zip(part.buckets, part.names, strict=True):
            words, tokens = bucket.target.words, bucket.target.tokens
            for b, name in enumerate(names):
                said = spec.words.decode(words.labels_BN[b][words.tokens_BN[b]])
                if spec.vocabulary.decode(tokens.labels_BN[b][tokens.tokens_BN[b]]) != said:
                    lost.append(f"{name} ({said!r})")
    if lost:
        saw = f"{len(lost)} transcripts are not what their tokens spell: {some(lost)}"
        return failed("labels.vocabulary", saw, "the vocabulary does not map both ways")
    return passed("labels.vocabulary", f"every transcript comes back from its tokens ({len(spec.vocabulary)} in all)")


def _fitting(probe: Probe) -> Check:
    lost = {split: infeasible(part) for split, part in probe.corpus.splits.items()}
    train, names = len(probe.corpus.splits["train"]), [name for part in lost.values() for name in part]
    saw = f"{len(lost['train'])} of {train} training targets need more frames than there are"
    advice = "they give no loss and no gradient: fewer tokens (task.unit pieces or words) or a higher frame rate"
    if len(lost["train"]) > LOST * train:
        return failed("labels.targets_fit", f"{saw}: {some(names)}", advice)
    if names:
        return warned("labels.targets_fit", f"{saw}, {len(names)} in all splits: {some(names)}", advice)
    return passed("labels.targets_fit", saw)


def _metrics(probe: Probe, task: KnowsAnswers) -> Iterator[Check]:
    """Perfect outputs must score 1, and an error 0."""
    train = probe.corpus.splits["train"]
    split = _sample(probe.corpus.splits["val"])
    scores: Scores = probe.task.score(task.perfect(split, probe.corpus.spec), split, train, probe.corpus.spec)
    judged = {name: score for name, score in scores.scores.items() if score.floor is not None}
    best = {name: 0.0 if name.rpartition("/")[2] in ERRORS else 1.0 for name in judged}
    wrong = [f"{name} {score.value:.3f}" for name, score in judged.items() if abs(score.value - best[name]) > 1e-6]
    if wrong:
        saw = f"perfect outputs score {some(wrong)}"
        yield failed("labels.metrics", saw, "the metric, or how outputs become answers, is wrong")
    else:
        yield passed("labels.metrics", f"perfect outputs score 1 (errors 0) in {some(list(judged))}")
    floors = [f"{name} {score.floor:.3f}" for name, score in judged.items()]
    yield passed("labels.floor", f"the best answer without looking at the input, on a sample: {some(floors)}")


def _sample(split: Split) -> Split:
    """Up to SCORED examples of each bucket, evenly spread."""
    rows = [np.linspace(0, len(names) - 1, min(SCORED, len(names))).astype(int) for names in split.names]
    return Split(
        buckets=tuple(split.take(bucket, row_N) for bucket, row_N in enumerate(rows)),
        names=tuple(tuple(names[n] for n in row_N) for names, row_N in zip(split.names, rows, strict=True)),
    )
