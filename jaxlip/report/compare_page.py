"""A comparison of runs as text, JSON and a page with their curves overlaid."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from jaxlip.metrics.scores import Score
from jaxlip.report import charts, html
from jaxlip.report.compare import Comparison
from jaxlip.report.record import Record
from jaxlip.report.run_page import criteria_table
from jaxlip.report.verdict import Judged

STEPS = ("minimum", "target", "stretch")
TONES = {"better": "good", "worse": "bad", "no clear difference": ""}


def to_text(found: Comparison) -> str:
    lines = [f"scores on {found.split}, 95 % intervals"]
    rows = [
        [name, *("-" if s is None else f"{s.value:.4f} [{s.low:.4f}, {s.high:.4f}]" for s in row)]
        for name, row in found.scores.items()
    ]
    rows += [[name, *row] for name, row in found.facts.items()]
    lines += _columns([["", *found.runs], *rows])
    if found.settings:
        lines += [
            "",
            "config, where it differs",
            *_columns([[f, *map(_shown, row)] for f, row in found.settings.items()]),
        ]
    for run, judged in found.criteria.items():
        lines += ["", f"success criteria of {run}", *_columns([_criterion(j) for j in judged])]
    if tested := list(_tests(found)):
        lines += [
            "",
            f"paired bootstrap over the same examples: better than {found.runs[0]}, and in what part of the draws?",
        ]
        lines += _columns(tested)
    lines += [f"\nlook: {finding.line()}" for finding in found.findings]
    return "\n".join(lines)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _criterion(judged: Judged) -> list[str]:
    sign = "at most" if judged.target.lower else "at least"
    steps = [(name, getattr(judged.target, name)) for name in STEPS]
    ticks = [
        "" if limit is None else f"[{'x' if name in judged.reached else ' '}] {name} {sign} {limit:g}"
        for name, limit in steps
    ]
    return [judged.target.metric, "not measured" if judged.value is None else f"{judged.value:.4f}", *ticks]


def _tests(found: Comparison) -> Iterator[list[str]]:
    """Score, run, difference, interval, part of the draws in which it is better, answer."""
    for name, row in found.differences.items():
        for run, d in zip(found.runs, row, strict=True):
            if d is not None:
                answer = "no clear difference" if not d.clear else "better" if d.probability > 0.5 else "worse"
                yield [name, run, f"{d.value:+.4f}", f"[{d.low:+.4f}, {d.high:+.4f}]", f"{d.probability:.1%}", answer]


def to_json(found: Comparison) -> dict[str, Any]:
    def plain(score: Any) -> dict[str, Any] | None:
        return None if score is None else {k: getattr(score, k) for k in ("value", "low", "high", "floor")}

    return {
        "split": found.split,
        "runs": found.runs,
        "scores": {name: [plain(score) for score in row] for name, row in found.scores.items()},
        "differences": {
            name: [None if d is None else {**dataclasses.asdict(d), "clear": d.clear} for d in row]
            for name, row in found.differences.items()
        },
        "facts": found.facts,
        "settings": found.settings,
        "criteria": {run: [dataclasses.asdict(j) for j in judged] for run, judged in found.criteria.items()},
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
    }


def to_html(found: Comparison, records: Sequence[Record]) -> str:
    def numbers(rows_html: dict[str, list[str]]) -> str:
        body = ([html.text(name), *row, ""] for name, row in rows_html.items())
        return html.table(("", *found.runs, ""), body, numbers=range(1, len(found.runs) + 1))

    def scored(score: Score | None) -> str:
        return "-" if score is None else f"{score.value:.4f}<br>[{score.low:.4f}, {score.high:.4f}]"

    scores = {name: list(map(scored, row)) for name, row in found.scores.items()}
    facts = {name: list(map(html.text, row)) for name, row in found.facts.items()}
    tests = [
        [html.text(name), html.text(run), html.chip(answer, TONES[answer]), *map(html.text, cells), ""]
        for name, run, *cells, answer in _tests(found)
    ]
    criteria = [f"<h3>{html.text(run)}</h3>{criteria_table(judged)}" for run, judged in found.criteria.items()]
    settings = {field: [html.text(_shown(value)) for value in row] for field, row in found.settings.items()}
    return html.page(
        "Runs compared",
        ", ".join(found.runs),
        html.section(f"Scores on {found.split}", html.paragraph("With 95 % intervals."), numbers(scores | facts)),
        html.section(
            f"Better than {found.runs[0]}?",
            html.paragraph(
                "By a paired bootstrap over the same examples: the difference, its 95 % interval, and in what part "
                "of the draws the run is better."
            ),
            html.table(("score", "run", "", "difference", "interval", "better in", ""), tests, numbers=(3, 4, 5)),
        )
        if tests
        else "",
        html.section("Success criteria", *criteria) if criteria else "",
        html.section("To look at", *(html.paragraph(f.line()) for f in found.findings)) if found.findings else "",
        html.section("Config, where it differs", numbers(settings) if settings else html.paragraph("Nowhere.")),
        html.section("Curves", html.plots(*_curves(found, records))),
    )


def _curves(found: Comparison, records: Sequence[Record]) -> Iterator[str]:
    """One card a metric: validation of every run, and its training dashed."""
    for name in dict.fromkeys(name for record in records for name in record.metrics):
        lines = [
            charts.Line(
                label=f"{run}{', train' if part == 'train' else ''}",
                x=curve.epochs_E.tolist(),
                y=curve.values_E.tolist(),
                colour=number,
                dashed=part == "train",
            )
            for number, (run, record) in enumerate(zip(found.runs, records, strict=True))
            for part in ("val", "train")
            if len(curve := record.curve(f"{part}/{name}"))
        ]
        yield charts.curves(name, lines)
