"""How token ids make up words: spaces between characters or sounds, whole words, or pieces that mark a word's head."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool

from jaxlip.errors import UserError

SPACE = " "
# What sentencepiece writes at the head of a word (U+2581).
WORD_HEAD = "▁"


@runtime_checkable
class Vocabulary(Protocol):
    """What decoding needs of `jaxlip.data.vocab.Vocabulary`; `len` counts the blank, id 0; token i has id i + 1."""

    @property
    def unit(self) -> str:
        """One of characters and sounds (the token " " separates words), words and pieces."""
        ...

    @property
    def tokens(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def word_of(self, sounds: Iterable[str]) -> str:
        """Of the unit sounds."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spelling:
    """Tokens as parts of words: the text that each adds to a word, whether it ends the word before it, and the word
    that such a text is."""

    texts: tuple[str, ...]
    """By id; "" for the blank and the space."""
    ends_K: Bool[np.ndarray, " K"]
    word_of: Callable[[str], str] = str

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> "Spelling":
        """Raises UserError for pieces that reach over the edge of a word."""
        word_of = str
        if vocabulary.unit == "characters":
            texts = ["" if token == SPACE else token for token in vocabulary.tokens]
            ends = [token == SPACE for token in vocabulary.tokens]
        elif vocabulary.unit == "sounds":
            texts = ["" if token == SPACE else f"{token} " for token in vocabulary.tokens]
            ends = [token == SPACE for token in vocabulary.tokens]
            word_of = lambda text: vocabulary.word_of(text.split())  # noqa: E731
        elif vocabulary.unit == "words":
            texts, ends = list(vocabulary.tokens), [True] * len(vocabulary.tokens)
        else:
            texts = [token.removeprefix(WORD_HEAD) for token in vocabulary.tokens]
            ends = [token.startswith(WORD_HEAD) for token in vocabulary.tokens]
            for token, text in zip(vocabulary.tokens, texts, strict=True):
                if WORD_HEAD in text:
                    raise UserError(
                        f"piece {token!r} of the vocabulary spans more than one word, so words cannot be told apart; "
                        "train the pieces with split_by_whitespace."
                    )
        return cls(texts=("", *texts), ends_K=np.array([False, *ends]), word_of=word_of)

    def words(self, tokens: Iterable[int]) -> list[tuple[str, int, int]]:
        """(word, first, end) of token ids: the places of its tokens, end exclusive, spaces left out."""
        words: list[tuple[str, int, int]] = []
        text, first, end = "", 0, 0
        for place, token in enumerate(tokens):
            if self.ends_K[token] and text:
                words.append((self.word_of(text), first, end))
                text = ""
            if self.texts[token]:
                text, first, end = text + self.texts[token], first if text else place, place + 1
        return [*words, (self.word_of(text), first, end)] if text else words


def spell(word: str, vocabulary: Vocabulary, where: str) -> tuple[int, ...]:
    """Token ids of one word, as the vocabulary's rules write it. Raises UserError, which names `where` it stands."""
    try:
        ids = vocabulary.encode(word)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if len(vocabulary.decode(ids).split()) != 1:
        raise UserError(f"{where}: {word!r} is not one word; give its words one by one.")
    return ids


def separator(vocabulary: Vocabulary, where: str) -> int | None:
    """The id of the token that stands between words; None if there is no such token. Raises UserError."""
    if vocabulary.unit not in ("characters", "sounds"):
        return None
    if SPACE not in vocabulary.tokens:
        raise UserError(f"{where}: the vocabulary has no space to separate words; build it from whole sentences.")
    return vocabulary.tokens.index(SPACE) + 1
