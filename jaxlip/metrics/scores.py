"""Scores as people should read them: with an interval, and beside the score of not looking at the input."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

BOOTSTRAP = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A score with its 95 % bootstrap interval over clips, and its floor where one is defined."""

    value: float
    low: float
    high: float
    floor: float | None = None

    def __str__(self) -> str:
        floor = "" if self.floor is None else f"   floor {self.floor:.4f}"
        return f"{self.value:.4f}  [{self.low:.4f}, {self.high:.4f}]{floor}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of one split. `tables` hold rows (name -> value) by table name; `confusion_KK` counts, if classes."""

    count: int
    scores: dict[str, Score]
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    confusion_KK: np.ndarray | None = None


def bootstrap(
    statistic: Callable[[np.ndarray], float], groups_N: np.ndarray, *, seed: int = 0, draws: int = BOOTSTRAP
) -> tuple[float, float]:
    """95 % percentile interval of `statistic(weights_N)`, where a draw takes whole groups with replacement.

    `groups_N` gives each example's group (its clip): words of one clip are not independent, so that resampling them
    one by one would make the interval too narrow. `weights_N` says how often each example was drawn.
    """
    _, group_N = np.unique(groups_N, return_inverse=True)
    count = int(group_N.max()) + 1
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn_G = np.bincount(rng.integers(0, count, count), minlength=count)
        values.append(statistic(drawn_G[group_N]))
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
