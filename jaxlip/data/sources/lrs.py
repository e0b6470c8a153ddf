"""LRS2 and LRS3 (Afouras et al., 2018): sentences of unknown words, a folder a video.

<root>/<part>/<video>/<clip>.txt    `Text: ...`, `Conf: ...`, then lines `WORD START END ASDSCORE` in seconds, if any
<root>/<part>/<video>/<clip>.npz    raw landmarks, or in a parallel tree at data.landmarks
<root>/{train,val,test}.txt         optional lists of clips `<video>/<clip>` (LRS2), for the part `main`

Splits: a clip that is in a list goes there; else the part `test` is test, and of `train`, `trainval` and `pretrain` a
tenth of the videos, by a hash of their names, is validation. The video stands for the speaker.
"""

import functools
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.data.sources.folders import SPLITS, landmark_folder, read_text, require_landmarks, root_folder, unseen_words
from jaxlip.errors import UserError

PARTS = {"pretrain": None, "train": None, "trainval": None, "main": None, "val": "val", "test": "test"}
"""The split of each part of the corpus; None where the video decides."""


def parse_text(text: str, fps: float) -> tuple[SpokenWord, ...]:
    """The words of a transcript, with times in frames where it has them. Raises DamagedClip."""
    lines = text.splitlines()
    said = next((line.partition(":")[2].split() for line in lines if line.startswith("Text:")), None)
    if said is None:
        raise DamagedClip("the text file has no line `Text:`")
    header = next((n for n, line in enumerate(lines) if line.split()[:3] == ["WORD", "START", "END"]), None)
    if header is None:
        return tuple(SpokenWord(text=word) for word in said)
    words = tuple(_timed(line, n, fps) for n, line in enumerate(lines[header + 1 :], header + 2) if line.strip())
    if [word.text for word in words] != said:
        raise DamagedClip("the words with times are not those of the line `Text:`")
    return words


def _timed(line: str, number: int, fps: float) -> SpokenWord:
    try:
        word, start, end = line.split()[:3]
        spoken = SpokenWord(text=word, start=float(start) * fps, end=float(end) * fps)
        if not spoken.start <= spoken.end:
            raise ValueError
    except ValueError:
        raise DamagedClip(f"text line {number} is {line[:60]!r}, not `WORD START END`") from None
    return spoken


def is_validation(video: str) -> bool:
    """Whether the clips of a video are validation clips where nothing else decides; for a tenth of all names."""
    return int(hashlib.sha256(video.encode()).hexdigest(), 16) % 10 == 0


def _split(part: str, name: str, listed: dict[str, str]) -> str | None:
    """The split of a clip `video/clip`; None for a part that is listed elsewhere and does not list it."""
    if part == "main" and listed:
        return listed.get(name)
    return PARTS[part] or ("val" if is_validation(name.partition("/")[0]) else "train")


def _listed(root: pathlib.Path) -> dict[str, str]:
    """`video/clip` -> split, of the lists of LRS2."""
    split_of = {}
    for split in SPLITS:
        for line in (read_text(root / f"{split}.txt") or "").splitlines():
            if line.strip():
                split_of[line.split()[0]] = split
    return split_of


def find(data: Any) -> Iterator[ClipRef]:
    """Every text file. Raises UserError for a wrong folder."""
    root = root_folder(data)
    parts = [part for part in PARTS if (root / part).is_dir()]
    if not parts:
        raise UserError(f"data.root={root} has none of the folders {', '.join(PARTS)}; expected those of LRS2 or LRS3.")
    require_landmarks(landmark_folder(data) or root, "*/*/*.npz")
    listed = _listed(root)
    for part in parts:
        for path in sorted((root / part).glob("*/*.txt")):
            name = f"{path.parent.name}/{path.stem}"
            if split := _split(part, name, listed):
                yield ClipRef(name=f"{part}/{name}", split=split, speaker=path.parent.name)


def load(data: Any, ref: ClipRef) -> Clip:
    text = read_text(pathlib.Path(data.root) / f"{ref.name}.txt")
    if text is None:
        raise DamagedClip("no .txt file")
    raw = read_raw_landmarks((landmark_folder(data) or pathlib.Path(data.root)) / f"{ref.name}.npz")
    return Clip(name=ref.name, split=ref.split, speaker=ref.speaker, words=parse_text(text, raw["fps"]), **raw)


@functools.lru_cache(maxsize=2)
def _words(data: Any) -> dict[str, frozenset[str]]:
    """The words of every split, from the texts alone."""
    words: dict[str, set[str]] = {split: set() for split in SPLITS}
    for ref in find(data):
        try:
            said = parse_text(read_text(pathlib.Path(data.root) / f"{ref.name}.txt") or "", fps=1.0)
        except DamagedClip:
            continue
        words[ref.split].update(word.text for word in said)
    return {split: frozenset(said) for split, said in words.items()}


def vocabulary(data: Any) -> tuple[str, ...]:
    """Every word of every split, sorted. Raises UserError if there are none."""
    words = tuple(sorted(frozenset().union(*_words(data).values())))
    if not words:
        raise UserError(f"data.root={data.root}: no text file has a line `Text:`.")
    return words


def notes(data: Any) -> list[str]:
    return unseen_words(_words(data))
