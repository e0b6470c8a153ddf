"""What folders of clips have in common: the root, the tree of landmark files, and how clips are split."""

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxlip.errors import UserError

SPLITS = ("train", "val", "test")
MAKE_THEM = "`jaxlip extract` makes landmark files from videos."


def root_folder(data: Any) -> pathlib.Path:
    """The folder data.root. Raises UserError if it is not set or not there."""
    if data.root is None:
        raise UserError(f"data.root is not set; give the folder of the {data.source} corpus: --data.root DIR.")
    folder = pathlib.Path(data.root)
    if not folder.is_dir():
        raise UserError(f"data.root={data.root} is not a folder.")
    return folder


def landmark_folder(data: Any) -> pathlib.Path | None:
    """The folder data.landmarks, None where landmarks lie where the source expects them. Raises UserError."""
    if data.landmarks is None:
        return None
    folder = pathlib.Path(data.landmarks)
    if not folder.is_dir():
        raise UserError(f"data.landmarks={data.landmarks} is not a folder. {MAKE_THEM}")
    return folder


def require_landmarks(folder: pathlib.Path, pattern: str) -> None:
    """Raises UserError where no landmark file is there at all; single missing ones are counted as they are read."""
    if next(folder.glob(pattern), None) is None:
        raise UserError(
            f"{folder} holds no landmark files ({pattern}). {MAKE_THEM} If they lie in another folder: "
            "--data.landmarks DIR (`jaxlip prepare`: --landmarks DIR)."
        )


def read_text(path: pathlib.Path) -> str | None:
    """The text of a small UTF-8 file, undecodable bytes replaced; None if it is not there."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return None


def read_splits(path: pathlib.Path) -> dict[str, str]:
    """Clip name -> split, from JSON {"train": [names], "val": [...], "test": [...]}. Raises UserError."""
    try:
        table = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"splits file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"splits file {path} is not JSON: {error}.") from None
    lists = list(table.values()) if isinstance(table, dict) else [None]
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
        raise UserError(f'splits file {path} is not a table such as {{"train": [clips], "val": [...], "test": [...]}}.')
    split_of: dict[str, str] = {}
    for split, names in table.items():
        for name in names:
            if name.count("/") > 1 or ".." in name or len(name) > 200:
                raise UserError(f"splits file {path} names {name[:60]!r}, which is no `clip` or `speaker/clip`.")
            if split_of.setdefault(name, split) != split:
                raise UserError(f"splits file {path} has clip {name} in both {split_of[name]} and {split}.")
    return split_of


def hashed_split(name: str) -> str:
    """A split that depends on nothing but the clip's name: 80 % train, 10 % val, 10 % test."""
    bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
    return {8: "val", 9: "test"}.get(bucket, "train")


def unseen_words(words: Mapping[str, frozenset[str]]) -> list[str]:
    """What to say of a vocabulary that is read off the transcripts of every split."""
    said = []
    for split in ("val", "test"):
        unseen = words[split] - words["train"]
        if unseen:
            said.append(
                f"{len(unseen)} of the {len(words[split])} words of the {split} split ({', '.join(sorted(unseen)[:3])}"
                f"{', ...' if len(unseen) > 3 else ''}) are never said in training, and are in the vocabulary"
            )
    return said
