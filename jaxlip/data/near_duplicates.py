"""Clips that are there twice, though renamed, extracted anew or in another split: the mouths move alike."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

STEPS = 16
NEAR = 0.2
"""Distances below are near-duplicates. The same GRID video extracted by another version of MediaPipe is .01 away, a
copy with a frame cut off .06 to .49; of 800 different sentences of one speaker the two nearest are .29 apart."""
ROWS = 512


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two clips and how far apart they are, from 0."""

    first: str
    second: str
    distance: float


def signature(lips_TVC: Float[np.ndarray, "T V C"]) -> Float[np.ndarray, " D"]:
    """f32 [STEPS * V * 2]: how the lips change their shape, over the length of the clip; neither their place nor what
    shape they have on average."""
    shape_TVC = lips_TVC[..., :2] - lips_TVC[..., :2].mean(axis=1, keepdims=True)
    at_S = (np.arange(STEPS) + 0.5) / STEPS * len(shape_TVC) - 0.5
    low_S = np.floor(at_S).astype(int).clip(0, len(shape_TVC) - 1)
    high_S = (low_S + 1).clip(0, len(shape_TVC) - 1)
    weight_S = (at_S - low_S).clip(0, 1)[:, None, None]
    resampled_SVC = shape_TVC[low_S] * (1 - weight_S) + shape_TVC[high_S] * weight_S
    return (resampled_SVC - resampled_SVC.mean(axis=0, keepdims=True)).astype(np.float32).ravel()


def near_duplicates(names: Sequence[str], signatures_ND: np.ndarray, split_N: Sequence[str]) -> list[Pair]:
    """Pairs in different splits whose signatures differ by less than NEAR of the larger one's size, nearest first."""
    groups = [np.flatnonzero(np.array(split_N) == split) for split in dict.fromkeys(split_N)]
    pairs = []
    for rows_A, rows_B in itertools.combinations(groups, 2):
        for start in range(0, len(rows_A), ROWS):
            chunk_A = rows_A[start : start + ROWS]
            distance_AB = _distances(signatures_ND[chunk_A], signatures_ND[rows_B])
            for a, b in np.argwhere(distance_AB < NEAR).tolist():
                pairs.append(Pair(names[int(chunk_A[a])], names[int(rows_B[b])], float(distance_AB[a, b])))
    return sorted(pairs, key=lambda pair: pair.distance)


def _distances(first_AD: np.ndarray, second_BD: np.ndarray) -> np.ndarray:
    square_A, square_B = ((x.astype(np.float64) ** 2).sum(axis=1) for x in (first_AD, second_BD))
    square_AB = square_A[:, None] + square_B[None] - 2 * (first_AD @ second_BD.T).astype(np.float64)
    larger_AB = np.maximum(np.maximum(square_A[:, None], square_B[None]), 1e-12)
    return np.sqrt(np.maximum(square_AB, 0) / larger_AB)
