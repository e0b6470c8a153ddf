"""Best path decoding of CTC posteriors (Graves et al., ICML 2006): the likeliest token of every frame, collapsed."""

import numpy as np
from jaxtyping import Bool, Float


def greedy(
    log_p_BTK: Float[np.ndarray, "B T K"], frames_BT: Bool[np.ndarray, "B T"], *, blank: int = 0
) -> list[tuple[int, ...]]:
    """Token ids of every clip: runs of one token count once, blanks not at all.

    Logits do as well as log-probabilities. frames_BT: True = real; a frame that is not is cut out wherever it stands,
    so that a token on both of its sides is one run.
    """
    clip_F, _ = np.nonzero(frames_BT)
    best_F = log_p_BTK[frames_BT].argmax(axis=-1)
    starts_F = np.ones(len(best_F), bool)
    starts_F[1:] = (best_F[1:] != best_F[:-1]) | (clip_F[1:] != clip_F[:-1])
    said_F = starts_F & (best_F != blank)
    counts_B = np.bincount(clip_F[said_F], minlength=len(frames_BT))
    pieces = np.split(best_F[said_F], np.cumsum(counts_B)[:-1])
    return [tuple(piece.tolist()) for piece in pieces[: len(frames_BT)]]
