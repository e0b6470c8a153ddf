"""What a run comes to in a line or two: its score beside the floor, its targets, what was found."""

import dataclasses

from jaxlip.config import Target
from jaxlip.metrics.direction import higher_is_better
from jaxlip.report.finding import Finding, count_of
from jaxlip.report.record import Record

READERS = ("lexicon/wer", "beam/wer")
"""Scores of the decoders that are used where nobody names one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """A success criterion, what the run has of it (None: not measured), and which steps that reaches."""

    target: Target
    value: float | None
    reached: tuple[str, ...]


def judge(record: Record) -> list[Judged]:
    values = [(target, record.reached(target)) for target in record.targets]
    return [Judged(target=t, value=v, reached=() if v is None else t.reached(v)) for t, v in values]


def main_score(record: Record) -> str | None:
    """The score that a run is summed up by: the first of its targets, its headline, else the first there is."""
    if record.scored is None:
        return None
    scores = record.scored[1]["scores"]
    asked = (*(target.metric for target in record.targets), record.headline, *READERS)
    return next((name for name in asked if name in scores), next(iter(scores), None))


def verdict(record: Record, findings: list[Finding]) -> str:
    return " ".join((_score(record), _targets(record), _found(findings))).replace("  ", " ").strip()


def _score(record: Record) -> str:
    name = main_score(record)
    if record.failure:
        return f"Training failed: {record.failure}"
    if name is None or record.scored is None:
        curve = record.curve(f"val/{record.headline}")
        return (
            f"Not scored yet; validation {record.headline} is {curve.values_E[-1]:.4f}."
            if len(curve)
            else "No result yet."
        )
    split, figures = record.scored
    score = figures["scores"][name]
    text = f"{name} {score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}] on {split}"
    if (floor := score.get("floor")) is None:
        return f"{text}."
    beaten = score["low"] > floor if higher_is_better(name) else score["high"] < floor
    return f"{text}, {'clearly better than' if beaten else 'not clearly better than'} its floor of {floor:.4f}."


def _targets(record: Record) -> str:
    judged = judge(record)
    if not judged:
        return ""
    met = sum("minimum" in j.reached for j in judged)
    full = sum("target" in j.reached or (j.target.target is None and "minimum" in j.reached) for j in judged)
    return (
        f"{met} of {count_of(len(judged), 'criterion', 'criteria')} at their minimum or better, {full} at their target."
    )


def _found(findings: list[Finding]) -> str:
    loud = [finding for finding in findings if finding.severity != "note"]
    if not loud:
        return "Doctor has nothing against it."
    return f"Doctor: {', '.join(dict.fromkeys(finding.kind.replace('_', ' ') for finding in loud))}."
