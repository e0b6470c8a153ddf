"""Word readers that a config puts together: a spatial stage, a temporal stage, a pool over frames, a classifier."""

import dataclasses
from typing import Any, Literal

from flax import nnx
from jaxtyping import Array, Float

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch
from jaxlip.data.words import WordSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.heads import Classifier
from jaxlip.models.pool import AttentionPool, MeanPool
from jaxlip.models.spatial import Gcn
from jaxlip.models.temporal import Lstm

TEMPORAL_SITE, CLASSIFIER_SITE = 400, 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordReader(Component):
    """Any spatial stage before any temporal one."""

    spatial: Component = Gcn()
    """From landmarks to a vector a frame (`jaxlip.models.spatial`)."""
    temporal: Component = Lstm()
    """Over frames (`jaxlip.models.temporal`)."""
    pool: MeanPool | AttentionPool = MeanPool()
    """From frames to a clip (`jaxlip.models.pool`)."""
    hidden: int = 192
    """Width of the classifier."""
    dropout: float = 0.6
    """Dropout rate of the classifier."""
    norm: Literal["batch", "layer"] = "batch"
    """Normalisation in the classifier."""

    def __post_init__(self):
        require(self.hidden >= 1, self, "hidden", "1 or more")
        require(0 <= self.dropout < 1, self, "dropout", "in [0, 1)")

    def build(self, spec: WordSpec) -> Model:
        return from_nnx(lambda rngs: WordReaderModule(self, spec, rngs=rngs))


class WordReaderModule(nnx.Module):
    def __init__(self, config: WordReader, spec: WordSpec, *, rngs: nnx.Rngs):
        spatial: Any = config.spatial
        temporal: Any = config.temporal
        self.input = spec.input
        self.spatial = spatial.build(spec, rngs)
        self.temporal = temporal.build(self.spatial.width, TEMPORAL_SITE, rngs)
        self.pool = config.pool.build(self.temporal.width, rngs)
        sizes = (self.temporal.width, config.hidden, len(spec.classes), config.dropout)
        self.classifier = Classifier(*sizes, norm=config.norm, site=CLASSIFIER_SITE, rngs=rngs)

    def __call__(self, batch: FaceBatch, key: Array | None) -> Float[Array, "B K"]:
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        features = self.input(batch.landmarks_BTVC, frames_BT, batch.speech_BT)
        sequence_BTD = self.temporal(self.spatial(features, frames_BT, key), frames_BT, key)
        return self.classifier(self.pool(sequence_BTD, batch), batch.examples_B, key)
