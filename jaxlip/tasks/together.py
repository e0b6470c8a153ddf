"""Several models asked together: the mean of their probabilities, of a word or of a whole sentence.

For sentences, the mean over models of each frame's probabilities is of little use: models that say the same at slightly
different times blur each other. What is averaged here is the probability of the whole text, summed over all alignments
by every model on its own.
"""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import logsumexp

from jaxlip.data.sentences import CtcSpec
from jaxlip.decode.greedy import greedy
from jaxlip.models.heads import SentenceLogits
from jaxlip.tasks.transcribe import CHUNK, Decoding, search, searches, sequence_losses

Read = list[tuple[int, ...]]
UNKNOWN = -1e6
"""Log-probability of a text with an unknown word in the word CTC: after all others, and their order is kept."""


def log_mean(members: Sequence[Any], weights_M: np.ndarray | None = None) -> Array:
    """log of the (weighted) mean of the models' probabilities, from logits [..., K] of each."""
    log_p = jnp.stack([jax.nn.log_softmax(jnp.asarray(m, jnp.float32), axis=-1) for m in members])
    weights_M = np.full(len(log_p), 1 / len(log_p)) if weights_M is None else weights_M
    return jax.scipy.special.logsumexp(log_p, axis=0, b=jnp.reshape(weights_M, (-1, *[1] * (log_p.ndim - 1))))


def read_together(
    spec: CtcSpec,
    decoding: Decoding,
    transcripts: Sequence[str],
    members: Sequence[Sequence[SentenceLogits]],
    weights_M: np.ndarray,
    frames: Sequence[np.ndarray],
    decoder: str | None = None,
) -> dict[str, Read]:
    """What a split says by every decoder (or by one), bucket after bucket; `members` are the outputs of each model.

    A search takes the union of all models' n-best texts, and every model scores every text. "greedy" chooses among the
    models' best paths, and knows no words: the best path of the frame-wise mean is mostly blank.
    """
    scorers = searches(spec, decoding, transcripts)
    names = ("greedy", *scorers) if decoder is None else (decoder,)
    no_words = dataclasses.replace(decoding, words=0.0)
    read: dict[str, Read] = {name: [] for name in names}
    for *parts, frames_BT in zip(*members, frames, strict=True):
        for start in range(0, len(frames_BT), CHUNK):
            rows = slice(start, start + CHUNK)
            some = [jax.tree.map(lambda array, rows=rows: array[rows], part) for part in parts]
            for name in names:
                if name == "greedy":
                    paths = [greedy(np.asarray(part.tokens_BTK), frames_BT[rows]) for part in some]
                    texts = [dict.fromkeys(row, 0.0) for row in zip(*paths, strict=True)]
                    read[name] += _likeliest(spec, no_words, some, weights_M, frames_BT[rows], texts)
                    continue
                found = [search(decoding, scorers[name], part, frames_BT[rows]) for part in some]
                # The scorer knows no frames: what it adds to a text is the same whichever model found it.
                texts = [{h.tokens: h.lm for row in rows_of for h in row} for rows_of in zip(*found, strict=True)]
                read[name] += _likeliest(spec, decoding, some, weights_M, frames_BT[rows], texts)
    return read


def _likeliest(
    spec: CtcSpec,
    decoding: Decoding,
    members: Sequence[SentenceLogits],
    weights_M: np.ndarray,
    frames_BT: np.ndarray,
    lm: Sequence[dict[tuple[int, ...], float]],
) -> Read:
    """Of each clip's texts (with what the scorer adds), the one whose mean probability is the largest."""
    texts = [(b, tokens) for b, row in enumerate(lm) for tokens in row]
    if not texts:
        return [()] * len(lm)
    log_p_MN = np.stack([_log_p(spec, decoding, member, frames_BT, texts) for member in members])
    added_N = np.array([lm[b][tokens] for b, tokens in texts])
    total_N = logsumexp(log_p_MN, axis=0, b=weights_M[:, None]) + added_N
    best: dict[int, tuple[float, tuple[int, ...]]] = collections.defaultdict(lambda: (-np.inf, ()))
    for (b, tokens), total in zip(texts, total_N.tolist(), strict=True):
        if total > best[b][0]:
            best[b] = (total, tokens)
    return [best[b][1] for b in range(len(lm))]


def _log_p(
    spec: CtcSpec,
    decoding: Decoding,
    member: SentenceLogits,
    frames_BT: np.ndarray,
    texts: list[tuple[int, tuple[int, ...]]],
) -> np.ndarray:
    """One model's log-probability of each (clip, tokens), the word CTC added with its weight."""
    log_p_N = -sequence_losses(np.asarray(member.tokens_BTK), frames_BT, texts)
    if not decoding.words or spec.vocabulary.unit == "words" or member.words_BTK is None:
        return log_p_N
    known, written = set(spec.words.tokens), [spec.vocabulary.decode(tokens) for _, tokens in texts]
    legal = [n for n, text in enumerate(written) if known.issuperset(text.split())]
    words_N = np.full(len(texts), UNKNOWN)
    if legal:
        sentences = [(texts[n][0], spec.words.encode(written[n])) for n in legal]
        words_N[legal] = -sequence_losses(np.asarray(member.words_BTK), frames_BT, sentences)
    return log_p_N + decoding.words * words_N
