"""Word examples: a window of frames centred on each spoken word, the word's frames marked as speech."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from jaxlip.config import Component
from jaxlip.data.batches import Corpus
from jaxlip.data.face import (
    SPLITS,
    Example,
    FaceClip,
    FaceData,
    Rejections,
    assemble,
    face_clips,
    fit_input,
    stack_classes,
)
from jaxlip.data.sources import SOURCES
from jaxlip.errors import UserError
from jaxlip.face.features import FEATURE_SETS, FaceInput, Standardizer, stored_ids
from jaxlip.face.topology import Topology, build_topology


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordSpec(Component):
    """What a word model is built from, kept with its checkpoint."""

    classes: tuple[str, ...]
    topology: Topology
    input: FaceInput


def shape_only_spec(config: FaceData) -> WordSpec:
    """The spec of these data without reading them: right in every size, with slots left unstandardised."""
    chosen = FEATURE_SETS[config.features]
    topology = build_topology(config.preset, nearest=config.nearest)
    node, frame = len(chosen.node_slots), len(chosen.frame_slots)
    standardizer = Standardizer(
        node_mean=(0.0,) * node, node_std=(1.0,) * node, frame_mean=(0.0,) * frame, frame_std=(1.0,) * frame
    )
    face_input = FaceInput(
        features=config.features,
        ids=stored_ids(config.preset),
        nodes=len(topology.ids),
        standardizer=standardizer,
    )
    return WordSpec(classes=config.vocabulary(), topology=topology, input=face_input)


def word_examples(clip: FaceClip, class_of: dict[str, int], window: int, rejections: Rejections) -> Iterator[Example]:
    """One example a labelled word. Words without a usable frame or outside the vocabulary are counted."""
    if not clip.words:
        rejections.add(clip.name, "no words")
    for number, word in enumerate(clip.words):
        name = f"{clip.name}#{number}:{word.text}"
        if word.text not in class_of:
            rejections.add(name, f"word {word.text!r} is not in the vocabulary")
            continue
        speech = (math.floor(word.start), math.ceil(word.end))
        if not clip.frames_T[max(speech[0], 0) : max(speech[1], 0)].any():
            rejections.add(name, "no usable frame during the word")
            continue
        yield Example(
            clip=clip,
            name=name,
            first=round((word.start + word.end) / 2 - window / 2),
            length=window,
            speech=speech,
            label=class_of[word.text],
        )


def load_words(config: FaceData) -> Corpus:
    """Reads a source into word examples. Raises UserError where nothing is left to train or validate on."""
    class_of = {word: k for k, word in enumerate(config.vocabulary())}
    return load_examples(
        config,
        lambda clip, rejections: word_examples(clip, class_of, config.window, rejections),
        stack_classes,
    )


def load_examples(
    config: FaceData,
    examples_of: Callable[[FaceClip, Rejections], Iterator[Example]],
    stack_labels: Callable[[list[Any]], Any],
) -> Corpus:
    """Reads a source into the examples that `examples_of` makes of each clip."""
    rejections = Rejections()
    examples: dict[str, list[Example]] = {split: [] for split in SPLITS}
    clips = 0
    for clip in face_clips(config, rejections):
        clips += 1
        if clip.split not in examples:
            rejections.add(clip.name, f"split {clip.split!r} is none of {', '.join(SPLITS)}")
            continue
        examples[clip.split].extend(examples_of(clip, rejections))
    for split in ("train", "val"):
        if not examples[split]:
            why = "; ".join(rejections.notes()) or "the source has none"
            raise UserError(f"data.source={config.source}: no example in split {split}: {why}.")
    splits = {split: assemble(rows, config.buckets, stack_labels) for split, rows in examples.items() if rows}
    topology = build_topology(config.preset, nearest=config.nearest)
    face_input, dead = fit_input(config, topology, splits["train"])
    notes = SOURCES[config.source].notes(config) + rejections.notes()
    if dead:
        notes.append(f"feature slots that never vary in the training split: {', '.join(dead)}")
    return Corpus(
        splits=splits,
        spec=WordSpec(classes=config.vocabulary(), topology=topology, input=face_input),
        counts={
            "clips": clips,
            "examples": {split: len(rows) for split, rows in splits.items()},
            "left_out": rejections.counts(),
        },
        notes=tuple(notes),
    )
