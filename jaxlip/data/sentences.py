"""Sentence examples: whole clips, with what is said in them as tokens, as words, and frame by frame."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.config import Component
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.face import Example, FaceClip, FaceData, Rejections
from jaxlip.data.face_corpus import load_corpus, shape_only_spec
from jaxlip.data.vocab import UnknownToken, Vocabulary
from jaxlip.face.features import FaceInput
from jaxlip.face.topology import Topology


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """Label sequences, padded on the right: `labels_BN` int32 ids (0, the blank, in padding), `tokens_BN` bool."""

    labels_BN: Any
    tokens_BN: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceTarget:
    """What is said: `tokens` in the unit that is read, `words` as ids of the word vocabulary, and `word_BT` int32, the
    place in `words` of the word that is being spoken in each frame, -1 between words.
    """

    tokens: Tokens
    words: Tokens
    word_BT: Any

    def retimed(self, time_BT: Any) -> "SentenceTarget":
        """The target where frame t shows what was at frame `time_BT[:, t]`."""
        index_BT = jnp.round(time_BT).astype(jnp.int32)
        last = self.word_BT.shape[1] - 1
        word_BT = jnp.take_along_axis(self.word_BT, jnp.clip(index_BT, 0, last), axis=1)
        return dataclasses.replace(self, word_BT=jnp.where((index_BT >= 0) & (index_BT <= last), word_BT, -1))


@runtime_checkable
class FrameInput(Protocol):
    """How the stored landmarks of a frame become `width` numbers, inside jit."""

    @property
    def width(self) -> int: ...

    def vectors(self, landmarks_BTVC: Any, frames_BT: Any, speech_BT: Any) -> Any: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcSpec(Component):
    """What is read, by lips or by hands, and from what; kept with the checkpoint of a model that is built from it."""

    vocabulary: Vocabulary
    """The tokens that the model writes."""
    words: Vocabulary
    """Every word that may be said."""
    slots: tuple[tuple[str, tuple[str, ...]], ...]
    """The source's grammar, one word from each slot; empty if it has none."""
    input: Any
    """A FrameInput."""

    def with_classes(self, number: int) -> "CtcSpec":
        """The spec with so many classes, the blank among them, for counting parameters."""
        tokens = tuple(f"t{i}" for i in range(1, max(number, 2)))
        return dataclasses.replace(self, vocabulary=Vocabulary(unit="words", tokens=tokens))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceSpec(CtcSpec):
    """What a model of lips is built from."""

    topology: Topology
    input: FaceInput


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SentenceLabel:
    """The target of one clip; `word_T` over its frames as in SentenceTarget."""

    tokens: tuple[int, ...]
    words: tuple[int, ...]
    word_T: np.ndarray


def sentence_examples(
    clip: FaceClip, vocabulary: Vocabulary, words: Vocabulary, rejections: Rejections
) -> Iterator[Example]:
    """The clip as one example; counted where it has no words, or some that cannot be written in the vocabularies.

    The mask channel marks frames with a face: when speech begins and ends is the transcript's secret.
    """
    if not clip.words:
        rejections.add(clip.name, "no words")
        return
    text = " ".join(word.text for word in clip.words)
    try:
        tokens, said = vocabulary.encode(text), words.encode(text)
    except UnknownToken as unknown:
        rejections.add(clip.name, str(unknown))
        return
    if not said:
        rejections.add(clip.name, "nothing is left of the text by the vocabulary's rules")
        return
    word_T = np.full(len(clip.frames_T), -1, np.int32)
    place = 0
    for word in clip.words:
        # The rules may cut a word of the transcript in several, or drop it: which frames are whose is then unknown.
        parts = len(words.encode(word.text))
        if parts == 1:
            word_T[word.frames(len(word_T))] = place
        place += parts
    yield Example(
        clip=clip,
        name=clip.name,
        first=0,
        length=len(clip.frames_T),
        speech_T=clip.detected_T,
        label=SentenceLabel(tokens=tokens, words=said, word_T=word_T),
    )


def stack_tokens(labels: list[tuple[int, ...]], width: int | None = None) -> Tokens:
    """Sequences of different lengths as one padded array with its mask, as wide as the longest or as `width`."""
    width = max(len(label) for label in labels) if width is None else width
    tokens_BN = np.arange(width)[None] < np.array([len(label) for label in labels])[:, None]
    labels_BN = np.zeros(tokens_BN.shape, np.int32)
    labels_BN[tokens_BN] = np.concatenate([np.array(label, np.int32) for label in labels])
    return Tokens(labels_BN=labels_BN, tokens_BN=tokens_BN)


def stack_sentences(labels: list[SentenceLabel], frames: int) -> SentenceTarget:
    """The target of a bucket of `frames` frames."""
    word_BT = np.full((len(labels), frames), -1, np.int32)
    for row_T, label in zip(word_BT, labels, strict=True):
        row_T[: len(label.word_T)] = label.word_T
    return SentenceTarget(
        tokens=stack_tokens([label.tokens for label in labels]),
        words=stack_tokens([label.words for label in labels]),
        word_BT=word_BT,
    )


def infeasible(split: Split, stride: int = 1) -> list[str]:
    """Names of the examples that have too few frames for their tokens: CTC needs one for each, and one between equals.

    They give neither loss nor gradient. `stride` is how many frames a step of the model's logits stands for.
    """
    names = []
    for bucket, clips in zip(split.buckets, split.names, strict=True):
        tokens = bucket.target.tokens
        equal_BN = (tokens.labels_BN[:, 1:] == tokens.labels_BN[:, :-1]) & tokens.tokens_BN[:, 1:]
        needed_B = tokens.tokens_BN.sum(axis=1) + equal_BN.sum(axis=1)
        names += [clips[int(row)] for row in np.flatnonzero(-(-bucket.frames_BT.sum(axis=1) // stride) < needed_B)]
    return names


VocabularyOf = Callable[[tuple[str, ...]], Vocabulary]
"""Makes the vocabulary of a model from the words that may be said."""


def _spec(config: FaceData, vocabulary_of: VocabularyOf, topology: Topology, face_input: FaceInput) -> SentenceSpec:
    words = config.vocabulary()
    return SentenceSpec(
        vocabulary=vocabulary_of(words),
        words=Vocabulary.of_words(words),
        slots=config.slots(),
        topology=topology,
        input=face_input,
    )


def sentence_shapes(config: FaceData, vocabulary_of: VocabularyOf) -> SentenceSpec:
    """The spec of these data without reading them (for parameter tables)."""
    return shape_only_spec(config, functools.partial(_spec, config, vocabulary_of))  # type: ignore[return-value]


def load_sentences(config: FaceData, vocabulary_of: VocabularyOf) -> Corpus:
    """Reads a source into sentence examples, in length buckets. Raises UserError as `load_words` does."""
    said = config.vocabulary()
    vocabulary, words = vocabulary_of(said), Vocabulary.of_words(said)
    corpus = load_corpus(
        config,
        lambda clip, rejections: sentence_examples(clip, vocabulary, words, rejections),
        stack_sentences,
        functools.partial(_spec, config, vocabulary_of),
    )
    return with_infeasible(corpus)


def with_infeasible(corpus: Corpus, stride: int = 1) -> Corpus:
    """The corpus with counts and notes of the examples that have too few frames for their tokens."""
    too_long = {split: names for split, part in corpus.splits.items() if (names := infeasible(part, stride))}
    notes = tuple(
        f"{len(names)} of {len(corpus.splits[split])} {split} sentences ({', '.join(names[:3])}"
        f"{', ...' if len(names) > 3 else ''}) have more tokens than frames can tell apart: no loss, no gradient"
        for split, names in too_long.items()
    )
    counts = {**corpus.counts, "infeasible": {split: len(names) for split, names in too_long.items()}}
    return dataclasses.replace(corpus, counts=counts, notes=corpus.notes + notes)
