"""Isolated words: one window of a clip -> one of K words."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.batches import Corpus, FaceBatch, Split
from jaxlip.data.clips import SpokenWord
from jaxlip.data.face import Example, FaceClip, FaceData
from jaxlip.data.words import WordSpec, load_words, word_guesses, word_shapes
from jaxlip.decode.times import TimedWord
from jaxlip.face.augment import Augment, augment, check_flip
from jaxlip.losses.cross_entropy import cross_entropy
from jaxlip.losses.soft_targets import Balance, SoftTarget, class_weights, soft_cross_entropy
from jaxlip.metrics.classification import classification_scores
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Scores
from jaxlip.metrics.worst import reliability, worst_words
from jaxlip.models.base import Model
from jaxlip.models.heads import GatedLogits
from jaxlip.models.members import PerMember, ensemble, mapped_over_voices, own_batches, voices
from jaxlip.models.mixture import imbalance
from jaxlip.tasks.answer import Answer
from jaxlip.tasks.base import GroupedLoss
from jaxlip.tasks.mix import Mix, mix
from jaxlip.tasks.together import log_mean

TOP = 5
"""Words that an answer names."""
COLLAPSED = 0.95
"""Part of the gate, over all clips, above which a branch leaves the others idle."""


Outputs = Array | GatedLogits | tuple[Array | GatedLogits, ...]
"""What a word model says; an ensemble speaks with several voices."""


def logits_of(outputs: Any) -> Any:
    """The logits [B, K] among what a word model says; of an ensemble, of the mean of its members' probabilities."""
    if len(several := voices(outputs)) > 1:
        return log_mean([logits_of(voice) for voice in several])
    return outputs.logits_BK if isinstance(outputs, GatedLogits) else outputs


def joined_logits(outputs: Sequence[Any]) -> np.ndarray:
    """The logits [N, K] of all buckets."""
    return np.concatenate([logits_of(part) for part in outputs])


def gate_metrics(gate_BG: Array, examples_B: Array) -> dict[str, Mean]:
    """Mean part of every branch, and the mean entropy of an example's gate in parts of the largest: 0 where every
    example is left to one branch, be it another one each time."""
    branches = gate_BG.shape[-1]
    entropy_B = -jnp.sum(gate_BG * jnp.log(jnp.maximum(gate_BG, 1e-9)), axis=-1) / np.log(branches)
    parts = {f"gate/{i}": Mean.of(gate_BG[:, i], examples_B) for i in range(branches)}
    return {**parts, "gate_entropy": Mean.of(entropy_B, examples_B)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word(Component):
    """Word classification by cross entropy."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives logits [B, K]."""
    label_smoothing: float = 0.1
    """Part of the target that is spread evenly over all words."""
    augment: Augment = Augment()
    """Random variation of training clips."""
    mix: Mix = Mix()
    """Training clips mixed with each other."""
    focus: float = 0.0
    """Exponent of the focal loss, which turns to what is not yet known; 0 is cross entropy."""
    balance: Balance = "none"
    """What words weigh in the loss by how often they occur: alike (none), inverse, or effective (of examples)."""
    gate_balance: float = 0.0
    """Weight of a penalty for branches, of a model that has some, which get unlike parts of the gate in a batch."""
    members: int = 1
    """Networks that are trained side by side, each from its own start and on batches of its own; their probabilities
    are averaged."""

    def __post_init__(self):
        require(0 <= self.label_smoothing < 1, self, "label_smoothing", "in [0, 1)")
        require(self.focus >= 0, self, "focus", "0 or more")
        require(self.gate_balance >= 0, self, "gate_balance", "0 or more")
        require(self.members >= 1, self, "members", "1 or more")

    def corpus(self, data: FaceData) -> Corpus:
        check_flip(self.augment, data.preset)
        return load_words(data)

    def shape_spec(self, data: FaceData) -> WordSpec:
        return word_shapes(data)

    def build(self, spec: WordSpec) -> Model:
        model = self.model.build(spec)  # type: ignore[attr-defined]
        return model if self.members == 1 else ensemble(model, self.members)

    def vary(self, batch: FaceBatch, spec: WordSpec, key: Array) -> FaceBatch | PerMember:
        """The batch, or every member's own batch in it, randomly varied."""
        if self.members == 1:
            return self._vary(batch, spec, key)
        return own_batches(batch, self.members, key, lambda own, key: self._vary(own, spec, key))

    def _vary(self, batch: FaceBatch, spec: WordSpec, key: Array) -> FaceBatch:
        batch = augment(batch, self.augment, key, ids=spec.input.ids, preset=spec.topology.preset)
        if self.balance == "none" and not self.mix.on:
            return batch
        weights_K = np.ones(len(spec.classes), np.float32)
        if self.balance != "none" and spec.counts:
            weights_K = class_weights(spec.counts, self.balance)
        target = SoftTarget(
            odds_BK=jax.nn.one_hot(batch.target, len(spec.classes)), weight_B=jnp.asarray(weights_K)[batch.target]
        )
        if self.mix.on:
            batch, target = mix(batch, target, self.mix, jax.random.fold_in(key, 1))
        return dataclasses.replace(batch, target=target)

    def metrics(self, outputs: Outputs, batch: FaceBatch | PerMember, *, train: bool) -> dict[str, Mean]:
        """The loss; "accuracy", of a mixed example by its larger part; and where the model has branches, the mean part
        of each ("gate/0", ...), the gate's entropy in an example (1 where they have equal parts, 0 where one has all)
        and the "penalty" for unlike parts. Of an ensemble in training those of its members, else those of what they
        say together."""
        if isinstance(batch, PerMember) or (train and len(voices(outputs)) > 1):
            means = mapped_over_voices(functools.partial(self._metrics, train=True), outputs, batch)
            return jax.tree.map(lambda sums_M: sums_M.sum(axis=0), means)
        return self._metrics(outputs, batch, train=train)

    def _metrics(self, outputs: Outputs, batch: FaceBatch, *, train: bool) -> dict[str, Mean]:
        logits_BK, target = logits_of(outputs), batch.target
        loss_B, weight_B = self._losses(logits_BK, batch, train=train)
        label_B = target.odds_BK.argmax(axis=-1) if isinstance(target, SoftTarget) else target
        hit_B = logits_BK.argmax(axis=-1) == label_B
        loss = Mean.of(loss_B, batch.examples_B)
        if weight_B is not None:
            real_B = jnp.where(batch.examples_B, weight_B, 0)
            loss = Mean(jnp.sum(jnp.where(batch.examples_B, loss_B * weight_B, 0)), real_B.sum())
        metrics = {"loss": loss, "accuracy": Mean.of(hit_B, batch.examples_B)}
        if not isinstance(outputs, GatedLogits):
            return metrics
        metrics |= gate_metrics(outputs.gate_BG, batch.examples_B)
        if train and self.gate_balance:
            part_G = jnp.stack([metrics[f"gate/{i}"].value for i in range(outputs.gate_BG.shape[-1])])
            metrics["penalty"] = Mean(self.gate_balance * imbalance(part_G), jnp.ones(()))
        return metrics

    def _losses(self, logits_BK: Array, batch: FaceBatch, *, train: bool) -> tuple[Array, Array | None]:
        """Loss of every example, and what each weighs where they differ."""
        smoothing, focus = (self.label_smoothing, self.focus) if train else (0.0, 0.0)
        if isinstance(target := batch.target, SoftTarget):
            return soft_cross_entropy(logits_BK, target.odds_BK, smoothing=smoothing, focus=focus), target.weight_B
        if focus:
            odds_BK = jax.nn.one_hot(target, logits_BK.shape[-1])
            return soft_cross_entropy(logits_BK, odds_BK, smoothing=smoothing, focus=focus), None
        return cross_entropy(logits_BK, target, smoothing=smoothing), None

    def groups(self, spec: WordSpec) -> tuple[str, ...]:
        return spec.classes

    def group_of(self, batch: FaceBatch, spec: WordSpec) -> np.ndarray:
        del spec
        return np.asarray(batch.target)

    def grouped_loss(self, outputs: Outputs, batch: FaceBatch | PerMember, spec: WordSpec) -> GroupedLoss:
        del spec
        grouped = mapped_over_voices(self._grouped_loss, outputs, batch)
        return jax.tree.map(lambda leaf_MB: leaf_MB.reshape(-1), grouped)

    def _grouped_loss(self, outputs: Outputs, batch: FaceBatch) -> GroupedLoss:
        loss_B, weight_B = self._losses(logits_of(outputs), batch, train=True)
        label_B = batch.target.odds_BK.argmax(axis=-1) if isinstance(batch.target, SoftTarget) else batch.target
        real_B = batch.examples_B.astype(loss_B.dtype)
        return GroupedLoss(loss_B, label_B, real_B if weight_B is None else real_B * weight_B)

    def soft_targets(self, outputs: Any, batch: FaceBatch) -> tuple[Any, Any]:
        """Logits [B, K] that another model may learn to give, and which examples are real."""
        return logits_of(outputs), batch.examples_B

    def advice(self, val: dict[str, float]) -> str | None:
        if max((part for name, part in val.items() if name.startswith("gate/")), default=0.0) > COLLAPSED:
            return "one branch of the model has nearly all of the gate: raise task.gate_balance, or lower optim.lr"
        return None

    def score(self, outputs: list[Any], split: Split, train: Split, spec: WordSpec) -> Scores:
        labels_N = np.concatenate([bucket.target for bucket in split.buckets])
        train_labels_M = np.concatenate([bucket.target for bucket in train.buckets])
        names = [name for bucket in split.names for name in bucket]
        clips_N = np.array([name.partition("#")[0] for name in names])
        logits_NK = joined_logits(outputs)
        scores = classification_scores(logits_NK, labels_N, clips_N, train_labels_M, spec.classes)
        return dataclasses.replace(
            scores,
            tables={**scores.tables, "calibration": reliability(logits_NK, labels_N)},
            worst=worst_words(logits_NK, labels_N, names, spec.classes),
        )

    def log_evidence(self, outputs: list[Any], split: Split, spec: WordSpec) -> np.ndarray:
        """log p [N] of the right words."""
        del spec
        log_p_NK = jax.nn.log_softmax(joined_logits(outputs), axis=-1)
        labels_N = np.concatenate([bucket.target for bucket in split.buckets])
        return np.asarray(log_p_NK)[np.arange(len(labels_N)), labels_N]

    def confidence(self, outputs: list[Any], split: Split) -> np.ndarray:
        """[N] log-probability of the likeliest word."""
        del split
        return np.asarray(jax.nn.log_softmax(joined_logits(outputs), axis=-1).max(axis=-1))

    def score_mixture(
        self, members: list[list[Any]], weights_M: np.ndarray, split: Split, train: Split, spec: WordSpec
    ) -> Scores:
        """Scores of the weighted mean of several models' probabilities."""
        mixed = [log_mean([logits_of(part) for part in parts], weights_M) for parts in zip(*members, strict=True)]
        return self.score(mixed, split, train, spec)

    def perfect(self, split: Split, spec: WordSpec) -> list[np.ndarray]:
        """Logits that get every word right."""
        return [np.eye(len(spec.classes))[bucket.target] for bucket in split.buckets]

    def floors(self, split: Split, train: Split, spec: WordSpec) -> list[list[np.ndarray]]:
        """The words by their frequency in training, whatever is seen."""
        labels_M = np.concatenate([bucket.target for bucket in train.buckets])
        times_K = np.bincount(labels_M, minlength=len(spec.classes)).astype(float)
        # Of words that are equally frequent the first counts as more frequent.
        odds_K = times_K - 1e-6 * np.arange(len(times_K))
        return [[np.broadcast_to(odds_K, (len(bucket.target), len(odds_K))) for bucket in split.buckets]]

    @property
    def one_word(self) -> bool:
        return True

    def decoders(self, spec: WordSpec) -> tuple[str, ...]:
        del spec
        return ("probability",)

    def questions(self, clip: FaceClip, data: FaceData, spoken: SpokenWord | None) -> list[Example]:
        return word_guesses(clip, data.window, spoken, centred=data.centred)

    def answer(
        self,
        outputs: list[Any],
        questions: list[Example],
        spec: WordSpec,
        *,
        decoder: str,
        said: list[str],
        fps: float,
    ) -> Answer:
        """The likeliest words, their probabilities averaged over the guesses of when the word is spoken."""
        del decoder, said
        logits_BK = np.concatenate([np.asarray(logits_of(part), np.float64) for part in outputs])
        odds_BK = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
        p_K = (odds_BK / odds_BK.sum(axis=1, keepdims=True)).mean(axis=0)
        order = np.argsort(-p_K, kind="stable")[:TOP]
        likeliest = tuple((spec.classes[k], float(p_K[k])) for k in order)
        times = np.flatnonzero(np.any([question.speech_T for question in questions], axis=0)) / fps
        notes = ()
        if len(questions) > 1:
            notes = (f"when the word is spoken is not known: taken to be around {times.mean():.2f} s",)
        best, confidence = likeliest[0]
        word = TimedWord(text=best, start=float(times[0]), end=float(times[-1]) + 1 / fps, confidence=confidence)
        return Answer(text=best, words=(word,), likeliest=likeliest, notes=notes)
