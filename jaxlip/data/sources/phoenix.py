"""RWTH-PHOENIX-Weather 2014 (Koller et al., 2015) and its signer-independent split SI5: what is signed in which clip.

Tables `train.SI5.corpus.csv`, `dev...` and `test...` (or `train.corpus.csv`, ...) in data.root or in its
annotations/manual, with the header `id|folder|signer|annotation` and glosses separated by blanks. Landmark files (see
holistic_files) lie in data.landmarks, else <root>/landmarks: `<split>/<id>.npz`, or `<split>/<folder>.npz` with the
folder as the table has it, without the pattern of its pictures.
"""

import collections
import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, SpokenWord
from jaxlip.data.holistic_files import read_holistic
from jaxlip.data.sources.folders import landmark_folder, root_folder
from jaxlip.errors import UserError
from jaxlip.holistic.layout import IDS

TABLES = {"train": "train", "val": "dev", "test": "test"}
HEADER = ["id", "folder", "signer", "annotation"]
# Marks of the annotators, pointing, classifiers, one-handed repetitions, spelled letters: no words of a lexicon.
NON_LEXICAL = re.compile(r"__.*__|(loc|cl|lh|rh|qu|poss)-.*|IX|WG|\$GEST.*|PLUSPLUS|POS|NICHTALP|.")


class Sentence(NamedTuple):
    """A row of a table; `where` names its file and line."""

    where: str
    folder: str
    glosses: tuple[str, ...]


def _table(data: Any, split: str) -> pathlib.Path:
    """The table of a split. Raises UserError if there is none."""
    root = root_folder(data)
    names = [f"{TABLES[split]}.SI5.corpus.csv", f"{TABLES[split]}.corpus.csv"]
    for folder in (root, root / "annotations" / "manual"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{root} has no {names[0]} (nor {names[1]}), there or in annotations/manual; see the README.")


def read_table(path: pathlib.Path, split: str, *, lexical_only: bool) -> list[ClipRef]:
    """The rows of a table; `where` of a clip is its Sentence. Raises UserError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if not lines or [column.strip() for column in lines[0].split("|")] != HEADER:
        raise UserError(f"{path} line 1 is {lines[0][:60] if lines else ''!r}; it must be {'|'.join(HEADER)}.")
    refs: dict[str, ClipRef] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        where, cells = f"{path.name} line {number}", [cell.strip() for cell in line.split("|")]
        if len(cells) != len(HEADER) or not cells[0]:
            raise UserError(f"{path} line {number} does not have the {len(HEADER)} columns {'|'.join(HEADER)}.")
        name, folder, signer, annotation = cells
        if name in refs:
            raise UserError(f"{path} line {number} has id {name} a second time.")
        glosses = tuple(g for g in annotation.split() if not (lexical_only and NON_LEXICAL.fullmatch(g)))
        sentence = Sentence(where, folder, glosses)
        refs[name] = ClipRef(name=f"{split}/{name}", split=split, speaker=signer, where=sentence)
    return list(refs.values())


@functools.lru_cache(maxsize=8)
def _rows(path: pathlib.Path, split: str, lexical_only: bool, changed: float) -> tuple[ClipRef, ...]:
    del changed
    return tuple(read_table(path, split, lexical_only=lexical_only))


def rows(data: Any, split: str) -> tuple[ClipRef, ...]:
    """The rows of a split's table. Raises UserError."""
    path = _table(data, split)
    return _rows(path, split, data.lexical_only, path.stat().st_mtime)


def find(data: Any) -> Iterator[ClipRef]:
    """Every row of every table. Raises UserError where there is no landmark file at all."""
    refs = [ref for split in TABLES for ref in rows(data, split)]
    if not any(_landmarks(data, ref).is_file() for ref in refs):
        where = _landmarks(data, refs[0]) if refs else root_folder(data)
        raise UserError(
            f"none of the {len(refs)} clips has landmarks: {where} is not there; `jaxlip holistic` makes "
            "landmark files, --data.landmarks DIR says where they are."
        )
    yield from refs


def _landmarks(data: Any, ref: ClipRef) -> pathlib.Path:
    """The landmark file of a clip: by its id if there is one, else by its folder."""
    folder = (landmark_folder(data) or root_folder(data) / "landmarks") / TABLES[ref.split]
    by_id = folder / f"{ref.name.partition('/')[2]}.npz"
    pictures = pathlib.PurePosixPath(ref.where.folder)
    pictures = pictures.parent if "*" in pictures.name else pictures
    by_folder = folder / f"{pictures}.npz"
    return by_folder if by_folder.is_file() and not by_id.is_file() else by_id


def load(data: Any, ref: ClipRef) -> Clip:
    """Raises DamagedClip naming the line of the table."""
    where, folder, glosses = ref.where
    if not glosses:
        filtered = " once what is not lexical is left out" if data.lexical_only else ""
        raise DamagedClip(f"{where}: the annotation is empty{filtered}")
    try:
        raw = read_holistic(_landmarks(data, ref))
    except DamagedClip as damage:
        raise DamagedClip(f"{where}: folder {folder}: {damage}") from None
    words = tuple(SpokenWord(text=gloss) for gloss in glosses)
    return Clip(name=ref.name, split=ref.split, speaker=ref.speaker, words=words, ids=IDS, **raw)


def vocabulary(data: Any) -> tuple[str, ...]:
    """Glosses of the training table, the most frequent first or as they are first seen (data.order)."""
    times = collections.Counter(gloss for ref in rows(data, "train") for gloss in ref.where.glosses)
    if data.order == "first_seen":
        return tuple(times)
    return tuple(sorted(times, key=lambda gloss: (-times[gloss], gloss)))


def unknown(data: Any) -> tuple[str, ...]:
    """Glosses of the other tables that are not in the training one."""
    known = set(vocabulary(data))
    return tuple(sorted({g for split in ("val", "test") for r in rows(data, split) for g in r.where.glosses} - known))


def notes(data: Any) -> list[str]:
    """The lines with glosses that no model can know; each of them counts as an error."""
    missing = set(unknown(data))
    return [
        f"{ref.where.where}: gloss {', '.join(found)} is not in the training table, and counts as an error"
        for split in ("val", "test")
        for ref in rows(data, split)
        if (found := sorted(missing.intersection(ref.where.glosses)))
    ]
