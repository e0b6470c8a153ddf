"""Charts as SVG inside a page: curves, meters, a confusion matrix; colours are those of the page's theme."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxlip.report import html

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 190, 46, 8, 10, 22
PALETTE = 6
FLOOR = 'class="floor"'
SHADES = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """Points of one curve; `colour` is a number of the palette."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    dashed: bool = False


def curves(title: str, lines: Sequence[Line], *, floor: float | None = None, unit: str = "epoch") -> str:
    """A card with curves over epochs, a legend, and the floor as a dotted line."""
    lines = [line for line in lines if len(line.x)]
    if not lines:
        return ""
    values = [value for line in lines for value in line.y] + ([floor] if floor is not None else [])
    ticks = nice_ticks(min(values), max(values))
    first, last = min(min(line.x) for line in lines), max(max(line.x) for line in lines)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - first) / ((last - first) or 1)
        up = (y - ticks[0]) / (ticks[-1] - ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    drawn = []
    for tick in ticks:
        y = place(first, tick)[1]
        drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    drawn.append(f'<text x="{LEFT}" y="{HEIGHT - 6}">{first:g}</text>')
    drawn.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{unit} {last:g}</text>')
    if floor is not None:
        y = place(first, floor)[1]
        drawn.append(f'<line class="floor" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for line in lines:
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(line.x, line.y, strict=True))
        drawn.append(f'<polyline {_stroke(line)} points="{points}"><title>{html.text(line.label)}</title></polyline>')
    said = ", ".join(f"{line.label} from {line.y[0]:.3g} to {line.y[-1]:.3g}" for line in lines)
    return (
        f'<figure class="card"><figcaption>{html.text(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.text(f"{title}: {said}")}">'
        f"{''.join(drawn)}</svg>{_legend(lines, floor)}</figure>"
    )


def _stroke(line: Line) -> str:
    dashed = " dashed" if line.dashed else ""
    return f'class="line{dashed}" style="stroke: var(--s{line.colour % PALETTE})"'


def _legend(lines: Sequence[Line], floor: float | None) -> str:
    swatch = '<svg viewBox="0 0 26 10" aria-hidden="true"><line x1="0" x2="26" y1="5" y2="5" {}/></svg>'
    items = [f"<span>{swatch.format(_stroke(line))}{html.text(line.label)} {line.y[-1]:.3g}</span>" for line in lines]
    if floor is not None:
        items.append(f"<span>{swatch.format(FLOOR)}floor {floor:.3g}</span>")
    return f'<div class="legend soft">{"".join(items)}</div>'


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around a range."""
    span = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / 3))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 4.2)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(round(number * step, 10)) for number in range(first, max(last, first + 1) + 1)]


def meter(part: float, mark: float | None = None) -> str:
    """A bar from 0 to 1, with a mark such as the floor; the number stands beside it."""
    marked = "" if mark is None else f'<b style="left: {min(max(mark, 0), 1):.1%}"></b>'
    return f'<span class="meter" aria-hidden="true"><i style="width: {min(max(part, 0), 1):.1%}"></i>{marked}</span>'


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Rows are the truth, columns the answer; the darker, the larger the part of the row's examples."""
    size = len(classes)
    totals: dict[int, int] = {}
    for truth, _, count in counts:
        totals[truth] = totals.get(truth, 0) + count
    shades: Mapping[int, list[str]] = {level: [] for level in range(1, SHADES + 1)}
    for truth, guess, count in counts:
        shades[max(1, math.ceil(SHADES * count / totals[truth]))].append(f"M{guess} {truth}h1v1h-1z")
    cells = "".join(
        f'<path class="cell" fill-opacity="{level / SHADES:.2f}" d="{"".join(paths)}"/>'
        for level, paths in shades.items()
        if paths
    )
    edge = f'<rect width="{size}" height="{size}" fill="none" class="axis" stroke-width="{size / 300:.2f}"/>'
    right = sum(count for truth, guess, count in counts if truth == guess)
    said = f"Confusion of {size} classes: {right} of {sum(totals.values())} examples on the diagonal"
    return (
        f'<figure class="card"><svg viewBox="0 0 {size} {size}" style="max-width: 30rem" role="img" '
        f'aria-label="{html.text(said)}">{edge}{cells}</svg><figcaption>Rows are the truth, columns the answer, in the '
        "order of the vocabulary; the stronger the colour, the larger the part of a row.</figcaption></figure>"
    )
