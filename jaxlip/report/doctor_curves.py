"""What a run's curves say of it: rules, each a function from the record to findings."""

import math
from collections.abc import Iterator

import numpy as np

from jaxlip.metrics.direction import higher_is_better
from jaxlip.report.doctor_advice import loosen, regularise, regularisers, scaled
from jaxlip.report.doctor_reading import (
    FEW_ROWS,
    UNBOUNDED,
    after_warmup,
    early_stop,
    gap_onset,
    headline_pair,
    pair_of,
    sign_of,
    steady,
    trend,
    waits_of,
)
from jaxlip.report.finding import Finding
from jaxlip.report.record import Record

WIDE_GAP = 0.15
"""Between training and validation, of a score in [0, 1], where the config sets no target for it."""
GROWN_GAP = 0.05
LOSS_ROSE = 1.15
COLLAPSED = 0.99


def not_finite(record: Record) -> Iterator[Finding]:
    """NaN onset: a row, or the end of training."""
    bad = next(
        ((row["epoch"], name) for row in record.rows for name, v in row.items() if _is_nan(v) and "epoch" in row), None
    )
    if bad is None and not record.failure:
        return
    saw = f"{bad[1]} is not finite from epoch {bad[0]} on" if bad else f"training ended: {record.failure}"
    yield Finding(kind="nan_onset", severity="bad", text=saw, advice=scaled(record, "optim.lr", 0.5))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def divergence(record: Record) -> Iterator[Finding]:
    """Training itself gets worse after it had been better: its loss by half, or its score back to half."""
    for name in dict.fromkeys(("loss", record.headline)):
        curve = record.curve(f"train/{name}")
        if len(curve) < FEW_ROWS:
            continue
        values_E = steady(curve.values_E)
        higher = higher_is_better(name)
        best = int(values_E.argmax() if higher else values_E.argmin())
        # The mean of the last two, so that one bad epoch is none.
        last = float(values_E[-2:].mean())
        worse = values_E[best] > 0.1 and last < 0.5 * values_E[best] if higher else last > 1.5 * values_E[best] + 0.05
        if worse and best < len(values_E) - 2:
            text = (
                f"diverged: train/{name} was {values_E[best]:.3g} at epoch {curve.epochs_E[best]:.0f} and is {last:.3g}"
            )
            yield Finding(kind="divergence", severity="bad", text=text, advice=scaled(record, "optim.lr", 0.3))
            return


def overfitting(record: Record) -> Iterator[Finding]:
    if (found := overfits(record)) is None:
        return
    epoch, said, serious = found
    size = record.trainable
    examples = record.data.get("examples", {}).get("train")
    if size and examples and size > 100 * examples:
        said += f"; {size:,} parameters for {examples:,} training examples"
    text = f"overfitting since epoch {epoch:.0f}: {said}"
    large = bool(size and examples and size > 500 * examples)
    advice = regularise(record, smaller=large)
    yield Finding(kind="overfitting", severity="bad" if serious else "warn", text=text, advice=advice)


def overfits(record: Record) -> tuple[float, str, bool] | None:
    """The epoch since when, the evidence, and whether it is serious: training goes on getting better and validation
    does not, by the loss (it rises) or by the score (the gap is wide and grew)."""
    said, begins, serious = [], [], False
    loss = pair_of(record, "loss")
    if loss is not None:
        best = int(loss.val_E.argmax())
        rose = float(loss.val_E[-1] / loss.val_E[best]) if loss.val_E[best] < 0 else 1.0
        if rose > LOSS_ROSE and loss.train_E[-1] > loss.train_E[best]:
            begins.append(loss.epochs_E[best])
            serious |= rose > 1.5
            said.append(
                f"val/loss rose from {-loss.val_E[best]:.2f} to {-loss.val_E[-1]:.2f} "
                f"while train/loss fell from {-loss.train_E[best]:.2f} to {-loss.train_E[-1]:.2f}"
            )
    name = record.headline
    score = headline_pair(record)
    if score is not None:
        onset = gap_onset(score.gap_E)
        best, sign = int(score.val_E.argmax()), sign_of(name)
        gap, grew = score.gap_E[-1], score.gap_E[-1] - score.gap_E[onset]
        stuck = best < len(score.val_E) - 1 and score.train_E[-1] > score.train_E[best]
        if gap > gap_limit(record, name) and grew > GROWN_GAP and (stuck or begins):
            begins.append(score.epochs_E[onset])
            serious |= gap > 2 * WIDE_GAP
            train, val, highest = (sign * value for value in (score.train_E[-1], score.val_E[-1], score.val_E[best]))
            said.append(
                f"{name} is {train:.3f} in training and {val:.3f} in validation, a gap of {gap:.3f} "
                f"({score.gap_E[onset]:.3f} at epoch {score.epochs_E[onset]:.0f}); validation was best at epoch "
                f"{score.epochs_E[best]:.0f} ({highest:.3f})"
            )
    return (float(begins[0]), "; ".join(said), bool(serious)) if said else None


def gap_limit(record: Record, name: str) -> float:
    return next((target.minimum for target in record.targets if target.metric == f"gap/{name}"), WIDE_GAP)


def wide_gap(record: Record) -> Iterator[Finding]:
    """Training better than validation by more than the config's target, though both still get better."""
    name = record.headline
    gap = None if name.endswith(UNBOUNDED) else record.gap(name)
    if gap is None or gap <= gap_limit(record, name) or overfits(record) or len(record.rows) < FEW_ROWS:
        return
    text = f"{name} is better by {gap:.3f} in training than in validation (limit {gap_limit(record, name):.3f})"
    yield Finding(kind="wide_gap", severity="warn", text=text, advice=regularise(record))


def underfitting(record: Record) -> Iterator[Finding]:
    """Training itself is poor, and validation no worse: capacity, time or regularisation."""
    name = record.headline
    pair = headline_pair(record)
    if pair is None:
        return
    train = float(pair.train_E[-1])
    poor = train < 0.5 if sign_of(name) > 0 else -train > 0.5
    if not poor or pair.gap_E[-1] > 0.1 or overfits(record) or any(wide_gap(record)):
        return
    held = ", ".join(f"{path} {value:g}" for path, value in regularisers(record).items())
    train, val = sign_of(name) * train, sign_of(name) * float(pair.val_E[-1])
    text = f"underfitting: {name} is only {train:.3f} in training and {val:.3f} in validation"
    text += f" ({held})" if held else ""
    yield Finding(kind="underfitting", severity="warn", text=text, advice=loosen(record))


def stopped_improving(record: Record) -> Iterator[Finding]:
    """Early stopping while a validation metric, or training, was still getting better."""
    stop = early_stop(record)
    if stop is None:
        return
    best, last = stop
    window = record.option("train.patience", 0) * record.option("train.eval_epochs", 1)
    rising = [said for name in record.metrics if (said := trend(record.curve(f"val/{name}"), name, best))]
    if not rising:
        return
    monitor = record.option("train.monitor", "loss")
    text = (
        f"stopped at epoch {last:.0f} of {record.option('train.epochs')}, {window} epochs after the best val/{monitor} "
    )
    text += f"(epoch {best:.0f}), while still improving: {'; '.join(rising)}"
    other = "" if monitor == "loss" or not any("val/loss" in said for said in rising) else "--train.monitor loss "
    advice = f"{other}--train.patience {2 * record.option('train.patience')}"
    yield Finding(kind="stopped_improving", severity="bad", text=text, advice=advice)


def patience_short(record: Record) -> Iterator[Finding]:
    """The run had already waited nearly as long and got better after all."""
    patience = record.option("train.patience", 0)
    if early_stop(record) is None or patience < 1:
        return
    waits = waits_of(record)
    longest = max(waits[:-1], default=0)
    if longest >= 0.8 * patience and patience > 1:
        text = (
            f"patience is short: val/{record.option('train.monitor', 'loss')} got better after {longest} evaluations "
        )
        text += f"without, and patience is {patience}"
        yield Finding(kind="patience_short", severity="warn", text=text, advice=f"--train.patience {2 * patience}")


def ended_improving(record: Record) -> Iterator[Finding]:
    """All epochs were used, and the last quarter still brought a tenth of all that was gained."""
    epochs = record.option("train.epochs", 0)
    curve = record.curve(f"val/{record.headline}")
    if not epochs or len(curve) < 8 or curve.epochs_E[-1] < epochs:
        return
    gained_E = np.maximum.accumulate(steady(curve.values_E) * sign_of(record.headline))
    whole, late = gained_E[-1] - gained_E[0], gained_E[-1] - gained_E[len(curve) - 1 - len(curve) // 4]
    if whole > 0.02 * abs(gained_E[0]) and late >= 0.1 * whole:
        text = f"not done: the last quarter of the epochs still brought {late / whole:.0%} of all gain in "
        text += f"val/{record.headline} (now {curve.values_E[-1]:.3f})"
        yield Finding(kind="ended_improving", severity="warn", text=text, advice=f"--train.epochs {2 * epochs}")


def rate_too_high(record: Record) -> Iterator[Finding]:
    """Training loss jumps up again and again."""
    curve = after_warmup(record, "train/loss")
    if len(curve) < 8:
        return
    rises_E = np.diff(curve.values_E) / np.maximum(np.abs(curve.values_E[:-1]), 1e-9)
    if (rises_E > 0.05).mean() >= 0.25:
        text = (
            f"the learning rate is too high: train/loss rises by more than 5 % in {(rises_E > 0.05).mean():.0%} of the "
        )
        text += f"epochs after warmup (optim.lr {record.option('optim.lr', math.nan):g})"
        yield Finding(kind="rate_too_high", severity="warn", text=text, advice=scaled(record, "optim.lr", 0.3))


def rate_too_low(record: Record) -> Iterator[Finding]:
    """Training loss falls in a straight line, or hardly at all: steps are too small for the time given."""
    curve = after_warmup(record, "train/loss")
    if len(curve) < 8:
        return
    values_E = steady(curve.values_E)
    fall, late = values_E[0] - values_E[-1], values_E[len(values_E) // 2] - values_E[-1]
    text = ""
    if abs(fall) < 0.02 * abs(values_E[0]):
        text = f"train/loss does not fall: {values_E[0]:.3f} after warmup, {values_E[-1]:.3f} at the end"
    elif fall > 0 and late >= 0.45 * fall:
        text = f"the learning rate is too low: {late / fall:.0%} of the fall of train/loss came in the second half"
    if text:
        text += f" (optim.lr {record.option('optim.lr', math.nan):g})"
        yield Finding(kind="rate_too_low", severity="warn", text=text, advice=scaled(record, "optim.lr", 3.0))


def blanks(record: Record) -> Iterator[Finding]:
    curve = record.curve("val/blank")
    if len(curve) and curve.values_E[-1] > COLLAPSED:
        text = f"collapsed to blanks: {curve.values_E[-1]:.1%} of the validation frames are read as blank"
        yield Finding(kind="blanks", severity="bad", text=text, advice="--task.spans 0.5 --task.word_ctc 0.3")


def infeasible(record: Record) -> Iterator[Finding]:
    for split in ("train", "val"):
        curve = record.curve(f"{split}/infeasible")
        if len(curve) and curve.values_E[-1] > 0:
            text = (
                f"{curve.values_E[-1]:.1%} of the {split} targets are longer than their clips, and are not learned from"
            )
            yield Finding(kind="infeasible", severity="warn", text=text)


CURVE_RULES = (
    not_finite,
    divergence,
    overfitting,
    wide_gap,
    underfitting,
    stopped_improving,
    patience_short,
    ended_improving,
    rate_too_high,
    rate_too_low,
    blanks,
    infeasible,
)
