"""Scores and tables as text, JSON and CSV."""

import csv
import pathlib
from typing import Any

from jaxlip.metrics.scores import Scores


def format_scores(scores: Scores) -> str:
    """A line a score: value, 95 % interval, floor."""
    width = max(len(name) for name in scores.scores)
    return "\n".join(f"{name:{width}}  {score}" for name, score in scores.scores.items())


def format_rows(rows: list[dict[str, Any]], limit: int | None = None) -> str:
    """Rows of equal keys as a text table."""
    if not rows:
        return "(none)"
    cells = [list(rows[0])] + [
        [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows[:limit]
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(f"{cell:>{w}}" for cell, w in zip(line, widths, strict=True)) for line in cells]
    if limit is not None and len(rows) > limit:
        lines.append(f"... {len(rows) - limit} more")
    return "\n".join(lines)


def scores_to_json(scores: Scores) -> dict[str, Any]:
    return {
        "count": scores.count,
        "scores": {
            name: {"value": score.value, "low": score.low, "high": score.high, "floor": score.floor}
            for name, score in scores.scores.items()
        },
        "tables": scores.tables,
    }


def write_rows(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def write_confusion(scores: Scores, path: pathlib.Path) -> None:
    """Counts with a header of guesses; the first column is the truth."""
    assert scores.confusion_KK is not None
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["truth", *scores.classes])
        writer.writerows([word, *row] for word, row in zip(scores.classes, scores.confusion_KK.tolist(), strict=True))
