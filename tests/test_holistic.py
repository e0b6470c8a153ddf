"""Holistic landmarks: where everything lies, gaps, motion, frames of parts, and variation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxlip.data.batches import FaceBatch
from jaxlip.holistic.augment import SignAugment, augment
from jaxlip.holistic.features import FEATURE_SETS, FINGERS, HolisticInput, holistic6516, place
from jaxlip.holistic.gaps import fill_gaps
from jaxlip.holistic.layout import (
    BLOCKS,
    FACE,
    HAND_IDS,
    IDS,
    LEFT_HAND,
    PARTS,
    POINTS,
    POSE,
    RIGHT_HAND,
    TEMPORAL,
    WIDTH,
    block,
    rows_of,
)


def clip(frames=6, seed=0):
    return np.random.default_rng(seed).normal(0.5, 0.1, (1, frames, POINTS, 3)).astype(np.float32)


def all_real(landmarks_BTVC):
    return jnp.ones(landmarks_BTVC.shape[:2], bool)


def test_points_are_in_the_order_of_the_extractor_and_slices_cover_every_column_once():
    assert [(part.name, part.start, part.size) for part in PARTS] == [
        ("pose", 0, 33),
        ("face", 33, 468),
        ("left_hand", 501, 21),
        ("right_hand", 522, 21),
    ]
    assert (POINTS, WIDTH, TEMPORAL.stop - TEMPORAL.start) == (543, 6516, 4887)
    columns = [np.arange(WIDTH)[part.columns(name)] for name in BLOCKS for part in PARTS]
    np.testing.assert_array_equal(np.concatenate(columns), np.arange(WIDTH))
    assert rows_of(FACE, HAND_IDS) is None and rows_of(RIGHT_HAND, HAND_IDS) == tuple(range(21, 42))


@pytest.mark.parametrize("moved", PARTS, ids=lambda part: part.name)
def test_a_part_that_moves_changes_its_own_columns_alone(moved):
    """Defect 3: an extractor order and slices that disagree."""
    still = np.repeat(clip(1), 4, axis=1)
    other = still.copy()
    other[:, 2:, moved.points] += np.random.default_rng(1).normal(0, 0.05, (1, 1, moved.size, 3))
    a, b = (np.asarray(holistic6516(jnp.asarray(x), all_real(x), IDS)) for x in (still, other))
    changed = {part.name for part in PARTS for name in BLOCKS if (a != b)[..., part.columns(name)].any()}
    # Hands say in their wrist's slot where they are from the body.
    expected = {"pose": {"pose", "left_hand", "right_hand"}}.get(moved.name, {moved.name})
    assert changed == expected
    assert (a != b)[0, 2:, moved.columns("velocity")].any() and (a != b)[0, 2:, moved.columns("shape")].any()


def test_velocity_and_acceleration_are_differences_in_part_sizes():
    landmarks = np.repeat(clip(1), 5, axis=1)
    landmarks += (0.01 * np.arange(5) ** 2)[None, :, None, None].astype(np.float32)
    values_1TD = np.asarray(holistic6516(jnp.asarray(landmarks), all_real(landmarks), IDS), np.float64)
    palm = np.linalg.norm(landmarks[0, 0, 522 + np.array([5, 9, 13, 17])] - landmarks[0, 0, 522], axis=-1).mean()
    speed_T = np.diff(0.01 * np.arange(5) ** 2, prepend=0)
    np.testing.assert_allclose(
        values_1TD[0, :, RIGHT_HAND.columns("velocity")], np.repeat(speed_T[:, None] / palm, 63, 1), atol=2e-5
    )
    acceleration = values_1TD[0, 2:, RIGHT_HAND.columns("acceleration")]
    np.testing.assert_allclose(acceleration, 0.02 / palm, atol=4e-5)


def test_a_hand_that_comes_and_goes_makes_no_spikes():
    """Defect 5: a missing hand as zeros is half a picture of velocity."""
    landmarks = np.repeat(clip(1), 8, axis=1)
    landmarks[0, 3:5, LEFT_HAND.points] = 0.0
    values = np.asarray(holistic6516(jnp.asarray(landmarks), all_real(landmarks), IDS))
    assert np.isfinite(values).all()
    assert not values[..., LEFT_HAND.columns("velocity")].any()
    assert not values[0, 3:5, LEFT_HAND.columns("position")].any()
    assert values[0, 5, LEFT_HAND.columns("position")].any()


def test_gaps_are_filled_within_bounds_part_by_part_and_zeros_are_gaps():
    landmarks = np.repeat(clip(1)[0], 12, axis=0) + np.arange(12, dtype=np.float32)[:, None, None]
    broken = landmarks.copy()
    broken[3:5, LEFT_HAND.points] = 0.0
    broken[2:9, RIGHT_HAND.points] = np.nan
    filled = fill_gaps(broken, IDS, max_gap=3)
    np.testing.assert_allclose(filled[:, LEFT_HAND.points], landmarks[:, LEFT_HAND.points], rtol=1e-6)
    missing_T = (filled[:, RIGHT_HAND.points] == 0).all(axis=(1, 2))
    np.testing.assert_array_equal(missing_T, (np.arange(12) >= 2) & (np.arange(12) < 9))
    np.testing.assert_array_equal(filled[:, POSE.points], landmarks[:, POSE.points])
    never = np.zeros((4, 42, 3), np.float32)
    assert not fill_gaps(never, HAND_IDS, max_gap=3).any()


@settings(deadline=None, max_examples=10)
@given(st.floats(0.2, 5.0), st.floats(-3.0, 3.0), st.integers(0, 1000))
def test_shape_does_not_depend_on_place_size_and_attitude(size, angle, seed):
    landmarks = clip(2, seed)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    moved = (size * landmarks @ turn.T + [3.0, -1.0, 0.5]).astype(np.float32)
    a, b = (np.asarray(holistic6516(jnp.asarray(x), all_real(x), IDS)) for x in (landmarks, moved))
    np.testing.assert_allclose(a[..., block("shape")], b[..., block("shape")], atol=2e-3)


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_feature_sets_have_their_width_are_zero_where_nothing_is_and_look_nowhere_ahead(name):
    landmarks = clip(6)
    landmarks[0, 1, LEFT_HAND.points] = 0.0
    chosen = HolisticInput(features=name, ids=IDS)
    frames = jnp.array([[True] * 5 + [False]])
    values = np.asarray(chosen.vectors(jnp.asarray(landmarks), jnp.asarray(frames), jnp.asarray(frames)))
    assert values.shape == (1, 6, chosen.width) and np.isfinite(values).all() and not values[0, 5].any()
    later = landmarks.copy()
    later[:, 4:] += 1.0
    same = np.asarray(chosen.vectors(jnp.asarray(later), jnp.asarray(frames), jnp.asarray(frames)))
    np.testing.assert_array_equal(same[:, :4], values[:, :4])
    few = dataclasses.replace(chosen, ids=HAND_IDS)
    hands = np.asarray(few.vectors(jnp.asarray(landmarks[:, :, list(HAND_IDS)]), frames, frames))
    assert np.isfinite(hands).all() and hands.any()


def test_a_left_hand_alone_reads_as_the_mirrored_right_one():
    landmarks = clip(3)
    right_only, left_only = landmarks.copy(), landmarks.copy()
    right_only[:, :, LEFT_HAND.points] = 0.0
    left_only[:, :, RIGHT_HAND.points] = 0.0
    left_only[:, :, LEFT_HAND.points] = landmarks[:, :, RIGHT_HAND.points] * [-1, 1, 1]
    one = HolisticInput(features="one_hand", ids=IDS)
    a, b = (np.asarray(one.vectors(jnp.asarray(x), all_real(x), all_real(x))) for x in (right_only, left_only))
    np.testing.assert_allclose(a, b, atol=1e-5)


def batch_of(landmarks):
    masks = {name: all_real(landmarks) for name in ("frames_BT", "detected_BT", "speech_BT")}
    examples_B = np.ones(len(landmarks), bool)
    return FaceBatch(landmarks_BTVC=jnp.asarray(landmarks), target=None, examples_B=examples_B, **masks)


def test_variation_keeps_missing_parts_missing_bones_straight_and_nothing_at_zero():
    landmarks = clip(8)
    landmarks[:, :, LEFT_HAND.points] = 0.0
    batch, key = batch_of(landmarks), jax.random.key(0)
    same = augment(batch, SignAugment(), key, ids=IDS)
    np.testing.assert_array_equal(same.landmarks_BTVC, landmarks)
    strong = SignAugment(tilt=20.0, roll=20.0, stretch=0.2, bones=0.2, noise=0.01, warp=0.3, move=2.0, mask=0.3)
    varied = np.asarray(augment(batch, strong, key, ids=IDS).landmarks_BTVC)
    assert not varied[:, :, LEFT_HAND.points].any() and np.isfinite(varied).all()
    assert varied[:, :, RIGHT_HAND.points].all()
    longer = np.asarray(augment(batch, SignAugment(bones=0.3), key, ids=IDS).landmarks_BTVC, np.float64)
    for finger in FINGERS:
        at = RIGHT_HAND.start + np.array(finger[1:])
        before, after = (np.diff(x[0, :, at].astype(np.float64), axis=0) for x in (landmarks, longer))
        ratio = np.linalg.norm(after, axis=-1) / np.linalg.norm(before, axis=-1)
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
        assert abs(ratio[0, 0] - 1) > 1e-3


def test_axes_are_orthonormal_and_right_handed():
    landmarks = clip(3)
    for part in PARTS:
        axes = np.asarray(place(jnp.asarray(landmarks), all_real(landmarks), part, IDS).axes_BTCA, np.float64)
        np.testing.assert_allclose(
            np.einsum("btca,btcd->btad", axes, axes), np.tile(np.eye(3), (1, 3, 1, 1)), atol=1e-5
        )
        np.testing.assert_allclose(np.linalg.det(axes), 1.0, atol=1e-5)
