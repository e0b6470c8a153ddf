"""Word examples: a window of frames centred on each spoken word, the word's frames marked as speech."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from jaxlip.config import Component
from jaxlip.data.assemble import stack_classes
from jaxlip.data.batches import Corpus
from jaxlip.data.clips import SpokenWord
from jaxlip.data.face import Example, FaceClip, FaceData, Rejections
from jaxlip.data.face_corpus import load_corpus, shape_only_spec
from jaxlip.face.features import FaceInput
from jaxlip.face.topology import Topology

GUESSES = (6, 9, 13)
"""Lengths of a word in frames at 25 a second, from short to long, where nobody says when it begins and ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSpec(Component):
    """What a word model is built from, kept with its checkpoint."""

    classes: tuple[str, ...]
    topology: Topology
    input: FaceInput
    counts: tuple[int, ...] = ()
    """Training examples of each class; empty where they were not counted."""

    def with_classes(self, number: int) -> "WordSpec":
        """The spec with so many classes, for counting parameters."""
        return dataclasses.replace(self, classes=tuple(f"class{k}" for k in range(number)))


def word_examples(
    clip: FaceClip, class_of: dict[str, int], window: int, rejections: Rejections, *, centred: bool = True
) -> Iterator[Example]:
    """One example a labelled word, in the middle of its window or (not `centred`) in one inside of the clip.

    Words without a usable frame or outside the vocabulary are counted.
    """
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
            first=first_frame(word, len(clip.frames_T), window, centred),
            length=window,
            speech_T=speech_T,
            label=class_of[word.text],
        )


def first_frame(word: SpokenWord, frames: int, window: int, centred: bool) -> int:
    """Where a word's window begins; before the clip where that is shorter or the word near its start."""
    first = round((word.start + word.end) / 2 - window / 2)
    return first if centred else max(0, min(first, frames - window))


def word_guesses(clip: FaceClip, window: int, spoken: SpokenWord | None, *, centred: bool = True) -> list[Example]:
    """Examples of one clip whose word is not known: one if it is known when it is spoken (in frames).

    Else as many as there are GUESSES of its length, all around one moment: the middle of the clip or, in a clip that is
    longer than the window, the middle of the `window` frames in which the lips move most.
    """
    frames = len(clip.frames_T)
    if spoken is not None:
        spans = [spoken]
    else:
        middle = frames / 2 if frames <= window else busiest(clip, window) + window / 2
        spans = [SpokenWord(text="", start=middle - n / 2, end=middle + n / 2) for n in GUESSES if n <= window]
    return [
        Example(
            clip=clip,
            name=clip.name,
            first=first_frame(span, frames, window, centred),
            length=window,
            speech_T=span.frames(frames),
            label=None,
        )
        for span in spans
    ]


def busiest(clip: FaceClip, window: int) -> int:
    """First of the `window` frames in which the landmarks change their distances to their centre most."""
    shape_TVC = clip.landmarks_TVC - clip.landmarks_TVC.mean(axis=1, keepdims=True)
    # The mean speed of a point: heads move as a whole, mouths do not.
    speed_T = np.abs(np.diff(shape_TVC, axis=0, prepend=shape_TVC[:1])).mean(axis=(1, 2)) * clip.frames_T
    total_T = np.concatenate([[0.0], np.cumsum(speed_T)])
    return int(np.argmax(total_T[window:] - total_T[:-window]))


def _spec(config: FaceData, topology: Topology, face_input: FaceInput) -> WordSpec:
    return WordSpec(classes=config.vocabulary(), topology=topology, input=face_input)


def word_shapes(config: FaceData) -> WordSpec:
    """The spec of these data without reading them (for parameter tables)."""
    return shape_only_spec(config, functools.partial(_spec, config))  # type: ignore[return-value]


def load_words(config: FaceData) -> Corpus:
    """Reads a source into word examples. Raises UserError where nothing is left to train or validate on."""
    class_of = {word: k for k, word in enumerate(config.vocabulary())}
    corpus = load_corpus(
        config,
        lambda clip, rejections: word_examples(clip, class_of, config.window, rejections, centred=config.centred),
        stack_classes,
        functools.partial(_spec, config),
    )
    labels_N = np.concatenate([np.asarray(bucket.target) for bucket in corpus.splits["train"].buckets])
    counts = tuple(np.bincount(labels_N, minlength=len(class_of)).tolist())
    return dataclasses.replace(corpus, spec=dataclasses.replace(corpus.spec, counts=counts))  # type: ignore[call-arg]
