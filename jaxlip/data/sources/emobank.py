"""EmoBank (Buechel and Hahn, EACL 2017): sentences with valence, arousal and dominance on 1 to 5, and its own split.

Columns id, split (train, dev, test), V, A, D, text. Nobody knows who wrote what when: every sentence stands alone.
"""

import pathlib

from jaxlip.data.sources.essays import Row, Unusable, read_lines, score, text_of
from jaxlip.text.entries import Entry, Problem, Scale

SCALE = Scale(low=(1.0, 1.0), high=(5.0, 5.0))
SPLITS = {"train": "train", "dev": "val", "test": "test"}


def _entry(row: Row) -> Entry:
    if row["split"] not in SPLITS:
        raise Unusable(f"the split is none of {', '.join(SPLITS)}")
    labels = (score(row, "V", 1.0, 5.0), score(row, "A", 1.0, 5.0))
    return Entry(user=row["id"], id=row["id"], text=text_of(row), labels=labels, split=SPLITS[row["split"]])


def read(path: pathlib.Path) -> tuple[list[Entry], list[Problem]]:
    """`path` is the CSV file, or a folder with emobank.csv. Raises UserError for a file that is none."""
    path = path / "emobank.csv" if path.is_dir() else path
    return read_lines(path, ("id", "split", "V", "A", "text"), _entry)
