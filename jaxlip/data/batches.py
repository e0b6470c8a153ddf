"""What the engine trains on: splits of examples in length buckets, resident on the device, and the order of batches."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from jaxlip.config import Component


class Examples(Protocol):
    """A frozen dataclass pytree whose arrays share the leading example axis; `examples_B` is True for real rows."""

    examples_B: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """Face clips of one length bucket: T frames each, padded on the right (and masked inside long gaps).

    `landmarks_BTVC` f32, normalised, V = the stored ids of the preset; `frames_BT` bool, real frames; `detected_BT`
    bool, frames with a face (the others are interpolated); `speech_BT` bool, the mask channel of the input: frames of
    the labelled word (for a sentence, whose timing nobody knows in use, frames with a face); `target` what is to be
    learned: int32 [B] of a word, SentenceTarget of a sentence; `examples_B` bool, False for rows that only fill the
    last batch.
    """

    INPUTS: ClassVar = ("landmarks_BTVC", "frames_BT", "speech_BT")
    """What a model is given to use; preflight looks whether it does."""
    PADDED: ClassVar = {"landmarks_BTVC": "frames_BT", "speech_BT": "frames_BT"}
    """Array -> mask of its padded axes."""

    landmarks_BTVC: Any
    frames_BT: Any
    detected_BT: Any
    speech_BT: Any
    target: Any
    examples_B: Any


@runtime_checkable
class Recipe(Protocol):
    """A bucket of endless data: a pytree that makes examples from their numbers where they are used, inside jit.

    Every number is another example, the same one whenever it is asked for; so nothing is stored and nothing repeats.
    """

    def make(self, numbers_B: Any) -> Any:
        """The batch of these examples (numbers are 0 or more)."""
        ...


@dataclasses.dataclass(frozen=True)
class Numbered(Sequence[str]):
    """Names of a recipe's examples; `count` of them are an epoch, but there is a name for any number."""

    recipe: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Any) -> Any:
        return f"{self.recipe}#{index}"

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(self.count))


Put = Callable[[Any], Any]
"""Puts a pytree of NumPy arrays on the devices."""


@runtime_checkable
class Deals(Protocol):
    """A `Put` that can also split batches over devices, to each its part."""

    def columns(self, batch: int) -> slice | None:
        """Which examples of every batch this host has to give; None where batches of this size are not split."""
        ...

    def deal(self, tree: Any, batch: int) -> Any:
        """Arrays [N, B, ...] on the devices, from this host's columns of them."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dealt:
    """Whole batches one after the other, arrays [N, B, ...], in rows that count through all of them."""

    batches: Any

    def batch(self, rows_B: Any) -> Any:
        """The batch that these rows are; inside jit."""
        number = rows_B[0] // len(rows_B)
        return jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, number, keepdims=False), self.batches)


Plan = Sequence[tuple[int, np.ndarray]]
"""(bucket, rows) of one batch after the other; rows of any shape, -1 where there is no example."""


@runtime_checkable
class Feed(Protocol):
    """Where the engine gets batches from, wherever they lie."""

    def batches(self, plan: Plan) -> Iterator[tuple[Any, Any]]:
        """(arrays, rows) on the devices for each (bucket, rows) of the plan: `rows`, in the shape of the plan's, are
        where in the arrays its examples are."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The examples of one split: a batch of NumPy arrays, or a `Recipe`, for every length bucket, and the examples'
    names (of a recipe, `Numbered`)."""

    buckets: tuple[Any, ...]
    names: tuple[Any, ...]
    speakers: tuple[Sequence[str], ...] = ()
    """Who is in each example, "" where nobody knows it; of no bucket where the source knows nobody."""

    def __len__(self) -> int:
        return sum(len(names) for names in self.names)

    def take(self, bucket: int, rows_N: np.ndarray) -> Any:
        """These rows of a bucket, as a batch on the host."""
        if isinstance(recipe := self.buckets[bucket], Recipe):
            return jax.device_get(jax.jit(type(recipe).make)(recipe, rows_N))
        return jax.tree.map(lambda array: array[rows_N], self.buckets[bucket])

    def arrays(self, bucket: int) -> Iterator[tuple[tuple[int, ...], np.dtype, Iterable[np.ndarray]]]:
        """Shape, type and content (in parts along the examples) of every array of a bucket."""
        for array in jax.tree.leaves(self.buckets[bucket]):
            yield array.shape, array.dtype, (array,)

    def feed(self, put: Put) -> Feed:
        """The split as the engine reads it."""
        return Resident(tuple(put(bucket) for bucket in self.buckets), put)


@dataclasses.dataclass(frozen=True)
class Resident:
    """Feeds rows of whole buckets that lie on the devices."""

    buckets: tuple[Any, ...]
    put: Put

    def batches(self, plan: Plan) -> Iterator[tuple[Any, Any]]:
        for bucket, rows in plan:
            yield self.buckets[bucket], self.put(rows)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What a task makes of a data config.

    `spec` holds what a model of these data is built from (it travels with the checkpoint); `counts` and `notes` tell
    what was read and what was left out, for people and for config.json.
    """

    splits: dict[str, Split]
    spec: Component
    counts: dict[str, Any]
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 over every array and name of every split: equal only for equal data in equal order."""
        digest = hashlib.sha256()
        for split in sorted(self.splits):
            for bucket, names in enumerate(self.splits[split].names):
                digest.update("\n".join((split, *names)).encode())
                for shape, dtype, parts in self.splits[split].arrays(bucket):
                    digest.update(f"{shape}{dtype}".encode())
                    for part in parts:
                        digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:32]


def bucket_of(length: int, edges: tuple[int, ...]) -> int | None:
    """The smallest bucket that holds `length` frames, None if none does."""
    return next((edge for edge in sorted(edges) if length <= edge), None)


@dataclasses.dataclass(frozen=True)
class Dispatch:
    """Batches that run on the device in one call: rows [K, B] of one bucket, -1 where the last batch is not full."""

    bucket: int
    rows_KB: np.ndarray
    steps: int
    """How many of the K batches are real; the others only keep the shape."""


def _dispatches(rows_SB: np.ndarray, bucket: int, per_dispatch: int) -> Iterator[Dispatch]:
    for start in range(0, len(rows_SB), per_dispatch):
        rows_KB = rows_SB[start : start + per_dispatch]
        padded_KB = np.full((per_dispatch, rows_SB.shape[1]), -1, np.int32)
        padded_KB[: len(rows_KB)] = rows_KB
        yield Dispatch(bucket, padded_KB, len(rows_KB))


def _batched(order_N: np.ndarray, batch: int) -> np.ndarray:
    padded = np.full(-(-len(order_N) // batch) * batch, -1, np.int32)
    padded[: len(order_N)] = order_N
    return padded.reshape(-1, batch)


def steps_per_epoch(split: Split, batch: int) -> int:
    return sum(-(-len(names) // batch) for names in split.names)


def epoch_plan(
    split: Split,
    *,
    batch: int,
    per_dispatch: int,
    seed: int,
    epoch: int,
    orders: int = 1,
    weights: Sequence[np.ndarray] | None = None,
) -> list[Dispatch]:
    """The dispatches of one epoch, from (seed, epoch, weights) alone: every example once, shuffled in its bucket; the
    order of dispatches shuffled between buckets. Of a recipe, an epoch takes the numbers after those of the last one.

    With `weights`, of every example bucket by bucket, as many are drawn from each bucket, with replacement. Of several
    `orders`, every batch holds a batch of each, one after the other.
    """
    rng = np.random.default_rng([seed, epoch])

    def order(bucket: int, number: int) -> np.ndarray:
        count = len(split.names[bucket])
        if isinstance(split.buckets[bucket], Recipe):
            return count * (orders * epoch + number) + np.arange(count)
        if weights is not None:
            return rng.choice(count, size=count, p=weights[bucket] / weights[bucket].sum())
        return rng.permutation(count)

    plan: list[Dispatch] = []
    for bucket in range(len(split.names)):
        rows_SB = np.concatenate([_batched(order(bucket, number), batch) for number in range(orders)], axis=1)
        plan.extend(_dispatches(rows_SB, bucket, per_dispatch))
    return [plan[i] for i in rng.permutation(len(plan))]


def sequential_plan(split: Split, *, batch: int) -> list[tuple[int, np.ndarray]]:
    """(bucket, rows [B]) over all examples in order, -1 where the last batch of a bucket is not full."""
    return [
        (bucket, rows_B)
        for bucket, names in enumerate(split.names)
        for rows_B in _batched(np.arange(len(names)), batch)
    ]
