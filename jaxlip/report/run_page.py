"""The page report.html of a run: verdict first, then findings, curves, scores, mistakes, config, environment."""

import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxlip.engine.run import RunFolder
from jaxlip.metrics.direction import higher_is_better
from jaxlip.report import charts, html
from jaxlip.report.doctor import diagnose, preflight_findings
from jaxlip.report.finding import Finding, count_of
from jaxlip.report.record import Record, read_record
from jaxlip.report.strips import strip
from jaxlip.report.verdict import Judged, judge, main_score, verdict

FOLDED = 15
ROWS = 60
CONFUSED = 12
MATRIX = 1000
"""Classes up to which a confusion matrix is drawn."""
TONES = {"bad": ("wrong", "bad"), "warn": ("look", "warn"), "note": ("note", "")}
NOT_LABELS = ("low", "high", "floor")


def write_report(folder: RunFolder) -> pathlib.Path:
    """Writes report.html from what is in the run's folder; needs no data and no network."""
    record = read_record(folder)
    partial = folder.report.with_suffix(".html.part")
    partial.write_text(to_html(record), encoding="utf-8")
    partial.replace(folder.report)
    return folder.report


def to_html(record: Record) -> str:
    found, before = diagnose(record), preflight_findings(record)
    return html.page(
        record.name,
        _subtitle(record),
        f'<p class="verdict">{html.text(verdict(record, found))}</p>',
        _figures(record, found),
        _targets(judge(record)),
        html.section("Findings", _findings(found)),
        html.section("Preflight", _findings(before)) if record.checks else "",
        _curves(record),
        *(_split(split, record.scores[split]) for split in ("test", "val", "train") if split in record.scores),
        html.section("Config", _options(dict(record.options()))),
        html.section("Environment and data", _options({**record.environment, **dict(_flat(record.data))})),
    )


def _subtitle(record: Record) -> str:
    epochs = record.rows[-1]["epoch"] if record.rows else 0
    trained = f"{epochs} of {record.option('train.epochs', '?')} epochs"
    return f"{trained} on {_examples(record)}" if record.data.get("examples") else trained


def _examples(record: Record) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in record.data["examples"].items()) + " examples"


def _figures(record: Record, found: Sequence[Finding]) -> str:
    figures: dict[str, tuple[str, str]] = {}
    name = main_score(record)
    if name and record.scored:
        split, scored = record.scored
        score = scored["scores"][name]
        figures[f"{name} on {split}"] = (f"{score['value']:.4f}", "")
        if score.get("floor") is not None:
            figures["floor of it"] = (f"{score['floor']:.4f}", "")
    if record.headline != "loss" and (gap := record.gap(record.headline)) is not None:
        figures[f"train-val gap, {record.headline}"] = (f"{gap:+.3f}", "")
    if record.trainable:
        figures["parameters"] = (f"{record.trainable:,}", "")
    if record.seconds:
        figures["minutes of training"] = (f"{record.seconds / 60:.1f}", "")
    wrong = sum(finding.severity == "bad" for finding in found)
    figures["wrong"] = (str(wrong), "bad" if wrong else "good")
    figures["to look at"] = (str(look := sum(f.severity == "warn" for f in found)), "warn" if look else "good")
    return html.cards(figures)


def _targets(judged: Sequence[Judged]) -> str:
    return html.section("Success criteria", criteria_table(judged)) if judged else ""


def criteria_table(judged: Sequence[Judged]) -> str:
    """A row a criterion: its value, and each step reached or missed."""

    def step(j: Judged, name: str) -> str:
        limit = getattr(j.target, name)
        if limit is None:
            return ""
        sign = "at most" if j.target.lower else "at least"
        said, tone = ("✓ reached", "good") if name in j.reached else ("✗ missed", "bad")
        return f"{html.chip(said, tone) if j.value is not None else ''} {html.text(f'{sign} {limit:g}')}"

    def row(j: Judged) -> list[str]:
        value = html.chip("not measured") if j.value is None else f"{j.value:.4f}"
        return [html.text(j.target.metric), value, *(step(j, name) for name in ("minimum", "target", "stretch")), ""]

    return html.table(("criterion", "value", "minimum", "target", "stretch", ""), map(row, judged), numbers=range(1, 5))


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return html.paragraph("Nothing.")

    def described(finding: Finding) -> str:
        text = html.text(finding.line()[:1].upper() + finding.line()[1:])
        advice = f"<p>Try <code>{html.text(finding.advice)}</code></p>" if finding.advice else ""
        return f'{text}{advice}<p class="soft">rule {html.text(finding.kind)}</p>'

    return html.table(("", "finding"), ([html.chip(*TONES[f.severity]), described(f)] for f in findings))


def _curves(record: Record) -> str:
    floors = record.scores.get("val", {}).get("scores", {})
    drawn = []
    for name in sorted(record.metrics, key=lambda name: (name != record.headline, name != "loss")):
        lines = [
            charts.Line(
                label="train, while training" if part == "train" else "validation",
                x=curve.epochs_E.tolist(),
                y=curve.values_E.tolist(),
                colour=number,
                dashed=part == "train",
            )
            for number, part in enumerate(("val", "train"))
            # A rate of failures that never occurred is no picture.
            if (curve := record.curve(f"{part}/{name}")).values_E.any()
        ]
        drawn.append(charts.curves(name, lines, floor=floors.get(name, {}).get("floor")))
    for name in ("lr", "grad_norm"):
        curve = record.curve(f"train/{name}")
        line = charts.Line(label=name, x=curve.epochs_E.tolist(), y=curve.values_E.tolist(), colour=2)
        drawn.append(charts.curves({"lr": "learning rate", "grad_norm": "gradient norm"}[name], [line]))
    return html.section("Curves", html.plots(*drawn)) if any(drawn) else ""


def _split(split: str, figures: Mapping[str, Any]) -> str:
    parts = [
        html.paragraph(f"{figures['count']:,} examples, checkpoint of step {figures['step']:,}."),
        html.paragraph("Intervals are 95 %, marks on bars are floors."),
        _scores(figures["scores"]),
        *_tables(figures["tables"]),
        _confusion(figures.get("classes", []), figures.get("confusion", [])),
        _worst(figures.get("worst", [])),
    ]
    return html.section(f"Scores on {split}", *parts)


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    def row(name: str, score: Mapping[str, Any]) -> list[str]:
        floor = score.get("floor")
        numbers = [f"{score['value']:.4f}", f"{score['low']:.4f} to {score['high']:.4f}"]
        bar = charts.meter(score["value"], floor) if 0 <= score["value"] <= 1 else ""
        return [html.text(name), bar, *numbers, "" if floor is None else f"{floor:.4f}", ""]

    rows = [row(name, score) for name, score in scores.items()]
    return html.table(("score", "", "value", "interval", "floor", ""), rows, numbers=(2, 3, 4))


def _tables(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """A table of classes, slots or groups with bars, worst first; all others as they are."""
    for name, rows in tables.items():
        if not rows:
            continue
        keys = list(rows[0])
        measure = "recall" if "recall" in keys else next((k for k in keys if _is_measure(k, rows)), None)
        if measure and isinstance(rows[0][keys[0]], str) and name not in ("timings", "transcripts"):
            rising = measure == "recall" or higher_is_better(measure)
            rows = sorted(rows, key=lambda row, by=measure: row[by], reverse=not rising)
        else:
            measure = None
        longest = max((row[measure] for row in rows), default=1.0) if measure else 1.0
        cells = [_cells(row, measure, max(longest, 1.0)) for row in rows[:ROWS]]
        shift = 1 if measure else 0
        numbers = [i + shift for i, key in enumerate(keys) if i and not isinstance(rows[0][key], str)]
        table = html.table((keys[0], *([measure] if measure else []), *keys[1:], ""), cells, numbers)
        more = html.paragraph(f"{len(rows) - ROWS:,} more.") if len(rows) > ROWS else ""
        title = f"{name.replace('_', ' ').capitalize()}{', worst first' if measure else ''}"
        if len(rows) > FOLDED or measure is None:
            yield html.folded(f"{title} ({count_of(len(rows), 'row')})", table, more)
        else:
            yield f"<h3>{html.text(title)}</h3>{table}"


def _is_measure(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return key not in NOT_LABELS and all(isinstance(row.get(key), float) for row in rows)


def _cells(row: Mapping[str, Any], measure: str | None, longest: float) -> list[str]:
    """Markup of a row; after its first cell a bar of the measure, as long as that is of the longest."""

    def shown(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else html.text("" if value is None else value)

    first, *others = (shown(cell) for cell in row.values())
    if measure is None:
        return [first, *others, ""]
    floor = row.get("floor")
    mark = floor / longest if isinstance(floor, float) else None
    return [first, charts.meter(row[measure] / longest, mark), *others, ""]


def _confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    if not counts:
        return ""
    wrong = Counter({(classes[t], classes[g]): count for t, g, count in counts if t != g}).most_common(CONFUSED)
    rows = ([html.text(truth), html.text(guess), f"{count:,}", ""] for (truth, guess), count in wrong)
    table = html.table(("truth", "taken for", "times", ""), rows, numbers=(2,)) if wrong else html.paragraph("None.")
    picture = charts.confusion(classes, counts) if len(classes) <= MATRIX else ""
    return f"<h3>Confusion</h3>{html.plots(picture, f'<div>{table}</div>')}"


def _worst(worst: Sequence[Mapping[str, Any]]) -> str:
    if not worst:
        return ""
    cards = []
    for mistake in worst:
        truth, answer, about = (html.text(mistake[key]) for key in ("truth", "answer", "note"))
        said = f"<strong>{truth}</strong> read as <strong>{answer or '(nothing)'}</strong>"
        lips = mistake.get("lips")
        description = f"Lips in {mistake['example']}, where {mistake['truth']} is said"
        drawn = strip(lips, description) if lips else ""
        caption = f'{said}<br><span class="soft">{html.text(mistake["example"])}: {about}</span>'
        cards.append(f'<figure class="card">{drawn}<figcaption>{caption}</figcaption></figure>')
    note = "Lips as the model sees them: coloured while the word is said, orange where the frame is filled in."
    return f"<h3>Worst mistakes</h3>{html.paragraph(note)}{html.plots(*cards)}"


def _options(options: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float) and math.isfinite(value):
            return f"{value:g}"
        return html.text(value)

    rows = ([f"<code>{html.text(name)}</code>", shown(value)] for name, value in options.items() if value is not None)
    return html.table(("name", "value"), rows)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}, ")
        else:
            yield f"{prefix}{name}", value
