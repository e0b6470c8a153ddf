"""Every slot against numbers worked out by hand, and alive on real and on made-up clips."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxlip.data.face import FaceData
from jaxlip.data.sources.visemes import Visemes
from jaxlip.data.words import load_words
from jaxlip.face.features import (
    AU_SLOTS,
    EXTENDED_FRAME_SLOTS,
    EXTENDED_NODE_SLOTS,
    FEATURE_SETS,
    FRAME_SLOTS,
    GEOMETRIC_SLOTS,
    NODE_SLOTS,
    FaceInput,
    Features,
    difference,
    extended56,
    fit_standardizer,
    frame_features,
    original31,
    spectrum,
    stored_ids,
)
from jaxlip.face.presets import preset_ids

IDS = stored_ids("lips40")
NODES = 40

# Points that are not named lie at the origin. Nose tip 1, chin 152; distances are whole tenths along one axis.
CLOSED = {
    1: (0.0, -0.6, -0.3),
    61: (-0.4, 0.1, 0.2),
    291: (0.4, 0.1, 0.2),
    78: (-0.3, 0.0, 0.0),
    308: (0.3, 0.0, 0.0),
    0: (0.05, -0.2, -0.1),
    13: (0.05, 0.0, -0.1),
    14: (0.05, 0.3, -0.1),
    17: (0.05, 0.5, -0.1),
    152: (0.05, 1.0, -0.1),
    82: (-0.1, 0.0, 0.0),
    87: (-0.1, 0.2, 0.0),
    312: (0.2, 0.0, 0.0),
    317: (0.2, 0.1, 0.0),
}
# Opened, narrower, pushed forward by 0.1, the upper lip 0.1 higher.
OPEN = CLOSED | {
    61: (-0.2, 0.1, 0.2),
    308: (0.4, 0.0, 0.0),
    0: (0.05, -0.3, -0.2),
    13: (0.05, 0.0, -0.2),
    14: (0.05, 0.4, -0.2),
    17: (0.05, 0.6, -0.2),
    152: (0.05, 1.0, -0.2),
}
JUNK = {id_: (9.0 + v, 7.0 - v, 5.0) for v, id_ in enumerate(CLOSED)}

FRAMES_1T = jnp.array([[True, True, False, True]])
SPEECH_1T = jnp.array([[False, True, False, False]])


def clip(*faces) -> jnp.ndarray:
    """[1, T, V, C] of faces given as id -> point."""
    landmarks = np.zeros((1, len(faces), len(IDS), 3), np.float32)
    for t, face in enumerate(faces):
        for id_, point in face.items():
            landmarks[0, t, IDS.index(id_)] = point
    return jnp.asarray(landmarks)


@pytest.fixture(scope="module")
def by_hand():
    """Slot -> values at the real frames of (closed, open, not real, closed)."""
    values_TD = np.asarray(frame_features(clip(CLOSED, OPEN, JUNK, CLOSED), FRAMES_1T, SPEECH_1T, IDS))[0]
    return {name: values_TD[:, slot] for slot, name in enumerate(FRAME_SLOTS)}


# The upper lip is 0.4 and 0.3 below the nose, 1.1 / 3 on average over the three real frames; the mouth is 0.8 and 0.6
# wide, 2.2 / 3 on average. The lips' centre is at y = 1.1 / 40 and 1.2 / 40. The inner polygon's area is half of
# (.2 x .3 - .05 x .1) + (.05 x .2 + .1 x .3) = .095 and of (.2 x .4 - .05 x .1) + (.05 x .2 + .1 x .4) = .125. The
# outer loop goes from the origin to each of 61, 291, 0, 17 and back.
BY_HAND = {
    "au10_upper_lip_raiser": (1.1 / 3 - 0.4, 1.1 / 3 - 0.3),
    "au12_corner_puller": (0.8 / (2.2 / 3) - 1, 0.6 / (2.2 / 3) - 1),
    "au15_corner_depressor": (0.1 - 0.0275, 0.1 - 0.03),
    "au17_chin_raiser": (0.7, 0.6),
    "au18_pucker": (0.3 / 0.8, 0.4 / 0.6),
    "au20_stretcher": (0.8 - 0.7, 0.6 - 0.9),
    "au23_tightener": (0.2, 0.4),
    "au25_lips_part": (0.3, 0.4),
    "au26_jaw_drop": (1.2, 1.3),
    "au27_mouth_stretch": (0.24, 0.24),
    "speech": (0.0, 1.0),
    "d_opening": (0.0, 0.1),
    "d_width": (0.0, -0.2),
    "d_jaw": (0.0, 0.1),
    "d_protrusion": (0.0, 0.1),
    "d_corner_height": (0.0, -0.0025),
    "d_inner_height": (0.0, (0.2 + 0.4 + 0.1) / 3 - 0.2),
    "d_area": (0.0, 0.015),
    "width": (0.8, 0.6),
    "height": (0.3, 0.4),
    "jaw": (1.2, 1.3),
    "aspect": (0.8 / 0.4, 0.6 / 0.5),
    "protrusion": (0.3, 0.4),
    "area": (0.0475, 0.0625),
    "inner_width": (0.6, 0.7),
    "symmetry": (0.05, 0.05 - 0.1),
    "inner_height": (0.2, (0.2 + 0.4 + 0.1) / 3),
    "perimeter": (
        2 * (0.21**0.5 + 0.21**0.5 + 0.0525**0.5 + 0.2625**0.5),
        2 * (0.09**0.5 + 0.21**0.5 + 0.1325**0.5 + 0.4025**0.5),
    ),
}


@pytest.mark.parametrize("slot", FRAME_SLOTS)
def test_slot_by_hand(by_hand, slot):
    # Points that coincide are 1e-6 apart (a gradient's floor), which the perimeter adds up.
    np.testing.assert_allclose(by_hand[slot][:2], BY_HAND[slot], atol=2e-5)


@pytest.mark.parametrize("slot", [name for name in FRAME_SLOTS if not name.startswith(("d_", "speech"))])
def test_junk_between_does_not_reach_a_later_frame(by_hand, slot):
    np.testing.assert_allclose(by_hand[slot][3], by_hand[slot][0], atol=1e-6)


@pytest.mark.parametrize("slot", [name for name in FRAME_SLOTS if name.startswith("d_")])
def test_motion_is_zero_at_the_start_and_beside_frames_that_are_not_real(by_hand, slot):
    assert by_hand[slot][[0, 2, 3]].tolist() == [0, 0, 0]
    assert by_hand[slot][1] != 0


def test_names_and_counts():
    assert (len(AU_SLOTS), len(GEOMETRIC_SLOTS), len(FRAME_SLOTS)) == (18, 10, 28)
    assert len({*NODE_SLOTS, *FRAME_SLOTS}) == 31
    assert (len(set(EXTENDED_NODE_SLOTS)), len(set(EXTENDED_FRAME_SLOTS))) == (12, 44)
    assert sum(name.startswith("au") for name in AU_SLOTS) == 10
    for name, compute, slots in (("original31", original31, 31), ("extended56", extended56, 56)):
        chosen = FEATURE_SETS[name]
        features = compute(clip(CLOSED, OPEN, JUNK, CLOSED), FRAMES_1T, SPEECH_1T, ids=IDS, nodes=NODES)
        assert features.node_BTVD.shape == (1, 4, NODES, len(chosen.node_slots))
        assert features.frame_BTD.shape == (1, 4, len(chosen.frame_slots))
        assert len(chosen.node_slots) + len(chosen.frame_slots) == slots


def test_stored_ids_are_the_nodes_and_then_what_features_need():
    assert IDS == (*preset_ids("lips40"), 1, 152)
    for preset in ("anatomical88", "symmetric88", "roi62"):
        assert stored_ids(preset) == preset_ids(preset)


def test_difference_of_any_rank():
    values = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 3, 2)).astype(np.float32))
    real_BT = np.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0]], bool)
    got = np.asarray(difference(values, jnp.asarray(real_BT)))
    for b in range(2):
        for t in range(6):
            both = t > 0 and real_BT[b, t] and real_BT[b, t - 1]
            want = values[b, t] - values[b, t - 1] if both else np.zeros((3, 2))
            np.testing.assert_array_equal(got[b, t], want)


def test_spectrum_against_a_windowed_sum():
    rng = np.random.default_rng(1)
    values_T, real_T = rng.normal(size=20), np.arange(20) < 16
    got = np.asarray(spectrum(jnp.asarray(values_T[None], jnp.float32), jnp.asarray(real_T[None])))[0]
    centred_T = np.where(real_T, values_T - values_T[:16].mean(), 0)
    for t in range(20):
        for column, cycles in enumerate((1, 2, 3, 4)):
            total = 0j
            for n in range(8):
                if 0 <= t - 4 + n < 20:
                    hann = np.sin(np.pi * (n + 0.5) / 8) ** 2
                    total += centred_T[t - 4 + n] * hann * np.exp(-2j * np.pi * cycles * n / 8)
            np.testing.assert_allclose(got[t, column], abs(total), atol=2e-4)


def test_spectrum_names_the_frequency_it_follows():
    time_T = np.arange(48) / 25
    hertz = EXTENDED_FRAME_SLOTS[28 : 28 + 4]
    assert hertz == ("opening_3.125Hz", "opening_6.25Hz", "opening_9.375Hz", "opening_12.5Hz")
    for column, rate in enumerate((3.125, 6.25, 9.375)):
        wave_1T = jnp.asarray(np.sin(2 * np.pi * rate * time_T + 0.3)[None], jnp.float32)
        middle_4 = np.asarray(spectrum(wave_1T, jnp.ones((1, 48), bool)))[0, 8:40].mean(axis=0)
        assert middle_4.argmax() == column


def test_extended_nodes_move_and_sit_relative_to_the_lips():
    landmarks = clip(CLOSED, OPEN, CLOSED, CLOSED)
    node_TVD = np.asarray(extended56(landmarks, jnp.ones((1, 4), bool), SPEECH_1T, ids=IDS, nodes=NODES).node_BTVD)[0]
    at = {name: slot for slot, name in enumerate(EXTENDED_NODE_SLOTS)}
    lip = IDS.index(14)
    np.testing.assert_allclose(node_TVD[:, lip, at["y"]], [0.3, 0.4, 0.3, 0.3], atol=1e-6)
    np.testing.assert_allclose(node_TVD[:, lip, at["velocity_y"]], [0, 0.1, -0.1, 0], atol=1e-6)
    np.testing.assert_allclose(node_TVD[:, lip, at["acceleration_y"]], [0, 0.1, -0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(node_TVD[:2, lip, at["lip_y"]], [0.3 - 0.0275, 0.4 - 0.03], atol=1e-6)


@pytest.mark.parametrize("compute", [original31, extended56])
def test_only_positions_feel_a_translation(compute):
    landmarks = clip(CLOSED, OPEN, OPEN, CLOSED)
    frames_1T = jnp.ones((1, 4), bool)
    shift = np.array([0.3, -0.2, 0.5], np.float32)
    here = compute(landmarks, frames_1T, SPEECH_1T, ids=IDS, nodes=NODES)
    there = compute(landmarks + shift[None, None, None], frames_1T, SPEECH_1T, ids=IDS, nodes=NODES)
    np.testing.assert_allclose(there.frame_BTD, here.frame_BTD, atol=2e-5)
    np.testing.assert_allclose(
        there.node_BTVD[..., :3] - here.node_BTVD[..., :3],
        np.broadcast_to(shift, here.node_BTVD[..., :3].shape),
        atol=1e-6,
    )
    np.testing.assert_allclose(there.node_BTVD[..., 3:], here.node_BTVD[..., 3:], atol=1e-6)


def test_dense_repeats_the_frame_part_at_every_node():
    rng = np.random.default_rng(2)
    node, frame = rng.normal(size=(2, 3, 5, 3)), rng.normal(size=(2, 3, 4))
    dense = np.asarray(Features(jnp.asarray(node), jnp.asarray(frame)).dense())
    assert dense.shape == (2, 3, 5, 7)
    for v in range(5):
        np.testing.assert_allclose(dense[:, :, v], np.concatenate([node[:, :, v], frame], axis=-1), rtol=1e-6)


# Standardisation


@pytest.fixture
def fitted():
    rng = np.random.default_rng(3)
    node = rng.normal([5.0, -2.0, 100.0], [1.0, 0.01, 30.0], (2, 9, 7, 3)).astype(np.float32)
    frame = rng.normal([-3.0, 4.0], [2.0, 0.1], (2, 9, 2)).astype(np.float32)
    frame[..., 1] = 4.0
    real_BT = np.arange(9) < np.array([[9], [5]])
    node[~real_BT], frame[~real_BT] = 1e4, -1e4
    features = Features(jnp.asarray(node), jnp.asarray(frame))
    return features, real_BT, *fit_standardizer(features, real_BT, (("x", "y", "z"), ("moves", "sleeps")))


def test_standardized_slots_have_mean_zero_and_variance_one(fitted):
    features, real_BT, standardizer, _ = fitted
    out = standardizer(features, jnp.asarray(real_BT))
    node_XD = np.asarray(out.node_BTVD, np.float64)[real_BT].reshape(-1, 3)
    frame_XD = np.asarray(out.frame_BTD, np.float64)[real_BT]
    np.testing.assert_allclose(node_XD.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(node_XD.std(axis=0), 1, atol=1e-4)
    np.testing.assert_allclose(frame_XD.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(frame_XD.std(axis=0), [1, 0], atol=1e-5)


def test_frames_that_are_not_real_become_zero(fitted):
    features, real_BT, standardizer, _ = fitted
    out = standardizer(features, jnp.asarray(real_BT))
    assert not np.asarray(out.node_BTVD)[~real_BT].any() and not np.asarray(out.frame_BTD)[~real_BT].any()


def test_dead_slots_are_named_and_keep_their_scale(fitted):
    _, _, standardizer, dead = fitted
    assert dead == ["sleeps"] and standardizer.frame_std[1] == 1.0


def test_face_input_computes_and_standardises():
    landmarks = clip(CLOSED, OPEN, OPEN, CLOSED)
    frames_1T = jnp.ones((1, 4), bool)
    raw = extended56(landmarks, frames_1T, SPEECH_1T, ids=IDS, nodes=NODES)
    standardizer, _ = fit_standardizer(raw, np.ones((1, 4), bool), (EXTENDED_NODE_SLOTS, EXTENDED_FRAME_SLOTS))
    face_input = FaceInput(features="extended56", ids=IDS, nodes=NODES, standardizer=standardizer)
    assert face_input.sizes == (12, 44)
    got, want = face_input(landmarks, frames_1T, SPEECH_1T), standardizer(raw, frames_1T)
    np.testing.assert_allclose(got.node_BTVD, want.node_BTVD, atol=1e-5)
    np.testing.assert_allclose(got.frame_BTD, want.frame_BTD, atol=1e-5)


@pytest.mark.parametrize("told", (True, False))
def test_the_mask_channel_can_be_left_out(told):
    data = FaceData(preset="lips40", mask_channel=told, visemes=Visemes(train=40, val=20, test=20))
    corpus = load_words(data)
    (batch,), face_input = corpus.splits["train"].buckets, corpus.spec.input
    landmarks, frames, speech = (jnp.asarray(a) for a in (batch.landmarks_BTVC, batch.frames_BT, batch.speech_BT))
    said, all_said = (face_input(landmarks, frames, marks) for marks in (speech, frames))
    assert bool((said.frame_BTD == all_said.frame_BTD).all()) is not told
    np.testing.assert_array_equal(said.node_BTVD, all_said.node_BTVD)


# Every slot is alive


def spread_of_slots(data: FaceData) -> dict[str, float]:
    """Standard deviation of each slot over the real frames of the training split."""
    corpus = load_words(data)
    assert not any("never vary" in note for note in corpus.notes)
    face_input, (batch,) = corpus.spec.input, corpus.splits["train"].buckets
    chosen = FEATURE_SETS[data.features]
    arrays = (jnp.asarray(a) for a in (batch.landmarks_BTVC, batch.frames_BT, batch.speech_BT))
    features = chosen.compute(*arrays, ids=face_input.ids, nodes=face_input.nodes)
    node_XD = np.asarray(features.node_BTVD, np.float64)[batch.frames_BT].reshape(-1, len(chosen.node_slots))
    frame_XD = np.asarray(features.frame_BTD, np.float64)[batch.frames_BT]
    stds = [*node_XD.std(axis=0), *frame_XD.std(axis=0)]
    return dict(zip(chosen.node_slots + chosen.frame_slots, stds, strict=True))


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_slot_varies_on_made_up_clips(features):
    data = FaceData(features=features, preset="lips40", visemes=Visemes(train=40, val=20, test=20))
    spread = spread_of_slots(data)
    assert len(spread) == {"original31": 31, "extended56": 56}[features]
    assert {name for name, std in spread.items() if std < 1e-4} == set()


@pytest.mark.parametrize("features", FEATURE_SETS)
def test_every_slot_varies_on_real_clips(grid_root, features):
    spread = spread_of_slots(FaceData(source="grid", root=str(grid_root), features=features, preset="lips40"))
    assert {name for name, std in spread.items() if std < 1e-4} == set()
