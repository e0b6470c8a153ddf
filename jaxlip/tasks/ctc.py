"""Reading by connectionist temporal classification, whoever speaks: losses, metrics, and scores by every decoder.

What a clip is and how it is varied is for the tasks that are made of this one: lips (`sentence.py`), hands (`sign.py`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.special import logsumexp

from jaxlip.config import Component, require
from jaxlip.data.batches import FaceBatch, Split
from jaxlip.data.sentences import CtcSpec, SentenceTarget, Tokens, infeasible
from jaxlip.decode.times import TimedWord
from jaxlip.losses.cross_entropy import cross_entropy
from jaxlip.losses.ctc import ctc_loss, feasible
from jaxlip.losses.distillation import divergence
from jaxlip.metrics.edit_distance import greedy_tokens, masked_edit_distance
from jaxlip.metrics.mergeable import Mean
from jaxlip.metrics.scores import Scores
from jaxlip.metrics.sentences import best_constant, emission_statistics, sentence_scores
from jaxlip.metrics.worst import worst_sentences
from jaxlip.models.base import Model
from jaxlip.models.heads import SentenceLogits
from jaxlip.models.members import PerMember, by_voice, ensemble, mapped_over_voices, own_batches, voices
from jaxlip.tasks.base import GroupedLoss
from jaxlip.tasks.together import log_mean, read_together
from jaxlip.tasks.transcribe import Decoding, readers, timings, transcribe

LENGTHS = (2, 4, 6, 8, 12, 16)
"""Words at the most in each group of sentences, but the last, for a curriculum."""
Voices = SentenceLogits | tuple[SentenceLogits, ...]
"""What a model says of a batch; an ensemble speaks with several voices."""
COLLAPSED = 0.99
"""Part of the frames that are blank above which a model has learned nothing but the blank."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ctc(Component):
    """CTC over tokens, with a word CTC and the classification of gold word spans as helpers in training."""

    model: Component
    """The network: a component with `build(spec)`, whose model gives SentenceLogits."""
    word_ctc: float = 0.3
    """Weight of the CTC over whole words."""
    spans: float = 0.5
    """Weight of classifying each word from the frames in which it is spoken."""
    early_ctc: float = 0.0
    """Weight of the CTC on what the model says before its recurrent layers; needs a model with such a head."""
    agree: float = 0.0
    """Weight of self-distillation: that early head learns from the last one (KL divergence, real frames only)."""
    members: int = 1
    """Networks that are trained side by side, each from its own start and on batches of its own, and read together:
    what is likeliest by the mean of their probabilities of whole texts."""
    decode: Decoding = Decoding()
    """How frames become text in evaluation."""

    def __post_init__(self):
        for field in ("word_ctc", "spans", "early_ctc", "agree"):
            require(getattr(self, field) >= 0, self, field, "0 or more")
        require(self.members >= 1, self, "members", "1 or more")

    def build(self, spec: CtcSpec) -> Model:
        model = self.model.build(spec)  # type: ignore[attr-defined]
        return model if self.members == 1 else ensemble(model, self.members)

    def vary(self, batch: FaceBatch, spec: Any, key: Array) -> FaceBatch | PerMember:
        """The batch, or every member's own batch in it, randomly varied."""
        if self.members == 1:
            return self.vary_once(batch, spec, key)
        return own_batches(batch, self.members, key, lambda own, key: self.vary_once(own, spec, key))

    def vary_once(self, batch: FaceBatch, spec: Any, key: Array) -> FaceBatch:
        """The batch, randomly varied."""
        raise NotImplementedError

    def metrics(self, outputs: Voices, batch: FaceBatch | PerMember, *, train: bool) -> dict[str, Mean]:
        """Losses in nats a token (CTC), a word (word CTC) and a span; each clip counts alike, and each member.

        `token_error` is the greedy reading's; "blank" the part of frames read as blank.
        """
        means = mapped_over_voices(self._metrics, outputs, batch)
        return jax.tree.map(lambda sums_M: sums_M.sum(axis=0), means)

    def _metrics(self, outputs: SentenceLogits, batch: FaceBatch) -> dict[str, Mean]:
        target: SentenceTarget = batch.target
        loss_B, fits_B, means = self._losses(outputs, batch)
        steps_BT = outputs.real(batch.frames_BT & batch.examples_B[:, None])
        greedy_BT, emitted_BT = greedy_tokens(outputs.tokens_BTK, steps_BT)
        edits_B = masked_edit_distance(greedy_BT, emitted_BT, target.tokens.labels_BN, target.tokens.tokens_BN)
        said_B = target.tokens.tokens_BN.sum(axis=1)
        blank_BT = outputs.tokens_BTK.argmax(axis=-1) == 0
        return {
            "loss": Mean.of(loss_B, fits_B),
            **means,
            "token_error": Mean(_sum(edits_B, batch.examples_B), _sum(said_B, batch.examples_B)),
            "blank": Mean(jnp.sum(blank_BT & steps_BT).astype(jnp.float32), jnp.sum(steps_BT).astype(jnp.float32)),
            "infeasible": Mean.of(~fits_B, batch.examples_B),
        }

    def _losses(self, outputs: SentenceLogits, batch: FaceBatch) -> tuple[Array, Array, dict[str, Mean]]:
        """The loss of every clip, which clips have a target that fits their frames, and the parts of the loss."""
        target: SentenceTarget = batch.target
        frames_BT = batch.frames_BT & batch.examples_B[:, None]
        steps_BT = outputs.real(frames_BT)
        fits_B = batch.examples_B & feasible(steps_BT, target.tokens.labels_BN, target.tokens.tokens_BN)
        loss_B = ctc_per_token(outputs.tokens_BTK, steps_BT, target.tokens)
        means = {"ctc": Mean.of(loss_B, fits_B)}
        helpers = {
            "word_ctc": (self.word_ctc, outputs.words_BTK, target.words),
            "early_ctc": (self.early_ctc, outputs.early_BTK, target.tokens),
        }
        for name, (weight, logits_BTK, tokens) in helpers.items():
            if weight and logits_BTK is not None:
                helper_B = ctc_per_token(logits_BTK, steps_BT, tokens)
                loss_B = loss_B + weight * helper_B
                means[name] = Mean.of(helper_B, fits_B)
        if self.spans and outputs.spoken_BTK is not None:
            span_B, means["span_accuracy"] = span_classification(outputs.spoken_BTK, frames_BT, target)
            loss_B = loss_B + self.spans * span_B
        if self.agree and outputs.early_BTK is not None:
            agree_B = divergence(jax.lax.stop_gradient(outputs.tokens_BTK), outputs.early_BTK, steps_BT)
            loss_B = loss_B + self.agree * agree_B
            means["agree"] = Mean.of(agree_B, fits_B)
        return loss_B, fits_B, means

    def groups(self, spec: CtcSpec) -> tuple[str, ...]:
        del spec
        return tuple(f"up to {most} words" for most in LENGTHS) + ("longer",)

    def grouped_loss(self, outputs: Voices, batch: FaceBatch | PerMember, spec: CtcSpec) -> GroupedLoss:
        """By the number of words that are said."""
        del spec
        loss_MB, fits_MB, _ = mapped_over_voices(self._losses, outputs, batch)
        target = batch.batches.target if isinstance(batch, PerMember) else batch.target
        words_MB = jnp.broadcast_to(target.words.tokens_BN.sum(axis=-1), loss_MB.shape)
        group_B = jnp.searchsorted(jnp.array(LENGTHS), words_MB.reshape(-1))
        return GroupedLoss(loss_MB.reshape(-1), group_B, fits_MB.reshape(-1).astype(loss_MB.dtype))

    def soft_targets(self, outputs: Voices, batch: FaceBatch) -> tuple[Any, Any]:
        """Logits [B, T, K] that another model may learn to give, and which steps are real."""
        first, *others = voices(outputs)
        logits_BTK = log_mean([v.tokens_BTK for v in (first, *others)]) if others else first.tokens_BTK
        return logits_BTK, first.real(batch.frames_BT & batch.examples_B[:, None])

    def score(self, outputs: list[Voices], split: Split, train: Split, spec: CtcSpec) -> Scores:
        """The scores of every decoder, "greedy/wer" and so on, and tables of edits, slots, words and transcripts."""
        return self._score(by_voice(outputs), np.full(self.members, 1 / self.members), split, train, spec)

    def read(
        self,
        members: list[list[SentenceLogits]],
        weights_M: np.ndarray,
        frames: list[np.ndarray],
        spec: CtcSpec,
        said: list[str],
        decoder: str | None = None,
    ) -> dict[str, list[tuple[int, ...]]]:
        """Token ids of every clip by each decoder, or by one; `members` hold their logits bucket by bucket."""
        if len(members) > 1:
            return read_together(spec, self.decode, said, members, weights_M, frames, decoder)
        known = readers(spec, self.decode, said, words=members[0][0].words_BTK is not None)
        names = known if decoder is None else (decoder,)
        return {name: transcribe(known[name], members[0], frames) for name in names}

    def log_evidence(self, outputs: list[Voices], split: Split, spec: CtcSpec) -> np.ndarray:
        """log p [N] of what is said, by the token CTC."""
        del spec
        log_p_MN = np.stack([self._log_evidence(member, split) for member in by_voice(outputs)])
        return np.asarray(logsumexp(log_p_MN, axis=0)) - np.log(len(log_p_MN))

    def _log_evidence(self, outputs: list[SentenceLogits], split: Split) -> np.ndarray:
        parts = []
        for logits, bucket, frames_BT in zip(outputs, split.buckets, real_steps(outputs, split), strict=True):
            tokens = bucket.target.tokens
            loss_B = ctc_loss(*map(jnp.asarray, (logits.tokens_BTK, frames_BT, tokens.labels_BN, tokens.tokens_BN)))
            parts.append(-np.asarray(loss_B))
        return np.concatenate(parts)

    def confidence(self, outputs: list[Voices], split: Split) -> np.ndarray:
        """[N] the mean over real frames of the likeliest token's log-probability."""
        return np.mean([self._confidence(member, split) for member in by_voice(outputs)], axis=0)

    def _confidence(self, outputs: list[SentenceLogits], split: Split) -> np.ndarray:
        parts = []
        for logits, frames_BT in zip(outputs, real_steps(outputs, split), strict=True):
            best_BT = np.asarray(jax.nn.log_softmax(logits.tokens_BTK, axis=-1).max(axis=-1))
            parts.append((best_BT * frames_BT).sum(axis=1) / np.maximum(frames_BT.sum(axis=1), 1))
        return np.concatenate(parts)

    def score_mixture(
        self, members: list[list[Voices]], weights_M: np.ndarray, split: Split, train: Split, spec: CtcSpec
    ) -> Scores:
        """Scores of several models' mixture: whole sentences are weighed, not frames; the weightiest dates them."""
        parts = [by_voice(member) for member in members]
        shares = [weight / len(part) for weight, part in zip(weights_M, parts, strict=True) for _ in part]
        return self._score([voice for part in parts for voice in part], np.array(shares), split, train, spec)

    def _score(
        self,
        members: list[list[SentenceLogits]],
        weights_M: np.ndarray,
        split: Split,
        train: Split,
        spec: CtcSpec,
    ) -> Scores:
        outputs = members[int(weights_M.argmax())]
        said, frames = references(split, spec), real_steps(outputs, split)
        read = self.read(members, weights_M, frames, spec, references(train, spec))
        clips = [name for names in split.names for name in names]
        constant = best_constant(references(train, spec))
        texts = {name: [spec.vocabulary.decode(ids) for ids in rows] for name, rows in read.items()}
        by_reader = {
            name: sentence_scores(said, text, clips, constant, slots=spec.slots) for name, text in texts.items()
        }
        logits = [np.asarray(bucket.tokens_BTK) for member in members for bucket in member]
        emissions = emission_statistics(logits, frames * len(members))
        rows = [
            {"clip": clip, "said": reference, **{name: text[n] for name, text in texts.items()}}
            for n, (clip, reference) in enumerate(zip(clips, said, strict=True))
        ]
        shown = "lexicon" if "lexicon" in texts else "beam"
        stride = round(split.buckets[0].frames_BT.shape[1] / outputs[0].tokens_BTK.shape[1])
        return Scores(
            count=len(said),
            scores={f"{name}/{key}": s for name, part in by_reader.items() for key, s in part.scores.items()},
            worst=worst_sentences(said, texts[shown], clips),
            tables={
                **_side_by_side(by_reader),
                "emissions": [{**dataclasses.asdict(emissions), "infeasible_targets": len(infeasible(split, stride))}],
                "transcripts": rows,
                "timings": _timing_rows(clips, timings(read[shown], outputs, frames, spec.vocabulary, stride=stride)),
            },
        )

    def advice(self, val: dict[str, float]) -> str | None:
        if val["blank"] <= COLLAPSED:
            return None
        return (
            f"CTC has collapsed: more than {COLLAPSED:.0%} of the validation frames are read as blank. Give it more "
            f"epochs or a higher optim.lr, less dropout, {self.remedies}."
        )

    @property
    def remedies(self) -> str:
        """What else helps against a collapse."""
        return "or an auxiliary CTC, --task.early_ctc 0.5"

    def perfect(self, split: Split, spec: CtcSpec) -> list[SentenceLogits]:
        """Logits that spell every transcript that fits its frames."""
        return [_spelling(bucket.target.tokens, bucket.target.words, bucket, spec) for bucket in split.buckets]

    def floors(self, split: Split, train: Split, spec: CtcSpec) -> list[list[SentenceLogits]]:
        """Logits that spell the best constant transcript; none where it does not fit the shortest clip."""
        text = " ".join(best_constant(references(train, spec)))
        tokens, words = (vocabulary.encode(text) for vocabulary in (spec.vocabulary, spec.words))
        room = min(int(bucket.frames_BT.sum(axis=1).min()) for bucket in split.buckets)
        if room < 2 * len(tokens):
            return []
        counts = [len(bucket.frames_BT) for bucket in split.buckets]
        return [
            [
                _spelling(repeated(tokens, count), repeated(words, count), bucket, spec)
                for bucket, count in zip(split.buckets, counts, strict=True)
            ]
        ]


def repeated(ids: tuple[int, ...], count: int) -> Tokens:
    """The same sequence so many times."""
    labels_BN = np.broadcast_to(np.array(ids, np.int32), (count, len(ids)))
    return Tokens(labels_BN=labels_BN, tokens_BN=np.ones(labels_BN.shape, bool))


def real_steps(outputs: list[SentenceLogits], split: Split) -> list[np.ndarray]:
    """Which steps of the outputs are real, [B, T] a bucket."""
    return [np.asarray(part.real(bucket.frames_BT)) for part, bucket in zip(outputs, split.buckets, strict=True)]


def references(split: Split, spec: CtcSpec) -> list[str]:
    """What is said in every example of a split, in its order."""
    return [
        spec.words.decode(labels_N[real_N])
        for bucket in split.buckets
        for labels_N, real_N in zip(bucket.target.words.labels_BN, bucket.target.words.tokens_BN, strict=True)
    ]


def spelled(tokens: Tokens, frames_BT: np.ndarray, classes: int) -> np.ndarray:
    """Logits [B, T, K] of a path that reads as the tokens: one real frame each, a blank between equals, then blanks."""
    shape = (*frames_BT.shape, classes)
    logits_BTK = np.zeros(shape, np.float32)
    rows = zip(tokens.labels_BN, tokens.tokens_BN, frames_BT, strict=True)
    for b, (labels_N, real_N, frames_T) in enumerate(rows):
        path: list[int] = []
        for label in labels_N[real_N]:
            path += [0, label] if path and path[-1] == label else [label]
        places = np.flatnonzero(frames_T)
        path = (path + [0] * len(places))[: len(places)]
        logits_BTK[b, places, path] = 20.0
    return logits_BTK


def _spelling(tokens: Tokens, words: Tokens, bucket: FaceBatch, spec: CtcSpec) -> SentenceLogits:
    """What a model says that is sure of these tokens and words."""
    tokens_BTK = spelled(tokens, bucket.frames_BT, len(spec.vocabulary))
    words_BTK = spelled(words, bucket.frames_BT, len(spec.words))
    return SentenceLogits(*map(jnp.asarray, (tokens_BTK, words_BTK, 0 * words_BTK)))


def _side_by_side(by_reader: dict[str, Scores]) -> dict[str, list[dict]]:
    """Tables of the same name one below the other, each row with the decoder that it is of; equal rows once."""
    tables: dict[str, dict[tuple, dict]] = {}
    for reader, scores in by_reader.items():
        for name, rows in scores.tables.items():
            table = tables.setdefault(name, {})
            for row in rows:
                table.setdefault(tuple(row.items()), {"decoder": reader, **row})
    return {name: list(table.values()) for name, table in tables.items()}


def _timing_rows(clips: list[str], timed: list[list[TimedWord]]) -> list[dict]:
    return [
        {"clip": clip, "word": w.text, "first_frame": w.start, "end_frame": w.end, "confidence": w.confidence}
        for clip, words in zip(clips, timed, strict=True)
        for w in words
    ]


def _sum(values_B: Array, mask_B: Array) -> Array:
    return jnp.sum(jnp.where(mask_B, values_B, 0)).astype(jnp.float32)


def ctc_per_token(
    logits_BTK: Float[Array, "B T K"], frames_BT: Bool[Array, "B T"], tokens: Tokens
) -> Float[Array, " B"]:
    """CTC loss in nats for each token of the target."""
    loss_B = ctc_loss(logits_BTK, frames_BT, tokens.labels_BN, tokens.tokens_BN)
    return loss_B / jnp.maximum(tokens.tokens_BN.sum(axis=1), 1)


def span_classification(
    logits_BTK: Float[Array, "B T K"], frames_BT: Bool[Array, "B T"], target: SentenceTarget
) -> tuple[Float[Array, " B"], Mean]:
    """Cross entropy [B] and accuracy of each word, from the mean of its frames' logits; the mean over a clip's words.

    Words of which no frame is left are not counted.
    """
    places_N = jnp.arange(target.words.labels_BN.shape[1])
    inside_BTN = (target.word_BT[..., None] == places_N[None, None]) & frames_BT[..., None]
    count_BN = inside_BTN.sum(axis=1)
    pooled_BNK = jnp.einsum("btn,btk->bnk", inside_BTN.astype(logits_BTK.dtype), logits_BTK)
    pooled_BNK = pooled_BNK / jnp.maximum(count_BN, 1)[..., None]
    seen_BN = target.words.tokens_BN & (count_BN > 0)
    loss_BN = jax.vmap(functools.partial(cross_entropy, smoothing=0.1))(pooled_BNK, target.words.labels_BN)
    loss_B = jnp.sum(jnp.where(seen_BN, loss_BN, 0), axis=1) / jnp.maximum(seen_BN.sum(axis=1), 1)
    hit_BN = pooled_BNK.argmax(axis=-1) == target.words.labels_BN
    return loss_B, Mean.of(hit_BN.reshape(-1), seen_BN.reshape(-1))
