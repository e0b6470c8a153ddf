"""Cross-validation: one pool of training and validation examples, dealt in folds that share no speaker (or clip)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxlip.config import Component, Experiment, Fold
from jaxlip.data.batches import Corpus, Recipe, Split
from jaxlip.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Subset(Split):
    """Some rows of another split; `rows` are (bucket, rows) there for every bucket here."""

    whole: Split
    rows: tuple[tuple[int, np.ndarray], ...]

    @classmethod
    def of(cls, whole: Split, rows: Sequence[np.ndarray]) -> "Subset":
        """These rows of each bucket; buckets without any are left out."""
        kept = tuple((bucket, rows_N) for bucket, rows_N in enumerate(rows) if len(rows_N))
        return cls(
            buckets=tuple(whole.take(bucket, rows_N) for bucket, rows_N in kept),
            names=tuple(tuple(whole.names[bucket][int(row)] for row in rows_N) for bucket, rows_N in kept),
            speakers=tuple(tuple(whole.speakers[bucket][int(row)] for row in rows_N) for bucket, rows_N in kept),
            whole=whole,
            rows=kept,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Folds:
    """A corpus dealt in folds that share one pool of examples. `fold_of` [N] is the part of every example, by bucket;
    `by` says what is never in two parts."""

    corpus: Corpus
    pool: Split
    fold_of: tuple[np.ndarray, ...]
    by: str

    @classmethod
    def deal(cls, corpus: Corpus, fold: Fold) -> "Folds":
        """Raises UserError for data that cannot be dealt."""
        pool = _join(corpus.splits["train"], corpus.splits["val"])
        for by, owners in (("speaker", _speakers(pool)), ("clip", _clips(pool))):
            known = np.concatenate(owners)
            if len(np.unique(known)) >= fold.of and "" not in known:
                part_of = _deal(known, fold)
                return cls(corpus=corpus, pool=pool, by=by, fold_of=tuple(_look_up(part_of, names) for names in owners))
        raise UserError(f"fold.of={fold.of} is more than there are clips to train and validate on; make it smaller.")

    def fold(self, index: int) -> Corpus:
        """The corpus whose part `index` validates."""
        rows = {
            "train": [np.flatnonzero(parts != index) for parts in self.fold_of],
            "val": [np.flatnonzero(parts == index) for parts in self.fold_of],
        }
        subsets = {split: Subset.of(self.pool, parts) for split, parts in rows.items()}
        counts = {**self.corpus.counts, "examples": {**self.corpus.counts["examples"]}}
        counts["examples"].update({split: len(subset) for split, subset in subsets.items()})
        note = f"validation is one of {max(map(max, self.fold_of)) + 1} folds that share no {self.by}"
        return Corpus(
            splits={**self.corpus.splits, **subsets},
            spec=self.corpus.spec,
            counts=counts,
            notes=(*self.corpus.notes, note),
        )


def read_corpus(experiment: Experiment, data: Component | None = None) -> Corpus:
    """The experiment's data (`data` where they have moved), in its fold. Raises UserError."""
    return read_corpora([experiment], data)[0]


def read_corpora(experiments: Sequence[Experiment], data: Component | None = None) -> list[Corpus]:
    """The same of experiments that differ in nothing but their fold's index; they share what is in memory."""
    first = experiments[0]
    task: Any = first.task
    corpus = task.corpus(first.data if data is None else data)
    if first.fold.of == 1:
        return [corpus] * len(experiments)
    folds = Folds.deal(corpus, first.fold)
    return [folds.fold(experiment.fold.index) for experiment in experiments]


def _join(first: Split, second: Split) -> Split:
    """Both splits in one; buckets of the same shapes become one. Raises UserError where they are not in memory."""
    by_shape: dict[Any, list[tuple[Split, int]]] = {}
    for split in (first, second):
        for bucket, arrays in enumerate(split.buckets):
            if type(split) is not Split or isinstance(arrays, Recipe):
                raise UserError(
                    "folds need examples in memory: data that are made endlessly have none to hold out, "
                    "and those that are streamed fit with a higher --data.resident_gib."
                )
            shapes = tuple(array.shape[1:] for array in jax.tree.leaves(arrays))
            by_shape.setdefault(shapes, []).append((split, bucket))
    parts = list(by_shape.values())
    return Split(
        buckets=tuple(
            jax.tree.map(lambda *arrays: np.concatenate(arrays), *(split.buckets[b] for split, b in part))
            for part in parts
        ),
        names=tuple(tuple(name for split, b in part for name in split.names[b]) for part in parts),
        speakers=tuple(tuple(who for split, b in part for who in _known(split, b)) for part in parts),
    )


def _known(split: Split, bucket: int) -> Sequence[str]:
    return split.speakers[bucket] if split.speakers else ("",) * len(split.names[bucket])


def _speakers(split: Split) -> list[np.ndarray]:
    return [np.array(speakers) for speakers in split.speakers]


def _clips(split: Split) -> list[np.ndarray]:
    # Examples of one clip are named clip#something.
    return [np.array([name.partition("#")[0] for name in names]) for names in split.names]


def _deal(owners_N: np.ndarray, fold: Fold) -> dict[str, int]:
    """The part of every owner: shuffled, the largest first, each into the part with the fewest examples so far."""
    owners, counts = np.unique(owners_N, return_counts=True)
    order = np.random.default_rng(fold.seed).permutation(len(owners))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes, part_of = np.zeros(fold.of, int), {}
    for owner in order:
        part = int(sizes.argmin())
        part_of[str(owners[owner])] = part
        sizes[part] += counts[owner]
    return part_of


def _look_up(part_of: dict[str, int], owners_N: np.ndarray) -> np.ndarray:
    return np.array([part_of[str(owner)] for owner in owners_N])
