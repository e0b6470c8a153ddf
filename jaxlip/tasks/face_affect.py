"""Affect from landmarks: one clip -> valence and arousal from -1 to 1."""

import dataclasses

import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, FaceBatch, Split
from jaxlip.data.face import FaceData
from jaxlip.data.face_affect import FaceAffectSpec, face_affect_shapes, load_face_affect
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
    """The network: a component with `build(spec)`, whose model gives [B, 2]."""
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
        return load_face_affect(data)

    def shape_spec(self, data: FaceData) -> FaceAffectSpec:
        return face_affect_shapes(data)

    def build(self, spec: FaceAffectSpec) -> Model:
        return self.model.build(spec)  # type: ignore[attr-defined]

    def vary(self, batch: FaceBatch, spec: FaceAffectSpec, key: Array) -> FaceBatch:
        return augment(batch, self.augment, key, ids=spec.input.ids, preset=spec.topology.preset)

    def metrics(self, outputs: Array, batch: FaceBatch, *, train: bool) -> dict[str, Mergeable]:
        del train
        return affect_metrics(outputs, batch.target, batch.examples_B, (self.valence_ccc, self.arousal_ccc))

    def advice(self, val: dict[str, float]) -> None:
        del val

    def score(self, outputs: list[np.ndarray], split: Split, train: Split, spec: FaceAffectSpec) -> Scores:
        """Intervals are over speakers, who are the folders of the clips; the floor is the training labels' mean."""
        del spec
        truth_NA = np.concatenate([bucket.target for bucket in split.buckets])
        names = [name for names in split.names for name in names]
        speakers_N = np.array([name.rpartition("/")[0] or name for name in names])
        mean_A = np.concatenate([bucket.target for bucket in train.buckets]).mean(axis=0)
        floors = {"training mean": np.broadcast_to(mean_A, truth_NA.shape)}
        return affect_scores(np.concatenate(outputs), truth_NA, speakers_N, np.zeros(len(names), bool), floors)

    def perfect(self, split: Split, spec: FaceAffectSpec) -> list[np.ndarray]:
        """The labels themselves."""
        del spec
        return [bucket.target for bucket in split.buckets]
