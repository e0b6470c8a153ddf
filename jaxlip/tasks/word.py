"""Isolated words: one window of a clip -> one of K words."""

import dataclasses
from typing import Any

import jax
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
from jaxlip.metrics.classification import classification_scores
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Scores
from jaxlip.metrics.worst import reliability, worst_words
from jaxlip.models.base import Model
from jaxlip.tasks.answer import Answer
from jaxlip.tasks.base import GroupedLoss
from jaxlip.tasks.together import log_mean

TOP = 5
"""Words that an answer names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Word(Component):
    """Word classification by cross entropy."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives logits [B, K]."""
    label_smoothing: float = 0.1
    """Part of the target that is spread evenly over all words."""
    augment: Augment = Augment()
    """Random variation of training clips."""

    def __post_init__(self):
        require(0 <= self.label_smoothing < 1, self, "label_smoothing", "in [0, 1)")

    def corpus(self, data: FaceData) -> Corpus:
        check_flip(self.augment, data.preset)
        return load_words(data)

    def shape_spec(self, data: FaceData) -> WordSpec:
        return word_shapes(data)

    def build(self, spec: WordSpec) -> Model:
        return self.model.build(spec)  # type: ignore[attr-defined]

    def vary(self, batch: FaceBatch, spec: WordSpec, key: Array) -> FaceBatch:
        return augment(batch, self.augment, key, ids=spec.input.ids, preset=spec.topology.preset)

    def metrics(self, outputs: Array, batch: FaceBatch, *, train: bool) -> dict[str, Mean]:
        smoothing = self.label_smoothing if train else 0.0
        loss_B = cross_entropy(outputs, batch.target, smoothing=smoothing)
        hit_B = outputs.argmax(axis=-1) == batch.target
        return {"loss": Mean.of(loss_B, batch.examples_B), "accuracy": Mean.of(hit_B, batch.examples_B)}

    def groups(self, spec: WordSpec) -> tuple[str, ...]:
        return spec.classes

    def grouped_loss(self, outputs: Array, batch: FaceBatch, spec: WordSpec) -> GroupedLoss:
        del spec
        loss_B = cross_entropy(outputs, batch.target, smoothing=self.label_smoothing)
        return GroupedLoss(loss_B, batch.target, batch.examples_B.astype(loss_B.dtype))

    def soft_targets(self, outputs: Any, batch: FaceBatch) -> tuple[Any, Any]:
        """Logits [B, K] that another model may learn to give, and which examples are real."""
        return outputs, batch.examples_B

    def advice(self, val: dict[str, float]) -> None:
        del val

    def score(self, outputs: list[np.ndarray], split: Split, train: Split, spec: WordSpec) -> Scores:
        labels_N = np.concatenate([bucket.target for bucket in split.buckets])
        train_labels_M = np.concatenate([bucket.target for bucket in train.buckets])
        names = [name for bucket in split.names for name in bucket]
        clips_N, logits_NK = np.array([name.partition("#")[0] for name in names]), np.concatenate(outputs)
        scores = classification_scores(logits_NK, labels_N, clips_N, train_labels_M, spec.classes)
        return dataclasses.replace(
            scores,
            tables={**scores.tables, "calibration": reliability(logits_NK, labels_N)},
            worst=worst_words(logits_NK, labels_N, names, spec.classes),
        )

    def log_evidence(self, outputs: list[np.ndarray], split: Split, spec: WordSpec) -> np.ndarray:
        """log p [N] of the right words."""
        del spec
        log_p_NK = jax.nn.log_softmax(np.concatenate(outputs), axis=-1)
        labels_N = np.concatenate([bucket.target for bucket in split.buckets])
        return np.asarray(log_p_NK)[np.arange(len(labels_N)), labels_N]

    def confidence(self, outputs: list[np.ndarray], split: Split) -> np.ndarray:
        """[N] log-probability of the likeliest word."""
        del split
        return np.asarray(jax.nn.log_softmax(np.concatenate(outputs), axis=-1).max(axis=-1))

    def score_mixture(
        self, members: list[list[np.ndarray]], weights_M: np.ndarray, split: Split, train: Split, spec: WordSpec
    ) -> Scores:
        """Scores of the weighted mean of several models' probabilities."""
        mixed = [log_mean(list(parts), weights_M) for parts in zip(*members, strict=True)]
        return self.score(mixed, split, train, spec)

    def perfect(self, split: Split, spec: WordSpec) -> list[np.ndarray]:
        """Logits that get every word right."""
        return [np.eye(len(spec.classes))[bucket.target] for bucket in split.buckets]

    @property
    def one_word(self) -> bool:
        return True

    def decoders(self, spec: WordSpec) -> tuple[str, ...]:
        del spec
        return ("probability",)

    def questions(self, clip: FaceClip, data: FaceData, spoken: SpokenWord | None) -> list[Example]:
        return word_guesses(clip, data.window, spoken)

    def answer(
        self,
        outputs: list[np.ndarray],
        questions: list[Example],
        spec: WordSpec,
        *,
        decoder: str,
        said: list[str],
        fps: float,
    ) -> Answer:
        """The likeliest words, their probabilities averaged over the guesses of when the word is spoken."""
        del decoder, said
        logits_BK = np.concatenate([np.asarray(logits, np.float64) for logits in outputs])
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
