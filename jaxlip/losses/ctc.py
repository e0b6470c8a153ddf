"""Connectionist temporal classification (Graves et al., ICML 2006): loss, posteriors, forced alignment.

Emissions of the blank and of the labels are gathered once from the logits, and the lattice (`ctc_lattice`) runs over
them alone. The gradient of the loss is softmax minus posterior, so nothing is differentiated through time.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxlip.losses.ctc_lattice import skips
from jaxlip.losses.ctc_pallas import lattice_for

LOG_ZERO = -1e30


def feasible(
    frames_BT: Bool[Array, "B T"], labels_BN: Int[Array, "B N"], tokens_BN: Bool[Array, "B N"]
) -> Bool[Array, " B"]:
    """Whether the real frames can hold the target: one a token, and one blank between two equal neighbours."""
    repeats_BN = tokens_BN[:, 1:] & (labels_BN[:, 1:] == labels_BN[:, :-1])
    return frames_BT.sum(axis=1) >= tokens_BN.sum(axis=1) + repeats_BN.sum(axis=1)


def _emissions(logits_BTK, frames_BT, labels_BN, tokens_BN, blank):
    """Log probabilities of the blank [T, B] and the labels [T, N, B]; maximum and log of the sum [B, T] of the softmax.

    Zero in frames that are not real.
    """
    logits_BTK = logits_BTK.astype(jnp.promote_types(logits_BTK.dtype, jnp.float32))
    top_BT = logits_BTK.max(axis=-1)
    log_sum_BT = jnp.log(jnp.sum(jnp.exp(logits_BTK - top_BT[..., None]), axis=-1))
    safe_BN = jnp.where(tokens_BN, labels_BN, blank)
    label_BTN = jnp.take_along_axis(logits_BTK, safe_BN[:, None], axis=-1, mode="clip")
    # The two are kept apart: their sum would lose the digits of the log where logits are large.
    label_BTN = label_BTN - top_BT[..., None] - log_sum_BT[..., None]
    label_BTN = jnp.where(tokens_BN[:, None], jnp.maximum(label_BTN, LOG_ZERO), LOG_ZERO)
    blank_BT = jnp.maximum(logits_BTK[..., blank] - top_BT - log_sum_BT, LOG_ZERO)
    label_TNB = jnp.where(frames_BT[..., None], label_BTN, 0).transpose(1, 2, 0)
    return (jnp.where(frames_BT, blank_BT, 0).T, label_TNB), (top_BT, log_sum_BT)


def _lattice(emissions, frames_BT, labels_BN, tokens_BN, backend, posteriors):
    """Losses [B] and whether they count [B]; with `posteriors` those of blank [T, B] and tokens [T, N, B]."""
    size_T, size_N, size_B = emissions[1].shape
    lattice = lattice_for(backend, size_B, size_T, size_N, emissions[1].dtype.name)
    log_p_B, *rest = lattice(*emissions, frames_BT, labels_BN, tokens_BN, posteriors=posteriors)
    fits_B = feasible(frames_BT, labels_BN, tokens_BN)
    return jnp.where(fits_B, -log_p_B, 0), fits_B & jnp.isfinite(log_p_B), *rest


def _solve(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend):
    """Losses [B], posteriors of blank [B, T] and tokens [B, T, N], the frames used [B, T], the softmax's two parts."""
    emissions, softmax = _emissions(logits_BTK, frames_BT, labels_BN, tokens_BN, blank)
    loss_B, used_B, blank_TB, token_TNB = _lattice(emissions, frames_BT, labels_BN, tokens_BN, backend, True)
    used_BT = frames_BT & used_B[:, None]
    blank_BT = jnp.where(used_BT, blank_TB.T, 0)
    token_BTN = jnp.where(used_BT[..., None], token_TNB.transpose(2, 0, 1), 0)
    return loss_B, blank_BT, token_BTN, used_BT, softmax


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _loss(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend):
    emissions, _ = _emissions(logits_BTK, frames_BT, labels_BN, tokens_BN, blank)
    return _lattice(emissions, frames_BT, labels_BN, tokens_BN, backend, False)[0]


def _loss_forward(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend):
    loss_B, *rest = _solve(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend)
    return loss_B, (logits_BTK, labels_BN, tokens_BN, *rest)


def _loss_backward(blank, backend, residuals, d_loss_B):
    """(softmax - posteriors) times the cotangent."""
    logits_BTK, labels_BN, tokens_BN, blank_BT, token_BTN, used_BT, (top_BT, log_sum_BT) = residuals
    size_K, size_N = logits_BTK.shape[2], labels_BN.shape[1]
    p_BTK = jnp.exp(logits_BTK.astype(top_BT.dtype) - top_BT[..., None] - log_sum_BT[..., None])
    p_BTK = p_BTK - jnp.where(jnp.arange(size_K)[None, None] == blank, blank_BT[..., None], 0)
    d_BTK = jnp.where(used_BT[..., None], p_BTK * d_loss_B[:, None, None], 0)
    # Equal labels are summed at the first of them, so that no two updates meet and the sums are the same in every run.
    earlier_NN = jnp.arange(size_N)[:, None] > jnp.arange(size_N)[None]
    same_BNN = (labels_BN[:, :, None] == labels_BN[:, None]) & tokens_BN[:, None]
    first_BN = tokens_BN & ~jnp.any(same_BNN & earlier_NN[None], axis=2)
    onto_BNN = (same_BNN & first_BN[:, None]).astype(d_loss_B.dtype)
    token_BTN = jnp.einsum("btn,bnm->btm", token_BTN * d_loss_B[:, None, None], onto_BNN, precision="highest")
    # Each of the others goes to a place of its own outside the array, where it is dropped.
    places_BN = jnp.where(first_BN, labels_BN, size_K + jnp.arange(size_N)[None])

    def subtract(d_TK, places_N, token_TN):
        return d_TK.at[:, places_N].add(-token_TN, mode="drop", unique_indices=True)

    return jax.vmap(subtract)(d_BTK, places_BN, token_BTN).astype(logits_BTK.dtype), None, None, None


_loss.defvjp(_loss_forward, _loss_backward)


def ctc_loss(
    logits_BTK: Float[Array, "B T K"],
    frames_BT: Bool[Array, "B T"],
    labels_BN: Int[Array, "B N"],
    tokens_BN: Bool[Array, "B N"],
    *,
    blank: int = 0,
    backend: str = "auto",
) -> Float[Array, " B"]:
    """-log p(labels | logits) in nats, summed over all alignments, of every example.

    frames_BT: True = real; a frame that is not is skipped wherever it stands. tokens_BN: True = real, a prefix. float32
    inside (float64 for float64); the gradient comes in the logits' type. A target that its frames cannot hold (see
    `feasible`) has zero loss and zero gradient, to be counted by the caller; one of probability 0 has loss inf.
    """
    return _loss(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend)


def ctc_posteriors(
    logits_BTK: Float[Array, "B T K"],
    frames_BT: Bool[Array, "B T"],
    labels_BN: Int[Array, "B N"],
    tokens_BN: Bool[Array, "B N"],
    *,
    blank: int = 0,
    backend: str = "auto",
) -> tuple[Float[Array, " B"], Float[Array, "B T N"], Float[Array, "B T"]]:
    """The losses, and the posterior probability of every token and of the blank (all its states) in every frame.

    Over tokens and blank they sum to 1 in real frames; zero in others and in examples that are infeasible.
    """
    loss_B, blank_BT, token_BTN, *_ = _solve(logits_BTK, frames_BT, labels_BN, tokens_BN, blank, backend)
    return loss_B, token_BTN, blank_BT


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Alignment:
    """The likeliest path through the lattice. Zero for what is not a token, and in infeasible examples."""

    first_BN: Int[Array, "B N"]  # the token's first frame, counted on the given frame axis
    end_BN: Int[Array, "B N"]  # one past its last frame
    confidence_BN: Float[Array, "B N"]  # mean of softmax(logits) at the token over its frames, in [0, 1]
    log_p_B: Float[Array, " B"]  # log probability of the path; -inf in infeasible examples
    feasible_B: Bool[Array, " B"]  # whether a path of positive probability exists


def _best_moves(blank_TB, label_TNB, frames_BT, labels_BN):
    """By how many states (0, 1, 2) the best path into each state came on, int8 [T, 2 N + 1, B]; the last scores."""
    size_N, size_B = label_TNB.shape[1:]
    skip_NB = skips(labels_BN).T
    dtype = label_TNB.dtype

    def step(scores, frame):
        blank_SB, label_NB = scores
        emit_B, emit_NB, real_B = frame
        before_SB = jnp.pad(label_NB, ((1, 0), (0, 0)), constant_values=-jnp.inf)
        skip = jnp.where(skip_NB, before_SB[:-1], -jnp.inf)
        to_blank_SB = jnp.maximum(blank_SB, before_SB)
        to_label_NB = jnp.maximum(jnp.maximum(label_NB, blank_SB[:-1]), skip)
        move_SB = before_SB > blank_SB
        move_NB = jnp.where(label_NB >= to_label_NB, 0, jnp.where(blank_SB[:-1] >= to_label_NB, 1, 2))
        new_SB, new_NB = to_blank_SB + emit_B[None], to_label_NB + emit_NB
        # Near 0 the scores keep their digits.
        top_1B = jnp.maximum(new_SB.max(axis=0), new_NB.max(axis=0, initial=-jnp.inf))[None]
        real_1B = real_B[None]
        kept = jnp.where(real_1B, new_SB - top_1B, blank_SB), jnp.where(real_1B, new_NB - top_1B, label_NB)
        move = interleave(move_SB.astype(jnp.int8), move_NB.astype(jnp.int8))
        return kept, jnp.where(real_1B, move, 0)

    def interleave(x_SB, x_NB):
        pairs_N2B = jnp.stack([x_SB[:-1], x_NB], axis=1)
        return jnp.concatenate([pairs_N2B.reshape(2 * size_N, size_B), x_SB[-1:]])

    # Unlike an impossible emission, a state that cannot be reached must never win.
    start_SB = jnp.full((size_N + 1, size_B), -jnp.inf, dtype).at[0].set(0)
    start = (start_SB, jnp.full((size_N, size_B), -jnp.inf, dtype))
    scores, moves_TXB = jax.lax.scan(step, start, (blank_TB, label_TNB, frames_BT.T))
    return moves_TXB, interleave(*scores)


def _best_path(moves_TXB, scores_XB, lengths_B):
    """The state of each frame, [T, B]: 2 n is a blank, 2 n + 1 token n."""
    last_2B = jnp.stack([2 * lengths_B, jnp.maximum(2 * lengths_B - 1, 0)])
    ends_2B = jnp.take_along_axis(scores_XB, last_2B, axis=0)
    state_B = jnp.where(ends_2B[1] > ends_2B[0], last_2B[1], last_2B[0])

    def back(state_B, moves_XB):
        return state_B - jnp.take_along_axis(moves_XB, state_B[None], axis=0)[0], state_B

    return jax.lax.scan(back, state_B, moves_TXB, reverse=True)[1]


def align(
    logits_BTK: Float[Array, "B T K"],
    frames_BT: Bool[Array, "B T"],
    labels_BN: Int[Array, "B N"],
    tokens_BN: Bool[Array, "B N"],
    *,
    blank: int = 0,
) -> Alignment:
    """Which frames each token takes on the likeliest path (Viterbi); arguments as in `ctc_loss`.

    The frames of successive tokens never overlap: first < end <= the next token's first.
    """
    (blank_TB, label_TNB), _ = _emissions(logits_BTK, frames_BT, labels_BN, tokens_BN, blank)
    moves_TXB, scores_XB = _best_moves(blank_TB, label_TNB, frames_BT, labels_BN)
    path_TB = _best_path(moves_TXB, scores_XB, tokens_BN.sum(axis=1, dtype=jnp.int32))
    size_T, size_N = label_TNB.shape[:2]
    tokens_TNB = frames_BT.T[:, None] & (path_TB[:, None] == 2 * jnp.arange(size_N)[None, :, None] + 1)
    on_blank_TB = frames_BT.T & (path_TB % 2 == 0)
    log_p_B = jnp.where(on_blank_TB, blank_TB, 0).sum(axis=0) + jnp.where(tokens_TNB, label_TNB, 0).sum(axis=(0, 1))
    fits_B = feasible(frames_BT, labels_BN, tokens_BN) & (log_p_B > LOG_ZERO / 2)
    tokens_TNB = tokens_TNB & fits_B[None, None]
    frame_T11 = jnp.arange(size_T, dtype=jnp.int32)[:, None, None]
    first_NB = jnp.where(tokens_TNB, frame_T11, size_T).min(axis=0, initial=size_T)
    end_NB = jnp.where(tokens_TNB, frame_T11 + 1, 0).max(axis=0, initial=0)
    total_NB = jnp.where(tokens_TNB, jnp.exp(label_TNB), 0).sum(axis=0)
    return Alignment(
        first_BN=jnp.where(end_NB > 0, first_NB, 0).T,
        end_BN=end_NB.T,
        confidence_BN=(total_NB / jnp.maximum(tokens_TNB.sum(axis=0), 1)).T,
        log_p_B=jnp.where(fits_B, log_p_B, -jnp.inf),
        feasible_B=fits_B,
    )
