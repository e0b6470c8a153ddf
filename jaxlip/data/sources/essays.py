"""Texts of known users over time, one CSV file in the layout of the shared task; you give the path.

user_id            who wrote it
text_id            which of the user's texts it is
text               what was written
timestamp          when, in ISO 8601 (2021-06-11 14:08:02)
collection_phase   not used
is_words           not used
valence            -2 to 2
arousal            0 to 2

UTF-8 with or without a byte order mark, one header line, columns in any order, more columns allowed. A line that cannot
be used is left out and named with its number.
"""

import csv
import datetime
import math
import pathlib
from collections.abc import Callable, Iterator

from jaxlip.errors import UserError
from jaxlip.text.entries import Entry, Problem, Scale

SCALE = Scale(low=(-2.0, 0.0), high=(2.0, 2.0))
COLUMNS = ("user_id", "text_id", "text", "timestamp", "valence", "arousal")
LONG = 10_000
"""Characters from which a text is mentioned: encoders read its beginning."""


class Unusable(Exception):
    """Why a line is left out."""


Row = dict[str, str]


def read_lines(
    path: pathlib.Path, columns: tuple[str, ...], parse: Callable[[Row], Entry]
) -> tuple[list[Entry], list[Problem]]:
    """The entries of a CSV file, and every line that is left out or remarkable. Raises UserError for a wrong file."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in _rows(path, columns):
        try:
            if row is None:
                raise Unusable("the line does not have as many columns as the header")
            entry = parse(row)
            first = seen.setdefault((entry.user, entry.id), line)
            if first != line:
                raise Unusable("the id is that of an earlier line")
        except Unusable as reason:
            problems.append(Problem(line=line, reason=str(reason)))
            continue
        if len(entry.text) >= LONG:
            problems.append(Problem(line=line, reason=f"the text has {LONG:,} characters or more", kept=True))
        entries.append(entry)
    if not entries:
        why = f": line {problems[0].line}: {problems[0].reason}" if problems else ""
        raise UserError(f"{path} has no usable line{why}.")
    return entries, problems


def _rows(path: pathlib.Path, columns: tuple[str, ...]) -> Iterator[tuple[int, Row | None]]:
    """(number of its first line, column -> value), None for a row of another width. Raises UserError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name.strip() for name in reader.fieldnames or ()]
            if missing := [column for column in columns if column not in names]:
                raise UserError(f"{path} line 1 lacks the columns {', '.join(missing)}; it has {', '.join(names)}.")
            reader.fieldnames = names
            first = reader.line_num + 1
            for row in reader:
                whole = None not in row and None not in row.values()
                yield first, {name: value.strip() for name, value in row.items()} if whole else None
                # A quoted text may go over several lines.
                first = reader.line_num + 1
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; data.root is the CSV file.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}).") from None
    except csv.Error as error:
        raise UserError(f"{path} is not CSV: {error}.") from None


def score(row: Row, column: str, low: float, high: float) -> float:
    """A label. Raises Unusable."""
    if not row[column]:
        raise Unusable(f"{column} is missing")
    try:
        value = float(row[column])
    except ValueError:
        raise Unusable(f"{column} is no number") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise Unusable(f"{column} is not from {low:g} to {high:g}")
    return value


def text_of(row: Row) -> str:
    """The text. Raises Unusable if it is empty."""
    if not row["text"]:
        raise Unusable("the text is empty")
    return row["text"]


def _time(row: Row) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(row["timestamp"])
    except ValueError:
        raise Unusable("the timestamp is no date") from None
    return time.astimezone(datetime.UTC).replace(tzinfo=None) if time.tzinfo else time


def _entry(row: Row) -> Entry:
    for column in ("user_id", "text_id"):
        if not row[column]:
            raise Unusable(f"{column} is missing")
    valence, arousal = (
        score(row, name, low, high)
        for name, low, high in zip(("valence", "arousal"), SCALE.low, SCALE.high, strict=True)
    )
    labels = (valence, arousal)
    return Entry(user=row["user_id"], id=row["text_id"], text=text_of(row), labels=labels, time=_time(row))


def read(path: pathlib.Path) -> tuple[list[Entry], list[Problem]]:
    """Raises UserError for a file that is none, or has other columns."""
    return read_lines(path, COLUMNS, _entry)
