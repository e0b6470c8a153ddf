"""The GRID corpus (Cooke et al., JASA 2006) as raw landmarks and `.align` transcripts.

<root>/landmarks/<speaker>/<clip>.npz      raw landmarks, as the extraction stage writes them (or data.landmarks)
<root>/align/<speaker>/<clip>.align        `start end word` lines; 1000 units are one 25 fps frame
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from jaxlip.data.clips import Clip, ClipRef, DamagedClip, SpokenWord, read_raw_landmarks
from jaxlip.data.pronunciations import parse_pronunciations
from jaxlip.data.sources.folders import MAKE_THEM, hashed_split, landmark_folder, read_splits, root_folder
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

# British English, in the symbols of CMUdict without stress.
PRONUNCIATIONS = parse_pronunciations(
    """\
bin B IH N
lay L EY
place P L EY S
set S EH T
blue B L UW
green G R IY N
red R EH D
white W AY T
at AE T
by B AY
in IH N
with W IH DH
a EY
b B IY
c S IY
d D IY
e IY
f EH F
g JH IY
h EY CH
i AY
j JH EY
k K EY
l EH L
m EH M
n EH N
o OW
p P IY
q K Y UW
r AA
s EH S
t T IY
u Y UW
v V IY
x EH K S
y W AY
z Z EH D
zero Z IY R OW
one W AH N
two T UW
three TH R IY
four F AO
five F AY V
six S IH K S
seven S EH V AX N
eight EY T
nine N AY N
again AX G EH N
now N AW
please P L IY Z
soon S UW N
""",
    "GRID",
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


def read_clip(root: pathlib.Path, name: str, split: str = "", landmarks: pathlib.Path | None = None) -> Clip:
    """Reads one clip by `speaker/clip`. Raises DamagedClip."""
    speaker, clip = name.split("/")
    align = root / "align" / speaker / f"{clip}.align"
    if not align.is_file():
        raise DamagedClip("no align file")
    raw = read_raw_landmarks((landmarks or root / "landmarks") / speaker / f"{clip}.npz")
    words = parse_align(align.read_text(errors="replace"), raw["fps"])
    return Clip(name=name, split=split, speaker=speaker, words=words, **raw)


def splits_file(root: pathlib.Path, splits: pathlib.Path | None) -> pathlib.Path | None:
    """The splits file in use: the one given, else <root>/splits.json if it is there."""
    if splits is None and (root / "splits.json").is_file():
        return root / "splits.json"
    return splits


def notes(data: Any) -> list[str]:
    """What people should know about how these data are read."""
    if splits_file(pathlib.Path(data.root), pathlib.Path(data.splits) if data.splits else None) is None:
        return ["no splits file: clips are split 80/10/10 by a hash of their names"]
    return []


def find_clips(
    root: pathlib.Path, splits: pathlib.Path | None, landmarks: pathlib.Path | None = None
) -> list[tuple[str, str]]:
    """(name, split) of every clip, by name. Without a splits file: <root>/splits.json, else `hashed_split`."""
    folder = landmarks or root / "landmarks"
    if not folder.is_dir():
        raise UserError(
            f"data.root={root} has no folder `landmarks`; expected <root>/landmarks/<speaker>/<clip>.npz. {MAKE_THEM}"
        )
    files = sorted(folder.glob("*/*.npz"))
    if not files:
        raise UserError(f"data.root={root}: no landmark files under {folder}/<speaker>/. {MAKE_THEM}")
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
        raise UserError(f"splits file {path} names none of the {len(names)} clips under {folder}.")
    lost = sorted(split_of.keys() - set(key_of.values()))
    # A clip without a speaker in its name is looked for under the first speaker, where reading it says what is missing.
    return chosen + [(name if "/" in name else f"{files[0].parent.name}/{name}", split_of[name]) for name in lost]


def find(data: Any) -> Iterator[ClipRef]:
    """Every clip. Raises UserError for a wrong folder."""
    folder, landmarks = root_folder(data), landmark_folder(data)
    for name, split in find_clips(folder, pathlib.Path(data.splits) if data.splits else None, landmarks):
        yield ClipRef(name=name, split=split, speaker=name.partition("/")[0])


def load(data: Any, ref: ClipRef) -> Clip:
    return read_clip(pathlib.Path(data.root), ref.name, ref.split, landmark_folder(data))
