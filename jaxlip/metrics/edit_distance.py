"""Levenshtein distance with unit costs: alignments and many distances at once in NumPy, greedy CTC's inside jit in JAX.

Every recursion goes token by token through the hypothesis, with a whole row of the table at once: S = N + 1 columns,
one for each prefix of the reference. Within a row a cell may come from its left neighbour by one deletion:
row[j] = min over k <= j of (cell[k] + j - k), a cumulative minimum of cell[k] - k. Where references are masked, k and j
count real tokens: a padded column costs nothing and equals its left neighbour, so that the last column is the distance.
"""

import dataclasses
from collections.abc import Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alignment:
    """How a hypothesis differs from its reference; `pairs` in order, (reference or None, hypothesis or None)."""

    hits: int
    substitutions: int
    insertions: int
    deletions: int
    pairs: tuple[tuple[Hashable, Hashable], ...]

    @property
    def edits(self) -> int:
        """The Levenshtein distance."""
        return self.substitutions + self.insertions + self.deletions


def align_tokens(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Alignment:
    """The alignment with the fewest edits, and of those one with the most hits, so that all four counts are unique.

    Other tools break ties by chance: ("a b", "b c") is two substitutions to some; here it is a deletion, a hit and an
    insertion. Of equal alignments the one that pairs tokens nearest the end is taken. Tokens must not be None.
    """
    id_of: dict[Hashable, int] = {}
    reference_N, hypothesis_M = (_ids(tokens, id_of) for tokens in (reference, hypothesis))
    edit = min(len(reference), len(hypothesis)) + 1
    cost_MN = _cost_table(reference_N, hypothesis_M, edit).tolist()
    pairs: list[tuple[Hashable, Hashable]] = []
    m, n = len(hypothesis), len(reference)
    while m or n:
        same = m > 0 and n > 0 and reference_N[n - 1] == hypothesis_M[m - 1]
        if m and n and cost_MN[m][n] == cost_MN[m - 1][n - 1] + (-1 if same else edit):
            m, n = m - 1, n - 1
            # The pair of a hit is the reference's token twice, though two equal tokens need not be identical.
            pairs.append((reference[n], reference[n] if same else hypothesis[m]))
        elif n and cost_MN[m][n] == cost_MN[m][n - 1] + edit:
            n -= 1
            pairs.append((reference[n], None))
        else:
            m -= 1
            pairs.append((None, hypothesis[m]))
    deletions = sum(b is None for _, b in pairs)
    insertions = sum(a is None for a, _ in pairs)
    hits = sum(a == b for a, b in pairs)
    return Alignment(
        hits=hits,
        substitutions=len(pairs) - hits - insertions - deletions,
        insertions=insertions,
        deletions=deletions,
        pairs=tuple(reversed(pairs)),
    )


def _ids(tokens: Sequence[Hashable], id_of: dict[Hashable, int]) -> Int[np.ndarray, " N"]:
    return np.array([id_of.setdefault(token, len(id_of)) for token in tokens], np.int32)


def _cost_table(reference_N: np.ndarray, hypothesis_M: np.ndarray, edit: int) -> np.ndarray:
    """Least cost [M + 1, N + 1] of each pair of prefixes: an edit costs more than all hits together gain (1 each)."""
    edits_S = edit * np.arange(len(reference_N) + 1)
    rows = [edits_S]
    for token in hypothesis_M:
        cell_S = rows[-1] + edit
        cell_S[1:] = np.minimum(cell_S[1:], rows[-1][:-1] + np.where(reference_N == token, -1, edit))
        rows.append(np.minimum.accumulate(cell_S - edits_S) + edits_S)
    return np.stack(rows)


def prefix_rows(
    references_RN: Int[np.ndarray, "R N"], tokens_RN: Bool[np.ndarray, "R N"], hypothesis_M: Sequence[int] | np.ndarray
) -> list[Int[np.ndarray, "R S"]]:
    """Distance of every prefix of one hypothesis (M + 1 rows) to every prefix of many references (S columns)."""
    rows = [count_tokens(tokens_RN)]
    references_RN = np.where(tokens_RN, references_RN, -1)
    for token in hypothesis_M:
        rows.append(next_row(rows[-1], token, references_RN, rows[0]))
    return rows


def count_tokens(tokens_RN: Bool[np.ndarray, "R N"]) -> Int[np.ndarray, "R S"]:
    """Real tokens in every prefix, which is its distance to nothing."""
    return np.pad(np.cumsum(tokens_RN, axis=1, dtype=np.int32), ((0, 0), (1, 0)))


def next_row(
    row_RS: np.ndarray, token: int | np.ndarray, references_RN: np.ndarray, count_RS: np.ndarray
) -> np.ndarray:
    """The row after one more hypothesis token (one for all, or [R, 1]), which must never equal their padding."""
    cell_RS = row_RS + 1
    np.minimum(cell_RS[:, 1:], row_RS[:, :-1] + (references_RN != token), out=cell_RS[:, 1:])
    return np.minimum.accumulate(cell_RS - count_RS, axis=1) + count_RS


def distances(
    references_RN: Int[np.ndarray, "R N"], tokens_RN: Bool[np.ndarray, "R N"], hypothesis_M: Sequence[int] | np.ndarray
) -> Int[np.ndarray, " R"]:
    """Distance of ONE hypothesis (ids, 0 or more) to many references, real where `tokens_RN` is True."""
    return prefix_rows(references_RN, tokens_RN, hypothesis_M)[-1][:, -1]


def pair_distances(
    references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]
) -> Int[np.ndarray, " R"]:
    """Distance of each hypothesis to its own reference, all at once. Raises ValueError if they are not as many."""
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references for {len(hypotheses)} hypotheses")
    id_of: dict[Hashable, int] = {}
    references_RN, tokens_RN = pad_ids([_ids(tokens, id_of) for tokens in references])
    hypotheses_RM, emitted_RM = pad_ids([_ids(tokens, id_of) for tokens in hypotheses])
    references_RN = np.where(tokens_RN, references_RN, -1)
    row_RS = count_RS = count_tokens(tokens_RN)
    for m in range(hypotheses_RM.shape[1]):
        next_RS = next_row(row_RS, hypotheses_RM[:, m, None], references_RN, count_RS)
        row_RS = np.where(emitted_RM[:, m, None], next_RS, row_RS)
    return row_RS[:, -1]


def pad_ids(
    sequences: Sequence[Sequence[int] | np.ndarray],
) -> tuple[Int[np.ndarray, "R N"], Bool[np.ndarray, "R N"]]:
    """Sequences of ids, padded on the right, and the mask of what is real."""
    lengths_R = np.array([len(sequence) for sequence in sequences], int)
    tokens_RN = np.arange(lengths_R.max(initial=0))[None] < lengths_R[:, None]
    ids_RN = np.zeros(tokens_RN.shape, np.int32)
    ids_RN[tokens_RN] = [token for sequence in sequences for token in sequence]
    return ids_RN, tokens_RN


def greedy_tokens(
    logits_BTK: Float[Array, "B T K"], frames_BT: Bool[Array, "B T"], blank: int = 0
) -> tuple[Int[Array, "B T"], Bool[Array, "B T"]]:
    """Best path of CTC (Graves et al., ICML 2006, eq. 4), collapsed in place: tokens, and the frames that emit them.

    A frame emits if its best class is not the blank and differs from that of the real frame before it, wherever the
    frames that are not real lie. Frames that emit nothing hold the blank.
    """
    best_BT = jnp.argmax(logits_BTK, axis=-1).astype(jnp.int32)
    frame_BT = jnp.where(frames_BT, jnp.arange(frames_BT.shape[1])[None], -1)
    before_BT = jnp.pad(jax.lax.cummax(frame_BT, axis=1)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    same_BT = jnp.take_along_axis(best_BT, jnp.maximum(before_BT, 0), axis=1) == best_BT
    emitted_BT = frames_BT & (best_BT != blank) & ~(same_BT & (before_BT >= 0))
    return jnp.where(emitted_BT, best_BT, blank), emitted_BT


def masked_edit_distance(
    hypothesis_BT: Int[Array, "B T"],
    emitted_BT: Bool[Array, "B T"],
    reference_BN: Int[Array, "B N"],
    tokens_BN: Bool[Array, "B N"],
) -> Int[Array, " B"]:
    """Distance between the real tokens of two padded sequences, for use inside jit; any masks, prefixes or not.

    Frames that emit nothing pass the row through, so that `greedy_tokens` need not be compacted.
    """
    count_BS = jnp.pad(jnp.cumsum(tokens_BN, axis=1, dtype=jnp.int32), ((0, 0), (1, 0)))

    def frame(row_BS, inputs):
        token_B, emitted_B = inputs
        same_BN = tokens_BN & (reference_BN == token_B[:, None])
        paired_BN = row_BS[:, :-1] + (~same_BN).astype(jnp.int32)
        cell_BS = jnp.concatenate([row_BS[:, :1] + 1, jnp.minimum(row_BS[:, 1:] + 1, paired_BN)], axis=1)
        next_BS = jax.lax.cummin(cell_BS - count_BS, axis=1) + count_BS
        return jnp.where(emitted_B[:, None], next_BS, row_BS), None

    row_BS, _ = jax.lax.scan(frame, count_BS, (hypothesis_BT.T, emitted_BT.T))
    return row_BS[:, -1]
