"""CTC prefix beam search (Graves, 2012, section 7.5.3; Hannun et al., arXiv:1408.2873), over all clips at once.

Every prefix in the beam carries the log-probability of its alignments that end in a blank and of those that end in its
last token. A prefix extended by a token may equal another one in the beam; those two are summed, nothing else is.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from jaxlip.decode.prefixes import ABOVE_ROOT, NO_PARENT, NOBODY, ROOT, Prefixes
from jaxlip.decode.scorers import Scorer
from jaxlip.errors import UserError

# W is the beam width, C the tokens tried in a frame.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """One token sequence; log-probabilities in nats, `score` = `ctc` + `lm` + `extra`."""

    tokens: tuple[int, ...]
    score: float
    ctc: float
    """log p(tokens | frames), over the alignments that stayed in the beam."""
    lm: float
    """Total of the scorer, its end included."""
    extra: float = 0.0
    """What rescoring added, times its weight."""


@dataclasses.dataclass(kw_only=True)
class _Beam:
    """Arrays [B, W]; a slot that holds no prefix has log-probabilities -inf and node NOBODY."""

    node: np.ndarray
    parent: np.ndarray
    last: np.ndarray
    """Last token; the blank for the empty prefix."""
    blank: np.ndarray
    """Log-probability of the alignments that end in a blank."""
    token: np.ndarray
    """The same of those that end in the last token."""
    lm: np.ndarray
    state: np.ndarray

    def first(self, clips: int) -> "_Beam":
        """Views of the first clips."""
        return _Beam(**{name: array[:clips] for name, array in vars(self).items()})

    def replace_first(self, other: "_Beam") -> None:
        for name, array in vars(other).items():
            getattr(self, name)[: len(array)] = array


def _initial(clips: int, width: int, blank: int, state: int) -> _Beam:
    shape = (clips, width)
    beam = _Beam(
        node=np.full(shape, NOBODY),
        parent=np.full(shape, NO_PARENT),
        last=np.full(shape, blank),
        blank=np.full(shape, -np.inf),
        token=np.full(shape, -np.inf),
        lm=np.zeros(shape),
        state=np.full(shape, state),
    )
    beam.node[:, 0], beam.parent[:, 0], beam.blank[:, 0] = ROOT, ABOVE_ROOT, 0
    return beam


def _tried(log_p_BK: np.ndarray, top_k: int | None, blank: int) -> np.ndarray:
    """Tokens that may extend a prefix in this frame [B, C]: the likeliest `top_k`, or all; never the blank."""
    size_B, size_K = log_p_BK.shape
    if top_k is None or top_k >= size_K - 1:
        return np.broadcast_to(np.delete(np.arange(size_K), blank), (size_B, size_K - 1))
    rivals_BK = log_p_BK.copy()
    rivals_BK[:, blank] = -np.inf
    # By id, so that ties do not hang on the order of the selection.
    return np.sort(np.argpartition(rivals_BK, size_K - top_k, axis=1)[:, size_K - top_k :], axis=1)


def _stays(beam: _Beam, total_BW, log_p_BK, tokens_BC, blank: int):
    """Prefixes that stay as they are: their two log-probabilities, and which extensions [B, W, C] they swallow.

    The last token of a prefix is never pruned: it costs nothing to keep.
    """
    last_BW = np.take_along_axis(log_p_BK, beam.last, axis=1)
    stay_blank_BW = total_BW + log_p_BK[:, blank, None]
    stay_token_BW = beam.token + last_BW
    swallowed_BWC = np.zeros((*beam.node.shape, tokens_BC.shape[1]), bool)
    b_N, child_N, parent_N = np.nonzero(beam.parent[:, :, None] == beam.node[:, None, :])
    if len(b_N):
        token_N = beam.last[b_N, child_N]
        repeats_N = beam.last[b_N, parent_N] == token_N
        from_N = np.where(repeats_N, beam.blank[b_N, parent_N], total_BW[b_N, parent_N]) + last_BW[b_N, child_N]
        # A prefix has one parent, so no (clip, child) occurs twice here.
        stay_token_BW[b_N, child_N] = np.logaddexp(stay_token_BW[b_N, child_N], from_N)
        n_M, c_M = np.nonzero(tokens_BC[b_N] == token_N[:, None])
        swallowed_BWC[b_N[n_M], parent_N[n_M], c_M] = True
    return stay_blank_BW, stay_token_BW, swallowed_BWC


def _extensions(beam: _Beam, total_BW, log_p_BK, tokens_BC, scorer: Scorer | None):
    """Every prefix extended by every token, each [B, W, C]: log-probability, scorer's total, scorer's state."""
    # A token after itself is a new one only behind a blank.
    is_last_BWC = tokens_BC[:, None, :] == beam.last[:, :, None]
    token_BWC = np.where(is_last_BWC, beam.blank[:, :, None], total_BW[:, :, None])
    token_BWC += np.take_along_axis(log_p_BK, tokens_BC, axis=1)[:, None, :]
    lm_BW1, state_BW1 = beam.lm[:, :, None], beam.state[:, :, None]
    if scorer is None:
        return token_BWC, np.broadcast_to(lm_BW1, token_BWC.shape), np.broadcast_to(state_BW1, token_BWC.shape)
    state_BWC, gain_BWC = scorer.extend(state_BW1, tokens_BC[:, None, :])
    return token_BWC, lm_BW1 + gain_BWC, state_BWC


def _scores(beam: _Beam, stays, extensions, tokens_BC, scorer: Scorer | None, left_B, blank: int):
    """What all prefixes are worth one frame on [B, W, C + 1], -inf for those that may not be.

    Column 0: a prefix stays as it is. Column c + 1: it is extended by the token c.
    """
    (stay_blank_BW, stay_token_BW, swallowed_BWC), (token_BWC, lm_BWC, _) = stays, extensions
    score_BWX = np.empty((*beam.node.shape, tokens_BC.shape[1] + 1))
    score_BWX[:, :, 0] = np.logaddexp(stay_blank_BW, stay_token_BW) + beam.lm
    np.add(token_BWC, lm_BWC, out=score_BWX[:, :, 1:])
    score_BWX[:, :, 1:][swallowed_BWC] = -np.inf
    if scorer is not None:
        tokens_BX = np.pad(tokens_BC, ((0, 0), (1, 0)), constant_values=blank)
        may_BWX = scorer.may_end(beam.state[:, :, None], tokens_BX[:, None, :], left_B[:, None, None])
        score_BWX[~may_BWX] = -np.inf
    return score_BWX


def _advance(beam: _Beam, log_p_BK, tokens_BC, scorer: Scorer | None, left_B, prefixes: Prefixes, blank: int) -> _Beam:
    """The beam one frame on, with `left_B` frames still to come: the best of what stays and what is extended."""
    size_W = beam.node.shape[1]
    total_BW = np.logaddexp(beam.blank, beam.token)
    stay_blank_BW, stay_token_BW, _ = stays = _stays(beam, total_BW, log_p_BK, tokens_BC, blank)
    token_BWC, lm_BWC, state_BWC = extensions = _extensions(beam, total_BW, log_p_BK, tokens_BC, scorer)
    score_BWX = _scores(beam, stays, extensions, tokens_BC, scorer, left_B, blank)
    score_BX = score_BWX.reshape(len(score_BWX), -1)
    best_BW = np.argpartition(score_BX, score_BX.shape[1] - size_W, axis=1)[:, -size_W:]
    alive_BW = np.take_along_axis(score_BX, best_BW, axis=1) > -np.inf
    from_BW, column_BW = np.divmod(best_BW, tokens_BC.shape[1] + 1)
    born_BW, kept_BW = alive_BW & (column_BW > 0), alive_BW & (column_BW == 0)
    rows_B1 = np.arange(len(from_BW))[:, None]
    grown = rows_B1, from_BW, column_BW - 1

    old = _Beam(**{name: array[rows_B1, from_BW] for name, array in vars(beam).items()})
    new = _Beam(
        node=np.where(kept_BW, old.node, NOBODY),
        parent=np.where(kept_BW, old.parent, np.where(born_BW, old.node, NO_PARENT)),
        last=np.where(born_BW, tokens_BC[rows_B1, column_BW - 1], np.where(kept_BW, old.last, blank)),
        blank=np.where(kept_BW, stay_blank_BW[rows_B1, from_BW], -np.inf),
        token=np.where(born_BW, token_BWC[grown], np.where(kept_BW, stay_token_BW[rows_B1, from_BW], -np.inf)),
        lm=np.where(born_BW, lm_BWC[grown], old.lm),
        state=np.where(born_BW, state_BWC[grown], old.state),
    )
    new.node[born_BW] = prefixes.extend(new.parent[born_BW], new.last[born_BW])
    return new


def _best(beam: _Beam, scorer: Scorer | None, prefixes: Prefixes, nbest: int) -> list[list[Hypothesis]]:
    """The hypotheses that may end here, best first."""
    ctc_BW = np.logaddexp(beam.blank, beam.token)
    lm_BW = beam.lm if scorer is None else beam.lm + scorer.finish(beam.state)
    score_BW = ctc_BW + lm_BW
    order_BN = np.argsort(-score_BW, axis=1, kind="stable")[:, :nbest]
    return [
        [
            Hypothesis(
                tokens=prefixes.spell(int(beam.node[b, w])),
                score=float(score_BW[b, w]),
                ctc=float(ctc_BW[b, w]),
                lm=float(lm_BW[b, w]),
            )
            for w in order_N
            if score_BW[b, w] > -np.inf
        ]
        for b, order_N in enumerate(order_BN)
    ]


def _check(log_p_BTK, frames_BT, width: int, top_k: int | None, nbest: int) -> None:
    for name, value in (("width", width), ("top_k", top_k), ("nbest", nbest)):
        if value is not None and value < 1:
            raise UserError(f"beam search: {name}={value} must be 1 or more; set {name} to a positive number.")
    if log_p_BTK.shape[2] < 2:
        raise ValueError(f"log_p_BTK of shape {log_p_BTK.shape} has no token beside the blank")
    highest = log_p_BTK.max(axis=2, initial=-np.inf, where=frames_BT[:, :, None]).max(initial=-np.inf)
    if not highest < 0.01:
        raise ValueError(f"log_p_BTK has {highest} in a real frame, which is no log-probability; use log_softmax")


def beam_search(
    log_p_BTK: Float[np.ndarray, "B T K"],
    frames_BT: Bool[np.ndarray, "B T"],
    *,
    width: int,
    top_k: int | None = None,
    scorer: Scorer | None = None,
    nbest: int = 1,
    blank: int = 0,
) -> list[list[Hypothesis]]:
    """Up to `nbest` hypotheses of every clip, best first and distinct; none where no prefix in the beam may end.

    A grammar never gives an empty list where a sentence of it fits into the frames and nothing that it needs is pruned
    or impossible: prefixes that can no longer end in time leave the beam (`Scorer.may_end`).

    log_p_BTK: log-probabilities (nats), -inf allowed. frames_BT: True = real; a frame that is not is cut out wherever
    it stands. `width`: prefixes kept a clip. `top_k`: only so many tokens, the likeliest of the frame, may extend a
    prefix; None: all. `scorer` adds to the score of a prefix and forbids prefixes by -inf (`jaxlip.decode.scorers`).
    Raises UserError for a `width`, `top_k` or `nbest` below 1, ValueError for arrays that are no log-probabilities.
    """
    _check(log_p_BTK, frames_BT, width, top_k, nbest)
    # Longest clips first, so that those still running are the first rows; real frames first, in their order.
    lengths_B = frames_BT.sum(axis=1)
    clips_B = np.argsort(-lengths_B, kind="stable")
    frames_BT = np.argsort(~frames_BT[clips_B], axis=1, kind="stable")
    running_T = (lengths_B[None] > np.arange(lengths_B.max(initial=0))[:, None]).sum(axis=1)
    prefixes = Prefixes()
    beam = _initial(len(log_p_BTK), width, blank, 0 if scorer is None else scorer.start())
    for t, running in enumerate(running_T.tolist()):
        log_p_BK = log_p_BTK[clips_B[:running], frames_BT[:running, t]].astype(np.float64)
        tokens_BC = _tried(log_p_BK, top_k, blank)
        left_B = lengths_B[clips_B[:running]] - t - 1
        beam.replace_first(_advance(beam.first(running), log_p_BK, tokens_BC, scorer, left_B, prefixes, blank))
    hypotheses = _best(beam, scorer, prefixes, nbest)
    place_of = np.argsort(clips_B)
    return [hypotheses[place] for place in place_of]
