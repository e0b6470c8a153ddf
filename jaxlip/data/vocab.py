"""Text <-> token ids, both ways, for CTC: characters, words, sounds or sentencepiece pieces. Blank is id 0. Imports no
jax."""

import base64
import binascii
import dataclasses
import functools
import io
import itertools
import operator
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

from jaxlip.config import Component, require
from jaxlip.errors import UserError

BLANK = 0
UNITS = ("characters", "words", "sounds", "pieces")
SPACED = ("characters", "sounds")
"""Units with a token " " between words."""
# What sentencepiece writes for a space (U+2581).
SPACE = "▁"
# Typographic (U+2019), modifier letter (U+02BC) and full-width (U+FF07) apostrophes.
APOSTROPHES = str.maketrans(dict.fromkeys("\u2019\u02bc\uff07", "'"))


class UnknownToken(UserError):
    """A text has a character or word that its vocabulary lacks; the message names both."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextRules(Component):
    """How a transcript is written before it is cut into tokens: in Unicode's NFC, one space between words.

    Applying the rules twice changes nothing more.
    """

    lower: bool = True
    """Lower case."""
    turkish: bool = False
    """Lower I to dotless i and dotted capital I to i, as Turkish and Azeri do."""
    apostrophes: bool = True
    """Keep apostrophes inside words (don't), all written as '; else dropped without a gap (dont)."""
    punctuation: bool = False
    """Keep punctuation (Unicode categories P*); else a space stands for it. Symbols such as + and $ stay anyway."""

    def __call__(self, text: str) -> str:
        """The text by these rules; may be empty."""
        text = unicodedata.normalize("NFC", text).translate(APOSTROPHES)
        if self.lower and self.turkish:
            text = text.replace("\u0130", "i").replace("I", "\u0131")
        if self.lower:
            text = text.lower()
        text = "".join(self._kept(text, i) for i in range(len(text)))
        # A dropped apostrophe can bring a letter and a combining mark together.
        return " ".join(unicodedata.normalize("NFC", text).split())

    def _kept(self, text: str, i: int) -> str:
        """What stands for character i."""
        if text[i] == "'" and not self.apostrophes:
            return ""
        if self.punctuation or unicodedata.category(text[i])[0] != "P":
            return text[i]
        # At the edge of a word an apostrophe is a quotation mark.
        inside = 0 < i < len(text) - 1 and _in_word(text[i - 1]) and _in_word(text[i + 1])
        return text[i] if text[i] == "'" and inside else " "


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary(Component):
    """The tokens of a task, kept with its checkpoint; `len` counts them and the blank (K, the model's classes).

    `decode(encode(text)) == rules(text)` for every text that can be encoded, whatever the unit.
    """

    unit: str
    """One of UNITS. Characters are code points of the text in NFC, spaces among them; sounds are those of a
    pronunciation, spaces between words."""
    tokens: tuple[str, ...]
    """Token i has id i + 1; id 0 is the blank, which is no token."""
    rules: TextRules = TextRules()
    pieces: str | None = dataclasses.field(default=None, repr=False)
    """The sentencepiece model, serialised and in base64; for the unit "pieces" alone."""
    pronunciations: tuple[tuple[str, tuple[str, ...]], ...] = dataclasses.field(default=(), repr=False)
    """(word, its sounds) of every word that can be written; for the unit "sounds" alone."""

    def __post_init__(self):
        require(self.unit in UNITS, self, "unit", f"one of {', '.join(UNITS)}")
        if not self.tokens:
            raise ValueError("Vocabulary.tokens=() must hold at least one token.")
        if (self.pieces is not None) != (self.unit == "pieces"):
            raise ValueError(f"Vocabulary.pieces must hold a model if the unit is pieces, and only then: {self.unit}.")
        if bool(self.pronunciations) != (self.unit == "sounds"):
            raise ValueError(f"Vocabulary.pronunciations belong to the unit sounds, and only to it: {self.unit}.")
        seen = set()
        for i, token in enumerate(self.tokens):
            if fault := "new" if token in seen else self._fault(token):
                raise ValueError(f"Vocabulary.tokens[{i}]={token!r} must be {fault}.")
            seen.add(token)

    def _fault(self, token: str) -> str:
        """What a token must be and is not; "" for a good one. One that the rules change could never be encoded."""
        if not token:
            return "a character or more"
        if self.unit == "pieces":
            return "" if not any(map(str.isspace, token)) else f"without white space ({SPACE} stands for it)"
        if self.unit == "words":
            return "" if self.rules(token) == token and " " not in token else "one word as the rules write it"
        if self.unit == "sounds":
            return "" if token == " " or not any(map(str.isspace, token)) else "without white space"
        if len(token) > 1:
            return "one character"
        # A lone apostrophe is no word, so the rules would drop it.
        plain = token == " " or (token == "'" and self.rules.apostrophes) or self.rules(token) == token
        return "" if plain else "as the rules write it"

    @classmethod
    def of_characters(cls, texts: Iterable[str], rules: TextRules = TextRules()) -> "Vocabulary":
        """The characters of the texts, sorted. Raises UserError where the rules leave none."""
        return cls(unit="characters", tokens=tuple(sorted(set().union(*_written(texts, rules)))), rules=rules)

    @classmethod
    def of_words(cls, texts: Iterable[str], rules: TextRules = TextRules(), *, ordered: bool = False) -> "Vocabulary":
        """The words of the texts, sorted, or as they first occur if `ordered`. Raises UserError if there are none."""
        words = dict.fromkeys(word for text in _written(texts, rules) for word in text.split())
        return cls(unit="words", tokens=tuple(words if ordered else sorted(words)), rules=rules)

    @classmethod
    def of_sounds(cls, sounds_of: Mapping[str, Sequence[str]], rules: TextRules = TextRules()) -> "Vocabulary":
        """The sounds of these words, sorted, and the space between words.

        Raises UserError where there are no words, where the rules write one otherwise, or where two sound alike: what
        is read could not be told apart.
        """
        _written(sounds_of, rules)
        word_of: dict[tuple[str, ...], str] = {}
        for word, sounds in sounds_of.items():
            if rules(word) != word or " " in word:
                raise UserError(f"pronunciation of {word!r}: not one word as the rules write it, {rules(word)!r}.")
            if (other := word_of.setdefault(tuple(sounds), word)) != word:
                raise UserError(
                    f"{other!r} and {word!r} sound alike ({' '.join(sounds)}), so that they could not be told apart; "
                    "leave one out, or read characters or words."
                )
        tokens = (" ", *sorted({sound for sounds in word_of for sound in sounds}))
        pronunciations = tuple((word, sounds) for sounds, word in word_of.items())
        return cls(unit="sounds", tokens=tokens, rules=rules, pronunciations=pronunciations)

    @classmethod
    def of_pieces(cls, texts: Iterable[str], size: int, rules: TextRules = TextRules()) -> "Vocabulary":
        """Trains `size` - 1 pieces, so that `len` is `size`: byte-pair encoding (Sennrich et al., ACL 2016).

        BPE because it only counts integers: the same texts give the same pieces on every machine. Raises UserError
        where the texts are empty or do not fit the size, or without sentencepiece; UnknownToken for a character that
        sentencepiece keeps for itself.
        """
        written = _written(texts, rules)
        model = _train(written, size)
        processor = _processor(model)
        # Sentencepiece's own id 0, the unknown piece, falls on the blank: all other ids are the same on both sides.
        tokens = tuple(processor.id_to_piece(i) for i in range(1, processor.get_piece_size()))
        vocabulary = cls(unit="pieces", tokens=tokens, rules=rules, pieces=model)
        for text in dict.fromkeys(written):
            vocabulary.encode(text)
        return vocabulary

    def __len__(self) -> int:
        return len(self.tokens) + 1

    @functools.cached_property
    def _id_of(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.tokens, start=1)}

    @functools.cached_property
    def _sounds_of(self) -> dict[str, tuple[str, ...]]:
        return dict(self.pronunciations)

    @functools.cached_property
    def _word_of(self) -> dict[tuple[str, ...], str]:
        return {sounds: word for word, sounds in self.pronunciations}

    def word_of(self, sounds: Iterable[str]) -> str:
        """The word with these sounds; /B.IH/ where there is none."""
        sounds = tuple(sounds)
        return self._word_of.get(sounds) or f"/{'.'.join(sounds)}/"

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of the text as the rules write it; () if that is empty. Raises UnknownToken."""
        written = self.rules(text)
        if self.unit == "pieces" and SPACE in written:
            raise self._unknown("character", SPACE, text)
        parts = self._parts(written, text)
        for part in parts:
            if part not in self._id_of:
                raise self._unknown({"characters": "character", "words": "word"}.get(self.unit, "piece"), part, text)
        return tuple(self._id_of[part] for part in parts)

    def _parts(self, written: str, text: str) -> Sequence[str]:
        """The tokens of a text; what is no token comes as it stands."""
        if self.unit == "pieces":
            return self._cut(written)
        if self.unit == "words":
            return written.split()
        if self.unit == "characters":
            return written
        parts: list[str] = []
        for word in written.split():
            if word not in self._sounds_of:
                raise self._unknown("word", word, text)
            parts += ([" "] if parts else []) + list(self._sounds_of[word])
        return parts

    def _unknown(self, what: str, part: str, text: str) -> UnknownToken:
        return UnknownToken(
            f"{what} {part!r} of text {_short(text)} is not in the vocabulary of {len(self.tokens)} {self.unit}; "
            "leave the text out, or build the vocabulary from it too."
        )

    def _cut(self, written: str) -> list[str]:
        """Pieces of a text; what is in no piece comes as it stands."""
        assert self.pieces is not None
        processor = _processor(self.pieces)
        if processor.get_piece_size() != len(self) or processor.id_to_piece(len(self) - 1) != self.tokens[-1]:
            raise UserError(
                f"Vocabulary.pieces is a model of {processor.get_piece_size() - 1} pieces, not of these "
                f"{len(self.tokens)} tokens; build the vocabulary again."
            )
        return processor.encode(written, out_type=str)

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Inverse of `encode`. Repeats stay: collapse a CTC path first.

        Raises ValueError for the blank and for ids that no token has.
        """
        parts = []
        for number in map(operator.index, ids):
            if number == BLANK:
                raise ValueError(f"id {BLANK} is the blank, which is no text; drop it before decoding")
            if not 0 < number < len(self):
                raise ValueError(f"id {number} is no token; this vocabulary has ids 1 to {len(self) - 1}")
            parts.append(self.tokens[number - 1])
        if self.unit == "sounds":
            spoken = [list(group) for space, group in itertools.groupby(parts, " ".__eq__) if not space]
            return " ".join(map(self.word_of, spoken))
        text = (" " if self.unit == "words" else "").join(parts)
        return text.replace(SPACE, " ").removeprefix(" ") if self.unit == "pieces" else text

    def words(self, ids: Iterable[SupportsIndex]) -> list[str]:
        """The decoded text as words; raises as `decode` does."""
        return self.decode(ids).split()


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _written(texts: Iterable[str], rules: TextRules) -> list[str]:
    """The texts as the rules write them, without those then empty. Raises UserError if no text is left."""
    if isinstance(texts, str):
        raise TypeError(f"texts={_short(texts)} is one string, not a list of them")
    texts = list(texts)
    written = [text for text in map(rules, texts) if text]
    if not written:
        why = f"all of the {len(texts)} texts are empty by {rules}" if texts else "there are no texts"
        raise UserError(f"no vocabulary can be made: {why}; check the transcripts of the training split.")
    return written


def _sentencepiece() -> Any:
    try:
        import sentencepiece  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("pieces need sentencepiece, which is absent; run `pip install 'jaxlip[pieces]'`.") from None
    return sentencepiece


@functools.lru_cache(maxsize=8)
def _processor(model: str) -> Any:
    """The sentencepiece processor of a model in base64."""
    sentencepiece = _sentencepiece()
    try:
        serialised = base64.b64decode(model, validate=True)
        if not serialised:
            raise RuntimeError("no model")
        return sentencepiece.SentencePieceProcessor(model_proto=serialised)
    except (binascii.Error, RuntimeError):
        raise UserError(
            f"Vocabulary.pieces={_short(model)} is not a sentencepiece model; build the vocabulary again."
        ) from None


def _train(written: list[str], size: int) -> str:
    """A byte-pair model of `size` ids with the unknown piece first, in base64."""
    model = io.BytesIO()
    try:
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=iter(written),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            # Every character is covered, and the rules alone normalise.
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=BLANK,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            # In bytes: longer lines would be left out of the training in silence. At least 10, says sentencepiece.
            max_sentence_length=max(10, *(len(text.encode()) + 1 for text in written)),
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_size_fault(str(error), size, len(written))) from None
    return base64.b64encode(model.getvalue()).decode()


def _size_fault(said: str, size: int, count: int) -> str:
    """Sentencepiece's words on a size that does not fit, as one line that says what to choose."""
    if most := re.search(r"too high .*<= (\d+)", said):
        return f"pieces: size={size} is too large for these {count} texts; choose {most[1]} or less."
    if least := re.search(r"smaller than required_chars\. \d+ vs (\d+)", said):
        return f"pieces: size={size} is too small for the characters of these {count} texts; choose {least[1]} or more."
    return f"pieces: size={size} cannot be trained on these {count} texts: {said.splitlines()[0]}"
