"""What a run's scores say of it: rules over what evaluate.py saved, each a function from the record to findings."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jaxlip.metrics.direction import higher_is_better
from jaxlip.report.doctor_advice import scaled
from jaxlip.report.finding import Finding
from jaxlip.report.record import Record

ONE_CLASS = 0.5
"""Part of all answers above which one class is said to be all that a model knows..."""
TIMES = 2.0
"""... if it is so many times what is true of it."""
ENOUGH = 5
"""Examples of a class from which on it should be guessed at all."""
OVERCONFIDENT = 0.1


def at_floor(record: Record) -> Iterator[Finding]:
    """Scores that are no better, or not clearly, than answering without looking."""
    for split, figures in record.scores.items():
        names = []
        for name, score in figures["scores"].items():
            if (floor := score.get("floor")) is None:
                continue
            value, higher = score["value"], higher_is_better(name)
            beaten = score["low"] > floor if higher else score["high"] < floor
            # A score that cannot be better than its floor, such as recall of a slot with one word, says nothing.
            if not beaten and not value == floor == float(higher):
                names.append(f"{name} {value:.4f} (floor {floor:.4f})")
        if names:
            text = f"no better on {split} than answering without looking at the input"
            yield Finding(
                kind="at_floor", severity="bad", text=text, names=tuple(names), advice=scaled(record, "optim.lr", 2.0)
            )


def one_class(record: Record) -> Iterator[Finding]:
    for split, figures in record.scores.items():
        guessed, true = _counts(figures)
        if not guessed or len(figures["classes"]) < 2:
            continue
        word, times = guessed.most_common(1)[0]
        part, truth = times / guessed.total(), true[word] / true.total()
        if part > ONE_CLASS and part > TIMES * truth:
            text = (
                f"collapsed to one class: {word!r} is {part:.0%} of all answers on {split} and {truth:.0%} of the truth"
            )
            yield Finding(kind="one_class", severity="bad", text=text, advice=scaled(record, "optim.lr", 0.3))


def never_predicted(record: Record) -> Iterator[Finding]:
    for split, figures in record.scores.items():
        guessed, true = _counts(figures)
        names = tuple(word for word, count in true.items() if count >= ENOUGH and not guessed[word])
        if names:
            text = f"{len(names)} of {len(true)} classes with {ENOUGH} examples or more are never predicted on {split}"
            smoothing = record.option("task.label_smoothing", 0)
            advice = f"--task.label_smoothing {smoothing / 2:g}" if smoothing else ""
            yield Finding(kind="never_predicted", severity="warn", text=text, names=names, advice=advice)


def calibration(record: Record) -> Iterator[Finding]:
    """Probabilities that are higher than the part of right answers; or a loss worse than knowing nothing."""
    classes = max((len(figures.get("classes", ())) for figures in record.scores.values()), default=0)
    loss = record.curve("val/loss")
    if classes > 1 and len(loss) and loss.values_E[-1] > 1.5 * math.log(classes):
        text = f"sure where it is wrong: val/loss is {loss.values_E[-1]:.2f}, and even odds for {classes} classes are "
        text += f"{math.log(classes):.2f}"
        yield Finding(kind="calibration", severity="bad", text=text, advice=_smooth(record))
    for split, figures in record.scores.items():
        rows = figures.get("tables", {}).get("calibration", [])
        count = sum(row["examples"] for row in rows)
        over = sum(row["examples"] * (row["confidence"] - row["right"]) for row in rows) / max(count, 1)
        if over > OVERCONFIDENT:
            text = f"overconfident on {split}: its probabilities are {over:.2f} higher, on average, than it is right"
            yield Finding(kind="calibration", severity="warn", text=text, advice=_smooth(record))


def targets(record: Record) -> Iterator[Finding]:
    """Success criteria of the config that are missed."""
    for target in record.targets:
        value = record.reached(target)
        if value is None or "minimum" in target.reached(value):
            continue
        missed = abs(value - target.minimum)
        sign = "at most" if target.lower else "at least"
        text = f"{target.metric} is {value:.4f}, {missed:.4f} from its minimum ({sign} {target.minimum:g})"
        yield Finding(kind="target_missed", severity="bad", text=text)


SCORE_RULES = (at_floor, one_class, never_predicted, calibration, targets)


def _counts(figures: dict[str, Any]) -> tuple[Counter[str], Counter[str]]:
    """How often each class is guessed, and is true."""
    classes, guessed, true = figures.get("classes", []), Counter(), Counter()
    for truth, guess, count in figures.get("confusion", []):
        true[classes[truth]] += count
        guessed[classes[guess]] += count
    return guessed, true


def _smooth(record: Record) -> str:
    smoothing = record.option("task.label_smoothing")
    return "" if smoothing is None or smoothing >= 0.1 else "--task.label_smoothing 0.1"
