"""N-best lists scored again by something else, such as a second CTC head over the same frames."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jaxlip.decode.beam import Hypothesis


def rescore(
    nbest: Sequence[Sequence[Hypothesis]],
    extra: Sequence[Sequence[float] | np.ndarray] | np.ndarray,
    *,
    weight: float,
) -> list[list[Hypothesis]]:
    """Adds `weight` * `extra` to every hypothesis and sorts each list again, best first (equal ones keep their order).

    extra: for every clip one score (nats) a hypothesis, in their order; a row may be longer (padding). -inf puts a
    hypothesis last, unless the weight is 0. Raises ValueError for too few scores, NaN or +inf.
    """
    if len(extra) != len(nbest):
        raise ValueError(f"extra scores for {len(extra)} clips, not for {len(nbest)}")
    rescored = []
    for clip, (hypotheses, row) in enumerate(zip(nbest, extra, strict=True)):
        row_N = np.asarray(row, np.float64)[: len(hypotheses)]
        if len(row_N) < len(hypotheses) or not (row_N < np.inf).all():
            raise ValueError(f"extra scores of clip {clip} are {row_N} for {len(hypotheses)} hypotheses")
        gain_N = weight * row_N if weight else np.zeros(len(row_N))
        added = [_plus(hypothesis, gain) for hypothesis, gain in zip(hypotheses, gain_N.tolist(), strict=True)]
        rescored.append(sorted(added, key=lambda hypothesis: -hypothesis.score))
    return rescored


def _plus(hypothesis: Hypothesis, gain: float) -> Hypothesis:
    return dataclasses.replace(hypothesis, score=hypothesis.score + gain, extra=hypothesis.extra + gain)
