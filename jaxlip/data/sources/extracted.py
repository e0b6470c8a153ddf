"""A folder that `jaxlip extract` wrote: landmarks of videos, and nothing of what is said in them.

To look at what was extracted (`jaxlip inspect`); a source with words is needed to train.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, read_raw_landmarks
from jaxlip.data.sources.folders import MAKE_THEM, read_splits, root_folder
from jaxlip.errors import UserError

WHOLE = "all"
"""The one split of a folder without a splits file."""


def find(data: Any) -> Iterator[ClipRef]:
    """Every clip, by path; its split is empty where a splits file does not name it. Raises UserError."""
    folder = root_folder(data)
    names = [str(path.relative_to(folder).with_suffix("")) for path in sorted(folder.rglob("*.npz"))]
    if not names:
        raise UserError(f"data.root={data.root}: no landmark files (.npz) in it. {MAKE_THEM}")
    split_of = read_splits(pathlib.Path(data.splits)) if data.splits else None
    for name in names:
        known = WHOLE if split_of is None else split_of.get(name, split_of.get(name.rpartition("/")[2], ""))
        yield ClipRef(name=name, split=known)


def load(data: Any, ref: ClipRef) -> Clip:
    if not ref.split:
        raise DamagedClip("the splits file does not name it")
    return Clip(name=ref.name, split=ref.split, **read_raw_landmarks(pathlib.Path(data.root) / f"{ref.name}.npz"))
