"""Scores of a regression whose examples are of several groups: the groups count alike, however many rows they have."""

import numpy as np

from jaxlip.metrics.scores import Score, Scores

HARD = 2.0
"""A group is hard if its error is more than this many times the median group's."""


def grouped_regression_scores(
    guess_NG: np.ndarray,
    truth_NG: np.ndarray,
    known_NG: np.ndarray,
    *,
    groups: tuple[str, ...],
    floors: dict[str, np.ndarray],
    previous: dict[str, float],
) -> Scores:
    """Mean squared error overall ("mse", the mean of the groups') and by group, with bootstrap intervals over rows.

    `known_NG` is False where there is no truth. `floors` are guesses that broadcast to [N, G]: the first is the floor
    of the scores, the others stand in the table. `previous` holds another run's errors, by every group and by "all".
    """
    square_NG = _square(guess_NG, truth_NG, known_NG)
    bars = {name: group_means(_square(bar, truth_NG, known_NG), known_NG) for name, bar in floors.items()}
    mse_G, rows_N = group_means(square_NG, known_NG), np.arange(len(truth_NG))
    first_G = next(iter(bars.values()))

    def score(which: slice, floor: float) -> Score:
        return Score.of(
            lambda w_N: float(group_means(square_NG[:, which], known_NG[:, which], w_N).mean()), rows_N, floor=floor
        )

    scores = {"mse": score(slice(None), float(first_G.mean()))}
    scores |= {f"{name}/mse": score(slice(g, g + 1), float(first_G[g])) for g, name in enumerate(groups)}
    median, table = float(np.median(mse_G)), []
    for name, which in [*((name, slice(g, g + 1)) for g, name in enumerate(groups)), ("all", slice(None))]:
        mse = float(mse_G[which].mean())
        row = {"group": name, "rows": int(known_NG[:, which].sum()), "mse": mse}
        row |= {bar: float(bar_G[which].mean()) for bar, bar_G in bars.items()}
        row |= {"previous": previous[name], "change": mse - previous[name]} if name in previous else {}
        table.append({**row, "hard": "hard" if name != "all" and mse > HARD * median else ""})
    pairs = {name: (truth_NG[known_NG[:, g], g], guess_NG[known_NG[:, g], g]) for g, name in enumerate(groups)}
    return Scores(count=len(truth_NG), scores=scores, tables={"groups": table}, pairs=pairs)


def group_means(square_NG: np.ndarray, known_NG: np.ndarray, weight_N: np.ndarray | None = None) -> np.ndarray:
    """Mean [G] over the known rows of every group, each row counted `weight_N` times."""
    weight_NG = known_NG if weight_N is None else known_NG * weight_N[:, None]
    return (square_NG * weight_NG).sum(axis=0) / np.maximum(weight_NG.sum(axis=0), 1)


def _square(guess_NG: np.ndarray, truth_NG: np.ndarray, known_NG: np.ndarray) -> np.ndarray:
    return np.where(known_NG, np.square(np.asarray(guess_NG, np.float64) - truth_NG), 0)
