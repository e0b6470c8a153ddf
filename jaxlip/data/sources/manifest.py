"""Your own data in any language: one CSV file that says what is in which clip.

clip      path of the landmark file below data.landmarks (default: the CSV's folder), with or without `.npz`
split     train, val or test
label     what is said, taken whole as one class; several rows of a clip are its words one after the other
text      instead of `label`: a sentence, cut into words at white space; neither, where only affect is to be learned
start     when that begins, in seconds; optional
end       when it ends, in seconds; optional
speaker   who speaks; optional
valence   how the clip feels, from -1 to 1; optional, with arousal
arousal   the same
affect    instead of both: path (from the CSV's folder) of a file with a line "valence,arousal" for each frame, a header
          or none, from -1 to 1, -5 where nobody knows (as in Aff-Wild2); optional

UTF-8, one header line, columns in any order. A label without times, alone in its clip, lasts the whole clip; the times
of a text of several words are no word's and are not used.
"""

import csv
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.data.sources.folders import MAKE_THEM, SPLITS, landmark_folder, unseen_words
from jaxlip.errors import UserError

COLUMNS = ("clip", "split", "label", "text", "start", "end", "speaker", "valence", "arousal", "affect")
UNKNOWN_AFFECT = -5.0
"""Of a frame that nobody has rated."""
Word = tuple[str, float | None, float | None]
"""A word with its start and end in seconds."""


def table(data: Any) -> pathlib.Path:
    """The CSV file: data.root, or manifest.csv in it. Raises UserError if there is none."""
    if data.root is None:
        raise UserError("data.root is not set; give the CSV file, or the folder of manifest.csv: --data.root FILE.")
    path = pathlib.Path(data.root)
    path = path / "manifest.csv" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path} is not a file; data.root is a CSV file, or a folder with manifest.csv.")
    return path


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, column -> value) of every row. Raises UserError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            unknown = [column for column in columns if column not in COLUMNS]
            felt = bool({"valence", "affect"} & set(columns))
            said = ("label" in columns) + ("text" in columns)
            if not {"clip", "split"} <= set(columns) or said > 1 or (not said and not felt) or unknown:
                raise UserError(
                    f"{path} line 1 has the columns {', '.join(columns) or '(none)'}; it must have clip, split, and "
                    "either label or text (or only valence and arousal, or affect), and may have start, end, speaker."
                )
            reader.fieldnames = columns
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f"{path} line {reader.line_num} does not have {len(columns)} columns.")
                yield reader.line_num, {name: value.strip() for name, value in row.items()}
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).") from None
    except csv.Error as error:
        raise UserError(f"{path} is not CSV: {error}.") from None


def _seconds(row: dict[str, str], column: str, where: str) -> float | None:
    text = row.get(column, "")
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise UserError(f"{where}: {column}={text!r} is no number of seconds.")
    return value


def _words(row: dict[str, str], where: str) -> list[Word]:
    start, end = _seconds(row, "start", where), _seconds(row, "end", where)
    if (start is None) != (end is None):
        raise UserError(f"{where}: give both start and end, or neither.")
    if start is not None and end is not None and not start < end:
        raise UserError(f"{where}: end={end} is not after start={start}.")
    if not {"label", "text"} & set(row):
        return []
    said = [row["label"]] if "label" in row else row["text"].split()
    if not said or not said[0]:
        raise UserError(f"{where}: {'label' if 'label' in row else 'text'} is empty.")
    return [(said[0], start, end)] if len(said) == 1 else [(word, None, None) for word in said]


def _affect(row: dict[str, str], where: str) -> tuple[float, float] | str | None:
    """Valence and arousal, or the file that has them by frame; None where nothing is given."""
    texts = [row.get(name, "") for name in ("valence", "arousal")]
    if not any(texts):
        return row.get("affect") or None
    if row.get("affect"):
        raise UserError(f"{where}: give valence and arousal, or affect by frame, not both.")
    try:
        valence, arousal = map(float, texts)
    except ValueError:
        valence = arousal = math.nan
    if not (abs(valence) <= 1 and abs(arousal) <= 1):
        raise UserError(f"{where}: valence={texts[0]!r} arousal={texts[1]!r}; both are numbers from -1 to 1.")
    return valence, arousal


def read_table(path: pathlib.Path) -> tuple[ClipRef, ...]:
    """The clips in the order of their first rows; `where` holds their words. Raises UserError naming the line."""
    clips: dict[str, ClipRef] = {}
    for line, row in _rows(path):
        where, name = f"{path} line {line}", row["clip"].removesuffix(".npz")
        if not name or row["split"] not in SPLITS:
            raise UserError(f"{where}: clip={row['clip']!r} split={row['split']!r}; split is train, val or test.")
        affect = _affect(row, where)
        ref = ClipRef(
            name=name, split=row["split"], speaker=row.get("speaker", ""), affect=affect, where=_words(row, where)
        )
        known = clips.setdefault(name, ref)
        if (known.split, known.speaker) != (ref.split, ref.speaker):
            raise UserError(
                f"{where}: clip {name} is in {known.split} by {known.speaker or 'nobody'} in an earlier line, "
                f"and here in {ref.split} by {ref.speaker or 'nobody'}."
            )
        if known.affect != ref.affect:
            raise UserError(f"{where}: clip {name} has another valence and arousal in an earlier line.")
        if known is not ref:
            known.where.extend(ref.where)
    if not clips:
        raise UserError(f"{path} has no rows below its header.")
    return tuple(clips.values())


@functools.lru_cache(maxsize=2)
def _table(path: pathlib.Path, changed: float) -> tuple[ClipRef, ...]:
    del changed
    return read_table(path)


def _landmarks(data: Any) -> pathlib.Path:
    return landmark_folder(data) or table(data).parent


def find(data: Any) -> Iterator[ClipRef]:
    """Every clip of the table. Raises UserError for a wrong table, or where no clip has a landmark file."""
    path, folder = table(data), _landmarks(data)
    refs = _table(path, path.stat().st_mtime)
    if not any((folder / f"{ref.name}.npz").is_file() for ref in refs):
        raise UserError(
            f"none of the {len(refs)} clips of {path} has a landmark file: {folder / refs[0].name}.npz is not there. "
            f"{MAKE_THEM} If they lie in another folder: --data.landmarks DIR (`jaxlip prepare`: --landmarks DIR)."
        )
    yield from refs


def load(data: Any, ref: ClipRef) -> Clip:
    raw = read_raw_landmarks(_landmarks(data) / f"{ref.name}.npz")
    fps, frames = raw["fps"], len(raw["landmarks"])
    words = tuple(_spoken(word, fps) for word in ref.where)
    if len(words) == 1 and not words[0].timed:
        words = (SpokenWord(text=words[0].text, start=0.0, end=float(frames)),)
    affect = frame_affect(table(data).parent / ref.affect) if isinstance(ref.affect, str) else ref.affect
    return Clip(name=ref.name, split=ref.split, speaker=ref.speaker, words=words, affect=affect, **raw)


def frame_affect(path: pathlib.Path) -> np.ndarray:
    """Valence and arousal f32 [T, 2] of a file with a line for each frame, NaN for -5. Raises DamagedClip."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedClip(f"no valence and arousal by frame in {path.name} ({type(error).__name__})") from None
    values = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.lower().startswith("valence")):
            continue
        try:
            valence, arousal = map(float, line.split(","))
        except ValueError:
            valence = arousal = math.nan
        unknown = UNKNOWN_AFFECT in (valence, arousal)
        if not unknown and not (abs(valence) <= 1 and abs(arousal) <= 1):
            raise DamagedClip(f"{path.name} line {number} is not valence,arousal from -1 to 1 (or -5)")
        values.append((math.nan, math.nan) if unknown else (valence, arousal))
    return np.array(values, np.float32).reshape(-1, 2)


def _spoken(word: Word, fps: float) -> SpokenWord:
    text, start, end = word
    if start is None or end is None:
        return SpokenWord(text=text)
    return SpokenWord(text=text, start=start * fps, end=end * fps)


def _said(data: Any) -> dict[str, frozenset[str]]:
    """The words of every split."""
    words: dict[str, set[str]] = {split: set() for split in SPLITS}
    for ref in find(data):
        words[ref.split].update(text for text, _, _ in ref.where)
    return {split: frozenset(said) for split, said in words.items()}


def vocabulary(data: Any) -> tuple[str, ...]:
    """Every label, or every word of every text, sorted."""
    return tuple(sorted(frozenset().union(*_said(data).values())))


def notes(data: Any) -> list[str]:
    return unseen_words(_said(data))
