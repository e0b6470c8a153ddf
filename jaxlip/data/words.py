"""Word examples: a window of frames centred on each spoken word, the word's frames marked as speech."""

import dataclasses
import functools
from collections.abc import Iterator

from jaxlip.config import Component
from jaxlip.data.assemble import stack_classes
from jaxlip.data.batches import Corpus
from jaxlip.data.face import Example, FaceClip, FaceData, Rejections
from jaxlip.data.face_corpus import load_corpus, shape_only_spec
from jaxlip.face.features import FaceInput
from jaxlip.face.topology import Topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSpec(Component):
    """What a word model is built from, kept with its checkpoint."""

    classes: tuple[str, ...]
    topology: Topology
    input: FaceInput


def word_examples(clip: FaceClip, class_of: dict[str, int], window: int, rejections: Rejections) -> Iterator[Example]:
    """One example a labelled word. Words without a usable frame or outside the vocabulary are counted."""
    if not clip.words:
        rejections.add(clip.name, "no words")
    for number, word in enumerate(clip.words):
        name = f"{clip.name}#{number}:{word.text}"
        if word.text not in class_of:
            rejections.add(name, f"word {word.text!r} is not in the vocabulary")
            continue
        if not word.timed:
            rejections.add(name, "nobody knows when the word is spoken")
            continue
        speech_T = word.frames(len(clip.frames_T))
        if not (clip.frames_T & speech_T).any():
            rejections.add(name, "no usable frame during the word")
            continue
        yield Example(
            clip=clip,
            name=name,
            first=round((word.start + word.end) / 2 - window / 2),
            length=window,
            speech_T=speech_T,
            label=class_of[word.text],
        )


def _spec(config: FaceData, topology: Topology, face_input: FaceInput) -> WordSpec:
    return WordSpec(classes=config.vocabulary(), topology=topology, input=face_input)


def word_shapes(config: FaceData) -> WordSpec:
    """The spec of these data without reading them (for parameter tables)."""
    return shape_only_spec(config, functools.partial(_spec, config))  # type: ignore[return-value]


def load_words(config: FaceData) -> Corpus:
    """Reads a source into word examples. Raises UserError where nothing is left to train or validate on."""
    class_of = {word: k for k, word in enumerate(config.vocabulary())}
    return load_corpus(
        config,
        lambda clip, rejections: word_examples(clip, class_of, config.window, rejections),
        stack_classes,
        functools.partial(_spec, config),
    )
