"""m-heights of codes: grouped regression of log2 h, one group a (k, m)."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.codes import CodeBatch, Codes, CodeSpec, code_shapes, load_codes
from jaxlip.metrics.grouped_regression import grouped_regression_scores
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Scores
from jaxlip.mheight.features import linear_probe
from jaxlip.models.base import Model
from jaxlip.models.height_outputs import HeightOutputs
from jaxlip.models.mixture import imbalance
from jaxlip.tasks.base import GroupedLoss

PROBED = 4_000
"""Training examples that the linear probe is fitted to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MHeight(Component):
    """Squared error of log2 h; the score is the mean of the groups' errors, each group weighing the same."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives HeightOutputs."""
    huber: float = 0.0
    """Errors (in log2) beyond this count linearly in training; 0: all are squared."""
    balance: float = 0.0
    """Weight of what a mixture pays for experts that idle."""
    previous: tuple[tuple[str, float], ...] = ()
    """Errors of the run to compare with, by every group ("k4m2") and by "all"; none: no comparison."""

    def __post_init__(self):
        require(self.huber >= 0, self, "huber", "0 or more")
        require(self.balance >= 0, self, "balance", "0 or more")

    def corpus(self, data: Codes) -> Corpus:
        return load_codes(data)

    def shape_spec(self, data: Codes) -> CodeSpec:
        return code_shapes(data)

    def build(self, spec: CodeSpec) -> Model:
        return self.model.build(spec)  # type: ignore[attr-defined]

    def vary(self, batch: CodeBatch, spec: CodeSpec, key: Array) -> CodeBatch:
        del spec, key
        return batch

    def metrics(self, outputs: HeightOutputs, batch: CodeBatch, *, train: bool) -> dict[str, Mean]:
        """ "loss" is log2-MSE; of a mixture, "load/e" is what expert e gets, and "penalty" is for uneven loads."""
        weight_BG = _weights(batch)
        loss_BG = self._loss(outputs, batch) if train else jnp.square(outputs.log2_BG - batch.log2_BG)
        means = {"loss": Mean(jnp.sum(loss_BG * weight_BG), jnp.sum(weight_BG))}
        if outputs.gates_BGE is not None:
            real_B11 = batch.examples_B[:, None, None]
            count = jnp.sum(batch.examples_B) * float(outputs.gates_BGE.shape[1])
            total_E = jnp.sum(jnp.where(real_B11, outputs.gates_BGE, 0), axis=(0, 1))
            means |= {f"load/{e}": Mean(total_E[e], count) for e in range(len(total_E))}
            if train and self.balance:
                penalty = self.balance * imbalance(total_E / jnp.maximum(count, 1))
                means["penalty"] = Mean(penalty, jnp.ones(()))
        return means

    def groups(self, spec: CodeSpec) -> tuple[str, ...]:
        return spec.names

    def grouped_loss(self, outputs: HeightOutputs, batch: CodeBatch, spec: CodeSpec) -> GroupedLoss:
        loss_BG = self._loss(outputs, batch)
        group_BG = jnp.broadcast_to(jnp.arange(len(spec.groups))[None], loss_BG.shape)
        return GroupedLoss(loss_BG.reshape(-1), group_BG.reshape(-1), _weights(batch).reshape(-1))

    def _loss(self, outputs: HeightOutputs, batch: CodeBatch) -> Array:
        error_BG = jnp.abs(outputs.log2_BG - batch.log2_BG)
        if not self.huber:
            return jnp.square(error_BG)
        # Twice Huber's, so that small errors count as in the squared loss.
        return jnp.where(error_BG <= self.huber, jnp.square(error_BG), self.huber * (2 * error_BG - self.huber))

    def advice(self, val: dict[str, float]) -> str | None:
        loads = {name: value for name, value in val.items() if name.startswith("load/")}
        idle = [name for name, value in loads.items() if value < 0.1 / len(loads)]
        if not idle:
            return None
        return f"{len(idle)} of {len(loads)} experts get under a tenth of their share: raise task.balance."

    def perfect(self, split: Split, spec: CodeSpec) -> list[HeightOutputs]:
        del spec
        return [HeightOutputs(bucket.log2_BG, None) for bucket in split.buckets]

    def floors(self, split: Split, train: Split, spec: CodeSpec) -> list[list[HeightOutputs]]:
        """Every group's mean."""
        del train
        mean_G = jnp.array(spec.mean_log2)
        return [[HeightOutputs(jnp.broadcast_to(mean_G, bucket.log2_BG.shape), None) for bucket in split.buckets]]

    def score(self, outputs: list[HeightOutputs], split: Split, train: Split, spec: CodeSpec) -> Scores:
        """Overall and by group, beside the floors: the mean of the group, and a linear probe of invariants."""
        batch: CodeBatch = split.take(0, np.arange(len(split), dtype=np.int32))
        known: CodeBatch = train.take(0, np.arange(min(PROBED, len(train)), dtype=np.int32))
        probe_BG = linear_probe(known.matrices, known.log2_BG, known.weight_BG, batch.matrices, spec.groups)
        return grouped_regression_scores(
            np.asarray(outputs[0].log2_BG),
            batch.log2_BG,
            batch.weight_BG > 0,
            groups=spec.names,
            floors={"group mean": np.array(spec.mean_log2)[None], "linear probe": probe_BG},
            previous=dict(self.previous),
        )


def _weights(batch: CodeBatch) -> Array:
    return jnp.where(batch.examples_B[:, None], batch.weight_BG, 0)
