"""Raw landmarks of one clip -> comparable landmarks: aspect, gaps, rigid motion, smoothing. NumPy, on the host, once.

The default is ONE similarity transform for the whole clip: removing head motion frame by frame trains slower on GRID,
and the original's per-frame min-max destroys aspect and motion (both are here under their own names).
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

RIGHT_EYE = (33, 133)
LEFT_EYE = (362, 263)
NOSE_BRIDGE = (168, 6)
STABLE_IDS = RIGHT_EYE + LEFT_EYE + NOSE_BRIDGE
"""The points that the head's position, roll and size are read from."""

Ids = tuple[int, ...] | None
"""FaceMesh ids of an array's points; None for all 478 in their order."""


@functools.cache
def rows_of(points: tuple[int, ...], ids: Ids) -> tuple[int, ...]:
    """Where in an array of the points `ids` these FaceMesh points are. Raises ValueError for one that is not there."""
    return points if ids is None else tuple(ids.index(point) for point in points)


def interpolate_gaps(
    landmarks_TVC: Float[np.ndarray, "T V C"], detected_T: Bool[np.ndarray, " T"], *, max_gap: int
) -> tuple[Float[np.ndarray, "T V C"], Bool[np.ndarray, " T"]]:
    """Fills frames without a face linearly in time (the nearest face before the first and after the last).

    Returns the landmarks, finite everywhere, and the frames to be used: those detected, in a gap of at most `max_gap`
    frames, or before the first face or after the last by no more than that. The others are filled too, but are not to
    be used. Raises ValueError if no frame has a face.
    """
    detected_T = detected_T & np.isfinite(landmarks_TVC).all(axis=(1, 2))
    seen = np.flatnonzero(detected_T)
    if not len(seen):
        raise ValueError("no frame has a face")
    if len(seen) == len(detected_T):
        return landmarks_TVC.astype(np.float32), detected_T
    frame_T = np.arange(len(detected_T))
    after_T = np.searchsorted(seen, frame_T).clip(0, len(seen) - 1)
    before_T = (np.searchsorted(seen, frame_T, side="right") - 1).clip(0, len(seen) - 1)
    left_T, right_T = seen[before_T], seen[after_T]
    weight_T = (frame_T - left_T) / np.maximum(right_T - left_T, 1)
    weight_T = weight_T.clip(0, 1)[:, None, None]
    filled_TVC = landmarks_TVC[left_T] * (1 - weight_T) + landmarks_TVC[right_T] * weight_T
    gap_T = np.where(left_T == right_T, np.abs(frame_T - left_T), right_T - left_T - 1)
    return filled_TVC.astype(np.float32), detected_T | (gap_T <= max_gap)


def _similarity(points_TVC: np.ndarray, ids: Ids) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Origin [T, 3], roll [T] (radians) and scale [T] of the face in each frame, from eye corners and nose bridge."""
    right, left, bridge = (rows_of(points, ids) for points in (RIGHT_EYE, LEFT_EYE, NOSE_BRIDGE))
    right_TC = points_TVC[:, right].mean(axis=1)
    left_TC = points_TVC[:, left].mean(axis=1)
    across_TC = left_TC - right_TC
    roll_T = np.arctan2(across_TC[:, 1], across_TC[:, 0])
    scale_T = np.linalg.norm(across_TC, axis=-1)
    origin_TC = (right_TC + left_TC) / 2
    # The depth of the eye corners is noisy; the nose bridge between them steadies the origin's z.
    origin_TC[:, 2] = points_TVC[:, right + left + bridge, 2].mean(axis=1)
    return origin_TC, roll_T, scale_T


def _apply_similarity(points_TVC: np.ndarray, origin_TC: np.ndarray, roll_T: np.ndarray, scale_T: np.ndarray):
    cos_T, sin_T = np.cos(-roll_T), np.sin(-roll_T)
    x_TV, y_TV, z_TV = np.moveaxis(points_TVC - origin_TC[:, None], -1, 0)
    turned = (cos_T[:, None] * x_TV - sin_T[:, None] * y_TV, sin_T[:, None] * x_TV + cos_T[:, None] * y_TV, z_TV)
    return (np.stack(turned, axis=-1) / scale_T[:, None, None]).astype(np.float32)


def restore_aspect(landmarks_TVC: Float[np.ndarray, "T V C"], size: tuple[int, int]) -> Float[np.ndarray, "T V C"]:
    """Image-normalised to pixel units: x and z by the width, y by the height (`size` is width, height)."""
    width, height = size
    return landmarks_TVC * np.array([width, height, width], np.float32)


def normalize_clip(landmarks_TVC, detected_T, size, ids: Ids = None) -> np.ndarray:
    """One similarity transform a clip: mean roll and translation removed, inter-ocular distance 1, head motion kept.

    `landmarks_TVC` f32 [T, V, 3] is finite where `detected_T`; returns f32 of the same shape.
    """
    points_TVC = restore_aspect(landmarks_TVC, size)
    origin_TC, roll_T, scale_T = _similarity(points_TVC[detected_T], ids)
    frames = len(points_TVC)
    return _apply_similarity(
        points_TVC,
        np.broadcast_to(origin_TC.mean(axis=0), (frames, 3)),
        np.full(frames, np.arctan2(np.sin(roll_T).mean(), np.cos(roll_T).mean())),
        np.full(frames, scale_T.mean()),
    )


def normalize_frame(landmarks_TVC, detected_T, size, ids: Ids = None) -> np.ndarray:
    """A similarity transform of its own for every frame: all rigid motion in the image plane removed."""
    del detected_T
    points_TVC = restore_aspect(landmarks_TVC, size)
    return _apply_similarity(points_TVC, *_similarity(points_TVC, ids))


def normalize_minmax(landmarks_TVC, detected_T, size, ids: Ids = None) -> np.ndarray:
    """The original's: each frame and axis stretched to [0, 1] on its own. Loses aspect and motion; for comparison.

    It needs the whole face: the extremes of some points are not those of all.
    """
    del detected_T, size, ids
    low_TC, high_TC = landmarks_TVC.min(axis=1), landmarks_TVC.max(axis=1)
    span_TC = np.maximum(high_TC - low_TC, 1e-6)
    return ((landmarks_TVC - low_TC[:, None]) / span_TC[:, None]).astype(np.float32)


NORMALIZERS: dict[str, Callable[..., np.ndarray]] = {
    "clip": normalize_clip,
    "frame": normalize_frame,
    "minmax": normalize_minmax,
}


def smooth(
    landmarks_TVC: Float[np.ndarray, "T V C"], *, alpha: float, zero_phase: bool = True
) -> Float[np.ndarray, "T V C"]:
    """Exponential smoothing; `alpha` in (0, 1] is the weight of the NEW frame (1 changes nothing).

    `zero_phase` runs it forward and then backward, so that nothing is delayed.
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha={alpha} is outside (0, 1]; it is the weight of the new frame.")

    def forward(values_TVC):
        out_TVC = np.empty_like(values_TVC)
        out_TVC[0] = values_TVC[0]
        for t in range(1, len(values_TVC)):
            out_TVC[t] = alpha * values_TVC[t] + (1 - alpha) * out_TVC[t - 1]
        return out_TVC

    smoothed_TVC = forward(landmarks_TVC)
    return forward(smoothed_TVC[::-1])[::-1] if zero_phase else smoothed_TVC
