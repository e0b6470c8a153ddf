"""Parts of self-contained HTML reports: no script, no network, light and dark. Text is escaped where it enters.

A page is a title and sections; what functions return is markup, and only such may be passed on as `*_html`.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence

# Ink and surfaces by role; bars and chips take theirs from these, so that both themes are defined in one place.
STYLE = """
:root { color-scheme: light dark; --page: #f6f7f8; --card: #ffffff; --ink: #1b2026; --soft: #5c6672; --line: #dfe3e8;
  --bar: #14746f; --good: #1f7a3d; --warn: #9a5b00; --bad: #b3261e; --tint: #eef2f4;
  --s0: #14746f; --s1: #c2410c; --s2: #5b4bb7; --s3: #9a6a00; --s4: #a3195b; --s5: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2126; --ink: #e6e9ec; --soft: #9aa5b1;
  --line: #2e353c; --bar: #45b8ac; --good: #6fce8c; --warn: #f0b256; --bad: #ff8a80; --tint: #242b31;
  --s0: #45b8ac; --s1: #fb9a5e; --s2: #a99bf5; --s3: #e3bd55; --s4: #f387b8; --s5: #7fb5f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .7rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); } code { font-size: .92em; overflow-wrap: anywhere; }
.cards, .plots, .pictures { display: grid; gap: .8rem; }
.cards { grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); margin-top: 1.2rem; }
.plots { grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }
.pictures { grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem .9rem; }
.card { min-width: 0; }
.card b { display: block; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
figure { margin: 0; } figure img { width: 100%; border-radius: 6px; display: block; background: var(--tint); }
figcaption .chip { display: table; margin-left: -.15rem; }
figcaption { font-size: .85rem; margin-top: .4rem; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
svg .bar { fill: var(--bar); } svg .axis { stroke: var(--line); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td:last-child { width: 99%; } td:first-child code { white-space: nowrap; }
th, td { text-align: left; padding: .4rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; } th { color: var(--soft); font-weight: 500; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chip { border-radius: 99px; padding: .05rem .55rem; font-size: .82rem; background: var(--tint); white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
summary { cursor: pointer; margin: 1.6rem 0 .7rem; font-weight: 600; }
h3 { font-size: .95rem; margin: 1.2rem 0 .5rem; } .verdict { font-size: 1.05rem; margin-top: .8rem; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; } svg .dashed { stroke-dasharray: 5 4; }
svg .floor { stroke: var(--soft); stroke-dasharray: 2 3; } svg .cell { fill: var(--bar); }
svg .lips { fill: none; stroke: var(--ink); stroke-width: 2.5; stroke-linejoin: round; }
svg .said { stroke: var(--bar); } svg .filled { stroke: var(--warn); } svg.strip text { font-size: 22px; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; font-size: .85rem; }
.legend svg { display: inline-block; width: 1.6rem; height: .6rem; vertical-align: middle; margin-right: .3rem; }
.meter { display: block; width: clamp(3.5rem, 12vw, 7rem); height: .7rem; border-radius: 4px;
  background: var(--tint); position: relative; margin-top: .35rem; }
.meter i { position: absolute; top: 0; bottom: 0; left: 0; border-radius: 4px; background: var(--bar); }
.meter b { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; background: var(--ink); }
:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
@media (max-width: 40rem) { th, td { padding: .35rem .45rem; } }
@media print { * { print-color-adjust: exact; }
  body { max-width: none; padding: 0; font-size: 10.5pt; background: #fff; }
  .card, figure, tr { break-inside: avoid; } h2, h3, summary { break-after: avoid; } .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""

WIDTH, HEIGHT, BASE, SIDE = 340, 130, 20, 6


def text(value: object) -> str:
    """Markup that shows a value as it is."""
    return html.escape(str(value))


def page(title: str, subtitle: str, *sections_html: str) -> str:
    """A whole document."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>\n"
        f'<h1>{text(title)}</h1><p class="soft">{text(subtitle)}</p>\n'
        + "\n".join(sections_html)
        + "\n</body></html>\n"
    )


def section(title: str, *parts_html: str) -> str:
    return f"<section><h2>{text(title)}</h2>{''.join(parts_html)}</section>"


def folded(title: str, *parts_html: str) -> str:
    """A section that is shut until its title is clicked."""
    return f"<details><summary>{text(title)}</summary>{''.join(parts_html)}</details>"


def paragraph(content: str) -> str:
    return f'<p class="soft">{text(content)}</p>'


def chip(label: str, tone: str = "") -> str:
    """A small label; `tone` is good, warn, bad or empty."""
    return f'<span class="chip {tone}">{text(label)}</span>'


def cards(figures: Mapping[str, tuple[str, str]]) -> str:
    """Large figures: label -> (value, tone)."""
    shown = (
        f'<div class="card"><b class="{tone}">{text(value)}</b><span class="soft">{text(label)}</span></div>'
        for label, (value, tone) in figures.items()
    )
    return f'<div class="cards">{"".join(shown)}</div>'


def table(headings: Sequence[str], rows_html: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Rows of markup; columns `numbers` are set flush right."""
    head = "".join(
        f"<th{' class=number' if i in numbers else ''}>{text(heading)}</th>" for i, heading in enumerate(headings)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if i in numbers else ''}>{cell}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows_html
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def bars(title: str, counts: Mapping[str, int], unit: str) -> str:
    """A card with a bar for each label, in the mapping's order; exact values are in the bars' tooltips."""
    most = max(counts.values(), default=0) or 1
    step = (WIDTH - 2 * SIDE) / max(len(counts), 1)
    # Labels that would touch are left out, the first and the last never.
    every = max(1, -(-(max((len(label) for label in counts), default=1) + 1) * 7 // int(max(step, 1))))
    drawn = []
    for i, (label, count) in enumerate(counts.items()):
        height = (HEIGHT - BASE - 18) * count / most
        x, width = SIDE + i * step + step * 0.08, min(step * 0.84, 60)
        x += (step * 0.84 - width) / 2
        drawn.append(
            f'<rect class="bar" x="{x:.1f}" y="{HEIGHT - BASE - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="2"><title>{text(label)}: {count:,} {text(unit)}</title></rect>'
        )
        if i % every == 0:
            # Half a label at either end would stick out of the picture.
            half = 3.5 * len(label)
            middle = min(max(x + width / 2, half), WIDTH - half)
            drawn.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text(label)}</text>')
    drawn.append(f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - BASE}" y2="{HEIGHT - BASE}"/>')
    drawn.append(f'<text x="{SIDE}" y="10">{most:,} {text(unit)}</text>')
    return (
        f'<figure class="card"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)}">'
        f"{''.join(drawn)}</svg><figcaption>{text(title)}</figcaption></figure>"
    )


def plots(*figures_html: str) -> str:
    return f'<div class="plots">{"".join(figures_html)}</div>'


def pictures(figures_html: Iterable[str]) -> str:
    return f'<div class="pictures">{"".join(figures_html)}</div>'


def picture(png: bytes, caption_html: str, description: str) -> str:
    """An image that travels inside the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{text(description)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption_html}</figcaption></figure>"
    )
