"""Features of an entry from what came before it: never its own labels, never anything later.

Labels are in halves of their scale from its middle, so that nothing is fitted; 0 also stands for what is not there.
"""

import datetime
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from jaxlip.text.entries import DIMENSIONS, Entry, Scale

LAGS = 5
CAUSAL_FEATURES = (
    *(f"{name}_lag{lag}" for name in DIMENSIONS for lag in range(1, LAGS + 1)),
    "log_gap",
    "hour_sin",
    "hour_cos",
    "weekday_sin",
    "weekday_cos",
    "entry_number",
    "relative_position",
    *(f"{name}_{statistic}" for name in DIMENSIONS for statistic in ("mean", "deviation")),
)
SETTLED = 20
"""Earlier entries at which `relative_position`, n / (n + SETTLED), is a half: how long a history there is, without
knowing how long it will become."""


def strictly_earlier(times: Sequence[datetime.datetime | None]) -> list[int]:
    """How many of a user's entries, in order, are earlier than each: those of the same time are not."""
    earlier = []
    for n, time in enumerate(times):
        same = n
        while same and time is not None and times[same - 1] == time:
            same -= 1
        earlier.append(same)
    return earlier


def causal_features(entries: Sequence[Entry], scale: Scale) -> Float[np.ndarray, "N D"]:
    """f32 [N, 21] for one user's entries in the order of their times, columns as in CAUSAL_FEATURES."""
    labels_N2 = (np.array([entry.labels for entry in entries], float) - scale.middle) / scale.half
    times = [entry.time for entry in entries]
    rows = []
    for n, earlier in enumerate(strictly_earlier(times)):
        past_M2 = labels_N2[:earlier]
        lags_L2 = np.zeros((LAGS, 2))
        lags_L2[: min(earlier, LAGS)] = past_M2[::-1][:LAGS]
        mean_2, deviation_2 = (past_M2.mean(axis=0), past_M2.std(axis=0)) if earlier else np.zeros((2, 2))
        before = times[earlier - 1] if earlier else None
        history = (math.log1p(earlier) / 3, earlier / (earlier + SETTLED))
        statistics = np.stack([mean_2, deviation_2], axis=1).ravel()
        rows.append([*lags_L2.T.ravel(), *_clock(times[n], before), *history, *statistics])
    return np.array(rows, np.float32)


def _clock(time: datetime.datetime | None, before: datetime.datetime | None) -> tuple[float, ...]:
    """Logarithm of the gap in hours, then hour of the day and day of the week on circles; zeros where unknown."""
    if time is None:
        return (0.0,) * 5
    gap = math.log1p((time - before).total_seconds() / 3600) / 5 if before else 0.0
    turns = ((time.hour + time.minute / 60) / 24, (time.weekday() + time.hour / 24) / 7)
    return (gap, *(f(2 * math.pi * turn) for turn in turns for f in (math.sin, math.cos)))


def history_of(features_ND: Float[np.ndarray, "N D"], scale: Scale) -> dict[str, Float[np.ndarray, "N A"]]:
    """What the features say of the past in the units of the labels, NaN where there is none: the user's last value, and
    the mean of all earlier ones. These are floors of any prediction."""
    column = {name: features_ND[:, n] for n, name in enumerate(CAUSAL_FEATURES)}
    seen_N1 = (column["entry_number"] > 0)[:, None]
    found = {}
    for floor, suffix in (("last value", "lag1"), ("user mean so far", "mean")):
        value_N2 = np.stack([column[f"{name}_{suffix}"] for name in DIMENSIONS], axis=1)
        found[floor] = np.where(seen_N1, value_N2 * scale.half + scale.middle, np.nan)
    return found
