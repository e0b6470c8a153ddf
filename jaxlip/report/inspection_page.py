"""The page inspect.html: findings first, then counts, landmarks, features, mouths, and every clip."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jaxlip.report import html
from jaxlip.report.finding import Finding, count_of

ROWS = 1000
NAMES = 40
TONES = {"bad": "bad", "warn": "warn", "note": ""}
LABELS = {"bad": "wrong", "warn": "look", "note": "note"}


def to_html(report: Mapping[str, Any], findings: Sequence[Finding], sheets: Mapping[str, bytes]) -> str:
    """The whole page; `sheets` are titles and PNGs."""
    data = report["data"]
    where = data["root"] or "the built-in corpus"
    return html.page(
        "Inspected data",
        f"{where}, source {data['source']}, preset {data['preset']}, features {data['features']}",
        _figures(report, findings),
        html.section("Findings", _findings(findings)),
        html.section("Splits", _splits(report)),
        html.section("Speakers", _speakers(report)),
        _words(report),
        html.section(
            "Lengths and landmarks",
            html.plots(*(html.bars(title, counts, _unit(title)) for title, counts in report["histograms"].items())),
        ),
        *(
            html.section(title, html.paragraph(_EXPLAINED.get(title, _SHEET)), html.picture(png, "", title))
            for title, png in sheets.items()
        ),
        _features(report),
        html.folded(f"All {len(report['per_clip']):,} clips", _clips(report["per_clip"])),
    )


_SHEET = (
    "Lips as a model sees them, frames at even distances: green while a word is said, orange where no face was found "
    "and the frame is filled in, empty where it is masked."
)
_EXPLAINED = {
    "Mean mouth of each word": "With its number of examples; below it, how far the mouth opens over the window around "
    "the word, in green where the word is being said in half of the examples or more."
}


def _unit(title: str) -> str:
    return title[title.rindex("(") + 1 : -1]


def _figures(report: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    splits = report["splits"].values()
    frames = sum(split["frames"] for split in splits)
    faces = sum(split["frames"] * split["detection"] for split in splits)
    counts = {severity: sum(f.severity == severity for f in findings) for severity in ("bad", "warn")}
    left_out = len({name for names in report["left_out"].values() for name in names})
    speakers = len(set(report["speakers"]) - {""})
    return html.cards(
        {
            "things are wrong": (f"{counts['bad']:,}", "bad" if counts["bad"] else "good"),
            "want a look": (f"{counts['warn']:,}", "warn" if counts["warn"] else "good"),
            "clips in use": (f"{report['clips']:,}", ""),
            "left out": (f"{left_out:,}", "warn" if left_out else ""),
            "hours": (f"{sum(split['seconds'] for split in splits) / 3600:.2f}", ""),
            "speaker" if speakers == 1 else "speakers": (f"{speakers:,}" if speakers else "unknown", ""),
            "labelled words": (f"{sum(split['examples'] for split in splits):,}", ""),
            "of frames with a face": (f"{faces / frames:.2%}" if frames else "-", ""),
        }
    )


def _findings(findings: Sequence[Finding]) -> str:
    def described(finding: Finding) -> str:
        more = f" and {len(finding.names) - NAMES:,} more, in inspect.json" if len(finding.names) > NAMES else ""
        names = html.paragraph(", ".join(finding.names[:NAMES]) + more) if finding.names else ""
        return html.text(finding.text[:1].upper() + finding.text[1:]) + names

    rows = ([html.chip(LABELS[f.severity], TONES[f.severity]), described(f)] for f in findings)
    return html.table(("", "finding"), rows) if findings else html.paragraph("Nothing.")


def _splits(report: Mapping[str, Any]) -> str:
    def clips(name: str, split: Mapping[str, Any]) -> list[str]:
        speakers = f"{split['speakers']:,}" if split["speakers"] else "unknown"
        counts = [f"{split['clips']:,}", f"{split['seconds'] / 60:,.1f}", f"{split['frames']:,}"]
        return [html.text(name), *counts, f"{split['detection']:.2%}", speakers, ""]

    def texts(name: str, split: Mapping[str, Any]) -> list[str]:
        most, also = split["commonest"], split["texts_also_in_train"]
        return [
            html.text(name),
            f"{split['examples']:,}",
            f"{split['classes']:,}",
            html.text(f"{most['word']} {most['share']:.2%}") if most else "",
            _range(split["text_words"]),
            _range(split["text_characters"]),
            f"{split['distinct_texts']:,}",
            "" if also is None else f"{also:,}",
            "",
        ]

    splits = report["splits"].items()
    parts = [
        html.table(
            ("split", "clips", "minutes", "frames", "with a face", "speakers", ""), _rows(clips, splits), range(1, 6)
        )
    ]
    if report["data"]["words_in_vocabulary"]:
        headings = (
            "split",
            "words",
            "classes",
            "commonest word",
            "words a text",
            "characters",
            "texts",
            "also in train",
        )
        parts.append(html.paragraph("What is said; the commonest word's share is the accuracy of always answering it:"))
        parts.append(html.table((*headings, ""), _rows(texts, splits), range(1, 8)))
    return "".join(parts)


def _rows(row: Callable[..., list[str]], items: Iterable[tuple[str, Any]]) -> list[list[str]]:
    return [row(*item) for item in items]


def _range(spread: Mapping[str, int] | None) -> str:
    if spread is None:
        return ""
    low, high = spread["min"], spread["max"]
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _speakers(report: Mapping[str, Any]) -> str:
    splits = list(report["splits"])
    known = {speaker: counts for speaker, counts in report["speakers"].items() if speaker}
    if not known:
        return html.paragraph("The source does not say who speaks.")
    rows = []
    for speaker, counts in list(known.items())[:ROWS]:
        chip = html.chip("in several splits", "warn") if len(counts) > 1 else ""
        rows.append([html.text(speaker), *(f"{counts[s]:,}" if s in counts else "" for s in splits), chip])
    table = html.table(("speaker", *splits, ""), rows, numbers=range(1, len(splits) + 1))
    return table if len(rows) <= 12 else html.folded(f"{len(known):,} speakers", table)


def _words(report: Mapping[str, Any]) -> str:
    words, splits = report["words"], list(report["splits"])
    if not words:
        return ""
    parts = []
    for split in splits:
        counts = {entry["word"]: entry[split] for entry in sorted(words, key=lambda e: -e[split])}
        parts.append(html.bars(f"Examples of each word in {split}, commonest first", counts, "examples"))
    first = splits[0]
    rows = (
        [html.text(entry["word"]), *(f"{entry[s]:,}" if entry[s] else html.chip("0", "warn") for s in splits), ""]
        for entry in sorted(words, key=lambda e: (e[first], e["word"]))[:ROWS]
    )
    table = html.table(("word", *splits, ""), rows, numbers=range(1, len(splits) + 1))
    title = f"{count_of(len(words), 'word')}, rarest first"
    return html.section("Words", html.plots(*parts), html.folded(title, table))


def _features(report: Mapping[str, Any]) -> str:
    if (features := report["features"]) is None:
        return ""
    twins: dict[str, list[str]] = {}
    for twin in features["twins"]:
        for a, b in (twin["slots"], twin["slots"][::-1]):
            twins.setdefault(a, []).append(f"= {b}{', by definition' if twin['by_definition'] else ''}")

    def row(slot: Mapping[str, Any]) -> list[str]:
        remarks = [html.chip("never varies", "bad")] if slot["dead"] else []
        remarks += [html.chip(said, "" if "definition" in said else "warn") for said in twins.get(slot["slot"], [])]
        numbers = [f"{slot[key]:.4f}" for key in ("mean", "std", "std_in_clip")]
        return [html.text(slot["slot"]), slot["of"], *numbers, " ".join(remarks)]

    headings = ("slot", "of each", "mean", "std", "std within a clip", "")
    return html.section(
        "Features",
        html.paragraph(
            f"From {features['windows']:,} windows of split {features['from_split']}, in inter-ocular distances. "
            "A slot is dead where it never varies, or only between clips."
        ),
        html.table(headings, map(row, features["slots"]), numbers=range(2, 5)),
    )


def _clips(clips: Sequence[Mapping[str, Any]]) -> str:
    def row(clip: Mapping[str, Any]) -> list[str]:
        medians, gaps = clip["medians"], clip["gaps"]
        numbers = [f"{clip['frames']:,}", f"{clip['detection']:.1%}", str(max(gaps)) if gaps else ""]
        numbers += ["" if clip["jitter"] is None else f"{clip['jitter']:.2%}", str(clip["still_frames"] or "")]
        pose = ["" if medians[name] is None else f"{medians[name]:.0f}" for name in ("yaw", "pitch", "mouth_width")]
        said = html.chip(clip["left_out"], "warn") if clip["left_out"] else html.text(clip["text"])
        return [html.text(clip["clip"]), html.text(clip["split"]), *numbers, *pose, said]

    # Those left out and the least seen first.
    ordered = sorted(clips, key=lambda clip: (not clip["left_out"], clip["detection"], clip["clip"]))
    headings = ("clip", "split", "frames", "face", "longest gap", "jitter", "still", "yaw", "pitch", "mouth px", "text")
    more = [html.paragraph("More are in inspect.json.")] if len(clips) > ROWS else []
    return html.table(headings, map(row, ordered[:ROWS]), numbers=range(2, 10)) + "".join(more)
