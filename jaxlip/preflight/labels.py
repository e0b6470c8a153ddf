"""Whether labels can be learned and scored: classes that are there, texts that come back, targets that fit, metrics."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.data.batches import Split
from jaxlip.data.sentences import SentenceTarget, infeasible
from jaxlip.metrics.direction import higher_is_better
from jaxlip.metrics.scores import Score, Scores
from jaxlip.preflight.check import Check, failed, passed, some, warned
from jaxlip.preflight.probe import Probe

SCORED = 16
"""Examples on which metrics are tried."""
SAME = 1e-5
"""Difference of two scores that is rounding."""
LOST = 0.5
"""Part of the targets that cannot be learned above which training is pointless."""


@runtime_checkable
class KnowsAnswers(Protocol):
    """A task that can say what the outputs of a perfect model are, and of one that does not look."""

    def perfect(self, split: Split, spec: Any) -> list[Any]:
        """Outputs, one pytree of NumPy arrays a bucket, that get everything right."""
        ...

    def floors(self, split: Split, train: Split, spec: Any) -> list[list[Any]]:
        """Outputs of every answer that does not look at the input; a score's floor is that of the best of them."""
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
    """Perfect outputs must score 1, and an error 0; the best of those that do not look, the floor."""
    train, spec = probe.corpus.splits["train"], probe.corpus.spec
    split = _sample(probe.corpus.splits["val"])
    perfect = task.perfect(split, spec)
    judged = _judged(probe.task.score(perfect, split, train, spec))
    best = {name: float(higher_is_better(name)) for name in judged}
    wrong = [f"{name} {score.value:.3f}" for name, score in judged.items() if abs(score.value - best[name]) > SAME]
    if wrong:
        saw = f"perfect outputs score {some(wrong)}"
        yield failed("labels.metrics", saw, "the metric, or how outputs become answers, is wrong")
    else:
        yield passed("labels.metrics", f"perfect outputs score 1 (errors 0) in {some(list(judged))}")
    yield _logged(probe, perfect, split)
    yield _floor(
        judged, [_judged(probe.task.score(blind, split, train, spec)) for blind in task.floors(split, train, spec)]
    )


def _judged(scores: Scores) -> dict[str, Score]:
    """Scores that have a floor; of several decoders, the one that adds nothing of its own."""
    judged = {name: score for name, score in scores.scores.items() if score.floor is not None}
    greedy = {name: score for name, score in judged.items() if name.startswith("greedy/")}
    return greedy or judged


def _logged(probe: Probe, perfect: list[Any], split: Split) -> Check:
    """What training watches must say of perfect outputs what the scores say, of a batch and of one example alone."""
    bucket = max(range(len(split.names)), key=lambda b: len(split.names[b]))
    batch, outputs = jax.tree.map(jnp.asarray, (split.buckets[bucket], perfect[bucket]))
    measure = jax.jit(lambda outputs, batch: probe.task.metrics(outputs, batch, train=False))
    wrong: list[str] = []
    for examples in (len(split.names[bucket]), 1):
        only = dataclasses.replace(batch, examples_B=jnp.arange(len(batch.examples_B)) < examples)
        means = {name: mean.result() for name, mean in jax.device_get(measure(outputs, only)).items()}
        wrong += [f"{name} {value:.3f}" for name, value in means.items() if _off(name, value, examples)]
    if wrong:
        saw = f"of perfect outputs, training would log {some(list(dict.fromkeys(wrong)))}"
        return failed("labels.logged", saw, "what selects the best epoch, or what is minimised, is computed wrongly")
    return passed("labels.logged", "what training logs says of perfect outputs that they are perfect, also one by one")


def _off(name: str, value: float, examples: int) -> bool:
    """Whether a statistic of perfect outputs is not what it must be."""
    if not math.isfinite(value):
        return True
    if name in ("token_error", "disagreement"):
        return abs(value) > SAME
    # A correlation of one example with itself is whatever it is defined to be.
    return examples > 1 and (name == "accuracy" or name.endswith("ccc")) and abs(value - 1) > SAME


def _floor(judged: dict[str, Score], blind: list[dict[str, Score]]) -> Check:
    floors = {name: float(score.floor) for name, score in judged.items() if score.floor is not None}
    shown = [f"{name} {floor:.3f}" for name, floor in floors.items()]
    saw = f"the best answer without looking at the input, on a sample: {some(shown)}"
    wrong = []
    for name, floor in floors.items():
        # A correlation that is not defined, since an answer never varies, is none.
        values = [scores[name].value if name in scores else 0.0 for scores in blind]
        best = max(values, default=floor) if higher_is_better(name) else min(values, default=floor)
        if abs(best - floor) > SAME:
            wrong.append(f"{name} is said to be {floor:.3f} and is {best:.3f}")
    if wrong:
        advice = "scores are compared with a floor that is not one: fit it on training labels, and on nothing else"
        return failed("labels.floor", f"of the best answer without looking at the input, {some(wrong)}", advice)
    return passed("labels.floor", saw)


def _sample(split: Split) -> Split:
    """Up to SCORED examples of each bucket, evenly spread."""
    rows = [np.linspace(0, len(names) - 1, min(SCORED, len(names))).astype(int) for names in split.names]
    return Split(
        buckets=tuple(split.take(bucket, row_N) for bucket, row_N in enumerate(rows)),
        names=tuple(tuple(names[n] for n in row_N) for names, row_N in zip(split.names, rows, strict=True)),
    )
