"""Gaps, rigid motion, aspect and smoothing against brute force and closed forms."""

import numpy as np
import pytest

from jaxlip.face.mean_face import mean_face
from jaxlip.face.normalize import (
    LEFT_EYE,
    RIGHT_EYE,
    interpolate_gaps,
    normalize_clip,
    normalize_frame,
    normalize_minmax,
    smooth,
)

T = 6
SEEN_T = np.ones(T, bool)


@pytest.fixture
def talking_TVC():
    """A face that moves a little in every point, in inter-ocular distances."""
    wobble = np.random.default_rng(0).normal(0, 0.01, (T, 478, 3))
    return mean_face().astype(np.float64) + wobble


def film(face_TVC, *, size=(640, 480), pixels=90.0, at=(300.0, 220.0), roll=0.0):
    """Image-normalised landmarks of a face at `at` (pixels, or [T, 2]), `pixels` wide between the eyes, rolled."""
    frames = len(face_TVC)
    angle_T, scale_T = np.broadcast_to(np.radians(roll), frames), np.broadcast_to(pixels, frames)
    x_TV, y_TV, z_TV = np.moveaxis(face_TVC, -1, 0)
    cos_T1, sin_T1 = np.cos(angle_T)[:, None], np.sin(angle_T)[:, None]
    turned_TVC = np.stack([cos_T1 * x_TV - sin_T1 * y_TV, sin_T1 * x_TV + cos_T1 * y_TV, z_TV], axis=-1)
    placed_TVC = turned_TVC * scale_T[:, None, None]
    placed_TVC[..., :2] += np.broadcast_to(np.asarray(at), (frames, 2))[:, None]
    return (placed_TVC / [size[0], size[1], size[0]]).astype(np.float32)


def eyes(points_TVC):
    return points_TVC[:, RIGHT_EYE].mean(axis=1), points_TVC[:, LEFT_EYE].mean(axis=1)


# Gaps


def filled_by_hand(values_TVC, seen_T):
    seen = [t for t in range(len(seen_T)) if seen_T[t]]
    out = np.zeros(values_TVC.shape)
    for t in range(len(seen_T)):
        before, after = [s for s in seen if s <= t], [s for s in seen if s >= t]
        if not before or not after:
            out[t] = values_TVC[after[0] if after else before[-1]]
        elif before[-1] == after[0]:
            out[t] = values_TVC[t]
        else:
            a, b = before[-1], after[0]
            out[t] = values_TVC[a] + (values_TVC[b] - values_TVC[a]) * (t - a) / (b - a)
    return out


@pytest.mark.parametrize("seed", range(8))
def test_gaps_are_filled_linearly(seed):
    rng = np.random.default_rng(seed)
    seen_T = rng.random(15) < 0.4
    seen_T[rng.integers(15)] = True
    values_TVC = rng.normal(size=(15, 4, 3)).astype(np.float32)
    want = filled_by_hand(values_TVC.astype(np.float64), seen_T)
    values_TVC[~seen_T] = np.nan
    got, used_T = interpolate_gaps(values_TVC, seen_T, max_gap=15)
    np.testing.assert_allclose(got, want, atol=1e-6)
    assert got.dtype == np.float32 and used_T.all()


def test_longer_gaps_are_filled_but_not_used():
    seen_T = np.array([1, 0, 0, 1, 0, 0, 0, 1, 0, 1], bool)
    values_TVC = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    got, used_T = interpolate_gaps(values_TVC, seen_T, max_gap=2)
    np.testing.assert_allclose(got, values_TVC, atol=1e-6)
    assert used_T.tolist() == [True, True, True, True, False, False, False, True, True, True]
    assert interpolate_gaps(values_TVC, seen_T, max_gap=0)[1].tolist() == seen_T.tolist()


def test_ends_hold_the_nearest_face_for_max_gap_frames():
    seen_T = np.array([0, 0, 0, 1, 1, 0, 0, 0, 0], bool)
    values_TVC = np.arange(9, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    got, used_T = interpolate_gaps(values_TVC, seen_T, max_gap=2)
    assert got[:, 0, 0].tolist() == [3, 3, 3, 3, 4, 4, 4, 4, 4]
    assert used_T.tolist() == [False, True, True, True, True, True, True, False, False]


def test_nan_in_a_detected_frame_counts_as_no_face():
    values_TVC = np.arange(3, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    values_TVC[1, 1, 2] = np.nan
    got, used_T = interpolate_gaps(values_TVC, np.ones(3, bool), max_gap=1)
    np.testing.assert_allclose(got[:, :, 0], [[0, 0], [1, 1], [2, 2]])
    assert np.isfinite(got).all() and used_T.all()
    assert interpolate_gaps(values_TVC, np.ones(3, bool), max_gap=0)[1].tolist() == [True, False, True]


def test_a_clip_without_a_face_is_an_error():
    with pytest.raises(ValueError, match="no frame has a face"):
        interpolate_gaps(np.full((3, 2, 3), np.nan, np.float32), np.ones(3, bool), max_gap=5)


# One similarity transform a clip


@pytest.mark.parametrize("change", [{"at": (150.0, 330.0)}, {"roll": 17.0}, {"pixels": 41.0}])
def test_clip_does_not_depend_on_where_the_face_is_in_the_image(talking_TVC, change):
    want = normalize_clip(film(talking_TVC), SEEN_T, (640, 480))
    got = normalize_clip(film(talking_TVC, **change), SEEN_T, (640, 480))
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_clip_restores_the_aspect_ratio(talking_TVC):
    want = normalize_clip(film(talking_TVC, roll=9.0), SEEN_T, (640, 480))
    square = film(talking_TVC, size=(480, 480), at=(240.0, 220.0), roll=9.0)
    np.testing.assert_allclose(normalize_clip(square, SEEN_T, (480, 480)), want, atol=2e-5)


def test_clip_gives_back_the_face_that_was_filmed(talking_TVC):
    still_TVC = np.repeat(mean_face()[None].astype(np.float64), T, axis=0)
    got = normalize_clip(film(still_TVC, roll=-12.0), SEEN_T, (640, 480))
    right_TC, left_TC = eyes(still_TVC)
    want = still_TVC[..., :2] - (right_TC + left_TC)[0, :2] / 2
    np.testing.assert_allclose(got[..., :2], want / np.linalg.norm((left_TC - right_TC)[0]), atol=2e-5)


def test_clip_has_level_eyes_one_apart_on_average(talking_TVC):
    roll_T, pixels_T = np.array([3.0, 5.0, -4.0, 10.0, 8.0, 2.0]), np.linspace(80, 95, T)
    got = normalize_clip(film(talking_TVC, roll=roll_T, pixels=pixels_T), SEEN_T, (640, 480))
    right_TC, left_TC = eyes(got.astype(np.float64))
    across_TC = left_TC - right_TC
    angle_T = np.arctan2(across_TC[:, 1], across_TC[:, 0])
    np.testing.assert_allclose(np.linalg.norm(across_TC, axis=1).mean(), 1, atol=1e-5)
    np.testing.assert_allclose(np.sin(angle_T).sum(), 0, atol=1e-5)
    np.testing.assert_allclose((right_TC + left_TC)[:, :2].mean(axis=0), 0, atol=1e-4)
    assert np.ptp(np.degrees(angle_T)) > 10


def test_clip_keeps_head_motion():
    still_TVC = np.repeat(mean_face()[None].astype(np.float64), T, axis=0)
    at_TX = np.array([300.0, 220.0]) + np.outer(np.arange(T), [4.0, -2.0])
    got = normalize_clip(film(still_TVC, at=at_TX, pixels=80.0), SEEN_T, (640, 480))
    distance = np.linalg.norm(np.subtract(*eyes(still_TVC))[0])
    step_TV = np.diff(got[..., :2], axis=0)
    np.testing.assert_allclose(step_TV, np.broadcast_to([0.05, -0.025], step_TV.shape) / distance, atol=1e-5)


def test_clip_is_measured_on_detected_frames_only(talking_TVC):
    filmed = film(talking_TVC)
    seen_T = np.array([1, 1, 0, 1, 1, 1], bool)
    junk = filmed.copy()
    junk[2] = 7.0
    want, got = normalize_clip(filmed, seen_T, (640, 480)), normalize_clip(junk, seen_T, (640, 480))
    np.testing.assert_array_equal(got[seen_T], want[seen_T])


# One a frame; min-max


def test_frame_removes_rigid_motion_of_every_frame():
    still_TVC = np.repeat(mean_face()[None].astype(np.float64), T, axis=0)
    moving = film(
        still_TVC,
        at=np.array([300.0, 220.0]) + np.random.default_rng(1).normal(0, 10, (T, 2)),
        roll=np.linspace(-15, 20, T),
        pixels=np.linspace(70, 110, T),
    )
    got = normalize_frame(moving, SEEN_T, (640, 480))
    np.testing.assert_allclose(got, np.broadcast_to(got[:1], got.shape), atol=2e-5)
    right_TC, left_TC = eyes(got)
    np.testing.assert_allclose(left_TC - right_TC, [[1, 0, 0]] * T, atol=2e-5)
    assert np.abs(normalize_clip(moving, SEEN_T, (640, 480))[0] - got[0]).max() > 0.1


def test_minmax_spans_the_unit_cube_in_every_frame(talking_TVC):
    got = normalize_minmax(film(talking_TVC, pixels=np.linspace(50, 90, T)), SEEN_T, (640, 480))
    np.testing.assert_allclose(got.min(axis=1), np.zeros((T, 3)), atol=1e-6)
    np.testing.assert_allclose(got.max(axis=1), np.ones((T, 3)), atol=1e-6)


# Smoothing


def impulse(frames=41, at=20):
    values_TVC = np.zeros((frames, 1, 1), np.float32)
    values_TVC[at] = 1
    return values_TVC


@pytest.mark.parametrize("zero_phase", [True, False])
def test_alpha_one_changes_nothing_and_a_constant_stays(zero_phase):
    values_TVC = np.random.default_rng(0).normal(size=(9, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(smooth(values_TVC, alpha=1.0, zero_phase=zero_phase), values_TVC)
    constant = np.full((9, 3, 3), 2.5, np.float32)
    np.testing.assert_allclose(smooth(constant, alpha=0.3, zero_phase=zero_phase), constant, rtol=1e-6)


def test_alpha_is_the_weight_of_the_new_frame():
    response_T = smooth(impulse(), alpha=0.7, zero_phase=False)[:, 0, 0]
    want_T = np.where(np.arange(41) < 20, 0, 0.7 * 0.3 ** np.maximum(np.arange(41) - 20, 0))
    np.testing.assert_allclose(response_T, want_T, atol=1e-6)


def test_zero_phase_is_symmetric_where_causal_smoothing_delays():
    both_T, causal_T = (smooth(impulse(), alpha=0.5, zero_phase=z)[:, 0, 0].astype(np.float64) for z in (True, False))
    np.testing.assert_allclose(both_T[10:31], both_T[10:31][::-1], atol=1e-6)
    time_T = np.arange(41)
    assert abs((both_T * time_T).sum() / both_T.sum() - 20) < 1e-3
    # A causal filter with weight a is late by (1 - a) / a frames.
    assert abs((causal_T * time_T).sum() / causal_T.sum() - 21) < 1e-3


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.01, float("nan")])
def test_alpha_outside_its_range_is_an_error(alpha):
    with pytest.raises(ValueError, match="weight of the new frame"):
        smooth(impulse(), alpha=alpha)
