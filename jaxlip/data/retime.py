"""Landmarks at the times of a video's frames -> landmarks at the constant rate that a model was trained on.

Landmarks move smoothly where frames jump: between two frames they are interpolated, so that a video of 30 frames a
second shows no jerk every sixth frame at 25.
"""

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.data.clips import DamagedClip

# Frames this near to a steady rate (parts of a frame) are taken as they are.
STEADY = 0.25
# Seconds between two frames over which nothing is known of a mouth: a sound lasts half of that.
FARTHEST_APART = 0.2


def is_steady(times_T: Float[np.ndarray, " T"], fps: float) -> bool:
    """Whether the frames are those of a constant rate already."""
    return bool(np.abs(times_T * fps - np.arange(len(times_T))).max() < STEADY)


def retime(
    landmarks_TVC: Float[np.ndarray, "T V C"],
    detected_T: Bool[np.ndarray, " T"],
    times_T: Float[np.ndarray, " T"],
    fps: float,
) -> tuple[Float[np.ndarray, "N V C"], Bool[np.ndarray, " N"]]:
    """Landmarks and `detected` at 0, 1/fps, 2/fps, ... up to the last frame; `times_T` in seconds from the first one.

    A moment has a face if both frames beside it have, and are no more than 0.2 s apart; NaN elsewhere. Frames that are
    steady at this rate come back untouched. Raises DamagedClip for times that do not increase, or too few of them.
    """
    if not (np.isfinite(times_T).all() and (np.diff(times_T) > 0).all()):
        raise DamagedClip("its frame times do not increase")
    times_T = times_T - times_T[0]
    if is_steady(times_T, fps):
        return landmarks_TVC, detected_T
    if len(times_T) > 1 and np.median(np.diff(times_T)) > FARTHEST_APART:
        rate = 1 / np.median(np.diff(times_T))
        raise DamagedClip(f"{rate:.2g} frames a second are too few to see a mouth speak; 5 is the least")
    # Times are sums of binary fractions: one that falls on a frame must not miss it by a rounding.
    time_N = np.arange(int(times_T[-1] * fps + 1e-6) + 1) / fps
    after_N = np.searchsorted(times_T, time_N - 1e-6).clip(0, len(times_T) - 1)
    before_N = np.maximum(after_N - 1, 0)
    apart_N = times_T[after_N] - times_T[before_N]
    weight_N = np.where(apart_N > 0, (time_N - times_T[before_N]) / np.where(apart_N > 0, apart_N, 1), 1.0)
    weight_N[np.abs(time_N - times_T[after_N]) <= 1e-6] = 1.0
    before_N = np.where(weight_N == 1, after_N, before_N)
    detected_N = detected_T[before_N] & detected_T[after_N] & ((apart_N <= FARTHEST_APART) | (weight_N == 1))
    weight_N11 = weight_N[:, None, None].astype(np.float32)
    mixed_NVC = landmarks_TVC[before_N] * (1 - weight_N11) + landmarks_TVC[after_N] * weight_N11
    mixed_NVC[~detected_N] = np.nan
    return mixed_NVC, detected_N
