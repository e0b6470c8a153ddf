"""Scores of valence and arousal: CCC, Pearson's r, errors, r within and between users, each with its floor. NumPy.

r_within is the mean over users of the correlation within each user's entries; a user counts with SPARSE or more entries
that vary both in truth and in prediction. r_between is the correlation of the users' means, over all users with an
entry, if there are SPARSE or more. r_composite = tanh of the mean of atanh of both. What is not defined is left out.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.metrics.scores import Score, Scores
from jaxlip.text.entries import DIMENSIONS

SPARSE = 3
"""Entries of a user, and users, from which a correlation is taken."""
LARGEST = 1 - 1e-9
"""Correlations beyond it are taken to be it: atanh of 1 is infinite."""
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Of predictions, truths and weights, each [N]."""


def _moments(x_N, y_N, w_N):
    w_N = w_N / max(w_N.sum(), 1e-9)
    x, y = (w_N * x_N).sum(), (w_N * y_N).sum()
    dx_N, dy_N = x_N - x, y_N - y
    return x - y, (w_N * dx_N**2).sum(), (w_N * dy_N**2).sum(), (w_N * dx_N * dy_N).sum()


def weighted_ccc(x_N: np.ndarray, y_N: np.ndarray, w_N: np.ndarray) -> float:
    """Lin's concordance with biased moments; 1 where both are constant and equal."""
    shift, xx, yy, xy = _moments(x_N, y_N, w_N)
    spread = xx + yy + shift**2
    return float(2 * xy / spread) if spread > 1e-12 else 1.0


def weighted_pearson(x_N: np.ndarray, y_N: np.ndarray, w_N: np.ndarray) -> float:
    """Pearson's r; 0 where one side is constant."""
    _, xx, yy, xy = _moments(x_N, y_N, w_N)
    return float(xy / np.sqrt(xx * yy)) if min(xx, yy) > 1e-12 else 0.0


def weighted_rmse(x_N: np.ndarray, y_N: np.ndarray, w_N: np.ndarray) -> float:
    return float(np.sqrt(np.average((x_N - y_N) ** 2, weights=w_N)))


def weighted_mae(x_N: np.ndarray, y_N: np.ndarray, w_N: np.ndarray) -> float:
    return float(np.average(np.abs(x_N - y_N), weights=w_N))


ERRORS: dict[str, Statistic] = {"rmse": weighted_rmse, "mae": weighted_mae}
AGREEMENTS: dict[str, Statistic] = {"ccc": weighted_ccc, "pearson": weighted_pearson}


class UserCorrelations:
    """r_within, r_between and r_composite under weights of whole users, as a bootstrap over users draws them."""

    def __init__(self, x_N: np.ndarray, y_N: np.ndarray, users_N: np.ndarray):
        _, self.first_U, self.user_N = np.unique(users_N, return_index=True, return_inverse=True)
        count_U = np.bincount(self.user_N)
        self.mean_U2 = np.stack([np.bincount(self.user_N, v_N) / count_U for v_N in (x_N, y_N)], axis=1)
        self.r_U = np.full(len(count_U), np.nan)
        for user in np.flatnonzero(count_U >= SPARSE):
            own_N = self.user_N == user
            x_M, y_M = x_N[own_N], y_N[own_N]
            if min(x_M.std(), y_M.std()) > 1e-6:
                self.r_U[user] = weighted_pearson(x_M, y_M, np.ones(len(x_M)))

    @property
    def counted(self) -> int:
        """Users with a correlation of their own."""
        return int(np.isfinite(self.r_U).sum())

    @property
    def defined(self) -> tuple[str, ...]:
        """Which of the three there are."""
        within = ("within",) if self.counted else ()
        between = ("between",) if len(self.r_U) >= SPARSE else ()
        return (*within, *between, *(("composite",) if within and between else ()))

    def within(self, w_N: np.ndarray) -> float:
        w_U = w_N[self.first_U] * np.isfinite(self.r_U)
        return float(np.average(np.nan_to_num(self.r_U), weights=w_U)) if w_U.any() else 0.0

    def between(self, w_N: np.ndarray) -> float:
        w_U, (x_U, y_U) = w_N[self.first_U], self.mean_U2.T
        return weighted_pearson(x_U, y_U, w_U) if (w_U > 0).sum() >= SPARSE else 0.0

    def composite(self, w_N: np.ndarray) -> float:
        r_2 = np.clip([self.within(w_N), self.between(w_N)], -LARGEST, LARGEST)
        return float(np.tanh(np.arctanh(r_2).mean()))


def affect_scores(
    guess_NA: Float[np.ndarray, "N A"],
    truth_NA: Float[np.ndarray, "N A"],
    users_N: np.ndarray,
    seen_N: Bool[np.ndarray, " N"],
    floors: dict[str, Float[np.ndarray, "N A"]],
) -> Scores:
    """All scores with bootstrap intervals over users; those of seen and unseen users apart where there are both.

    A score's floor is that of the best predictor among `floors` that never look at the text. Raises ValueError for
    predictions that are not finite.
    """
    if guess_NA.shape != truth_NA.shape or not np.isfinite(guess_NA).all():
        raise ValueError(f"predictions of shape {guess_NA.shape} for {truth_NA.shape} labels, or not finite")
    guess_NA, truth_NA = guess_NA.astype(float), truth_NA.astype(float)
    parts = {"": np.ones(len(truth_NA), bool)}
    if seen_N.any() and not seen_N.all():
        parts |= {"seen/": seen_N, "unseen/": ~seen_N}
    scores: dict[str, Score] = {}
    for part, rows_N in parts.items():
        own = {name: floor_NA[rows_N] for name, floor_NA in floors.items()}
        for name, score in _scores_of(guess_NA[rows_N], truth_NA[rows_N], users_N[rows_N], own).items():
            scores[part + name] = score
    users = [_user_row(part, guess_NA[rows_N], truth_NA[rows_N], users_N[rows_N]) for part, rows_N in parts.items()]
    tables = {"users": users, "floors": _floor_rows(truth_NA, floors)}
    return Scores(count=len(truth_NA), scores=scores, tables=tables)


def _user_row(part: str, guess_NA, truth_NA, users_N) -> dict:
    """How many users and entries there are, and how many users have a correlation of their own."""
    row = {"users": part.rstrip("/") or "all", "count": len(np.unique(users_N)), "entries": len(users_N)}
    for a, name in enumerate(DIMENSIONS):
        row[f"with {name} r"] = UserCorrelations(guess_NA[:, a], truth_NA[:, a], users_N).counted
    return row


def _scores_of(guess_NA, truth_NA, users_N, floors: dict[str, np.ndarray]) -> dict[str, Score]:
    one_N = np.ones(len(truth_NA))

    def mean_ccc(x_NA, w_N):
        return float(np.mean([weighted_ccc(x_NA[:, a], truth_NA[:, a], w_N) for a in range(truth_NA.shape[1])]))

    best = max(mean_ccc(floor_NA, one_N) for floor_NA in floors.values())
    scores = {"ccc": Score.of(lambda w_N: mean_ccc(guess_NA, w_N), users_N, floor=best)}
    for a, name in enumerate(DIMENSIONS):
        x_N, y_N = guess_NA[:, a], truth_NA[:, a]
        for kinds, choose in ((AGREEMENTS, max), (ERRORS, min)):
            for metric, statistic in kinds.items():
                floor = choose(statistic(floor_NA[:, a], y_N, one_N) for floor_NA in floors.values())
                scores[f"{name}/{metric}"] = Score.of(functools.partial(statistic, x_N, y_N), users_N, floor=floor)
        if len(np.unique(users_N)) < len(users_N):
            own = UserCorrelations(x_N, y_N, users_N)
            bare = [UserCorrelations(floor_NA[:, a], y_N, users_N) for floor_NA in floors.values()]
            for kind in own.defined:
                floor = max(getattr(user, kind)(one_N) for user in bare)
                scores[f"{name}/r_{kind}"] = Score.of(getattr(own, kind), users_N, floor=floor)
    return scores


def _floor_rows(truth_NA, floors: dict[str, np.ndarray]) -> list[dict]:
    one_N = np.ones(len(truth_NA))
    return [
        {
            "floor": floor,
            **{
                f"{name}/{metric}": statistic(floor_NA[:, a], truth_NA[:, a], one_N)
                for a, name in enumerate(DIMENSIONS)
                for metric, statistic in {**AGREEMENTS, **ERRORS}.items()
            },
        }
        for floor, floor_NA in floors.items()
    ]
