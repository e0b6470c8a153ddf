"""The parametric mouth and the corpus that is made from it."""

import collections
import dataclasses

import numpy as np
import pytest

from jaxlip.data.sources import visemes as corpus
from jaxlip.data.sources.visemes import Visemes
from jaxlip.face import visemes
from jaxlip.face.mean_face import mean_face
from jaxlip.face.normalize import LEFT_EYE, NOSE_BRIDGE, RIGHT_EYE, interpolate_gaps, normalize_clip
from jaxlip.face.presets import LIPS_INNER, LIPS_OUTER, mirror_ids

SMALL = Visemes(train=12, val=5, test=7, dropped=0.1)


def posed(name: str) -> np.ndarray:
    """The mean face [V, C] holding one viseme."""
    target_P = visemes.TARGETS_SP[visemes.NAMES.index(name)]
    return mean_face() + visemes.move(target_P[None])[0]


def test_lexicon_is_distinct_and_spelled_in_known_visemes():
    assert len(visemes.LEXICON) >= 100
    assert len(set(visemes.LEXICON.values())) == len(visemes.LEXICON)
    assert {name for spelling in visemes.LEXICON.values() for name in spelling} <= set(visemes.NAMES)
    assert {len(spelling) for spelling in visemes.LEXICON.values()} <= set(range(2, 10))


def test_many_words_differ_in_order_only():
    bags = collections.Counter(tuple(sorted(visemes.LEXICON[word])) for word in corpus.vocabulary(Visemes()))
    assert sum(count for count in bags.values() if count > 1) >= 50


def test_movement_is_symmetric_and_leaves_the_upper_face():
    move_PVC = visemes.movement_PVC()
    still = [*RIGHT_EYE, *LEFT_EYE, *NOSE_BRIDGE, 1, 4, 2, 10, 468, 473]
    assert not move_PVC[:, still].any()
    np.testing.assert_allclose(move_PVC[:, list(mirror_ids())] * [-1, 1, 1], move_PVC, atol=1e-6)
    assert all(np.abs(move_PVC[p]).max() > 0.04 for p in range(len(visemes.PARAMETERS)))


def test_visemes_look_like_what_they_are_named_for():
    faces = {name: posed(name) for name in visemes.NAMES}
    gap = {name: face[14, 1] - face[13, 1] for name, face in faces.items()}
    width = {name: face[291, 0] - face[61, 0] for name, face in faces.items()}
    assert min(gap, key=gap.get) == "P" and max(gap, key=gap.get) == "A"
    assert min(width, key=width.get) == "U" and max(width, key=width.get) == "I"
    assert faces["U"][0, 2] < faces["neutral"][0, 2] < 0
    assert faces["F"][14, 2] > faces["neutral"][14, 2]


@pytest.mark.parametrize("name", visemes.NAMES)
def test_lips_never_cross(name):
    face_VC = posed(name)
    for above, below in ((13, 14), (82, 87), (81, 178), (80, 88), (191, 95)):
        assert face_VC[above, 1] < face_VC[below, 1]


def test_blend_is_a_weighted_mean_that_reaches_a_lone_target():
    targets_SP = np.eye(3)
    centre_S, frames_S = np.array([2.0, 5.0, 30.0]), np.full(3, 3.0)
    weight_TP = visemes.blend(
        targets_SP, np.array([1.0, 2.0, 1.0]), centre_S, frames_S, np.array([2.0, 5.0, 30.0, 1e5])
    )
    np.testing.assert_allclose(weight_TP.sum(axis=1), 1)
    np.testing.assert_allclose(weight_TP[0, 1] / weight_TP[0, 0], 2 * np.exp(-visemes.DECAY * 2), rtol=1e-6)
    np.testing.assert_allclose(weight_TP[2], [0, 0, 1], atol=1e-6)


def read(config):
    for ref in corpus.find(config):
        yield corpus.load(config, ref)


def test_same_seed_same_clips_and_other_seed_other_clips():
    first, second = list(read(SMALL)), list(read(SMALL))
    other = next(read(dataclasses.replace(SMALL, seed=1)))
    for a, b in zip(first, second, strict=True):
        assert (a.name, a.split, a.words) == (b.name, b.split, b.words)
        np.testing.assert_array_equal(a.landmarks, b.landmarks)
    assert (
        other.landmarks.shape != first[0].landmarks.shape or np.nanmax(np.abs(other.landmarks - first[0].landmarks)) > 0
    )


def test_a_clip_does_not_depend_on_how_many_others_there_are():
    alone = list(read(dataclasses.replace(SMALL, train=3, val=0, test=2)))
    among = {clip.name: clip for clip in read(SMALL)}
    for clip in alone:
        assert clip.words == among[clip.name].words
        np.testing.assert_array_equal(clip.landmarks, among[clip.name].landmarks)


def test_raw_landmarks_keep_the_contract():
    clips = list(read(SMALL))
    assert not all(clip.detected.all() for clip in clips)
    assert len({clip.name for clip in clips}) == len(clips)
    for clip in clips:
        frames = len(clip.landmarks)
        assert 29 <= frames <= 45 and clip.fps == 25 and clip.landmarks.shape == (frames, 478, 3)
        assert clip.landmarks.dtype == np.float32 and clip.detected.dtype == bool and clip.detected.any()
        assert np.isfinite(clip.landmarks[clip.detected]).all()
        assert np.isnan(clip.landmarks[~clip.detected]).all()
        seen_TVC = clip.landmarks[clip.detected]
        assert 0 < seen_TVC[..., :2].min() and seen_TVC[..., :2].max() < 1


def test_one_word_near_the_middle():
    for clip in read(SMALL):
        (word,) = clip.words
        assert 0 < word.start and word.end < len(clip.landmarks)
        assert 6 - 1e-6 <= word.end - word.start <= 16 + 1e-6
        assert abs((word.start + word.end - len(clip.landmarks)) / 2) < 10


def test_counts_speakers_and_balance():
    config = Visemes(words=10, train=53, val=14, test=22)
    clips = list(read(config))
    speakers = {split: {c.name.split("/")[0] for c in clips if c.split == split} for split in ("train", "val", "test")}
    assert collections.Counter(clip.split for clip in clips) == {"train": 53, "val": 14, "test": 22}
    assert sum(len(names) for names in speakers.values()) == len(set.union(*speakers.values()))
    said = collections.Counter(clip.words[0].text for clip in clips if clip.split == "train")
    assert set(said) == set(corpus.vocabulary(config)) and set(said.values()) == {5, 6}


def test_sentences_hold_their_words_in_order():
    clips = list(read(Visemes(words=20, train=6, val=0, test=0, sentence=4)))
    for clip in clips:
        times = [time for word in clip.words for time in (word.start, word.end)]
        assert len(clip.words) == 4 and times == sorted(times)
        assert 0 < times[0] and times[-1] < len(clip.landmarks)
    assert any(b.start > a.end for clip in clips for a, b in zip(clip.words, clip.words[1:], strict=False))


def test_noise_and_losses_can_be_turned_off():
    for clip in read(Visemes(train=4, val=0, test=0, noise=0.0, dropped=0.0)):
        assert clip.detected.all()
        # Without jitter the eyes move as smoothly as the head.
        eye_TC = clip.landmarks[:, 33]
        assert np.abs(np.diff(eye_TC, n=2, axis=0)).max() < 2e-3


@pytest.mark.parametrize(
    "wrong",
    [{"words": 1}, {"words": 10**6}, {"train": -1}, {"noise": -0.1}, {"dropped": 0.9}, {"sentence": 0}, {"seed": -1}],
)
def test_wrong_settings_name_the_field(wrong):
    (field,) = wrong
    with pytest.raises(ValueError, match=rf"Visemes\.{field}="):
        Visemes(**wrong)


def lip_course(clip, points: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Lips about their own centre over the word's span: mean over frames [V * C], and at `points` times [T, V * C]."""
    filled_TVC, _ = interpolate_gaps(clip.landmarks, clip.detected, max_gap=10)
    lips_TVC = normalize_clip(filled_TVC, clip.detected, clip.size)[:, LIPS_OUTER + LIPS_INNER]
    lips_TD = (lips_TVC - lips_TVC.mean(axis=1, keepdims=True)).reshape(len(lips_TVC), -1)
    word = clip.words[0]
    frame_T = np.linspace(word.start, word.end, points) - 0.5
    before_T = np.clip(frame_T.astype(int), 0, len(lips_TD) - 2)
    part_T = (frame_T - before_T)[:, None]
    course_TD = lips_TD[before_T] * (1 - part_T) + lips_TD[before_T + 1] * part_T
    return lips_TD[int(word.start) : int(np.ceil(word.end))].mean(axis=0), course_TD


def nearest_centroid(train_ND, label_N, test_ND, truth_N) -> float:
    centroid_KD = np.stack([train_ND[label_N == k].mean(axis=0) for k in range(label_N.max() + 1)])
    distance_NK = (centroid_KD**2).sum(axis=1) - 2 * test_ND @ centroid_KD.T
    return float((distance_NK.argmin(axis=1) == truth_N).mean())


def test_motion_tells_words_apart_that_shape_does_not():
    """100 words, 600 clips to learn from, 300 of other speakers. Measured: shape .090, course .613 (chance .01)."""
    config = Visemes(train=600, val=0, test=300)
    words = corpus.vocabulary(config)
    rows = [(clip.split, words.index(clip.words[0].text), *lip_course(clip)) for clip in read(config)]
    split_N = np.array([row[0] for row in rows])
    label_N, shape_ND = np.array([row[1] for row in rows]), np.stack([row[2] for row in rows])
    course_ND = np.stack([row[3].ravel() for row in rows])
    train_N, test_N = split_N == "train", split_N == "test"
    static, course = (
        nearest_centroid(x_ND[train_N], label_N[train_N], x_ND[test_N], label_N[test_N])
        for x_ND in (shape_ND, course_ND)
    )
    assert 0.05 <= static <= 0.2
    assert course >= max(0.5, 3 * static)
