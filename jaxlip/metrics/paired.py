"""Is B better than A on the same examples? A paired bootstrap over them, or over the clips they are of. NumPy."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxlip.metrics.scores import BOOTSTRAP, Score, bootstrap_draws, interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """B minus A, with its 95 % interval; `probability` is the part of the draws in which B is better (a tie counts a
    half)."""

    value: float
    low: float
    high: float
    probability: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:+.4f}  [{self.low:+.4f}, {self.high:+.4f}]   better in {self.probability:.1%} of the draws"


def paired_bootstrap(
    a: Callable[[np.ndarray], float],
    b: Callable[[np.ndarray], float],
    groups_N: np.ndarray,
    *,
    lower_is_better: bool = False,
    seed: int = 0,
    draws: int = BOOTSTRAP,
) -> Difference:
    """How much better B is than A, both as statistics of the weights [N] of the same examples.

    A draw takes whole groups (each example its own, or the clip, user or speaker that it is of), the same for A and B.
    """
    drawn = [bootstrap_draws(statistic, groups_N, seed=seed, draws=draws) for statistic in (a, b)]
    all_N = np.ones(len(groups_N))
    return _difference(a(all_N), b(all_N), drawn[0], drawn[1], lower_is_better)


def score_difference(a: Score, b: Score, *, lower_is_better: bool = False) -> Difference | None:
    """The same from the draws that two scores keep; None where one has none or they are of different groups."""
    if a.draws is None or b.draws is None or a.draws.groups != b.draws.groups:
        return None
    return _difference(a.value, b.value, a.draws.values_R, b.draws.values_R, lower_is_better)


def _difference(a: float, b: float, a_R: np.ndarray, b_R: np.ndarray, lower_is_better: bool) -> Difference:
    low, high = interval(b_R - a_R)
    gain_R = (a_R - b_R) if lower_is_better else (b_R - a_R)
    probability = float((gain_R > 0).mean() + (gain_R == 0).mean() / 2)
    return Difference(value=b - a, low=low, high=high, probability=probability)
