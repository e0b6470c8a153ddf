"""Masked batch norm + ReLU + dropout: against float64 NumPy, an unpadded run, and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxlip.models.norm import (
    EPSILON,
    FrameNorm,
    NormReluDropout,
    dropout,
    dropout_seed,
    hashed_uniform,
    keep_mask,
    norm_relu_dropout,
)

V, F, H = 5, 12, 3
SEED = jnp.array([7, 9], jnp.uint32)


@pytest.fixture
def z_VFH():
    return jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (V, F, H)).astype(np.float32))


def reference(z_VFH, real_F, scale_H, bias_H):
    z = np.asarray(z_VFH, np.float64)[:, real_F]
    mean_H, var_H = z.mean(axis=(0, 1)), z.var(axis=(0, 1))
    out = np.zeros(z_VFH.shape)
    out[:, real_F] = np.maximum((z - mean_H) / np.sqrt(var_H + EPSILON) * scale_H + bias_H, 0)
    return out, mean_H, var_H


def test_values_against_float64(z_VFH):
    real_F = np.arange(F) < 8
    scale_H, bias_H = np.array([1.0, 0.5, 2.0], np.float32), np.array([0.1, 0.0, -0.2], np.float32)
    out, mean_H, var_H = norm_relu_dropout(z_VFH, jnp.array(real_F), scale_H, bias_H, SEED, 0.0)
    want, want_mean_H, want_var_H = reference(z_VFH, real_F, scale_H, bias_H)
    np.testing.assert_allclose(out, want, atol=2e-6)
    np.testing.assert_allclose(mean_H, want_mean_H, rtol=1e-6)
    np.testing.assert_allclose(var_H, want_var_H, rtol=1e-6)


def test_variance_far_from_zero_keeps_its_digits():
    z_VFH = 1e4 + np.random.default_rng(1).normal(size=(V, F, H)).astype(np.float32)
    var_H = norm_relu_dropout(z_VFH, jnp.ones(F, bool), jnp.ones(H), jnp.zeros(H), SEED, 0.0)[2]
    np.testing.assert_allclose(var_H, z_VFH.astype(np.float64).var(axis=(0, 1)), rtol=1e-3)


def test_padding_changes_neither_value_nor_gradient(z_VFH):
    weight = np.random.default_rng(2).normal(size=z_VFH.shape).astype(np.float32)

    def loss(z, scale_H, bias_H, real_F, weight):
        out = norm_relu_dropout(z, real_F, scale_H, bias_H, SEED, 0.0)[0]
        return jnp.sum(out * weight)

    args = (jnp.ones(H) * 1.5, jnp.ones(H) * 0.3)
    short = jax.grad(loss, argnums=(0, 1, 2))(z_VFH[:, :8], *args, jnp.ones(8, bool), weight[:, :8])
    padded = jax.grad(loss, argnums=(0, 1, 2))(z_VFH, *args, jnp.arange(F) < 8, weight)
    np.testing.assert_allclose(padded[0][:, :8], short[0], atol=1e-5)
    assert not np.asarray(padded[0][:, 8:]).any()
    for got, want in zip(padded[1:], short[1:], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_gradient_against_autodiff(z_VFH, rate):
    real_F = np.arange(F) < 9
    weight = np.random.default_rng(3).normal(size=z_VFH.shape).astype(np.float32)

    def plain(z, scale_H, bias_H):
        n = V * 9
        mask = jnp.array(real_F)[None, :, None]
        mean_H = jnp.sum(z * mask, axis=(0, 1)) / n
        var_H = jnp.sum(jnp.square(z - mean_H[None, None]) * mask, axis=(0, 1)) / n
        normal = (z - mean_H[None, None]) / jnp.sqrt(var_H + EPSILON)[None, None]
        active = jnp.maximum(normal * scale_H[None, None] + bias_H[None, None], 0)
        return jnp.sum(jnp.where(mask, dropout(active, SEED, rate), 0) * weight)

    def ours(z, scale_H, bias_H):
        return jnp.sum(norm_relu_dropout(z, jnp.array(real_F), scale_H, bias_H, SEED, rate)[0] * weight)

    args = (z_VFH, jnp.array([1.0, 0.5, 2.0]), jnp.array([0.1, 0.0, -0.2]))
    np.testing.assert_allclose(ours(*args), plain(*args), rtol=1e-5)
    for got, want in zip(jax.grad(ours, (0, 1, 2))(*args), jax.grad(plain, (0, 1, 2))(*args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_running_moments_follow_torch_rule_and_ignore_empty_batches(z_VFH):
    norm = NormReluDropout(H, rate=0.0, site=0)
    norm(z_VFH, jnp.arange(F) < 8, jax.random.key(0))
    z = np.asarray(z_VFH, np.float64)[:, :8]
    np.testing.assert_allclose(norm.mean[...], 0.1 * z.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * z.var(axis=(0, 1), ddof=1), rtol=1e-5)
    before = np.asarray(norm.mean[...])
    norm(z_VFH, jnp.zeros(F, bool), jax.random.key(0))
    np.testing.assert_array_equal(norm.mean[...], before)


def test_inference_uses_running_moments_only(z_VFH):
    norm = NormReluDropout(H, rate=0.5, site=0)
    alone = norm(z_VFH[:, :1], jnp.ones(1, bool), None)
    together = norm(z_VFH, jnp.ones(F, bool), None)
    np.testing.assert_array_equal(alone, together[:, :1])
    assert isinstance(nnx.state(norm), nnx.State)


def test_frame_norm_gives_each_feature_its_own_units():
    frames_BT = np.arange(9)[None] < np.array([9, 5, 7])[:, None]
    x = np.random.default_rng(0).normal([3.0, -1.0], [0.01, 20.0], (4, 3, 9, 2))
    norm, key = FrameNorm(2), jax.random.key(0)
    for batch in x:
        out_BTD = np.asarray(norm(jnp.asarray(batch, jnp.float32), jnp.asarray(frames_BT), key))
    # The running moments are the plain average over the batches so far, and what normalises is what is kept.
    mean_D = np.mean([batch[frames_BT].mean(axis=0) for batch in x], axis=0)
    var_D = np.mean([batch[frames_BT].var(axis=0) for batch in x], axis=0)
    np.testing.assert_allclose(norm.mean[...], mean_D, rtol=1e-4)
    np.testing.assert_allclose(norm.var[...], var_D, rtol=1e-3)
    want_BTD = np.where(frames_BT[..., None], (x[-1] - mean_D) / np.sqrt(var_D + EPSILON), 0)
    np.testing.assert_allclose(out_BTD, want_BTD, atol=2e-3)
    alone = norm(jnp.asarray(x[-1, 1:2], jnp.float32), jnp.asarray(frames_BT[1:2]), None)
    np.testing.assert_allclose(alone[0], out_BTD[1], atol=1e-6)


def test_frame_norm_learns_nothing_from_padding():
    norm = FrameNorm(2)
    norm(jnp.ones((2, 3, 2)), jnp.zeros((2, 3), bool), jax.random.key(0))
    assert (norm.mean[...] == 0).all() and (norm.var[...] == 1).all() and norm.batches[...] == 0


def test_dropout_rate_scale_and_independence():
    x = jnp.ones((200, 500))
    kept = np.asarray(dropout(x, SEED, 0.3))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((kept > 0).mean() - 0.7) < 0.005
    other = np.asarray(dropout(x, dropout_seed(jax.random.key(0), 1), 0.3))
    # Two masks agree where both keep or both drop: 0.7^2 + 0.3^2.
    assert abs(((kept > 0) == (other > 0)).mean() - 0.58) < 0.01
    rows = kept > 0
    assert abs((rows[:-1] == rows[1:]).mean() - 0.58) < 0.01
    assert abs((rows[:, :-1] == rows[:, 1:]).mean() - 0.58) < 0.01


def test_hash_is_uniform_in_every_byte():
    bits = np.asarray(hashed_uniform((256, 256), SEED))
    for byte in range(4):
        counts = np.bincount((bits.ravel() >> (8 * byte)) & 255, minlength=256)
        chi2 = ((counts - 256.0) ** 2 / 256.0).sum()
        # 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert 150 < chi2 < 370


SIGMAS = 5.5
"""One chance in 26 million a comparison; there are some hundred of them, and their seeds are fixed."""
MASK = (44, 58, 32)


def agreement_is_that_of_independent_masks(a, b, rate):
    """Two independent masks agree where both keep or both drop."""
    p = (1 - rate) ** 2 + rate**2
    assert abs((a == b).mean() - p) < SIGMAS * np.sqrt(p * (1 - p) / a.size)


def masks(rate, *, steps=1, sites=1):
    """[step, site, V, F, H], made as training makes them: a key for a step, a seed for a site."""
    key = jax.random.key(3)

    def of(step):
        _, model_key = jax.random.split(jax.random.fold_in(key, step))
        return jnp.stack([keep_mask(MASK, dropout_seed(model_key, site), rate) for site in range(sites)])

    return np.asarray(jax.jit(jax.vmap(of))(jnp.arange(steps)))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6, 0.72])
def test_every_row_column_and_plane_of_masks_is_kept_at_the_rate(rate):
    kept = masks(rate, steps=3, sites=4)
    for axes in ((0, 1, 2, 3, 4), (1, 2, 3, 4), (0, 2, 3, 4), (0, 1, 3, 4), (0, 1, 2, 4), (0, 1, 2, 3)):
        n = np.prod([kept.shape[axis] for axis in axes])
        assert np.abs(kept.mean(axis=axes) - (1 - rate)).max() < SIGMAS * np.sqrt(rate * (1 - rate) / n), axes


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_masks_of_other_sites_and_other_steps_are_independent(rate):
    kept = masks(rate, steps=4, sites=4).reshape(16, -1)
    for i in range(16):
        for j in range(i):
            agreement_is_that_of_independent_masks(kept[i], kept[j], rate)


@pytest.mark.parametrize("shift", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1), (0, 0, 2), (0, 0, 16)])
def test_neighbours_of_any_axis_are_independent(shift):
    kept = masks(0.4)[0, 0]
    here = kept[tuple(slice(0, n - s) for n, s in zip(MASK, shift, strict=True))]
    there = kept[tuple(slice(s, n) for n, s in zip(MASK, shift, strict=True))]
    agreement_is_that_of_independent_masks(here, there, 0.4)


def test_pairs_of_neighbours_are_uniform_together():
    # The upper four bits of an element and of the next one: 256 cells.
    bits = np.asarray(hashed_uniform((512, 256), SEED)).ravel() >> 28
    counts = np.bincount(16 * bits[::2] + bits[1::2], minlength=256)
    expected = len(bits) / 2 / 256
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - 255) < SIGMAS * np.sqrt(2 * 255)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mask_split_over_devices_is_the_whole_mask(axis):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*[None] * axis, "data"))
    whole = keep_mask(MASK, SEED, 0.4)
    parts = jax.jit(lambda seed: keep_mask(MASK, seed, 0.4), out_shardings=split)(SEED)
    assert len(parts.sharding.device_set) == 2
    np.testing.assert_array_equal(parts, whole)
    # And so is what is dropped of an array that comes in parts.
    x = jnp.ones(MASK)
    got = jax.jit(lambda x: dropout(x, SEED, 0.4))(jax.device_put(x, split))
    np.testing.assert_array_equal(got > 0, whole)
