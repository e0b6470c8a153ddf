"""One score of several runs that differ by chance: their mean, how far they spread, and how sure the mean is."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxlip.metrics.scores import BOOTSTRAP, Draws, Score, interval


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """`values` of the runs; `mean` with the 95 % interval of a mean over other runs and other clips of the same kind,
    where all runs are scored on the same clips; `sd` over runs (n - 1), 0 of one run."""

    values: tuple[float, ...]
    mean: Score
    sd: float

    def __str__(self) -> str:
        return f"{self.mean.value:.4f} +- {self.sd:.4f}  [{self.mean.low:.4f}, {self.mean.high:.4f}]"


def over_runs(scores: Sequence[Score], *, seed: int = 0) -> Spread:
    """The spread of the runs' scores.

    A draw takes runs with replacement, and their scores in one bootstrap draw of clips, the same for all runs; so the
    draws vary with both. Deviations by runs are widened by sqrt(n / (n - 1)), since resampling n runs makes the
    variance of their mean too small by (n - 1) / n. Two populations are compared by `paired.score_difference` of their
    means; give them different seeds, since their runs have nothing in common. Without draws of the same clips the
    interval is that of runs alone.
    """
    values_M = np.array([score.value for score in scores])
    count = len(scores)
    kept = [score.draws for score in scores if score.draws is not None]
    same = len(kept) == count and len({draws.groups for draws in kept}) == 1
    clips_MR = np.stack([d.values_R for d in kept]) if same else np.repeat(values_M[:, None], BOOTSTRAP, axis=1)
    drawn_RM = np.random.default_rng(seed).integers(0, count, (clips_MR.shape[1], count))
    mean_R = clips_MR.mean(axis=0)
    runs_R = np.take_along_axis(clips_MR, drawn_RM.T, axis=0).mean(axis=0) - mean_R
    values_R = mean_R + runs_R * np.sqrt(count / max(count - 1, 1))
    low, high = interval(values_R)
    draws = Draws(values_R=values_R, groups=kept[0].groups) if same else None
    mean = Score(value=float(values_M.mean()), low=low, high=high, floor=scores[0].floor, draws=draws)
    return Spread(values=tuple(map(float, values_M)), mean=mean, sd=float(values_M.std(ddof=1)) if count > 1 else 0.0)
