"""How doctor reads curves: pairs of training and validation, trends beyond their noise, waits for something better."""

import dataclasses
import math

import numpy as np

from jaxlip.metrics.direction import higher_is_better
from jaxlip.report.record import NOT_SCORES, Curve, Record

FEW_ROWS = 4
"""Evaluations below which a curve says nothing."""
TREND = 3.0
"""A slope counts from so many of its standard errors on."""
UNBOUNDED = ("loss", "mse", "rmse", "mae")
"""Last words of metrics without a scale of their own: rules with a limit in [0, 1] say nothing of them."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Training and validation of one metric at the same epochs, turned so that more is better."""

    epochs_E: np.ndarray
    train_E: np.ndarray
    val_E: np.ndarray

    @property
    def gap_E(self) -> np.ndarray:
        return self.train_E - self.val_E


def sign_of(name: str) -> int:
    return 1 if higher_is_better(name) else -1


def headline_pair(record: Record) -> Pair | None:
    """What the run is judged by, if it is a score with a scale."""
    return None if record.headline.endswith(UNBOUNDED) else pair_of(record, record.headline)


def pair_of(record: Record, name: str) -> Pair | None:
    """None where too little was logged."""
    train, val = record.curve(f"train/{name}"), record.curve(f"val/{name}")
    both_E = np.intersect1d(train.epochs_E, val.epochs_E)
    if len(both_E) < FEW_ROWS:
        return None
    t_E, v_E = (steady(c.values_E[np.isin(c.epochs_E, both_E)]) * sign_of(name) for c in (train, val))
    return Pair(epochs_E=both_E, train_E=t_E, val_E=v_E)


def steady(values_E: np.ndarray) -> np.ndarray:
    """Medians of three neighbours where there are enough to spare their noise."""
    if len(values_E) < 10:
        return values_E
    padded = np.concatenate([values_E[:1], values_E, values_E[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def gap_onset(gap_E: np.ndarray) -> int:
    """Since when the gap has only grown, but for noise."""
    onset = len(gap_E) - 1
    while onset > 0 and gap_E[onset - 1] <= gap_E[onset:].min() + 0.1 * np.ptp(gap_E[onset:]):
        onset -= 1
    return onset


def early_stop(record: Record) -> tuple[float, float] | None:
    """(epoch of the best, last epoch) of a run that ended by its patience; None for all others."""
    curve = record.curve(f"val/{record.option('train.monitor', 'loss')}")
    waits = waits_of(record)
    if not waits or record.failure or waits[-1] < record.option("train.patience", math.inf):
        return None
    if curve.epochs_E[-1] >= record.option("train.epochs", 0):
        return None
    return float(curve.epochs_E[len(curve) - 1 - waits[-1]]), float(curve.epochs_E[-1])


def waits_of(record: Record) -> list[int]:
    """Evaluations without a better monitored metric before each improvement, and before the end."""
    name = record.option("train.monitor", "loss")
    values_E = record.curve(f"val/{name}").values_E * -sign_of(name)
    best, waits = math.inf, []
    for value in values_E:
        if value < best - record.option("train.min_delta", 0.0) or best == math.inf:
            best = value
            waits.append(0)
        else:
            waits[-1] += 1
    return waits


def trend(curve: Curve, name: str, since: float) -> str:
    """How a metric got better since an epoch; empty where it did not beyond its noise, or is no score."""
    late_E = curve.epochs_E >= since
    x_E, y_E = curve.epochs_E[late_E], curve.values_E[late_E] * sign_of(name)
    if len(x_E) < 5 or name in NOT_SCORES[1:]:
        return ""
    x_E, rest = x_E - x_E.mean(), len(x_E) - 2
    slope = float(x_E @ y_E / (x_E @ x_E))
    error = math.sqrt(((y_E - y_E.mean() - slope * x_E) ** 2).sum() / rest / (x_E @ x_E))
    rise = slope * float(np.ptp(x_E))
    if slope <= TREND * error or rise < 0.02 * np.ptp(curve.values_E):
        return ""
    first, last = (sign_of(name) * (y_E.mean() + slope * x_E[end]) for end in (0, -1))
    return f"val/{name} went from {first:.4g} to {last:.4g}"


def after_warmup(record: Record, name: str) -> Curve:
    curve = record.curve(name)
    warm_E = curve.epochs_E > record.option("optim.warmup_epochs", 0)
    return Curve(epochs_E=curve.epochs_E[warm_E], values_E=curve.values_E[warm_E])
