"""Runs side by side: scores, costs, what their configs differ in, and whether one is better than the first."""

import dataclasses
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import Any

from jaxlip.metrics.direction import higher_is_better
from jaxlip.metrics.paired import Difference, score_difference
from jaxlip.metrics.scores import Score
from jaxlip.report.finding import Finding
from jaxlip.report.record import Record
from jaxlip.report.verdict import Judged, judge

NOT_SETTINGS = ("name", "train.seed", "targets")
"""Fields in which two runs of the same experiment may differ."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """`scores` and `differences` (to the first run, of the same examples) by score and run; `settings` are the config
    fields that are not the same in all."""

    split: str
    runs: list[str]
    scores: dict[str, list[Score | None]]
    differences: dict[str, list[Difference | None]]
    facts: dict[str, list[str]]
    settings: dict[str, list[Any]]
    criteria: dict[str, list[Judged]]
    findings: list[Finding]


def compare(records: Sequence[Record], split: str) -> Comparison:
    """The runs in their order; the first is what the others are compared with."""
    names = list(dict.fromkeys(name for r in records for name in r.scores.get(split, {}).get("scores", {})))
    scores = {name: [record.score(split, name) for record in records] for name in names}
    runs = [record.name for record in records]
    if len(set(runs)) < len(runs):
        runs = [f"{number + 1}: {name}" for number, name in enumerate(runs)]
    return Comparison(
        split=split,
        runs=runs,
        scores=scores,
        differences={name: [_difference(row[0], score, name) for score in row] for name, row in scores.items()},
        facts=_facts(records),
        settings=settings_that_differ(records),
        criteria={run: judge(record) for run, record in zip(runs, records, strict=True) if record.targets},
        findings=[*_unscored(records, split), *seed_noise(records, scores)],
    )


def _difference(first: Score | None, score: Score | None, name: str) -> Difference | None:
    if first is None or score is None or first is score:
        return None
    return score_difference(first, score, lower_is_better=not higher_is_better(name))


def _facts(records: Sequence[Record]) -> dict[str, list[str]]:
    def gap(record: Record) -> str:
        value = record.gap(record.headline)
        return "" if value is None else f"{value:+.4f} ({record.headline})"

    return {
        "train-val gap": [gap(record) for record in records],
        "parameters": ["" if r.trainable is None else f"{r.trainable:,}" for r in records],
        "epochs": [f"{r.rows[-1]['epoch']}" if r.rows else "0" for r in records],
        "steps": [f"{r.rows[-1]['step']:,}" if r.rows else "0" for r in records],
        "minutes of training": ["" if r.seconds is None else f"{r.seconds / 60:.1f}" for r in records],
    }


def settings_that_differ(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Config field -> its value in each run, None where it has no such field."""
    options = [dict(record.options()) for record in records]
    fields = dict.fromkeys(itertools.chain.from_iterable(options))
    rows = {field: [option.get(field) for option in options] for field in fields if field not in ("name", "targets")}
    return {field: row for field, row in rows.items() if any(value != row[0] for value in row)}


def _unscored(records: Sequence[Record], split: str) -> list[Finding]:
    names = tuple(record.name for record in records if split not in record.scores)
    text = f"not scored on {split}; python evaluate.py --run RUN --split {split}"
    return [Finding(kind="not_scored", severity="warn", text=text, names=names)] if names else []


def seed_noise(records: Sequence[Record], scores: dict[str, list[Score | None]]) -> list[Finding]:
    """Differences between experiments that are no larger than those between seeds of one of them."""
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        same = {name: value for name, value in record.options() if name not in NOT_SETTINGS}
        groups.setdefault(json.dumps(same, sort_keys=True), []).append(number)
    if len(groups) < 2 or all(len(members) < 2 for members in groups.values()):
        return []
    found = []
    for name, row in scores.items():
        values = [[s.value for n in members if (s := row[n]) is not None] for members in groups.values()]
        if not all(values):
            continue
        spread = statistics.fmean(statistics.variance(v) for v in values if len(v) > 1) ** 0.5
        first, *others = values
        for members, other in zip(list(groups.values())[1:], others, strict=True):
            claimed = statistics.fmean(other) - statistics.fmean(first)
            noise = 2 * spread * (1 / len(first) + 1 / len(other)) ** 0.5
            if abs(claimed) < noise:
                text = (
                    f"{name}: {records[members[0]].name} differs from {records[0].name} by {claimed:+.4f}, and seeds "
                )
                text += f"alone by {noise:.4f} (twice the standard error; {spread:.4f} from seed to seed)"
                found.append(Finding(kind="seed_noise", severity="warn", text=text, advice="--train.seed 1"))
    return found
