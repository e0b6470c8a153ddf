"""LRW (Chung and Zisserman, ACCV 2016) and IDLRW folders: a word a clip, a folder a word.

<root>/<word>/{train,val,test}/<word>_NNNNN.npz     raw landmarks, or in a parallel tree at data.landmarks
<root>/<word>/{train,val,test}/<word>_NNNNN.txt     `Start: s` and `End: s`, or `Duration: s` of a word in the middle

Times are in seconds. The class is the name of the folder. Speakers are not known.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.data.sources.folders import SPLITS, landmark_folder, read_text, require_landmarks, root_folder
from jaxlip.errors import UserError

_FIELD = re.compile(r"^\s*(Start|End|Duration)\s*:\s*([-+.\deE]+)", re.MULTILINE | re.IGNORECASE)


def word_span(text: str, *, frames: int, fps: float) -> tuple[float, float]:
    """When the word is spoken, in frames of a clip of so many frames. Raises DamagedClip."""
    try:
        found = {name.lower(): float(value) * fps for name, value in _FIELD.findall(text)}
    except ValueError:
        raise DamagedClip("the text file has a time that is no number of seconds") from None
    if {"start", "end"} <= found.keys():
        start, end = found["start"], found["end"]
    elif "duration" in found:
        # LRW centres the word in its clip.
        start, end = (frames - found["duration"]) / 2, (frames + found["duration"]) / 2
    else:
        raise DamagedClip("the text file has neither `Start:` and `End:` nor `Duration:`")
    if not start < end:
        raise DamagedClip(f"the word ends at frame {end:.1f} and starts at {start:.1f}")
    return start, end


def vocabulary(data: Any) -> tuple[str, ...]:
    """The word folders, sorted. Raises UserError if there are none."""
    root = root_folder(data)
    words = tuple(sorted(path.name for path in root.iterdir() if any((path / split).is_dir() for split in SPLITS)))
    if not words:
        raise UserError(f"data.root={root} has no folder <word>/train; expected <root>/<word>/{{train,val,test}}/.")
    return words


def find(data: Any) -> Iterator[ClipRef]:
    """Every text file, and every landmark file without one. Raises UserError for a wrong folder."""
    root = root_folder(data)
    landmarks = landmark_folder(data) or root
    words = vocabulary(data)
    require_landmarks(landmarks, "*/*/*.npz")
    for word in words:
        for split in SPLITS:
            stems = {path.stem for path in (root / word / split).glob("*.txt")}
            stems |= {path.stem for path in (landmarks / word / split).glob("*.npz")}
            for stem in sorted(stems):
                yield ClipRef(name=f"{word}/{split}/{stem}", split=split, where=word)


def load(data: Any, ref: ClipRef) -> Clip:
    text = read_text(pathlib.Path(data.root) / f"{ref.name}.txt")
    if text is None:
        raise DamagedClip("no .txt file")
    raw = read_raw_landmarks((landmark_folder(data) or pathlib.Path(data.root)) / f"{ref.name}.npz")
    start, end = word_span(text, frames=len(raw["landmarks"]), fps=raw["fps"])
    word = SpokenWord(text=ref.where, start=start, end=end)
    return Clip(name=ref.name, split=ref.split, words=(word,), **raw)
