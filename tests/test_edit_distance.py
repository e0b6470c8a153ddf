"""Edit distances, alignments and greedy CTC against brute force, the textbook's table and jiwer."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.metrics.edit_distance import (
    align_tokens,
    distances,
    greedy_tokens,
    masked_edit_distance,
    pad_ids,
    pair_distances,
    prefix_rows,
)

B, T, N, K = 16, 9, 5, 4
TOKENS = st.lists(st.integers(0, 3), max_size=7)


def textbook(reference, hypothesis):
    """Wagner and Fischer (1974), a cell at a time."""
    table = {(i, 0): i for i in range(len(reference) + 1)} | {(0, j): j for j in range(len(hypothesis) + 1)}
    for i, a in enumerate(reference, start=1):
        for j, b in enumerate(hypothesis, start=1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a != b))
    return table[len(reference), len(hypothesis)]


def best_by_force(reference, hypothesis):
    """Fewest edits, and most hits with them, over every way of pairing k tokens of one with k of the other in order."""
    found = []
    for k in range(min(len(reference), len(hypothesis)) + 1):
        for a in itertools.combinations(reference, k):
            for b in itertools.combinations(hypothesis, k):
                hits = sum(x == y for x, y in zip(a, b, strict=True))
                found.append((len(reference) + len(hypothesis) - k - hits, -hits))
    edits, hits = min(found)
    return edits, -hits


def real(tokens, mask):
    return [int(token) for token, kept in zip(tokens, mask, strict=True) if kept]


# Alignments


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts", "pairs"),
    [
        ("", "", (0, 0, 0, 0), ""),
        ("a b", "", (0, 0, 0, 2), "a- b-"),
        ("", "a b", (0, 0, 2, 0), "-a -b"),
        ("a b c", "a b c", (3, 0, 0, 0), "aa bb cc"),
        ("a b c", "a x c", (2, 1, 0, 0), "aa bx cc"),
        ("a b c", "a c", (2, 0, 0, 1), "aa b- cc"),
        ("a c", "a b c", (2, 0, 1, 0), "aa -b cc"),
        # Two substitutions would be as few edits; a hit is worth more.
        ("a b", "b c", (1, 0, 1, 1), "a- bb -c"),
        # Of equal alignments, the one that pairs what is nearest the end.
        ("a b", "c", (0, 1, 0, 1), "a- bc"),
        ("a", "a a", (1, 0, 1, 0), "-a aa"),
    ],
)
def test_alignments_by_hand(reference, hypothesis, counts, pairs):
    got = align_tokens(reference.split(), hypothesis.split())
    assert (got.hits, got.substitutions, got.insertions, got.deletions) == counts
    assert got.pairs == tuple(tuple(None if x == "-" else x for x in pair) for pair in pairs.split())
    assert got.edits == sum(counts[1:])


@settings(max_examples=80, deadline=None)
@given(TOKENS, TOKENS)
def test_alignment_is_of_fewest_edits_and_most_hits(reference, hypothesis):
    got = align_tokens(reference, hypothesis)
    assert (got.edits, got.hits) == best_by_force(reference, hypothesis)
    assert got.edits == textbook(reference, hypothesis)


@settings(max_examples=80, deadline=None)
@given(st.text("abc d", max_size=30), st.text("abc d", max_size=30))
def test_alignment_holds_both_sequences_and_its_own_counts(reference, hypothesis):
    got = align_tokens(reference, hypothesis)
    assert [a for a, _ in got.pairs if a is not None] == list(reference)
    assert [b for _, b in got.pairs if b is not None] == list(hypothesis)
    assert got.hits == sum(a == b for a, b in got.pairs)
    assert got.hits + got.substitutions + got.deletions == len(reference)
    assert got.hits + got.substitutions + got.insertions == len(hypothesis)
    assert got == align_tokens(reference, hypothesis)
    back = align_tokens(reference[::-1], hypothesis[::-1])
    assert (back.hits, back.substitutions) == (got.hits, got.substitutions)


def test_any_hashable_is_a_token():
    got = align_tokens([("a", 1), 2.5, frozenset()], [("a", 1), frozenset()])
    assert got.pairs == ((("a", 1), ("a", 1)), (2.5, None), (frozenset(), frozenset()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_alignment_against_jiwer(reference, hypothesis):
    jiwer = pytest.importorskip("jiwer")
    want = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    got = align_tokens(reference, hypothesis)
    assert got.edits == want.substitutions + want.insertions + want.deletions
    # jiwer breaks ties between equal distances in its own way, with no more hits.
    assert got.hits >= want.hits and got.insertions - got.deletions == want.insertions - want.deletions


# Many at once


@settings(max_examples=60, deadline=None)
@given(st.lists(TOKENS, min_size=1, max_size=6), TOKENS)
def test_distances_of_one_to_many(references, hypothesis):
    ids_RN, tokens_RN = pad_ids(references)
    want = [textbook(reference, hypothesis) for reference in references]
    assert distances(ids_RN, tokens_RN, hypothesis).tolist() == want
    assert distances(ids_RN[:, ::-1], tokens_RN[:, ::-1], hypothesis[::-1]).tolist() == want


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text("ab ", max_size=7), st.text("ab ", max_size=7)), min_size=1, max_size=6))
def test_distances_pair_by_pair(pairs):
    references, hypotheses = zip(*pairs, strict=True)
    assert pair_distances(references, hypotheses).tolist() == list(itertools.starmap(textbook, pairs))


def test_rows_are_the_distances_of_all_prefixes():
    rows = prefix_rows(*pad_ids([[1, 2, 3], [2, 1]]), [3, 2, 1])
    for m, row_RS in enumerate(rows):
        assert row_RS[0].tolist() == [textbook([1, 2, 3][:n], [3, 2, 1][:m]) for n in range(4)]
        # Padding repeats its left neighbour.
        assert row_RS[1].tolist() == [textbook([2, 1][:n], [3, 2, 1][:m]) for n in (0, 1, 2, 2)]


def test_nothing_to_pair_or_as_many():
    assert pair_distances([], []).tolist() == [] and pair_distances([""], [""]).tolist() == [0]
    with pytest.raises(ValueError, match="1 references for 2 hypotheses"):
        pair_distances(["a"], ["a", "b"])


# Inside jit


@functools.partial(jax.jit, static_argnames="blank")
def greedy(logits_BTK, frames_BT, blank=0):
    return greedy_tokens(logits_BTK, frames_BT, blank)


distance = jax.jit(masked_edit_distance)


def collapse(path, blank):
    """CTC's map from a path to its labelling: merge repeats, then drop blanks."""
    return [token for token, _ in itertools.groupby(path) if token != blank]


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_greedy_tokens_under_any_mask(seed, blank):
    rng = np.random.default_rng(seed)
    path_BT, frames_BT = rng.integers(0, 3, (B, T)), rng.random((B, T)) < 0.7
    frames_BT[0], frames_BT[1] = True, False
    logits_BTK = np.eye(K, dtype=np.float32)[path_BT] * 2 + rng.random((B, T, K), np.float32)
    tokens_BT, emitted_BT = greedy(jnp.asarray(logits_BTK), jnp.asarray(frames_BT), blank=blank)
    assert tokens_BT.shape == emitted_BT.shape == (B, T)
    for b in range(B):
        want = collapse(real(path_BT[b], frames_BT[b]), blank)
        assert real(tokens_BT[b], emitted_BT[b]) == want
    assert (np.asarray(tokens_BT)[~np.asarray(emitted_BT)] == blank).all()
    assert not np.asarray(emitted_BT)[~frames_BT].any()


def test_what_lies_under_the_mask_is_not_read():
    # A repeat across frames that are not real is one token; a blank between them makes it two.
    logits_BTK = jnp.eye(3)[jnp.array([[1, 2, 1, 0, 1, 1]])] * 5
    for frames, want in (((1, 0, 1, 1, 1, 1), [1, 1]), ((1, 0, 1, 0, 1, 1), [1]), ((0, 1, 1, 1, 0, 0), [2, 1])):
        frames_BT = jnp.array([frames], bool)
        tokens_BT, emitted_BT = greedy(jnp.where(frames_BT[..., None], logits_BTK, jnp.nan), frames_BT)
        assert real(tokens_BT[0], emitted_BT[0]) == want


def random_case(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((B, T)) < 0.6, rng.random((B, N)) < 0.7
    masks[0][0], masks[1][1] = False, False
    return rng.integers(0, 3, (B, T)), masks[0], rng.integers(0, 3, (B, N)), masks[1]


@pytest.mark.parametrize("seed", range(10))
def test_masked_distance_against_the_textbook(seed):
    hypothesis_BT, emitted_BT, reference_BN, tokens_BN = random_case(seed)
    got_B = distance(*map(jnp.asarray, (hypothesis_BT, emitted_BT, reference_BN, tokens_BN)))
    want = [textbook(real(reference_BN[b], tokens_BN[b]), real(hypothesis_BT[b], emitted_BT[b])) for b in range(B)]
    assert got_B.dtype == jnp.int32 and got_B.tolist() == want


def test_masked_distance_does_not_depend_on_padding_or_batch():
    hypothesis_BT, emitted_BT, reference_BN, tokens_BN = random_case(0)
    want = distance(*map(jnp.asarray, (hypothesis_BT, emitted_BT, reference_BN, tokens_BN))).tolist()
    wider = [np.pad(x, ((0, 0), (0, 4)), constant_values=0) for x in (reference_BN, tokens_BN)]
    assert distance(*map(jnp.asarray, (hypothesis_BT, emitted_BT, *wider))).tolist() == want
    one = [jnp.asarray(x[3:4]) for x in (hypothesis_BT, emitted_BT, reference_BN, tokens_BN)]
    assert distance(*one).tolist() == want[3:4]


def test_an_empty_reference_costs_what_is_emitted():
    hypothesis_BT, emitted_BT, _, _ = map(jnp.asarray, random_case(0))
    nothing = jnp.zeros((B, 0), int), jnp.zeros((B, 0), bool)
    assert distance(hypothesis_BT, emitted_BT, *nothing).tolist() == emitted_BT.sum(axis=1).tolist()


def test_greedy_path_scored_in_place():
    rng = np.random.default_rng(0)
    logits_BTK, frames_BT = rng.normal(size=(B, T, K)).astype(np.float32), rng.random((B, T)) < 0.8
    _, _, reference_BN, tokens_BN = random_case(1)
    tokens_BT, emitted_BT = greedy(jnp.asarray(logits_BTK), jnp.asarray(frames_BT))
    got_B = distance(tokens_BT, emitted_BT, jnp.asarray(reference_BN), jnp.asarray(tokens_BN))
    for b in range(B):
        path = collapse(real(logits_BTK[b].argmax(-1), frames_BT[b]), 0)
        assert got_B[b] == textbook(real(reference_BN[b], tokens_BN[b]), path)
