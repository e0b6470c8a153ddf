"""Augmentation moves landmarks, masks and speech together, by as much as it was asked to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.data.batches import FaceBatch
from jaxlip.errors import UserError
from jaxlip.face.augment import Augment, augment
from jaxlip.face.features import stored_ids
from jaxlip.face.mean_face import mean_face
from jaxlip.face.presets import mirror_ids

B, T = 4, 20
MASKS = ("frames_BT", "detected_BT", "speech_BT")
ALL = Augment(shift=0.1, scale=0.1, roll=5.0, noise=0.01, warp=0.3, move=2.0, mask=0.2, flip=0.5)


def faces(landmarks_BTVC, **masks) -> FaceBatch:
    batch, frames = landmarks_BTVC.shape[:2]
    real_BT = np.ones((batch, frames), bool)
    arrays = {name: jnp.asarray(masks.get(name, real_BT)) for name in MASKS}
    return FaceBatch(
        landmarks_BTVC=jnp.asarray(landmarks_BTVC, jnp.float32),
        **arrays,
        target=jnp.arange(batch),
        examples_B=jnp.ones(batch, bool),
    )


def talking(batch=B, preset="symmetric88") -> FaceBatch:
    """Faces that differ in every clip, frame and point; five frames in the middle are speech."""
    rng = np.random.default_rng(0)
    face_VC = mean_face()[list(stored_ids(preset))]
    speech_BT = np.zeros((batch, T), bool)
    speech_BT[:, 8:13] = True
    return faces(face_VC + rng.normal(0, 0.02, (batch, T, *face_VC.shape)), speech_BT=speech_BT)


def clock(batch=B, **masks) -> FaceBatch:
    """Every coordinate of a frame is its number, so that an output shows the time that it was taken from."""
    return faces(np.broadcast_to(np.arange(T)[None, :, None, None], (batch, T, 2, 3)), **masks)


@functools.partial(jax.jit, static_argnames=("config", "preset"))
def varied(batch: FaceBatch, config: Augment, seed=0, preset="symmetric88") -> FaceBatch:
    return augment(batch, config, jax.random.key(seed), ids=stored_ids(preset), preset=preset)


def assert_same(a: FaceBatch, b: FaceBatch, fields=None):
    for field in fields or [f.name for f in dataclasses.fields(FaceBatch)]:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


@pytest.mark.parametrize("preset", ["symmetric88", "anatomical88"])
def test_nothing_asked_for_changes_nothing(preset):
    batch = talking(preset=preset)
    assert_same(varied(batch, Augment(), preset=preset), batch)


def test_same_key_same_clips_and_other_key_other_clips():
    batch = talking()
    first, again, other = (varied(batch, ALL, seed) for seed in (3, 3, 4))
    assert_same(first, again)
    assert np.abs(np.asarray(first.landmarks_BTVC - other.landmarks_BTVC)).max() > 0.01


# In space


def distances(points_NC):
    return np.linalg.norm(points_NC[:, None] - points_NC[None], axis=-1)


def test_similarity_scales_all_distances_of_a_clip_alike():
    batch = talking()
    out = varied(batch, Augment(shift=0.3, scale=0.2, roll=20.0))
    assert_same(out, batch, MASKS)
    ratios = []
    for b in range(B):
        before, after = (
            distances(np.asarray(x.landmarks_BTVC[b, ::7], np.float64).reshape(-1, 3)) for x in (batch, out)
        )
        ratio = after[before > 0.05] / before[before > 0.05]
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)
        ratios.append(ratio.mean())
    assert np.ptp(ratios) > 0.02


def test_size_roll_and_shift_have_the_spread_that_was_asked_for():
    # Three points along the axes about the origin give the transform away: columns of the matrix, and the shift.
    points_VC = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    batch = faces(np.broadcast_to(points_VC, (4000, 1, 4, 3)))
    out = np.asarray(varied(batch, Augment(shift=0.2, scale=0.1, roll=6.0)).landmarks_BTVC, np.float64)[:, 0]
    axes_BAC = out[:, 1:] - out[:, :1]
    size_B = np.linalg.norm(axes_BAC[:, 0], axis=-1)
    angle_B = np.degrees(np.arctan2(axes_BAC[:, 0, 1], axes_BAC[:, 0, 0]))
    for values, spread in ((np.log(size_B), 0.1), (angle_B, 6.0), *((out[:, 0, c], 0.2) for c in range(3))):
        assert abs(values.std() / spread - 1) < 0.05 and abs(values.mean()) < 0.07 * spread
    np.testing.assert_allclose(axes_BAC[:, 2, 2], size_B, rtol=1e-5)
    assert np.abs(axes_BAC[:, :2, 2]).max() == 0
    # Independent draws: no two of them go together.
    assert np.abs(np.corrcoef([np.log(size_B), angle_B, *out[:, 0].T]) - np.eye(5)).max() < 0.06


def test_noise_has_its_spread_and_is_independent():
    batch = talking(batch=8)
    noise = np.asarray(varied(batch, Augment(noise=0.03)).landmarks_BTVC - batch.landmarks_BTVC, np.float64)
    assert abs(noise.std() - 0.03) < 0.0005 and abs(noise.mean()) < 0.0005
    for axis in range(4):
        pairs = np.moveaxis(noise, axis, 0)
        assert abs(np.corrcoef(pairs[:-1].ravel(), pairs[1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("preset", ["symmetric88", "lips40"])
def test_flip_mirrors_points_and_twice_is_the_identity(preset):
    batch = talking(preset=preset)
    once = varied(batch, Augment(flip=1.0), preset=preset)
    ids = stored_ids(preset)
    for v, id_ in enumerate(ids):
        partner = ids.index(mirror_ids()[id_])
        np.testing.assert_array_equal(once.landmarks_BTVC[:, :, v, 0], -batch.landmarks_BTVC[:, :, partner, 0])
        np.testing.assert_array_equal(once.landmarks_BTVC[:, :, v, 1:], batch.landmarks_BTVC[:, :, partner, 1:])
    assert_same(once, batch, MASKS)
    assert_same(varied(once, Augment(flip=1.0), seed=1, preset=preset), batch)


def test_flip_takes_whole_clips_as_often_as_it_was_asked_to():
    batch = talking(batch=400)
    once = np.asarray(varied(batch, Augment(flip=1.0)).landmarks_BTVC)
    some = np.asarray(varied(batch, Augment(flip=0.3)).landmarks_BTVC)
    flipped_B = (some == once).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(flipped_B, ~(some == np.asarray(batch.landmarks_BTVC)).all(axis=(1, 2, 3)))
    assert 0.22 < flipped_B.mean() < 0.38


def test_flip_is_refused_where_points_have_no_partner():
    with pytest.raises(UserError, match="preset anatomical88 cannot be flipped"):
        varied(talking(preset="anatomical88"), Augment(flip=0.5), preset="anatomical88")


# In time


def test_warp_is_monotone_and_no_faster_than_asked():
    time_BT = np.asarray(varied(clock(64), Augment(warp=0.4)).landmarks_BTVC, np.float64)[:, :, 0, 0]
    step_BT = np.diff(time_BT, axis=1)
    inside_BT = (time_BT[:, 1:] < T - 1) & (time_BT[:, :-1] > 0)
    assert (step_BT >= -1e-5).all()
    assert (step_BT[inside_BT] > 0.6 - 1e-4).all() and (step_BT[inside_BT] < 1.4 + 1e-4).all()
    assert step_BT[inside_BT].min() < 0.75 and step_BT[inside_BT].max() > 1.25
    np.testing.assert_allclose(time_BT[:, T // 2], T // 2, atol=1e-5)


def test_move_shifts_by_at_most_the_frames_asked_for():
    out = varied(clock(200), Augment(move=3.0))
    shift_B = np.asarray(out.landmarks_BTVC, np.float64)[:, T // 2, 0, 0] - T // 2
    assert np.abs(shift_B).max() <= 3 + 1e-5 and shift_B.min() < -2.5 and shift_B.max() > 2.5


@pytest.mark.parametrize("config", [Augment(warp=0.5), Augment(move=4.0), Augment(warp=0.5, move=4.0)])
def test_masks_move_with_the_landmarks(config):
    rng = np.random.default_rng(1)
    masks = {name: rng.random((32, T)) < 0.6 for name in ("detected_BT", "speech_BT")}
    out = varied(clock(32, **masks), config)
    time_BT = np.asarray(out.landmarks_BTVC, np.float64)[:, :, 0, 0]
    frames_BT = np.asarray(out.frames_BT)
    # A frame taken from outside the clip is not real; landmarks hold the end there.
    assert set(np.round(time_BT[~frames_BT], 3)) <= {0.0, T - 1.0} and frames_BT.sum() > 0.7 * frames_BT.size
    between_BT = frames_BT & (np.abs(time_BT % 1 - 0.5) > 1e-3)
    for name, mask_BT in masks.items():
        got_BT = np.asarray(getattr(out, name))
        source_BT = np.take_along_axis(mask_BT, np.round(time_BT).astype(int), axis=1)
        np.testing.assert_array_equal(got_BT[between_BT], source_BT[between_BT])
        assert not got_BT[~frames_BT].any()


def test_padding_does_not_leak_into_real_frames():
    time_T = np.arange(T)
    frames_BT = np.stack([time_T < T, time_T < 9, time_T >= 12, abs(time_T - 9.5) > 3])
    clean = clock(frames_BT=frames_BT)
    junk = jnp.where(jnp.asarray(frames_BT)[..., None, None], clean.landmarks_BTVC, 1e6)
    out = varied(dataclasses.replace(clean, landmarks_BTVC=junk), Augment(warp=0.4, move=2.0))
    real_BT = np.asarray(out.frames_BT)
    assert real_BT.any(axis=1).all() and not real_BT[1, 15:].any() and not real_BT[2, :6].any()
    assert np.asarray(out.landmarks_BTVC)[real_BT].max() <= T - 1 + 1e-3


def test_mask_freezes_one_run_of_at_most_its_part_of_the_clip():
    out = varied(clock(100), Augment(mask=0.5))
    time_BT = np.asarray(out.landmarks_BTVC)[:, :, 0, 0]
    assert_same(out, clock(100), MASKS)
    frozen_BT = np.abs(time_BT - np.arange(T)) > 1e-4
    counts_B = frozen_BT.sum(axis=1)
    assert counts_B.max() <= 0.5 * T and counts_B.max() >= 0.4 * T and counts_B.min() <= 1
    for time_T, frozen_T in zip(time_BT, frozen_BT, strict=True):
        where = np.flatnonzero(frozen_T)
        if len(where):
            assert np.ptp(where) == len(where) - 1
            np.testing.assert_allclose(time_T[where], where[0] - 1, atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"shift": -0.1}, {"roll": -1.0}, {"noise": -1.0}, {"warp": 1.0}, {"mask": -0.1}, {"flip": 1.5}]
)
def test_wrong_settings_name_the_field(wrong):
    (field,) = wrong
    with pytest.raises(ValueError, match=rf"Augment\.{field}="):
        Augment(**wrong)
