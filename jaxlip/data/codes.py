"""Random codes and their m-heights: endless training data, and fixed validation and test sets."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, Numbered, Split
from jaxlip.errors import UserError
from jaxlip.mheight.exact import LONGEST, heights
from jaxlip.mheight.generate import DISTRIBUTIONS, draw

NINE = ((4, 2), (4, 3), (4, 4), (4, 5), (5, 2), (5, 3), (5, 4), (6, 2), (6, 3))
"""The groups (k, m) at n = 9."""
LARGEST_SEED = 2**29


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeBatch:
    """Codes with their heights: example b has one matrix of every k, and one height in every group (k, m).

    `entries_BD` f32 holds the entries of all matrices, one after the other in the order of `shapes`, their (k, n-k);
    `log2_BG` f32 is log2 of the heights, 0 where they are infinite; `weight_BG` f32 is what each counts: 0 where
    infinite, and such that every group counts the same over a fixed split; `examples_B` bool.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("entries_BD",)

    entries_BD: Any
    log2_BG: Any
    weight_BG: Any
    examples_B: Any
    shapes: tuple[tuple[int, int], ...] = dataclasses.field(metadata={"static": True})

    @property
    def matrices(self) -> tuple[Any, ...]:
        """P [B, k, n-k] for every k in turn."""
        ends = np.cumsum([k * r for k, r in self.shapes]).tolist()
        return tuple(
            self.entries_BD[:, end - k * r : end].reshape(-1, k, r)
            for end, (k, r) in zip(ends, self.shapes, strict=True)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeSpec(Component):
    """What a model of codes is built from."""

    n: int
    groups: tuple[tuple[int, int], ...]
    mean_log2: tuple[float, ...]
    """Mean log2 height of each group in the first epoch of training: where a model starts from."""

    @property
    def ks(self) -> tuple[int, ...]:
        return tuple(sorted({k for k, _ in self.groups}))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"k{k}m{m}" for k, m in self.groups)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codes(Component):
    """Which codes, with which entries, and how many."""

    n: int = 9
    """Length of the codes."""
    groups: tuple[tuple[int, int], ...] = NINE
    """(k, m) of every group, in ascending order; all are equally frequent."""
    integers: float = 1.0
    """Weight of matrices with integers uniform on [-100, 100]."""
    reals: float = 0.0
    """Weight of reals uniform on [-100, 100]."""
    normal: float = 0.0
    """Weight of standard normal entries."""
    scaled: float = 0.0
    """Weight of integers uniform on [-a, a], with a drawn by matrix."""
    train: int = 12_800
    """Examples (matrices of every k) that count as an epoch; none comes twice."""
    val: int = 1_000
    test: int = 2_000
    seed: int = 0
    """Seeds the three splits, each in its own way."""

    def __post_init__(self):
        require(2 <= self.n <= LONGEST, self, "n", f"from 2 to {LONGEST}")
        fits = all(1 <= k < self.n and 1 <= m <= self.n - k for k, m in self.groups)
        ordered = sorted(set(self.groups)) == list(self.groups)
        require(fits and ordered and bool(self.groups), self, "groups", "ascending (k, m) with 1 <= m <= n-k")
        for field in ("train", "val", "test"):
            require(getattr(self, field) >= 1, self, field, "1 or more")
        require(min(self.weights.values()) >= 0, self, "integers", "0 or more, as all weights of distributions")
        require(sum(self.weights.values()) > 0, self, "integers", "positive, if no other distribution's weight is")
        require(0 <= self.seed < LARGEST_SEED, self, "seed", f"from 0 to {LARGEST_SEED - 1}")

    @property
    def weights(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in DISTRIBUTIONS}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CodeRecipe:
    """Makes codes and their exact heights from numbers (`jaxlip.data.batches.Recipe`)."""

    seed: Any
    data: Codes = dataclasses.field(metadata={"static": True})

    def make(self, numbers_B: Int[Array, " B"]) -> CodeBatch:
        data, entries, logs = self.data, [], []
        keys_B = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(self.seed), number))(numbers_B)
        for k in sorted({k for k, _ in data.groups}):
            own_B = jax.vmap(lambda key, k=k: jax.random.fold_in(key, k))(keys_B)
            P_BKR = jax.vmap(lambda key, k=k: draw(key, (k, data.n - k), data.weights))(own_B)
            places = np.array([m - 1 for group_k, m in data.groups if group_k == k])
            logs.append(jnp.log2(heights(P_BKR)[:, places].astype(jnp.float32)))
            entries.append(P_BKR.reshape(len(P_BKR), -1))
        log2_BG = jnp.concatenate(logs, axis=1)
        finite_BG = jnp.isfinite(log2_BG)
        return CodeBatch(
            entries_BD=jnp.concatenate(entries, axis=1),
            log2_BG=jnp.where(finite_BG, log2_BG, 0),
            weight_BG=finite_BG.astype(jnp.float32),
            examples_B=numbers_B >= 0,
            shapes=tuple((k, data.n - k) for k in sorted({k for k, _ in data.groups})),
        )


def code_shapes(data: Codes) -> CodeSpec:
    return CodeSpec(n=data.n, groups=data.groups, mean_log2=(0.0,) * len(data.groups))


def load_codes(data: Codes) -> Corpus:
    """The three splits. Raises UserError if a matrix is in two of them, or a group has no finite height."""
    recipes = {
        name: CodeRecipe(seed=np.uint32(3 * data.seed + i), data=data)
        for i, name in enumerate(("train", "val", "test"))
    }
    names = {name: Numbered(f"{name} of {data}", getattr(data, name)) for name in recipes}
    endless = {name: Split(buckets=(recipe,), names=(names[name],)) for name, recipe in recipes.items()}
    made = {name: split.take(0, np.arange(len(split), dtype=np.int32)) for name, split in endless.items()}
    _check_apart(made)
    spec = dataclasses.replace(code_shapes(data), mean_log2=tuple(group_means(made["train"]).tolist()))
    fixed = {name: _fixed(made[name], names[name], spec) for name in ("val", "test")}
    infinite = {name: dict(zip(spec.names, _infinite(made[name]).tolist(), strict=True)) for name in ("val", "test")}
    return Corpus(
        splits={"train": endless["train"], **fixed},
        spec=spec,
        counts={"examples": {name: len(split) for name, split in endless.items()}, "infinite": infinite},
        notes=(f"infinite heights, which are left out: {infinite}",),
    )


def group_means(batch: CodeBatch) -> np.ndarray:
    """Mean log2 height [G] of every group."""
    return (batch.log2_BG * batch.weight_BG).sum(axis=0) / np.maximum(batch.weight_BG.sum(axis=0), 1e-9)


def _infinite(batch: CodeBatch) -> np.ndarray:
    return (batch.weight_BG == 0).sum(axis=0)


def _fixed(batch: CodeBatch, names: Sequence[str], spec: CodeSpec) -> Split:
    """The batch as a split whose groups count the same, however many of their heights are infinite."""
    finite_G = batch.weight_BG.sum(axis=0)
    if (finite_G == 0).any():
        group = spec.names[int(finite_G.argmin())]
        raise UserError(f"no height of the group {group} is finite in {len(names)} examples; give more, or other data.")
    weighted = dataclasses.replace(batch, weight_BG=(batch.weight_BG * (len(names) / finite_G)).astype(np.float32))
    return Split(buckets=(weighted,), names=(tuple(names),))


def _check_apart(made: dict[str, CodeBatch]) -> None:
    """No matrix in two splits, of training those of the first epoch."""
    seen: dict[bytes, str] = {}
    for split, batch in made.items():
        for P_BKR in batch.matrices:
            for content in {hashlib.sha256(P_KR.tobytes()).digest() for P_KR in P_BKR}:
                if seen.setdefault(content, split) != split:
                    raise UserError(f"a matrix is in {seen[content]} and in {split}; give another data.seed.")
