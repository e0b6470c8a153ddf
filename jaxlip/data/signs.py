"""Clips of signing -> fixed-shape arrays of landmarks with what is signed in them; 0 where a part is missing."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import ClassVar

import jax
import numpy as np

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, FaceBatch
from jaxlip.data.clips import FARTHEST, Clip, ClipRef
from jaxlip.data.face import Example, FaceClip, Rejections
from jaxlip.data.gather import gather
from jaxlip.data.sentences import CtcSpec, SentenceLabel, stack_sentences, with_infeasible
from jaxlip.data.sources import SIGN_SOURCES
from jaxlip.data.sources.fingerspelling import Fingerspelling
from jaxlip.data.sources.glosses import Glosses
from jaxlip.data.vocab import TextRules, Vocabulary
from jaxlip.holistic.features import FEATURE_SETS, HolisticInput
from jaxlip.holistic.gaps import fill_gaps, part_seen
from jaxlip.holistic.layout import HANDS, rows_of

ORDERS = ("frequency", "first_seen")
AS_WRITTEN = TextRules(lower=False, punctuation=True)
"""Glosses are names: ABEND and abend, loc-NORD and locNORD are not the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignData(Component):
    """Where clips of signing come from and how they become arrays."""

    source: str = "glosses"
    """Where clips come from: glosses (built in, no download), phoenix, or fingerspelling."""
    root: str | None = None
    """Folder of the corpus; not used by glosses."""
    landmarks: str | None = None
    """Folder of the landmark files, where they do not lie where the source expects them."""
    features: str = "holistic6516"
    """What is computed from the landmarks: holistic6516, two_hands or one_hand."""
    order: str = "frequency"
    """Glosses of the vocabulary: the most frequent first (frequency), or as they are first seen (first_seen)."""
    lexical_only: bool = False
    """Leave out pointing, classifiers and annotators' marks. Makes the task easier: scores are then called
    wer_lexical."""
    max_gap: int = 12
    """Frames without a part that are interpolated; in longer gaps it is missing."""
    min_hands: float = 0.3
    """Clips with a hand in a smaller part of their frames are left out, and counted."""
    buckets: tuple[int, ...] = (48, 80, 128, 200, 300)
    """Lengths in frames that examples are padded to."""
    resident_gib: float | None = None
    """Landmarks of up to so many GiB stay in device memory, more are streamed from disk while training; None takes half
    of the device's memory (of the host's where they are the same)."""
    fingerspelling: Fingerspelling = Fingerspelling()
    """How words are spliced from letters."""
    glosses: Glosses = Glosses()
    """The built-in corpus."""

    def __post_init__(self):
        require(self.source in SIGN_SOURCES, self, "source", f"one of {', '.join(SIGN_SOURCES)}")
        unused = self.source == "glosses" and (self.root or self.landmarks)
        require(not unused, self, "source", "that of your folder: add --data.source phoenix; glosses read no root")
        require(self.features in FEATURE_SETS, self, "features", f"one of {', '.join(FEATURE_SETS)}")
        require(self.order in ORDERS, self, "order", f"one of {', '.join(ORDERS)}")
        require(self.max_gap >= 0, self, "max_gap", "0 or more")
        require(0 <= self.min_hands <= 1, self, "min_hands", "in [0, 1]")
        require(bool(self.buckets) and min(self.buckets) >= 1, self, "buckets", "lengths of 1 or more")

    def load(self, ref: ClipRef) -> FaceClip | str:
        """A clip of the source read and prepared, or the reason why it is left out. Raises DamagedClip."""
        return prepare(SIGN_SOURCES[self.source].load(self, ref), self)

    @property
    def ids(self) -> tuple[int, ...]:
        """Holistic points of the stored landmarks."""
        return SIGN_SOURCES[self.source].ids


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SignBatch(FaceBatch):
    """Clips of signing: landmarks with width and height equally long, a part being 0 in frames that are without it (see
    `jaxlip.holistic.gaps.fill_gaps`), which is its presence mask; `detected_BT` frames with a hand."""

    INPUTS: ClassVar = ("landmarks_BTVC", "frames_BT")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignSpec(CtcSpec):
    """What a model of signing is built from."""

    input: HolisticInput
    lexical_only: bool
    """Whether tokens that are not lexical were left out, which makes scores incomparable."""


def prepare(clip: Clip, config: SignData) -> FaceClip | str:
    """Fills gaps part by part, and makes width and height equally long; or the reason why the clip is left out."""
    if np.nanmax(np.abs(clip.landmarks), initial=0.0) > FARTHEST:
        return f"landmarks lie more than {FARTHEST} picture widths away"
    filled_TVC = fill_gaps(clip.landmarks, clip.ids, max_gap=config.max_gap)
    aspect = clip.size[0] / clip.size[1]
    filled_TVC = filled_TVC * np.array([[[aspect, 1.0, aspect]]], np.float32)
    hands = [rows for part in HANDS if (rows := rows_of(part, clip.ids))]
    there_T = np.any([part_seen(filled_TVC[:, rows]) for rows in hands], axis=0)
    if there_T.mean() < config.min_hands:
        return f"a hand in less than {config.min_hands:.0%} of the frames"
    return FaceClip(
        name=clip.name,
        split=clip.split,
        landmarks_TVC=filled_TVC,
        frames_T=np.ones(len(filled_TVC), bool),
        detected_T=there_T,
        words=clip.words,
        number=clip.number,
    )


def sign_clips(config: SignData, rejections: Rejections) -> Iterator[tuple[ClipRef, FaceClip]]:
    """Reads and prepares every clip of the source; those that cannot be used are counted in `rejections`."""
    for ref, clip in SIGN_SOURCES[config.source].read(config):
        prepared = clip if isinstance(clip, str) else prepare(clip, config)
        if not isinstance(prepared, str) and len(prepared.frames_T) > max(config.buckets):
            prepared = f"longer than {max(config.buckets)} frames, the longest of data.buckets"
        if isinstance(prepared, str):
            rejections.add(ref.name, prepared)
        else:
            yield ref, prepared


def sign_examples(clip: FaceClip, vocabulary: Vocabulary, words: Vocabulary) -> Iterator[Example]:
    """The clip as one example. Words that the model's vocabulary lacks are in `words` alone: no output can be right."""
    said = [word.text for word in clip.words]
    known = [text for text in said if vocabulary.unit != "words" or text in vocabulary.tokens]
    word_T = np.full(len(clip.frames_T), -1, np.int32)
    for place, word in enumerate(clip.words):
        word_T[word.frames(len(word_T))] = place
    label = SentenceLabel(
        tokens=vocabulary.encode(" ".join(known)),
        words=words.encode(" ".join(said)),
        word_T=word_T,
    )
    length = len(clip.frames_T)
    yield Example(clip=clip, name=clip.name, first=0, length=length, speech_T=clip.detected_T, label=label)


VocabularyOf = Callable[[tuple[str, ...]], Vocabulary]


def _spec(config: SignData, vocabulary_of: VocabularyOf) -> SignSpec:
    source = SIGN_SOURCES[config.source]
    known = source.vocabulary(config)
    return SignSpec(
        vocabulary=vocabulary_of(known),
        words=Vocabulary.of_words((*known, *source.unknown(config)), AS_WRITTEN, ordered=True),
        slots=source.slots(config),
        input=HolisticInput(features=config.features, ids=config.ids),
        lexical_only=config.lexical_only,
    )


def sign_shapes(config: SignData, vocabulary_of: VocabularyOf) -> SignSpec:
    """The spec of these data without reading clips (for parameter tables)."""
    return _spec(config, vocabulary_of)


def load_signs(config: SignData, vocabulary_of: VocabularyOf, *, stride: int) -> Corpus:
    """Reads a source into examples, in length buckets; `stride` is how many frames the model makes one step of.

    Raises UserError where nothing is left to train or validate on.
    """
    spec, rejections = _spec(config, vocabulary_of), Rejections()
    examples_of = functools.partial(sign_examples, vocabulary=spec.vocabulary, words=spec.words)
    splits, counts, notes = gather(
        config,
        sign_clips(config, rejections),
        rejections,
        lambda clip, _: examples_of(clip),
        stack_sentences,
        source=config.source,
        batch_class=SignBatch,
    )
    notes = [*SIGN_SOURCES[config.source].notes(config), *notes]
    if config.lexical_only:
        notes.insert(0, "tokens that are not lexical are left out: scores do not compare with those of others")
    return with_infeasible(Corpus(splits=splits, spec=spec, counts=counts, notes=tuple(notes)), stride)
