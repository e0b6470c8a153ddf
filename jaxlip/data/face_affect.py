"""Face clips with the valence and arousal that they show: of the whole clip, or of every frame."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
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
    by_frame: bool = False
    """Whether a model answers for every frame, or for the clip."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FrameAffect:
    """Valence and arousal f32 [B, T, 2] of frames, and whose are known, bool [B, T]."""

    values_BTA: Any
    known_BT: Any

    def retimed(self, time_BT: Any) -> "FrameAffect":
        """The target where frame t shows what was at frame `time_BT[:, t]`."""
        index_BT = jnp.round(time_BT).astype(jnp.int32)
        last = self.known_BT.shape[1] - 1
        within_BT = jnp.clip(index_BT, 0, last)
        values_BTA = jnp.take_along_axis(self.values_BTA, within_BT[..., None], axis=1)
        known_BT = jnp.take_along_axis(self.known_BT, within_BT, axis=1) & (index_BT == within_BT)
        return FrameAffect(values_BTA, known_BT)


def clip_examples(clip: FaceClip, longest: int, rejections: Rejections) -> Iterator[Example]:
    """The clip as one example; counted where nobody says how it feels, or it is longer than the longest bucket. Of
    valence and arousal by frame, the mean of those that are known."""
    frames, affect = len(clip.frames_T), clip.affect
    if isinstance(affect, np.ndarray):
        known_NA = affect[np.isfinite(affect).all(axis=1)]
        affect = tuple(known_NA.mean(axis=0).tolist()) if len(known_NA) else None
    if affect is None:
        rejections.add(clip.name, "no valence and arousal")
    elif frames > longest:
        rejections.add(clip.name, f"longer than the {longest} frames of the longest of data.buckets")
    else:
        yield Example(clip=clip, name=clip.name, first=0, length=frames, speech_T=clip.detected_T, label=affect)


def frame_examples(clip: FaceClip, longest: int, rejections: Rejections) -> Iterator[Example]:
    """The clip in stretches that the longest bucket holds, those left out of which no frame is known."""
    if not isinstance(clip.affect, np.ndarray):
        rejections.add(clip.name, "no valence and arousal by frame")
        return
    for first in range(0, len(clip.frames_T), longest):
        label_TA = clip.affect[first : first + longest]
        name = f"{clip.name}#{first}" if len(clip.frames_T) > longest else clip.name
        if not np.isfinite(label_TA).all(axis=1).any():
            rejections.add(name, "no valence and arousal")
            continue
        yield Example(clip=clip, name=name, first=first, length=len(label_TA), speech_T=clip.detected_T, label=label_TA)


def stack_affect(labels: list[tuple[float, float]], frames: int) -> np.ndarray:
    """f32 [N, 2]."""
    del frames
    return np.array(labels, np.float32)


def stack_frame_affect(labels: list[np.ndarray], frames: int) -> FrameAffect:
    """Padded to so many frames, which are not known."""
    padded = [np.pad(label, ((0, frames - len(label)), (0, 0)), constant_values=np.nan) for label in labels]
    values_BTA = np.stack(padded).astype(np.float32)
    known_BT = np.asarray(np.isfinite(values_BTA).all(axis=2))
    return FrameAffect(np.where(known_BT[..., None], values_BTA, np.float32(0)), known_BT)


def _spec(by_frame: bool) -> Callable[[Topology, FaceInput], FaceAffectSpec]:
    return lambda topology, face_input: FaceAffectSpec(topology=topology, input=face_input, by_frame=by_frame)


def face_affect_shapes(config: FaceData, *, by_frame: bool = False) -> FaceAffectSpec:
    """The spec of these data without reading them."""
    return shape_only_spec(config, _spec(by_frame))  # type: ignore[return-value]


def load_face_affect(config: FaceData, *, by_frame: bool = False) -> Corpus:
    """Raises UserError where no clip of a split has valence and arousal."""
    longest = max(config.buckets)
    examples, stack = (frame_examples, stack_frame_affect) if by_frame else (clip_examples, stack_affect)
    return load_corpus(config, lambda clip, rejections: examples(clip, longest, rejections), stack, _spec(by_frame))
