"""CTC against all alignments written out, closed forms, and PyTorch in float64."""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.losses.ctc import align, ctc_loss, ctc_posteriors, feasible

# Nearly all tests share one shape: most of their time is compilation.
B, T, K, N = 4, 9, 4, 3


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def every_path(logits_TK, labels):
    """(probability, token of each frame or -1) of every path that spells the labels, float64."""
    p_TK = softmax(np.asarray(logits_TK, np.float64))
    paths = []
    for path in itertools.product(range(p_TK.shape[1]), repeat=len(p_TK)):
        runs = [(k, len(list(group))) for k, group in itertools.groupby(path)]
        if [k for k, _ in runs if k] != list(labels):
            continue
        counter = itertools.count()
        tokens = [n for k, length in runs for n in [next(counter) if k else -1] * length]
        paths.append((np.prod(p_TK[np.arange(len(path)), list(path)]), tokens))
    return paths


def brute_force(logits_TK, frames_T, labels):
    """Loss, token posteriors [T, N], gradient [T, K] and the probability of the best path, float64; None if none."""
    paths = every_path(logits_TK[frames_T], labels)
    if not paths:
        return None
    total = sum(p for p, _ in paths)
    token_TN, gradient_TK = np.zeros((len(frames_T), N)), np.zeros(logits_TK.shape)
    gradient_TK[frames_T] = softmax(logits_TK[frames_T].astype(np.float64))
    for p, tokens in paths:
        for t, n in zip(np.flatnonzero(frames_T), tokens, strict=True):
            if n >= 0:
                token_TN[t, n] += p / total
            gradient_TK[t, labels[n] if n >= 0 else 0] -= p / total
    return -math.log(total), token_TN, gradient_TK, max(p for p, _ in paths)


losses, posteriors, alignments = jax.jit(ctc_loss), jax.jit(ctc_posteriors), jax.jit(align)


@functools.partial(jax.jit, static_argnames="blank")
def value_and_gradient(logits, frames, labels, tokens, blank=0):
    """Losses, and the gradient of their sum weighted with 1, 2, 3, ..."""

    def total(x):
        loss = ctc_loss(x, frames, labels, tokens, blank=blank)
        return jnp.sum(jnp.arange(1.0, 1 + len(loss)) * loss), loss

    (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    return loss, gradient


def check_alignment(alignment, b, frames_T, p_TK, labels, best):
    """The alignment is monotone, covers its frames only, and its path has the best path's probability."""
    length = len(labels)
    first, end = np.asarray(alignment.first_BN[b]), np.asarray(alignment.end_BN[b])
    assert (first[:length] < end[:length]).all() and (end[:length][:-1] <= first[:length][1:]).all()
    assert not first[length:].any() and not end[length:].any()
    log_p, confidence = 0.0, np.zeros(N)
    for t in np.flatnonzero(frames_T):
        holders = [n for n in range(length) if first[n] <= t < end[n]]
        k = labels[holders[0]] if holders else 0
        log_p += math.log(p_TK[t, k])
        for n in holders:
            confidence[n] += p_TK[t, k] / frames_T[first[n] : end[n]].sum()
    np.testing.assert_allclose(alignment.log_p_B[b], math.log(best), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_p, math.log(best), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alignment.confidence_BN[b], confidence, atol=1e-6)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1.0, 8.0]))
def test_everything_equals_brute_force(seed, scale):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(B, T, K))).astype(np.float32)
    # Up to five of nine frames are real, anywhere.
    frames = rng.random((B, T)).argsort(axis=1) < rng.integers(0, 6, (B, 1))
    labels = rng.integers(1, rng.integers(2, K + 1), (B, N)).astype(np.int32)
    lengths = rng.integers(0, N + 1, B)
    arrays = logits, frames, labels, np.arange(N)[None] < lengths[:, None]
    loss, tokens, blanks = posteriors(*arrays)
    alone, gradient = value_and_gradient(*arrays)
    alignment, fits = alignments(*arrays), feasible(*map(jnp.asarray, arrays[1:]))
    np.testing.assert_array_equal(loss, alone)
    np.testing.assert_allclose(loss, losses(*arrays), rtol=1e-6, atol=1e-6)
    for b in range(B):
        target = labels[b, : lengths[b]]
        want = brute_force(logits[b], frames[b], target)
        assert bool(fits[b]) == bool(alignment.feasible_B[b]) == (want is not None)
        if want is None:
            assert not loss[b] and not gradient[b].any() and not tokens[b].any() and not blanks[b].any()
            assert alignment.log_p_B[b] == -np.inf and not alignment.end_BN[b].any()
            continue
        np.testing.assert_allclose(loss[b], want[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(tokens[b], want[1], atol=1e-5)
        np.testing.assert_allclose(np.asarray(tokens[b]).sum(axis=1) + blanks[b], frames[b], atol=1e-5)
        np.testing.assert_allclose(gradient[b], (1 + b) * want[2], atol=1e-5)
        assert alignment.log_p_B[b] <= -loss[b] + 1e-4
        check_alignment(alignment, b, frames[b], softmax(logits[b]), target, want[3])


def example(seed, size=(B, T, K, N), dtype=np.float32):
    """Logits, frames (a prefix), labels with repeats, tokens; every target fits its frames."""
    rng = np.random.default_rng(seed)
    size_B, size_T, size_K, size_N = size
    labels = rng.integers(1, size_K, (size_B, size_N)).astype(np.int32)
    lengths, frames = rng.integers(0, size_N + 1, size_B), rng.integers(2 * size_N, size_T + 1, size_B)
    masks = np.arange(size_T)[None] < frames[:, None], np.arange(size_N)[None] < lengths[:, None]
    logits = 2 * rng.normal(size=(size_B, size_T, size_K))
    return jnp.asarray(logits, dtype), jnp.asarray(masks[0]), jnp.asarray(labels), jnp.asarray(masks[1])


@pytest.mark.parametrize("double", [False, True])
def test_loss_and_gradient_equal_torch_in_float64(double):
    torch = pytest.importorskip("torch", reason="torch is in the extra `peers`")
    with jax.enable_x64(double):
        logits, frames, labels, tokens = example(
            np.random.default_rng(0), (4, 40, 6, 18), np.float64 if double else np.float32
        )
        loss, gradient = value_and_gradient(logits, frames, labels, tokens)
    x = torch.tensor(np.asarray(logits), dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor(np.asarray(frames.sum(axis=1))), torch.tensor(np.asarray(tokens.sum(axis=1)))
    log_p = x.log_softmax(-1).transpose(0, 1)
    peer = torch.nn.functional.ctc_loss(log_p, torch.tensor(np.asarray(labels, np.int64)), *lengths, reduction="none")
    (peer * torch.arange(1, 5)).sum().backward()
    assert gradient.dtype == (np.float64 if double else np.float32)
    tolerance = 1e-12 if double else 1e-5
    np.testing.assert_allclose(loss, peer.detach().numpy(), rtol=tolerance)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=tolerance, atol=tolerance)


def test_padding_and_unreal_frames_are_as_if_cut_out():
    logits, frames, labels, tokens = example(1)
    want_loss, want_gradient = value_and_gradient(logits, frames, labels, tokens)
    places = np.array([1, 2, 3, 6, 7, 8, 9, 12, 13])
    wide, real = np.full((B, 16, K), np.nan, np.float32), np.zeros((B, 16), bool)
    wide[:, places], real[:, places] = logits, frames
    labels, tokens = jnp.pad(labels, ((0, 0), (0, 4)), constant_values=-7), jnp.pad(tokens, ((0, 0), (0, 4)))
    loss, gradient = value_and_gradient(wide, real, labels, tokens)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, places], want_gradient, atol=1e-5)
    assert not np.asarray(gradient)[~real].any()
    got, want = alignments(wide, real, labels, tokens), alignments(logits, frames, labels[:, :N], tokens[:, :N])
    has = np.asarray(tokens[:, :N])
    np.testing.assert_array_equal(np.asarray(got.first_BN)[:, :N][has], places[np.asarray(want.first_BN)[has]])
    np.testing.assert_array_equal(np.asarray(got.end_BN)[:, :N][has], places[np.asarray(want.end_BN)[has] - 1] + 1)


def test_the_blank_may_be_any_class():
    logits, *rest, labels, tokens = example(2)
    loss, gradient = value_and_gradient(logits, *rest, labels, tokens)
    order = np.array([1, 2, 0, 3])
    places = np.argsort(order)
    moved_loss, moved = value_and_gradient(logits[..., order], *rest, jnp.asarray(places)[labels], tokens, blank=2)
    np.testing.assert_allclose(moved_loss, loss, rtol=1e-6)
    np.testing.assert_allclose(moved[..., places], gradient, atol=1e-6)


def test_targets_without_alignments_give_nothing_and_impossible_ones_infinity():
    logits = example(3)[0].at[3, :, 2].set(-jnp.inf)
    frames = jnp.arange(T)[None] < jnp.asarray([3, 2, 0, T])[:, None]
    labels = jnp.asarray([[1, 1, 2], [1, 1, 3], [1, 2, 3], [2, 1, 1]], jnp.int32)
    tokens = jnp.arange(N)[None] < jnp.asarray([3, 2, 1, 2])[:, None]
    np.testing.assert_array_equal(feasible(frames, labels, tokens), [False, False, False, True])
    loss, gradient = value_and_gradient(logits, frames, labels, tokens)
    np.testing.assert_array_equal(loss, [0, 0, 0, np.inf])
    assert not gradient.any()
    alignment = alignments(logits, frames, labels, tokens)
    assert not alignment.feasible_B.any() and (alignment.log_p_B == -jnp.inf).all()


def test_empty_targets():
    logits, frames, labels, _ = example(4)
    frames = frames.at[0, 2].set(False).at[1].set(False)
    loss, gradient = value_and_gradient(logits, frames, labels, jnp.zeros((B, N), bool))
    log_p = np.log(softmax(np.asarray(logits, np.float64)))[..., 0]
    np.testing.assert_allclose(loss, -np.where(frames, log_p, 0).sum(axis=1), rtol=1e-6)
    want = np.where(np.asarray(frames)[..., None], softmax(np.asarray(logits)) - np.eye(K)[0], 0)
    np.testing.assert_allclose(gradient, want * np.arange(1, 1 + B)[:, None, None], atol=1e-6)
    np.testing.assert_allclose(losses(logits, frames, labels[:, :0], jnp.zeros((B, 0), bool)), loss, rtol=1e-6)
    alignment = alignments(logits, frames, labels, jnp.zeros((B, N), bool))
    np.testing.assert_allclose(alignment.log_p_B, -loss, rtol=1e-6)
    assert alignment.feasible_B.all()
    assert alignments(logits, frames, labels[:, :0], jnp.zeros((B, 0), bool)).first_BN.shape == (B, 0)


def test_one_frame_is_cross_entropy():
    logits, _, labels, _ = example(5)
    logits, labels = logits[:, :1], labels[:, :1]
    loss, gradient = value_and_gradient(logits, jnp.ones((B, 1), bool), labels, jnp.ones((B, 1), bool))
    p = softmax(np.asarray(logits, np.float64))
    np.testing.assert_allclose(loss, -np.log(p[np.arange(B), 0, labels[:, 0]]), rtol=1e-6)
    p[np.arange(B), 0, labels[:, 0]] -= 1
    np.testing.assert_allclose(gradient, p * np.arange(1, 1 + B)[:, None, None], atol=1e-6)


def test_uniform_logits_count_the_alignments():
    """N different labels have C(T + N, 2 N) alignments with T frames; each has the probability K^-T."""
    lengths, frames = np.array([0, 1, 2, 3]), np.array([9, 1, 5, 8])
    loss = losses(
        jnp.full((B, T, K), 3.0),
        jnp.arange(T)[None] < frames[:, None],
        jnp.tile(jnp.asarray([[1, 2, 3]], jnp.int32), (B, 1)),
        jnp.arange(N)[None] < lengths[:, None],
    )
    ways = [math.comb(t + n, 2 * n) for t, n in zip(frames, lengths, strict=True)]
    np.testing.assert_allclose(loss, frames * math.log(K) - np.log(ways), rtol=1e-6)


def test_the_only_path_has_all_the_probability():
    logits = example(6)[0]
    frames, labels = jnp.tile(jnp.arange(T)[None] < 4, (B, 1)), jnp.tile(jnp.asarray([[1, 2, 2]], jnp.int32), (B, 1))
    alignment = alignments(logits, frames, labels, jnp.ones((B, N), bool))
    np.testing.assert_allclose(alignment.log_p_B, -losses(logits, frames, labels, jnp.ones((B, N), bool)), rtol=1e-6)
    np.testing.assert_array_equal(alignment.first_BN, [[0, 1, 3]] * B)
    np.testing.assert_array_equal(alignment.end_BN, [[1, 2, 4]] * B)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, *rest = example(7, dtype=dtype)
    loss, gradient = value_and_gradient(logits, *rest)
    want_loss, want_gradient = value_and_gradient(logits.astype(jnp.float32), *rest)
    assert loss.dtype == np.float32 and gradient.dtype == dtype
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    np.testing.assert_allclose(
        gradient.astype(np.float32), want_gradient, rtol=2 * float(jnp.finfo(dtype).eps), atol=1e-6
    )


def test_vmapped_jitted_gradient_equals_one_by_one():
    stacks = [example(seed) for seed in range(3)]
    both = jax.jit(jax.vmap(value_and_gradient))(*(jnp.stack(arrays) for arrays in zip(*stacks, strict=True)))
    for loss, gradient, arrays in zip(*both, stacks, strict=True):
        want = value_and_gradient(*arrays)
        np.testing.assert_allclose(loss, want[0], rtol=1e-6)
        np.testing.assert_allclose(gradient, want[1], atol=1e-6)


def test_probabilities_far_below_float32_and_wild_logits():
    """Tight targets under a sure blank, logits in the thousands, impossible classes: as in float64."""
    logits, frames, labels, _ = example(8, (4, 40, 6, 18))
    logits = logits.at[0, :, 0].add(60).at[1].multiply(2000).at[2, ::7, 5].set(-jnp.inf).at[3].add(1e4)
    labels = labels.at[2].set(1 + labels[2] % 3)
    rest = jnp.ones_like(frames), labels, jnp.ones((4, 18), bool)
    loss, gradient = value_and_gradient(logits, *rest)
    with jax.enable_x64(True):
        want = value_and_gradient(jnp.asarray(logits, jnp.float64), *rest)
    assert loss[0] > 1000 and np.isfinite(gradient).all()
    np.testing.assert_allclose(loss, want[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, want[1], atol=2e-5)


def test_a_batch_over_two_devices_needs_no_exchange_but_the_sum():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    arrays = example(11)
    compiled = value_and_gradient.lower(*jax.device_put(arrays, rows)).compile()
    assert not re.search("all-gather|all-to-all|collective-permute", compiled.as_text())
    loss, gradient = compiled(*jax.device_put(arrays, rows))
    want = value_and_gradient(*arrays)
    np.testing.assert_allclose(loss, want[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, want[1], atol=1e-6)


def test_no_array_of_all_classes_is_kept():
    size_B, size_T, size_K, size_N = 2, 100, 2000, 5
    arrays = example(9, (size_B, size_T, size_K, size_N))
    compiled = jax.jit(jax.grad(lambda x, *rest: ctc_loss(x, *rest).sum())).lower(*arrays).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < size_B * size_T * size_K * 4 / 4


def test_backend_is_named():
    with pytest.raises(ValueError, match="'auto', 'scan' or 'pallas'"):
        ctc_loss(*example(10), backend="cudnn")
