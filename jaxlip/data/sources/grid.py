"""The GRID corpus (Cooke et al., JASA 2006) as raw landmarks and `.align` transcripts.

<root>/landmarks/<speaker>/<clip>.npz      raw landmarks, as the extraction stage writes them
<root>/align/<speaker>/<clip>.align        `start end word` lines; 1000 units are one 25 fps frame
"""

import hashlib
import json
import pathlib
from collections.abc import Iterator

from jaxlip.data.clips import Clip, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.errors import UserError

SILENCE = ("sil", "sp")
ALIGN_FPS = 25.0
UNITS_PER_FRAME = 1000

# The six slots of the grammar, in order.
COMMANDS = ("bin", "lay", "place", "set")
COLOURS = ("blue", "green", "red", "white")
PREPOSITIONS = ("at", "by", "in", "with")
LETTERS = tuple("abcdefghijklmnopqrstuvxyz")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ADVERBS = ("again", "now", "please", "soon")

SLOTS = (
    ("command", COMMANDS),
    ("colour", COLOURS),
    ("preposition", PREPOSITIONS),
    ("letter", LETTERS),
    ("digit", DIGITS),
    ("adverb", ADVERBS),
)
WORDS = tuple(word for _, words in SLOTS for word in words)


def parse_align(text: str, fps: float = ALIGN_FPS) -> tuple[SpokenWord, ...]:
    """Words of an `.align` file with times in frames of a clip of `fps`, silences left out. Raises DamagedClip."""
    frames_per_unit = fps / ALIGN_FPS / UNITS_PER_FRAME
    words = []
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        try:
            start, end, word = parts
            spoken = SpokenWord(text=word, start=int(start) * frames_per_unit, end=int(end) * frames_per_unit)
        except (ValueError, OverflowError):
            raise DamagedClip(f"align line {number} is {line!r}, not `start end word`") from None
        if spoken.end <= spoken.start:
            raise DamagedClip(f"align line {number} ends before it starts: {line!r}")
        if word not in SILENCE:
            words.append(spoken)
    return tuple(words)


def read_clip(root: pathlib.Path, name: str, split: str = "") -> Clip:
    """Reads one clip by `speaker/clip`. Raises DamagedClip."""
    speaker, clip = name.split("/")
    align = root / "align" / speaker / f"{clip}.align"
    if not align.is_file():
        raise DamagedClip("no align file")
    raw = read_raw_landmarks(root / "landmarks" / speaker / f"{clip}.npz")
    return Clip(name=name, split=split, words=parse_align(align.read_text(errors="replace"), raw["fps"]), **raw)


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


def splits_file(root: pathlib.Path, splits: pathlib.Path | None) -> pathlib.Path | None:
    """The splits file in use: the one given, else <root>/splits.json if it is there."""
    if splits is None and (root / "splits.json").is_file():
        return root / "splits.json"
    return splits


def notes(root: str | None, splits: str | None) -> list[str]:
    """What people should know about how these data are read."""
    if root and splits_file(pathlib.Path(root), pathlib.Path(splits) if splits else None) is None:
        return ["no splits file: clips are split 80/10/10 by a hash of their names"]
    return []


def find_clips(root: pathlib.Path, splits: pathlib.Path | None) -> list[tuple[str, str]]:
    """(name, split) of every clip, by name. Without a splits file: <root>/splits.json, else `hashed_split`."""
    if not (root / "landmarks").is_dir():
        raise UserError(f"data.root={root} has no folder `landmarks`; expected <root>/landmarks/<speaker>/<clip>.npz.")
    files = sorted((root / "landmarks").glob("*/*.npz"))
    if not files:
        raise UserError(f"data.root={root}: no landmark files under {root / 'landmarks'}/<speaker>/.")
    names = [f"{file.parent.name}/{file.stem}" for file in files]
    path = splits_file(root, splits)
    if path is None:
        return [(name, hashed_split(name)) for name in names]
    split_of = read_splits(path)
    key_of = {name: name if name in split_of else name.rpartition("/")[2] for name in names}
    for name, key in key_of.items():
        bare = name.rpartition("/")[2]
        if bare in split_of and split_of.get(key) != split_of[bare]:
            raise UserError(
                f"splits file {path} has clip {name} in {split_of[key]} and, as {bare}, in {split_of[bare]}."
            )
    chosen = [(name, split_of[key]) for name, key in key_of.items() if key in split_of]
    if not chosen:
        raise UserError(f"splits file {path} names none of the {len(names)} clips under {root / 'landmarks'}.")
    lost = sorted(split_of.keys() - set(key_of.values()))
    # A clip without a speaker in its name is looked for under the first speaker, where reading it says what is missing.
    return chosen + [(name if "/" in name else f"{files[0].parent.name}/{name}", split_of[name]) for name in lost]


def read(root: str | None, splits: str | None) -> Iterator[Clip | tuple[str, str]]:
    """Yields a Clip, or (name, reason) for one that cannot be used. Raises UserError for a wrong folder."""
    if root is None:
        raise UserError("data.root is not set; give the folder that holds `landmarks` and `align`: --data.root DIR.")
    folder = pathlib.Path(root)
    if not folder.is_dir():
        raise UserError(f"data.root={root} is not a folder.")
    for name, split in find_clips(folder, pathlib.Path(splits) if splits else None):
        try:
            yield read_clip(folder, name, split)
        except DamagedClip as damage:
            yield name, str(damage)
