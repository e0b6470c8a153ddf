"""Fingerspelled words, spliced from recordings of single letters; or those letters by themselves. Not continuous
signing.

`data.root` has `letters.npz`: X f32 [N, T, 126] (left hand 21 x 3, right hand 21 x 3; zeros where a hand was not
seen), y (a letter, or what is left out here), seq (number of the take; 30 takes are a block, recorded by one person in
one go). Whole blocks are training, validation or test data: takes of one block are near copies of each other.
"""

import dataclasses
import functools
import pathlib
import string
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.clips import Clip, ClipRef, SpokenWord
from jaxlip.data.sources.folders import root_folder
from jaxlip.data.sources.words import WORDS
from jaxlip.errors import UserError
from jaxlip.holistic.layout import HAND_IDS

TAKES_A_BLOCK = 30
LETTERS = tuple(string.ascii_lowercase)
FPS = 25.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fingerspelling(Component):
    """How words are put together."""

    isolated: bool = False
    """Every recording of a letter as a clip of its own, instead of words."""
    words: str | None = None
    """Text file of words, white space between them; None takes a list of common English ones."""
    train_blocks: tuple[int, ...] = (0, 1)
    """Recording blocks that training words are made of."""
    val_blocks: tuple[int, ...] = (3,)
    """Recording blocks that validation words are made of."""
    test_blocks: tuple[int, ...] = (2,)
    """Recording blocks that test words are made of."""
    train: int = 1200
    """Training clips."""
    val: int = 200
    """Validation clips."""
    test: int = 400
    """Test clips."""
    hold: tuple[int, int] = (6, 12)
    """Frames of a letter's recording that are used, at the least and at the most."""
    move: tuple[int, int] = (2, 5)
    """Frames in which the hand goes from one letter to the next, interpolated, at the least and at the most."""
    seed: int = 0
    """Draws words and recordings."""

    def __post_init__(self):
        blocks = (*self.train_blocks, *self.val_blocks, *self.test_blocks)
        require(len(set(blocks)) == len(blocks), self, "train_blocks", "apart from val_blocks and test_blocks")
        for field in ("hold", "move"):
            low, high = getattr(self, field)
            require(1 <= low <= high, self, field, "two numbers from 1 on, the first no larger than the second")

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        return {"train": self.train_blocks, "val": self.val_blocks, "test": self.test_blocks}

    @property
    def counts(self) -> dict[str, int]:
        return {"train": self.train, "val": self.val, "test": self.test}


@functools.lru_cache(maxsize=1)
def _recordings(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks [N, T, 42, 3] with NaN for a hand that was not seen, letters [N], blocks [N]. Raises UserError."""
    try:
        with np.load(path) as file:
            flat_NTX, letter_N, take_N = file["X"], file["y"], file["seq"].astype(int)
        hands_NTHVC = flat_NTX.reshape(*flat_NTX.shape[:2], 2, 21, 3).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} cannot be read as recordings of letters: {error}.") from None
    seen_NTH = (hands_NTHVC != 0).any(axis=(3, 4))
    hands_NTHVC = np.where(seen_NTH[..., None, None], hands_NTHVC, np.nan)
    kept_N = np.isin(letter_N, LETTERS) & seen_NTH.any(axis=(1, 2))
    landmarks_NTVC = hands_NTHVC.reshape(*hands_NTHVC.shape[:2], 42, 3)
    return landmarks_NTVC[kept_N], letter_N[kept_N], take_N[kept_N] // TAKES_A_BLOCK


def recordings(data: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return _recordings(root_folder(data) / "letters.npz")


def word_list(config: Fingerspelling) -> tuple[str, ...]:
    """Words of the letters a to z, sorted. Raises UserError."""
    if config.words is None:
        return tuple(sorted(set(WORDS)))
    try:
        words = pathlib.Path(config.words).read_text(encoding="utf-8").lower().split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.fingerspelling.words={config.words} cannot be read: {error}.") from None
    known = tuple(sorted({word for word in words if set(word) <= set(LETTERS)}))
    if not known:
        raise UserError(f"data.fingerspelling.words={config.words} has no word of the letters a to z.")
    return known


def vocabulary(data: Any) -> tuple[str, ...]:
    config = data.fingerspelling
    return LETTERS if config.isolated else word_list(config)


def find(data: Any) -> Iterator[ClipRef]:
    """Every clip; `where` is its word with the numbers of the recordings it is made of. Raises UserError."""
    config: Fingerspelling = data.fingerspelling
    _, letter_N, block_N = recordings(data)
    for number, (split, blocks) in enumerate(config.blocks.items()):
        rows = {letter: np.flatnonzero(np.isin(block_N, blocks) & (letter_N == letter)) for letter in LETTERS}
        if config.isolated:
            for letter in LETTERS:
                for row in rows[letter]:
                    yield ClipRef(name=f"{split}/{letter}-{row}", split=split, where=(letter, (int(row),), 0))
            continue
        words = [word for word in word_list(config) if all(len(rows[letter]) for letter in word)]
        if not words:
            raise UserError(f"no word has recordings of all its letters in the blocks {blocks} of split {split}.")
        for n in range(config.counts[split]):
            rng = np.random.default_rng([config.seed, number, n])
            word = words[rng.integers(len(words))]
            takes = tuple(int(rng.choice(rows[letter])) for letter in word)
            seed = int(rng.integers(2**31))
            yield ClipRef(name=f"{split}/{n:04d}-{word}", split=split, where=(word, takes, seed))


def load(data: Any, ref: ClipRef) -> Clip:
    word, takes, seed = ref.where
    landmarks_NTVC, _, _ = recordings(data)
    if data.fingerspelling.isolated:
        landmarks_TVC = landmarks_NTVC[takes[0]]
    else:
        landmarks_TVC = splice(landmarks_NTVC[list(takes)], data.fingerspelling, np.random.default_rng(seed))
    frames = len(landmarks_TVC)
    return Clip(
        name=ref.name,
        split=ref.split,
        landmarks=landmarks_TVC,
        detected=np.asarray(np.isfinite(landmarks_TVC).any(axis=(1, 2))),
        fps=FPS,
        size=(1, 1),
        words=(SpokenWord(text=word, start=0.0, end=float(frames)),),
        ids=HAND_IDS,
    )


def splice(takes_LTVC: np.ndarray, config: Fingerspelling, rng: np.random.Generator) -> np.ndarray:
    """[T, V, 3]: a stretch of each recording, one after the other, and the way from each to the next in between.

    A hand that is missing at either end of a way is missing on it.
    """
    parts: list[np.ndarray] = []
    for take_TVC in takes_LTVC:
        length = int(min(rng.integers(config.hold[0], config.hold[1] + 1), len(take_TVC)))
        first = int(rng.integers(len(take_TVC) - length + 1))
        stretch_TVC = take_TVC[first : first + length]
        if parts:
            steps = int(rng.integers(config.move[0], config.move[1] + 1))
            part_S = ((np.arange(steps) + 1) / (steps + 1)).astype(np.float32)[:, None, None]
            parts.append(parts[-1][-1] * (1 - part_S) + stretch_TVC[0] * part_S)
        parts.append(stretch_TVC)
    return np.concatenate(parts)


def notes(data: Any) -> list[str]:
    config: Fingerspelling = data.fingerspelling
    what = "single letters" if config.isolated else "spliced words, not continuous signing"
    return [f"{what}; recording blocks {config.blocks}"]
