"""Whole face clips with the valence and arousal that they show."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxlip.config import Component
from jaxlip.data.batches import Corpus
from jaxlip.data.face import Example, FaceClip, FaceData, Rejections
from jaxlip.data.face_corpus import load_corpus, shape_only_spec
from jaxlip.face.features import FaceInput
from jaxlip.face.topology import Topology
from jaxlip.text.entries import Scale

SCALE = Scale(low=(-1.0, -1.0), high=(1.0, 1.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceAffectSpec(Component):
    """What a face affect model is built from, kept with its checkpoint."""

    topology: Topology
    input: FaceInput


def affect_examples(clip: FaceClip, longest: int, rejections: Rejections) -> Iterator[Example]:
    """The clip as one example; counted where nobody says how it feels, or it is longer than the longest bucket."""
    frames = len(clip.frames_T)
    if clip.affect is None:
        rejections.add(clip.name, "no valence and arousal")
    elif frames > longest:
        rejections.add(clip.name, f"longer than the {longest} frames of the longest of data.buckets")
    else:
        yield Example(clip=clip, name=clip.name, first=0, length=frames, speech_T=clip.detected_T, label=clip.affect)


def stack_affect(labels: list[tuple[float, float]], frames: int) -> np.ndarray:
    """f32 [N, 2]."""
    del frames
    return np.array(labels, np.float32)


def _spec(topology: Topology, face_input: FaceInput) -> FaceAffectSpec:
    return FaceAffectSpec(topology=topology, input=face_input)


def face_affect_shapes(config: FaceData) -> FaceAffectSpec:
    """The spec of these data without reading them."""
    return shape_only_spec(config, _spec)  # type: ignore[return-value]


def load_face_affect(config: FaceData) -> Corpus:
    """Raises UserError where no clip of a split has valence and arousal."""
    longest = max(config.buckets)
    return load_corpus(config, lambda clip, rejections: affect_examples(clip, longest, rejections), stack_affect, _spec)
