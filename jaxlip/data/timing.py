"""Frame times: what rate a clip has, whether it is steady, what is missing, and resampling to a constant rate."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxlip.data.video import DEFAULT_RATE, Frame

# An interval is uneven if it is this far from the median one, and a rate is variable if this many intervals are.
UNEVEN = 0.2
VARIABLE = 0.1


def resample(frames: Iterable[Frame], fps: float) -> Iterator[Frame]:
    """Frames at the times 0, 1/fps, 2/fps, ... up to the last one's: each the nearest in time.

    Holds two frames. A frame that is nearest to no time is never converted; one that is nearest to two comes twice.
    """
    before: Frame | None = None
    count = 0
    for frame in frames:
        # Times are sums of binary fractions: one that falls on a frame must not miss it by a rounding.
        while before is not None and count / fps <= frame.time + 1e-6:
            nearest = before if count / fps - before.time <= frame.time - count / fps else frame
            yield dataclasses.replace(nearest, time=count / fps)
            count += 1
        before = frame
    if before is not None and count == 0:
        yield before


def describe(
    times_T: Float[np.ndarray, " T"], declared_rate: float | None, declared_frames: int | None
) -> dict[str, Any]:
    """Rate and gaps of the decoded frames' times (seconds, strictly increasing, at least one).

    `fps` is the container's rate where the times agree with it within 2 %, else that of the times; `missing_frames` are
    the holes in a steady rate, or how many fewer frames there are than the container says, whichever is more.
    """
    interval_T = np.diff(times_T)
    if not len(interval_T):
        rate = declared_rate or DEFAULT_RATE
        return {"fps": rate, "variable": False, "missing_frames": max((declared_frames or 1) - 1, 0)}
    median = float(np.median(interval_T))
    uneven_T = np.abs(interval_T / median - 1) > UNEVEN
    variable = bool(uneven_T.mean() > VARIABLE)
    holes_T = np.round(interval_T[interval_T > 1.5 * median] / median) - 1
    # The median is blind to holes: a steady clip that lacks frames keeps its rate.
    measured = len(interval_T) / float(interval_T.sum()) if variable else 1 / median
    agrees = declared_rate is not None and abs(measured / declared_rate - 1) < 0.02
    fewer = max((declared_frames or 0) - len(times_T), 0)
    return {
        "fps": float(declared_rate if agrees and declared_rate else measured),
        "variable": variable,
        "shortest_ms": round(float(interval_T.min()) * 1000, 2),
        "longest_ms": round(float(interval_T.max()) * 1000, 2),
        "missing_frames": fewer if variable else max(int(holes_T.sum()), fewer),
    }
