"""New sentences out of two: the head of one clip and the tail of another, joined between two words, on the device.

What is seen changes together with what is said, so that a model cannot learn a sentence by heart instead of its words.
The idea is CutMix's (Yun et al., ICCV 2019) along time, cut where the transcripts say that one word ends and the next
begins.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlip.data.batches import FaceBatch
from jaxlip.data.sentences import SentenceTarget, Tokens


def first_frames(word_BT: Int[Array, "B T"], words: int) -> Int[Array, "B N"]:
    """The first frame of each word; T for a word of which there is no frame."""
    said_BTN = word_BT[:, :, None] == jnp.arange(words)[None, None]
    return jnp.where(said_BTN.any(axis=1), said_BTN.argmax(axis=1), word_BT.shape[1])


def _per_row(values_BN: Array, index_B: Array) -> Array:
    return jnp.take_along_axis(values_BN, index_B[:, None], axis=1)[:, 0]


def joined_tokens(head: Tokens, tail: Tokens, heads_B: Int[Array, " B"], skipped_B: Int[Array, " B"]) -> Tokens:
    """The first `heads_B` tokens of one beside all but the first `skipped_B` of the other, cut to the same width."""
    place_BN = jnp.arange(head.labels_BN.shape[1])[None]
    from_head_BN = place_BN < heads_B[:, None]
    source_BN = place_BN - heads_B[:, None] + skipped_B[:, None]
    inside_BN = source_BN < head.labels_BN.shape[1]
    source_BN = jnp.clip(source_BN, 0, head.labels_BN.shape[1] - 1)

    def join(a_BN, b_BN):
        return jnp.where(from_head_BN, a_BN, jnp.where(inside_BN, jnp.take_along_axis(b_BN, source_BN, axis=1), 0))

    return Tokens(labels_BN=join(head.labels_BN, tail.labels_BN), tokens_BN=join(head.tokens_BN, tail.tokens_BN) > 0)


def _moved_face(landmarks_BTVC, frames_BT, to_BTVC, to_frames_BT) -> Float[Array, "B T V C"]:
    """Landmarks with their clip's mean face replaced by that of another clip: the tail has the head's face."""

    def mean_face(values_BTVC, mask_BT):
        mask_BT11 = mask_BT[..., None, None]
        total_B1VC = jnp.sum(jnp.where(mask_BT11, values_BTVC, 0), axis=1, keepdims=True)
        return total_B1VC / jnp.maximum(mask_BT11.sum(axis=1, keepdims=True), 1)

    return landmarks_BTVC - mean_face(landmarks_BTVC, frames_BT) + mean_face(to_BTVC, to_frames_BT)


def splice(batch: FaceBatch, probability: float, key: Array) -> FaceBatch:
    """Each clip, with this probability, goes on as its neighbour in the batch does, from a random word on.

    Left alone where the place has no frame, or the joined sentence has more frames or tokens than there is room for.
    """
    target: SentenceTarget = batch.target
    other = jax.tree.map(lambda array: jnp.roll(array, 1, axis=0), batch)
    size_B, size_T = batch.frames_BT.shape
    pick_key, place_key = jax.random.split(key)
    count_B = jnp.minimum(target.words.tokens_BN.sum(axis=1), other.target.words.tokens_BN.sum(axis=1))
    # The word that comes first from the neighbour: at least one comes from each.
    place_B = 1 + jnp.floor(jax.random.uniform(place_key, (size_B,)) * jnp.maximum(count_B - 1, 1)).astype(jnp.int32)
    starts_BN = first_frames(target.word_BT, target.words.labels_BN.shape[1])
    other_starts_BN = first_frames(other.target.word_BT, target.words.labels_BN.shape[1])
    place_B = jnp.minimum(place_B, starts_BN.shape[1] - 1)
    cut_B, other_cut_B = _per_row(starts_BN, place_B), _per_row(other_starts_BN, place_B)
    heads_B = jnp.sum((target.place_BN < place_B[:, None]) & target.tokens.tokens_BN, axis=1)
    skipped_B = jnp.sum((other.target.place_BN < place_B[:, None]) & other.target.tokens.tokens_BN, axis=1)
    tail_tokens_B = other.target.tokens.tokens_BN.sum(axis=1) - skipped_B
    frame_1T = jnp.arange(size_T)[None]
    last_B = jnp.where(other.target.word_BT >= 0, frame_1T, -1).max(axis=1)
    fits_B = (
        (count_B > 1)
        & batch.examples_B
        & other.examples_B
        & (cut_B < size_T)
        & (other_cut_B < size_T)
        & (last_B - other_cut_B + cut_B < size_T)
        & (heads_B + tail_tokens_B <= target.tokens.labels_BN.shape[1])
    )
    chosen_B = fits_B & jax.random.bernoulli(pick_key, probability, (size_B,))
    spliced = _joined(batch, other, place_B, (cut_B, other_cut_B), (heads_B, skipped_B))
    return jax.tree.map(
        lambda new, old: jnp.where(chosen_B.reshape(-1, *(1,) * (old.ndim - 1)), new, old), spliced, batch
    )


def _joined(batch: FaceBatch, other: FaceBatch, place_B, cuts: tuple[Array, Array], tokens: tuple[Array, Array]):
    """Every clip of the batch up to its cut, and then its neighbour from the neighbour's cut on."""
    frame_1T = jnp.arange(batch.frames_BT.shape[1])[None]
    from_head_BT = frame_1T < cuts[0][:, None]
    source_BT = frame_1T - cuts[0][:, None] + cuts[1][:, None]
    inside_BT: Bool[Array, "B T"] = source_BT < frame_1T.shape[1]
    source_BT = jnp.clip(source_BT, 0, frame_1T.shape[1] - 1)

    def join(a_BT, b_BT, outside):
        tail_BT = jnp.where(inside_BT, jnp.take_along_axis(b_BT, source_BT, axis=1), outside)
        return jnp.where(from_head_BT, a_BT, tail_BT)

    masks = {
        name: join(getattr(batch, name), getattr(other, name), False)
        for name in ("frames_BT", "detected_BT", "speech_BT")
    }
    tail_BTVC = _moved_face(other.landmarks_BTVC, other.frames_BT, batch.landmarks_BTVC, batch.frames_BT)
    rows_B1 = jnp.arange(len(place_B))[:, None]
    landmarks_BTVC = jnp.where(from_head_BT[..., None, None], batch.landmarks_BTVC, tail_BTVC[rows_B1, source_BT])
    mine, its = batch.target, other.target
    place_tokens = joined_tokens(
        Tokens(labels_BN=mine.place_BN, tokens_BN=mine.tokens.tokens_BN),
        Tokens(labels_BN=its.place_BN, tokens_BN=its.tokens.tokens_BN),
        *tokens,
    )
    joined = SentenceTarget(
        tokens=joined_tokens(mine.tokens, its.tokens, *tokens),
        words=joined_tokens(mine.words, its.words, place_B, place_B),
        word_BT=join(mine.word_BT, its.word_BT, -1),
        place_BN=place_tokens.labels_BN,
    )
    return dataclasses.replace(batch, landmarks_BTVC=landmarks_BTVC, target=joined, **masks)
