"""Training sentences put together from words of several clips, inside jit: landmarks, word places and tokens."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

FADE = 2
"""Frames at either end of a word in which a clip turns from one to the other."""
SHORTEST = 3
"""Letters of a word that may be another clip's: shorter ones last hardly longer than the fading, and are read by what
is around them (single letters of GRID are read worse where they are exchanged too)."""


@dataclasses.dataclass(frozen=True)
class _Places:
    """Where each of N words begins and how many places it takes, [B, N]; 0 of them for words that are not there."""

    first_BN: Array
    count_BN: Array

    @classmethod
    def of(cls, word_BX: Int[Array, "B X"], words: int) -> "_Places":
        """From the number of the word in each place, -1 between words."""
        is_BXN = word_BX[..., None] == jnp.arange(words)[None, None]
        return cls(is_BXN.argmax(axis=1), is_BXN.sum(axis=1))


def spliced(batch: Any, share: float, key: Array, *, space: int | None) -> Any:
    """A FaceBatch with SentenceTargets in which each word is, with this probability, that of another clip in the same
    place, if both are spelled with as many tokens, and where these are letters with SHORTEST or more.

    The other's frames are brought to the word's length and to the clip's mean face, and fade in and out over its first
    and last frames. `space` is the token between words; None: every word is one token.
    """
    target, (size, frames) = batch.target, batch.frames_BT.shape
    words, length = target.words.labels_BN.shape[1], target.tokens.labels_BN.shape[1]
    keys = jax.random.split(key, 2)
    donor_BN = jax.random.randint(keys[0], (size, words), 0, size)
    place_1N, row_B1 = jnp.arange(words)[None], jnp.arange(size)[:, None]
    heard = _Places.of(target.word_BT, words)
    word_BL = _word_of_token(target.tokens.labels_BN, target.tokens.tokens_BN, space)
    spelled = _Places.of(word_BL, words)
    fits_BN = (heard.count_BN > 0) & (heard.count_BN[donor_BN, place_1N] > 0)
    fits_BN &= spelled.count_BN == spelled.count_BN[donor_BN, place_1N]
    fits_BN &= (spelled.count_BN >= SHORTEST) | (space is None)
    fits_BN &= batch.examples_B[:, None] & batch.examples_B[donor_BN]
    swapped_BN = fits_BN & (jax.random.uniform(keys[1], (size, words)) < share)

    word_BT = jnp.maximum(target.word_BT, 0)
    swapped_BT = swapped_BN[row_B1, word_BT] & (target.word_BT >= 0)
    donor_BT = jnp.where(swapped_BT, donor_BN[row_B1, word_BT], row_B1)
    since_BT = jnp.arange(frames)[None] - heard.first_BN[row_B1, word_BT]
    count_BT = heard.count_BN[row_B1, word_BT]
    pace_BT = heard.count_BN[donor_BT, word_BT] / jnp.maximum(count_BT, 1)
    time_BT = heard.first_BN[donor_BT, word_BT] + (since_BT + 0.5) * pace_BT - 0.5
    theirs_BTVC = _at(batch, donor_BT, time_BT)
    edge_BT = jnp.minimum(since_BT, count_BT - 1 - since_BT)
    weight_BT = jnp.where(swapped_BT, jnp.clip((edge_BT + 1) / (FADE + 1), 0, 1), 0)[..., None, None]
    landmarks_BTVC = (1 - weight_BT) * batch.landmarks_BTVC + weight_BT * theirs_BTVC

    labels_BN = jnp.where(swapped_BN, target.words.labels_BN[donor_BN, place_1N], target.words.labels_BN)
    in_word_BL = (word_BL >= 0) & swapped_BN[row_B1, jnp.maximum(word_BL, 0)]
    word_BL = jnp.maximum(word_BL, 0)
    from_BL = jnp.where(in_word_BL, donor_BN[row_B1, word_BL], row_B1)
    at_BL = spelled.first_BN[from_BL, word_BL] + jnp.arange(length)[None] - spelled.first_BN[row_B1, word_BL]
    letters_BL = target.tokens.labels_BN[from_BL, jnp.clip(at_BL, 0, length - 1)]
    tokens = dataclasses.replace(target.tokens, labels_BN=jnp.where(in_word_BL, letters_BL, target.tokens.labels_BN))
    said = dataclasses.replace(target.words, labels_BN=labels_BN)
    return dataclasses.replace(
        batch,
        landmarks_BTVC=landmarks_BTVC,
        target=dataclasses.replace(target, tokens=tokens, words=said),
    )


def _word_of_token(labels_BL: Int[Array, "B L"], tokens_BL: Bool[Array, "B L"], space: int | None) -> Int[Array, "B L"]:
    """The number of the word that a token is of; -1 for the tokens between words and behind the last."""
    if space is None:
        return jnp.where(tokens_BL, jnp.arange(labels_BL.shape[1])[None], -1)
    between_BL = (labels_BL == space) & tokens_BL
    return jnp.where(tokens_BL & ~between_BL, jnp.cumsum(between_BL, axis=1), -1)


def _at(batch: Any, clip_BT: Int[Array, "B T"], time_BT: Array) -> Array:
    """Landmarks [B, T, V, C] of these clips at these times, each moved by the difference of the clips' mean faces."""
    frames = batch.frames_BT.shape[1]
    real_BT11 = batch.frames_BT[..., None, None]
    mean_BVC = jnp.sum(batch.landmarks_BTVC * real_BT11, axis=1) / jnp.maximum(real_BT11.sum(axis=1), 1)
    time_BT = jnp.clip(time_BT, 0, frames - 1)
    before_BT = jnp.minimum(jnp.floor(time_BT).astype(jnp.int32), frames - 2)
    weight_BT11 = (time_BT - before_BT)[..., None, None]
    found_BTVC = (1 - weight_BT11) * batch.landmarks_BTVC[clip_BT, before_BT]
    found_BTVC += weight_BT11 * batch.landmarks_BTVC[clip_BT, before_BT + 1]
    return found_BTVC + mean_BVC[:, None] - mean_BVC[clip_BT]
