"""The lattice of connectionist temporal classification, forward and backward in one scan from both ends.

N + 1 blank states and N label states, blank first (Graves et al., ICML 2006, sec. 4). The backward recursion is the
forward one on reversed frames and labels, so the two run side by side until they meet in the middle, where they give
the likelihood; each half of the frames is then run back over from what has come from the other side, and the products
are the posteriors. That keeps half of the states, and a likelihood alone costs half of the steps.

Probabilities are m 2^e with an integer e for each state: sums need no logarithm, nothing underflows however far a state
lies below its neighbours, and float32 keeps a relative error of 1e-6 where log space loses the digits of a large sum.
"""

import math

import jax
import jax.numpy as jnp

# S is the blank states, N + 1. M = 2 B: each example's first half of the frames, forward, beside its second half,
# reversed; side by side, so that a batch split over devices is split between examples. H = ceil(T / 2).

# The exponent of zero; a likelihood below the square root of it counts as zero.
ZERO = -(2**28)


def _layout(dtype):
    """The integer type of the same size, the bits of the mantissa, the bias of the exponent."""
    info = jnp.finfo(dtype)
    return jnp.dtype(f"int{info.bits}"), info.nmant, info.maxexp - 1


def split(x):
    """x > 0 as mantissa in [1, 2) and integer exponent."""
    integer, digits, bias = _layout(x.dtype)
    bits = jax.lax.bitcast_convert_type(x, integer)
    mantissa = (bits & ((1 << digits) - 1)) | (bias << digits)
    return jax.lax.bitcast_convert_type(mantissa, x.dtype), (bits >> digits) - bias


def power(e, dtype):
    """2^e for an integer e <= 0, in a float type; zero where that has no normal number."""
    integer, digits, bias = _layout(dtype)
    return jax.lax.bitcast_convert_type(jnp.maximum(e + bias, 0).astype(integer) << digits, dtype)


def _moves(state, skip_NM, backward):
    """The states (m, e of blanks, m, e of labels) after a step through the lattice, before the frame's emission.

    Forward to the next states or `backward` to those before; `skip_NM`: whether a label can be reached from the label
    it comes after on that way.
    """
    blank_m, blank_e, label_m, label_e = state
    dtype = blank_m.dtype
    blank_m, more = split(blank_m)
    blank_e = blank_e + more
    label_m, more = split(label_m)
    label_e = label_e + more
    margin, inner = (((0, 1), (0, 0)), slice(1, None)) if backward else (((1, 0), (0, 0)), slice(None, -1))
    # At each blank, the label from which it is reached.
    from_m, from_e = jnp.pad(label_m, margin, constant_values=1), jnp.pad(label_e, margin, constant_values=ZERO)
    to_blank_e = jnp.maximum(blank_e, from_e)
    to_blank_m = blank_m * power(blank_e - to_blank_e, dtype) + from_m * power(from_e - to_blank_e, dtype)
    skip_e = jnp.where(skip_NM, from_e[inner], ZERO)
    to_label_e = jnp.maximum(jnp.maximum(label_e, blank_e[inner]), skip_e)
    to_label_m = label_m * power(label_e - to_label_e, dtype) + blank_m[inner] * power(
        blank_e[inner] - to_label_e, dtype
    )
    return to_blank_m, to_blank_e, to_label_m + from_m[inner] * power(skip_e - to_label_e, dtype), to_label_e


def _emitted(state, moved, frame):
    """The states after the frame's emission; what they were where the frame is not real."""
    blank_M, label_NM, real_M = frame
    new = []
    for m, e, log2 in ((*moved[:2], blank_M[None]), (*moved[2:], label_NM)):
        floor = jnp.floor(log2)
        new += [m * jnp.exp2(log2 - floor), jnp.maximum(e + floor.astype(e.dtype), ZERO)]
    return tuple(jnp.where(real_M[None], a, b) for a, b in zip(new, state, strict=True))


def _both(first_B, second_B):
    """Two arrays over B as one over M."""
    pairs = jnp.stack([first_B, second_B], axis=-1)
    return pairs.reshape(*pairs.shape[:-2], 2 * pairs.shape[-2])


def _apart(x_M):
    pairs = x_M.reshape(*x_M.shape[:-1], x_M.shape[-1] // 2, 2)
    return pairs[..., 0], pairs[..., 1]


def _crossed(x_SM):
    """What has come through one half of the frames, as the other half numbers the states."""
    first_SB, second_SB = _apart(x_SM)
    return _both(second_SB[::-1], first_SB[::-1])


def skips(labels_BN):
    """Whether a label state can be reached from the label before it: [B, N], False at the first."""
    return jnp.pad(labels_BN[:, 1:] != labels_BN[:, :-1], ((0, 0), (1, 0)))[:, : labels_BN.shape[1]]


def _start(lengths_B, size_N, dtype):
    """All mass in the blank before the first label, or after the last, and before any frame: the first is no special
    case, nor is a sequence without one."""
    starts_M = _both(jnp.zeros_like(lengths_B), size_N - lengths_B)
    integer = _layout(dtype)[0]
    blank_e = jnp.where(jnp.arange(size_N + 1)[:, None] == starts_M[None], 0, ZERO).astype(integer)
    label_e = jnp.full((size_N, len(starts_M)), ZERO, integer)
    return jnp.ones(blank_e.shape, dtype), blank_e, jnp.ones(label_e.shape, dtype), label_e


def _frames(blank_TB, label_TNB, frames_BT):
    """What step h reads of frames h and 2 H - 1 - h: log2 emissions [H, M], [H, N, M]; whether they are real [H, M]."""
    half = -(-blank_TB.shape[0] // 2)

    def ends(x_T):
        x_T = jnp.pad(x_T, [(0, 2 * half - x_T.shape[0])] + [(0, 0)] * (x_T.ndim - 1))
        first, second = x_T[:half], x_T[half:][::-1]
        return _both(first, second[:, ::-1] if x_T.ndim == 3 else second)

    floor, scale = float(ZERO), 1 / math.log(2)
    log2_HM, log2_HNM = (jnp.maximum(ends(a) * scale, floor) for a in (blank_TB, label_TNB))
    return log2_HM, log2_HNM, ends(frames_BT.T)


def _joint(moved, stored):
    """Forward times backward, of the blanks and of the labels: one before the frame's emission, the other after it."""
    return (moved[0] * stored[0], moved[1] + stored[1]), (moved[2] * stored[2], moved[3] + stored[3])


def lattice_scan(blank_TB, label_TNB, frames_BT, labels_BN, tokens_BN, *, posteriors):
    """Log likelihood [B]; with `posteriors` also those of the blank [T, B] and of every token [T, N, B], else None.

    blank_TB and label_TNB: log probabilities of the blank and of every label in every frame, finite where the frame is
    not real; very small for a label that is not a token. The log likelihood is -inf where no alignment has a positive
    probability, and the posteriors are meaningless there and in frames that are not real.
    """
    size_T, size_N, _ = label_TNB.shape
    dtype = label_TNB.dtype
    skip_NB = skips(labels_BN).T
    next_NB = jnp.pad(skip_NB[1:], ((0, 1), (0, 0)))[:size_N]
    ahead_NM, back_NM = _both(skip_NB, next_NB[::-1]), _both(next_NB, skip_NB[::-1])
    frames = _frames(blank_TB, label_TNB, frames_BT)

    def to_the_middle(state, frame):
        state = _emitted(state, _moves(state, ahead_NM, False), frame)
        return state, state if posteriors else None

    middle, stored = jax.lax.scan(to_the_middle, _start(tokens_BN.sum(axis=1), size_N, dtype), frames)
    across = tuple(_crossed(x) for x in middle)
    (blank_m, blank_e), (label_m, label_e) = _joint(_moves(across, back_NM, True), middle)
    e_1M = jnp.maximum(blank_e.max(axis=0), label_e.max(axis=0, initial=2 * ZERO))[None]
    m_M = (blank_m * power(blank_e - e_1M, dtype)).sum(axis=0) + (label_m * power(label_e - e_1M, dtype)).sum(axis=0)
    m_B, e_B = _apart(m_M)[0], _apart(e_1M[0])[0]
    log_p_B = jnp.where(e_B > ZERO // 2, jnp.log(m_B) + e_B.astype(dtype) * math.log(2), -jnp.inf)
    if not posteriors:
        return log_p_B, None, None

    def from_the_middle(state, inputs):
        frame, passed = inputs
        moved = _moves(state, back_NM, True)
        blank, label = (m * power(e - e_1M, dtype) / m_M[None] for m, e in _joint(moved, passed))
        return _emitted(state, moved, frame), (blank.sum(axis=0), label)

    _, found = jax.lax.scan(from_the_middle, across, (frames, stored), reverse=True)
    (blank1_HB, blank2_HB), (label1_HNB, label2_HNB) = (_apart(x) for x in found)
    blank_TB = jnp.concatenate([blank1_HB, blank2_HB[::-1]])[:size_T]
    return log_p_B, blank_TB, jnp.concatenate([label1_HNB, label2_HNB[::-1, ::-1]])[:size_T]
