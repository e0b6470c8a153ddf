"""What came of inspecting data: inspect.json for programs, inspect.html to look at, and the pictures in it."""

import collections
import json
import os
import pathlib
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxlip.data import quality
from jaxlip.data.inspection import ClipRow, Inspection
from jaxlip.data.recording import part_of
from jaxlip.errors import UserError
from jaxlip.report.finding import Finding

BINS = 24


def summarize(seen: Inspection, findings: Sequence[Finding]) -> dict[str, Any]:
    """The content of inspect.json."""
    config = seen.config
    chosen = {name: getattr(config, name) for name in ("source", "root", "splits", "preset", "features", "normalize")}
    return {
        "data": {**chosen, "window": config.window, "words_in_vocabulary": len(seen.vocabulary)},
        "clips": len(seen.used),
        "left_out": seen.left_out,
        "findings": [
            {"kind": f.kind, "severity": f.severity, "text": f.text, "names": list(f.names)} for f in findings
        ],
        "splits": {split: _split(seen, split, clips) for split, clips in seen.by_split().items()},
        "words": _words(seen),
        "speakers": _speakers(seen),
        "features": _features(seen),
        "duplicates": [
            {"first": p.first, "second": p.second, "distance": round(p.distance, 4)} for p in seen.duplicates
        ],
        "histograms": histograms(seen),
        "per_clip": [_clip(clip) for clip in seen.clips],
    }


def _split(seen: Inspection, split: str, clips: Sequence[ClipRow]) -> dict[str, Any]:
    words = seen.words.get(split, collections.Counter())
    texts = [" ".join(clip.words) for clip in clips if clip.words]
    trained = {" ".join(clip.words) for clip in seen.by_split().get("train", []) if clip.words}
    most = words.most_common(1)
    return {
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 2),
        "frames": sum(clip.frames for clip in clips),
        "detection": round(float(np.concatenate([clip.steadiness.seen_T for clip in clips]).mean()), 4),
        "speakers": len({clip.speaker for clip in clips} - {""}),
        "examples": words.total(),
        "classes": len(words),
        "commonest": {"word": most[0][0], "share": round(most[0][1] / words.total(), 4)} if most else None,
        "text_words": _spread([len(clip.words) for clip in clips if clip.words]),
        "text_characters": _spread([len(text) for text in texts]),
        "distinct_texts": len(set(texts)),
        "texts_also_in_train": None if split == "train" else sum(text in trained for text in texts),
    }


def _spread(values: Iterable[int]) -> dict[str, int] | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return {"min": ordered[0], "median": statistics.median_low(ordered), "max": ordered[-1]}


def _words(seen: Inspection) -> list[dict[str, Any]]:
    splits = list(seen.by_split())
    none = collections.Counter[str]()
    return [{"word": word} | {split: seen.words.get(split, none)[word] for split in splits} for word in seen.vocabulary]


def _speakers(seen: Inspection) -> dict[str, dict[str, int]]:
    """Speaker -> split -> clips; "" where nobody knows."""
    table: dict[str, dict[str, int]] = {}
    for split, clips in seen.by_split().items():
        for speaker, count in collections.Counter(clip.speaker for clip in clips).items():
            table.setdefault(speaker, {})[split] = count
    return dict(sorted(table.items()))


def _features(seen: Inspection) -> dict[str, Any] | None:
    if (check := seen.features) is None:
        return None
    return {
        "from_split": seen.class_split,
        "windows": check.clips,
        "slots": [
            {
                "slot": s.name,
                "of": "node" if s.node else "frame",
                "mean": s.mean,
                "std": s.std,
                "std_in_clip": s.in_time,
            }
            | {"dead": s.dead}
            for s in check.slots
        ],
        "twins": [
            {"slots": [t.first, t.second], "correlation": t.correlation, "by_definition": t.defined}
            for t in check.twins
        ],
        "still_points": list(check.still_points),
        "same_points": [list(pair) for pair in check.same_points],
    }


def _clip(clip: ClipRow) -> dict[str, Any]:
    seen = clip.steadiness
    measures = {name: clip.median(name) for name in quality.MEASURES}
    return {
        "clip": clip.name,
        "split": clip.split,
        "speaker": clip.speaker,
        "left_out": clip.reason,
        "text": " ".join(clip.words),
        "frames": clip.frames,
        "seconds": round(clip.seconds, 3),
        "fps": round(clip.fps, 3),
        "size": list(clip.size),
        "detection": round(clip.detection, 4),
        "gaps": list(seen.gaps),
        "masked_frames": clip.masked,
        "not_finite_frames": seen.broken,
        "jitter": None if seen.jitter is None else round(seen.jitter, 5),
        "still_frames": seen.still,
        "jumps": list(seen.jumps),
        "frames_leaving_picture": seen.outside,
        "medians": {name: None if value is None else round(value, 2) for name, value in measures.items()},
    }


def histograms(seen: Inspection) -> dict[str, dict[str, int]]:
    """Title -> lower edge of a bin -> how many, over all clips that could be read; none for titles without values."""
    clips, used = seen.clips, seen.used
    per_frame = {
        "Head turned to the right, degrees (frames)": "yaw",
        "Head turned up, degrees (frames)": "pitch",
        "Head leaning clockwise, degrees (frames)": "roll",
        "Mouth width, pixels (frames)": "mouth_width",
        "Gap between the inner lips, pixels (frames)": "mouth_opening",
    }
    tables = {
        "Length, seconds (clips)": [clip.seconds for clip in used],
        "Words in a text (clips)": [len(clip.words) for clip in used if clip.words],
        "Characters in a text (clips)": [len(" ".join(clip.words)) for clip in used if clip.words],
        "Length of a word, frames (words)": [frames for clip in used for frames in clip.word_frames],
        "Frames with a face, % (clips)": [100 * clip.detection for clip in clips],
        "Gaps without a face, frames (gaps)": [gap for clip in clips for gap in clip.steadiness.gaps],
        "Jitter of eyes and nose, % of eye distance (clips)": [
            100 * clip.steadiness.jitter for clip in clips if clip.steadiness.jitter is not None
        ],
        "Frames a second (clips)": [clip.fps for clip in clips],
    }
    for title, name in per_frame.items():
        column = quality.MEASURES.index(name)
        tables[title] = np.concatenate([clip.steadiness.measures_TD[:, column] for clip in clips]).tolist()
    return {title: _histogram([float(value) for value in values]) for title, values in tables.items() if values}


def _histogram(values: Sequence[float]) -> dict[str, int]:
    """At most BINS bins of a round width (1, 2 or 5 times a power of ten), empty ones between them too."""
    low, high = min(values), max(values)
    rough = max((high - low) / BINS, 1e-9)
    power = 10.0 ** np.floor(np.log10(rough))
    width = next(w * power for w in (1, 2, 5, 10) if w * power >= rough * (1 - 1e-9))
    if all(float(value).is_integer() for value in values):
        width = max(width, 1.0)
    first = int(np.floor(low / width + 1e-9)) if high > low else 0
    if high == low:
        return {f"{low:g}": len(values)}
    index_N = np.floor(np.asarray(values) / width + 1e-9).astype(int) - first
    return {f"{(first + i) * width:.6g}": int(count) for i, count in enumerate(np.bincount(index_N))}


def write_files(folder: pathlib.Path, contents: dict[str, str | bytes]) -> list[pathlib.Path]:
    """Writes each file whole or not at all; returns the paths. Raises UserError."""
    paths = []
    for name, content in contents.items():
        path = folder / name
        part = part_of(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(part, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from None
        paths.append(path)
    return paths


def to_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=1, allow_nan=False) + "\n"
