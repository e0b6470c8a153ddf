"""Affect: how somebody felt when they wrote a text, as valence and arousal, from it and what they wrote before."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, Split
from jaxlip.data.texts import AffectSpec, EntryBatch, TextData, load_texts, text_shapes, user_of
from jaxlip.losses.ccc import CccLoss, ccc_loss
from jaxlip.metrics.affect import affect_scores
from jaxlip.metrics.mergeable import Mergeable
from jaxlip.metrics.moments import Ccc
from jaxlip.metrics.scores import Scores
from jaxlip.models.affect_mlp import TwoAnswers
from jaxlip.models.base import Model
from jaxlip.text.causal import history_of
from jaxlip.text.entries import DIMENSIONS


def affect_metrics(
    outputs_BA: Array, target_BA: Array, mask_B: Array, weights: tuple[float, ...]
) -> dict[str, Mergeable]:
    """The loss; "disagreement", 1 - the mean CCC, which is what to select by; and the CCC of each dimension."""
    loss = ccc_loss(outputs_BA, target_BA, mask_B, weights=weights)
    each = {f"{name}_ccc": Ccc(moments) for name, moments in zip(DIMENSIONS, loss.moments, strict=True)}
    return {"loss": loss, "disagreement": CccLoss(loss.moments, (1.0,) * len(weights)), **each}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affect(Component):
    """Valence and arousal by concordance and squared error."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives [B, 2] in the units of the labels, or
    `TwoAnswers` of that kind."""
    valence_ccc: float = 0.65
    """Weight of 1 - CCC in valence's loss; the squared error has the rest."""
    arousal_ccc: float = 0.70
    """The same for arousal."""
    user_dropout: float = 0.1
    """Part of the training examples whose user is hidden, so that there is a vector for users nobody knows."""
    mixup: float = 0.0
    """Alpha of mixup (Zhang et al., ICLR 2018) of texts, features and labels; 0 turns it off."""
    label_smoothing: float = 0.0
    """How far training labels are drawn to the middle of their scale, as a part of the way."""

    def __post_init__(self):
        for field in ("valence_ccc", "arousal_ccc"):
            require(0 <= getattr(self, field) <= 1, self, field, "in [0, 1]")
        for field in ("user_dropout", "label_smoothing"):
            require(0 <= getattr(self, field) < 1, self, field, "in [0, 1)")
        require(self.mixup >= 0, self, "mixup", "0 or more")

    def corpus(self, data: TextData) -> Corpus:
        return load_texts(data)

    def shape_spec(self, data: TextData) -> AffectSpec:
        return text_shapes(data)

    def build(self, spec: AffectSpec) -> Model:
        return self.model.build(spec)  # type: ignore[attr-defined]

    def vary(self, batch: EntryBatch, spec: AffectSpec, key: Array) -> EntryBatch:
        hide_key, mix_key = jax.random.split(key)
        if self.user_dropout:
            hidden_B = jax.random.bernoulli(hide_key, self.user_dropout, batch.user_B.shape)
            batch = dataclasses.replace(batch, user_B=jnp.where(hidden_B, 0, batch.user_B))
        if self.label_smoothing:
            middle_1A = jnp.array(spec.scale.middle)[None]
            target_BA = batch.target + self.label_smoothing * (middle_1A - batch.target)
            batch = dataclasses.replace(batch, target=target_BA)
        return mixed(batch, self.mixup, mix_key) if self.mixup else batch

    def metrics(self, outputs: Array | TwoAnswers, batch: EntryBatch, *, train: bool) -> dict[str, Mergeable]:
        """Of the answer that knows the user; the loss of the other one is added in training, as "penalty"."""
        weights = (self.valence_ccc, self.arousal_ccc)
        metrics = affect_metrics(_answer(outputs), batch.target, batch.examples_B, weights)
        if train and isinstance(outputs, TwoAnswers):
            metrics["penalty"] = ccc_loss(outputs.anyone_BA, batch.target, batch.examples_B, weights=weights)
        return metrics

    def advice(self, val: dict[str, float]) -> str | None:
        if val["valence_ccc"] > 0 or val["arousal_ccc"] > 0:
            return None
        return "neither valence nor arousal agrees with the labels better than a constant; try a higher --optim.lr."

    def score(self, outputs: list[Any], split: Split, train: Split, spec: AffectSpec) -> Scores:
        """Beside the floors `blind` names."""
        batch = split.buckets[0]
        users_N = np.array([user_of(name) for name in split.names[0]])
        return affect_scores(
            np.concatenate([_answer(part) for part in outputs]),
            batch.target,
            users_N,
            batch.user_B > 0,
            blind(split, train, spec),
        )

    def floors(self, split: Split, train: Split, spec: AffectSpec) -> list[list[np.ndarray]]:
        return [[values_NA] for values_NA in blind(split, train, spec).values()]

    def perfect(self, split: Split, spec: AffectSpec) -> list[np.ndarray]:
        """The labels themselves."""
        del spec
        return [bucket.target for bucket in split.buckets]


def blind(split: Split, train: Split, spec: AffectSpec) -> dict[str, np.ndarray]:
    """What can be said [N, 2] without reading: the training labels' mean, the user's mean so far, the user's last value
    (the first where there is none)."""
    batch, known = split.buckets[0], train.buckets[0]
    mean_NA = np.broadcast_to(known.target.mean(axis=0), batch.target.shape)
    if not spec.users:
        return {"training mean": mean_NA}
    past = history_of(batch.features_BTD[:, -1], spec.scale)
    own = {name: np.where(np.isnan(value_NA), mean_NA, value_NA) for name, value_NA in past.items()}
    return {"training mean": mean_NA, **own}


def _answer(outputs: Any) -> Any:
    """What is said of each entry, by all that is known."""
    return outputs.user_BA if isinstance(outputs, TwoAnswers) else outputs


def mixed(batch: EntryBatch, alpha: float, key: Array) -> EntryBatch:
    """Each example and another of the batch in a random proportion, nearer to the first; it keeps its user."""
    share_key, other_key = jax.random.split(key)
    count = len(batch.user_B)
    share_B = jax.random.beta(share_key, alpha, alpha, (count,))
    share_B = jnp.maximum(share_B, 1 - share_B)
    other_B = jax.random.permutation(other_key, count)

    def mix(x: Array) -> Array:
        share = share_B.reshape(-1, *[1] * (x.ndim - 1))
        return share * x + (1 - share) * x[other_B]

    return dataclasses.replace(
        batch,
        text_BTD=mix(batch.text_BTD),
        features_BTD=mix(batch.features_BTD),
        entries_BT=batch.entries_BT | batch.entries_BT[other_B],
        target=mix(batch.target),
    )
