"""The worst mistakes of a model, to be looked at. NumPy."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxlip.metrics.edit_distance import align_tokens
from jaxlip.metrics.scores import Mistake

SHOWN = 8


def worst_words(
    logits_NK: Float[np.ndarray, "N K"], truth_N: Int[np.ndarray, " N"], names: Sequence[str], classes: Sequence[str]
) -> tuple[Mistake, ...]:
    """Wrong answers in which the truth had the smallest probability."""
    p_NK = probabilities(logits_NK)
    guess_N, of_truth_N = p_NK.argmax(axis=1), p_NK[np.arange(len(truth_N)), truth_N]
    wrong_M = np.flatnonzero(guess_N != truth_N)
    return tuple(
        Mistake(
            index=int(n),
            example=names[int(n)],
            truth=classes[int(truth_N[n])],
            answer=classes[int(guess_N[n])],
            note=f"probability {p_NK[n, guess_N[n]]:.2f}, of the truth {of_truth_N[n]:.3f}",
        )
        for n in wrong_M[np.argsort(of_truth_N[wrong_M], kind="stable")][:SHOWN]
    )


def worst_sentences(said: Sequence[str], read: Sequence[str], names: Sequence[str]) -> tuple[Mistake, ...]:
    """Transcripts with the most wrong words for their length."""
    edits_N = [align_tokens(a.split(), b.split()).edits for a, b in zip(said, read, strict=True)]
    order = sorted(range(len(said)), key=lambda n: (-edits_N[n] / max(len(said[n].split()), 1), n))
    return tuple(
        Mistake(
            index=n,
            example=names[n],
            truth=said[n],
            answer=read[n],
            note=f"{edits_N[n]} wrong of {len(said[n].split())} words",
        )
        for n in order[:SHOWN]
        if edits_N[n]
    )


def probabilities(logits_NK: np.ndarray) -> np.ndarray:
    odds_NK = np.exp(np.asarray(logits_NK, np.float64) - logits_NK.max(axis=1, keepdims=True))
    return odds_NK / odds_NK.sum(axis=1, keepdims=True)


def reliability(logits_NK: Float[np.ndarray, "N K"], truth_N: Int[np.ndarray, " N"], bins: int = 10) -> list[dict]:
    """Answers by their probability: the mean of it, and the part that is right, in bins of equal width."""
    p_NK = probabilities(logits_NK)
    p_N, right_N = p_NK.max(axis=1), p_NK.argmax(axis=1) == truth_N
    bin_N = np.minimum((p_N * bins).astype(int), bins - 1)
    return [
        {"confidence": float(p_N[in_N].mean()), "right": float(right_N[in_N].mean()), "examples": int(in_N.sum())}
        for in_N in (bin_N == b for b in range(bins))
        if in_N.any()
    ]
