"""Hands, face and body that were lost for a few frames are put back; what was lost for longer is 0. NumPy,
once."""

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.face.normalize import interpolate_gaps
from jaxlip.holistic.layout import PARTS, rows_of


def fill_gaps(
    landmarks_TVC: Float[np.ndarray, "T V 3"], ids: tuple[int, ...], *, max_gap: int
) -> Float[np.ndarray, "T V 3"]:
    """Each part interpolated in time by itself over at most `max_gap` frames (beyond its first and last frame: held).

    A part that is NaN, or 0 as some extractors write, is missing. All its points are 0 in frames that stay without it:
    that is its presence mask, and goes where the points go.
    """
    filled_TVC = landmarks_TVC.astype(np.float32)
    for part in PARTS:
        rows = rows_of(part, ids)
        if rows is None:
            continue
        points_TVC = landmarks_TVC[:, rows]
        seen_T = part_seen(points_TVC)
        if seen_T.any():
            points_TVC, kept_T = interpolate_gaps(points_TVC, seen_T, max_gap=max_gap)
            points_TVC = np.where(kept_T[:, None, None], points_TVC, 0)
        else:
            points_TVC = np.zeros_like(points_TVC)
        filled_TVC[:, rows] = points_TVC
    return filled_TVC


def part_seen(points_TVC: Float[np.ndarray, "T V 3"]) -> Bool[np.ndarray, " T"]:
    """Frames in which a part was found: all of its points are finite, and not all zero."""
    return np.isfinite(points_TVC).all(axis=(1, 2)) & (points_TVC != 0).any(axis=(1, 2))
