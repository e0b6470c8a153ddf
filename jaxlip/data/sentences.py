"""Sentence examples: whole clips with the words said in them, from the first to the last marked as speech."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxlip.data.batches import Corpus
from jaxlip.data.face import Example, FaceClip, FaceData, Rejections
from jaxlip.data.words import load_examples


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Tokens:
    """Label sequences, padded on the right: `labels_BN` int32 ids, `tokens_BN` bool."""

    labels_BN: Any
    tokens_BN: Any


def sentence_examples(clip: FaceClip, id_of: dict[str, int], rejections: Rejections) -> Iterator[Example]:
    """The clip as one example, labelled with the ids of its words in order; counted where it has no such label."""
    unknown = [word.text for word in clip.words if word.text not in id_of]
    if unknown:
        rejections.add(clip.name, f"word {unknown[0]!r} is not in the vocabulary")
        return
    if not clip.words:
        rejections.add(clip.name, "no words")
        return
    yield Example(
        clip=clip,
        name=clip.name,
        first=0,
        length=len(clip.frames_T),
        speech=(math.floor(clip.words[0].start), math.ceil(clip.words[-1].end)),
        label=tuple(id_of[word.text] for word in clip.words),
    )


def stack_tokens(labels: list[tuple[int, ...]]) -> Tokens:
    """Sequences of different lengths as one padded array with its mask."""
    longest = max(len(label) for label in labels)
    tokens_BN = np.arange(longest)[None] < np.array([len(label) for label in labels])[:, None]
    labels_BN = np.zeros(tokens_BN.shape, np.int32)
    labels_BN[tokens_BN] = np.concatenate([np.array(label, np.int32) for label in labels])
    return Tokens(labels_BN=labels_BN, tokens_BN=tokens_BN)


def load_sentences(config: FaceData) -> Corpus:
    """Reads a source into sentence examples, in length buckets. Raises UserError as `load_words` does."""
    id_of = {word: k for k, word in enumerate(config.vocabulary())}
    return load_examples(config, lambda clip, rejections: sentence_examples(clip, id_of, rejections), stack_tokens)
