"""How well the landmarks of one clip follow its face: gaps, jitter, jumps, frames that stand still, NaN. Pure NumPy."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.data import quality
from jaxlip.data.clips import LANDMARKS, Clip
from jaxlip.face.normalize import STABLE_IDS, restore_aspect, rows_of

STILL = 0.01
"""Pixels: where no point moves by more, two frames are one. On GRID some point always moves by .018 or more."""
JUMP = 0.5
"""Eye distances from one frame to the next: no head is as fast, so that it is another face or a wrong one."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Steadiness:
    """What the landmarks of a clip tell about themselves; frames are counted from 0."""

    seen_T: np.ndarray
    """bool [T]: frames with a face whose landmarks are all finite."""
    broken: int
    """Frames that are said to have a face, whose landmarks are not finite."""
    gaps: tuple[int, ...]
    """Lengths in frames of the stretches without a face."""
    jitter: float | None
    """How far eye corners and nose bridge shake, as a standard deviation in eye distances: that of the median frame, so
    that a jump does not count. None without three faces in a row."""
    still: int
    """Frames whose every point lies where it was a frame before."""
    jumps: tuple[int, ...]
    """Frames in which the face is suddenly elsewhere."""
    outside: int
    """Frames in which a part of the face lies outside the picture."""
    measures_TD: np.ndarray
    """`quality.MEASURES` of the frames with a face; of none where not all points of the face are known."""


def runs(mask_T: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """(first, length) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask_T, [False]]).astype(np.int8)))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def steadiness(clip: Clip) -> Steadiness:
    """Measures one clip."""
    finite_T = np.isfinite(clip.landmarks).all(axis=(1, 2))
    seen_T = clip.detected & finite_T
    points_TVC = restore_aspect(clip.landmarks, clip.size)[..., :2].astype(np.float64)
    whole, stable = len(clip.ids) == LANDMARKS, list(rows_of(STABLE_IDS, clip.ids))
    both_T = seen_T[1:] & seen_T[:-1]
    with np.errstate(invalid="ignore"):
        moved_TV = np.linalg.norm(np.diff(points_TVC, axis=0), axis=-1)
        stable_TVC = points_TVC[:, stable]
        eyes_TC = stable_TVC[:, :4].mean(axis=1)
        moved_T = np.linalg.norm(np.diff(eyes_TC, axis=0), axis=-1)
    return Steadiness(
        seen_T=seen_T,
        broken=int((clip.detected & ~finite_T).sum()),
        gaps=tuple(length for _, length in runs(~seen_T)),
        jitter=_jitter(stable_TVC, seen_T),
        still=int((both_T & (moved_TV.max(axis=1) < STILL)).sum()),
        jumps=tuple((np.flatnonzero(both_T & (moved_T > JUMP * _eye_distance(stable_TVC, seen_T))) + 1).tolist()),
        outside=int(quality.leaves_picture(clip.landmarks[seen_T]).sum()),
        measures_TD=quality.measure(clip.landmarks[seen_T], clip.size) if whole and seen_T.any() else np.zeros((0, 7)),
    )


def _eye_distance(stable_TVC: Float[np.ndarray, "T V 2"], seen_T: np.ndarray) -> float:
    """Pixels from eye to eye, the median over the frames with a face; infinite without any."""
    if not seen_T.any():
        return np.inf
    right_TC, left_TC = stable_TVC[seen_T][:, :2].mean(axis=1), stable_TVC[seen_T][:, 2:4].mean(axis=1)
    return float(np.median(np.linalg.norm(right_TC - left_TC, axis=-1)))


def _jitter(stable_TVC: Float[np.ndarray, "T V 2"], seen_T: np.ndarray) -> float | None:
    """A head is smooth in time: the second difference of white noise has six times its variance."""
    whole_T = seen_T[2:] & seen_T[1:-1] & seen_T[:-2]
    if not whole_T.any():
        return None
    second_TVC = np.diff(stable_TVC, n=2, axis=0)[whole_T]
    distance = _eye_distance(stable_TVC, seen_T)
    return float(np.sqrt(np.median((second_TVC**2).mean(axis=(1, 2))) / 6) / distance) if distance else None
