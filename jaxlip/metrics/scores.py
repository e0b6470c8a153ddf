"""Scores as people should read them: with an interval, and beside the score of not looking at the input."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

BOOTSTRAP = 1000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """A statistic in each of the bootstrap's draws, and the fingerprint of the groups that were drawn from.

    Draws of two runs over the same groups are the same draws: their differences are those of a paired bootstrap.
    """

    values_R: np.ndarray
    groups: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A score with its 95 % bootstrap interval over clips, and its floor where one is defined."""

    value: float
    low: float
    high: float
    floor: float | None = None
    draws: Draws | None = dataclasses.field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls, statistic: Callable[[np.ndarray], float], groups_N: np.ndarray, *, floor: float | None = None
    ) -> "Score":
        """The score of all examples, `statistic(weights_N)` with every weight 1, and of bootstrap draws of groups."""
        values_R = bootstrap_draws(statistic, groups_N)
        low, high = interval(values_R)
        draws = Draws(values_R=values_R, groups=group_fingerprint(groups_N))
        return cls(value=float(statistic(np.ones(len(groups_N)))), low=low, high=high, floor=floor, draws=draws)

    def __str__(self) -> str:
        floor = "" if self.floor is None else f"   floor {self.floor:.4f}"
        return f"{self.value:.4f}  [{self.low:.4f}, {self.high:.4f}]{floor}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistake:
    """An answer that was wrong: of which example (`index` in the split's order), the truth, and `note`: how wrong."""

    index: int
    example: str
    truth: str
    answer: str
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of one split. `tables` hold rows (name -> value) by table name; `confusion_KK` counts, if classes;
    `pairs` the truths and guesses of a regression, by group; `worst` are the worst mistakes, worst first."""

    count: int
    scores: dict[str, Score]
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    confusion_KK: np.ndarray | None = None
    pairs: dict[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    worst: tuple[Mistake, ...] = ()


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups_N: np.ndarray, *, seed: int = 0, draws: int = BOOTSTRAP
) -> tuple[float, float]:
    """95 % percentile interval of `statistic(weights_N)` over `bootstrap_draws`."""
    return interval(bootstrap_draws(statistic, groups_N, seed=seed, draws=draws))


def bootstrap_draws(
    statistic: Callable[[np.ndarray], float], groups_N: np.ndarray, *, seed: int = 0, draws: int = BOOTSTRAP
) -> np.ndarray:
    """`statistic(weights_N)` [R] in draws that take whole groups with replacement.

    `groups_N` gives each example's group (its clip): words of one clip are not independent, so that resampling them
    one by one would make the interval too narrow. `weights_N` says how often each example was drawn. The draws depend
    on the seed and on the sorted names of the groups alone, not on the order of examples.
    """
    _, group_N = np.unique(groups_N, return_inverse=True)
    count = int(group_N.max()) + 1
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn_G = np.bincount(rng.integers(0, count, count), minlength=count)
        values.append(statistic(drawn_G[group_N]))
    return np.array(values, float)


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.percentile(values_R, [2.5, 97.5])
    return float(low), float(high)


def group_fingerprint(groups_N: np.ndarray) -> str:
    """Equal for equal sets of groups."""
    return hashlib.sha256("\n".join(map(str, np.unique(groups_N))).encode()).hexdigest()[:16]
