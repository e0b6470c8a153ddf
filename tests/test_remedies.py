"""Losses and balance, mixing and what a tracker loses: against closed forms and NumPy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_word_model import B, batch_of, small

from jaxlip.face.augment import Augment, augment
from jaxlip.face.occlusion import dropped_times, held_still, lost_region, mean_landmarks
from jaxlip.losses.cross_entropy import cross_entropy
from jaxlip.losses.soft_targets import SoftTarget, class_weights, soft_cross_entropy
from jaxlip.models.graph_lstm import GraphLstm
from jaxlip.tasks.mix import Mix, mix, same_class_partner
from jaxlip.tasks.word import Word


def test_soft_cross_entropy_and_focus():
    rng = np.random.default_rng(0)
    logits_BK, label_B = rng.normal(size=(6, 5)).astype(np.float32), rng.integers(0, 5, 6)
    odds_BK = np.eye(5, dtype=np.float32)[label_B]
    plain_B = cross_entropy(jnp.asarray(logits_BK), jnp.asarray(label_B, jnp.int32), smoothing=0.2)
    np.testing.assert_allclose(
        soft_cross_entropy(jnp.asarray(logits_BK), jnp.asarray(odds_BK), smoothing=0.2), plain_B, rtol=1e-5
    )
    p_BK = np.exp(logits_BK.astype(np.float64))
    p_B = (p_BK / p_BK.sum(axis=1, keepdims=True))[np.arange(6), label_B]
    focal_B = soft_cross_entropy(jnp.asarray(logits_BK), jnp.asarray(odds_BK), focus=2.0)
    np.testing.assert_allclose(focal_B, -((1 - p_B) ** 2) * np.log(p_B), rtol=1e-5)
    # A class that is known for certain leaves no gradient that is not a number.
    sure_BK = jnp.array([[200.0, 0.0, 0.0]])
    grad = jax.grad(lambda x: soft_cross_entropy(x, jnp.eye(3)[:1], focus=0.5).sum())(sure_BK)
    assert np.isfinite(grad).all()


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=8).filter(any))
@settings(deadline=None, max_examples=30)
def test_class_weights_are_one_on_average(counts):
    n = np.array(counts, np.float64)
    for balance in ("none", "inverse", "effective"):
        weights = class_weights(tuple(counts), balance).astype(np.float64)
        assert (weights * n).sum() / n.sum() == pytest.approx(1, rel=1e-4)
        assert (weights[n == 0] == 0).all()
    seen = n > 0
    inverse = class_weights(tuple(counts), "inverse").astype(np.float64)
    np.testing.assert_allclose((inverse * n)[seen], (inverse * n)[seen][0], rtol=1e-4)
    effective = class_weights(tuple(counts), "effective").astype(np.float64)
    number = (1 - 0.999**n) / (1 - 0.999)
    np.testing.assert_allclose((effective * number)[seen], (effective * number)[seen][0], rtol=1e-4)


def soft(batch, classes=4):
    label_B = jnp.asarray(batch.target) % classes
    return SoftTarget(odds_BK=jax.nn.one_hot(label_B, classes), weight_B=jnp.ones(len(label_B)))


def many(copies=40):
    """A batch of many clips of few classes; the last third is padding whose landmarks are not numbers."""
    batch = batch_of(small()[3])
    batch = jax.tree.map(lambda array: jnp.concatenate([array] * copies), batch)
    real_B = jnp.arange(B * copies) < 2 * copies
    broken_BTVC = jnp.where(real_B[:, None, None, None], batch.landmarks_BTVC, jnp.nan)
    return dataclasses.replace(batch, examples_B=real_B, landmarks_BTVC=broken_BTVC)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "same_class"])
def test_mixed_examples_are_what_their_targets_say(kind):
    batch = many()
    target = soft(batch)
    # Every landmark of a clip shows its class, so that a mixture shows its shares.
    shown_B = target.odds_BK.argmax(axis=1).astype(jnp.float32)
    shape = batch.landmarks_BTVC.shape
    clips = jnp.where(
        batch.examples_B[:, None, None, None], jnp.broadcast_to(shown_B[:, None, None, None], shape), jnp.nan
    )
    mixed, soft_target = jax.jit(
        lambda: mix(dataclasses.replace(batch, landmarks_BTVC=clips), target, Mix(**{kind: 1.0}), jax.random.key(5))
    )()
    real_B = np.asarray(batch.examples_B)
    odds_BK, seen_BTVC = np.asarray(soft_target.odds_BK)[real_B], np.asarray(mixed.landmarks_BTVC)[real_B]
    assert np.isfinite(seen_BTVC).all()
    np.testing.assert_allclose(odds_BK.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(seen_BTVC.mean(axis=(1, 2, 3)), odds_BK @ np.arange(4), atol=1e-4)
    assert (odds_BK.max(axis=1) < 0.999).any() == (kind != "same_class")
    np.testing.assert_array_equal(soft_target.odds_BK[~real_B], target.odds_BK[~real_B])


def test_partners_are_of_the_same_class_and_real():
    class_B = jnp.array([0, 0, 1, 2, 1, 0])
    real_B = jnp.array([True, True, True, True, False, True])
    for seed in range(20):
        partner_B = np.asarray(same_class_partner(class_B, real_B, jax.random.key(seed)))
        assert partner_B[2] == 2 and partner_B[3] == 3
        assert partner_B[0] in (1, 5) and partner_B[1] in (0, 5)


def test_weights_of_the_task_are_a_weighted_mean_and_nothing_changes_without_them():
    _, _, _, spec = small()
    spec = dataclasses.replace(spec, counts=tuple(range(1, 101)))
    batch, logits_BK = batch_of(spec), jnp.asarray(np.random.default_rng(1).normal(size=(B, 100)), jnp.float32)
    plain = Word(model=GraphLstm(hidden=8))
    assert plain.vary(batch, spec, jax.random.key(0)).target is batch.target
    weighted = dataclasses.replace(plain, balance="inverse")
    varied = weighted.vary(batch, spec, jax.random.key(0))
    weight_B = class_weights(spec.counts, "inverse")[np.asarray(batch.target)].astype(np.float64)
    loss_B = np.asarray(cross_entropy(logits_BK, batch.target, smoothing=0.1), np.float64)
    got = weighted.metrics(logits_BK, varied, train=True)["loss"].value
    assert float(got) == pytest.approx((weight_B * loss_B).sum() / weight_B.sum(), rel=1e-5)
    groups = weighted.grouped_loss(logits_BK, varied, spec)
    np.testing.assert_allclose(groups.weight_N, weight_B, rtol=1e-5)


def test_dropped_frames_repeat_the_last_one_kept():
    time_BT = jnp.arange(40.0)[None] * jnp.ones((50, 1)) + 0.25
    got_BT = np.asarray(dropped_times(time_BT, 0.3, jax.random.key(0))) - 0.25
    assert (got_BT[:, 0] == 0).all() and (np.diff(got_BT, axis=1) >= 0).all() and (got_BT <= np.arange(40)).all()
    assert (got_BT[:, 1:] != np.arange(1, 40)).mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(dropped_times(time_BT, 0.0, jax.random.key(0)), time_BT)


def test_a_lost_region_is_a_ball_that_stands_still():
    batch = batch_of(small()[3])
    mean_BVC = mean_landmarks(batch.landmarks_BTVC, batch.frames_BT)
    first = np.asarray(batch.landmarks_BTVC[1, :6], np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_BVC[1], first, atol=1e-5)
    sizes = []
    for seed in range(20):
        lost_BV = np.asarray(lost_region(mean_BVC, 0.5, jax.random.key(seed)))
        sizes.append(lost_BV.mean(axis=1))
        still = held_still(batch.landmarks_BTVC, mean_BVC, jnp.asarray(lost_BV))
        np.testing.assert_array_equal(np.asarray(still).std(axis=1).max(axis=-1) < 1e-6, lost_BV)
        for example, lost_V in zip(np.asarray(mean_BVC), lost_BV, strict=True):
            if lost_V.any():
                away = np.linalg.norm(example[:, None] - example[None], axis=-1)
                assert any(away[v][lost_V].max() <= away[v][~lost_V].min() + 1e-5 for v in np.flatnonzero(lost_V))
    assert np.max(sizes) <= 0.5 and np.mean(sizes) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("kind", ["speed", "drop", "shear", "stretch", "lose", "region"])
def test_each_kind_changes_clips_and_follows_its_key(kind):
    spec = small()[3]
    batch = batch_of(spec)

    def varied(key):
        config = Augment(**{kind: 0.3})
        return augment(batch, config, jax.random.key(key), ids=spec.input.ids, preset="lips40").landmarks_BTVC

    once, again, other = varied(1), varied(1), varied(2)
    np.testing.assert_array_equal(once, again)
    assert np.isfinite(once).all()
    assert float(jnp.abs(once - other).max()) > 1e-3 and float(jnp.abs(once - batch.landmarks_BTVC).max()) > 1e-3
