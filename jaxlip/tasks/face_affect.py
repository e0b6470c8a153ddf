"""Affect from landmarks: one clip, or every frame of it -> valence and arousal from -1 to 1."""

import dataclasses

import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, FaceBatch, Split
from jaxlip.data.face import FaceData
from jaxlip.data.face_affect import FaceAffectSpec, FrameAffect, face_affect_shapes, load_face_affect
from jaxlip.face.augment import Augment, augment, check_flip
from jaxlip.metrics.affect import affect_scores
from jaxlip.metrics.mergeable import Mergeable
from jaxlip.metrics.scores import Scores
from jaxlip.models.base import Model
from jaxlip.tasks.affect import affect_metrics


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceAffect(Component):
    """Valence and arousal of face clips by concordance and squared error."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives [B, 2], or [B, T, 2] by frame."""
    by_frame: bool = False
    """Answer for every frame, whose valence and arousal the data must tell; else for the whole clip."""
    valence_ccc: float = 0.65
    """Weight of 1 - CCC in valence's loss; the squared error has the rest."""
    arousal_ccc: float = 0.70
    """The same for arousal."""
    augment: Augment = Augment()
    """Random variation of training clips."""

    def __post_init__(self):
        for field in ("valence_ccc", "arousal_ccc"):
            require(0 <= getattr(self, field) <= 1, self, field, "in [0, 1]")

    def corpus(self, data: FaceData) -> Corpus:
        check_flip(self.augment, data.preset)
        return load_face_affect(data, by_frame=self.by_frame)

    def shape_spec(self, data: FaceData) -> FaceAffectSpec:
        return face_affect_shapes(data, by_frame=self.by_frame)

    def build(self, spec: FaceAffectSpec) -> Model:
        return self.model.build(spec)  # type: ignore[attr-defined]

    def vary(self, batch: FaceBatch, spec: FaceAffectSpec, key: Array) -> FaceBatch:
        return augment(batch, self.augment, key, ids=spec.input.ids, preset=spec.topology.preset)

    def metrics(self, outputs: Array, batch: FaceBatch, *, train: bool) -> dict[str, Mergeable]:
        del train
        truth, counted = batch.target, batch.examples_B
        if self.by_frame:
            counted = truth.known_BT & batch.frames_BT & counted[:, None]
            truth = truth.values_BTA
        rows = (outputs.reshape(-1, 2), truth.reshape(-1, 2), counted.reshape(-1))
        return affect_metrics(*rows, (self.valence_ccc, self.arousal_ccc))

    def advice(self, val: dict[str, float]) -> None:
        del val

    def score(self, outputs: list[np.ndarray], split: Split, train: Split, spec: FaceAffectSpec) -> Scores:
        """Intervals are over speakers, who are the folders of the clips where the source knows none; the floor is the
        training labels' mean. By frame, every frame whose valence and arousal are known counts alike."""
        del spec
        truth_NA, speakers = labels_of(split)
        guess_NA = np.concatenate([guess[known_rows(part)] for guess, part in zip(outputs, split.buckets, strict=True)])
        speakers_N = np.array(speakers)
        floors = {"training mean": np.broadcast_to(labels_of(train)[0].mean(axis=0), truth_NA.shape)}
        return affect_scores(guess_NA, truth_NA, speakers_N, np.zeros(len(speakers), bool), floors)

    def perfect(self, split: Split, spec: FaceAffectSpec) -> list[np.ndarray]:
        """The labels themselves."""
        del spec
        return [_values(bucket) for bucket in split.buckets]

    def floors(self, split: Split, train: Split, spec: FaceAffectSpec) -> list[list[np.ndarray]]:
        """The training labels' mean."""
        del spec
        mean_A = labels_of(train)[0].mean(axis=0)
        return [[np.broadcast_to(mean_A, _values(bucket).shape) for bucket in split.buckets]]


def known_rows(bucket: FaceBatch) -> np.ndarray:
    """Where labels are known: of the clips [B], or of frames [B, T]."""
    if isinstance(bucket.target, FrameAffect):
        return np.asarray(bucket.target.known_BT & bucket.frames_BT)
    return np.asarray(bucket.examples_B)


def labels_of(split: Split) -> tuple[np.ndarray, list[str]]:
    """Every known label [N, 2], and who shows it."""
    labels, speakers = [], []
    for number, (bucket, names) in enumerate(zip(split.buckets, split.names, strict=True)):
        known = known_rows(bucket)
        labels.append(_values(bucket)[known])
        of_example = split.speakers[number] if split.speakers else [""] * len(names)
        speakers += [of_example[row] or _folder(names[row]) for row in np.nonzero(known)[0].tolist()]
    return np.concatenate(labels), speakers


def _folder(name: str) -> str:
    clip = name.partition("#")[0]
    return clip.rpartition("/")[0] or clip


def _values(bucket: FaceBatch) -> np.ndarray:
    return bucket.target.values_BTA if isinstance(bucket.target, FrameAffect) else bucket.target
