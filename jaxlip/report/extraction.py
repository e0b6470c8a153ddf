"""What came of extracting a batch of videos: report.json for programs, report.html to look at."""

import collections
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxlip.data.quality import BINS
from jaxlip.data.recording import part_of, read_thumbnail
from jaxlip.errors import UserError
from jaxlip.report import html

PICTURES = 24
ROWS = 2000
TONES = {"ok": "good", "rejected": "warn", "failed": "bad"}
PLOTTED = {
    "yaw": "Head turned to the right, degrees",
    "pitch": "Head turned up, degrees",
    "roll": "Head leaning clockwise, degrees",
    "mouth_width": "Mouth width, pixels",
    "mouth_opening": "Gap between the inner lips, pixels",
    "face_width": "Face width, pixels",
}


def summarize(
    clips: Sequence[Mapping[str, Any]], *, options: Mapping[str, Any], ignored: int, seconds: float, workers: int
) -> dict[str, Any]:
    """The content of report.json; `clips` are reports of single clips with `clip`, `source`, `file` and `skipped`."""
    read = [clip for clip in clips if clip["status"] != "failed"]
    frames, detected = sum(clip["frames"] for clip in read), sum(clip["detected"] for clip in read)
    fresh = sum(clip["frames"] for clip in read if not clip["skipped"])
    rates = collections.Counter(f"{clip['fps']:.3f}".rstrip("0").rstrip(".") for clip in read)
    return {
        "clips": len(clips),
        **{status: sum(clip["status"] == status for clip in clips) for status in TONES},
        "already_done": sum(clip["skipped"] for clip in clips),
        "ignored_files": ignored,
        "frames": frames,
        "frames_with_face": detected,
        "detection": round(detected / frames, 4) if frames else None,
        "clips_with_damage": sum(_damage(clip) > 0 for clip in read),
        "damaged_frames": sum(clip["damage"]["damaged_frames"] for clip in read),
        "missing_frames": sum(clip["damage"]["missing_frames"] for clip in read),
        "seconds_of_video": round(sum(clip["seconds"] for clip in read), 2),
        "elapsed_seconds": round(seconds, 2),
        "frames_per_second": round(fresh / seconds, 1) if seconds > 0 else None,
        "workers": workers,
        "options": dict(options),
        "frame_rates": dict(sorted(rates.items(), key=lambda item: float(item[0]))),
        "histograms": {name: _merged(read, name) for name in PLOTTED},
        "per_clip": [dict(clip) for clip in clips],
    }


def _merged(clips: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    total: collections.Counter[int] = collections.Counter()
    for clip in clips:
        total.update({int(low): count for low, count in clip["histograms"][name].items()})
    return {str(low): total[low] for low in sorted(total)}


def _damage(clip: Mapping[str, Any]) -> int:
    damage = clip["damage"]
    return damage["damaged_frames"] + damage["missing_frames"] + damage["undecodable_packets"]


def write_report(report: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes report.json and report.html into the folder of landmarks; returns their paths. Raises UserError."""
    paths = [folder / "report.json", folder / "report.html"]
    for path, content in zip(paths, (json.dumps(report, indent=1) + "\n", to_html(report, folder)), strict=True):
        part = part_of(path)
        try:
            part.write_text(content, encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UserError(
                f"{path} cannot be written: {error.strerror}; the landmarks are safe, and the same command writes it."
            ) from None
    return paths


def to_html(report: Mapping[str, Any], folder: pathlib.Path) -> str:
    """The page; thumbnails are taken from the landmark files in `folder`."""
    clips = report["per_clip"]
    trouble = [clip for clip in clips if clip["status"] != "ok" or _damage(clip) or clip["notes"]]
    shown = _pictures(clips, trouble, folder)
    return html.page(
        "Extracted landmarks",
        f"{report['clips']:,} videos, {report['seconds_of_video'] / 60:,.1f} minutes. {_speed(report)}",
        _figures(report),
        html.section(
            "Needs a look",
            html.table(
                ("clip", "", "why"), ([html.text(clip["clip"]), _chip(clip), _why(clip)] for clip in trouble[:ROWS])
            )
            if trouble
            else html.paragraph("Nothing: every video was read whole, and shows a face."),
        ),
        html.section("Over all clips", html.plots(*_plots(report))),
        html.section(f"A frame of {len(shown)} of them", html.pictures(shown)),
        html.folded(
            "All clips", _table(clips[:ROWS]), *[html.paragraph("More are in report.json.")] * (len(clips) > ROWS)
        ),
    )


def _speed(report: Mapping[str, Any]) -> str:
    if not report["frames_per_second"]:
        return "All were done before."
    return (
        f"{report['frames_per_second']:,.0f} frames/s with {report['workers']} worker{'s' * (report['workers'] > 1)}."
    )


def _figures(report: Mapping[str, Any]) -> str:
    detection = report["detection"]
    return html.cards(
        {
            "clips ok": (f"{report['ok']:,}", "good" if report["ok"] else ""),
            "rejected (face in under 70 %)": (f"{report['rejected']:,}", "warn" if report["rejected"] else ""),
            "failed": (f"{report['failed']:,}", "bad" if report["failed"] else ""),
            "frames": (f"{report['frames']:,}", ""),
            "of them with a face": ("-" if detection is None else f"{detection:.2%}", ""),
            "damaged frames": (f"{report['damaged_frames']:,}", "warn" if report["damaged_frames"] else ""),
            "missing frames": (f"{report['missing_frames']:,}", "warn" if report["missing_frames"] else ""),
            "were done before": (f"{report['already_done']:,}", ""),
        }
    )


def _chip(clip: Mapping[str, Any]) -> str:
    return html.chip(clip["status"], TONES[clip["status"]])


def _why(clip: Mapping[str, Any]) -> str:
    return "<br>".join(html.text(line) for line in describe_clip(clip))


def describe_clip(clip: Mapping[str, Any]) -> list[str]:
    """What is wrong or unusual about a clip, a line each; empty for most."""
    lines = [clip["reason"]] if clip["reason"] else []
    if clip["status"] == "failed":
        return lines
    damage = clip["damage"]
    for key, text in (
        ("looks_damaged", "look damaged (grey or smeared pictures): frames"),
        ("decode_errors", "decoder errors at frames"),
        ("marked_corrupt", "marked corrupt: frames"),
    ):
        if damage[key]:
            lines.append(f"{text} {damage[key]}")
    for key, text in (
        ("missing_frames", "frames missing"),
        ("undecodable_packets", "packets could not be decoded"),
        ("backward_times", "frames with times that do not increase"),
        ("untimed_frames", "frames without a time"),
    ):
        if damage[key]:
            lines.append(f"{damage[key]} {text}")
    if damage["ended_early"]:
        lines.append(f"the file ends early: {damage['ended_early']}")
    if damage["messages"]:
        lines.append(f"decoder: {'; '.join(damage['messages'])}")
    if 0 < clip["detected"] < clip["frames"]:
        lines.append(f"no face in frames {clip['undetected_frames']}")
    return lines + list(clip["notes"])


def _plots(report: Mapping[str, Any]) -> list[str]:
    shares = [clip["detection"] for clip in report["per_clip"] if clip["status"] != "failed"]
    # The last bin holds 100 % alone: that is what most clips reach, and the others are of interest.
    rates = {f"{low}": sum(low <= 100 * share < low + 10 for share in shares) for low in range(0, 100, 10)}
    rates["100"] = sum(share >= 1 for share in shares)
    figures = [
        html.bars("Clips by frames with a face, % (the last bar: all of them)", rates, "clips"),
        html.bars("Clips by frame rate, frames/s", report["frame_rates"], "clips"),
    ]
    return figures + [
        html.bars(title, _filled(report["histograms"][name]), "frames")
        for name, title in PLOTTED.items()
        if report["histograms"][name]
    ]


def _filled(counts: Mapping[str, int]) -> dict[str, int]:
    """A histogram with its empty bins, widened until there are at most 40."""
    lows = {int(low): count for low, count in counts.items()}
    width = min((b - a for a, b in zip(lows, list(lows)[1:], strict=False)), default=max(BINS.values()))
    while (max(lows) - min(lows)) / width > 40:
        width *= 2
    bins: collections.Counter[int] = collections.Counter()
    for low, count in lows.items():
        bins[low // width * width] += count
    return {str(low): bins[low] for low in range(min(bins), max(bins) + 1, width)}


def _pictures(clips: Sequence[Any], trouble: Sequence[Any], folder: pathlib.Path) -> list[str]:
    """Clips in trouble first, up to half of the pictures; the others at even distances."""
    chosen = [clip for clip in trouble if clip["status"] != "failed"][: PICTURES // 2]
    others = [clip for clip in clips if clip["status"] != "failed" and clip not in chosen]
    room = PICTURES - len(chosen)
    chosen += [others[i * len(others) // room] for i in range(room)] if len(others) > room else others
    shown = []
    for clip in chosen:
        if png := read_thumbnail(folder / clip["file"]):
            share = f" {clip['detection']:.0%}"
            caption = f"{html.text(clip['clip'])} {html.chip(clip['status'] + share, TONES[clip['status']])}"
            shown.append(html.picture(png, caption, f"a frame of {clip['clip']} with its landmarks"))
    return shown


def _table(clips: Sequence[Mapping[str, Any]]) -> str:
    def row(clip: Mapping[str, Any]) -> list[str]:
        if clip["status"] == "failed":
            return [html.text(clip["clip"]), _chip(clip), *[""] * 7, html.text(clip["reason"])]
        measures = clip["measures"] or {}
        median = [str(round(measures[name]["median"])) if measures else "" for name in ("yaw", "pitch", "mouth_width")]
        size = "{} x {}".format(*clip["size"])
        numbers = [f"{clip['frames']:,}", f"{clip['detection']:.1%}", f"{clip['fps']:g}", size, *median]
        return [html.text(clip["clip"]), _chip(clip), *numbers, html.text("; ".join(describe_clip(clip)))]

    headings = ("clip", "", "frames", "face", "fps", "size", "yaw", "pitch", "mouth px", "notes")
    return html.table(headings, map(row, clips), numbers=range(2, 9))
